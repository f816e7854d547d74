"""What a sink is: record batches in, files out, committed all or nothing.

A task writes into staging files beside the destination; the driver commits. See `sinks/commit.py`, and
`sinks/object_commit.py` for destinations that are URLs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import pyarrow as pa

__all__ = ["SUFFIXES", "Committed", "IfExists", "Sink", "SinkSpec", "StagedFile"]

IfExists = Literal["error", "replace", "append"]

#: Suffixes by which a path names one file of a format; the first is that of part files.
SUFFIXES: dict[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".ipc", ".feather"),
    "csv": (".csv", ".tsv"),
    "ndjson": (".ndjson", ".jsonl"),
    "npy": (".npy",),
}


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """Where results go, as plain data; made by `sinks.sink_spec`, which checks it.

    Attributes:
        path: Destination, a local path or a URL: a folder of part files, or one file where `path` ends like a
            file of `format` (`out.csv`, `out.parquet`; the plan then gathers into one task).
        format: parquet, arrow, csv, ndjson, npy.
        partition_by: Hive partitioning: `path/k=v/part-00000.parquet`.
        options: Of the format: compression, row_group_rows, delimiter, ...
    """

    path: str
    format: str
    partition_by: tuple[str, ...] = ()
    if_exists: IfExists = "error"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        """True for a folder of part files, False for one file; by name only, so all workers agree."""
        return bool(self.partition_by) or not self.path.lower().endswith(SUFFIXES[self.format])


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file that a task wrote to staging. `path` is relative to the destination when committed.

    For a destination that is one file, `path` is that file's name. `staged` is a local path, or the name of an
    object relative to the destination.
    """

    staged: str
    path: str
    rows: int
    nbytes: int


class Sink(Protocol):
    """Writes one task's rows into staging files. Made by `sinks.open_sink(spec)`."""

    def write(
        self,
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema,
        *,
        run: str,
        stage: int,
        number: int,
        attempt: int,
        part: tuple[int, ...] = (),
    ) -> tuple[StagedFile, ...]:
        """Write and fsync staging files of one attempt of one task.

        `stage`, `number`, `part` are those of the task's id; by name, files are in order of task.

        Raises:
            SinkError: No space, no permission, a type that the format can't hold.
        """
        ...


@dataclass(frozen=True, slots=True)
class Committed:
    """What a run added: number of files, rows, bytes."""

    path: str
    files: int
    rows: int
    nbytes: int

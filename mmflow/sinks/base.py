"""Contract of a sink: record batches in, files out, committed all or nothing.

A task writes into staging files beside the destination; the driver commits (`sinks/commit/local.py` for local paths,
`sinks/commit/object_commit.py` for URLs).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import field
from typing import Any, Literal, Protocol

import pyarrow as pa

from mmflow.lazy.dataclasses import dataclass

__all__ = [
    "SUFFIXES",
    "CommitResult",
    "IfExists",
    "Sink",
    "SinkAttempt",
    "SinkSpec",
    "SortedColumn",
    "StagedFile",
]

IfExists = Literal["error", "replace", "append", "replace-partitions"]

#: Suffixes by which a path names one file of a format; the first is that of part files.
SUFFIXES: dict[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".ipc", ".feather"),
    "csv": (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst"),
    "ndjson": (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz", ".ndjson.zst", ".jsonl.zst"),
    "npy": (".npy",),
}


@dataclass(frozen=True, slots=True)
class SortedColumn:
    """Column that the rows of each file are sorted by, after those before it."""

    name: str
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """Destination and format of results, as plain data; made by `sinks.sink_spec`, which checks it.

    Attributes:
        path: Destination, a local path or a URL: a folder of part files, or one file where `path` ends like a
            file of `format` (`out.csv`, `out.parquet`; the plan then gathers into one task).
        format: parquet, arrow, csv, ndjson, npy.
        partition_by: Hive partitioning: `path/k=v/part-00000.parquet`.
        options: Options of the format: compression, row_group_rows, delimiter, ...
        max_rows_per_file, approximate_bytes_per_file: Where a task begins another file; None: nowhere.
        sorted_by: Order of the rows of each file, which the planner knows; empty: none.
        storage: Options of the file system of a URL (`remote.options.storage_text`).
        table: Kind of the table that the files belong to, whose log the commit writes: "delta"; empty: none.
    """

    path: str
    format: str
    partition_by: tuple[str, ...] = ()
    if_exists: IfExists = "error"
    options: dict[str, Any] = field(default_factory=dict)
    max_rows_per_file: int | None = None
    approximate_bytes_per_file: int | None = None
    sorted_by: tuple[SortedColumn, ...] = ()
    storage: str = ""
    table: Literal["", "delta"] = ""

    @property
    def is_folder(self) -> bool:
        """True for a folder of part files, False for one file; decided by name only, so all workers agree."""
        return bool(self.partition_by or self.table) or not self.path.lower().endswith(SUFFIXES[self.format])

    @property
    def keeps_files(self) -> bool:
        """True if files of the destination stay, or some of them. Those of a table stay for its older versions."""
        return bool(self.table) or self.if_exists in ("append", "replace-partitions")

    def replaced_folders(self, files: Iterable[StagedFile]) -> frozenset[str]:
        """Return the folders of the destination whose old files go, where others stay: those that have new ones."""
        if self.if_exists != "replace-partitions":
            return frozenset()
        return frozenset(posixpath.dirname(f.path) for f in files)


@dataclass(frozen=True, slots=True)
class StagedFile:
    """One file that a task wrote to staging. `path` is relative to the destination after the commit.

    For a destination that is one file, `path` is that file's name. `staged` is a local path, or the name of an
    object relative to the destination.
    """

    staged: str
    path: str
    rows: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class SinkAttempt:
    """Attempt of a task to write: `stage`, `number` and `part` are those of the task's id."""

    run: str
    stage: int
    number: int
    attempt: int
    part: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Name that no other attempt of the run has."""
        task = ".".join(map(str, (self.number, *self.part)))
        return f"s{self.stage}-t{task}-a{self.attempt}"


class Sink(Protocol):
    """Writer of one task's rows into staging files; made by `sinks.open_sink(spec)`."""

    def write(
        self, batches: Iterable[pa.RecordBatch], schema: pa.Schema, attempt: SinkAttempt
    ) -> tuple[StagedFile, ...]:
        """Write and fsync staging files of one attempt of one task.

        By name, files are in order of task.

        Raises:
            SinkError: No space, no permission, a type that the format can't hold.
        """
        ...


@dataclass(frozen=True, slots=True)
class CommitResult:
    """Number of files, rows and bytes that a run added to its destination."""

    path: str
    files: int
    rows: int
    nbytes: int

"""The shards of a task as one stream of batches, with their reports.

A file's identity is checked when it is opened and again after its shard was read, so that rows of a
file that changed in between are never used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmflow.exec.compact import cast_batch
from mmflow.exec.context import WorkerContext
from mmflow.exec.hashing import hash_columns, mixed
from mmflow.exec.stage import ScanInput
from mmflow.exec.task import ShardTask
from mmflow.formats import PLACE, VIRTUAL_COLUMNS, ScanReport, ScanRequest
from mmflow.remote.opening import open_file

__all__ = ["ShardStream", "place_of"]


class ShardStream:
    """Batches of all shards of a task, in order; `reports` fill up as shards end.

    `cached`: bytes of what was read that were in the page cache before.
    `fetched`: bytes of remote files that came over the network for them.
    `rest`: it was asked to hand in, and stopped before the record that begins here; None: it read all.
    """

    def __init__(self, scan: ScanInput, shards: ShardTask, context: WorkerContext) -> None:
        self._scan = scan
        self._shards = shards
        self._context = context
        types = VIRTUAL_COLUMNS | {PLACE: pa.int64()} | {f.name: f.type for f in scan.source.schema}
        self._schema = pa.schema([(c, types[c]) for c in scan.columns])
        self._placed = PLACE in scan.columns and PLACE not in scan.source.schema.names
        self.reports: list[ScanReport] = []
        self.reasons: list[str] = []
        self.rows = 0
        self.cached = 0
        self.fetched = 0
        self.rest: int | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        hive, columns, prune = self._scan.source.hive, self._scan.columns, self._scan.prune
        if hive is not None:
            prune = tuple(c for c in prune if c.column not in hive.names)
        request = ScanRequest(columns=self._asked(), prune=prune)
        request = replace(request, window_bytes=self._window_bytes(request.window_bytes))
        for number, shard in enumerate(self._shards.shards):
            entry = self._shards.files[shard.file]
            wanted = replace(
                request, start=self._shards.starts[number], lines_before=self._shards.lines_before[number]
            )
            reach = replace(self._context.reach, storage=entry.storage)
            with open_file(entry.path, io=self._context.io, expected=entry.identity, reach=reach) as file:
                if file.decision.reason not in self.reasons:
                    self.reasons.append(file.decision.reason)
                resident = file.resident(shard.begin, shard.end)
                scan = self._scan.source.format.scan(file, shard, wanted)
                others = tuple(c for c in columns if c != PLACE) if self._placed else columns
                add = None if hive is None else hive.added(entry.path, others)
                for batch in scan:
                    self._context.check()
                    self.rows += batch.num_rows
                    made = batch if add is None else add(batch)
                    if self._placed:
                        made = self._with_places(made, batch, entry.path, scan.report.row)
                    yield cast_batch(made, self._schema)
                    report = scan.report
                    if self._context.handing_in() and report.error is None and report.next < shard.end:
                        self.rest = report.next
                        break
                file.check_unchanged()
                self.fetched += file.fetched
            self.reports.append(scan.report)
            self.cached += _share(resident, shard.end - shard.begin, scan.report.bytes_read)
            if scan.report.error is not None:
                return

    def _asked(self) -> tuple[str, ...]:
        """Columns that the format is asked for."""
        source, columns = self._scan.source, self._scan.columns
        if self._placed:
            columns = tuple(c for c in columns if c != PLACE)
            if source.format.record_oriented and "_offset" not in columns:
                columns = (*columns, "_offset")
        return columns if source.hive is None else source.hive.inside(columns)

    def _with_places(
        self, batch: pa.RecordBatch, read: pa.RecordBatch, path: str, first: int
    ) -> pa.RecordBatch:
        """The wanted columns with `PLACE`; without offsets, rows of `read` are numbered from `first`."""
        if self._scan.source.format.record_oriented:
            numbers = read.column("_offset")
        else:
            numbers = pa.array(np.arange(first, first + read.num_rows))
        places = pa.array(place_of(path, numbers))
        arrays = [places if c == PLACE else batch.column(c) for c in self._scan.columns]
        return pa.RecordBatch.from_arrays(arrays, names=list(self._scan.columns))

    def _window_bytes(self, most: int) -> int:
        """Pages read by pread are anonymous memory: a quarter of the task's share at most."""
        return max(1 << 20, min(most, self._context.memory // 4))


def _share(resident: int, length: int, read: int) -> int:
    """Return how many of the bytes that were read were resident, where all of a shard are alike.

    Not all of a shard is read where it ends at a limit or a bad record, or has other columns.
    """
    return min(read, resident * read // max(1, length))


def place_of(path: str, numbers: pa.Array) -> npt.NDArray[np.int64]:
    """Return `PLACE` of rows of a file, by their offsets or other numbers that are theirs alone. Shape (rows,)."""
    names = pa.array([os.fsencode(path)], pa.binary())
    # As the hash of both columns, without hashing the path for each row.
    state = np.repeat(hash_columns([names]), len(numbers))
    return mixed(state, numbers).view(np.int64)

"""The shards of a task as one stream of batches, with their reports.

A file's identity is checked when it is opened and again after its shard was read, so that rows of a
file that changed in between are never used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from mmflow.exec.compact import cast_batch
from mmflow.exec.context import WorkerContext
from mmflow.exec.stage import ScanInput
from mmflow.exec.task import ShardTask
from mmflow.formats import VIRTUAL_COLUMNS, ScanReport, ScanRequest
from mmflow.remote.opening import open_file

__all__ = ["ShardStream"]


class ShardStream:
    """Batches of all shards of a task, in order; `reports` fill up as shards end.

    `cached`: bytes of them that were in the page cache before they were read.
    `fetched`: bytes of remote files that came over the network for them.
    `rest`: it was asked to hand in, and stopped before the record that begins here; None: it read all.
    """

    def __init__(self, scan: ScanInput, shards: ShardTask, context: WorkerContext) -> None:
        self._scan = scan
        self._shards = shards
        self._context = context
        types = {f.name: f.type for f in scan.source.schema}
        self._schema = pa.schema([(c, types.get(c, VIRTUAL_COLUMNS.get(c))) for c in scan.columns])
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
        request = ScanRequest(columns=columns if hive is None else hive.inside(columns), prune=prune)
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
                self.cached += file.resident(shard.begin, shard.end)
                scan = self._scan.source.format.scan(file, shard, wanted)
                add = None if hive is None else hive.added(entry.path, columns)
                for batch in scan:
                    self._context.check()
                    self.rows += batch.num_rows
                    yield cast_batch(batch if add is None else add(batch), self._schema)
                    report = scan.report
                    if self._context.handing_in() and report.error is None and report.next < shard.end:
                        self.rest = report.next
                        break
                file.check_unchanged()
                self.fetched += file.fetched
            self.reports.append(scan.report)
            if scan.report.error is not None:
                return

    def _window_bytes(self, most: int) -> int:
        """Pages read by pread are anonymous memory: a quarter of the task's share at most."""
        return max(1 << 20, min(most, self._context.memory // 4))

"""What a run adds up: counts for progress and reports, and the bad records that were set aside.

Invariant: only outputs that were released are counted, so nothing of a wrong guess or a lost attempt is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mmflow.engines.progress import Progress, StageProgress
from mmflow.engines.scans import Checked
from mmflow.engines.stages import StageRun
from mmflow.errors import plain_text
from mmflow.exec.task import BlockRef, Done, TaskId
from mmflow.shards import FileEntry

__all__ = ["Quarantined", "Totals"]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Rejects of one task (`exec.rejects.SCHEMA`), and what lies before each of its shards.

    `before`: for a path and the byte offset of a shard's first record, the records and lines of the file
    before that shard.
    """

    block: BlockRef
    before: Mapping[tuple[str, int], tuple[int, int]]


@dataclass(slots=True)
class Totals:
    """Counts of a run. `reasons`: why files were mapped or read, as tasks reported it, in order."""

    started: float
    bytes_total: int
    records: int = 0
    bad: int = 0
    pruned: int = 0
    retries: int = 0
    reruns: int = 0
    second: int = 0
    restored: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    reasons: dict[str, None] = field(default_factory=dict)

    def count(self, files: Sequence[FileEntry], done: Done, checked: Checked) -> None:
        """Add a scan task that was read right."""
        for report in done.reports:
            self.records += report.records
            self.bad += report.bad
            self.pruned += report.pruned
        self.reasons |= dict.fromkeys(done.metrics.reasons)
        if done.rejects is not None:
            shards = checked.known.shards
            before = {
                (plain_text(files[shard.file].path), report.first): counts
                for shard, report, counts in zip(shards, done.reports, checked.before, strict=False)
            }
            self.quarantined.append(Quarantined(done.rejects, before))

    def progress(
        self, runs: Iterable[StageRun], running: Iterable[TaskId], rows: int, now: float
    ) -> Progress:
        """All counts, now."""
        busy: dict[int, int] = {}
        for task in running:
            busy[task.stage] = busy.get(task.stage, 0) + 1
        stages = tuple(
            StageProgress(
                id=run.stage.id,
                title=run.stage.title,
                done=run.released,
                running=busy.get(run.stage.id, 0),
                total=run.total,
                rows=run.rows,
                complete=run.complete,
            )
            for run in runs
        )
        scans = (r.scanning for r in runs if r.scanning is not None and r.scanning.census is None)
        return Progress(
            stages=stages,
            bytes_done=sum(s.checker.covered for s in scans),
            bytes_total=self.bytes_total,
            rows=rows,
            records=self.records,
            bad=self.bad,
            quarantined=sum(q.block.rows for q in self.quarantined),
            pruned=self.pruned,
            retries=self.retries,
            reruns=self.reruns,
            second=self.second,
            restored=self.restored,
            elapsed=now - self.started,
        )

"""Totals of a run: counts for progress and reports, and the bad records in quarantine.

Invariant: only outputs that were released are counted, so nothing of a wrong guess or a lost attempt is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field

from mmflow.blocks.references import BlockRef
from mmflow.errors import plain_text
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.tasks import Done
from mmflow.scheduler.estimate import fraction_done
from mmflow.scheduler.progress import Progress, StageProgress
from mmflow.scheduler.scans import Verified
from mmflow.scheduler.stages import AttemptState, StageState
from mmflow.shards import FileEntry

__all__ = ["Quarantined", "Totals"]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Rejects of one task (`formats.rejects.REPORTED`), and the counts before each of its shards.

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
    whole: int = 0  # bytes of files that tasks have read whole
    records: int = 0
    bad: int = 0
    repaired: int = 0
    pruned: int = 0
    retries: int = 0
    reruns: int = 0
    stragglers: int = 0
    restored: int = 0
    skipped: int = 0
    stalls: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    reasons: dict[str, None] = field(default_factory=dict)

    def count(self, files: Sequence[FileEntry], done: Done, checked: Verified) -> None:
        """Add a scan task that was read right."""
        for report in done.reports:
            self.records += report.records
            self.bad += report.bad
            self.repaired += report.repaired
            self.pruned += report.pruned
        self.reasons |= dict.fromkeys(done.metrics.reasons)
        if done.rejects is not None:
            shards = checked.known
            before = {
                (plain_text(files[shard.file].path), report.first): counts
                for shard, report, counts in zip(shards, done.reports, checked.before, strict=False)
            }
            self.quarantined.append(Quarantined(done.rejects, before))

    def count_files(self, files: Sequence[FileEntry], done: Done) -> None:
        """Add a task that read files whole."""
        self.records += sum(report.records for report in done.reports)
        self.pruned += sum(report.pruned for report in done.reports)
        self.whole += sum(entry.identity.size for entry in files)
        self.reasons |= dict.fromkeys(done.metrics.reasons)

    def progress(
        self, states: Mapping[int, StageState], running: Sequence[AttemptState], rows: int, now: float
    ) -> Progress:
        """Return all counts, now."""
        busy = Counter(attempt.task.id.stage for attempt in running)
        stages = tuple(
            StageProgress(
                id=state.stage.id,
                title=state.stage.title,
                done=state.released,
                running=busy[state.stage.id],
                total=state.total,
                rows=state.rows,
                complete=state.complete,
                rows_in=state.metrics.rows_in,
                bytes_read=state.metrics.bytes_read,
                bytes_out=state.metrics.bytes_out,
                seconds=state.metrics.seconds,
                cached=state.metrics.cached,
                faults=state.metrics.faults,
                from_cache=state.metrics.from_cache,
                filled=state.outputs.filled,
                largest=state.outputs.largest,
            )
            for state in states.values()
        )
        scans = (r.scan for r in states.values() if r.scan is not None and r.scan.line_counts is None)
        return Progress(
            stages=stages,
            fraction=fraction_done(states, running, now),
            bytes_done=self.whole + sum(s.checker.covered for s in scans),
            bytes_total=self.bytes_total,
            rows=rows,
            records=self.records,
            bad=self.bad,
            repaired=self.repaired,
            quarantined=sum(q.block.rows for q in self.quarantined),
            pruned=self.pruned,
            retries=self.retries,
            reruns=self.reruns,
            stragglers=self.stragglers,
            restored=self.restored,
            elapsed=now - self.started,
            skipped=self.skipped,
            stalls=self.stalls,
        )

"""What a run did, in numbers that people and programs read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from mmflow.engines.run import Outcome

__all__ = ["BadRecordsWarning", "RunSummary", "WriteResult"]


class BadRecordsWarning(UserWarning):
    """Records were dropped, set aside or given nulls, as `on_bad_record` asked for."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run that reached its end.

    Attributes:
        run: Its name.
        rows: Of the result, or written.
        records: Read.
        bytes_read: Of the inputs, pruned and hole parts included.
        bad_records: Dropped, set aside or given nulls.
        quarantine: File of those set aside, Arrow IPC; None: none were.
        pruned: Files that their paths, and groups that statistics let skip.
        retries: Tasks tried again.
        reruns: Shards read again after a wrong guess of their first record.
        second: Tasks that took much longer than their like, and got a second attempt or had the rest of their shard
            given to others.
        restored: Finished tasks that were taken from the journal of a resumed run.
        seconds: It took.
        reasons: How files were read, and why so.
    """

    run: str
    rows: int
    records: int
    bytes_read: int
    bad_records: int
    quarantine: str | None
    pruned: int
    retries: int
    reruns: int
    second: int
    restored: int
    seconds: float
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, run: str, outcome: Outcome, *, quarantine: str | None) -> Self:
        p = outcome.progress
        return cls(
            run, p.rows, p.records, p.bytes_done, p.bad, quarantine, p.pruned, p.retries, p.reruns,
            p.second, p.restored, p.elapsed,
            outcome.reasons,
        )  # fmt: skip

    def bad_message(self) -> str:
        """One sentence about bad records."""
        text = f"{self.bad_records:,} bad records were dropped or given nulls (of {self.records:,} read)"
        return f"{text}; those set aside are in {self.quarantine}" if self.quarantine else text

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """A committed write: where, how many files, rows and bytes, and the run that made it."""

    path: str
    files: int
    rows: int
    nbytes: int
    run: RunSummary

    def told(self) -> str:
        """One sentence about it."""
        return f"wrote {self.rows:,} rows in {self.files:,} files ({self.nbytes:,} bytes) to {self.path}"

"""How far a run is: immutable snapshots for progress bars, reports and logs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress", "StageProgress"]


@dataclass(frozen=True, slots=True)
class StageProgress:
    """One stage. `total` tasks, where known yet; `rows` that its finished tasks gave."""

    id: int
    title: str
    done: int
    running: int
    total: int | None
    rows: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """A run at one moment. Counts are of verified shards and finished tasks only.

    Attributes:
        stages: In the plan's order.
        bytes_done: Of all inputs, holes and pruned parts included.
        bytes_total: Of all inputs; a file that two scans read counts twice.
        rows: Of the result (or written).
        records: Read from record formats and groups, bad ones included.
        bad: Bad records that were dropped or had values put to null; and the one that failed the run.
        quarantined: Of them, kept aside.
        pruned: Files that their paths, and groups that statistics let skip.
        retries: Further attempts after failures.
        reruns: Shards that were read again since the guess of their first record was wrong.
        second: Tasks that took much longer than their like, and got a second attempt or had the rest of their shard
            given to others.
        restored: Finished tasks that were taken from the journal of the run.
        elapsed: Seconds by the run's clock.
    """

    stages: tuple[StageProgress, ...]
    bytes_done: int
    bytes_total: int
    rows: int
    records: int
    bad: int
    quarantined: int
    pruned: int
    retries: int
    reruns: int
    second: int
    restored: int
    elapsed: float

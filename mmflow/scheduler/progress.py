"""Progress of a run: immutable snapshots for progress bars, reports and logs."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import fields

from mmflow.lazy.dataclasses import dataclass

__all__ = ["Progress", "StageProgress", "sum_counts"]


@dataclass(frozen=True, slots=True)
class StageProgress:
    """Progress of one stage. Counts are of its finished tasks.

    Attributes:
        total: Number of tasks, once known.
        rows: Rows of the outputs.
        rows_in: Rows that were read.
        bytes_read: Bytes that were read.
        bytes_out: Bytes of the outputs.
        seconds: Wall-clock time of all tasks together.
        cached: Bytes of the inputs that were in the page cache before.
        from_cache: Bytes of decoded columns that were read from the cache instead of the text.
        faults: Page faults of the threads that ran the tasks.
        filled: Partitions of the outputs that hold rows; 0 if the outputs are not partitioned.
        largest: Bytes of the largest of these partitions.
    """

    id: int
    title: str
    done: int
    running: int
    total: int | None
    rows: int
    complete: bool
    rows_in: int = 0
    bytes_read: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    cached: int = 0
    faults: int = 0
    from_cache: int = 0
    filled: int = 0
    largest: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run at one moment. Counts are of verified shards and finished tasks only.

    Attributes:
        stages: Progress of each stage, in the plan's order.
        fraction: Share of the work of all stages that is done, estimated; 1 only once every stage has ended.
        bytes_done: Bytes of all inputs, holes and pruned parts included.
        bytes_total: Bytes of all inputs; a file that two scans read counts twice.
        rows: Rows of the result, or rows written.
        records: Read from record formats and groups, bad ones included.
        bad: Bad records that were dropped or had values put to null; and the one that failed the run.
        repaired: Repairs of records, by ragged and lenient CSV.
        quarantined: Bad records that were put into quarantine.
        pruned: Files that their paths, and groups that statistics let skip.
        retries: Further attempts after failures.
        reruns: Shards that were read again because the guess of their first record was wrong.
        stragglers: Tasks that took much longer than others of their stage, and got a speculative attempt or were split.
        restored: Finished tasks that were taken from the journal of the run.
        elapsed: Seconds by the run's clock.
        skipped: Files that could not be read and were left out (`skip_bad_files`).
        stalls: Attempts that did not move for `stall_after` seconds.
    """

    stages: tuple[StageProgress, ...]
    fraction: float
    bytes_done: int
    bytes_total: int
    rows: int
    records: int
    bad: int
    repaired: int
    quarantined: int
    pruned: int
    retries: int
    reruns: int
    stragglers: int
    restored: int
    elapsed: float
    skipped: int = 0
    stalls: int = 0


_COUNTS = tuple(f.name for f in fields(Progress) if f.name not in ("stages", "fraction", "elapsed"))
_counts_of = operator.attrgetter(*_COUNTS)


def sum_counts(plans: Iterable[Progress]) -> dict[str, int]:
    """Return the counts of all plans of a run together: all fields of `Progress` that are counts."""
    counts = map(sum, zip(*map(_counts_of, plans), strict=True))
    return dict.fromkeys(_COUNTS, 0) | dict(zip(_COUNTS, counts, strict=False))

"""History of a run, built from its events by `history.build_history`.

A run that was resumed has several openings. Positions (`at`) are seconds while the run was open: the time between two
openings is left out.

    openings   |-- 0 --|            |----- 1 -----|
    at         0       7            7             20

A job may run several plans, one after the other, whose stages have the same ids. Here stages are numbered consecutively
over all plans; their `label` is the name that people see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from mmflow.lazy.dataclasses import dataclass

__all__ = ["Failure", "Marker", "Opening", "RunHistory", "Sample", "Stage", "Task", "task_label"]


@dataclass(slots=True)
class Opening:
    """Time from a `run_started` to the last event before the next one; `offset` is its position."""

    begin: float
    end: float
    offset: float

    def at(self, t: float) -> float:
        """Return the position of a moment. Clocks of other hosts may be wrong, so it is kept within the opening."""
        return self.offset + min(max(t - self.begin, 0.0), max(self.end - self.begin, 0.0))


@dataclass(slots=True)
class Task:
    """Successful attempt of a task. `attempt` counts from 0 in each driver; `part` is that of `plan.tasks.TaskId`."""

    stage: int
    number: int
    attempt: int
    worker: str
    at: float
    seconds: float
    rows_in: int
    rows_out: int
    bytes_read: int
    bytes_out: int
    cached: int
    anonymous: int
    part: tuple[int, ...] = ()
    fetched: int = 0


def task_label(number: int, part: tuple[int, ...]) -> str:
    """Return a task's number, with that of its part.

    >>> task_label(1234, ()), task_label(7, (2, 1))
    ('1,234', '7.2.1')
    """
    return ".".join((f"{number:,}", *map(str, part)))


@dataclass(slots=True)
class Stage:
    """Counts of a stage: `tasks`, rows and bytes count each task once; `busy` and `bytes_scanned` all successful
    attempts.
    """

    id: int
    plan: int = 0
    label: str = ""
    planned: bool = False
    title: str = ""
    reads: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    scan: bool = False
    tasks: int = 0
    total: int | None = None
    rows_in: int = 0
    rows_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    busy: float = 0.0
    bytes_scanned: int = 0
    pruned: int = 0
    bad: int = 0
    failed: int = 0
    ended: bool = False

    @property
    def name(self) -> str:
        """Title, or a name for a stage without steps of its own."""
        return self.title or "pass on"

    @property
    def reads_files(self) -> bool:
        """True if its tasks read files, not the output of other stages."""
        return self.scan or not self.planned


@dataclass(frozen=True, slots=True)
class Failure:
    """Failed attempt of a task."""

    at: float
    stage: int
    number: int
    attempt: int
    reason: str
    retried: bool


@dataclass(frozen=True, slots=True)
class Marker:
    """Event at one moment: kind is `failed`, `speculative`, `rerun`, `restarted` or `resumed`."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Counts of one `progress` event. Within one `part` counts grow; another part starts anew."""

    at: float
    part: int
    bytes_done: int
    rows: int


@dataclass(slots=True)
class RunHistory:
    """History of a run, for its report.

    Attributes:
        started, ended: Events of the last opening.
        progress: Last `progress` event, with the counts of all plans.
        restored: Number of tasks that the last opening restored from the journal.
    """

    started: Mapping[str, Any] = field(default_factory=dict)
    ended: Mapping[str, Any] | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    committed: Mapping[str, Any] | None = None
    openings: list[Opening] = field(default_factory=list)
    stages: dict[int, Stage] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    markers: list[Marker] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    slots: int = 0
    retries: int = 0
    reruns: int = 0
    speculative: int = 0
    restarts: int = 0
    restored: int = 0

    @property
    def seconds(self) -> float:
        """Seconds that the run was open, over all openings."""
        return sum(max(o.end - o.begin, 0.0) for o in self.openings)

    @property
    def state(self) -> str:
        """State: `done`, `failed`, `cancelled`; `open` without an end (it runs, or it died); `empty` before it
        started.
        """
        if not self.openings:
            return "empty"
        return "open" if self.ended is None else str(self.ended.get("state", "done"))

    def total(self, key: str) -> int:
        """Return a count of the run, over its plans."""
        stated = (self.ended or {}).get(key)
        return int((self.progress.get(key) if stated is None else stated) or 0)

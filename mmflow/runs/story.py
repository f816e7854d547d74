"""What happened in a run, as `telling.tell` gathers it from events.

A run that was resumed has several openings. Positions (`at`) are seconds while the run was open: what lay between two
openings takes no room.

    openings   |-- 0 --|            |----- 1 -----|
    at         0       7            7             20

A job may run several plans, one after the other, whose stages have the same ids. Stages are numbered on over all of
them here; their `label` is what people are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Failure", "Mark", "Opening", "Sample", "Stage", "Story", "Task", "label"]


@dataclass(slots=True)
class Opening:
    """From a `run_started` to the last event before the next: its place among positions is `offset`."""

    begin: float
    end: float
    offset: float

    def at(self, t: float) -> float:
        """Position of a moment. Other hosts' clocks may be wrong, so it is kept within the opening."""
        return self.offset + min(max(t - self.begin, 0.0), max(self.end - self.begin, 0.0))


@dataclass(slots=True)
class Task:
    """An attempt that ended well. `attempt` counts from 0 in each driver; `part` as in `exec.task.TaskId`."""

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


def label(number: int, part: tuple[int, ...]) -> str:
    """A task's number, with that of its part.

    >>> label(1234, ()), label(7, (2, 1))
    ('1,234', '7.2.1')
    """
    return ".".join((f"{number:,}", *map(str, part)))


@dataclass(slots=True)
class Stage:
    """`tasks`, rows and bytes count each task once; `busy` and `read` all attempts that ended well."""

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
    read: int = 0
    pruned: int = 0
    bad: int = 0
    failed: int = 0
    ended: bool = False

    @property
    def files(self) -> bool:
        """Its tasks read files, and not what other stages gave."""
        return self.scan or not self.planned


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed."""

    at: float
    stage: int
    number: int
    attempt: int
    reason: str
    again: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """Something at one moment: kind is `failed`, `second`, `rerun`, `restarted` or `resumed`."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One `progress` event. Counts of one `part` grow from the one before; another part counts anew."""

    at: float
    part: int
    bytes_done: int
    rows: int


@dataclass(slots=True)
class Story:
    """All that a report tells of a run.

    Attributes:
        started, ended: Of the last opening.
        progress: The last one.
        before: The last ones of earlier plans of the last opening.
        restored: Tasks that the last opening took from the journal.
    """

    started: Mapping[str, Any] = field(default_factory=dict)
    ended: Mapping[str, Any] | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    before: list[Mapping[str, Any]] = field(default_factory=list)
    committed: Mapping[str, Any] | None = None
    openings: list[Opening] = field(default_factory=list)
    stages: dict[int, Stage] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    slots: int = 0
    retries: int = 0
    reruns: int = 0
    second: int = 0
    restarts: int = 0
    restored: int = 0

    @property
    def seconds(self) -> float:
        """While the run was open, over all openings."""
        return sum(max(o.end - o.begin, 0.0) for o in self.openings)

    @property
    def state(self) -> str:
        """`done`, `failed`, `cancelled`; `open` without an end: it runs, or it died; `empty` before it began."""
        if not self.openings:
            return "empty"
        return "open" if self.ended is None else str(self.ended.get("state", "done"))

    def total(self, key: str) -> int:
        """A count of the last opening, over its plans."""
        told = sum(int(p.get(key) or 0) for p in (*self.before, self.progress))
        return max(told, int((self.ended or {}).get(key) or 0))

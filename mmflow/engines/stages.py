"""One stage while it runs: which tasks there are, which wait, run, are done, and how far it is released.

    created  ->  ready (due at a time)  ->  running  ->  done | failed  ->  released, in order of id

A task that hands in before its shard's end has the rest of it behind it, as tasks of their own (`stragglers`).

Invariant: `slots` holds the tasks that were made and not released, and nothing else; so memory is O(tasks
in flight), whatever their number.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pyarrow as pa

from mmflow.engines.exchange import Outputs, locate
from mmflow.engines.scans import CensusFeed, Feed, Group, ScanChecker
from mmflow.errors import MmflowError
from mmflow.exec.stage import ExchangeInput, Hash, Range, Stage
from mmflow.exec.task import Done, TaskId
from mmflow.shards import FileEntry

__all__ = ["Scanning", "Slot", "StageRun"]


@dataclass(slots=True)
class Slot:
    """A task from its making until its outputs are released.

    `after`: the task whose outputs come next, where that is a part of a shard, or follows one; None: the next number.
    `handed_in`: the rest of its shard was given out.
    """

    id: TaskId
    group: Group | None = None
    attempt: int = 0  # the newest one's number
    live: set[int] = field(default_factory=set)  # attempts whose results count
    failures: int = 0
    state: Literal["ready", "running", "done", "failed"] = "ready"
    done: Done | None = None
    error: MmflowError | None = None
    key: str = ""  # of its content, in runs that are recorded
    restored: bool = False
    after: TaskId | None = None
    handed_in: bool = False


@dataclass(slots=True)
class Scanning:
    """What a scan stage has beside others.

    `census`: where a first pass hands its findings. `layout`: see `ScanSource`.
    """

    files: tuple[FileEntry, ...]
    feed: Feed
    checker: ScanChecker
    layout: int = 0
    census: CensusFeed | None = None


@dataclass(slots=True)
class StageRun:
    """The state of one stage.

    Attributes:
        created: Tasks made, less the parts; the number of the next one to be.
        parts: Tasks made of what others had not read when they handed in.
        released: Tasks whose outputs were handed on.
        head: The next one to be released.
        total: Number of tasks, once known.
        readers: Stages that have yet to end that read this one.
        pruned, bad: Of a scan: files that their paths, and groups that statistics let skip; bad records met.
        census: The pass that finds out starts and lines for this scan (see `driver`).
        timed, seconds: Attempts that were done, and how long they took together.
        streams: Its readers take its outputs while it goes on.
        stopped_by: An error that ends the stage once all that came before it is released.
    """

    stage: Stage
    outputs: Outputs
    scanning: Scanning | None = None
    readers: int = 0
    slots: dict[TaskId, Slot] = field(default_factory=dict)
    created: int = 0
    parts: int = 0
    released: int = 0
    head: TaskId = field(init=False)
    total: int | None = None
    rows: int = 0
    pruned: int = 0
    bad: int = 0
    complete: bool = False
    boundaries: pa.RecordBatch | None = None
    census: StageRun | None = None
    streams: bool = False
    stopped_by: MmflowError | None = None
    timed: int = 0
    seconds: float = 0.0
    samples: list[pa.RecordBatch] = field(default_factory=list)
    _due: list[tuple[float, TaskId]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.head = TaskId(self.stage.id, 0)

    @property
    def exchanges(self) -> list[ExchangeInput]:
        return [i for i in self.stage.inputs if isinstance(i, ExchangeInput)]

    def ready(self, slot: Slot, due: float) -> None:
        """Let a task be submitted (again) from the time `due` on."""
        slot.state = "ready"
        heapq.heappush(self._due, (due, slot.id))

    def insert(self, slot: Slot, groups: Sequence[Group], now: float) -> None:
        """Make tasks of what `slot` handed in without: in order, behind it, to be submitted at once."""
        parts = [Slot(replace(slot.id, part=(*slot.id.part, n)), group) for n, group in enumerate(groups, 1)]
        parts[-1].after = self._after(slot)
        for before, part in itertools.pairwise((slot, *parts)):
            before.after = part.id
        for part in parts:
            self.slots[part.id] = part
            self.ready(part, now)
        slot.handed_in = True
        self.parts += len(parts)
        if self.total is not None:
            self.total += len(parts)

    def release(self) -> None:
        """The outputs of the task at the head are handed on."""
        self.head = self._after(self.slots.pop(self.head))
        self.released += 1

    def _after(self, slot: Slot) -> TaskId:
        return slot.after or TaskId(self.stage.id, slot.id.number + 1)

    def next_ready(self, now: float) -> Slot | None:
        """A task to submit now: one that comes back."""
        while self._due and self._due[0][0] <= now:
            _, task = heapq.heappop(self._due)
            if task in self.slots:
                return self.slots[task]
        return None

    def next_due(self) -> float | None:
        """When the earliest waiting task may be submitted."""
        return self._due[0][0] if self._due else None

    def make(self, runs: Mapping[int, StageRun]) -> Slot | None:
        """The next new task, if its inputs are there."""
        group: Group | None = None
        if self.total is not None and self.created + self.parts >= self.total:
            return None
        if self.scanning is not None:
            if not self._sides_complete(runs):
                return None
            group = self.scanning.feed.take()
            if group is None:
                self._note_end()
                return None
        elif not self._inputs_there(runs):
            return None
        slot = Slot(TaskId(self.stage.id, self.created), group)
        self.slots[slot.id] = slot
        self.created += 1
        self._note_end()
        return slot

    def _note_end(self) -> None:
        if self.scanning is not None and self.scanning.feed.exhausted:
            self.total = self.created + self.parts

    def _sides_complete(self, runs: Mapping[int, StageRun]) -> bool:
        return all(runs[s].complete for e in self.exchanges if e.mode != "forward" for s in e.stages)

    def _inputs_there(self, runs: Mapping[int, StageRun]) -> bool:
        """Can task number `created` be made? Sets `total` once it is known."""
        exchanges = self.exchanges
        if not self._sides_complete(runs):
            return False
        split = next((e for e in exchanges if e.mode != "all"), None)
        if split is None:
            self.total = 1
            return self.created == 0
        producers = [runs[s] for s in split.stages]
        if split.mode == "partition":
            self.total = _partitions(producers[0])
            return self.created < self.total
        if all(p.complete for p in producers):
            self.total = sum(p.released for p in producers)
            return self.created < self.total
        if isinstance(self.stage.output, Range):
            return False  # its boundaries come from the samples of all of them
        return locate(producers, self.created) is not None


def _partitions(run: StageRun) -> int:
    output = run.stage.output
    if isinstance(output, Hash):
        return output.partitions
    assert isinstance(output, Range), "only Hash and Range are read by partition"
    return 1 if run.boundaries is None else run.boundaries.num_rows + 1

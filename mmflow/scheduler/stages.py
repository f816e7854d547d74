"""State of one stage while it runs: its tasks, and how far it is released.

    created  ->  ready (due at a time)  ->  running  ->  done | failed  ->  released, in order of id

A task that stops early has the remainder of its shard behind it, as tasks of their own (`speculation`).

Invariant: `tasks` holds the tasks that were made and not released, and nothing else; so memory is O(tasks
in flight), whatever their number.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Literal

import pyarrow as pa

from mmflow.errors import MmflowError
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.stages import ExchangeInput, FilesInput, Hash, Range, Stage
from mmflow.plan.tasks import Done, TaskId, TaskMetrics
from mmflow.scheduler.exchange import Outputs, join_partitions, locate
from mmflow.scheduler.scans import Feed, LineCountFeed, ScanChecker, ShardGroup, Verified
from mmflow.scheduler.stream_feed import StreamFeed
from mmflow.shards import FileEntry

__all__ = ["Attempt", "AttemptState", "ScanState", "StageState", "TaskState"]

#: Task, and number of its attempt.
Attempt = tuple[TaskId, int]


@dataclass(slots=True)
class TaskState:
    """State of a task from its creation until its outputs are released.

    `after`: the task whose outputs come next, where that is a part of a shard, or follows one; None: the next number.
    `remainder`: byte ranges of the tasks to which the remainder of its shard went; empty: it has read all of it.
    """

    id: TaskId
    group: ShardGroup | None = None
    attempt: int = 0  # the newest one's number
    live: list[AttemptState] = field(default_factory=list)  # under way, and their results count
    failures: int = 0
    state: Literal["ready", "running", "done", "failed"] = "ready"
    done: Done | None = None
    error: MmflowError | None = None
    key: str = ""  # of its content, in runs that are recorded
    restored: bool = False
    after: TaskId | None = None
    remainder: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True, eq=False)
class AttemptState:
    """State of an attempt under way. `since`: when it began; `asked`: when it got a stop request."""

    stage: StageState
    task: TaskState
    number: int
    since: float
    asked: float | None = None

    @property
    def id(self) -> Attempt:
        return self.task.id, self.number


@dataclass(slots=True)
class ScanState:
    """State that only scan stages have.

    `line_counts`: of a line-count pre-pass: the feed that it fills. `layout`, `stream`: see `ScanSource`.
    """

    files: tuple[FileEntry, ...]
    feed: Feed
    checker: ScanChecker
    layout: int = 0
    line_counts: LineCountFeed | None = None
    stream: StreamFeed | None = None


@dataclass(slots=True)
class StageState:
    """State of one stage.

    Attributes:
        created: Tasks made, less the parts; the number of the next one to be.
        parts: Tasks made of remainders of others.
        released: Tasks whose outputs were released.
        head: The next one to be released.
        total: Number of tasks, once known.
        readers: Stages that have yet to end that read this one.
        pruned, bad: Of a scan: files skipped by their paths and groups skipped by statistics; bad records.
        pre_pass: Line-count pre-pass of this scan (see `scheduler`).
        timed, seconds: Attempts that were done, and how long they took together.
        metrics: Sums over the tasks that were released.
        streams: Whether its readers take its outputs while it runs.
        slots: Partitions that each task reads, once they are known.
        exchanges: Inputs that other stages make.
        concurrency: Limit of its tasks that run at once; None: there is none.
        stopped_by: An error that ends the stage once all that came before it is released.
    """

    stage: Stage
    outputs: Outputs
    scan: ScanState | None = None
    readers: int = 0
    tasks: dict[TaskId, TaskState] = field(default_factory=dict)
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
    pre_pass: StageState | None = None
    streams: bool = False
    stopped_by: MmflowError | None = None
    slots: list[range] | None = None
    timed: int = 0
    seconds: float = 0.0
    metrics: TaskMetrics = field(default_factory=TaskMetrics)
    samples: list[pa.RecordBatch] = field(default_factory=list)
    exchanges: list[ExchangeInput] = field(init=False)
    concurrency: int | None = field(init=False)
    _due: list[tuple[float, TaskId]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.head = TaskId(self.stage.id, 0)
        self.exchanges = [i for i in self.stage.inputs if isinstance(i, ExchangeInput)]
        self.concurrency = self.stage.needs.concurrency

    @property
    def line_counts(self) -> LineCountFeed | None:
        """Feed that this stage fills, if it is a line-count pre-pass."""
        return None if self.scan is None else self.scan.line_counts

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Files that its task reads whole."""
        return tuple(f for i in self.stage.inputs if isinstance(i, FilesInput) for f in i.files)

    def partitions(self, number: int) -> range:
        """Return the partitions of its inputs that a task reads."""
        return range(0) if self.slots is None else self.slots[number]

    def ready(self, task: TaskState, due: float) -> None:
        """Schedule a task to be submitted (again) at the time `due`."""
        task.state = "ready"
        heapq.heappush(self._due, (due, task.id))

    def insert(self, task: TaskState, groups: Sequence[ShardGroup], now: float) -> None:
        """Make tasks of the remainder of `task`: in order, behind it, to be submitted at once."""
        parts = [
            TaskState(replace(task.id, part=(*task.id.part, n)), group, task.attempt)
            for n, group in enumerate(groups, 1)
        ]
        parts[-1].after = self._after(task)
        for before, part in itertools.pairwise((task, *parts)):
            before.after = part.id
        for part in parts:
            self.tasks[part.id] = part
            self.ready(part, now)
        task.remainder = tuple((shard.begin, shard.end) for (shard,) in groups)
        self.parts += len(parts)
        if self.total is not None:
            self.total += len(parts)

    def release(self, done: Done, checked: Verified | None) -> None:
        """Release the task at the head, whose result was verified if it is a scan's."""
        self.head = self._after(self.tasks.pop(self.head))
        self.released += 1
        if self.line_counts is not None:
            assert checked is not None  # a scan
            self.line_counts.ready.append(checked.known)
            return
        self.rows += done.rows
        self.metrics.add(done.metrics)
        self.pruned += sum(r.pruned for r in done.reports)
        self.bad += sum(r.bad for r in done.reports)
        if done.sample is not None:
            self.samples.append(done.sample)

    def _after(self, task: TaskState) -> TaskId:
        return task.after or TaskId(self.stage.id, task.id.number + 1)

    def next_ready(self, now: float) -> TaskState | None:
        """Return a task to submit again now, if there is one."""
        while self._due and self._due[0][0] <= now:
            _, task = heapq.heappop(self._due)
            if task in self.tasks:
                return self.tasks[task]
        return None

    def next_due(self) -> float | None:
        """Return when the earliest waiting task may be submitted."""
        return self._due[0][0] if self._due else None

    def make(self, states: Mapping[int, StageState]) -> TaskState | None:
        """Make the next new task, if its inputs are there."""
        group: ShardGroup | None = None
        if self.total is not None and self.created + self.parts >= self.total:
            return None
        if self.scan is not None:
            if not self._sides_complete(states):
                return None
            group = self.scan.feed.take()
            if group is None:
                self._note_end()
                return None
        elif not self._inputs_there(states):
            return None
        task = TaskState(TaskId(self.stage.id, self.created), group)
        self.tasks[task.id] = task
        self.created += 1
        self._note_end()
        return task

    def _note_end(self) -> None:
        if self.scan is not None and self.scan.feed.exhausted:
            self.total = self.created + self.parts

    def _sides_complete(self, states: Mapping[int, StageState]) -> bool:
        return all(states[s].complete for e in self.exchanges if e.mode != "forward" for s in e.stages)

    def _inputs_there(self, states: Mapping[int, StageState]) -> bool:
        """Return whether task number `created` can be made. Sets `total` once it is known."""
        exchanges = self.exchanges
        if not self._sides_complete(states):
            return False
        split = next((e for e in exchanges if e.mode != "all"), None)
        if split is None:
            self.total = 1
            return self.created == 0
        producers = [states[s] for s in split.stages]
        if split.mode == "partition":
            if self.slots is None:
                read = [states[s] for e in exchanges if e.mode == "partition" for s in e.stages]
                output = producers[0].stage.output
                target = output.target_bytes if isinstance(output, Hash) else 0
                self.slots = join_partitions(read, _partitions(producers[0]), target)
            self.total = len(self.slots)
            return self.created < self.total
        if all(p.complete for p in producers):
            self.total = sum(p.released for p in producers)
            return self.created < self.total
        if isinstance(self.stage.output, Range):
            return False  # its boundaries come from the samples of all of them
        return locate(producers, self.created) is not None


def _partitions(state: StageState) -> int:
    output = state.stage.output
    if isinstance(output, Hash):
        return output.partitions
    assert isinstance(output, Range), "only Hash and Range are read by partition"
    return 1 if state.boundaries is None else state.boundaries.num_rows + 1

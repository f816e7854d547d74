"""A toy world for the scheduler: files of integers, tasks in plain Python, time that a test moves.

A toy record is a few bytes; inner newlines make guesses of a shard's first record go wrong, and then
the task gives garbage rows, a wrong report, an error record, or an outright failure.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa

from mmflow.blocks.references import BlockRef, LocalBlock
from mmflow.errors import BadRecordError, PlanError, WorkerLostError
from mmflow.formats import Format, ScanReport
from mmflow.mapping import FileIdentity
from mmflow.plan.stages import (
    ExchangeInput,
    Forward,
    Hash,
    Input,
    Output,
    Plan,
    Range,
    ScanInput,
    SortKey,
    Source,
    Stage,
)
from mmflow.plan.tasks import Cancelled, Done, Failed, Task, TaskId, TaskResult, WorkerLost
from mmflow.scheduler.scans import ScanSource
from mmflow.scheduler.scheduler import Scheduler, SchedulerOptions
from mmflow.scheduler.speculation import Patience
from mmflow.shards import FileEntry, Shard, group_shards, plan_shards

ROWS = pa.schema([("n", pa.int64())])
GARBAGE = -1


@dataclass(frozen=True)
class ToyRecord:
    value: int
    length: int
    inner: tuple[int, ...] = ()  # offsets after which a newline stands inside the record
    bad: bool = False


@dataclass(frozen=True)
class ToyFormat:
    name: str = "toy"
    schema: pa.Schema = ROWS
    record_oriented: bool = True
    splittable: bool = True
    skips_holes: bool = False

    def spec(self) -> dict[str, Any]:
        return {"format": self.name}


@dataclass(frozen=True)
class ToyFile:
    path: str
    records: tuple[ToyRecord, ...]

    @property
    def size(self) -> int:
        return sum(r.length for r in self.records)

    def starts(self) -> Iterator[tuple[int, ToyRecord]]:
        at = 0
        for record in self.records:
            yield at, record
            at += record.length

    def newlines(self) -> list[int]:
        """Offsets right after a newline: where a guess may take a record to begin."""
        found = []
        for at, record in self.starts():
            found += [at + i for i in record.inner] + [at + record.length]
        return sorted(found)


class World:
    """Files, and the blocks that tasks made of them."""

    def __init__(self, files: Sequence[ToyFile]) -> None:
        self.files = {f.path: f for f in files}
        self.blocks: dict[BlockRef, list[int]] = {}
        self.made = 0
        self.row_bytes = 8
        self.runs: list[TaskId] = []

    def source(self, paths: Sequence[str], shard_size: int = 8) -> ScanSource:
        entries = [FileEntry(p, FileIdentity(0, i, self.files[p].size, 0)) for i, p in enumerate(paths)]

        def shards() -> Iterator[Shard]:
            for number, entry in enumerate(entries):
                yield from plan_shards(
                    entry, number, shard_size=shard_size, splittable=True, skips_holes=False, page_size=4
                )

        return ScanSource(entries, group_shards(shards(), entries, target_bytes=shard_size, max_shards=4))

    def put(self, rows: list[int]) -> BlockRef | None:
        if not rows:
            return None
        self.made += 1
        ref = LocalBlock(self.made, len(rows), self.row_bytes * len(rows))
        self.blocks[ref] = rows
        return ref

    def delete(self, ref: BlockRef) -> None:
        del self.blocks[ref]  # KeyError: deleted twice

    def run(self, task: Task, most: int | None = None) -> TaskResult:
        """Run a task; deterministic but for its attempt. `most`: stop after so many records."""
        self.runs.append(task.id)
        rows: list[int] = []
        resume_offset: int | None = None
        reports: list[ScanReport] = []
        first = task.stage.inputs[0]
        limit = task.stage.limit
        if isinstance(first, ScanInput):
            lines = "_line" in first.columns
            assert task.shards is not None
            for shard in task.shards.shards:
                file = self.files[task.shards.files[shard.file].path]
                found, report = read(file, shard, shard.lines_before if lines else None, most)
                if report is None:
                    return Failed(task.id, task.attempt, PlanError("garbage does not fit its type"))
                rows += found
                if limit is not None and len(rows) >= limit:
                    break
                reports.append(report)
                if report.error is not None:
                    break
                if most is not None and report.records == most and report.next < shard.end:
                    resume_offset = report.next
        else:
            assert isinstance(first, ExchangeInput)
            rows = [r for ref in task.blocks[first.name] for r in self.blocks[ref]]
        for side in task.stage.inputs[1:]:
            assert isinstance(side, ExchangeInput)
            total = sum(r for ref in task.blocks[side.name] for r in self.blocks[ref])
            rows = [r + total for r in rows]
        rows = rows[:limit]
        return Done(
            task.id,
            task.attempt,
            tuple(self.put(part) for part in split(rows, task)),
            tuple(reports),
            sample=sample(rows) if isinstance(task.stage.output, Forward) and rows else None,
            resume_offset=resume_offset,
        )


def read(
    file: ToyFile, shard: Shard, lines_before: int | None, most: int | None = None
) -> tuple[list[int], ScanReport | None]:
    """Read the records of a shard, or the first `most`; `lines_before`: rows are line numbers instead of values."""
    true_first = next((at for at, _ in file.starts() if at >= shard.begin), file.size)
    start = shard.known_start
    if start is None:
        guesses = [n for n in [0, *file.newlines()] if n >= shard.begin]
        start = shard.begin if shard.fresh else guesses[0] if guesses else file.size
    if all(at != start for at, _ in file.starts()) and start < file.size:
        # In the middle of a record: nonsense comes out, of several kinds.
        if start % 3 == 0:
            return [], None
        error = None
        if start % 3 == 1:
            error = BadRecordError.at(path=file.path, byte_offset=start, reason="garbage", record=0, line=1)
        if start >= shard.end:
            return [], ScanReport(first=start, next=start)
        if most == 1 and error is None:
            return [GARBAGE], ScanReport(first=start, next=start + 1, records=1, lines=1)
        return [GARBAGE] * 2, ScanReport(first=start, next=shard.end + 1, records=2, lines=2, error=error)
    del true_first
    report = ScanReport(first=start, next=start)
    rows: list[int] = []
    line = lines_before or 0
    for at, record in file.starts():
        if at < start or at >= shard.end or report.records == most:
            continue
        if record.bad:
            report.error = BadRecordError.at(
                path=file.path, byte_offset=at, reason="bad", record=report.records, line=report.lines + 1
            )
            return rows, report
        rows.append(record.value if lines_before is None else line + report.lines + 1)
        report.records += 1
        report.lines += 1 + len(record.inner)
        report.next = at + record.length
    report.next = max(report.next, start)
    return rows, report


def split(rows: list[int], task: Task) -> list[list[int]]:
    match task.stage.output:
        case Hash(partitions=n):
            return [[r for r in rows if r % n == p] for p in range(n)]
        case Range():
            assert task.boundaries is not None
            cuts = [int(c) for c in task.boundaries.column(0).to_pylist()]
            return [[r for r in rows if sum(c <= r for c in cuts) == p] for p in range(len(cuts) + 1)]
        case _:
            return [rows]


def sample(rows: list[int]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": rows[::2] or rows})


def boundaries(samples: Sequence[pa.RecordBatch], keys: Sequence[SortKey], parts: int) -> pa.RecordBatch:
    values = sorted({v for s in samples for v in s.column(0).to_pylist()})
    cuts = sorted({values[len(values) * i // parts] for i in range(1, parts)})
    return pa.RecordBatch.from_arrays([pa.array(cuts, pa.int64())], names=["n"])


# ---- plans ------------------------------------------------------------------------------------


def stage(number: int, inputs: Sequence[Input], output: Output, limit: int | None = None) -> Stage:
    return Stage(number, tuple(inputs), (), output, ROWS, limit, title=f"stage {number}")


def scan(paths: Sequence[str], columns: tuple[str, ...] = ("n",)) -> ScanInput:
    return ScanInput("t", Source(tuple(paths), cast(Format, ToyFormat()), "toy"), columns)


def plan_of(*stages: Stage) -> Plan:
    return Plan(tuple(stages))


def read_exchange(mode: Any, *stages: int, name: str = "x") -> ExchangeInput:
    return ExchangeInput(name, stages, mode)


# ---- engine -----------------------------------------------------------------------------------


@dataclass
class Faults:
    """Probabilities of faults, 0 to 1."""

    lost: float = 0.0
    failed: float = 0.0
    late: float = 0.0
    """Share of lost tasks that still report their result, after they were given up."""
    deaf: float = 0.5
    """Share of stop requests that are ignored."""


@dataclass
class Outcome:
    rows: list[int] = field(default_factory=list)
    by_task: list[tuple[int, list[int]]] = field(default_factory=list)
    most_in_flight: int = 0
    most_unread: int = 0
    slept: float = 0.0


class FakeEngine:
    """Runs a scheduler to its end: tasks end in random order, some fail, some get lost; time is virtual."""

    def __init__(self, world: World, seed: int = 0, slots: int = 3, faults: Faults | None = None) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.slots = slots
        self.faults = faults or Faults()
        self.now = 0.0
        self.scheduler: Scheduler | None = None
        self.asked: set[tuple[TaskId, int]] = set()
        self.split = 0

    def new_scheduler(
        self,
        plan: Plan,
        sources: dict[int, ScanSource],
        options: SchedulerOptions | None = None,
        reading: int = 99,
    ) -> Outcome:
        """Run to the end. `reading`: results read per round, at most.

        Raises:
            MmflowError: The run's error.
        """
        scheduler = self.scheduler = Scheduler(
            plan,
            sources,
            boundaries=boundaries,
            options=options or self._options(),
            run="r",
            now=self.now,
        )
        outcome = Outcome()
        running: list[Task] = []
        late: list[TaskResult] = []
        unread: list[Any] = []
        for _ in range(100_000):
            for attempt in scheduler.take_cancels():
                cancelled = [t for t in running if (t.id, t.attempt) == attempt]
                running = [t for t in running if (t.id, t.attempt) != attempt]
                for task in cancelled:
                    scheduler.on_result(Cancelled(task.id, task.attempt), self.now)
            for ref in scheduler.take_deletes():
                self.world.delete(ref)
            if scheduler.error is not None:
                break
            unread += scheduler.take_results()
            outcome.most_unread = max(outcome.most_unread, len(unread))
            for released in unread[:reading]:
                rows = [] if released.block is None else list(self.world.blocks[released.block])
                outcome.rows += rows
                outcome.by_task.append((released.number, rows))
                scheduler.consumed(released)
            del unread[:reading]
            if scheduler.finished and not unread:
                break
            idle = self.slots - len(running)
            new = scheduler.tasks(idle, self.now, idle)
            assert len(new) <= idle
            self.asked.update(scheduler.take_stop_requests())
            running += new
            attempts = {(t.id, t.attempt) for t in running}
            assert len(attempts) == len(running), "an attempt is submitted once"
            assert len(running) - len({t.id for t in running}) <= scheduler.totals.stragglers
            outcome.most_in_flight = max(outcome.most_in_flight, len(running))
            if not running:
                due = scheduler.next_due()
                if due is not None:
                    outcome.slept += max(0.0, due - self.now)
                    self.now = max(self.now, due)
                elif not unread and not new:
                    for ref in scheduler.take_deletes():
                        self.world.delete(ref)
                    unread += scheduler.take_results()
                    assert unread or scheduler.finished or scheduler.error, "stuck"
                continue
            self.now += 0.01
            self._end_one(scheduler, running, late)
        else:
            raise AssertionError("no end in sight")
        for result in late:
            scheduler.on_result(result, self.now)
        for attempt in scheduler.take_cancels():
            for task in [t for t in running if (t.id, t.attempt) == attempt]:
                scheduler.on_result(Cancelled(task.id, task.attempt), self.now)
        for ref in scheduler.take_deletes():
            self.world.delete(ref)
        if scheduler.error is not None:
            raise scheduler.error
        return outcome

    def _options(self) -> SchedulerOptions:
        """Impatient, in a third of all runs: then whatever runs while workers idle is asked to stop."""
        if self.random.random() < 0.67:
            return SchedulerOptions(retries=10**6)
        patience = Patience(0.0, 0.0, self.random.choice([0.0, 0.02, 1.0]), self.random.randint(1, 8))
        return SchedulerOptions(retries=10**6, patience=patience)

    def _end_one(self, scheduler: Scheduler, running: list[Task], late: list[TaskResult]) -> None:
        if late and self.random.random() < 0.3:
            scheduler.on_result(late.pop(), self.now)
            return
        task = running.pop(self.random.randrange(len(running)))
        luck = self.random.random()
        if luck < self.faults.lost:
            scheduler.on_result(WorkerLost(task.id, task.attempt, "killed"), self.now)
            if self.random.random() < self.faults.late:
                late.append(self.world.run(task))
        elif luck < self.faults.lost + self.faults.failed:
            scheduler.on_result(Failed(task.id, task.attempt, WorkerLostError("lost")), self.now)
        else:
            hears = (task.id, task.attempt) in self.asked and self.random.random() >= self.faults.deaf
            result = self.world.run(task, self.random.choice([1, 1, 2, 3]) if hears else None)
            self.split += isinstance(result, Done) and result.resume_offset is not None
            scheduler.on_result(result, self.now)
            if self.random.random() < self.faults.late and isinstance(result, Failed):
                scheduler.on_result(result, self.now)

"""The scheduler's promises one by one: laziness, back-pressure, pauses, early ends, blocks let go in time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from mmflow.blocks.references import Checkpoint, CheckpointBlock, LocalBlock
from mmflow.errors import EngineError, PlanError, SourceUnreachableError, UserFunctionError, WorkerLostError
from mmflow.formats import ScanReport
from mmflow.mapping import FileIdentity
from mmflow.plan.stages import Broadcast, Forward, Hash, Output, Plan, Result, ScanInput, SqlStep, Write
from mmflow.plan.tasks import Done, Failed, Task, TaskId, WorkerLost
from mmflow.runs.journal import Replay, task_line
from mmflow.scheduler.exchange import Outputs, join_partitions
from mmflow.scheduler.recorder import Recorder
from mmflow.scheduler.scans import ScanSource
from mmflow.scheduler.scheduler import Scheduler, SchedulerOptions
from mmflow.scheduler.speculation import Patience
from mmflow.scheduler.stages import StageState
from mmflow.shards import FileEntry, Shard
from mmflow.sinks import SinkSpec

from .toy import (
    ROWS,
    FakeEngine,
    Faults,
    ToyFile,
    ToyRecord,
    World,
    boundaries,
    plan_of,
    read_exchange,
    scan,
    stage,
)

MIB = 1 << 20


def plain(records: int, path: str = "f") -> ToyFile:
    return ToyFile(path, tuple(ToyRecord(i, 4) for i in range(records)))


def scheduler_of(plan: Plan, world: World, options: SchedulerOptions | None = None) -> Scheduler:
    sources = {
        s.id: world.source(list(world.files), 4) for s in plan.stages if s.inputs and s.inputs[0].name == "t"
    }
    return Scheduler(
        plan, sources, boundaries=boundaries, options=options or SchedulerOptions(), run="r", now=0.0
    )


def numbers(tasks: list[Task]) -> list[tuple[int, int]]:
    return [(t.id.stage, t.id.number) for t in tasks]


# ---- how far ahead ----------------------------------------------------------------------------------


def test_a_petabyte_is_planned_as_it_is_read() -> None:
    """Eight million shards: no more of them are looked at than are in flight."""
    step, count, pulled = 128 << 20, 8_000_000, 0
    size = step * count

    def groups() -> Iterator[tuple[Shard, ...]]:
        nonlocal pulled
        for i in range(count):
            pulled += 1
            yield (Shard(0, i * step, (i + 1) * step, fresh=i == 0),)

    plan = plan_of(stage(0, [scan(["f"])], Result()))
    source = ScanSource([FileEntry("f", FileIdentity(0, 1, size, 0))], groups())
    scheduler = Scheduler(
        plan, {0: source}, boundaries=boundaries, options=SchedulerOptions(unread=10), run="r", now=0.0
    )
    for number in range(1000):
        for task in scheduler.tasks(4 - scheduler.running, 0.0):
            assert task.shards is not None
            (shard,) = task.shards.shards
            report = ScanReport(first=shard.begin, next=shard.end, records=1)
            scheduler.on_result(Done(task.id, 0, (None,), (report,)), 0.0)
        for released in scheduler.take_results():
            scheduler.consumed(released)
        assert pulled <= 4 * (number + 1) + 10
    assert scheduler.progress(0.0).stages[0].done == pulled == 4000
    assert scheduler.progress(1.0).bytes_done == 4000 * step


def test_unread_results_hold_tasks_back() -> None:
    world = World([plain(50)])
    scheduler = scheduler_of(plan_of(stage(0, [scan(["f"])], Result())), world, SchedulerOptions(unread=4))
    tasks = scheduler.tasks(100, 0.0)
    assert numbers(tasks) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    for task in tasks:
        scheduler.on_result(world.run(task), 0.0)
    assert scheduler.tasks(100, 0.0) == []
    results = scheduler.take_results()
    assert [r.number for r in results] == [0, 1, 2, 3]
    assert scheduler.tasks(100, 0.0) == [], "taken is not read"
    scheduler.consumed(results[0])
    assert scheduler.take_deletes() == [results[0].block]
    assert numbers(scheduler.tasks(100, 0.0)) == [(0, 4)]


def test_no_scan_runs_far_ahead_of_its_first_unfinished_task() -> None:
    world = World([plain(50)])
    plan = plan_of(
        stage(0, [scan(["f"])], Hash((0,), 2)), stage(1, [read_exchange("partition", 0)], Result())
    )
    scheduler = scheduler_of(plan, world, SchedulerOptions(ahead=5))
    first, *others = scheduler.tasks(100, 0.0)
    assert len(others) == 4
    for task in others:
        scheduler.on_result(world.run(task), 0.0)
    assert scheduler.tasks(100, 0.0) == []
    scheduler.on_result(world.run(first), 0.0)
    assert len(scheduler.tasks(100, 0.0)) == 5


@pytest.mark.parametrize(
    ("sizes", "target_bytes", "expected"),
    [
        ([1, 1, 1, 1], 8 * MIB, [range(4)]),
        ([1, 1, 1, 1], 0, [range(1), range(1, 2), range(2, 3), range(3, 4)]),
        ([MIB // 2, MIB // 2, 1, MIB], MIB, [range(2), range(2, 3), range(3, 4)]),
        ([0, 0, 9 * MIB, 0, 0], 2 * MIB, [range(2), range(2, 3), range(3, 5)]),
        ([4 * MIB] * 32, 64 * MIB, [range(n, n + 2) for n in range(0, 32, 2)]),  # for 16 tasks
        ([4 * MIB] * 32, 4 * MIB, [range(n, n + 1) for n in range(32)]),
        ([0, 0], 64 * MIB, [range(2)]),
    ],
)
def test_small_partitions_are_read_together(
    sizes: list[int], target_bytes: int, expected: list[range]
) -> None:
    """Sizes of both sides of a join count."""
    sides = []
    for number, part in enumerate((0, 1)):
        shares = [size // 2 + part * (size % 2) for size in sizes]
        output = stage(number, [scan(["f"])], Hash((0,), len(sizes)))
        side = StageState(output, Outputs(output, 1), complete=True)
        side.outputs.add([LocalBlock(n, 1, share) if share else None for n, share in enumerate(shares)])
        sides.append(side)
    assert join_partitions(sides, len(sizes), target_bytes) == expected


def test_a_union_reads_its_sides_one_after_the_other() -> None:
    """The second side may run ahead, but only so far as its blocks wait for the first."""
    world = World([plain(50)])
    plan = plan_of(
        stage(0, [scan(["f"])], Forward()),
        stage(1, [scan(["f"])], Forward()),
        stage(2, [read_exchange("forward", 0, 1)], Result()),
    )
    outcome = FakeEngine(world, 1, 4).new_scheduler(
        plan,
        {0: world.source(["f"], 4), 1: world.source(["f"], 4)},
        SchedulerOptions(ahead=3, unread=3),
        reading=1,
    )
    assert outcome.rows == [*range(50), *range(50)]
    assert outcome.most_unread <= 3


def test_rows_that_wait_to_be_read_are_bounded_by_bytes() -> None:
    """A task's block has 8 bytes here: from 16 on that nobody has read, no more are made."""
    world = World([plain(50)])
    options = SchedulerOptions(unread=99, unread_bytes=16)
    scheduler = scheduler_of(plan_of(stage(0, [scan(["f"])], Result())), world, options)
    (one,) = scheduler.tasks(1, 0.0)
    scheduler.on_result(world.run(one), 0.0)
    (two,) = scheduler.tasks(1, 0.0)
    scheduler.on_result(world.run(two), 0.0)
    assert scheduler.tasks(9, 0.0) == []
    first, second = scheduler.take_results()
    assert first.block is not None
    assert first.block.nbytes == 8
    scheduler.consumed(first)
    assert len(scheduler.tasks(1, 0.0)) == 1
    scheduler.consumed(second)


# ---- failures ---------------------------------------------------------------------------------------


def test_pauses_grow_and_attempts_end() -> None:
    world = World([plain(1)])
    options = SchedulerOptions(retries=3, pause=0.5, longest_pause=1.5)
    scheduler = scheduler_of(plan_of(stage(0, [scan(["f"])], Result())), world, options)
    now, waited = 10.0, []
    for attempt in range(4):
        (task,) = scheduler.tasks(1, now)
        assert task.attempt == attempt
        if attempt % 2:
            scheduler.on_result(WorkerLost(task.id, attempt, "killed"), now)
        else:
            scheduler.on_result(Failed(task.id, attempt, WorkerLostError("lost")), now)
        due = scheduler.next_due()
        if due is not None:
            assert scheduler.tasks(1, due - 0.01) == []
            waited.append(due - now)
            now = due
    assert waited == [0.5, 1.0, 1.5]
    assert isinstance(scheduler.error, EngineError)
    assert not scheduler.error.retryable
    assert "failed 4 times" in str(scheduler.error)
    assert scheduler.progress(now).retries == 3


def test_server_that_fails_for_ever_is_the_error_of_the_run() -> None:
    world = World([plain(1)])
    scheduler = scheduler_of(
        plan_of(stage(0, [scan(["f"])], Result())), world, SchedulerOptions(retries=1, pause=0.5)
    )
    for attempt in range(2):
        (task,) = scheduler.tasks(1, 10.0 * attempt)
        failed = SourceUnreachableError("can't read https://h/f: status 500", path="https://h/f")
        scheduler.on_result(Failed(task.id, attempt, failed), 10.0 * attempt)
    assert isinstance(scheduler.error, SourceUnreachableError)
    assert scheduler.error.context == {"path": "https://h/f"}
    assert str(scheduler.error).startswith("can't read https://h/f: status 500; task 0 of stage 0 ")
    assert str(scheduler.error).endswith(" failed 2 times")


def test_lost_attempt_that_reports_late_is_dropped() -> None:
    world = World([plain(1)])
    scheduler = scheduler_of(plan_of(stage(0, [scan(["f"])], Result())), world)
    (task,) = scheduler.tasks(1, 0.0)
    late = world.run(task)
    scheduler.on_result(WorkerLost(task.id, 0, "no answer"), 0.0)
    (again,) = scheduler.tasks(1, 100.0)
    assert again.attempt == 1
    scheduler.on_result(late, 100.0)
    assert isinstance(late, Done)
    assert scheduler.take_deletes() == [late.outputs[0]]
    good = world.run(again)
    scheduler.on_result(good, 100.0)
    scheduler.on_result(good, 100.0)
    assert isinstance(good, Done)
    (released,) = scheduler.take_results()
    assert released.block == good.outputs[0]
    assert scheduler.take_deletes() == [good.outputs[0]], "the engine reported it twice: a second block"


def slow_one() -> tuple[World, Scheduler, Task, Task]:
    """Two tasks, of which the second goes on and on until it gets a second attempt."""
    world = World([plain(2)])
    scheduler = scheduler_of(plan_of(stage(0, [scan(["f"])], Result())), world)
    one, hung = scheduler.tasks(9, 0.0)
    scheduler.on_result(world.run(one), 3.0)
    assert scheduler.tasks(9, 11.9, idle=1) == [], "four times the three seconds of the other have not passed"
    assert scheduler.tasks(9, 12.1, idle=0) == [], "no core to spare"
    (again,) = scheduler.tasks(9, 12.1, idle=1)
    assert (again.id, again.attempt) == (hung.id, 1)
    assert scheduler.tasks(9, 99.0, idle=1) == [], "two attempts at once at most"
    return world, scheduler, hung, again


@pytest.mark.parametrize("first", [True, False])
def test_a_slow_task_gets_a_second_attempt_and_one_of_them_counts(first: bool) -> None:
    world, scheduler, hung, again = slow_one()
    winner, loser = (hung, again) if first else (again, hung)
    good, late = world.run(winner), world.run(loser)
    assert isinstance(good, Done)
    assert isinstance(late, Done)
    scheduler.on_result(good, 13.0)
    assert scheduler.take_cancels() == [(loser.id, loser.attempt)]
    scheduler.on_result(late, 14.0)
    assert scheduler.take_deletes() == [late.outputs[0]]
    assert [r.block for r in scheduler.take_results()][1] == good.outputs[0]
    assert scheduler.progress(14.0).stragglers == 1
    assert scheduler.finished


# ---- tasks that stop early --------------------------------------------------------------------------

PATIENCE = Patience(slow_seconds=10, grace=5, part_bytes=4)


def asked_one(
    file: ToyFile | None = None, output: Output | None = None, asked: bool = True
) -> tuple[World, Scheduler, Task]:
    """One task over ten records of four bytes, which takes long while three workers are idle."""
    world = World([file or plain(10)])
    plan = plan_of(stage(0, [scan(["f"])], output or Result()))
    options = SchedulerOptions(patience=PATIENCE)
    scheduler = Scheduler(
        plan, {0: world.source(["f"], 40)}, boundaries=boundaries, options=options, run="r", now=0.0
    )
    (slow,) = scheduler.tasks(9, 0.0, idle=4)
    assert scheduler.tasks(9, 9.9, idle=3) == []
    assert scheduler.take_stop_requests() == []
    assert scheduler.tasks(9, 10.1, idle=3) == []
    assert scheduler.take_stop_requests() == ([(slow.id, 0)] if asked else [])
    assert scheduler.tasks(9, 12.0, idle=3) == []
    assert scheduler.take_stop_requests() == [], "once"
    return world, scheduler, slow


def read_by(tasks: list[Task]) -> list[tuple[tuple[int, ...], int, int, int | None]]:
    """Part, begin, end and start of each task's shard."""
    found = [(t.id.part, t.shards.shards[0]) for t in tasks if t.shards]
    return [(part, shard.begin, shard.end, shard.known_start) for part, shard in found]


def test_what_a_slow_task_did_not_read_goes_to_idle_workers() -> None:
    world, scheduler, slow = asked_one()
    scheduler.on_result(world.run(slow, most=2), 13.0)
    (first,) = scheduler.take_results()
    assert world.blocks[first.block] == [0, 1] if first.block else False
    parts = scheduler.tasks(9, 13.0, idle=4)
    assert read_by(parts) == [
        ((1,), 8, 16, 8),
        ((2,), 16, 24, None),
        ((3,), 24, 32, None),
        ((4,), 32, 40, None),
    ]
    for task in reversed(parts):
        assert scheduler.take_results() == []
        scheduler.on_result(world.run(task), 14.0)
    rows = [world.blocks[r.block] for r in scheduler.take_results() if r.block]
    assert rows == [[2, 3], [4, 5], [6, 7], [8, 9]]
    progress = scheduler.progress(14.0)
    assert (progress.stragglers, progress.retries, progress.reruns, progress.records) == (1, 0, 0, 10)
    assert progress.bytes_done == progress.bytes_total
    assert (progress.stages[0].done, progress.stages[0].total) == (5, 5)
    assert scheduler.tasks(9, 14.0, idle=4) == []
    assert progress.stages[0].complete


def test_a_part_stops_early_too_and_its_remainder_keeps_its_place() -> None:
    world, scheduler, slow = asked_one()
    scheduler.on_result(world.run(slow, most=2), 13.0)
    _, second, *others = scheduler.tasks(9, 13.0, idle=4)
    for task in others:
        scheduler.on_result(world.run(task), 13.0)
    assert scheduler.tasks(9, 24.0, idle=2) == []
    assert len(scheduler.take_stop_requests()) == 2
    scheduler.on_result(world.run(second, most=1), 25.0)
    (resume_offset,) = scheduler.tasks(9, 25.0, idle=3)
    assert read_by([resume_offset]) == [((2, 1), 20, 24, 20)], "less than twice part_bytes is not cut"
    assert second.id < resume_offset.id < others[0].id


def test_a_task_that_does_not_stop_gets_a_second_attempt() -> None:
    world = World([plain(20)])
    options = SchedulerOptions(patience=PATIENCE)
    plan = plan_of(stage(0, [scan(["f"])], Result()))
    scheduler = Scheduler(
        plan, {0: world.source(["f"], 40)}, boundaries=boundaries, options=options, run="r", now=0.0
    )
    hung, other = scheduler.tasks(9, 0.0)
    scheduler.on_result(world.run(other), 1.0)
    assert scheduler.tasks(9, 11.0, idle=1) == []
    assert scheduler.take_stop_requests() == [(hung.id, 0)]
    assert scheduler.tasks(9, 15.9, idle=1) == []
    (again,) = scheduler.tasks(9, 16.1, idle=1)
    assert (again.id, again.attempt, again.shards) == (hung.id, 1, hung.shards)
    late = world.run(again)
    scheduler.on_result(world.run(hung, most=9), 17.0)
    assert scheduler.take_cancels() == [(hung.id, 1)], "what comes late counts: it is work done"
    scheduler.on_result(late, 17.0)
    assert isinstance(late, Done)
    assert scheduler.take_deletes() == [late.outputs[0]]
    (resume_offset,) = scheduler.tasks(9, 17.0, idle=1)
    assert read_by([resume_offset]) == [((1,), 36, 40, 36)]
    scheduler.on_result(world.run(resume_offset), 17.0)
    rows = [row for r in scheduler.take_results() if r.block for row in world.blocks[r.block]]
    assert rows == list(range(20))
    assert scheduler.progress(17.0).stragglers == 2


def test_what_comes_after_a_speculative_attempt_has_ended_is_dropped() -> None:
    world, scheduler, hung, again = slow_one()
    scheduler.on_result(world.run(again), 13.0)
    late = world.run(hung)
    assert isinstance(late, Done)
    scheduler.on_result(replace(late, resume_offset=6), 14.0)
    assert scheduler.take_deletes() == [late.outputs[0]]
    assert len(scheduler.take_results()) == 2
    assert scheduler.finished


def test_the_rest_behind_a_wrong_guess_is_read_again() -> None:
    """The second shard begins inside a record, and its task stops before that is known."""
    world = World([ToyFile("f", (ToyRecord(1, 22, (20,)), *(ToyRecord(i, 4) for i in range(2, 8))))])
    plan = plan_of(stage(0, [scan(["f"])], Result()))
    options = SchedulerOptions(patience=PATIENCE)
    scheduler = Scheduler(
        plan, {0: world.source(["f"], 20)}, boundaries=boundaries, options=options, run="r", now=0.0
    )
    first, wrong, last = scheduler.tasks(9, 0.0)
    scheduler.on_result(world.run(last), 1.0)
    assert scheduler.tasks(9, 11.0, idle=2) == []
    assert scheduler.take_stop_requests() == [(first.id, 0), (wrong.id, 0)]
    scheduler.on_result(world.run(wrong, most=1), 12.0)
    parts = scheduler.tasks(9, 12.0, idle=3)
    assert parts[0].shards is not None
    assert parts[0].shards.shards[0].known_start == 21
    scheduler.on_result(world.run(first), 13.0)
    tasks = parts
    while tasks:
        for task in tasks:
            scheduler.on_result(world.run(task), 13.0)
        tasks = scheduler.tasks(9, 13.0)
    rows = [row for r in scheduler.take_results() if r.block for row in world.blocks[r.block]]
    assert rows == list(range(1, 8))
    assert scheduler.progress(13.0).reruns >= 2


class Kept:
    """Part of a `Recorder` that the scheduler calls, over the lines of a real journal."""

    def __init__(self, opening: int = 0, lines: Sequence[str] = ()) -> None:
        self.first_attempt = 100 * opening
        self.lines = list(lines)
        self.asked: list[str] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._replay = Replay.of(lines)

    def find_finished(self, stage: str, key: str) -> Done | None:
        self.asked.append(key)
        found = self._replay.finished_task(key)
        return None if found is None else found.done

    def checkpoint_path(self, stage: str, key: str) -> str:
        return f"blocks/{key}"

    def has_checkpoint(self, done: Done) -> bool:
        return True

    def record_finished(self, stage: str, key: str, done: Done) -> None:
        self.lines.append(task_line(stage, key, done))

    def record_consumed(self, stage: str) -> None:
        self.lines = [line for line in self.lines if stage not in str(line)]

    def event(self, event: str, **facts: Any) -> None:
        self.events.append((event, facts))


def recorded(world: World, plan: Plan, record: Kept | None = None) -> tuple[Scheduler, Kept]:
    record = record or Kept()
    scheduler = Scheduler(
        plan, {0: world.source(["f"], 40)}, boundaries=boundaries, options=SchedulerOptions(patience=PATIENCE), run="r",
        now=0.0, record=cast(Recorder, record),
    )  # fmt: skip
    return scheduler, record


def kept(world: World, task: Task, most: int | None = None) -> Done:
    """Run a task, which writes a checkpoint."""
    done = cast(Done, world.run(task, most))
    made: list[CheckpointBlock | None] = []
    for ref in done.outputs:
        if ref is None:
            made.append(None)
            continue
        block = CheckpointBlock(
            f"{task.checkpoint_path}-a{task.attempt}.blocks", 0, 9, 0, ref.rows, ref.nbytes
        )
        world.blocks[block] = world.blocks[ref]
        made.append(block)
    return replace(done, checkpoint=Checkpoint(tuple(made), None, None))


def rows_of(world: World, scheduler: Scheduler) -> list[int]:
    return [row for r in scheduler.take_results() if r.block for row in world.blocks[r.block]]


def test_a_resumed_run_finds_what_stopped_early_and_the_tasks_that_read_the_rest() -> None:
    world = World([plain(20)])
    plan = plan_of(stage(0, [scan(["f"])], Result()))
    scheduler, record = recorded(world, plan)
    slow, other = scheduler.tasks(9, 0.0)
    assert slow.stops_on_drain is True, "its checkpoint outlives its worker"
    scheduler.on_result(kept(world, other), 1.0)
    done = kept(world, slow, most=2)  # though nobody asked: its worker leaves
    scheduler.on_result(done, 2.0)
    assert scheduler.take_deletes() == [done.outputs[0]], "the checkpoint is read in its place"
    assert rows_of(world, scheduler) == [0, 1]
    (first,) = scheduler.tasks(9, 2.0, idle=1)
    assert read_by([first]) == [((1,), 8, 40, 8)]
    scheduler.on_result(kept(world, first, most=3), 3.0)  # its worker leaves, too
    assert rows_of(world, scheduler) == [2, 3, 4]
    (second,) = scheduler.tasks(9, 3.0, idle=1)
    assert len(record.lines) == 2, "the other task comes behind the rest"

    resumed, again = recorded(world, plan, Kept(1, record.lines))
    (rest, after) = resumed.tasks(9, 0.0)
    assert rest.id == second.id == TaskId(0, 0, (1, 1))
    assert read_by([rest]) == read_by([second]) == [((1, 1), 20, 40, 20)]
    assert rest.checkpoint_path == second.checkpoint_path
    assert rest.attempt == after.attempt == 100, "greater than those of the driver before"
    assert after.id == other.id
    for task in (after, rest):
        resumed.on_result(kept(world, task), 1.0)
    assert rows_of(world, resumed) == list(range(20))
    assert resumed.finished is True
    assert resumed.progress(1.0).restored == 2
    assert len(again.lines) == 4

    whole, _ = recorded(world, plan, Kept(2, again.lines))
    assert whole.tasks(9, 0.0) == []
    assert rows_of(world, whole) == list(range(20))
    assert whole.progress(1.0).bytes_done == whole.progress(1.0).bytes_total


@pytest.mark.parametrize(
    "remainder", [((0, 40),), ((8, 36),), ((8, 20), (24, 40)), ((8, 44), (44, 40)), ((8, 40), (40, 80))]
)
def test_a_remainder_that_does_not_fit_its_shard_is_not_believed(
    remainder: tuple[tuple[int, int], ...],
) -> None:
    world = World([plain(20)])
    plan = plan_of(stage(0, [scan(["f"])], Result()))
    scheduler, record = recorded(world, plan)
    slow, _ = scheduler.tasks(9, 0.0)
    record.record_finished("s", record.asked[0], replace(kept(world, slow, most=2), remainder=remainder))
    resumed, _ = recorded(world, plan, Kept(1, record.lines))
    assert read_by(resumed.tasks(9, 0.0)) == [((), 0, 40, None), ((), 40, 80, None)]


def test_a_resumed_run_reads_other_partitions_together_and_takes_no_task_for_another() -> None:
    """What was made of one partition is not what is made of all four."""
    world = World([plain(20)])
    plan = plan_of(
        stage(0, [scan(["f"])], Hash((0,), 4, 1 << 20)),
        stage(1, [read_exchange("partition", 0)], Forward()),
        stage(2, [read_exchange("forward", 1)], Result()),
    )

    def run(record: Kept) -> tuple[Kept, list[int]]:
        scheduler, record = recorded(world, plan, record)
        rows: list[int] = []
        while not scheduler.finished:
            for task in scheduler.tasks(9, 0.0):
                scheduler.on_result(kept(world, task), 0.0)
            rows += rows_of(world, scheduler)
        return record, rows

    world.row_bytes = 1 << 20
    first, rows = run(Kept())
    assert len(first.lines) == 4, "those of the last stage"
    assert sorted(rows) == list(range(20))
    world.row_bytes = 1
    again, rows = run(Kept(1, first.lines))
    assert len(again.lines) == 4 + 1
    assert sorted(rows) == list(range(20))


def test_a_task_whose_blocks_go_with_its_worker_does_not_stop_for_that() -> None:
    world = World([plain(20)])
    plan = plan_of(stage(0, [scan(["f"])], Result()))
    assert not any(task.stops_on_drain for task in scheduler_of(plan, world).tasks(9, 0.0))
    sink = SinkSpec("out", "csv")
    options = SchedulerOptions(patience=PATIENCE)
    plan = plan_of(stage(0, [scan(["f"])], Write(sink)))
    writing = Scheduler(
        plan, {0: world.source(["f"], 40)}, boundaries=boundaries, options=options, run="r", now=0.0
    )
    assert all(task.stops_on_drain for task in writing.tasks(9, 0.0)), (
        "its files are staged where all see them"
    )


@pytest.mark.parametrize(
    ("output", "mode", "asked"),
    [
        (Hash((0,), 2), "partition", True),
        (Broadcast(), "all", True),
        (Hash((), 2), "partition", False),
        (Forward(), "forward", False),
    ],
)
def test_readers_that_a_journal_knows_by_number_read_whole_shards(
    output: Output, mode: str, asked: bool
) -> None:
    """Otherwise reader 1 would be that of a part in one scheduler, and of another shard in the next."""
    world = World([plain(20)])
    plan = plan_of(stage(0, [scan(["f"])], output), stage(1, [read_exchange(mode, 0)], Result()))
    scheduler, _ = recorded(world, plan)
    slow, _ = scheduler.tasks(9, 0.0)
    assert scheduler.tasks(0, 11.0, idle=1) == []
    assert scheduler.take_stop_requests() == ([(slow.id, 0)] if asked else [])


def test_what_may_not_be_cut_is_not_asked() -> None:
    sink = SinkSpec("out.csv", "csv")
    asked_one(output=Write(sink), asked=False)
    asked_one(output=Write(replace(sink, path="out")))
    asked_one(plain(1), asked=False)
    world = World([plain(2, "a"), plain(2, "b")])
    whole = SqlStep("", (), ROWS, streaming=False)
    for given in (
        stage(0, [scan(["a", "b"])], Forward()),  # one task for both files
        stage(0, [scan(["a"])], Forward(), limit=9),
        stage(0, [scan(["a"], ("_line",))], Forward()),
        replace(stage(0, [scan(["a"])], Forward()), steps=(whole,)),
    ):
        plan = plan_of(given, stage(1, [read_exchange("forward", 0)], Result()))
        options = SchedulerOptions(patience=replace(PATIENCE, part_bytes=1))
        files = given.inputs[0].source.files if isinstance(given.inputs[0], ScanInput) else ()
        scheduler = Scheduler(
            plan, {0: world.source(files, 40)}, boundaries=boundaries, options=options, run="r", now=0.0
        )
        tasks = scheduler.tasks(9, 0.0)
        while tasks[0].id.stage != 0:  # the line-count pre-pass of `_line`
            scheduler.on_result(world.run(tasks[0]), 0.0)
            tasks = scheduler.tasks(9, 0.0)
        assert scheduler.tasks(9, 99.0, idle=9) == []
        assert scheduler.take_stop_requests() == []


def test_an_attempt_that_is_lost_while_another_runs_is_not_made_again() -> None:
    world, scheduler, hung, again = slow_one()
    scheduler.on_result(WorkerLost(hung.id, 0, "killed"), 13.0)
    assert scheduler.next_due() is None
    assert scheduler.tasks(9, 20.0) == []
    scheduler.on_result(world.run(again), 21.0)
    assert len(scheduler.take_results()) == 2
    assert scheduler.finished
    assert scheduler.progress(21.0).retries == 1


def test_first_failure_of_a_scan_in_order_is_the_error() -> None:
    world = World([plain(3)])
    scheduler = scheduler_of(plan_of(stage(0, [scan(["f"])], Result())), world)
    one, two, three = scheduler.tasks(3, 0.0)
    scheduler.on_result(Failed(three.id, 0, PlanError("third")), 0.0)
    scheduler.on_result(Failed(two.id, 0, PlanError("second")), 0.0)
    assert scheduler.error is None
    scheduler.on_result(world.run(one), 0.0)
    assert scheduler.error is None, "where the second begins was a guess: it is run again, for certain"
    (again,) = scheduler.tasks(3, 0.0)
    assert (again.id, again.attempt) == (two.id, 1)
    assert again.shards is not None
    assert again.shards.shards[0].known_start == 4
    scheduler.on_result(Failed(two.id, 1, PlanError("second")), 0.0)
    assert str(scheduler.error) == "second"
    assert not scheduler.finished


def test_failure_behind_an_exchange_ends_the_run_at_once() -> None:
    world = World([plain(2)])
    plan = plan_of(
        stage(0, [scan(["f"])], Hash((0,), 2)), stage(1, [read_exchange("partition", 0)], Result())
    )
    scheduler = scheduler_of(plan, world)
    for task in scheduler.tasks(9, 0.0):
        scheduler.on_result(world.run(task), 0.0)
    _, second = scheduler.tasks(9, 0.0)
    scheduler.on_result(Failed(second.id, 0, UserFunctionError("oops")), 0.0)
    assert isinstance(scheduler.error, UserFunctionError)
    assert scheduler.take_cancels() == [(TaskId(1, 0), 0)]
    for ref in scheduler.take_deletes():
        world.delete(ref)
    assert world.blocks == {}


def test_wrong_guess_is_read_again_from_the_right_place() -> None:
    # Newlines inside the long record: a guess at byte 8 finds one at 9.
    file = ToyFile("f", (ToyRecord(1, 14, (2, 8)), ToyRecord(2, 4), ToyRecord(3, 6)))
    world = World([file])
    outcome = FakeEngine(world, 0, 4).new_scheduler(
        plan_of(stage(0, [scan(["f"])], Result())), {0: world.source(["f"], 8)}
    )
    assert outcome.rows == [1, 2, 3]
    assert world.runs.count(TaskId(0, 1)) == 2


# ---- early ends -------------------------------------------------------------------------------------


def test_limit_cancels_what_runs_and_starts_no_more() -> None:
    world = World([plain(50)])
    plan = plan_of(
        stage(0, [scan(["f"])], Broadcast(), limit=2), stage(1, [read_exchange("all", 0)], Result())
    )
    scheduler = scheduler_of(plan, world)
    tasks = scheduler.tasks(4, 0.0)
    scheduler.on_result(world.run(tasks[0]), 0.0)
    scheduler.on_result(world.run(tasks[1]), 0.0)
    assert scheduler.take_cancels() == [(t.id, 0) for t in tasks[2:]]
    assert numbers(scheduler.tasks(4, 0.0)) == [(1, 0)]
    scheduler.on_result(world.run(tasks[2]), 0.0)
    assert len(scheduler.take_deletes()) == 1, "a result that came too late"


def test_an_early_end_ends_what_only_it_reads() -> None:
    world = World([plain(50)])
    plan = plan_of(
        stage(0, [scan(["f"])], Forward()),
        stage(1, [read_exchange("forward", 0)], Broadcast(), limit=3),
        stage(2, [read_exchange("all", 1)], Result()),
    )
    outcome = FakeEngine(world, 3, 2).new_scheduler(plan, {0: world.source(["f"], 4)})
    assert outcome.rows[:3] == [0, 1, 2]
    assert sum(t.stage == 0 for t in world.runs) < 20
    assert world.blocks == {}


def test_line_count_pre_pass_keeps_close_to_its_scan() -> None:
    world = World([plain(200)])
    plan = plan_of(
        stage(0, [scan(["f"], ("_line",))], Broadcast(), limit=3),
        stage(1, [read_exchange("all", 0)], Result()),
    )
    outcome = FakeEngine(world, 3, 2).new_scheduler(
        plan, {0: world.source(["f"], 4)}, SchedulerOptions(ahead=4)
    )
    assert outcome.rows[:3] == [1, 2, 3]
    assert sum(t.stage == 2 for t in world.runs) < 20


def test_scan_of_nothing_has_one_task() -> None:
    for files in ([plain(0)], [plain(0, "a"), plain(0, "b")]):
        world = World(files)
        paths = [f.path for f in files]
        outcome = FakeEngine(world).new_scheduler(
            plan_of(stage(0, [scan(paths)], Result())), {0: world.source(paths)}
        )
        assert outcome.by_task == [(0, [])]


# ---- blocks -----------------------------------------------------------------------------------------


def test_blocks_go_as_soon_as_their_reader_is_done() -> None:
    world = World([plain(40)])
    plan = plan_of(
        stage(0, [scan(["f"])], Hash((0,), 4)), stage(1, [read_exchange("partition", 0)], Result())
    )
    scheduler = scheduler_of(plan, world)
    while tasks := scheduler.tasks(1, 0.0):
        if tasks[0].id.stage == 1:
            break
        scheduler.on_result(world.run(tasks[0]), 0.0)
    assert len(world.blocks) == 40
    (task,) = tasks
    scheduler.on_result(world.run(task), 0.0)
    assert sorted(scheduler.take_deletes()) == sorted(task.blocks["x"])


def test_two_readers_of_one_stage() -> None:
    world = World([plain(20)])
    plan = plan_of(
        stage(0, [scan(["f"])], Forward()),
        stage(1, [read_exchange("forward", 0)], Broadcast()),
        stage(2, [read_exchange("forward", 0), read_exchange("all", 1, name="side")], Result()),
    )
    for seed in range(20):
        outcome = FakeEngine(world, seed, 3, Faults(lost=0.2, late=0.5)).new_scheduler(
            plan, {0: world.source(["f"], 4)}
        )
        assert outcome.rows == [i + sum(range(20)) for i in range(20)]
        assert world.blocks == {}


def test_progress_adds_up() -> None:
    files = [plain(10, "a"), plain(0, "b"), plain(7, "c")]
    world = World(files)
    engine = FakeEngine(world, 5, 3, Faults(lost=0.3))
    paths = [f.path for f in files]
    engine.new_scheduler(plan_of(stage(0, [scan(paths)], Result())), {0: world.source(paths, 8)})
    assert engine.scheduler is not None
    progress = engine.scheduler.progress(engine.now)
    assert (progress.records, progress.rows) == (17, 17)
    assert progress.bytes_done == progress.bytes_total == 68
    assert progress.stages[0].complete
    assert progress.stages[0].total == progress.stages[0].done
    assert progress.retries > 0
    assert progress.elapsed == engine.now
    assert list(itertools.islice(engine.scheduler.tasks(9, engine.now), 1)) == []

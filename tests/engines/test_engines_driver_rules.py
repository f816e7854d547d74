"""The driver's promises one by one: laziness, back-pressure, pauses, early ends, blocks let go in time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from mmflow.engines.driver import Driver, DriverOptions
from mmflow.engines.scans import ScanSource
from mmflow.errors import EngineError, PlanError, UserFunctionError, WorkerLostError
from mmflow.exec.stage import Broadcast, Forward, Hash, Plan, Result
from mmflow.exec.task import Done, Failed, Task, TaskId, WorkerLost
from mmflow.formats import ScanReport
from mmflow.mapping import FileIdentity
from mmflow.shards import FileEntry, Shard

from .toy import (
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


def plain(records: int, path: str = "f") -> ToyFile:
    return ToyFile(path, tuple(ToyRecord(i, 4) for i in range(records)))


def driver_of(plan: Plan, world: World, options: DriverOptions | None = None) -> Driver:
    sources = {
        s.id: world.source(list(world.files), 4) for s in plan.stages if s.inputs and s.inputs[0].name == "t"
    }
    return Driver(plan, sources, boundaries=boundaries, options=options or DriverOptions(), run="r", now=0.0)


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
    driver = Driver(
        plan, {0: source}, boundaries=boundaries, options=DriverOptions(unread=10), run="r", now=0.0
    )
    for number in range(1000):
        for task in driver.tasks(4 - driver.running, 0.0):
            assert task.shards is not None
            (shard,) = task.shards.shards
            report = ScanReport(first=shard.begin, next=shard.end, records=1)
            driver.on_result(Done(task.id, 0, (None,), (report,)), 0.0)
        for released in driver.take_results():
            driver.consumed(released)
        assert pulled <= 4 * (number + 1) + 10
    assert driver.progress(0.0).stages[0].done == pulled == 4000
    assert driver.progress(1.0).bytes_done == 4000 * step


def test_unread_results_hold_tasks_back() -> None:
    world = World([plain(50)])
    driver = driver_of(plan_of(stage(0, [scan(["f"])], Result())), world, DriverOptions(unread=4))
    tasks = driver.tasks(100, 0.0)
    assert numbers(tasks) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    for task in tasks:
        driver.on_result(world.run(task), 0.0)
    assert driver.tasks(100, 0.0) == []
    results = driver.take_results()
    assert [r.number for r in results] == [0, 1, 2, 3]
    assert driver.tasks(100, 0.0) == [], "taken is not read"
    driver.consumed(results[0])
    assert driver.take_deletes() == [results[0].block]
    assert numbers(driver.tasks(100, 0.0)) == [(0, 4)]


def test_no_scan_runs_far_ahead_of_its_first_unfinished_task() -> None:
    world = World([plain(50)])
    plan = plan_of(
        stage(0, [scan(["f"])], Hash((0,), 2)), stage(1, [read_exchange("partition", 0)], Result())
    )
    driver = driver_of(plan, world, DriverOptions(ahead=5))
    first, *others = driver.tasks(100, 0.0)
    assert len(others) == 4
    for task in others:
        driver.on_result(world.run(task), 0.0)
    assert driver.tasks(100, 0.0) == []
    driver.on_result(world.run(first), 0.0)
    assert len(driver.tasks(100, 0.0)) == 5


def test_a_union_reads_its_sides_one_after_the_other() -> None:
    """The second side may run ahead, but only so far as its blocks wait for the first."""
    world = World([plain(50)])
    plan = plan_of(
        stage(0, [scan(["f"])], Forward()),
        stage(1, [scan(["f"])], Forward()),
        stage(2, [read_exchange("forward", 0, 1)], Result()),
    )
    outcome = FakeEngine(world, 1, 4).drive(
        plan,
        {0: world.source(["f"], 4), 1: world.source(["f"], 4)},
        DriverOptions(ahead=3, unread=3),
        reading=1,
    )
    assert outcome.rows == [*range(50), *range(50)]
    assert outcome.most_unread <= 3


def test_rows_that_wait_to_be_read_are_bounded_by_bytes() -> None:
    """A task's block has 8 bytes here: from 16 on that nobody has read, no more are made."""
    world = World([plain(50)])
    options = DriverOptions(unread=99, unread_bytes=16)
    driver = driver_of(plan_of(stage(0, [scan(["f"])], Result())), world, options)
    (one,) = driver.tasks(1, 0.0)
    driver.on_result(world.run(one), 0.0)
    (two,) = driver.tasks(1, 0.0)
    driver.on_result(world.run(two), 0.0)
    assert driver.tasks(9, 0.0) == []
    first, second = driver.take_results()
    assert first.block is not None
    assert first.block.nbytes == 8
    driver.consumed(first)
    assert len(driver.tasks(1, 0.0)) == 1
    driver.consumed(second)


# ---- failures ---------------------------------------------------------------------------------------


def test_pauses_grow_and_attempts_end() -> None:
    world = World([plain(1)])
    options = DriverOptions(retries=3, pause=0.5, longest_pause=1.5)
    driver = driver_of(plan_of(stage(0, [scan(["f"])], Result())), world, options)
    now, waited = 10.0, []
    for attempt in range(4):
        (task,) = driver.tasks(1, now)
        assert task.attempt == attempt
        if attempt % 2:
            driver.on_result(WorkerLost(task.id, attempt, "killed"), now)
        else:
            driver.on_result(Failed(task.id, attempt, WorkerLostError("lost")), now)
        due = driver.next_due()
        if due is not None:
            assert driver.tasks(1, due - 0.01) == []
            waited.append(due - now)
            now = due
    assert waited == [0.5, 1.0, 1.5]
    assert isinstance(driver.error, EngineError)
    assert not driver.error.retryable
    assert "failed 4 times" in str(driver.error)
    assert driver.progress(now).retries == 3


def test_lost_attempt_that_reports_late_is_dropped() -> None:
    world = World([plain(1)])
    driver = driver_of(plan_of(stage(0, [scan(["f"])], Result())), world)
    (task,) = driver.tasks(1, 0.0)
    late = world.run(task)
    driver.on_result(WorkerLost(task.id, 0, "no answer"), 0.0)
    (again,) = driver.tasks(1, 100.0)
    assert again.attempt == 1
    driver.on_result(late, 100.0)
    assert isinstance(late, Done)
    assert driver.take_deletes() == [late.outputs[0]]
    good = world.run(again)
    driver.on_result(good, 100.0)
    driver.on_result(good, 100.0)
    assert isinstance(good, Done)
    (released,) = driver.take_results()
    assert released.block == good.outputs[0]
    assert driver.take_deletes() == [good.outputs[0]], "the engine reported it twice: a second block"


def slow_one() -> tuple[World, Driver, Task, Task]:
    """Two tasks, of which the second goes on and on until it gets a second attempt."""
    world = World([plain(2)])
    driver = driver_of(plan_of(stage(0, [scan(["f"])], Result())), world)
    one, hung = driver.tasks(9, 0.0)
    driver.on_result(world.run(one), 3.0)
    assert driver.tasks(9, 11.9, idle=1) == [], "four times the three seconds of the other have not passed"
    assert driver.tasks(9, 12.1, idle=0) == [], "no core to spare"
    (again,) = driver.tasks(9, 12.1, idle=1)
    assert (again.id, again.attempt) == (hung.id, 1)
    assert driver.tasks(9, 99.0, idle=1) == [], "two attempts at once at most"
    return world, driver, hung, again


@pytest.mark.parametrize("first", [True, False])
def test_a_slow_task_gets_a_second_attempt_and_one_of_them_counts(first: bool) -> None:
    world, driver, hung, again = slow_one()
    winner, loser = (hung, again) if first else (again, hung)
    good, late = world.run(winner), world.run(loser)
    assert isinstance(good, Done)
    assert isinstance(late, Done)
    driver.on_result(good, 13.0)
    assert driver.take_cancels() == [(loser.id, loser.attempt)]
    driver.on_result(late, 14.0)
    assert driver.take_deletes() == [late.outputs[0]]
    assert [r.block for r in driver.take_results()][1] == good.outputs[0]
    assert driver.progress(14.0).second == 1
    assert driver.finished


def test_an_attempt_that_is_lost_while_another_runs_is_not_made_again() -> None:
    world, driver, hung, again = slow_one()
    driver.on_result(WorkerLost(hung.id, 0, "killed"), 13.0)
    assert driver.next_due() is None
    assert driver.tasks(9, 20.0) == []
    driver.on_result(world.run(again), 21.0)
    assert len(driver.take_results()) == 2
    assert driver.finished
    assert driver.progress(21.0).retries == 1


def test_first_failure_of_a_scan_in_order_is_the_error() -> None:
    world = World([plain(3)])
    driver = driver_of(plan_of(stage(0, [scan(["f"])], Result())), world)
    one, two, three = driver.tasks(3, 0.0)
    driver.on_result(Failed(three.id, 0, PlanError("third")), 0.0)
    driver.on_result(Failed(two.id, 0, PlanError("second")), 0.0)
    assert driver.error is None
    driver.on_result(world.run(one), 0.0)
    assert driver.error is None, "where the second begins was a guess: it is run again, for certain"
    (again,) = driver.tasks(3, 0.0)
    assert (again.id, again.attempt) == (two.id, 1)
    assert again.shards is not None
    assert again.shards.starts == (4,)
    driver.on_result(Failed(two.id, 1, PlanError("second")), 0.0)
    assert str(driver.error) == "second"
    assert not driver.finished


def test_failure_behind_an_exchange_ends_the_run_at_once() -> None:
    world = World([plain(2)])
    plan = plan_of(
        stage(0, [scan(["f"])], Hash((0,), 2)), stage(1, [read_exchange("partition", 0)], Result())
    )
    driver = driver_of(plan, world)
    for task in driver.tasks(9, 0.0):
        driver.on_result(world.run(task), 0.0)
    _, second = driver.tasks(9, 0.0)
    driver.on_result(Failed(second.id, 0, UserFunctionError("oops")), 0.0)
    assert isinstance(driver.error, UserFunctionError)
    assert driver.take_cancels() == [(TaskId(1, 0), 0)]
    for ref in driver.take_deletes():
        world.delete(ref)
    assert world.blocks == {}


def test_wrong_guess_is_read_again_from_the_right_place() -> None:
    # Newlines inside the long record: a guess at byte 8 finds one at 9.
    file = ToyFile("f", (ToyRecord(1, 14, (2, 8)), ToyRecord(2, 4), ToyRecord(3, 6)))
    world = World([file])
    outcome = FakeEngine(world, 0, 4).drive(
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
    driver = driver_of(plan, world)
    tasks = driver.tasks(4, 0.0)
    driver.on_result(world.run(tasks[0]), 0.0)
    driver.on_result(world.run(tasks[1]), 0.0)
    assert driver.take_cancels() == [(t.id, 0) for t in tasks[2:]]
    assert numbers(driver.tasks(4, 0.0)) == [(1, 0)]
    driver.on_result(world.run(tasks[2]), 0.0)
    assert len(driver.take_deletes()) == 1, "a result that came too late"


def test_an_early_end_ends_what_only_it_reads() -> None:
    world = World([plain(50)])
    plan = plan_of(
        stage(0, [scan(["f"])], Forward()),
        stage(1, [read_exchange("forward", 0)], Broadcast(), limit=3),
        stage(2, [read_exchange("all", 1)], Result()),
    )
    outcome = FakeEngine(world, 3, 2).drive(plan, {0: world.source(["f"], 4)})
    assert outcome.rows[:3] == [0, 1, 2]
    assert sum(t.stage == 0 for t in world.runs) < 20
    assert world.blocks == {}


def test_census_keeps_close_to_its_scan() -> None:
    world = World([plain(200)])
    plan = plan_of(
        stage(0, [scan(["f"], ("_line",))], Broadcast(), limit=3),
        stage(1, [read_exchange("all", 0)], Result()),
    )
    outcome = FakeEngine(world, 3, 2).drive(plan, {0: world.source(["f"], 4)}, DriverOptions(ahead=4))
    assert outcome.rows[:3] == [1, 2, 3]
    assert sum(t.stage == 2 for t in world.runs) < 20


def test_scan_of_nothing_has_one_task() -> None:
    for files in ([plain(0)], [plain(0, "a"), plain(0, "b")]):
        world = World(files)
        paths = [f.path for f in files]
        outcome = FakeEngine(world).drive(
            plan_of(stage(0, [scan(paths)], Result())), {0: world.source(paths)}
        )
        assert outcome.by_task == [(0, [])]


# ---- blocks -----------------------------------------------------------------------------------------


def test_blocks_go_as_soon_as_their_reader_is_done() -> None:
    world = World([plain(40)])
    plan = plan_of(
        stage(0, [scan(["f"])], Hash((0,), 4)), stage(1, [read_exchange("partition", 0)], Result())
    )
    driver = driver_of(plan, world)
    while tasks := driver.tasks(1, 0.0):
        if tasks[0].id.stage == 1:
            break
        driver.on_result(world.run(tasks[0]), 0.0)
    assert len(world.blocks) == 40
    (task,) = tasks
    driver.on_result(world.run(task), 0.0)
    assert sorted(r.token for r in driver.take_deletes()) == sorted(r.token for r in task.blocks["x"])


def test_two_readers_of_one_stage() -> None:
    world = World([plain(20)])
    plan = plan_of(
        stage(0, [scan(["f"])], Forward()),
        stage(1, [read_exchange("forward", 0)], Broadcast()),
        stage(2, [read_exchange("forward", 0), read_exchange("all", 1, name="side")], Result()),
    )
    for seed in range(20):
        outcome = FakeEngine(world, seed, 3, Faults(lost=0.2, late=0.5)).drive(
            plan, {0: world.source(["f"], 4)}
        )
        assert outcome.rows == [i + sum(range(20)) for i in range(20)]
        assert world.blocks == {}


def test_progress_adds_up() -> None:
    files = [plain(10, "a"), plain(0, "b"), plain(7, "c")]
    world = World(files)
    engine = FakeEngine(world, 5, 3, Faults(lost=0.3))
    paths = [f.path for f in files]
    engine.drive(plan_of(stage(0, [scan(paths)], Result())), {0: world.source(paths, 8)})
    assert engine.driver is not None
    progress = engine.driver.progress(engine.now)
    assert (progress.records, progress.rows) == (17, 17)
    assert progress.bytes_done == progress.bytes_total == 68
    assert progress.stages[0].complete
    assert progress.stages[0].total == progress.stages[0].done
    assert progress.retries > 0
    assert progress.elapsed == engine.now
    assert list(itertools.islice(engine.driver.tasks(9, engine.now), 1)) == []

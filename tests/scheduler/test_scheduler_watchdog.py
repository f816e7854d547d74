"""The watchdog's decisions, by a clock of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pyarrow as pa
import pytest

from mmflow.errors import StalledError
from mmflow.plan.stages import MapStep, Needs, Result, Stage
from mmflow.plan.tasks import TaskId
from mmflow.scheduler.stages import AttemptState, TaskState
from mmflow.scheduler.watchdog import Limits, Watchdog
from mmflow.worker.movement import Stall

STAGE = Stage(0, (), (), Result(), pa.schema([]), title="scan a.csv")


def asking_for_a_gpu(number: int) -> Stage:
    step = MapStep(lambda batch: batch, pa.schema([]), pa.schema([]), needs=Needs(num_gpus=1))
    return replace(STAGE, id=number, steps=(step,))


class _State:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage


def attempts(*since: float, stage: Stage = STAGE) -> list[AttemptState]:
    """Attempts of one task that began at these times."""
    task = TaskState(TaskId(stage.id, 7))
    task.live = [AttemptState(cast(Any, _State(stage)), task, number, at) for number, at in enumerate(since)]
    return task.live


def stall(seconds: float) -> Stall:
    return Stall(seconds, "host a, process 1, thread 2, which is sleeping", "f.py:3 in wait", "/data/a.csv")


def test_looks_begin_when_an_attempt_takes_a_while_and_come_four_times_in_a_stall() -> None:
    watchdog, running = Watchdog(Limits(after=8.0), 0.0), attempts(10.0)
    times = [t / 4 for t in range(40, 80) if watchdog.due(running, t / 4)]
    assert times == [12.0, 14.0, 16.0, 18.0]


def test_a_driver_whose_rows_were_not_read_takes_in_first_what_has_ended() -> None:
    watchdog, running = Watchdog(Limits(after=8.0), 0.0), attempts(0.0)
    assert watchdog.due(running, 2.0) is True
    assert watchdog.due(running, 100.0) is False
    assert watchdog.due(running, 101.0) is False
    assert watchdog.due(running, 102.0) is True, "what is still under way is looked at"


def test_an_attempt_is_named_once_until_it_moves_again() -> None:
    watchdog, running = Watchdog(Limits(after=8.0), 0.0), attempts(0.0)
    (first,) = running
    named = [
        len(watchdog.take({first.id: found}, running, 20.0 + n, 2))
        for n, found in enumerate([None, stall(9), stall(10), None, stall(8)])
    ]
    assert named == [0, 1, 0, 0, 1]
    assert watchdog.stalled == {first.id}


def test_the_run_fails_once_no_attempt_moves_for_the_timeout() -> None:
    watchdog, running = Watchdog(Limits(after=8.0, timeout=30.0), 0.0), attempts(0.0, 20.0)
    first, second = running
    watchdog.take({first.id: stall(30), second.id: None}, running, 30.0, 2)  # the second one moves
    watchdog.take({first.id: stall(40), second.id: stall(10)}, running, 40.0, 2)
    watchdog.take({first.id: stall(45)}, running, 45.0, 2)  # the second one has not begun
    with pytest.raises(
        StalledError, match=r"task 7 of stage 0 \(scan a.csv\), attempt 0, has not moved for 50 s"
    ):
        watchdog.take({first.id: stall(50), second.id: stall(30)}, running, 50.0, 2)
    with pytest.raises(StalledError, match=r"in wait; it reads /data/a\.csv; .* stall_timeout = 30 "):
        watchdog.take({first.id: stall(50)}, running, 50.0, 2)


def test_an_attempt_whose_task_has_ended_is_none_to_name() -> None:
    watchdog, running = Watchdog(Limits(after=8.0, timeout=9.0), 0.0), attempts(0.0)
    left = list(running)
    running.clear()  # another attempt was first, and this one is cancelled
    assert watchdog.take({left[0].id: stall(100)}, left, 100.0, 2) == []


def test_attempts_that_do_not_begin_are_named_and_wait() -> None:
    watchdog, running = Watchdog(Limits(after=8.0, timeout=9.0), 0.0), attempts(0.0, 3.0)
    assert watchdog.take({}, running, 10.0, 2) == []  # the younger one was submitted a moment ago
    ((named, why),) = watchdog.take({}, running, 100.0, 2)
    assert (named.number, why.place.partition(":")[0], why.seconds) == (0, "it has not begun", 100.0)
    assert watchdog.take({}, running, 101.0, 2) == []
    assert watchdog.stalled == set()


def test_attempts_that_nothing_can_take_fail_the_run_and_get_no_second_attempt() -> None:
    watchdog, running = Watchdog(Limits(after=8.0, timeout=30.0), 0.0), attempts(0.0)
    (only,) = running
    waits = Stall(20.0, "no worker has GPU=1", waits=True)
    assert watchdog.take({only.id: waits}, running, 20.0, 2) == [(only, waits)]
    assert watchdog.stalled == set()
    with pytest.raises(StalledError, match=r"no worker has GPU=1; .* stall_timeout = 30 "):
        watchdog.take({only.id: replace(waits, seconds=31.0)}, running, 31.0, 2)


def test_an_attempt_that_does_not_begin_beside_others_that_move_is_named_if_slots_are_idle() -> None:
    asks = asking_for_a_gpu(1)
    (moves,), (waits,) = attempts(0.0), attempts(0.0, stage=asks)
    running = [moves, waits]
    for slots, wanted in (1, []), (2, [waits]):
        watchdog = Watchdog(Limits(after=8.0, timeout=9.0), 0.0)
        assert watchdog.take({moves.id: None}, running, 6.0, slots) == []
        assert [a for a, _ in watchdog.take({moves.id: None}, running, 10.0, slots)] == wanted
    ((_, why),) = Watchdog(Limits(after=8.0), 0.0).take({moves.id: None}, running, 10.0, 2)
    assert "it has not begun, and asks for num_gpus=1: " in str(why)


def test_a_queue_for_what_others_of_the_run_have_is_no_stall() -> None:
    asks, other = asking_for_a_gpu(1), asking_for_a_gpu(2)
    (moves,), (next_one,), (third,) = (
        attempts(0.0, stage=asks),
        attempts(0.0, stage=asks),
        attempts(0.0, stage=other),
    )
    for waits in next_one, third:
        watchdog = Watchdog(Limits(after=8.0), 0.0)
        waits.number = 1
        assert watchdog.take({moves.id: None}, [moves, waits], 100.0, 8) == []


def test_an_attempt_that_has_ended_a_moment_ago_has_begun() -> None:
    (moves,), (ended,) = attempts(0.0), attempts(0.0, stage=replace(STAGE, id=1))
    watchdog = Watchdog(Limits(after=8.0), 0.0)
    assert watchdog.take({moves.id: None, ended.id: None}, [moves, ended], 8.0, 4) == []
    assert watchdog.take({moves.id: None}, [moves, ended], 10.0, 4) == []

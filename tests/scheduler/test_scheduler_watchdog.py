"""The watchdog's decisions, by a clock of its own."""

from __future__ import annotations

from typing import Any, cast

import pyarrow as pa
import pytest

from mmflow.errors import StalledError
from mmflow.plan.stages import Result, Stage
from mmflow.plan.tasks import TaskId
from mmflow.scheduler.stages import AttemptState, TaskState
from mmflow.scheduler.watchdog import Limits, Watchdog
from mmflow.worker.movement import Stall

STAGE = Stage(0, (), (), Result(), pa.schema([]), title="scan a.csv")


class _State:
    stage = STAGE


def attempts(*since: float) -> list[AttemptState]:
    """Attempts of one task that began at these times."""
    task = TaskState(TaskId(0, 7))
    task.live = [AttemptState(cast(Any, _State()), task, number, at) for number, at in enumerate(since)]
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
        len(watchdog.take({first.id: found}, running, 20.0 + n))
        for n, found in enumerate([None, stall(9), stall(10), None, stall(8)])
    ]
    assert named == [0, 1, 0, 0, 1]
    assert watchdog.stalled == {first.id}


def test_the_run_fails_once_no_attempt_moves_for_the_timeout() -> None:
    watchdog, running = Watchdog(Limits(after=8.0, timeout=30.0), 0.0), attempts(0.0, 20.0)
    first, second = running
    watchdog.take({first.id: stall(30), second.id: None}, running, 30.0)  # the second one moves
    watchdog.take({first.id: stall(40), second.id: stall(10)}, running, 40.0)
    watchdog.take({first.id: stall(45)}, running, 45.0)  # the second one has not begun
    with pytest.raises(
        StalledError, match=r"task 7 of stage 0 \(scan a.csv\), attempt 0, has not moved for 50 s"
    ):
        watchdog.take({first.id: stall(50), second.id: stall(30)}, running, 50.0)
    with pytest.raises(StalledError, match=r"in wait; it reads /data/a\.csv; .* stall_timeout = 30 "):
        watchdog.take({first.id: stall(50)}, running, 50.0)


def test_an_attempt_whose_task_has_ended_is_none_to_name() -> None:
    watchdog, running = Watchdog(Limits(after=8.0, timeout=9.0), 0.0), attempts(0.0)
    left = list(running)
    running.clear()  # another attempt was first, and this one is cancelled
    assert watchdog.take({left[0].id: stall(100)}, left, 100.0) == []


def test_attempts_that_do_not_begin_are_named_and_wait() -> None:
    watchdog, running = Watchdog(Limits(after=8.0, timeout=9.0), 0.0), attempts(0.0, 3.0)
    assert watchdog.take({}, running, 10.0) == []  # the younger one was submitted a moment ago
    ((named, why),) = watchdog.take({}, running, 100.0)
    assert (named.number, why.place.partition(":")[0], why.seconds) == (0, "it has not begun", 100.0)
    assert watchdog.take({}, running, 101.0) == []
    assert watchdog.stalled == set()

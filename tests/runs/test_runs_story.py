"""What is told of a run, from events of one that never was."""

from __future__ import annotations

import pytest

from mmflow.runs.telling import tell
from tests.runs import simulated


def test_a_run_is_summed_up() -> None:
    events = list(simulated.run())
    story = tell(events)
    assert story.state == "done"
    assert story.seconds == pytest.approx(events[-1]["t"] - events[0]["t"])
    assert [s.tasks for s in story.stages.values()] == [240, 64, 16]
    assert story.retries == sum(e["event"] == "task_failed" for e in events) == len(story.failures) > 0
    assert story.stages[0].bytes_in == 240 * (64 << 20)
    assert story.stages[1].bytes_in == story.stages[0].bytes_out == 240 * 4 * 40
    assert story.total("rows") == 16_000


def test_a_resumed_run_counts_each_task_once_and_no_pause() -> None:
    story = tell(simulated.run(end="failed", resumed_at=0.4))
    assert story.state == "failed"
    assert len(story.openings) == 2
    assert story.restored == 96
    assert story.stages[0].tasks == 240
    assert story.seconds < 60  # an hour lies between
    assert [m.text for m in story.marks if m.kind == "resumed"] == ["resumed 1 h later"]
    assert all(0 <= t.at <= story.seconds for t in story.tasks)


def test_a_resume_takes_back_the_end() -> None:
    first = list(simulated.run(end="failed"))
    second = [{**e, "t": e["t"] + 100} for e in simulated.run(end=None)]
    assert tell(first + second).state == "open"


def test_a_task_that_ran_again_is_one_task_and_all_of_its_time() -> None:
    task = {
        "event": "task_done",
        "stage": 0,
        "number": 0,
        "seconds": 2.0,
        "rows_in": 5,
        "rows_out": 3,
        "bytes_read": 10,
    }
    story = tell([{"event": "run_started", "t": 1.0}, {**task, "t": 3.0}, {**task, "t": 5.0, "rows_out": 4}])
    (stage,) = story.stages.values()
    assert (stage.tasks, stage.rows_in, stage.rows_out, stage.busy, stage.read) == (1, 5, 4, 4.0, 20)


def test_tasks_of_a_host_whose_clock_is_wrong_stay_in_the_run() -> None:
    task = {"event": "task_done", "t": 12.0, "stage": 0, "number": 0, "seconds": 1.0}
    story = tell([{"event": "run_started", "t": 10.0}, {**task, "started": 5000.0}, {**task, "started": 3.0}])
    assert [t.at for t in story.tasks] == [2.0, 0.0]


def test_what_is_not_known_is_passed_over() -> None:
    story = tell(
        [{"event": "run_started", "t": 1.0, "new": [1]}, {"v": 1, "t": 2.0, "event": "weather"}, {"t": 3.0}]
    )
    assert story.state == "open"
    assert tell([]).state == "empty"


def test_a_stage_that_did_not_begin_was_given_nothing() -> None:
    story = tell(simulated.run(end="failed"))
    assert (story.stages[2].tasks, story.stages[2].bytes_in) == (0, 0)


def test_a_driver_that_goes_on_in_place_is_the_same_plan() -> None:
    events = list(simulated.run((20, 4)))
    plan = events[1]
    restart = [
        {"t": simulated.START + 2, "event": "restarted", "reason": "a block is gone"},
        {**plan, "t": simulated.START + 2},
        {"t": simulated.START + 2, "event": "task_restored", "stage": 0, "number": 0, "rows_out": 4},
        {
            "t": simulated.START + 2,
            "event": "task_failed",
            "stage": 0,
            "number": 1,
            "attempt": 1001,
            "again": True,
        },
    ]
    story = tell([*events[:9], *restart, *events[9:]])
    assert (story.restarts, story.restored, len(story.stages)) == (1, 1, 2)
    assert story.stages[0].label == "0"
    assert any(f.attempt == 1 and f.number == 1 for f in story.failures)


def test_parts_of_a_shard_count_until_another_driver_reads_it_whole() -> None:
    events = list(simulated.run((4,)))
    t, whole = simulated.START + 1, {"stage": 0, "number": 0, "rows_in": 5, "t": simulated.START + 1}
    handed_in = [
        {**whole, "event": "task_done"},
        {"event": "handed_in", "t": t, "stage": 0, "number": 0, "part": [], "begin": 9, "parts": 2},
        {**whole, "event": "task_done", "part": [1]},
        {**whole, "event": "task_done", "part": [2]},
    ]
    before = tell(events[:2]).stages[0].rows_in
    story = tell([*events[:2], *handed_in])
    assert story.stages[0].rows_in - before == 15
    assert (story.second, [m.kind for m in story.marks]) == (1, ["second"])
    again = [
        {"t": t, "event": "restarted", "reason": ""},
        {**events[1], "t": t},
        {**whole, "event": "task_done"},
    ]
    assert tell([*events[:2], *handed_in, *again]).stages[0].rows_in - before == 5


def test_a_pass_that_no_plan_has() -> None:
    story = tell(
        [*simulated.run((4,)), {"t": simulated.START, "event": "task_done", "stage": 5, "number": 0}]
    )
    assert [s.title for s in story.stages.values()] == [
        "filter and partial aggregate",
        "find where lines begin",
    ]

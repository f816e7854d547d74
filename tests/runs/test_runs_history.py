"""Tests of a run's history, built from the events of a simulated run."""

from __future__ import annotations

import pytest

from mmflow.runs.report.history import build_history
from tests.runs import simulated


def test_counts_tasks_rows_and_bytes() -> None:
    events = list(simulated.run())
    history = build_history(events)
    assert history.state == "done"
    assert history.seconds == pytest.approx(events[-1]["t"] - events[0]["t"])
    assert [s.tasks for s in history.stages.values()] == [240, 64, 16]
    assert history.retries == sum(e["event"] == "task_failed" for e in events) == len(history.failures) > 0
    assert history.stages[0].bytes_in == 240 * (64 << 20)
    assert history.stages[1].bytes_in == history.stages[0].bytes_out == 240 * 4 * 40
    assert history.total("rows") == 16_000


def test_resumed_run_counts_each_task_once_and_no_pause() -> None:
    history = build_history(simulated.run(end="failed", resumed_at=0.4))
    assert history.state == "failed"
    assert len(history.openings) == 2
    assert history.restored == 96
    assert history.stages[0].tasks == 240
    assert history.seconds < 60  # an hour lies between
    assert [m.text for m in history.markers if m.kind == "resumed"] == ["resumed 1 h later"]
    assert all(0 <= t.at <= history.seconds for t in history.tasks)


def test_resume_clears_end() -> None:
    first = list(simulated.run(end="failed"))
    second = [{**e, "t": e["t"] + 100} for e in simulated.run(end=None)]
    assert build_history(first + second).state == "open"


def test_repeated_task_counts_once_with_all_its_time() -> None:
    task = {
        "event": "task_done",
        "stage": 0,
        "number": 0,
        "seconds": 2.0,
        "rows_in": 5,
        "rows_out": 3,
        "bytes_read": 10,
    }
    history = build_history(
        [{"event": "run_started", "t": 1.0}, {**task, "t": 3.0}, {**task, "t": 5.0, "rows_out": 4}]
    )
    (stage,) = history.stages.values()
    assert (stage.tasks, stage.rows_in, stage.rows_out, stage.busy, stage.bytes_scanned) == (1, 5, 4, 4.0, 20)


def test_keeps_tasks_of_wrong_clocks_within_run() -> None:
    task = {"event": "task_done", "t": 12.0, "stage": 0, "number": 0, "seconds": 1.0}
    history = build_history(
        [{"event": "run_started", "t": 10.0}, {**task, "started": 5000.0}, {**task, "started": 3.0}]
    )
    assert [t.at for t in history.tasks] == [2.0, 0.0]


def test_ignores_unknown_events() -> None:
    history = build_history(
        [{"event": "run_started", "t": 1.0, "new": [1]}, {"v": 1, "t": 2.0, "event": "weather"}, {"t": 3.0}]
    )
    assert history.state == "open"
    assert build_history([]).state == "empty"


def test_stage_that_did_not_start_has_no_input() -> None:
    history = build_history(simulated.run(end="failed"))
    assert (history.stages[2].tasks, history.stages[2].bytes_in) == (0, 0)


def test_restarted_driver_continues_same_plan() -> None:
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
            "retried": True,
        },
    ]
    history = build_history([*events[:9], *restart, *events[9:]])
    assert (history.restarts, history.restored, len(history.stages)) == (1, 1, 2)
    assert history.stages[0].label == "0"
    assert any(f.attempt == 1 and f.number == 1 for f in history.failures)


def test_counts_parts_of_split_shard_until_another_driver_reads_it_whole() -> None:
    events = list(simulated.run((4,)))
    t, whole = simulated.START + 1, {"stage": 0, "number": 0, "rows_in": 5, "t": simulated.START + 1}
    split = [
        {**whole, "event": "task_done"},
        {"event": "shard_split", "t": t, "stage": 0, "number": 0, "part": [], "begin": 9, "parts": 2},
        {**whole, "event": "task_done", "part": [1]},
        {**whole, "event": "task_done", "part": [2]},
    ]
    before = build_history(events[:2]).stages[0].rows_in
    history = build_history([*events[:2], *split])
    assert history.stages[0].rows_in - before == 15
    assert (history.speculative, [m.kind for m in history.markers]) == (1, ["speculative"])
    again = [
        {"t": t, "event": "restarted", "reason": ""},
        {**events[1], "t": t},
        {**whole, "event": "task_done"},
    ]
    assert build_history([*events[:2], *split, *again]).stages[0].rows_in - before == 5


def test_names_line_count_pre_pass() -> None:
    history = build_history(
        [*simulated.run((4,)), {"t": simulated.START, "event": "task_done", "stage": 5, "number": 0}]
    )
    assert [s.title for s in history.stages.values()] == [
        "filter and partial aggregate",
        "count lines",
    ]

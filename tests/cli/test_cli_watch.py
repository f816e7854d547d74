"""`mmflow status --watch`: on a terminal, and where there is none."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmflow.cli.watch import line, render, watch

STATE: dict[str, Any] = {
    "run": "r1",
    "state": "running",
    "job": "sums",
    "engine": "local",
    "seconds": 12.0,
    "error": None,
}
DONE = {**STATE, "state": "done", "seconds": 20.0}


def progress(t: float, done: int, **more: Any) -> dict[str, Any]:
    stages = [
        {"id": 0, "done": done, "running": 2, "total": 10, "rows": 40 * done},
        {"id": 1, "done": 0, "running": 0, "total": None, "rows": 0},
    ]
    return {
        "v": 1, "t": t, "event": "progress", "fraction": done / 10, "bytes_done": done << 30, "bytes_total": 10 << 30, "rows": 5, "records": 10**7,
        "elapsed": t - 100.0, "stages": stages, **more,
    }  # fmt: skip


def events(upto: int = 5) -> list[dict[str, Any]]:
    stages = [{"id": 0, "title": "filter [bold]odd", "reads": []}, {"id": 1, "title": "sort", "reads": [0]}]
    made: list[dict[str, Any]] = [
        {"t": 100.0, "event": "run_started", "run": "r1"},
        {"t": 100.0, "event": "plan", "stages": stages},
        {
            "t": 100.5,
            "event": "task_failed",
            "stage": 0,
            "number": 3,
            "retried": True,
            "reason": "\x1b[2JOSError: no\nmore",
        },
    ]
    return made + [progress(100.0 + 2 * n, n, retries=1, bad=2000, quarantined=7) for n in range(1, upto + 1)]


def drawn(state: dict[str, Any], history: list[dict[str, Any]], width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None).print(render(state, history))
    return out.getvalue()


def test_a_running_run() -> None:
    text = drawn(STATE, events())
    assert "running  sums  run r1  on local  12.0 s" in text
    assert "5.00 GiB of 10.0 GiB  512 MiB/s now  512 MiB/s mean  10.0 M records  5 rows  10.0 s left" in text
    assert re.search(r"0 filter \[bold\]odd +5 +2 +10 +200", text)
    assert re.search(r"1 sort +0 +0 +\? +0", text)
    assert "1 retry, 2,000 bad records (7 quarantined)" in text
    assert r"stage 0 task 3 failed, retried: \x1b[2JOSError: no" in text
    assert "\x1b" not in text


def test_the_speed_of_now_is_of_the_last_seconds() -> None:
    history = [*events(1), *(progress(102.0 + n, 1) for n in range(1, 60)), progress(162.0, 5)]
    assert f"{4096 / 10:.0f} MiB/s now" in drawn(STATE, history)


def test_only_the_last_opening_is_shown() -> None:
    history = [*events(), {"t": 900.0, "event": "run_started", "opening": 1}]
    text = drawn({**STATE, "state": "submitted"}, history)
    assert "failed" not in text
    assert "GiB" not in text


def test_the_plan_that_runs_now() -> None:
    history = [
        *events(10),
        {"t": 130.0, "event": "plan", "stages": [{"id": 0, "title": "second"}]},
        progress(131.0, 1),
    ]
    text = drawn(STATE, [*history, {"t": 131.0, "event": "warning", "message": "not shared"}])
    assert "0 second" in text
    assert "now" not in text  # one sample is no speed
    assert "warning: not shared" in text


def test_an_end() -> None:
    text = drawn(
        {**STATE, "state": "failed", "error": {"class": "SinkError", "message": "disk [red]full\nbuy one"}},
        events(),
    )
    assert "SinkError: disk [red]full\nbuy one" in text
    assert "left" not in text
    assert "now" not in text


def test_what_came_after_the_last_progress() -> None:
    history = [
        *events(9),
        {"t": 130.0, "event": "stage_ended", "stage": 0, "tasks": 10, "rows": 400, "bytes": 1},
        {"t": 130.1, "event": "run_ended", "state": "done", "rows": 77, "records": 88, "bad": 2001},
    ]
    text = drawn(DONE, history)
    assert re.search(r"0 filter \[bold\]odd +10 +0 +10 +400", text)
    assert "88 records  77 rows" in text
    assert "2,001 bad records" in text
    assert "10 tasks done, 77 rows" in line(DONE, history)


@pytest.mark.parametrize("width", [30, 60, 200])
def test_any_width(width: int) -> None:
    text = drawn(STATE, events(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "200" in text


def test_nothing_is_known_yet() -> None:
    assert drawn({}, []).strip() == "unknown"
    assert line({"run": "r1", "state": "submitted"}, []) == "r1 submitted"


@pytest.mark.alone
def test_many_events_are_quick() -> None:
    history = events() + [{"t": 110.0, "event": "task_done", "stage": 0, "number": n} for n in range(200_000)]
    begun = time.perf_counter()
    render(STATE, history)
    assert time.perf_counter() - begun < 2


def test_without_a_terminal_each_change_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter(
        [
            ({**STATE, "state": "submitted"}, []),
            *[(STATE, events(n)) for n in (1, 1, 1, 4)],
            (DONE, events(10)),
        ]
    )
    watch(lambda: next(looks), seconds=0.0)
    assert capsys.readouterr().out.splitlines() == [
        "r1 submitted",
        "r1 running: 10%, 1.00 GiB of 10.0 GiB, 1 task done, 5 rows, 1 retry, 2,000 bad records (7 quarantined)",
        "r1 running: 40%, 4.00 GiB of 10.0 GiB, 4 tasks done, 5 rows, 1 retry, 2,000 bad records (7 quarantined)",
        "r1 done: 100%, 10.0 GiB of 10.0 GiB, 10 tasks done, 5 rows, 1 retry, 2,000 bad records (7 quarantined)",
    ]


_WATCHER = """
import sys
sys.path.insert(0, {folder!r})
from test_cli_watch import DONE, STATE, events
from mmflow.cli.watch import watch
looks = [0]
def load():
    looks[0] += 1
    end = {end} and looks[0] > 4
    return (DONE if end else STATE), events(min(looks[0], 9))
watch(load, 0.05)
print("after")
"""


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_terminal_is_left_as_it_was(interrupt: bool) -> None:
    master, slave = pty.openpty()
    script = _WATCHER.format(folder=str(Path(__file__).parent), end=not interrupt)
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=slave, stderr=slave, stdin=slave,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
    )  # fmt: skip
    os.close(slave)
    seen = b""
    history = False
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other side is closed: Linux says EIO
            break
        if not piece:
            break
        seen += piece
        if interrupt and not history and seen.count(b"running") > 3:
            child.send_signal(signal.SIGINT)
            history = True
    os.close(master)
    assert child.wait(30) == 0
    text = seen.decode()
    assert "Traceback" not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is hidden, and shown again
    assert text.rstrip().endswith("after")
    if not interrupt:
        assert "done\x1b" in text

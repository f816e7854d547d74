"""Displays of progress: what fits a line, what a log gets, and whose they are."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from rich.cells import cell_len

import mmflow as mf
from mmflow.api.progress import open_display, showing_progress
from mmflow.api.progress.meter import Meter
from mmflow.api.progress.plain import PlainDisplay
from mmflow.api.progress.terminal import TerminalDisplay
from mmflow.scheduler.progress import Progress, StageProgress


def at(elapsed: float, fraction: float, **more: Any) -> Progress:
    stages = (
        StageProgress(0, "scan /data/folder/漢字-lineitem.csv, project", 3, 2, 10, 30, complete=False),
        StageProgress(1, "sort", 0, 0, None, 0, complete=False),
    )
    known = {f.name: 0 for f in fields(Progress)} | {
        "bytes_done": 5 << 30,
        "bytes_total": 10 << 30,
        "records": 10**7,
    }
    return Progress(**{**known, "stages": stages, "elapsed": elapsed, "fraction": fraction, **more})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    yield Terminal()
    mf.progress(None)


def test_a_line_fits_every_width() -> None:
    meter = Meter()
    for second in range(5):
        meter.update(at(second, second / 10, bad=3))
    assert meter.line(120) == (
        "40%  ━━━━━━━━━───────────────  1/2 scan 漢字-lineitem.csv, project  5.00 of 10.0 GiB  10.0 M rows  3 bad  ~6 s left"
    )
    for width in range(6, 130):
        line = meter.line(width)
        assert cell_len(line) < width
        assert line.startswith("40%")
        assert width < 18 or "1/2 " in line
        assert width < 30 or line.endswith("~6 s left")


def test_a_share_never_shrinks_and_time_left_is_of_the_whole_run() -> None:
    meter = Meter()
    shares = []
    for second, fraction in enumerate((0.0, 0.2, 0.1, 0.4)):
        meter.update(at(second, fraction, bytes_done=10 << 30))
        shares.append(meter.percent)
    assert shares == ["0%", "20%", "20%", "40%"]
    assert meter.left == "~4 s left"  # though all bytes were read
    meter.update(at(100, 0.99))
    meter.update(at(4000, 0.991))
    assert "min left" in meter.left or "h" in meter.left


def test_a_log_gets_lines_at_growing_intervals() -> None:
    stream = io.StringIO()
    display = PlainDisplay(stream)
    for second in range(300):
        display.update(at(second, second / 300))
        display.clear()
    display.close("failed")
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["3%,", "10%,", "20%,", "40%,", "60%,", "80%,"]
    assert lines[0] == (
        "mmflow: 3%, 1/2 scan 漢字-lineitem.csv,…, 5.00 of 10.0 GiB, 10.0 M rows, ~4 min 50 s left"
    )
    assert lines[-1].startswith("mmflow: failed after 4 min 59 s, at 99%, ")
    assert all(line.isprintable() for line in lines)
    quick = io.StringIO()
    short = PlainDisplay(quick)
    short.update(at(2, 1.0))
    short.close("done")
    assert quick.getvalue() == ""


def test_a_terminal_is_drawn_by_one_run_and_wiped(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = TerminalDisplay(terminal), TerminalDisplay(terminal)
    first.update(at(0.1, 0.1))
    assert terminal.getvalue() == ""  # it may be over in a moment
    first.update(at(1, 0.1))
    drawn = terminal.getvalue()
    assert drawn.startswith("10%  \x1b[36m━")
    assert drawn.endswith("\x1b[J\r")
    second.update(at(1, 0.5))
    assert terminal.getvalue() == drawn
    first.close("done")
    assert terminal.getvalue() == drawn + "\r\x1b[J"
    monkeypatch.setenv("NO_COLOR", "1")
    second.update(at(2, 0.5))
    assert terminal.getvalue()[len(drawn) :].count("\x1b") == 2  # both erase, and none colors
    second.close("done")
    second.close("done")


def test_what_is_printed_meanwhile_is_not_drawn_over(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    display = TerminalDisplay(terminal)
    display.update(at(1, 0.1))
    drawn = terminal.getvalue()
    print("half ", end="")
    display.update(at(2, 0.2))
    assert terminal.getvalue() == drawn + "\r\x1b[Jhalf "
    print("a line")
    display.update(at(3, 0.3))
    assert terminal.getvalue().startswith(drawn + "\r\x1b[Jhalf a line\n30%")
    assert sys.stdout.isatty()
    display.close("done")
    assert sys.stdout is terminal


def test_who_has_a_display(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    assert open_display() is None  # a script
    mf.progress(True)
    assert isinstance(open_display(), TerminalDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_display(), PlainDisplay)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(open_display(), PlainDisplay)
    mf.progress(False)
    with showing_progress():  # a command in a process that wants none
        assert open_display() is None
    mf.progress(None)
    with showing_progress():
        assert isinstance(open_display(), PlainDisplay)
    assert open_display() is None
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert open_display() is None
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(open_display(), TerminalDisplay)

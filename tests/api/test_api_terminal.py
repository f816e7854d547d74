"""The screen of a terminal (tmux) while a run goes on: one line, whole after each resize, gone before rows are printed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.screen import Screen, shows

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

SCRIPT = """
import os, time
import mmflow as mf

def slow(batch):
    while batch["number"][0].as_py() > 30_000 and not os.path.exists("go"):
        time.sleep(0.05)
    time.sleep(0.05)
    if os.path.exists("go"):
        print("said by a function")
    return batch

print("line\\n" * 30 + "before")  # when a window grows narrower, tmux moves the top of a screen out of sight
mf.progress(True)
session = mf.Session(shard_size="64KiB", workers=1)
ds = session.read_csv("t.csv")
slowed = ds.map_batches(slow, schema=ds.schema).sort("number", descending=True)
slowed.limit(3).show()
print("after")
"""


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    (tmp_path / "t.csv").write_text("number,name\n" + "".join(f"{n},name {n}\n" for n in range(60_000)))
    (tmp_path / "script.py").write_text(SCRIPT)
    made = Screen(tmp_path / "socket", tmp_path)
    shows(made, lambda lines: lines == ["$"])
    yield made
    made.close()


def bars(lines: list[str]) -> list[str]:
    return [line for line in lines if "%" in line]


def test_the_bar_is_one_line_and_gone_before_rows(screen: Screen, tmp_path: Path) -> None:
    screen.type(f"{sys.executable} script.py", "Enter")
    lines = shows(screen, lambda lines: any("rows" in bar for bar in bars(lines)))
    assert lines[-2] == "before"
    assert "MiB" in lines[-1] or "KiB" in lines[-1]
    for columns in (30, 20, 100):
        screen.resize(columns)
        shows(screen, lambda lines, columns=columns: len(bars(lines)) == 1 and len(lines[-1]) < columns)  # type: ignore[misc]
        assert len(bars(screen.lines())) == 1
    (tmp_path / "go").touch()
    shows(screen, lambda lines: "after" in lines)
    lines = screen.lines(history=True)
    assert bars(lines) == []
    said = [line for line in lines if "said" in line]
    assert len(said) > 1
    assert set(said) == {"said by a function"}
    first = lines.index("after") - 7
    assert [line.split() for line in lines[first : first + 7]] == [
        ["number", "name"], ["int64", "string"], ["──────", "──────────"], ["59999", "name", "59999"],
        ["59998", "name", "59998"], ["59997", "name", "59997"], ["(3", "rows)"],
    ]  # fmt: skip


def test_nothing_is_left_after_ctrl_c(screen: Screen) -> None:
    screen.type(f"{sys.executable} script.py", "Enter")
    shows(screen, lambda lines: bool(bars(lines)))
    screen.type("C-c")
    lines = shows(screen, lambda lines: lines[-1].startswith("$"))
    assert "KeyboardInterrupt" in lines
    assert bars(lines) == []

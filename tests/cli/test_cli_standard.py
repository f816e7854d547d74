"""Standard output and standard error that are closed or full: one line and the right exit code, nothing lost silently."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

MMFLOW = shlex.quote(str(Path(sys.executable).with_name("mmflow")))
ROWS = "SELECT * FROM 'x.csv'"


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command.replace("mmflow", MMFLOW)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "x.csv").write_text("a,b\n1,x\n2,y\n")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "redirect"),
    [
        (f'sql "{ROWS}" --format csv', "> /dev/full"),
        ("head x.csv --format table", "> /dev/full"),
        ("inspect x.csv", "> /dev/full"),
        ("--help", "> /dev/full"),
        (f'sql "{ROWS}" --format arrow', ">&-"),
        ("completion bash", ">&-"),
    ],
)
def test_output_that_can_not_be_written_fails_with_one_line(
    folder: Path, command: str, redirect: str
) -> None:
    done = shell(f"mmflow {command} {redirect}", folder)
    reason = "it is closed" if redirect == ">&-" else "No space left on device"
    assert done.returncode == 1
    assert (
        done.stderr == f"error: can't write to standard output: {reason}; what was printed is not complete\n"
    )


def test_messages_that_nobody_takes_are_dropped(folder: Path) -> None:
    done = shell(f'mmflow sql "{ROWS}" --format csv 2>&-', folder)
    assert (done.returncode, done.stdout) == (0, "a,b\n1,x\n2,y\n")
    assert shell("mmflow sql \"SELECT * FROM 'none.csv'\" 2>/dev/full", folder).returncode == 1
    assert shell('mmflow sql "SELEC" 2>&-', folder).returncode == 1
    assert shell("mmflow sqll 2>&-", folder).returncode == 2
    done = shell(f'mmflow sql "{ROWS}" --output y.csv >&- <&- 2>/dev/full', folder)
    assert (done.returncode, (folder / "y.csv").read_text()) == (0, "a,b\n1,x\n2,y\n")


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    done = shell(f'set -o pipefail; mmflow sql "{ROWS}" --format csv | head -n 1', folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a,b\n", "")

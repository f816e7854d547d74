"""Signals that end a command: as Ctrl-C does, whatever waits for its output."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "mmflow.cli.main", "sql"]


@pytest.fixture
def query(tmp_path: Path) -> str:
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "".join(f"{n}\n" for n in range(100_000)))
    return f"SELECT a FROM '{path}'"


@pytest.mark.parametrize(
    ("form", "number"), [("csv", signal.SIGHUP), ("json", signal.SIGINT), ("arrow", signal.SIGTERM)]
)
def test_a_command_whose_output_nobody_reads_is_interrupted(
    query: str, form: str, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [*COMMAND, query, "--format", form], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert select.select([process.stdout], [], [], 60)[0]  # it writes; the pipe takes 64 KiB
        process.send_signal(number)
        try:
            assert process.wait(30) == 130
        finally:
            process.kill()
        assert process.stderr.read() == b"interrupted\n"


def test_a_terminal_that_is_closed_interrupts_its_command(query: str) -> None:
    # The terminal is that of a new session, which gets SIGHUP as it is closed.
    own = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    start = [sys.executable, "-c", f"{own}os.execv(sys.argv[1], sys.argv[1:])", *COMMAND]
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*start, query, "--format", "csv"], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        assert select.select([ours], [], [], 60)[0]
        os.close(ours)
        assert process.wait(30) in (130, 1)  # 1: it wrote before the signal came, and the terminal was gone
    finally:
        process.kill()
        process.wait()


WAITING = """
import os, select, signal, sys, threading
from mmflow.cli.signals import ending_signals

reader, writer = os.pipe()
try:
    with ending_signals():
        # The signal is taken by the kernel, and Python's handler waits for Python code, which does not come.
        threading.Timer(1.0, signal.raise_signal, [signal.SIGTERM]).start()  # taken by the thread, not by the main one
        os.read(reader, 1)
except KeyboardInterrupt:
    sys.exit(7)
"""


def test_a_signal_that_another_thread_takes_ends_a_wait_of_the_main_thread() -> None:
    assert subprocess.run([sys.executable, "-c", WAITING], timeout=60, check=False).returncode == 7


FINALIZED = """
import os, select, signal, sys, weakref
from mmflow.cli.signals import ending_signals

class Finalized:
    def __del__(self):
        interrupt()

class Watched:
    pass

def interrupt(*_):
    signal.raise_signal(signal.SIGINT)
    for _ in range(1000):  # the handler runs here
        pass

try:
    with ending_signals():
        if sys.argv[1] == "del":
            Finalized()
        else:
            watched = Watched()
            weakref.finalize(watched, interrupt)
            del watched
        select.select([], [], [], 60)
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.mark.parametrize("finalizer", ["del", "weakref"])
def test_ctrl_c_in_a_finalizer_is_not_lost(finalizer: str) -> None:
    """Python prints what is raised there, and goes on."""
    done = subprocess.run(
        [sys.executable, "-c", FINALIZED, finalizer], timeout=50, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (7, "")


BURST = """
import os, signal, subprocess, sys, time
from mmflow.cli.signals import ending_signals
send = f"import os\\nfor _ in range(300):\\n  for n in (1, 15): os.kill({os.getpid()}, n)"
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: None)
for _ in range(8):
    child = subprocess.Popen([sys.executable, "-S", "-c", send])
    try:
        with ending_signals():
            while True:
                pass
    except KeyboardInterrupt:
        child.wait()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
print("ended")
"""


def test_signals_that_come_in_bursts_end_a_command_once() -> None:
    """A handler may be interrupted by the next signal anywhere: with a lock in it, the process waited for itself."""
    ended = subprocess.run(
        [sys.executable, "-c", BURST], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.stdout, ended.stderr) == ("ended\n", "")

"""Leftovers of tests are found, and cleaned up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster.leftovers import adopted_orphans, descendants, end
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
#: A process in a session of its own, whose parent has ended: as Ray's daemons are. Says its id.
DAEMON = """
import os, subprocess, sys
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    print(os.getpid(), flush=True)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.execvp("sleep", ["sleep", "1000"])
os.wait()
sys.exit(3)
"""


def test_what_a_command_leaves_behind_is_ended_and_its_status_kept() -> None:
    done = subprocess.run(
        [str(ROOT / ".ci" / "contain"), sys.executable, "-c", DAEMON],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    pid = int(done.stdout)
    assert not Path("/proc", str(pid)).exists()
    assert f"{pid} sleep 1000" in done.stderr
    assert done.returncode == 3


def test_a_daemon_that_lost_its_parents_is_seen_and_buried() -> None:
    with adopted_orphans():
        before = descendants()
        try:
            done = subprocess.run([sys.executable, "-c", DAEMON], capture_output=True, text=True, check=False)
            pid = int(done.stdout)
            wait_until(lambda: descendants().get(pid) == "sleep 1000", "the daemon to be seen", 10)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: pid not in descendants(), "the daemon to end", 10)
        finally:
            end({p: c for p, c in descendants().items() if p not in before})
    assert not Path("/proc", str(pid)).exists()

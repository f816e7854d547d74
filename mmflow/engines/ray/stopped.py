"""Workers of a Ray cluster that are stopped (SIGSTOP): Ray waits for them without a limit, so they are killed.

    driver, when no task has ended for five seconds     a task on each node, which needs no processor
    look at the raylet's processes                 -->  those that are stopped, and were when last asked, are killed

Ray then does what it does for any worker that has died. A node that is stopped as a whole is noticed by Ray itself.

Invariant: only processes of this raylet die, and of these only such as run our tasks, or none.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from mmflow.engines.ray.connection import on_node
from mmflow.engines.stopped import is_stopped

__all__ = ["Stopped", "task_name"]

_LOOK_SECONDS = 5.0
_IDLE = "ray::IDLE"


def task_name(run: str, task: str) -> str:
    """Return what Ray calls a task of a run, in its tools and in the list of processes."""
    return f"mmflow {run} {task}"


class Stopped:
    """Search for stopped workers, for one run."""

    def __init__(self, run: str) -> None:
        self._prefix = f"ray::{task_name(run, '')}"
        self._looked = time.monotonic()
        self._asked: dict[str, Any] = {}
        self._known: dict[str, list[int]] = {}

    def look(self, nodes: Iterable[str]) -> None:
        """Kill what was stopped for two looks at these nodes; waits only for a head that is stopped."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        for node in nodes:
            asked = self._asked.get(node)
            if asked is not None:
                if not ray.wait([asked], timeout=0)[0]:
                    continue
                try:
                    self._known[node] = ray.get(asked, timeout=0)
                except RayError:  # it is gone, or not to be had
                    self._known.pop(node, None)
            known = self._known.get(node, [])
            self._asked[node] = _look.options(scheduling_strategy=on_node(node)).remote(self._prefix, known)

    def postpone(self) -> None:
        """Postpone the next check, since a task has ended: as long as tasks end, none is needed."""
        self._looked = time.monotonic()

    def close(self) -> None:
        """Forget what was asked."""
        self._asked.clear()


@ray.remote(num_cpus=0, max_retries=0)
def _look(prefix: str, known: list[int]) -> list[int]:
    """Kill the workers of this node that are stopped, as they were before; return those that are stopped now."""
    stopped = [process for process in _siblings() if _is_ours(process, prefix) and is_stopped(process)]
    for process in set(stopped) & set(known):
        os.kill(process, signal.SIGKILL)
    return [process for process in stopped if process not in known]


def _siblings() -> list[int]:
    """Return the processes that this one's parent, the raylet, has started."""
    threads = Path("/proc", str(os.getppid()), "task")
    children = (path.read_text() for path in threads.glob("*/children"))
    return [int(number) for text in children for number in text.split()]


def _is_ours(process: int, prefix: str) -> bool:
    try:
        title = Path("/proc", str(process), "cmdline").read_bytes().rstrip(b"\0 ").decode(errors="replace")
    except OSError:
        return False
    return title == _IDLE or title.startswith(prefix)

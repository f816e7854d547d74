"""Workers of a Ray cluster that are stopped (SIGSTOP): Ray waits for them without a limit, so they are killed.

    driver, when no task has ended for five seconds     a task on each node, which needs no processor
    look at the raylet's processes                 -->  those that are stopped: if they run tasks, these are stalled
    again, five seconds or more later              -->  those that still are, are killed

Ray then does what it does for any worker that has died. A node that is stopped as a whole is noticed by Ray itself.

Invariant: only processes of this raylet die, and of these only such as run our tasks, or none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from mmflow.engines.ray.connection import on_node
from mmflow.engines.stopped import is_stopped
from mmflow.worker.movement import Stall

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
        self._known: dict[str, dict[int, str]] = {}
        self._condemned: dict[str, list[int]] = {}
        self._since: dict[str, float] = {}  # when processes were found, by what `_look` says of them

    def look(self, nodes: Iterable[str]) -> None:
        """Kill what was stopped for three looks at these nodes; waits only for a head that is stopped."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        for node in nodes:
            asked = self._asked.get(node)
            if asked is not None:
                if not ray.wait([asked], timeout=0)[0]:
                    continue
                # What is known since this look is named before the next one, and killed then.
                self._condemned[node] = list(self._known.pop(node, {}))
                with contextlib.suppress(RayError):  # it is gone, or not to be had
                    self._known[node] = ray.get(asked, timeout=0)
            asking = _look.options(scheduling_strategy=on_node(node))
            self._asked[node] = asking.remote(self._prefix, self._condemned.get(node, []))
        said = {place for known in self._known.values() for place in known.values()}
        self._since = {place: self._since.get(place, now) for place in said}

    def stall(self, task: str) -> Stall | None:
        """Return where the process of a task (`task_name`) is that is stopped; None: none is, as far as is known."""
        for found, since in list(self._since.items()):
            title, _, place = found.partition("\n")
            if title == f"ray::{task}":
                text = f"{place}, which is stopped; it is killed, and the task runs again"
                return Stall(time.monotonic() - since, text, stopped=True)
        return None

    def postpone(self) -> None:
        """Postpone the next check, since a task has ended: as long as tasks end, none is needed."""
        self._looked = time.monotonic()

    def close(self) -> None:
        """Forget what was asked."""
        self._asked.clear()


@ray.remote(num_cpus=0, max_retries=0)
def _look(prefix: str, condemned: list[int]) -> dict[int, str]:
    """Kill the condemned workers of this node that are stopped; return the titles and places of others that are."""
    titles = {process: _title(process) for process in _siblings() if is_stopped(process)}
    stopped = {p: title for p, title in titles.items() if title == _IDLE or title.startswith(prefix)}
    for process in stopped.keys() & set(condemned):
        os.kill(process, signal.SIGKILL)
    host = socket.gethostname()
    return {p: f"{title}\nhost {host}, process {p}" for p, title in stopped.items() if p not in condemned}


def _siblings() -> list[int]:
    """Return the processes that this one's parent, the raylet, has started."""
    threads = Path("/proc", str(os.getppid()), "task")
    children = (path.read_text() for path in threads.glob("*/children"))
    return [int(number) for text in children for number in text.split()]


def _title(process: int) -> str:
    """Return what a process of Ray calls itself; "": it is gone."""
    try:
        return Path("/proc", str(process), "cmdline").read_bytes().rstrip(b"\0 ").decode(errors="replace")
    except OSError:
        return ""

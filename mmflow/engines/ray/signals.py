"""Signals to Ray tasks while they run, and back: entries of the cluster's key-value store.

    driver                        worker
    <task>      stop request -->  looked up once a second
    <task>/end               <--  where the task stopped; "": it must not stop early
    <task>/movement          <--  whether it moves, and if not, what it does; of tasks that take a while
    <run>/leaving       -->       nodes that are about to leave: tasks there stop early if what they return stays

`ray.cancel` would interrupt the task, and arguments of a running task can't change. Ray recomputes lost blocks by
running their task again with its old arguments. The second signal makes that execution give the same blocks as the
first one, not those of the whole shard. The store belongs to the head (Ray keeps functions and jobs there), so signals
outlive workers.

Invariant: a task that stops early has written down where, and all later executions of it end there. Only the first
execution may stop early, and only if no later one has begun. (Ray may take a living worker for dead.)
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace

from ray.exceptions import RayError

from mmflow.engines.messages import TaskMessage
from mmflow.errors import WorkerLostError
from mmflow.plan.tasks import Done, Failed, TaskId, TaskResult
from mmflow.private_apis import ray_internals
from mmflow.worker.movement import Observer, Stall

__all__ = ["RunSignals", "TaskSignals", "reported_movement"]

_NAMESPACE = b"mmflow"
_LOOK_SECONDS = 1.0


class RunSignals:
    """Signals of one run, on the driver's side."""

    def __init__(self) -> None:
        self._prefix = uuid.uuid4().hex
        self._said: dict[str, tuple[bytes, float]] = {}
        self._leaving: set[str] = set()

    def name(self, task: TaskId, attempt: int) -> str:
        """Return the name of an attempt's signals."""
        return f"{self._prefix}-{task.stage}.{task.label}-{attempt}"

    def ask(self, task: TaskId, attempt: int) -> None:
        """Ask an attempt to stop early."""
        with contextlib.suppress(RayError, ConnectionError):  # it then runs to its end
            ray_internals.put_value(self.name(task, attempt), b"1", _NAMESPACE)

    def say_leaving(self, nodes: set[str]) -> None:
        """Say which nodes are about to leave."""
        if nodes != self._leaving:
            with contextlib.suppress(RayError, ConnectionError):  # the next time
                ray_internals.replace_value(f"{self._prefix}/leaving", " ".join(nodes).encode(), _NAMESPACE)
                self._leaving = nodes

    def read(self, attempts: Iterable[tuple[TaskId, int]]) -> None:
        """Read what the workers of these attempts say, for `movement`; waits for the head of the cluster."""
        for task, attempt in attempts:
            name = self.name(task, attempt)
            said = ray_internals.read_value(f"{name}/movement", _NAMESPACE)
            if said is not None and said != self._said.get(name, (b"", 0.0))[0]:
                self._said[name] = said, time.monotonic()

    def movement(self, task: TaskId, attempt: int, after: float) -> tuple[bool, Stall | None]:
        """Return whether an attempt has begun, as far as is known, and what it does if it does not move."""
        name, now = self.name(task, attempt), time.monotonic()
        if name not in self._said:
            return False, None
        said, since = self._said[name]
        if now - since < after:
            stall = json.loads(said)["stall"]
            return True, None if stall is None else Stall(**stall)
        place = "its worker says nothing: it is stopped, gone, or holds the GIL, or its reply is lost"
        return True, Stall(now - since, place)

    def close(self) -> None:
        """Remove all signals."""
        with contextlib.suppress(RayError, ConnectionError):
            ray_internals.delete_values(self._prefix, _NAMESPACE)


@contextlib.contextmanager
def reported_movement(name: str, run: str, attempt: tuple[TaskId, int], after: float) -> Iterator[None]:
    """Report to the driver now and then, from a thread beside the task, whether it moves."""
    ended = threading.Event()

    def report() -> None:
        observer, count = Observer(), 0
        while not ended.wait(after / 4):
            stall = observer.look(run, after).get(attempt)
            count += 1
            text = json.dumps({"count": count, "stall": None if stall is None else asdict(stall)})
            with contextlib.suppress(RayError, ConnectionError):
                ray_internals.replace_value(f"{name}/movement", text.encode(), _NAMESPACE)

    threading.Thread(target=report, name="mmflow-movement", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


class TaskSignals:
    """Signals of one execution of a task, on the worker's side. Serves as its `WorkerContext.stop_request`.

    Args:
        name: Name of its signals.
        again: Whether Ray has run the task before.
        node: Node of the task, if that stops early once it is about to leave (`Task.stops_on_drain`); "": it does not.
    """

    def __init__(self, name: str, *, again: bool, node: str = "") -> None:
        self._name = name
        self._node = node
        self._due = time.monotonic() + _LOOK_SECONDS
        self._asked = False
        self._again = again
        self._end: int | None = None
        if again:
            ray_internals.put_value(f"{name}/end", b"", _NAMESPACE)
            end = ray_internals.read_value(f"{name}/end", _NAMESPACE)
            self._end = int(end) if end else None

    def is_set(self) -> bool:
        """Return whether the task should stop early. Looks the signals up once a second."""
        now = time.monotonic()
        if not self._again and not self._asked and now >= self._due:
            self._due = now + _LOOK_SECONDS
            with contextlib.suppress(RayError):
                self._asked = ray_internals.read_value(self._name, _NAMESPACE) is not None or self._leaves()
        return self._asked

    def _leaves(self) -> bool:
        if not self._node:
            return False
        run = self._name.partition("-")[0]
        return self._node.encode() in (ray_internals.read_value(f"{run}/leaving", _NAMESPACE) or b"").split()

    def cut(self, message: TaskMessage) -> TaskMessage:
        """Return the task, ending where an earlier execution of it stopped."""
        if self._end is None or message.shards is None:
            return message
        return replace(message, shards=message.shards.cut_at(self._end))

    def agreed(self, result: TaskResult) -> TaskResult:
        """Return the result, after writing down where the task stopped for later executions."""
        if not isinstance(result, Done):
            return result
        if self._end is not None:
            return replace(result, resume_offset=self._end)
        if result.resume_offset is None:
            return result
        try:
            if ray_internals.put_value(f"{self._name}/end", str(result.resume_offset).encode(), _NAMESPACE):
                return result
            why = "it runs elsewhere, too"
        except RayError as error:
            why = str(error)
        return Failed(result.id, result.attempt, WorkerLostError(f"a task could not stop early: {why}"))

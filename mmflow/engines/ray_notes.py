"""What a Ray task is told while it runs: notes in the cluster's key-value store.

    driver                                worker
    <task>      "asked to hand in"   -->  looked for once a second
    <task>/end                       <--  where it handed in; "": nowhere

`ray.cancel` would interrupt the task, and what a task gets as an argument can't change. Ray runs a task again to make
lost blocks again, with the arguments that it had: by the second note it gives the same blocks as before, not those of
its whole shard. The store is the head's (Ray keeps its own functions and jobs there), so notes outlive workers.

Invariant: what handed in has first written where, and all later executions of the task end there; only the first one
may hand in, and only if no later one has begun. (Ray may take a worker for dead that is not.)
"""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import replace

from ray.exceptions import RayError
from ray.experimental import internal_kv

from mmflow.engines.remote import Parcel, Reply
from mmflow.errors import WorkerLostError
from mmflow.exec.task import Done, Failed, TaskId, cut_at

__all__ = ["Asked", "Notes"]

_NAMESPACE = b"mmflow"
_LOOK_SECONDS = 1.0


class Notes:
    """The driver's side, of one run."""

    def __init__(self) -> None:
        self._prefix = uuid.uuid4().hex

    def name(self, task: TaskId, attempt: int) -> str:
        """What an attempt's notes are called."""
        return f"{self._prefix}-{task.stage}.{task.label}-{attempt}"

    def ask(self, task: TaskId, attempt: int) -> None:
        """Note that an attempt should hand in what it has."""
        with contextlib.suppress(RayError, ConnectionError):  # not asked, then
            _put(self.name(task, attempt), b"1")

    def close(self) -> None:
        """Remove all notes."""
        with contextlib.suppress(RayError, ConnectionError):
            internal_kv._internal_kv_del(self._prefix, del_by_prefix=True, namespace=_NAMESPACE)


class Asked:
    """The worker's side, of one execution of a task: was it asked to hand in?

    Args:
        name: Of its notes.
        again: Ray has run the task before.
    """

    def __init__(self, name: str, *, again: bool) -> None:
        self._name = name
        self._due = time.monotonic() + _LOOK_SECONDS
        self._asked = False
        self._again = again
        self._end: int | None = None
        if again:
            _put(f"{name}/end", b"")
            end = _get(f"{name}/end")
            self._end = int(end) if end else None

    def is_set(self) -> bool:
        """See `exec.context.WorkerContext.hand_in`."""
        now = time.monotonic()
        if not self._again and not self._asked and now >= self._due:
            self._due = now + _LOOK_SECONDS
            with contextlib.suppress(RayError):
                self._asked = _get(self._name) is not None
        return self._asked

    def cut(self, parcel: Parcel) -> Parcel:
        """The task as it was cut by an earlier execution."""
        return parcel if self._end is None else replace(parcel, task=cut_at(parcel.task, self._end))

    def agreed(self, reply: Reply) -> Reply:
        """The reply, where it handed in noted for executions to come."""
        result = reply.result
        if not isinstance(result, Done):
            return reply
        if self._end is not None:
            return replace(reply, result=replace(result, rest=self._end))
        if result.rest is None:
            return reply
        try:
            if _put(f"{self._name}/end", str(result.rest).encode()):
                return reply
            why = "it runs elsewhere, too"
        except RayError as error:
            why = str(error)
        lost = WorkerLostError(f"a task could not hand in what it had: {why}")
        return replace(reply, result=Failed(result.id, result.attempt, lost))


def _get(name: str) -> bytes | None:
    found: bytes | None = internal_kv._internal_kv_get(name, namespace=_NAMESPACE)
    return found


def _put(name: str, value: bytes) -> bool:
    """Write a note; False if there was one."""
    return not internal_kv._internal_kv_put(name, value, overwrite=False, namespace=_NAMESPACE)

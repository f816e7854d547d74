"""Protocol of an engine, which decides where and when tasks run, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from mmflow.blocks.references import BlockStore
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.stages import Functions
from mmflow.plan.tasks import Task, TaskId, TaskResult
from mmflow.worker.movement import Stall

__all__ = ["Engine", "Resources"]


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of an engine.

    Attributes:
        slots: Tasks that run at once.
        memory: Bytes of budget over all of them.
        queued: Further tasks for each slot that may wait in the engine, where no result is wanted at once.
    """

    slots: int
    memory: int
    queued: int = 1


class Engine(Protocol):
    """Engine that runs tasks. Nine methods; all calls come from one driver thread."""

    def resources(self) -> Resources: ...

    def submit(self, task: Task, functions: Functions) -> None:
        """Start a task soon; returns at once."""
        ...

    def poll(self, timeout: float, enough: int = 1) -> Sequence[TaskResult]:
        """Return results that came in; wait up to `timeout` seconds for `enough` of them, or one that is not `Done`.

        It may return sooner.
        """
        ...

    def cancel(self, task: TaskId, attempt: int) -> None:
        """Stop an attempt if it runs; a `Cancelled` (or its result) follows."""
        ...

    def request_stop(self, task: TaskId, attempt: int) -> None:
        """Ask an attempt to stop at its next batch; a `Done` of what it has read until then follows.

        Its `resume_offset` says where it stopped. Returns at once. The request may come too late or get lost: then
        the attempt goes on to its end.
        """
        ...

    def silent(self) -> Collection[tuple[TaskId, int]]:
        """Return attempts whose worker has been silent for a while; they may still end, and count."""
        ...

    def movement(self, after: float) -> Mapping[tuple[TaskId, int], Stall | None]:
        """Return attempts that have begun, and what each that has not moved for `after` seconds does; never waits.

        Also those that have not begun for so long since nothing in the cluster has what they ask for (`Stall.waits`).

        To be called again and again, each time some part of `after` later.
        """
        ...

    def store(self) -> BlockStore: ...

    def close(self) -> None:
        """Stop all tasks within a second and free everything. Idempotent."""
        ...

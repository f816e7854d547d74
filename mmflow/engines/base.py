"""What an engine is: it decides where and when tasks run, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mmflow.exec.stage import Functions
from mmflow.exec.task import BlockStore, Task, TaskId, TaskResult

__all__ = ["Engine", "Resources"]


@dataclass(frozen=True, slots=True)
class Resources:
    """`slots`: tasks that run at once; `memory`: bytes of budget over all of them."""

    slots: int
    memory: int


class Engine(Protocol):
    """Runs tasks. Seven methods; all calls come from one driver thread."""

    def resources(self) -> Resources: ...

    def submit(self, task: Task, functions: Functions) -> None:
        """Start a task soon; returns at once."""
        ...

    def poll(self, timeout: float) -> Sequence[TaskResult]:
        """Results that came in; waits up to `timeout` seconds for the first."""
        ...

    def cancel(self, task: TaskId, attempt: int) -> None:
        """Stop an attempt if it runs; a `Cancelled` (or its result) follows."""
        ...

    def hand_in(self, task: TaskId, attempt: int) -> None:
        """Ask an attempt to end at its next batch: a `Done` of what it has read until then follows (`Done.rest`).

        Returns at once. It may come too late or not be heard, and the attempt goes on as if it had not been asked.
        """
        ...

    def store(self) -> BlockStore: ...

    def close(self) -> None:
        """Stop all tasks within a second and free everything. Idempotent."""
        ...

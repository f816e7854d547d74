"""Protocol of a run's recorder, as the loop of the run knows it; `mmflow.runs.recorder` implements it.

finished task  -->  journal  -->  found again by its key when the run is resumed
event          -->  event log
"""

from __future__ import annotations

from typing import Protocol

from mmflow.plan.stages import Plan
from mmflow.plan.tasks import Done
from mmflow.scheduler.progress import Progress
from mmflow.shards import FileEntry

__all__ = ["Recorder"]


class Recorder(Protocol):
    """Recorder of one run; all calls come from the thread that runs it.

    Any call may raise `EngineError`: no room, no permission.
    """

    @property
    def first_attempt(self) -> int:
        """Number of the first attempt of each task: greater than any that an earlier driver of this run gave."""
        ...

    def begin_plan(self, plan: Plan, run: str, inputs: tuple[FileEntry, ...], slots: int) -> None:
        """Record that a plan begins, or continues; its staged files carry the name `run`.

        Raises:
            SourceChangedError: It continues, and an input has changed.
        """
        ...

    def find_finished(self, stage: str, key: str) -> Done | None:
        """Return the result of a finished task by its key, with the id and attempt that it had; None: it must run."""
        ...

    def checkpoint_path(self, stage: str, key: str) -> str:
        """Return the path of a task's checkpoint (`Task.checkpoint_path`); "": it writes none."""
        ...

    def has_checkpoint(self, done: Done) -> bool:
        """Return whether the files of a task's checkpoint are visible here."""
        ...

    def record_finished(self, stage: str, key: str, done: Done) -> None:
        """Record a finished task by its keys (`scheduler.task_keys`), so that `find_finished` finds it."""
        ...

    def record_consumed(self, stage: str) -> None:
        """Record that all readers of a stage have finished: its outputs are no longer needed."""
        ...

    def event(self, event: str, **facts: object) -> None:
        """Record an event (docs/runs.md)."""
        ...

    def report_progress(self, progress: Progress, *, last: bool = False) -> None:
        """Report the progress: called many times a second, and at the plan's end.

        Raises:
            CancelledError: A cancellation of the run was requested.
        """
        ...

    def record_restart(self, lost: str, reason: str) -> bool:
        """Forget the tasks of the lost file `lost`; return whether the run may restart from the other tasks."""
        ...

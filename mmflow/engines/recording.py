"""What keeps a run, as the loop of a run knows it; `mmflow.runs` has the one that there is.

finished task  -->  journal          known task  <--  journal
what happened  -->  events
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from mmflow.engines.progress import Progress
from mmflow.exec.stage import Plan
from mmflow.exec.task import Done
from mmflow.shards import FileEntry

__all__ = ["Finished", "Recorder"]


@dataclass(frozen=True, slots=True)
class Finished:
    """A task whose outputs count, and its keys (`engines.keys`)."""

    stage: str
    key: str
    done: Done


class Recorder(Protocol):
    """Keeps one run; all calls come from the thread that runs it.

    Any call may raise `EngineError`: no room, no permission.
    """

    @property
    def first_attempt(self) -> int:
        """Number of the first attempt of each task: greater than any that an earlier driver of this run gave."""
        ...

    def started(self, plan: Plan, run: str, inputs: tuple[FileEntry, ...], slots: int) -> None:
        """A plan begins, or goes on; its staged files carry the name `run`.

        Raises:
            SourceChangedError: It goes on, and an input is not what it was.
        """
        ...

    def known(self, stage: str, key: str) -> Done | None:
        """A finished task (`engines.keys`), its outputs kept; None: it must run. Its id and attempt are not its own."""
        ...

    def place(self, stage: str, key: str) -> str:
        """Where a task is to keep its outputs (`Task.keep`)."""
        ...

    def finished(self, finished: Finished) -> None:
        """Note a task, so that it is known from now on."""
        ...

    def read(self, stage: str) -> None:
        """Nobody will read the outputs of this stage any more: all its readers are known."""
        ...

    def event(self, event: str, **facts: Any) -> None:
        """Note what happened (docs/runs.md)."""
        ...

    def tick(self, progress: Progress, *, last: bool = False) -> None:
        """Called many times a second, and at the plan's end.

        Raises:
            CancelledError: Somebody asked for the run to be cancelled.
        """
        ...

    def restarting(self, lost: str, reason: str) -> bool:
        """The kept file `lost` is lost: forget what it held. May the run go on from what else is known?"""
        ...

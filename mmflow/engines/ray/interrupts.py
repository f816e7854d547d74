"""Interrupts of Ray tasks: `ray.cancel` raises KeyboardInterrupt in the worker, wherever its code is.

In the middle of making or removing a task's folder, that would leave the folder behind for as long as the worker lives:
it holds the folder's lock, so no sweep removes it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

__all__ = ["TaskInterrupts"]


class TaskInterrupts:
    """Interrupts of the task that runs in this thread, which are raised only where `allowed`.

    A context manager. At most one interrupt is raised; others come too late.
    """

    def __init__(self) -> None:
        self._allowed = False
        self._pending = False
        self._before: Any = None
        self._installed = False

    def __enter__(self) -> Self:
        # Elsewhere (threads of an actor), Ray interrupts nothing.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
            self._installed = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._allowed:
            self._allowed = False
            raise KeyboardInterrupt
        self._pending = True

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Raise an interrupt that has come, and those that come before the end of the block.

        Raises:
            KeyboardInterrupt: The task is cancelled.
        """
        self._allowed = True
        try:
            if self._pending:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

"""The clock of what waits for other processes: locks, signs of life, logs. Tests put another in its place.

time, monotonic, sleep     those of `time`
Repeated                   a function that a thread calls every so many seconds, until it is stopped
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic, sleep, time

__all__ = ["Repeated", "monotonic", "sleep", "time"]


class Repeated:
    """Function that is called every so many seconds until `stop`, or until it returns False.

    Args:
        function: Function; its errors are its own business.
        seconds: Seconds before the first call, and between calls.
        name: Name of the thread.
    """

    def __init__(self, function: Callable[[], bool], seconds: float, name: str) -> None:
        self._function = function
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)
        self._thread.start()

    def _repeat(self) -> None:
        while not self._stop.wait(self._seconds) and self._function():
            pass

    @property
    def stopped(self) -> bool:
        """True once `stop` was called."""
        return self._stop.is_set()

    @property
    def running(self) -> bool:
        """True until it was stopped, or returned False."""
        return self._thread.is_alive()

    def stop(self, seconds: float) -> None:
        """Call it no more, and wait for up to `seconds` for a call under way. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

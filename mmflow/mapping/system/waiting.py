"""Waiting for locks with a time limit: the process that holds one may be stopped, and never continue."""

from __future__ import annotations

import errno
from collections.abc import Callable

from mmflow.storage import clock

__all__ = ["LOCK_SECONDS", "wait_until_free"]

#: Locks are held for the time of reads and writes, up to gigabytes for an array's region.
LOCK_SECONDS = 300.0
_LONGEST_PAUSE = 0.02


def wait_until_free(attempt: Callable[[], None], *, wait: bool) -> None:
    """Call a function that takes a lock without waiting, until it gets the lock.

    Args:
        attempt: Function that raises BlockingIOError while another process holds the lock.
        wait: False: call it once.

    Raises:
        BlockingIOError: Another process holds the lock, and `wait` is False.
        TimeoutError: Another process has held the lock for too long.
    """
    deadline, pause = clock.monotonic() + LOCK_SECONDS, 0.0005
    while True:
        try:
            attempt()
        except BlockingIOError:
            if not wait:
                raise
            if clock.monotonic() > deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT,
                    f"another process has held a lock on it for {LOCK_SECONDS:.0f} seconds; is it stopped (SIGSTOP)?",
                ) from None
        else:
            return
        clock.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)

"""A call of a user's function outside of tasks: if it does not move, that is said, and after a while it is broken off.

The call stays in its thread. A thread beside it looks whether it moves (`movement`); it breaks off what the main thread
does by the signal of Ctrl-C. Calls in other threads can't be broken off.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import warnings
from collections.abc import Iterator

from mmflow.errors import StalledError, StalledWarning
from mmflow.worker.movement import Observer, look_pause, running_call

__all__ = ["watched_call"]


@contextlib.contextmanager
def watched_call(what: str, after: float, timeout: float) -> Iterator[None]:
    """Watch what this thread does in the block.

    Args:
        what: The function, for messages.
        after: Seconds without movement after which there is a StalledWarning.
        timeout: Seconds without movement after which the block is broken off; 0: never.

    Raises:
        StalledError: It was broken off.
    """
    caller, ended, lock = threading.current_thread(), threading.Event(), threading.Lock()
    broken_off: list[str] = []
    run = f"call in {threading.get_ident()}"

    def watch() -> None:
        observer, named = Observer(), False
        while not ended.wait(look_pause(after)):
            stall = next(iter(observer.look(run, after).values()), None)
            if stall is None:
                named = False
                continue
            text = f"{what} has not moved for {stall.seconds:.0f} s: {stall}"
            if not named:
                named = True
                warnings.warn(text, StalledWarning, stacklevel=1)
            with lock:
                late = timeout and stall.seconds >= timeout and not ended.is_set()
                if late and caller is threading.main_thread() and caller.ident is not None:
                    broken_off.append(text)
                    signal.pthread_kill(caller.ident, signal.SIGINT)

    try:
        with running_call(run):
            threading.Thread(target=watch, name="mmflow-watch", daemon=True).start()
            try:
                yield
            finally:
                with lock:
                    ended.set()
    except KeyboardInterrupt:
        if not broken_off:
            raise
        raise StalledError(
            f"{broken_off[0]}; that is longer than stall_timeout = {timeout:g} allows: mend what it waits for, or "
            "allow more, then run again"
        ) from None

"""Signals that end a command: Ctrl-C, SIGTERM of service managers, SIGHUP of a closed terminal.

Python runs a handler in the main thread, once that runs Python code again. A signal that comes just before the main
thread begins to wait in C, say for the reader of a full pipe on behalf of pyarrow, would not end that wait. So a thread
sends it again until the handler has raised: a system call that waits is broken off then. Python drops what is raised in
a `__del__` or in a callback of a weak reference; there the handler waits for the next time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import Any

from mmflow.startup import ENDING_SIGNALS

__all__ = ["EndingSignal", "ending_signals"]

_REPEAT_SECONDS = 0.2


class EndingSignal(KeyboardInterrupt):
    """SIGTERM or SIGHUP: the process is to end, and not only what it does just now."""


@contextlib.contextmanager
def ending_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block on Ctrl-C, EndingSignal on SIGTERM and SIGHUP.

    An ignored signal (`nohup`) stays ignored. Blocks may be nested: each takes one Ctrl-C without delay.

    Does nothing outside of the main thread, where Python takes no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # No locks: a handler is interrupted by the next signal, and would wait for what it holds itself.
    heard = ended = False
    repeated = hasattr(signal, "pthread_kill")  # not on Windows

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal heard, ended
        # A second one must not break off the ending. With SIG_IGN, Python raises OSError for one that has come already.
        if (ended and number in ENDING_SIGNALS) or (repeated and _drops_exceptions(frame)):
            return
        heard = True
        if number in ENDING_SIGNALS:
            ended = True
            raise EndingSignal
        raise KeyboardInterrupt

    handlers: dict[int, Any] = {}

    def listen() -> None:
        for number in (signal.SIGINT, *ENDING_SIGNALS):
            if signal.getsignal(number) != signal.SIG_IGN:
                handlers[number] = signal.signal(number, end)

    def leave() -> None:
        for number, handler in handlers.items():
            if signal.getsignal(number) is end and not (ended and number in ENDING_SIGNALS):
                signal.signal(number, handler)

    if not repeated:
        listen()
        try:
            yield
        finally:
            leave()
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    main, before = threading.get_ident(), signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def repeat() -> None:
        for number in iter(lambda: os.read(reader, 1), b""):
            while number[0] in (signal.SIGINT, *ENDING_SIGNALS) and not heard:
                time.sleep(_REPEAT_SECONDS)
                if not heard:
                    signal.pthread_kill(main, number[0])

    thread = threading.Thread(target=repeat, name="mmflow-signals", daemon=True)
    thread.start()
    try:
        listen()
        yield
    finally:
        leave()
        heard = True
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join(1)
        os.close(reader)


def _drops_exceptions(frame: FrameType | None) -> bool:
    """Return whether a finalizer is under way, from which no exception comes out."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or code.co_filename == weakref.__file__:
            return True
        frame = frame.f_back
    return False

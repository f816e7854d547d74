"""Calling functions that the user gave: whatever they raise is their error, once, and never the process's end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmflow.errors import MmflowError, UserFunctionError
from mmflow.exec.stage import MapStep, Stage

__all__ = ["calling", "suspects"]


@contextmanager
def calling(where: str, name: str, check: Callable[[], None]) -> Iterator[None]:
    """Turn what a user's function raises in a task into UserFunctionError: SystemExit and KeyboardInterrupt, too.

    Args:
        where: The function and its rows, for the message.
        name: Of the function.
        check: Raises where the task itself is being stopped, which Ray does by a KeyboardInterrupt.

    Raises:
        UserFunctionError: The function raised.
    """
    try:
        yield
    except MmflowError:
        raise
    except BaseException as error:
        check()
        said = f": {error}" if str(error) else ""
        raise UserFunctionError(f"{where} raised {type(error).__name__}{said}", function=name) from error


def suspects(stage: Stage) -> str:
    """Return words for the functions of a stage that may have ended their worker; "" where it has none."""
    names = [repr(getattr(s.function, "__name__", "function")) for s in stage.steps if isinstance(s, MapStep)]
    if not names:
        return ""
    return f"; it calls {', '.join(names)}: a segmentation fault or os._exit in it ends the worker, too"

"""Errors of the user's functions: their place, their traceback, and their way through DataFusion.

DataFusion turns an exception of a Python function into text, tracebacks and all. So the error is kept here under a
number, DataFusion carries the number, and whoever explains its error finds the error by it.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from mmflow.errors import MmflowError, UserFunctionError
from mmflow.lazy.patterns import lazy_regex
from mmflow.usercode.tracebacks import format_user_frames

__all__ = ["find_failure", "function_error", "keep_failures", "said"]

_MOST_TEXT = 300
_MOST_KEPT = 256
_NUMBER = lazy_regex(r"mmflow keeps failure (\d+)")
_numbers = itertools.count()
_kept: OrderedDict[int, MmflowError] = OrderedDict()
_lock = threading.Lock()  # of the kept errors


def said(error: BaseException) -> str:
    """Return an error's class and the first line of its text, of bounded length."""
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else ""
    if len(text) > _MOST_TEXT:
        text = f"{text[:_MOST_TEXT]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def function_error(
    where: str, error: BaseException, function: str | None = None, advice: str = ""
) -> UserFunctionError:
    """Return the error for what a user's function raised: `where` raised it. `advice` ends the first line."""
    place, trace = format_user_frames(error)
    if not place and isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}"
    return UserFunctionError.at(
        f"{where} raised {said(error)}{advice}", function=function, place=place, traceback=trace
    )


def keep_failures(function: Callable[..., Any], where: str, name: str) -> Callable[..., Any]:
    """Return a function for DataFusion that keeps the errors of a user's function, for `find_failure`."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except BaseException as error:  # noqa: BLE001  (DataFusion carries none of them)
            made = error if isinstance(error, MmflowError) else function_error(where, error, name)
            number = next(_numbers)
            with _lock:
                _kept[number] = made
                while len(_kept) > _MOST_KEPT:
                    _kept.popitem(last=False)
            raise RuntimeError(f"mmflow keeps failure {number}") from None

    return call


def find_failure(text: str) -> MmflowError | None:
    """Return the kept error of a user's function that the text of DataFusion's error names; None: it names none."""
    found = _NUMBER.search(text)
    if found is None:
        return None
    with _lock:
        return _kept.get(int(found[1]))

"""Python variables that a query may name as tables or functions: those of the code that called mmflow.

    def report(logs): return mf.sql("SELECT * FROM logs")          `logs`, exactly as it is written: case counts

Locals come first, then globals. Only the frame that called mmflow is looked at, not those that called it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from mmflow.api.dataset import Dataset
from mmflow.api.expressions.tree.place import caller_frame

__all__ = ["caller_variables", "describe_type", "is_table"]

#: Python 3.11 runs these in frames of their own.
_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>")

#: References to the dict of a frame's variables that no `locals()` of the user holds: the frame, a name, an argument.
_OWN_REFERENCES = 3


class _Variables(Mapping[str, Any]):
    """Variables of one frame by name: those of a comprehension, those around it, globals."""

    def __init__(self, frame: FrameType | None) -> None:
        self._scopes: list[Mapping[str, Any]] = []
        if frame is not None:
            while frame.f_code.co_name in _COMPREHENSIONS and frame.f_back is not None:
                self._scopes.append(_locals_of(frame))
                frame = frame.f_back
            self._scopes += [_locals_of(frame), frame.f_globals]

    def __getitem__(self, name: str) -> Any:
        for scope in self._scopes:
            if name in scope:
                return scope[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys(name for scope in self._scopes for name in scope)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _locals_of(frame: FrameType) -> Mapping[str, Any]:
    """Return the variables of a frame, without holding them beyond the call.

    Python 3.11 and 3.12 keep the dict of a function's variables in its frame, where a table would outlive its `del`.
    """
    found = frame.f_locals
    if not (isinstance(found, dict) and frame.f_code.co_flags & inspect.CO_OPTIMIZED):
        return found
    copied = dict(found)
    if sys.getrefcount(found) <= _OWN_REFERENCES:
        found.clear()
    return copied


def caller_variables() -> Mapping[str, Any]:
    """Return the variables of the first caller outside of mmflow."""
    return _Variables(caller_frame())


def is_table(value: Any) -> bool:
    """Return whether a dataset can be made of a value."""
    if isinstance(value, type):
        return False
    return isinstance(value, Dataset | dict) or hasattr(value, "__arrow_c_stream__")


def describe_type(value: Any) -> str:
    """Return the type of a value with its module, as `a polars.LazyFrame`."""
    kind = type(value)
    module = kind.__module__.partition(".")[0]
    name = kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"

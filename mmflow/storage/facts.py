"""JSON objects that mmflow wrote and reads back: parsed, and of the shape in which they were written.

    parse_object(text, {"run": str, "files": [{"path": str, "rows": optional(int)}]})

A shape is a type, a list of the shape of its items, a dict of the shapes of some keys, or a function that returns
whether a value fits. Other keys may have any value, since a later version may add some.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

__all__ = ["check_shape", "fits", "is_moment", "is_number", "is_time", "optional", "parse_object"]

Shape = Any
#: Seconds since 1970 until the year 9999, which is the last that dates have.
_LAST = 253_370_000_000


def parse_object(text: str | bytes, shape: dict[str, Shape]) -> dict[str, Any]:
    """Parse a JSON object of this shape.

    Raises:
        ValueError: It is no JSON, or of another shape; says what is wrong.

    >>> parse_object('{"a": [1, 2], "b": null}', {"a": [int], "b": optional(str)})
    {'a': [1, 2], 'b': None}
    >>> parse_object('{"a": [1, "x"]}', {"a": [int]})
    Traceback (most recent call last):
    ValueError: 'a' has a wrong value
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no object")  # noqa: TRY004  (of a file, as all others)
    return check_shape(found, shape)


def check_shape(found: dict[str, Any], shape: dict[str, Shape]) -> dict[str, Any]:
    """Return an object, if it has this shape.

    Raises:
        ValueError: It has another one; says what is wrong.
    """
    for key, inner in shape.items():
        if not fits(found.get(key), inner):
            raise ValueError(f"{key!r} has a wrong value" if key in found else f"{key!r} is missing")
    return found


def fits(value: Any, shape: Shape) -> bool:
    """Return whether a value has a shape."""
    if shape is int:
        return isinstance(value, int) and abs(value) < 1 << 64
    if isinstance(shape, type):
        return isinstance(value, shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(item, shape[0]) for item in value)
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(fits(value.get(key), inner) for key, inner in shape.items())
    return bool(shape(value))


def optional(shape: Shape) -> Callable[[Any], bool]:
    """Return the shape of a value that may be null or missing."""
    return lambda value: value is None or fits(value, shape)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and abs(value) < 1e300


def is_moment(value: Any) -> bool:
    """Return whether a value is a time in seconds since 1970."""
    return is_number(value) and 0 <= value < _LAST


def is_time(value: Any) -> bool:
    """Return whether a value is a time as text, ISO 8601.

    >>> is_time("2024-01-01T00:00:00+00:00"), is_time("yesterday")
    (True, False)
    """
    try:
        return dt.datetime.fromisoformat(value).timestamp() >= 0
    except (TypeError, ValueError, OverflowError):
        return False

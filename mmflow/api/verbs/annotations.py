"""Schemas from the return annotations of functions: a TypedDict of Python types, numpy types and arrays."""

from __future__ import annotations

import contextlib
import datetime as dt
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["annotated_schema"]

_TYPES: dict[Any, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    dt.date: pa.date32(),
    dt.datetime: pa.timestamp("us"),
    dt.timedelta: pa.duration("us"),
}


def annotated_schema(function: Callable[..., Any]) -> pa.Schema | None:
    """Return the schema that a function's return annotation says; None: it says none.

    >>> class Point(typing.TypedDict):
    ...     x: float
    ...     tags: list[str]
    >>> def point(row: dict[str, int]) -> Point: ...
    >>> annotated_schema(point).types
    [DataType(double), ListType(list<item: string>)]
    """
    try:
        hints = typing.get_type_hints(function)
        returned = hints.get("return")
        if not typing.is_typeddict(returned):
            return None
        found = {name: _type(hint) for name, hint in typing.get_type_hints(returned).items()}
    except (
        NameError,
        TypeError,
        AttributeError,
    ):  # names that are not there at run time, objects without hints
        return None
    return None if None in found.values() else pa.schema(list(found.items()))


def _type(hint: Any) -> pa.DataType | None:
    """Return the Arrow type of an annotation; None: it says none."""
    if hint in _TYPES:
        return _TYPES[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is np.ndarray:  # an NDArray is ndarray[shape, dtype[kind]]
        return _type(typing.get_args(arguments[-1])[0])
    if origin is list and (inner := _type(arguments[0])) is not None:
        return pa.list_(inner)
    if origin is not None and type(None) in arguments and len(arguments) == 2:
        return _type(next(a for a in arguments if a is not type(None)))
    with contextlib.suppress(TypeError, pa.ArrowNotImplementedError):
        if isinstance(hint, type) and issubclass(hint, np.generic):
            return pa.from_numpy_dtype(np.dtype(hint))
    return None

"""Layouts of numpy's data types: `<f4`, `>i2`, `S8`, `(3,)<f4`, or a structure as JSON lists it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mmflow.errors import ConfigError

__all__ = ["dtype_layout"]

_KINDS = {"i": "int", "u": "uint", "f": "float"}


def dtype_layout(given: Any) -> list[dict[str, Any]]:
    """Return a layout; a type without fields is the column `value`.

    Raises:
        ConfigError: numpy does not know the type, or Arrow has none for it.
    """
    try:
        if isinstance(given, str) and given.lstrip().startswith("["):
            given = [tuple(map(_tuples, item)) for item in json.loads(given)]
        dtype = np.dtype(given)
    except (TypeError, ValueError, SyntaxError) as error:
        raise ConfigError(
            f"dtype = {given!r} is no data type of numpy ({error}); write '<f4', or a list such as [['a', '<i4'], ...]"
        ) from error
    if dtype.names is None:
        return [_item("value", dtype, 0)]
    return _members(dtype)


def _tuples(item: Any) -> Any:
    """Return a description of JSON as numpy takes it: fields and shapes are tuples."""
    if isinstance(item, list):
        if item and all(isinstance(i, int) for i in item):
            return tuple(item)
        return [tuple(map(_tuples, i)) for i in item]
    return item


def _members(dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    assert dtype.fields is not None
    assert dtype.names is not None
    return [_item(name, *dtype.fields[name][:2]) for name in dtype.names]


def _item(name: str, dtype: np.dtype[Any], offset: int) -> dict[str, Any]:
    if dtype.subdtype is not None:
        inner, shape = dtype.subdtype
        return _item(name, inner, offset) | {"count": list(shape)}
    item: dict[str, Any] = {"name": name, "offset": offset}
    if dtype.names is not None:
        return item | {"fields": _members(dtype)}
    item["order"] = "big" if dtype.str.startswith(">") else "little"
    kind, size = dtype.kind, dtype.itemsize
    if kind in "iu" or (kind == "f" and size in (4, 8)):
        return item | {"type": f"{_KINDS[kind]}{8 * size}"}
    if kind == "b":
        return item | {"type": "bool"}
    if kind == "S" and size:
        return item | {"type": f"char[{size}]"}
    if kind == "V" and size:
        return item | {"type": f"binary[{size}]"}
    raise ConfigError(f"dtype: {name!r} is of numpy type {dtype}, which records can't be read as")

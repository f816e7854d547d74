"""Names of Delta tables, and the types that their columns have: what is decided without looking at one."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from mmflow.distribution import install_command
from mmflow.errors import ConfigError
from mmflow.formats.schemas.schema import public_type

__all__ = ["PREFIX", "column_problem", "delta_path", "library"]

#: Scheme of paths that name Delta tables, as `delta:///data/orders`.
PREFIX = "delta://"


def delta_path(path: str | os.PathLike[str]) -> str:
    """Return the local path of a table, which may be given as a `delta:///` URL.

    Raises:
        ConfigError: It is on another host, or in an object store.

    >>> delta_path("delta:///data/orders")
    '/data/orders'
    """
    given = os.fspath(path)
    if given.lower().startswith(PREFIX):
        rest = given[len(PREFIX) :]
        if not rest.startswith("/"):
            raise ConfigError(
                f"{given}: the path of a Delta table begins with three slashes: delta:///{rest}"
            )
        given = unquote(rest)
    if "://" in given:
        raise ConfigError(f"{given}: Delta tables are read and written at local paths only; mount the store")
    return os.path.realpath(os.path.expanduser(given))


def library(path: str) -> Any:
    """Return the module `deltalake`.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import deltalake  # noqa: PLC0415  (an extra)
    except ImportError:
        raise ConfigError(
            f"{path} is a Delta table, which takes deltalake, and that is not installed: {install_command('delta')}",
            code="MMF-CFG-002",
        ) from None
    return deltalake


def column_problem(field: pa.Field, *, partition: bool) -> str | None:
    """Return why a Delta table can't have such a column; None where it can."""
    types, kind = pa.types, public_type(field.type)
    if partition and (types.is_timestamp(kind) or types.is_decimal(kind)):
        return "partitions of Delta tables are named by text, integers, booleans or dates; cast the column"
    return _type_problem(kind)


def _type_problem(kind: pa.DataType) -> str | None:
    types = pa.types
    if types.is_struct(kind) or types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind):
        return next(filter(None, (_type_problem(kind.field(i).type) for i in range(kind.num_fields))), None)
    if types.is_unsigned_integer(kind):
        return "Delta has no unsigned integers; cast it to a wider signed one"
    if types.is_timestamp(kind):
        if kind.unit != "us":
            return "timestamps of Delta are of microseconds; cast it to timestamp[us]"
        return (
            None
            if kind.tz in (None, "UTC")
            else "zoned timestamps of Delta are of UTC; cast it to timestamp[us, UTC]"
        )
    plain = (
        types.is_boolean, types.is_integer, types.is_float32, types.is_float64, types.is_decimal128, types.is_date32,
        types.is_string, types.is_large_string, types.is_binary, types.is_large_binary,
    )  # fmt: skip
    return None if any(test(kind) for test in plain) else "Delta has no such type; cast it"

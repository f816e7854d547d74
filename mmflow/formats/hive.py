"""Columns that stand in the path: `sales/year=2024/region=eu/part-0.parquet`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from urllib.parse import unquote

import pyarrow as pa

from mmflow.errors import SourceError

__all__ = ["NULL", "hive_fields", "hive_value", "hive_values"]

NULL = "__HIVE_DEFAULT_PARTITION__"
_PART = re.compile(r"([^=]+)=(.*)", re.DOTALL)
# No leading zeros nor plus signs, so that the text can be got back from the number; 18 digits fit 64 bits.
_INTEGER = re.compile(r"-?[1-9][0-9]{0,17}|0")


def hive_values(path: str) -> dict[str, str | None]:
    """Names and values of the folders `name=value` of a path, from the outermost in; None is null.

    >>> hive_values("out/k=a%2Fb/n=__HIVE_DEFAULT_PARTITION__/part-0.parquet")
    {'k': 'a/b', 'n': None}
    """
    found: dict[str, str | None] = {}
    for part in os.path.dirname(path).split("/"):
        match = _PART.fullmatch(part)
        if match is not None:
            found[unquote(match[1])] = None if match[2] == NULL else unquote(match[2])
    return found


def hive_fields(paths: Sequence[str]) -> list[pa.Field]:
    """The columns of these files' folders: int64 where all values are integers, else string_view.

    Raises:
        SourceError: Some files have other such folders than the first.
    """
    names = list(hive_values(paths[0]))
    integer = dict.fromkeys(names, True)
    filled = dict.fromkeys(names, False)
    for path in paths:
        values = hive_values(path)
        if set(values) != set(names):
            raise SourceError(
                f"{path} lies in folders {sorted(values)} of the form name=value, "
                f"{paths[0]} in {sorted(names)}; read them apart, or give hive=false",
                path=path,
            )
        for name, value in values.items():
            if value is not None:
                filled[name] = True
                integer[name] = integer[name] and _INTEGER.fullmatch(value) is not None
    return [pa.field(n, pa.int64() if integer[n] and filled[n] else pa.string_view()) for n in names]


def hive_value(path: str, field: pa.Field) -> str | int | None:
    """The value of a hive column for all rows of a file.

    Raises:
        SourceError: The path doesn't have it, or not as an integer.
    """
    values = hive_values(path)
    if field.name not in values:
        raise SourceError(f"{path} lies in no folder {field.name}=…, as other files do", path=path)
    value = values[field.name]
    if value is None or not pa.types.is_integer(field.type):
        return value
    if _INTEGER.fullmatch(value) is None:
        raise SourceError(f"{path}: {field.name} = {value!r} is not an integer, as in other files", path=path)
    return int(value)

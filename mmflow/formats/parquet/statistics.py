"""Pruning of row groups by their statistics: whether a group may hold a row that satisfies a comparison.

Statistics bound a column chunk's values that are neither null nor NaN; text bounds may be cut short
(the lower one down, the upper one up). So bounds only ever show that a value can't be there. DataFusion
orders floats totally (-0.0 before 0.0, NaN above all), which bounds don't: comparisons that NaN may satisfy
don't prune floats, and equal zeros never do.
"""

from __future__ import annotations

import datetime as dt
import math
import struct
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mmflow.formats.base import Comparison
from mmflow.formats.parquet.footer import Chunk
from mmflow.lazy.dataclasses import dataclass

__all__ = ["NS", "Bounds", "Instant", "bound_of", "bounds_of", "may_match"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: Nanoseconds of each unit.
NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of a column chunk.

    Attributes:
        rows: Number of rows of the group.
        nulls: Number of nulls; None: unknown.
        low: No value is below; None: unknown.
        high: No value is above; None: unknown.
    """

    rows: int
    nulls: int | None = None
    low: Any = None
    high: Any = None


def bounds_of(chunk: Chunk, kind: pa.DataType, rows: int, *, ordered: bool) -> Bounds:
    """Return the bounds of a flat column from what the footer says of its chunk.

    Args:
        chunk: The column's chunk.
        kind: The column's Arrow type.
        rows: Rows of the row group.
        ordered: The column's order is that of its type.
    """
    statistics = chunk.statistics
    if statistics is None:
        return Bounds(rows)
    low, high = statistics.low, statistics.high
    if not ordered:  # the old ones are in signed order, whatever the type
        signed = pa.types.is_signed_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)
        low, high = (statistics.old_low, statistics.old_high) if signed else (None, None)
    if low is None or high is None:
        return Bounds(rows, statistics.nulls)
    try:
        bounds = _plain(low, chunk.physical, kind), _plain(high, chunk.physical, kind)
    except (OverflowError, struct.error):  # a date beyond Python's, or fewer bytes than the type has
        return Bounds(rows, statistics.nulls)
    if any(b is None or _is_nan(b) for b in bounds):
        return Bounds(rows, statistics.nulls)
    return Bounds(rows, statistics.nulls, *bounds)


#: Physical types of Parquet, and how their plain values are unpacked.
_BOOLEAN, _INT32, _INT64, _FLOAT, _DOUBLE, _BYTES, _FIXED = 0, 1, 2, 4, 5, 6, 7
_LAYOUTS = {_BOOLEAN: "<?", _INT32: "<i", _INT64: "<q", _FLOAT: "<f", _DOUBLE: "<d"}


def _plain(raw: bytes, physical: int, kind: pa.DataType) -> Any:
    """Return a bound as a value that `_comparable` makes of literals too; None for types that are not pruned by.

    INT96 has no usable bounds.
    """
    types = pa.types
    if types.is_dictionary(kind):
        return _plain(raw, physical, kind.value_type)
    if physical in (_BYTES, _FIXED):
        if types.is_decimal(kind):
            return _decimal(int.from_bytes(raw, "big", signed=True), kind.scale)
        views = types.is_string_view(kind) or types.is_binary_view(kind)
        text = types.is_string(kind) or types.is_large_string(kind)
        binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
        return raw if views or text or binary else None
    if physical not in _LAYOUTS:
        return None
    (value,) = struct.unpack(_LAYOUTS[physical], raw)
    if physical in (_INT32, _INT64):
        return _of_integer(value, 32 if physical == _INT32 else 64, kind)
    same = types.is_boolean(kind) if physical == _BOOLEAN else types.is_floating(kind)
    return value if same else None


def _of_integer(value: int, bits: int, kind: pa.DataType) -> Any:
    types = pa.types
    if types.is_timestamp(kind):  # pyarrow reads the file's unit into the Arrow type
        return Instant(value * NS[kind.unit])
    if types.is_date32(kind):
        return _EPOCH.date() + dt.timedelta(days=value)
    if types.is_decimal(kind):
        return _decimal(value, kind.scale)
    if types.is_unsigned_integer(kind):
        return value % (1 << bits)
    return value if types.is_signed_integer(kind) else None


def _decimal(unscaled: int, scale: int) -> Decimal:
    return Decimal(f"{unscaled}E{-scale}")  # exact: arithmetic would round to 28 digits


def bound_of(value: pa.Scalar) -> Any:
    """Return the bound that is a single value; None for nulls and for types that are not pruned by."""
    if not value.is_valid:
        return None
    if pa.types.is_timestamp(value.type):
        return Instant(value.value * NS[value.type.unit])
    plain = value.as_py()
    if isinstance(plain, str):
        return plain.encode()
    return plain if isinstance(plain, bool | int | float | Decimal | dt.date) and not _is_nan(plain) else None


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """Nanoseconds since 1970 (of the wall clock for timestamps without a zone)."""

    ns: int


def may_match(comparison: Comparison, bounds: Bounds) -> bool:
    """Return False only if no row of the group can satisfy the comparison."""
    if bounds.rows == 0:
        return False
    match comparison.op:
        case "is_null":
            return bounds.nulls != 0
        case "is_not_null":
            return bounds.nulls != bounds.rows
    if bounds.nulls == bounds.rows:  # a comparison with null is never true
        return False
    if bounds.low is None:
        return True
    if comparison.op == "in":
        return any(_may(Comparison(comparison.column, "eq", v), bounds) for v in comparison.value)
    return _may(comparison, bounds)


def _may(comparison: Comparison, bounds: Bounds) -> bool:
    value = _comparable(comparison.value)
    low, high = bounds.low, bounds.high
    if value is None or _family(value) != _family(low) or _family(value) != _family(high):
        return True
    # Floats (and literals that are floats): NaN satisfies >, >= and <>, and zeros are two.
    inexact = isinstance(low, float) or isinstance(value, float)
    match comparison.op:
        case "eq":
            return bool(low <= value <= high)
        case "lt":
            return bool(low <= value if inexact else low < value)
        case "le":
            return bool(low <= value)
        case "gt":
            return bool(inexact or high > value)
        case "ge":
            return bool(inexact or high >= value)
        case "ne":
            return bool(inexact or low != value or high != value)
    return True


def _comparable(value: Any) -> Any:
    """Return a literal as bounds have it; None if it is not compared."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dt.datetime):
        moment = value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value
        return Instant((moment - _EPOCH) // dt.timedelta(microseconds=1) * 1000)
    return None if _is_nan(value) else value


def _family(value: Any) -> str:
    """Return the family of a value. Values of one family compare with each other exactly."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float | Decimal):
        return "number"
    return type(value).__name__


def _is_nan(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, float) and math.isnan(value)

"""May a row group hold a row that satisfies a comparison? Judged by its statistics, in doubt yes.

Statistics bound a column chunk's values that are neither null nor NaN; text bounds may be cut short
(the lower one down, the upper one up). So bounds only ever show that a value can't be there. DataFusion
orders floats totally (-0.0 before 0.0, NaN above all), which bounds don't: comparisons that NaN may satisfy
don't prune floats, and equal zeros never do.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mmflow.formats.base import Comparison

__all__ = ["Bounds", "bound_of", "bounds_of", "may_match"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of a column chunk.

    Attributes:
        rows: Of the group.
        nulls: Number of nulls; None: unknown.
        low: No value is below; None: unknown.
        high: No value is above; None: unknown.
    """

    rows: int
    nulls: int | None = None
    low: Any = None
    high: Any = None


def bounds_of(chunk: Any, kind: pa.DataType, rows: int) -> Bounds:
    """The bounds of a flat column from the metadata of its chunk (pyarrow's ColumnChunkMetaData).

    Args:
        chunk: The metadata.
        kind: The column's Arrow type.
        rows: Rows of the row group.
    """
    statistics = chunk.statistics if chunk.is_stats_set else None
    if statistics is None:
        return Bounds(rows)
    nulls = statistics.null_count if statistics.has_null_count else None
    if not statistics.has_min_max:
        return Bounds(rows, nulls)
    try:
        low, high = _plain(statistics, "min", kind), _plain(statistics, "max", kind)
    except (ValueError, OverflowError, NotImplementedError):
        # Text cut inside a character, a date beyond Python's: nothing is known then.
        return Bounds(rows, nulls)
    if low is None or high is None or _is_nan(low) or _is_nan(high):
        return Bounds(rows, nulls)
    return Bounds(rows, nulls, low, high)


def _plain(statistics: Any, end: str, kind: pa.DataType) -> Any:
    """A bound as a value that `_comparable` makes of literals too; None for types that are not pruned by."""
    if pa.types.is_timestamp(kind):
        raw = getattr(statistics, f"{end}_raw")
        # pyarrow reads the file's unit into the Arrow type, but for INT96, which has no usable bounds.
        return Instant(raw * (10**9 // _PER_SECOND[kind.unit])) if isinstance(raw, int) else None
    value = getattr(statistics, end)
    if isinstance(value, str):
        return value.encode()
    known = (bool, int, float, Decimal, bytes, dt.date)
    return value if isinstance(value, known) and not isinstance(value, dt.datetime) else None


def bound_of(value: pa.Scalar) -> Any:
    """Return the bound that is a single value; None for nulls and for types that are not pruned by."""
    if not value.is_valid:
        return None
    if pa.types.is_timestamp(value.type):
        return Instant(value.value * (10**9 // _PER_SECOND[value.type.unit]))
    plain = value.as_py()
    if isinstance(plain, str):
        return plain.encode()
    return plain if isinstance(plain, bool | int | float | Decimal | dt.date) and not _is_nan(plain) else None


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """Nanoseconds since 1970 (of the wall clock for timestamps without a zone)."""

    ns: int


def may_match(comparison: Comparison, bounds: Bounds) -> bool:
    """False only if no row of the group can satisfy the comparison."""
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
    """A literal as bounds have it; None if it is not compared."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dt.datetime):
        moment = value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value
        return Instant((moment - _EPOCH) // dt.timedelta(microseconds=1) * 1000)
    return None if _is_nan(value) else value


def _family(value: Any) -> str:
    """Values of one family compare with each other exactly."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float | Decimal):
        return "number"
    return type(value).__name__


def _is_nan(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, float) and math.isnan(value)

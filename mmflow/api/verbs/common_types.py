"""Types that hold the values of two types exactly, for keys of joins and columns that become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import types

from mmflow.api import expressions as ex
from mmflow.formats.schemas.schema import public_type, type_text

if TYPE_CHECKING:
    from mmflow.api.expressions import Raw

__all__ = ["cast_column", "common_type", "shown_type"]

_UNITS = ("s", "ms", "us", "ns")
_MOST_DIGITS = 38
#: Bits of the integers that a float of so many bits holds exactly.
_EXACT_BITS = {16: 11, 32: 24, 64: 53}


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the least type that holds all values of both; None: there is none.

    >>> common_type(pa.int32(), pa.uint32()), common_type(pa.int64(), pa.float64())
    (DataType(int64), None)
    """
    if one == other or types.is_null(other):
        return one
    if types.is_null(one):
        return other
    for test in (types.is_timestamp, types.is_duration, types.is_time):
        if test(one) and test(other):
            same_zone = getattr(one, "tz", None) == getattr(other, "tz", None)
            return max(one, other, key=lambda t: _UNITS.index(t.unit)) if same_zone else None
    if _is_whole(one) and _is_whole(other):
        return _whole(one, other)
    if types.is_floating(one) and types.is_floating(other):
        return max(one, other, key=lambda t: t.bit_width)
    if types.is_floating(one) or types.is_floating(other):
        real, whole = (one, other) if types.is_floating(one) else (other, one)
        if not types.is_integer(whole):
            return None
        bits = whole.bit_width - types.is_signed_integer(whole)
        if bits <= _EXACT_BITS[real.bit_width]:
            return real
        return pa.float64() if bits <= _EXACT_BITS[64] else None
    return None


def shown_type(kind: pa.DataType) -> str:
    """Return a type of a plan as people know it."""
    return type_text(public_type(kind))


def cast_column(name: str, given: pa.DataType, wanted: pa.DataType) -> Raw:
    """Return a column as another type, which holds its values exactly."""
    column = ex.quoted_column(name)
    return column if given == wanted else column.cast(wanted)


def _is_whole(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind) or types.is_decimal(kind))


def _whole(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if types.is_integer(one) and types.is_integer(other):
        signed = [t for t in (one, other) if types.is_signed_integer(t)]
        if len(signed) != 1:
            return max(one, other, key=lambda t: t.bit_width)
        unsigned = other if signed[0] == one else one
        bits = max(signed[0].bit_width, 2 * unsigned.bit_width)
        if bits <= 64:
            return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[bits]
    scale = max(_scale(one), _scale(other))
    digits = max(_digits(one) - _scale(one), _digits(other) - _scale(other)) + scale
    return pa.decimal128(digits, scale) if digits <= _MOST_DIGITS else None


def _scale(kind: pa.DataType) -> int:
    return int(kind.scale) if types.is_decimal(kind) else 0


def _digits(kind: pa.DataType) -> int:
    if types.is_decimal(kind):
        return int(kind.precision)
    return len(str(2 ** (kind.bit_width - types.is_signed_integer(kind)) - 1))

"""Types that hold the values of two types exactly, and columns as such a type.

    int8, int64 -> int64        uint64, int64 -> decimal128(20, 0)      int32, float64 -> float64
    null, any -> any            decimal(5,2), int16 -> decimal(7,2)     date32, timestamp[ms] -> timestamp[ms]
    struct<a>, struct<b> -> struct<a, b>                                list<T>, list<U> -> list of what holds T and U

int64 and float64 give float64, and a value that this rounds is an error where it is read. Text holds no other type.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mmflow.formats.schemas.arrow_types import convert_array

__all__ = ["as_text", "conform", "holds_exactly", "is_text", "widened"]

_UNITS = ("s", "ms", "us", "ns")
_UTC = ("UTC", "+00:00", "Etc/UTC", "Z")
#: Digits of integers by their bits.
_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}
_SIGNED = (pa.int8(), pa.int16(), pa.int32(), pa.int64())


def widened(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the narrowest type that holds the values of both exactly; None where there is none.

    >>> widened(pa.uint32(), pa.int32()), widened(pa.int64(), pa.string())
    (DataType(int64), None)
    """
    types = pa.types
    if one == other or types.is_null(other):
        return one
    if types.is_null(one):
        return other
    if types.is_nested(one) or types.is_nested(other):
        return _nested(one, other)
    for first, second in ((one, other), (other, one)):
        if types.is_integer(first):
            return _with_integer(first, second)
        if types.is_floating(first) and types.is_floating(second):
            return first if first.bit_width > second.bit_width else second
        if types.is_decimal(first) and types.is_decimal(second):
            return _decimal(_whole(first), _whole(second), first.scale, second.scale)
        if is_text(first) and is_text(second):
            return pa.string_view()
        if types.is_date(first) and types.is_date(second):
            return pa.date32()
        if types.is_date(first) and types.is_timestamp(second):
            return second if second.tz is None else None
        if types.is_timestamp(first) and types.is_timestamp(second):
            return _moment(first, second)
        if types.is_time(first) and types.is_time(second):
            unit = _finer(first.unit, second.unit)
            return pa.time64(unit) if unit in ("us", "ns") else pa.time32(unit)
        if types.is_duration(first) and types.is_duration(second):
            return pa.duration(_finer(first.unit, second.unit))
        if _is_bytes(first) and _is_bytes(second):
            large = types.is_large_binary(first) or types.is_large_binary(second)
            return pa.large_binary() if large else pa.binary()
    return None


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is text, of any layout."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    variable = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(variable or types.is_fixed_size_binary(kind)) and not types.is_decimal(kind)


def _with_integer(integer: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_integer(other):
        if types.is_signed_integer(integer) == types.is_signed_integer(other):
            return max(integer, other, key=lambda kind: kind.bit_width)
        signed, unsigned = (integer, other) if types.is_signed_integer(integer) else (other, integer)
        if unsigned.bit_width == 64:
            return pa.decimal128(20, 0)
        return next(
            k for k in _SIGNED if k.bit_width >= signed.bit_width and k.bit_width > unsigned.bit_width
        )
    if types.is_floating(other):
        return pa.float32() if integer.bit_width <= 16 and other.bit_width <= 32 else pa.float64()
    if types.is_decimal(other):
        return _decimal(_DIGITS[integer.bit_width], _whole(other), 0, other.scale)
    return None


def _whole(kind: pa.DataType) -> int:
    return int(kind.precision - kind.scale)


def _decimal(whole: int, other: int, scale: int, other_scale: int) -> pa.DataType | None:
    places = max(scale, other_scale)
    digits = max(whole, other) + places
    if digits > 76:
        return None
    return pa.decimal128(max(digits, 1), places) if digits <= 38 else pa.decimal256(digits, places)


def _finer(one: str, other: str) -> str:
    return max(one, other, key=_UNITS.index)


def _moment(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if one.tz != other.tz and not (one.tz in _UTC and other.tz in _UTC):
        return None
    return pa.timestamp(_finer(one.unit, other.unit), one.tz if one.tz == other.tz else "UTC")


def _nested(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_struct(one) and types.is_struct(other):
        fields = {f.name: f.type for f in one}
        for f in other:
            kind = widened(fields[f.name], f.type) if f.name in fields else f.type
            if kind is None:
                return None
            fields[f.name] = kind
        return pa.struct(list(fields.items()))
    if types.is_map(one) and types.is_map(other):
        key, item = widened(one.key_type, other.key_type), widened(one.item_type, other.item_type)
        if key is None or item is None:
            return None
        return pa.map_(pa.string() if is_text(key) else key, item)
    if _is_list(one) and _is_list(other):
        item = widened(one.value_type, other.value_type)
        if item is None:
            return None
        large = types.is_large_list(one) or types.is_large_list(other)
        return pa.large_list(item) if large else pa.list_(item)
    return None


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


# ---- values -------------------------------------------------------------------------------------


def holds_exactly(has: pa.DataType, wanted: pa.DataType, *, fields: bool = False) -> bool:
    """Return whether every value of one type has an exact value of the other, or is an error when it is converted.

    Args:
        has: Type of the values.
        wanted: The other type.
        fields: Fields of structs that `has` lacks count as null.
    """
    types = pa.types
    if has == wanted or types.is_null(has):
        return True
    if types.is_struct(has) and types.is_struct(wanted):
        there = {f.name: f.type for f in has}
        known = {f.name: f.type for f in wanted}
        if not known.keys() >= there.keys() or (not fields and len(there) < len(known)):
            return False
        return all(holds_exactly(kind, known[name], fields=fields) for name, kind in there.items())
    if types.is_map(has) and types.is_map(wanted):
        return holds_exactly(has.key_type, wanted.key_type) and holds_exactly(
            has.item_type, wanted.item_type, fields=fields
        )
    if _is_list(has) and _is_list(wanted):
        return holds_exactly(has.value_type, wanted.value_type, fields=fields)
    if types.is_nested(has) or types.is_nested(wanted):
        return False
    if types.is_decimal(has) and types.is_decimal(wanted):
        return _whole(wanted) >= _whole(has) and bool(wanted.scale >= has.scale)
    if types.is_integer(has) and types.is_decimal(wanted):
        return _DIGITS[has.bit_width] <= _whole(wanted)
    return widened(has, wanted) == wanted or (_is_bytes(has) and _is_bytes(wanted) and not _sized(wanted))


def _sized(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_binary(kind))


def conform(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Return values as a type that holds them (`holds_exactly`); fields that a struct lacks are null.

    Raises:
        pa.ArrowInvalid: A value does not fit: a whole number that a float rounds, a date beyond a timestamp's range.
    """
    types, kind = pa.types, array.type
    if kind == wanted:
        return array
    if (
        types.is_struct(kind)
        and types.is_struct(wanted)
        and [f.name for f in kind] != [f.name for f in wanted]
    ):
        children = [
            conform(_child(array, f.name), f.type)
            if kind.get_field_index(f.name) >= 0
            else pa.nulls(len(array), f.type)
            for f in wanted
        ]
        missing = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=list(wanted), mask=missing)
    if types.is_struct(kind) and types.is_struct(wanted):
        children = [conform(_child(array, f.name), f.type) for f in wanted]
        missing = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=list(wanted), mask=missing)
    if _is_list(kind) and _is_list(wanted) and types.is_nested(kind.value_type):
        return _list(array, wanted)
    if types.is_integer(kind) and types.is_float32(wanted) and kind.bit_width > 16:
        raise pa.ArrowInvalid(f"{kind} does not fit {wanted}")
    return convert_array(array, wanted)


def _child(array: pa.StructArray, name: str) -> pa.Array:
    return array.field(array.type.get_field_index(name))


def _list(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    values = conform(array.values, wanted.value_type)
    made = pa.large_list if pa.types.is_large_list(array.type) else pa.list_
    offsets, missing = array.offsets, array.is_null() if array.null_count else None
    maker = pa.LargeListArray if pa.types.is_large_list(array.type) else pa.ListArray
    again = maker.from_arrays(offsets, values, type=made(wanted.value_type), mask=missing)
    return convert_array(again, wanted)


def as_text(array: pa.Array) -> pa.Array | None:
    """Return numbers, booleans, dates and moments as text that says the same value; None: of other types."""
    types, kind = pa.types, array.type
    simple: Sequence[bool] = (
        types.is_integer(kind), types.is_floating(kind), types.is_boolean(kind), types.is_decimal(kind),
        types.is_date(kind), types.is_timestamp(kind), types.is_time(kind), is_text(kind),
    )  # fmt: skip
    if not any(simple):
        return None
    return array.cast(pa.string()).cast(pa.string_view())

"""JSON values to Arrow, strictly: what does not fit its type is never bent. The slow, exact way."""

from __future__ import annotations

import base64
import json
import math
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from mmflow.formats.ndjson.raw import minified, raw_items, raw_members
from mmflow.formats.schemas.json_type import holds_json, is_json
from mmflow.formats.schemas.schema import type_text

__all__ = ["EXTRA", "UNKNOWN", "Misfit", "Number", "fit_raw", "fit_value", "is_exact", "parse"]

#: Column of what a schema has no place for, with `on_new_field = json`.
EXTRA = "_extra"

#: Why a field is wrong that a closed schema lacks.
UNKNOWN = (
    "a field that the inferred schema does not know; set on_new_field=json (kept as JSON in the column _extra) or "
    "on_new_field=ignore, or declare it with schema="
)


class Misfit(ValueError):  # noqa: N818  (caught where it is raised; the user sees a BadRecordError)
    """Error for a value that is not of its column's type, with the path of the column, the value and the reason."""

    def __init__(self, column: str, value: object, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.value = value
        self.reason = reason


class Number(str):
    """Number as it is written, so that its type decides how it is read."""

    __slots__ = ()

    @property
    def whole(self) -> bool:
        return not any(c in self for c in ".eE")


#: Numbers that JSON lacks, as `sinks.writers.text` (and Spark, and protobuf) write them: text.
NOT_JSON = frozenset({"NaN", "Infinity", "-Infinity"})
_LONGEST = 4096  # digits of a number; more are no data


def _number(text: str) -> Number:
    if len(text) > _LONGEST:
        raise ValueError(f"a number of {len(text):,} characters")
    return Number(text)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def parse(text: str) -> dict[str, Any]:
    """Parse one record: an object of RFC 8259. A repeated key has its last value, and numbers are `Number`.

    Raises:
        ValueError: It is not that.
    """
    value = parse_value(text)
    if not isinstance(value, dict):
        raise ValueError(f"a record is an object, this is {_describe(value)}")  # noqa: TRY004  (the record is bad, not the call)
    return value


def parse_value(text: str) -> Any:
    """Return any value of RFC 8259. Numbers are `Number`.

    Raises:
        ValueError: It is none.
    """
    return json.loads(text, parse_float=_number, parse_int=_number, parse_constant=_refuse_constant)


def _describe(value: object) -> str:
    if isinstance(value, Number):
        return "an integer" if value.whole else "a number"
    names = {bool: "a boolean", str: "text", list: "a list", dict: "an object"}
    return "null" if value is None else names[type(value)]


def is_exact(number: Number, kind: pa.DataType) -> bool:
    """Return whether a float type holds this whole number exactly."""
    if len(number) <= _WHOLE_DIGITS[kind.bit_width]:
        return True
    real = _rounded(number, kind)
    return math.isfinite(real) and int(real) == int(number)


#: Digits of whole numbers that floats of so many bits hold for sure.
_WHOLE_DIGITS = {64: 15, 32: 7, 16: 3}


def _rounded(number: Number, kind: pa.DataType) -> float:
    """Return a number as a float of the type, rounded once, from the text."""
    return (
        float(number)
        if kind == pa.float64()
        else float(pa.scalar(str(number), pa.string()).cast(kind).as_py())
    )


def fit_value(
    value: Any, kind: pa.DataType, column: str, *, exact: bool = False, closed: bool = False
) -> Any:
    """Return the value as pyarrow takes it for this type.

    With `exact`, no whole number is rounded to a float; with `closed`, objects have no fields that their type lacks.

    Raises:
        Misfit: It is of another type, or out of range.
    """
    if value is None:
        return None
    types = pa.types
    if types.is_struct(kind):
        _expect(value, dict, "an object", column)
        if closed and len(value) and (unknown := value.keys() - {f.name for f in kind}):
            name = next(k for k in value if k in unknown)
            raise Misfit(f"{column}.{name}", value[name], UNKNOWN)
        return {
            f.name: fit_value(value.get(f.name), f.type, f"{column}.{f.name}", exact=exact, closed=closed)
            for f in kind
        }
    if types.is_list(kind) or types.is_large_list(kind):
        _expect(value, list, "a list", column)
        return [
            fit_value(v, kind.value_type, f"{column}[{i}]", exact=exact, closed=closed)
            for i, v in enumerate(value)
        ]
    if types.is_fixed_size_list(kind):
        _expect(value, list, "a list", column)
        if len(value) != kind.list_size:
            raise Misfit(column, str(value), f"expected {kind.list_size} values, found {len(value)}")
        return [
            fit_value(v, kind.value_type, f"{column}[{i}]", exact=exact, closed=closed)
            for i, v in enumerate(value)
        ]
    if types.is_map(kind):
        if isinstance(value, list):  # of {"key", "value"}: for keys that are no text
            return [_pair(v, kind, f"{column}[{i}]", exact=exact, closed=closed) for i, v in enumerate(value)]
        _expect(value, dict, "an object", column)
        return [
            (k, fit_value(v, kind.item_type, f"{column}.{k}", exact=exact, closed=closed))
            for k, v in value.items()
        ]
    if types.is_boolean(kind):
        return _expect(value, bool, kind, column)
    if types.is_integer(kind):
        number = _expect(value, Number, kind, column)
        if not number.whole:
            raise Misfit(column, value, f"expected {type_text(kind)}, found a number")
        return _in_range(number, kind, column)
    if types.is_floating(kind):
        if isinstance(value, str) and value in NOT_JSON:
            return float(value)
        number = _expect(value, Number, kind, column)
        real = _rounded(number, kind)
        if math.isinf(real):
            raise Misfit(column, value, f"out of the range of {type_text(kind)}")
        if exact and number.whole and not is_exact(number, kind):
            raise Misfit(
                column,
                value,
                f"{type_text(kind)} would round it; declare its type with schema_overrides=",
            )
        return real
    if types.is_decimal(kind):
        if not isinstance(value, str):
            _expect(value, Number, kind, column)
        return _decimal(value, kind, column)
    if types.is_duration(kind):
        number = _expect(value, Number, kind, column)
        if not number.whole:
            raise Misfit(column, value, f"expected {type_text(kind)}, found a number")
        return _in_range(number, pa.int64(), column)
    text = value
    if not isinstance(value, str) or isinstance(value, Number):
        raise Misfit(column, str(value), f"expected {type_text(kind)}, found {_describe(value)}")
    if types.is_string_view(kind) or types.is_string(kind) or types.is_large_string(kind):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Misfit(column, ascii(text), "a lone surrogate is not text") from error
        return text
    if is_binary(kind):
        return _decoded(text, kind, column)
    return _moment(text, kind, column)


def fit_raw(text: str | None, kind: pa.DataType, column: str, *, exact: bool, closed: bool) -> Any:
    """Return a value, given as text of JSON, as pyarrow takes it for a type that holds `json` somewhere.

    Raises:
        Misfit: It is of another type, or out of range.
    """
    if text is None or text.strip(" \t\r\n") == "null":
        return None
    if is_json(kind):
        return minified(text)
    if not holds_json(kind):
        return fit_value(parse_value(text), kind, column, exact=exact, closed=closed)
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind):
        _expect(parse_value(text), list, "a list", column)
        return [
            fit_raw(v, kind.value_type, f"{column}[{i}]", exact=exact, closed=closed)
            for i, v in enumerate(raw_items(text))
        ]
    _expect(parse_value(text), dict, "an object", column)
    members = raw_members(text)
    if types.is_map(kind):
        return [
            (k, fit_raw(v, kind.item_type, f"{column}.{k}", exact=exact, closed=closed))
            for k, v in members.items()
        ]
    if closed and (unknown := members.keys() - {f.name for f in kind}):
        name = next(k for k in members if k in unknown)
        raise Misfit(f"{column}.{name}", members[name], UNKNOWN)
    return {
        f.name: fit_raw(members.get(f.name), f.type, f"{column}.{f.name}", exact=exact, closed=closed)
        for f in kind
    }


def _pair(value: Any, kind: pa.DataType, column: str, *, exact: bool, closed: bool) -> tuple[Any, Any]:
    """Return an entry of a map, from an object of a key and a value."""
    _expect(value, dict, "an object", column)
    if value.keys() != {"key", "value"} or value["key"] is None:
        raise Misfit(column, str(value), 'expected an object of "key", which is not null, and "value"')
    key = fit_value(value["key"], kind.key_type, f"{column}.key", exact=exact, closed=closed)
    return key, fit_value(value["value"], kind.item_type, f"{column}.value", exact=exact, closed=closed)


def is_binary(kind: pa.DataType) -> bool:
    """Return whether values of the type are bytes."""
    types = pa.types
    plain = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(plain or types.is_fixed_size_binary(kind))


def _decoded(text: str, kind: pa.DataType, column: str) -> bytes:
    """Decode bytes from base64."""
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Misfit(column, text, f"{type_text(kind)} stands as base64: {error}") from error
    if pa.types.is_fixed_size_binary(kind) and len(value) != kind.byte_width:
        raise Misfit(column, text, f"expected {kind.byte_width} bytes, found {len(value)}")
    return value


def _expect(value: Any, wanted: type, kind: object, column: str) -> Any:
    if isinstance(value, wanted):
        return value
    expected = type_text(kind) if isinstance(kind, pa.DataType) else kind
    raise Misfit(column, str(value), f"expected {expected}, found {_describe(value)}")


def _in_range(number: Number, kind: pa.DataType, column: str) -> int:
    bits = kind.bit_width
    low, high = (
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        if pa.types.is_signed_integer(kind)
        else (0, (1 << bits) - 1)
    )
    value = int(number)
    if not low <= value <= high:
        raise Misfit(column, number, f"out of the range of {type_text(kind)}")
    return value


def _decimal(text: str, kind: pa.DataType, column: str) -> Decimal:
    try:
        value = Decimal(text)
        pa.array([value], kind)
    except (InvalidOperation, pa.ArrowInvalid) as error:
        raise Misfit(column, text, f"does not fit {type_text(kind)}") from error
    return value


def _moment(text: str, kind: pa.DataType, column: str) -> int:
    """Parse a date, time or timestamp of ISO 8601, as a number, since Python's types have no year 0."""
    try:
        if pa.types.is_time(kind):
            # Arrow casts no text to times.
            made = pa.array([f"1970-01-01 {text}"], pa.string()).cast(pa.timestamp(kind.unit)).cast(kind)
        else:
            made = pa.array([text], pa.string()).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeEncodeError) as error:
        shown = text.encode(errors="backslashreplace").decode()
        raise Misfit(column, shown, f"not a {type_text(kind)}") from error
    number: int = made.view(pa.int32() if kind.bit_width == 32 else pa.int64())[0].as_py()
    return number

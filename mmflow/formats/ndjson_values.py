"""JSON values to Arrow, strictly: what does not fit its type is never bent. The slow, exact way."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from mmflow.errors import SourceError

__all__ = ["Misfit", "Number", "fitted", "infer", "parse"]


class Misfit(ValueError):  # noqa: N818  (caught where it is raised; the user sees a BadRecordError)
    """A value that is not of its column's type: path of the column, the value, why."""

    def __init__(self, column: str, value: object, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.value = value
        self.reason = reason


class Number(str):
    """A number as it is written, so that its type decides how it is read."""

    __slots__ = ()

    @property
    def whole(self) -> bool:
        return not any(c in self for c in ".eE")


_LONGEST = 4096  # digits of a number; more are no data


def _number(text: str) -> Number:
    if len(text) > _LONGEST:
        raise ValueError(f"a number of {len(text):,} characters")
    return Number(text)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def parse(text: str) -> dict[str, Any]:
    """One record: an object of RFC 8259; of a key that comes twice, the last value. Numbers are `Number`.

    Raises:
        ValueError: It is not that.
    """
    value = json.loads(text, parse_float=_number, parse_int=_number, parse_constant=_refuse_constant)
    if not isinstance(value, dict):
        raise ValueError(f"a record is an object, this is {_name(value)}")  # noqa: TRY004
    return value


def _name(value: object) -> str:
    if isinstance(value, Number):
        return "an integer" if value.whole else "a number"
    names = {bool: "a boolean", str: "text", list: "a list", dict: "an object"}
    return "null" if value is None else names[type(value)]


def fitted(value: Any, kind: pa.DataType, column: str) -> Any:
    """The value as pyarrow takes it for this type.

    Raises:
        Misfit: It is of another type, or out of range.
    """
    if value is None:
        return None
    types = pa.types
    if types.is_struct(kind):
        _expect(value, dict, "an object", column)
        return {f.name: fitted(value.get(f.name), f.type, f"{column}.{f.name}") for f in kind}
    if types.is_list(kind) or types.is_large_list(kind):
        _expect(value, list, "a list", column)
        return [fitted(v, kind.value_type, f"{column}[{i}]") for i, v in enumerate(value)]
    if types.is_map(kind):
        _expect(value, dict, "an object", column)
        return [(k, fitted(v, kind.item_type, f"{column}.{k}")) for k, v in value.items()]
    if types.is_boolean(kind):
        return _expect(value, bool, kind, column)
    if types.is_integer(kind):
        number = _expect(value, Number, kind, column)
        if not number.whole:
            raise Misfit(column, value, f"expected {kind}, found a number")
        return _in_range(number, kind, column)
    if types.is_floating(kind):
        number = _expect(value, Number, kind, column)
        # Rounded once, from the text.
        real = float(number) if kind == pa.float64() else pa.scalar(str(number)).cast(kind).as_py()
        if math.isinf(real):
            raise Misfit(column, value, f"out of the range of {kind}")
        return real
    if types.is_decimal(kind):
        if not isinstance(value, str):
            _expect(value, Number, kind, column)
        return _decimal(value, kind, column)
    text = value
    if not isinstance(value, str) or isinstance(value, Number):
        raise Misfit(column, str(value), f"expected {kind}, found {_name(value)}")
    if types.is_string_view(kind) or types.is_string(kind) or types.is_large_string(kind):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Misfit(column, ascii(text), "a lone surrogate is not text") from error
        return text
    return _moment(text, kind, column)


def _expect(value: Any, wanted: type, kind: object, column: str) -> Any:
    if isinstance(value, wanted):
        return value
    raise Misfit(column, str(value), f"expected {kind}, found {_name(value)}")


def _in_range(number: Number, kind: pa.DataType, column: str) -> int:
    bits = kind.bit_width
    low, high = (
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        if pa.types.is_signed_integer(kind)
        else (0, (1 << bits) - 1)
    )
    value = int(number)
    if not low <= value <= high:
        raise Misfit(column, number, f"out of the range of {kind}")
    return value


def _decimal(text: str, kind: pa.DataType, column: str) -> Decimal:
    try:
        value = Decimal(text)
        pa.array([value], kind)
    except (InvalidOperation, pa.ArrowInvalid) as error:
        raise Misfit(column, text, f"does not fit {kind}") from error
    return value


def _moment(text: str, kind: pa.DataType, column: str) -> int:
    """Dates, times and timestamps stand as ISO 8601 text; as a number, since Python's know no year 0."""
    try:
        if pa.types.is_time(kind):
            # Arrow casts no text to times.
            made = pa.array([f"1970-01-01 {text}"]).cast(pa.timestamp(kind.unit)).cast(kind)
        else:
            made = pa.array([text]).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeEncodeError) as error:
        shown = text.encode(errors="backslashreplace").decode()
        raise Misfit(column, shown, f"not a {kind}") from error
    number: int = made.view(pa.int32() if kind.bit_width == 32 else pa.int64())[0].as_py()
    return number


def infer(records: Iterable[dict[str, Any]], path: str) -> pa.Schema:
    """A schema that every record fits; columns in order of first appearance.

    Raises:
        SourceError: A field holds values that no one type fits.
    """
    fields: dict[str, pa.DataType] = {}
    for record in records:
        for name, value in record.items():
            fields[name] = _merged(fields.get(name, pa.null()), _type_of(value, path, name), path, name)
    return pa.schema([pa.field(n, _settled(t)) for n, t in fields.items()])


def _type_of(value: Any, path: str, name: str) -> pa.DataType:
    if isinstance(value, dict):
        return pa.struct([pa.field(k, _type_of(v, path, f"{name}.{k}")) for k, v in value.items()])
    if isinstance(value, list):
        item = pa.null()
        for v in value:
            item = _merged(item, _type_of(v, path, f"{name}[]"), path, name)
        return pa.list_(item)
    if isinstance(value, Number):
        return pa.int64() if value.whole else pa.float64()
    simple = {bool: pa.bool_(), str: pa.string(), type(None): pa.null()}
    return simple[type(value)]


def _merged(a: pa.DataType, b: pa.DataType, path: str, name: str) -> pa.DataType:
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if {a, b} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(a) and pa.types.is_list(b):
        return pa.list_(_merged(a.value_type, b.value_type, path, name))
    if pa.types.is_struct(a) and pa.types.is_struct(b):
        merged = {f.name: f.type for f in a}
        for f in b:
            merged[f.name] = _merged(merged.get(f.name, pa.null()), f.type, path, f"{name}.{f.name}")
        return pa.struct(list(merged.items()))
    raise SourceError(
        f"{path}: field {name!r} holds values of types {a} and {b}; declare one of them with schema=, "
        "and choose what happens to the others with on_bad_record=",
        path=path,
    )


def _settled(kind: pa.DataType) -> pa.DataType:
    """What was null in the whole sample may be anything: text is the type that most often fits."""
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_settled(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _settled(f.type)) for f in kind])
    return kind

"""Inference of types from JSON values: the narrowest type that holds all of them exactly.

Values of several kinds, and those that are nested too deep for a type, are `json`.

values -> what was seen of each field, at every depth -> types
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.ndjson.values import NOT_JSON, Number, is_exact
from mmflow.formats.schemas.json_type import JSON
from mmflow.formats.schemas.schema import DEEPEST, name_text

__all__ = ["infer_schema"]

_DIGITS = 38  # of a decimal128


class _FieldValues:
    """Values seen of one field: their kinds, and what the types of numbers, lists and objects depend on."""

    __slots__ = ("digits", "fields", "inexact", "item", "kinds", "least", "most", "places", "reals")

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.least = self.most = 0  # whole numbers
        self.reals = False  # a number is not whole
        self.inexact: Number | None = None  # a whole number that float64 rounds
        self.digits = self.places = 0  # before the point, and behind it
        self.fields: dict[str, _FieldValues] = {}
        self.item: _FieldValues | None = None

    def add(self, value: Any) -> None:
        if value is None:
            return
        if isinstance(value, Number):
            self.kinds.add("number")
            self._number(value)
        elif isinstance(value, str):
            self.kinds.add("lacking" if value in NOT_JSON else "text")
        elif isinstance(value, bool):
            self.kinds.add("boolean")
        elif isinstance(value, list):
            self.kinds.add("list")
            self.item = self.item or _FieldValues()
            for item in value:
                self.item.add(item)
        else:
            self.kinds.add("object")
            for name, item in value.items():
                self.fields.setdefault(name, _FieldValues()).add(item)

    def _number(self, number: Number) -> None:
        if not number.whole:
            self.reals = True
            if math.isfinite(float(number)):
                _, digits, exponent = Decimal(number).as_tuple()
                assert isinstance(exponent, int)
                self.places = max(self.places, -exponent)
                self.digits = max(self.digits, len(digits) + exponent)
            return
        self.digits = max(self.digits, len(number.lstrip("-")))
        if len(number) > _DIGITS + 1:
            self.inexact = number
            return
        value = int(number)
        self.least, self.most = min(self.least, value), max(self.most, value)
        if self.inexact is None and not is_exact(number, pa.float64()):
            self.inexact = number


def infer_schema(records: Iterable[dict[str, Any]], path: str) -> pa.Schema:
    """Infer a schema that holds every value of some records exactly; columns in order of first appearance.

    Raises:
        SourceError: A field holds values that no one type holds, is nested too deep, or has a NUL in its name.
    """
    whole = _FieldValues()
    for record in records:
        whole.add(record)
    return pa.schema([pa.field(n, _column_type(seen, path, n)) for n, seen in whole.fields.items()])


class _TooDeepError(Exception):
    """A field is nested deeper than types are."""


def _column_type(seen: _FieldValues, path: str, name: str) -> pa.DataType:
    try:
        return _type(seen, path, name_text(name), name, 1)
    except _TooDeepError:
        return JSON


def _type(seen: _FieldValues, path: str, place: str, name: str, depth: int) -> pa.DataType:
    """Return the type of a field; `place` is where it is, for messages."""
    if "\0" in name:
        raise _unfit_error(
            path, place, "has a NUL in its name, which no column's name can", "the fields that you want"
        )
    if any("\ud800" <= c <= "\udfff" for c in name):
        raise _unfit_error(
            path, place, "has a lone surrogate in its name, which is no text", "the fields that you want"
        )
    if depth > DEEPEST:
        raise _TooDeepError
    if "lacking" in seen.kinds:  # NaN as text: a number beside numbers, text beside text
        seen.reals = True
        seen.kinds = seen.kinds - {"lacking"} or {"text"}
    if len(seen.kinds) > 1:
        return JSON
    match next(iter(seen.kinds), "text"):
        case "number":
            return _number_type(seen, path, place)
        case "boolean":
            return pa.bool_()
        case "list":
            assert seen.item is not None
            return pa.list_(_type(seen.item, path, f"{place}[]", "", depth + 1))
        case "object" if not seen.fields:
            return JSON  # a struct has fields
        case "object":
            fields = seen.fields.items()
            return pa.struct(
                [pa.field(n, _type(f, path, f"{place}.{name_text(n)}", n, depth + 1)) for n, f in fields]
            )
    return (
        pa.string()
    )  # what was null in the whole sample may be anything: text is the type that most often fits


def _number_type(seen: _FieldValues, path: str, place: str) -> pa.DataType:
    if not seen.reals and seen.digits <= _DIGITS:
        for kind, low, high in ((pa.int64(), -(1 << 63), 1 << 63), (pa.uint64(), 0, 1 << 64)):
            if low <= seen.least and seen.most < high:
                return kind
    elif seen.inexact is None:
        return pa.float64()
    if seen.digits + seen.places <= _DIGITS:
        return pa.decimal128(_DIGITS, seen.places)
    found = seen.inexact or "numbers"
    shown = found if len(found) <= 40 else f"{found[:40]}... of {len(found):,} digits"
    raise _unfit_error(path, place, f"holds {shown} beside others, and no type holds all of them exactly",
                   "its type (float64 rounds them)")  # fmt: skip


def _unfit_error(path: str, place: str, what: str, advice: str) -> SourceError:
    hint = f"declare {advice}, with schema=; on_bad_record= says what happens to values that don't fit"
    shown = ascii(place) if any("\ud800" <= c <= "\udfff" for c in place) else repr(place)
    return SourceError(f"{path}: field {shown} {what}\n  {hint}", path=path)

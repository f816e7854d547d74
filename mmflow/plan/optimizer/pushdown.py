"""Conjuncts of a filter by which a source may prune: `column op literal`.

They only say what may be skipped; the filter itself still runs, so a conjunct left out costs
time, never rows. What is not understood is left out.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import pyarrow as pa
from substrait.algebra_pb2 import Expression

from mmflow.formats import Comparison
from mmflow.plan.optimizer.literal_prefilter import required_text
from mmflow.plan.substrait import field_index

__all__ = ["comparisons"]

_OPS = {
    "equal": "eq",
    "not_equal": "ne",
    "lt": "lt",
    "lte": "le",
    "gt": "gt",
    "gte": "ge",
    "is_null": "is_null",
    "is_not_null": "is_not_null",
}
_MIRRORED = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_UNKNOWN = object()

# Variations of Substrait types, as DataFusion 55 numbers them.
_SIGNED, _UNSIGNED = 0, 1
_TEXT_LAYOUTS = (0, 1, 2)  # offsets of 32 bits, of 64, views
_INTEGER_BITS = {"i8": 8, "i16": 16, "i32": 32, "i64": 64}


def comparisons(condition: Expression, schema: pa.Schema, anchors: dict[str, int]) -> tuple[Comparison, ...]:
    """Return the conjuncts of `condition` over plain columns of `schema` that sources understand."""
    names = {anchor: name for name, anchor in anchors.items()}
    found: list[Comparison] = []
    _collect(condition, schema, names, found)
    return tuple(found)


def _collect(e: Expression, schema: pa.Schema, names: dict[int, str], found: list[Comparison]) -> None:
    match e.WhichOneof("rex_type"):
        case "scalar_function":
            name = names.get(e.scalar_function.function_reference, "")
            arguments = [a.value for a in e.scalar_function.arguments]
            if name == "and":
                for argument in arguments:
                    _collect(argument, schema, names, found)
            elif name == "or":
                either = _either(arguments, schema, names)
                if either is not None:
                    found.append(either)
            elif name in ("like", "contains", "regex_match", "starts_with", "ends_with"):
                held = _held(name, arguments, schema)
                if held is not None:
                    found.append(held)
            elif name in _OPS:
                made = _comparison(_OPS[name], arguments, schema)
                if made is not None:
                    found.append(made)
        case "singular_or_list":
            column = field_index(e.singular_or_list.value)
            values = tuple(_literal(option) for option in e.singular_or_list.options)
            if column is not None and values and all(v is not _UNKNOWN and v is not None for v in values):
                found.append(Comparison(schema.names[column], "in", values))


def _either(arguments: list[Expression], schema: pa.Schema, names: dict[int, str]) -> Comparison | None:
    """Return `column in values` for equalities of one column: DataFusion writes short lists so."""
    found: list[Comparison] = []
    for argument in arguments:
        before = len(found)
        _collect(argument, schema, names, found)
        if (
            len(found) != before + 1
            or found[-1].op not in ("eq", "in")
            or found[-1].column != found[0].column
        ):
            return None
    values = [value for c in found for value in (c.value if c.op == "in" else (c.value,))]
    return Comparison(found[0].column, "in", tuple(values))


def _comparison(op: str, arguments: list[Expression], schema: pa.Schema) -> Comparison | None:
    if op in ("is_null", "is_not_null"):
        column = field_index(arguments[0])
        return None if column is None else Comparison(schema.names[column], op, None)
    column, value = field_index(arguments[0]), _literal(arguments[1])
    if column is None:
        column, value, op = field_index(arguments[1]), _literal(arguments[0]), _MIRRORED[op]
    if column is None or value is _UNKNOWN or value is None:
        return None
    return Comparison(schema.names[column], op, value)


def _held(name: str, arguments: list[Expression], schema: pa.Schema) -> Comparison | None:
    """Return a comparison with the longest literal part of a pattern, which each text that matches it must hold."""
    column, text = field_index(arguments[0]), _literal(arguments[1])
    if column is None or not isinstance(text, str):
        return None
    if name == "like":
        escape = arguments[2] if len(arguments) > 2 else None
        if escape is not None and escape.literal.WhichOneof("literal_type") != "null":
            return None
        # A backslash takes the next character as it is; parts that hold one are not looked at.
        text = max(re.split(r"[%_]|\\.?", text, flags=re.DOTALL), key=len)
    elif name == "regex_match":
        text = required_text(text)
    return Comparison(schema.names[column], "contains", text) if text else None


def _literal(e: Expression) -> object:
    """Return a literal's Python value; `_UNKNOWN` for other expressions and other kinds of literal.

    A literal's type is its kind and its variation: DataFusion 55 encodes uint32 as an i32 of variation 1, with
    the same bits. A variation that is not known here may mean anything, so its value does not count.
    """
    if e.WhichOneof("rex_type") != "literal":
        return _UNKNOWN
    literal = e.literal
    kind, variation = str(literal.WhichOneof("literal_type")), literal.type_variation_reference
    if kind in _INTEGER_BITS and variation in (_SIGNED, _UNSIGNED):
        value = int(getattr(literal, kind))
        return value % (1 << _INTEGER_BITS[kind]) if variation == _UNSIGNED else value
    if kind == "string" and variation in _TEXT_LAYOUTS:
        return literal.string
    if variation:
        return _UNKNOWN
    if kind in ("boolean", "fp32", "fp64"):
        return getattr(literal, kind)
    if kind == "var_char":
        return literal.var_char.value
    if kind == "date":
        return _date(literal.date)
    if kind == "decimal":
        unscaled = int.from_bytes(literal.decimal.value, "little", signed=True)
        # By its digits: arithmetic of Decimal rounds to 28 of them.
        digits = tuple(map(int, str(abs(unscaled))))
        return Decimal((int(unscaled < 0), digits, -literal.decimal.scale))
    return _UNKNOWN


def _date(days: int) -> object:
    try:
        return dt.date(1970, 1, 1) + dt.timedelta(days=days)
    except OverflowError:  # Python's dates end with the year 9999
        return _UNKNOWN

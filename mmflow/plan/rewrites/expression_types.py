"""Types of Substrait expressions, as far as numbers go, and one way to rewrite expressions bottom up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
from google.protobuf.message import Message
from substrait.algebra_pb2 import Expression, Rel
from substrait.type_pb2 import Type

from mmflow.plan.substrait import field_index, parts_of

__all__ = ["arrow_number", "inner", "kind_of", "rewritten"]

_SIGNED = {"i8": pa.int8(), "i16": pa.int16(), "i32": pa.int32(), "i64": pa.int64()}
_UNSIGNED = {"i8": pa.uint8(), "i16": pa.uint16(), "i32": pa.uint32(), "i64": pa.uint64()}
_REAL = {"fp32": pa.float32(), "fp64": pa.float64()}
# DataFusion 55 has no other type of its own than this one.
_HALF = "user_defined"


def arrow_number(kind: Type) -> pa.DataType | None:
    """Return the Arrow type of a Substrait type of numbers or durations; None for others."""
    name = str(kind.WhichOneof("kind"))
    if name in _SIGNED:
        return (_UNSIGNED if getattr(kind, name).type_variation_reference else _SIGNED)[name]
    if name in _REAL:
        return _REAL[name]
    if name == "decimal":
        wide = kind.decimal.type_variation_reference
        made = pa.decimal256 if wide else pa.decimal128
        return made(kind.decimal.precision, kind.decimal.scale)
    if name == "interval_day" and kind.interval_day.type_variation_reference:
        return pa.duration({0: "s", 3: "ms", 6: "us", 9: "ns"}[kind.interval_day.precision])
    if name == "interval_compound":
        return pa.month_day_nano_interval()
    return pa.float16() if name == _HALF else None


def kind_of(e: Expression, schema: pa.Schema) -> pa.DataType | None:
    """Return the type of an expression over columns of `schema`; None: it is not known, or no number's."""
    match e.WhichOneof("rex_type"):
        case "selection":
            index = field_index(e)
            return None if index is None else schema.field(index).type
        case "literal":
            return _literal_kind(e.literal)
        case "cast":
            return arrow_number(e.cast.type)
        case "scalar_function":
            return arrow_number(e.scalar_function.output_type)
        case "if_then":
            return _first_known(
                (*(i.then for i in e.if_then.ifs if i.HasField("then")), getattr(e.if_then, "else")), schema
            )
    return None


def _first_known(expressions: tuple[Expression, ...], schema: pa.Schema) -> pa.DataType | None:
    kinds = (kind_of(e, schema) for e in expressions)
    return next((k for k in kinds if k is not None), None)


def _literal_kind(literal: Expression.Literal) -> pa.DataType | None:
    name = str(literal.WhichOneof("literal_type"))
    if name in _SIGNED:
        return (_UNSIGNED if literal.type_variation_reference else _SIGNED)[name]
    if name == "decimal":
        return pa.decimal128(literal.decimal.precision, literal.decimal.scale)
    if name == "null":
        return arrow_number(literal.null)
    return pa.float16() if name == _HALF else _REAL.get(name)


def inner(message: Message) -> Iterator[Expression]:
    """Yield the expressions directly below a message, those in subqueries' relations excluded."""
    for part in parts_of(message):
        if isinstance(part, Expression):
            yield part
        elif not isinstance(part, Rel):
            yield from inner(part)


def rewritten(e: Expression, change: Callable[[Expression], None]) -> Expression:
    """Return a copy in which `change` was made to every expression but plain columns, inner ones first."""
    made = Expression()
    made.CopyFrom(e)
    _rewrite(made, change)
    return made


def _rewrite(e: Expression, change: Callable[[Expression], None]) -> None:
    if field_index(e) is None:
        for part in inner(e):
            _rewrite(part, change)
        change(e)

"""Types and literals of Substrait as DataFusion 55 writes them, as Arrow types and the bytes of their values."""

from __future__ import annotations

import struct

import pyarrow as pa
from substrait.algebra_pb2 import Expression
from substrait.type_pb2 import Type

from mmflow.plan.rewrites.expression_types import arrow_number

__all__ = ["Literal", "arrow_type", "literal_value"]

Literal = tuple[pa.DataType, bytes | None]  # None: null

_PLAIN = 0
_UNSIGNED = 1
_TEXT = {0: pa.string(), 1: pa.large_string(), 2: pa.string_view()}
_UNITS = {0: "s", 3: "ms", 6: "us", 9: "ns"}
_INTEGERS = {
    "i8": (pa.int8(), pa.uint8()),
    "i16": (pa.int16(), pa.uint16()),
    "i32": (pa.int32(), pa.uint32()),
    "i64": (pa.int64(), pa.uint64()),
}


def arrow_type(kind: Type) -> pa.DataType | None:
    """Return the Arrow type of a Substrait type; None where programs don't know it."""
    name = str(kind.WhichOneof("kind"))
    if name in ("interval_day", "interval_compound", "user_defined"):
        return None
    number = arrow_number(kind)
    if number is not None:
        return number
    variation = int(getattr(kind, name).type_variation_reference) if name != "None" else -1
    if name == "string":
        return _TEXT.get(variation)
    if variation != _PLAIN:
        return None
    if name == "bool":
        return pa.bool_()
    if name == "date":
        return pa.date32()
    if name == "precision_timestamp" and kind.precision_timestamp.precision in _UNITS:
        return pa.timestamp(_UNITS[kind.precision_timestamp.precision])
    return None


def literal_value(literal: Expression.Literal) -> Literal | None:
    """Return a literal's type and bytes; None where programs don't know it."""
    name, variation = str(literal.WhichOneof("literal_type")), literal.type_variation_reference
    if name == "null":
        kind = arrow_type(literal.null)
        return None if kind is None else (kind, None)
    if name in _INTEGERS and variation in (_PLAIN, _UNSIGNED):
        kind = _INTEGERS[name][variation]
        # uint8 comes as it is, uint64 as the int64 with its bits.
        value = int(getattr(literal, name)) % (1 << kind.bit_width)
        return kind, value.to_bytes(kind.bit_width // 8, "little")
    if name == "string":
        return (_TEXT[variation], literal.string.encode()) if variation in _TEXT else None
    if variation != _PLAIN:
        return None
    match name:
        case "boolean":
            return pa.bool_(), bytes([literal.boolean])
        case "fp32":
            return pa.float32(), struct.pack("<f", literal.fp32)
        case "fp64":
            return pa.float64(), struct.pack("<d", literal.fp64)
        case "var_char":
            return pa.string(), literal.var_char.value.encode()
        case "date":
            return pa.date32(), struct.pack("<i", literal.date)
        case "decimal" if len(literal.decimal.value) == 16:
            return pa.decimal128(literal.decimal.precision, literal.decimal.scale), bytes(
                literal.decimal.value
            )
        case "precision_timestamp" if literal.precision_timestamp.precision in _UNITS:
            unit = _UNITS[literal.precision_timestamp.precision]
            return pa.timestamp(unit), struct.pack("<q", literal.precision_timestamp.value)
    return None

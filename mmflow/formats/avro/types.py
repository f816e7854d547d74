"""Arrow types and values of Avro's (specification 1.11, "Schema Declaration" and "Logical Types")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmflow.errors import SourceError

__all__ = ["Converter", "arrow_column"]

#: Turns a value of fastavro into one that pyarrow takes; None: it is one.
Converter = Callable[[Any], Any] | None

_PRIMITIVE = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}
#: By logical type, and the type that carries it.
_LOGICAL = {
    ("date", "int"): pa.date32(),
    ("time-millis", "int"): pa.time32("ms"),
    ("time-micros", "long"): pa.time64("us"),
    ("timestamp-millis", "long"): pa.timestamp("ms", "UTC"),
    ("timestamp-micros", "long"): pa.timestamp("us", "UTC"),
    ("timestamp-nanos", "long"): pa.timestamp("ns", "UTC"),
    ("local-timestamp-millis", "long"): pa.timestamp("ms"),
    ("local-timestamp-micros", "long"): pa.timestamp("us"),
    ("local-timestamp-nanos", "long"): pa.timestamp("ns"),
}
_DEEPEST = 32


def arrow_column(
    schema: Any, named: Mapping[str, Any], path: str, column: str, depth: int = 0
) -> tuple[pa.DataType, Converter]:
    """Return the Arrow type of an Avro schema, and how its values become those of that type.

    Args:
        schema: As fastavro parses it.
        named: Definitions of records, enums and fixed by name.
        path: Path for messages.
        column: Column for messages.
        depth: Types around this one.

    Raises:
        SourceError: Arrow has no such type: a union of several types, or a type within itself.
    """
    if depth > _DEEPEST:
        raise _refused(path, column, "nests deeper than 32 levels, or holds itself")

    def inner(part: Any) -> tuple[pa.DataType, Converter]:
        return arrow_column(part, named, path, column, depth + 1)

    if isinstance(schema, list):
        kinds = [part for part in schema if part != "null"]
        if len(kinds) > 1:
            raise _refused(path, column, f"is a union of {len(kinds)} types")
        return inner(kinds[0]) if kinds else (pa.null(), None)
    if isinstance(schema, str):
        return (_PRIMITIVE[schema], None) if schema in _PRIMITIVE else inner(named[schema])
    kind, logical = schema["type"], schema.get("logicalType")
    if not isinstance(kind, str):
        return inner(kind)
    if (logical, kind) in _LOGICAL:
        return _LOGICAL[logical, kind], None
    if logical == "decimal":
        precision, scale = int(schema["precision"]), int(schema.get("scale", 0))
        if precision > 76:
            raise _refused(path, column, f"is a decimal of {precision} digits")
        return (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale), None
    if logical == "uuid" and kind == "string":
        return pa.string(), str
    if kind in _PRIMITIVE:
        return _PRIMITIVE[kind], None
    if kind == "enum":
        return pa.string(), None
    if kind == "fixed":
        return pa.binary(), None
    if kind == "array":
        value, convert = inner(schema["items"])
        return pa.list_(value), None if convert is None else _each(convert)
    if kind == "map":
        value, convert = inner(schema["values"])
        return pa.map_(pa.string(), value), _pairs(convert)
    if kind in ("record", "error"):
        fields = {f["name"]: inner(f["type"]) for f in schema["fields"]}
        converters = {name: convert for name, (_, convert) in fields.items() if convert is not None}
        struct = pa.struct([(name, t) for name, (t, _) in fields.items()])
        return struct, _fields(converters) if converters else None
    return inner(named[kind])


def _refused(path: str, column: str, why: str) -> SourceError:
    return SourceError(
        f"can't read {path}: column {column!r} {why}, which Arrow has no type for; leave it out of schema=, or write "
        "the file without it",
        path=path,
        column=column,
    )


def _each(convert: Callable[[Any], Any]) -> Converter:
    def converted(values: Sequence[Any] | None) -> Any:
        return None if values is None else [None if v is None else convert(v) for v in values]

    return converted


def _pairs(convert: Converter) -> Converter:
    def converted(values: Mapping[str, Any] | None) -> Any:
        if values is None or convert is None:
            return None if values is None else list(values.items())
        return [(k, None if v is None else convert(v)) for k, v in values.items()]

    return converted


def _fields(converters: Mapping[str, Callable[[Any], Any]]) -> Converter:
    def converted(record: Mapping[str, Any] | None) -> Any:
        if record is None:
            return None
        changed = {n: c(record[n]) for n, c in converters.items() if record[n] is not None}
        return {**record, **changed}

    return converted

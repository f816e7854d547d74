"""Schemas: how they are written, and the types that mmflow computes with.

Inside mmflow text is `string_view`, so that values can alias the mapping; users get `string` back, which
every other library can compute with.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

import pyarrow as pa

from mmflow.errors import ConfigError

__all__ = [
    "canonical_schema",
    "canonical_type",
    "parse_schema",
    "parse_type",
    "public_batch",
    "public_schema",
    "public_type",
]

_SIMPLE: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "boolean": pa.bool_(),
    "int": pa.int64(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float": pa.float64(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "double": pa.float64(),
    "string": pa.string(),
    "str": pa.string(),
    "utf8": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "date": pa.date32(),
    "date32": pa.date32(),
    "date32[day]": pa.date32(),
    "date64": pa.date64(),
    "date64[ms]": pa.date64(),
    "timestamp": pa.timestamp("us"),
    "time32": pa.time32("ms"),
    "time64": pa.time64("us"),
    "duration": pa.duration("us"),
    "null": pa.null(),
}
_PARAMETRIC = ("decimal128(15,2)", "timestamp[us]", "timestamp[us,UTC]", "time32[ms]", "time64[us]",
               "duration[us]", "binary[16]", "list<T>", "struct<name: T, ...>", "map<K, V>")  # fmt: skip
_UNIT = re.compile(r"(timestamp|time32|time64|duration)\[(s|ms|us|ns)(?:,\s*(?:tz=)?([^\]]+))?\]")
_DECIMAL = re.compile(r"(decimal(?:128|256)?)\((\d+),\s*(-?\d+)\)")
_FIXED = re.compile(r"(?:binary|fixed_size_binary)\[(\d+)\]")


def parse_type(text: str | pa.DataType) -> pa.DataType:
    """An Arrow type from its name, as pyarrow prints it.

    Raises:
        ConfigError: There is no such type; suggests the nearest.

    >>> parse_type("list<int64>"), parse_type("decimal128(15, 2)")
    (ListType(list<item: int64>), Decimal128Type(decimal128(15, 2)))
    """
    if isinstance(text, pa.DataType):
        return text
    name = text.strip()
    if name.lower() in _SIMPLE:
        return _SIMPLE[name.lower()]
    if match := _UNIT.fullmatch(name):
        return _with_unit(match)
    if match := _DECIMAL.fullmatch(name):
        make = pa.decimal256 if match[1] == "decimal256" else pa.decimal128
        return make(int(match[2]), int(match[3]))
    if match := _FIXED.fullmatch(name):
        return pa.binary(int(match[1]))
    if name.endswith(">") and "<" in name:
        return _nested(name)
    close = difflib.get_close_matches(name.lower(), _SIMPLE, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"types are {', '.join([*_SIMPLE, *_PARAMETRIC])}"
    raise ConfigError(f"unknown type {text!r}; {hint}")


def _with_unit(match: re.Match[str]) -> pa.DataType:
    kind, unit, zone = match.groups()
    if zone and kind != "timestamp":
        raise ConfigError(f"{match[0]!r}: only timestamps have a time zone")
    try:
        return pa.timestamp(unit, zone) if kind == "timestamp" else getattr(pa, kind)(unit)
    except ValueError as error:
        raise ConfigError(f"{match[0]!r}: {error}") from error


def _nested(name: str) -> pa.DataType:
    outer, _, inner = name[:-1].partition("<")
    parts = _split(inner)
    match outer.strip().lower():
        case "list" if len(parts) == 1:
            return pa.list_(parse_type(parts[0].removeprefix("item:")))
        case "large_list" if len(parts) == 1:
            return pa.large_list(parse_type(parts[0].removeprefix("item:")))
        case "map" if len(parts) == 2:
            return pa.map_(parse_type(parts[0]), parse_type(parts[1]))
        case "struct":
            return pa.struct([_field(part) for part in parts])
    raise ConfigError(f"unknown type {name!r}; nested types are list<T>, struct<name: T, ...> and map<K, V>")


def _split(text: str) -> list[str]:
    """Parts between commas that are not inside brackets."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        if char in "<([":
            depth += 1
        elif char in ">)]":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    if text[start:].strip():
        parts.append(text[start:])
    return [part.strip() for part in parts]


def _field(text: str) -> pa.Field:
    name, colon, kind = text.partition(":")
    if not colon or not name.strip():
        raise ConfigError(f"{text!r} is not a column of a schema; write name:type, for example age:int64")
    return pa.field(name.strip(), parse_type(kind))


def parse_schema(schema: str | Mapping[str, str | pa.DataType] | pa.Schema) -> pa.Schema:
    """A schema from text (`a:string,b:float64`), a dict of name to type or type name, or a pyarrow schema.

    Raises:
        ConfigError: An unknown type, a column twice, or text that is not a schema.

    >>> parse_schema("a:string, b:struct<x:int64,y:list<date32>>").names
    ['a', 'b']
    """
    if isinstance(schema, pa.Schema):
        made = schema
    elif isinstance(schema, Mapping):
        made = pa.schema([pa.field(name, parse_type(kind)) for name, kind in schema.items()])
    elif isinstance(schema, str):
        made = pa.schema([_field(part) for part in _split(schema)])
    else:
        raise ConfigError(f"a schema is text, a dict or a pyarrow schema, not {type(schema).__name__}")
    seen: set[str] = set()
    for name in made.names:
        if name in seen:
            raise ConfigError(f"column {name!r} stands twice in the schema")
        seen.add(name)
    return made


def _mapped(kind: pa.DataType, text: pa.DataType, binary: pa.DataType | None) -> pa.DataType:
    """The type with text (and binary views) replaced at every depth, and dictionaries decoded."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return text
    if binary is not None and pa.types.is_binary_view(kind):
        return binary
    if pa.types.is_dictionary(kind):
        return _mapped(kind.value_type, text, binary)
    if pa.types.is_list(kind):
        return pa.list_(_mapped(kind.value_type, text, binary))
    if pa.types.is_large_list(kind):
        return pa.large_list(_mapped(kind.value_type, text, binary))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_mapped(kind.value_type, text, binary), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _mapped(f.type, text, binary)) for f in kind])
    if pa.types.is_map(kind):
        return pa.map_(_mapped(kind.key_type, text, binary), _mapped(kind.item_type, text, binary))
    return kind


def canonical_type(kind: pa.DataType) -> pa.DataType:
    """The type that mmflow computes with: text as string_view, dictionaries as their values."""
    return _mapped(kind, pa.string_view(), None)


def canonical_schema(schema: pa.Schema) -> pa.Schema:
    """Canonical types, every field nullable, no metadata."""
    return pa.schema([pa.field(f.name, canonical_type(f.type)) for f in schema])


def public_type(kind: pa.DataType) -> pa.DataType:
    """The type that users get: string for string_view, binary for binary_view."""
    return _mapped(kind, pa.string(), pa.binary())


def public_schema(schema: pa.Schema) -> pa.Schema:
    """Public types, every field nullable, no metadata."""
    return pa.schema([pa.field(f.name, public_type(f.type)) for f in schema])


def public_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with public types; what is public already is not copied."""
    schema = public_schema(batch.schema)
    if schema.equals(batch.schema) or not batch.num_columns:
        return batch
    arrays = [c if c.type == t else c.cast(t) for c, t in zip(batch.columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)

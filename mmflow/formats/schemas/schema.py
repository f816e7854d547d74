"""Schemas: how they are written, and the types that mmflow computes with.

Inside mmflow text is `string_view`, so that values can alias the mapping; users get `string` back, which
every other library can compute with.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.errors import ConfigError
from mmflow.lazy import difflib
from mmflow.lazy.patterns import lazy_regex

__all__ = [
    "DEEPEST",
    "GIVEN",
    "canonical_schema",
    "canonical_type",
    "name_text",
    "parse_schema",
    "parse_type",
    "public_schema",
    "public_type",
    "schema_text",
    "type_text",
    "unsupported_column",
    "unsupported_type",
]

#: Prefix of keys of a field's metadata; the rest is the public type of a column, where its own type does not say it
#: (`formats/schemas/arrow_types.py`).
GIVEN = b"mmflow.given."

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
    "json": pa.json_(pa.string()),  # text of JSON: text in plans, and for users
    "null": pa.null(),
}
# As pyarrow prints them, where that is not one of the names above.
_PRINTED: dict[str, pa.DataType] = {
    "date32[day]": pa.date32(),
    "date64[ms]": pa.date64(),
    "halffloat": pa.float16(),
    "large_utf8": pa.large_string(),
    "utf8_view": pa.string_view(),
    "binary_view": pa.binary_view(),
    "month_day_nano_interval": pa.month_day_nano_interval(),
}
_PYTHON = {
    bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string(), bytes: pa.binary(), dt.date: pa.date32(),
    dt.datetime: pa.timestamp("us"), dt.time: pa.time64("us"), dt.timedelta: pa.duration("us"),
}  # fmt: skip
_NAMES = {kind: name for name, kind in [*_PRINTED.items(), *_SIMPLE.items()]} | {
    pa.bool_(): "bool", pa.int64(): "int64", pa.float64(): "float64", pa.string(): "string", pa.date32(): "date32",
    pa.date64(): "date64", pa.float16(): "float16",
}  # fmt: skip
_PARAMETRIC = ("decimal128(15,2)", "timestamp[us]", "timestamp[us,UTC]", "time32[ms]", "time64[us]",
               "duration[us]", "binary[16]", "list<T>", "struct<name: T, ...>", "map<K, V>",
               "fixed_size_list<T>[3]")  # fmt: skip
_UNIT = lazy_regex(r"(timestamp|time32|time64|duration)\[(s|ms|us|ns)(?:,\s*(?:tz=)?([^\]]+))?\]")
_DECIMAL = lazy_regex(r"(decimal(?:32|64|128|256)?)\((\d+),\s*(-?\d+)\)")
_FIXED = lazy_regex(r"(?:binary|fixed_size_binary)\[(\d+)\]")
_FIXED_LIST = lazy_regex(r"fixed_size_list<(.*)>\[(\d+)\]", re.DOTALL)
_DICTIONARY = lazy_regex(r"dictionary<values=(.*), indices=(\w+), ordered=([01])>", re.DOTALL)
#: Ids of types that are the same inside mmflow and outside: most columns of very wide files.
_UNCHANGED = frozenset(kind.id for kind in _SIMPLE.values()) - {
    pa.string().id,
    pa.large_string().id,
    pa.string_view().id,
}
_LISTS = {
    "list": pa.list_,
    "large_list": pa.large_list,
    "list_view": pa.list_view,
    "large_list_view": pa.large_list_view,
}
#: Levels of lists, structs and maps within each other: a level takes two of the 100 that messages of plans (protobuf)
#: nest; Arrow's C interface ends at 64.
DEEPEST = 32
#: Names that need no quotes in the text of a schema.
_PLAIN_NAME = lazy_regex(r"""[^\s"',:<>()\[\]\0-\x1f](?:[^",:<>()\[\]\0-\x1f]*[^\s"',:<>()\[\]\0-\x1f])?""")


def parse_type(text: str | pa.DataType | type) -> pa.DataType:
    """Parse the name of an Arrow type, as `type_text` writes it or pyarrow prints it; `float` is float64.

    Types of Python, numpy and Polars are those of their values in Arrow.

    Raises:
        ConfigError: There is no such type; suggests the nearest.

    >>> parse_type("list<int64>"), parse_type("decimal128(15, 2)")
    (ListType(list<item: int64>), Decimal128Type(decimal128(15, 2)))
    """
    if isinstance(text, pa.DataType):
        return text
    if not isinstance(text, str):
        return _of_library(text)
    name = text.strip().removesuffix(" not null")
    known = _SIMPLE.get(name.lower(), _PRINTED.get(name.lower()))
    if known is not None:
        return known
    if match := _UNIT.fullmatch(name):
        return _with_unit(match)
    if match := _DECIMAL.fullmatch(name):
        return _decimal(match)
    if match := _FIXED.fullmatch(name):
        return pa.binary(int(match[1]))
    if match := _FIXED_LIST.fullmatch(name):
        return pa.list_(parse_type(_unnamed(match[1])), int(match[2]))
    if match := _DICTIONARY.fullmatch(name):
        return _dictionary(match)
    if name.endswith(">") and "<" in name:
        return _nested(name)
    close = difflib.get_close_matches(name.lower(), _SIMPLE, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"types are {', '.join([*_SIMPLE, *_PARAMETRIC])}"
    raise ConfigError(f"unknown type {text!r}; {hint}")


def _of_library(kind: Any) -> pa.DataType:
    """Return the Arrow type of values of a type of Python, numpy or Polars."""
    if kind in _PYTHON:
        return _PYTHON[kind]
    if getattr(kind, "__module__", type(kind).__module__).startswith("polars") and "polars" in sys.modules:
        found = sys.modules["polars"].Series([], dtype=kind).to_arrow().type
        return pa.string() if pa.types.is_large_string(found) or pa.types.is_string_view(found) else found
    if isinstance(kind, type) and issubclass(kind, np.generic):
        return pa.from_numpy_dtype(np.dtype(kind))
    raise TypeError(f"{kind!r:.60} is no type: give a name such as 'int64', or an Arrow type")


def _with_unit(match: re.Match[str]) -> pa.DataType:
    kind, unit, zone = match.groups()
    if zone and kind != "timestamp":
        raise ConfigError(f"{match[0]!r}: only timestamps have a time zone")
    try:
        return pa.timestamp(unit, zone) if kind == "timestamp" else getattr(pa, kind)(unit)
    except ValueError as error:
        raise ConfigError(f"{match[0]!r}: {error}") from error


def _decimal(match: re.Match[str]) -> pa.DataType:
    make = getattr(pa, match[1] if match[1] != "decimal" else "decimal128")
    try:
        return make(int(match[2]), int(match[3]))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{match[0]!r}: {error}") from error


def _dictionary(match: re.Match[str]) -> pa.DataType:
    index = parse_type(match[2])
    if not pa.types.is_integer(index):
        raise ConfigError(f"{match[0]!r}: the indices of a dictionary are whole numbers")
    return pa.dictionary(index, parse_type(match[1]), ordered=match[3] == "1")


def _nested(name: str) -> pa.DataType:
    outer, _, inner = name[:-1].partition("<")
    parts = _split(inner)
    outer = outer.strip().lower()
    if outer in _LISTS and len(parts) == 1:
        return _LISTS[outer](parse_type(_unnamed(parts[0])))
    if outer == "map" and len(parts) == 2:
        key = parse_type(_unnamed(parts[0]))
        if pa.types.is_null(key):
            raise ConfigError(f"{name!r}: the keys of a map are not null")
        return pa.map_(key, parse_type(_unnamed(parts[1])))
    if outer == "struct":
        fields = [_field(part) for part in parts]
        _refuse_duplicates([f.name for f in fields])
        return pa.struct(fields)
    raise ConfigError(f"unknown type {name!r}; nested types are list<T>, struct<name: T, ...> and map<K, V>")


def _split(text: str, separator: str = ",", most: int = -1) -> list[str]:
    """Split text at separators that are in no brackets and no quoted name; an empty last part is dropped."""
    parts: list[str] = []
    depth, start, index, fresh = 0, 0, 0, True
    while index < len(text) and len(parts) != most:
        char = text[index]
        if char == '"' and fresh:  # where a name begins
            index, fresh = _quoted_end(text, index), False
            continue
        if char in "<([":
            depth += 1
        elif char in ">)]":
            depth -= 1
        elif char == separator and depth == 0:
            parts.append(text[start:index])
            start = index + 1
        fresh = char in ",<" or (fresh and char.isspace())
        index += 1
    if text[start:].strip():
        parts.append(text[start:])
    return [part.strip() for part in parts]


def _quoted_end(text: str, index: int) -> int:
    """Return the offset behind the quoted name that begins at `index`.

    Raises:
        ConfigError: It does not end.
    """
    match = _QUOTED.match(text, index)
    if match is None:
        raise ConfigError(f"a quoted name of the schema does not end: {text[index : index + 40]}")
    return match.end()


_QUOTED = lazy_regex(r'"((?:[^"]|"")*+)"')


def _unnamed(text: str) -> str:
    """Parse the type of a list's item, whose name, if there is one, does not count."""
    parts = _split(text, ":", 1)
    return parts[1] if len(parts) == 2 else text


def _field(text: str) -> pa.Field:
    parts = _split(text, ":", 1)
    if len(parts) < 2 or not parts[0]:
        raise ConfigError(f"{text!r} is not a column of a schema; write name:type, for example age:int64")
    name, kind = parts
    if quoted := _QUOTED.fullmatch(name):
        name = quoted[1].replace('""', '"')
    return _named(name, parse_type(kind))


def _named(name: str, kind: pa.DataType) -> pa.Field:
    try:
        return pa.field(name, kind)
    except UnicodeEncodeError as error:
        raise ConfigError(f"the name {name!r} holds a lone surrogate, which is no text") from error


def _refuse_duplicates(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"column {name!r} stands twice in the schema")
        seen.add(name)


def name_text(name: str) -> str:
    """Write a column's name as the text of a schema holds it: in double quotes where it would not be read as it is.

    >>> print(name_text("age"), name_text("a,b"), name_text('say "x" here'))
    age "a,b" "say ""x"" here"
    """
    return name if _PLAIN_NAME.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def type_text(kind: pa.DataType) -> str:
    """Write a type as `parse_type` reads it.

    >>> type_text(pa.list_(pa.float32())), type_text(pa.struct({"a b": pa.date32()}))
    ('list<float32>', 'struct<a b: date32>')
    """
    types = pa.types
    if (simple := _NAMES.get(kind)) is not None:
        return simple
    if types.is_fixed_size_list(kind):
        return f"fixed_size_list<{type_text(kind.value_type)}>[{kind.list_size}]"
    if types.is_struct(kind):
        return f"struct<{', '.join(f'{name_text(f.name)}: {type_text(f.type)}' for f in kind)}>"
    if types.is_map(kind):
        return f"map<{type_text(kind.key_type)}, {type_text(kind.item_type)}>"
    if types.is_dictionary(kind):
        index, value = type_text(kind.index_type), type_text(kind.value_type)
        return f"dictionary<values={value}, indices={index}, ordered={int(kind.ordered)}>"
    for name, is_it in (("list", types.is_list), ("large_list", types.is_large_list),
                        ("list_view", types.is_list_view), ("large_list_view", types.is_large_list_view)):  # fmt: skip
        if is_it(kind):
            return f"{name}<{type_text(kind.value_type)}>"
    return str(kind)


def schema_text(schema: pa.Schema) -> str:
    """Write a schema as `parse_schema` reads it.

    >>> schema_text(pa.schema({"a": pa.int64(), "b:c": pa.string()}))
    'a:int64,"b:c":string'
    """
    return ",".join(f"{name_text(f.name)}:{type_text(f.type)}" for f in schema)


def parse_schema(schema: str | Mapping[str, str | pa.DataType] | pa.Schema) -> pa.Schema:
    """Parse a schema from text (`a:string,"b,c":float64`), a dict of name to type or type name, or a pyarrow schema.

    Raises:
        ConfigError: An unknown type, a column twice, a name or type that plans can't carry, or text that is no schema.

    >>> parse_schema("a:string, b:struct<x:int64,y:list<date32>>").names
    ['a', 'b']
    """
    if isinstance(schema, pa.Schema):
        made = schema
    elif isinstance(schema, Mapping):
        made = pa.schema([_named(name, parse_type(kind)) for name, kind in schema.items()])
    elif isinstance(schema, str):
        made = pa.schema([_field(part) for part in _split(schema)])
    else:
        raise ConfigError(f"a schema is text, a dict or a pyarrow schema, not {type(schema).__name__}")
    _refuse_duplicates(made.names)
    if (why := unsupported_column(made)) is not None:
        raise ConfigError(why)
    return made


def _map_text(kind: pa.DataType, text: pa.DataType, binary: pa.DataType | None) -> pa.DataType:
    """Return the type with text (and binary views) replaced at every depth, and dictionaries decoded."""
    if kind.id in _UNCHANGED:
        return kind
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return text
    if binary is not None and pa.types.is_binary_view(kind):
        return binary
    if pa.types.is_dictionary(kind):
        return _map_text(kind.value_type, text, binary)
    if pa.types.is_list(kind):
        return pa.list_(_map_text(kind.value_type, text, binary))
    if pa.types.is_large_list(kind):
        return pa.large_list(_map_text(kind.value_type, text, binary))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_map_text(kind.value_type, text, binary), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _map_text(f.type, text, binary)) for f in kind])
    if pa.types.is_map(kind):
        # Keys of text are no views: DataFusion 55 compares a literal with them as it is (column['key']).
        return pa.map_(_map_text(kind.key_type, pa.string(), binary), _map_text(kind.item_type, text, binary))
    return kind


def canonical_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that mmflow computes with: text as string_view, dictionaries as their values."""
    return _map_text(kind, pa.string_view(), None)


def _depth(kind: pa.DataType) -> int:
    if not pa.types.is_nested(kind):
        return 1
    return 1 + max((_depth(kind.field(i).type) for i in range(kind.num_fields)), default=0)


def unsupported_type(kind: pa.DataType) -> str | None:
    """Return why plans can't carry a nested type, whatever is in it; None where they can.

    Arrow's C interface cuts names at NULs, so that two may become one; messages of plans nest so deep and no deeper.
    """
    if not pa.types.is_nested(kind):
        return None
    if (name := _name_with_nul(kind)) is not None:
        return f"the name {name!r} holds a NUL, which no name can"
    return (
        f"it is nested {depth} deep, and {DEEPEST} is the most" if (depth := _depth(kind)) > DEEPEST else None
    )


def _name_with_nul(kind: pa.DataType) -> str | None:
    for field in (kind.field(i) for i in range(kind.num_fields)):
        if "\0" in field.name:
            return str(field.name)
        if pa.types.is_nested(field.type) and (name := _name_with_nul(field.type)) is not None:
            return name
    return None


def unsupported_column(schema: pa.Schema) -> str | None:
    """Return which column of a schema plans can't carry, by its name or `unsupported_type`; None: there is none."""
    for field in schema:
        if "\0" in field.name:
            return (
                f"the name {field.name!r} holds a NUL, which no name can; rename the column, or leave it out"
            )
        if (why := unsupported_type(field.type)) is not None:
            return f"column {field.name!r}: {why}; leave it out"
    return None


def canonical_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema with canonical types, every field nullable, without metadata."""
    return pa.schema([pa.field(f.name, canonical_type(f.type)) for f in schema])


def public_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that users get: string for string_view, binary for binary_view."""
    return _map_text(kind, pa.string(), pa.binary())


def public_schema(schema: pa.Schema) -> pa.Schema:
    """Return public types, every field nullable, without metadata, lists of a fixed size restored."""
    return pa.schema([pa.field(f.name, _public(f)) for f in schema])


def _public(field: pa.Field) -> pa.DataType:
    given = [key for key in field.metadata or {} if key.startswith(GIVEN)]
    if len(given) != 1:  # a union of lists of different sizes has both
        return public_type(field.type)
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(given[0].removeprefix(GIVEN)))).field(0).type

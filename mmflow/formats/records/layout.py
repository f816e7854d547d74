"""Layouts of binary records: fields at byte offsets, of which some are lists, structures, bits or counted text.

{"name": "id", "type": "uint32", "order": "big"}                   a number; without offset, behind the one before
{"name": "xyz", "type": "float32", "count": 3}                     a list of three; [2, 3] is a list of lists
{"name": "at", "fields": [{"name": "x", ...}, ...]}                a structure
{"name": "flag", "type": "uint16", "offset": 4, "bits": [0, 1]}    the lowest bit of a number
{"name": "s", "type": "char[20]", "length": "uint8"}               text of at most 20 bytes behind its length
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmflow.errors import ConfigError
from mmflow.formats.schemas.schema import parse_type, type_text
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = ["REST", "Field", "field_spec", "record_field", "record_fields"]

#: Width of a field that takes what is left of its record.
REST = -1
_CHARS = lazy_regex(r"char\[(\d*)\]")
_BINARY = lazy_regex(r"binary\[\]")
_KEYS = {"name", "type", "offset", "order", "count", "fields", "bits", "length"}
_MOST_COUNT = 1 << 20


@dataclass(frozen=True, slots=True)
class Field:
    """Column of a record.

    Attributes:
        name: Name of the column.
        type: Arrow type; string_view for text of `width` bytes, padded with NULs or spaces.
        offset: Offset of its first byte in the record.
        width: Its bytes; `REST`: as many as the record has left.
        big_endian: Byte order of numbers.
        items: Of a list: its one item, at offset 0.
        members: Of a structure: its fields, with offsets in it.
        bits: Of bits of a number: the number of the lowest, and how many they are.
        length: Of counted text and bytes: the number in front of them, which counts bytes.
    """

    name: str
    type: pa.DataType
    offset: int
    width: int
    big_endian: bool = False
    items: Field | None = None
    members: tuple[Field, ...] = ()
    bits: tuple[int, int] | None = None
    length: Field | None = None

    @property
    def is_text(self) -> bool:
        return bool(pa.types.is_string_view(self.type))

    @property
    def is_plain(self) -> bool:
        """Return whether the kernel gathers it: a number, bytes or text of one width."""
        return (
            self.items is None
            and not self.members
            and self.bits is None
            and self.length is None
            and self.width != REST
        )

    @property
    def may_be_bad(self) -> bool:
        """Return whether some bytes are no value of it."""
        inner = (*self.members, *(() if self.items is None else (self.items,)))
        return self.is_text or self.length is not None or any(f.may_be_bad for f in inner)


def record_fields(items: Sequence[Mapping[str, Any]]) -> tuple[Field, ...]:
    """Return the fields of a layout; a field without an offset follows the one before it.

    Raises:
        ConfigError: A field makes no sense, or two have one name.
    """
    fields: list[Field] = []
    at = 0
    for item in items:
        last = fields[-1] if fields else None
        if last is not None and last.width == REST and last.length is None and "offset" not in item:
            raise ConfigError(
                f"field {item.get('name')!r} follows one that takes the rest of the record; put it before that, or say "
                "its offset"
            )
        field = record_field(item, at)
        at = REST if REST in (field.width, field.offset) else field.offset + field.width
        fields.append(field)
    names = [f.name for f in fields]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ConfigError(f"two fields of the layout are called {twice!r}; give them different names")
    return tuple(fields)


def record_field(item: Mapping[str, Any], at: int = 0) -> Field:
    """Return one field of a layout.

    Args:
        item: Field as it was given.
        at: Its offset, where it has none.

    Raises:
        ConfigError: It makes no sense.
    """
    if (
        not isinstance(item, Mapping)
        or set(item) - _KEYS
        or "name" not in item
        or ("type" in item) == ("fields" in item)
    ):
        given = sorted(item) if isinstance(item, Mapping) else item
        raise ConfigError(
            "a field of a record layout has name and type (or fields), and perhaps offset, order, count, bits and "
            f"length, not {given}"
        )
    name = str(item["name"])
    order = item.get("order", "little")
    if order not in ("little", "big"):
        raise ConfigError(f"field {name!r}: order is little or big, not {order!r}")
    offset = int(item.get("offset", at))
    if "fields" in item:
        members = record_fields(item["fields"])
        if not members or any(m.width == REST for m in members):
            raise ConfigError(f"field {name!r}: a structure has fields, each of a width of its own")
        kind = pa.struct([(m.name, m.type) for m in members])
        field = Field(name, kind, offset, max(m.offset + m.width for m in members), members=members)
    else:
        field = _single(
            name,
            str(item["type"]) if not isinstance(item["type"], pa.DataType) else item["type"],
            offset,
            order,
        )
    if "length" in item:
        field = _counted(field, item["length"], order)
    if "bits" in item:
        field = _bit_field(field, item["bits"])
    for count in reversed(_counts(name, item.get("count", ()))):
        if field.width == REST:
            raise ConfigError(f"field {name!r}: only fields of one width can be counted")
        inner = Field(
            "item",
            field.type,
            0,
            field.width,
            field.big_endian,
            field.items,
            field.members,
            field.bits,
            field.length,
        )
        field = Field(name, pa.list_(field.type, count), offset, count * field.width, items=inner)
    return field


def _single(name: str, given: Any, offset: int, order: str) -> Field:
    chars = _CHARS.fullmatch(str(given))
    if chars or _BINARY.fullmatch(str(given)):
        kind = pa.string_view() if chars else pa.binary()
        return Field(name, kind, offset, int(chars[1]) if chars and chars[1] else REST)
    kind = parse_type(given)
    if pa.types.is_boolean(kind):
        width = 1
    elif pa.types.is_fixed_size_binary(kind):
        width = kind.byte_width
    elif pa.types.is_primitive(kind):
        width = kind.bit_width // 8
    else:
        raise ConfigError(f"field {name!r}: {kind} has no fixed width; write char[n] or binary[n]")
    return Field(name, kind, offset, width, order == "big")


def _counts(name: str, given: Any) -> tuple[int, ...]:
    counts = (given,) if isinstance(given, int) else tuple(given)
    if not all(type(c) is int and 0 < c <= _MOST_COUNT for c in counts):
        raise ConfigError(
            f"field {name!r}: count is a whole number from 1 to {_MOST_COUNT:,}, or a list of them"
        )
    return counts


def _counted(field: Field, given: Any, order: str) -> Field:
    kind = parse_type(str(given))
    if not pa.types.is_unsigned_integer(kind):
        raise ConfigError(f"field {field.name!r}: length is uint8, uint16, uint32 or uint64, not {given!r}")
    if not (field.is_text or pa.types.is_fixed_size_binary(field.type) or field.width == REST):
        raise ConfigError(f"field {field.name!r}: only char[n] and binary[n] have a length in front of them")
    size = kind.bit_width // 8
    length = Field("length", kind, 0, size, order == "big")
    made = field.type if field.is_text else pa.binary()
    width = REST if field.width == REST else size + field.width
    return Field(field.name, made, field.offset, width, length=length)


def _bit_field(field: Field, given: Any) -> Field:
    try:
        low, count = map(int, given)
    except (TypeError, ValueError):
        low, count = -1, 0
    whole = pa.types.is_integer(field.type)
    if not whole or low < 0 or count < 1 or low + count > 8 * field.width:
        raise ConfigError(
            f"field {field.name!r}: bits = {given!r} must be [lowest, how many] of a whole number, and within it"
        )
    return Field(field.name, field.type, field.offset, field.width, field.big_endian, bits=(low, count))


def field_spec(field: Field) -> dict[str, Any]:
    """Return a field as `record_field` takes it."""
    if field.items is not None:
        inner = field_spec(field.items)
        counts = [field.type.list_size, *inner.pop("count", [])]
        place = {} if field.offset == REST else {"offset": field.offset}
        return (
            {k: v for k, v in inner.items() if k != "offset"} | {"name": field.name, "count": counts} | place
        )
    found: dict[str, Any] = {"name": field.name}
    if field.offset != REST:
        found["offset"] = field.offset
    if field.members:
        return found | {"fields": [field_spec(m) for m in field.members]}
    found["order"] = (
        "big" if field.big_endian or (field.length is not None and field.length.big_endian) else "little"
    )
    if field.bits is not None:
        found["bits"] = list(field.bits)
    if field.length is not None:
        found["length"] = type_text(field.length.type)
    width = (
        "" if field.width == REST else str(field.width - (0 if field.length is None else field.length.width))
    )
    if field.is_text:
        return found | {"type": f"char[{width}]"}
    return found | {"type": f"binary[{width}]" if pa.types.is_binary(field.type) else type_text(field.type)}

"""Footers of Parquet files, read without pyarrow: where column chunks lie, and their statistics.

    file     "PAR1" | column chunks ... | footer | length of the footer (4 bytes) | "PAR1"
    footer   FileMetaData in Thrift's compact protocol (parquet.thrift, format 2.11)

pyarrow 26 ends the process where a row group has fewer chunks than the schema has columns, where a chunk is encrypted,
or where a statistic is shorter than its type: nothing between C++ and Python catches these exceptions.

Invariant: any bytes give a footer or a FooterError.
"""

from __future__ import annotations

from typing import Any

from mmflow.lazy.dataclasses import dataclass

__all__ = ["Chunk", "FileLayout", "FooterError", "Group", "Statistics", "has_checksum", "read_layout"]

_DEEPEST = 32
# Types of Thrift's compact protocol.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = 1, 2, 3, 7, 8, 9, 10, 11, 12, 13
_INTEGERS = (4, 5, 6)
_WIDTHS = {_TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8, _UUID: 16}


class FooterError(ValueError):
    """Error for a footer that is not Thrift, or not a footer."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of a chunk, as bytes.

    Attributes:
        nulls: Number of nulls.
        low: Smallest value, by the order of the column's type.
        high: Largest value.
        old_low: Smallest value, by the signed order of its bytes: of writers before 2017.
        old_high: Largest value.
    """

    nulls: int | None = None
    low: bytes | None = None
    high: bytes | None = None
    old_low: bytes | None = None
    old_high: bytes | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Column chunk.

    Attributes:
        physical: Number of its physical type; -1: its metadata is missing, or encrypted.
        codec: Number of its compression codec; -1: it is missing.
        begin: Byte offset of its first page.
        size: Bytes in the file.
        statistics: Statistics of the column; None: there are none.
        encrypted: It can't be read without a key.
        elsewhere: It is said to lie in another file.
    """

    physical: int
    codec: int
    begin: int
    size: int
    statistics: Statistics | None
    encrypted: bool
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Row group: its rows, and the chunks of its columns."""

    rows: int
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class FileLayout:
    """Contents of a footer.

    Attributes:
        groups: Row groups.
        ordered: Whether `low` and `high` of a column follow the order of its type, shape (columns,); may be shorter.
    """

    groups: tuple[Group, ...]
    ordered: tuple[bool, ...]


def read_layout(footer: bytes) -> FileLayout:
    """Return what a footer says.

    Args:
        footer: Its bytes, without the length and the magic behind it.

    Raises:
        FooterError: It is damaged.
    """
    try:
        found, _ = _struct(footer, 0, _FILE, 0)
        groups = tuple(_group(g) for g in found.get(4, ()))
        return FileLayout(groups, tuple(1 in order for order in found.get(7, ())))
    except (IndexError, RecursionError, OverflowError, MemoryError) as error:
        raise FooterError("it ends inside a value") from error


def has_checksum(header: bytes) -> bool:
    """Return whether a page has a checksum.

    Args:
        header: Bytes from the page's header on.

    Raises:
        FooterError: The header is damaged, or longer.
    """
    try:
        return 4 in _struct(header, 0, _PAGE, 0)[0]
    except (IndexError, RecursionError, OverflowError, MemoryError) as error:
        raise FooterError("a page's header ends inside a value") from error


# Fields that are read, and how: None: as they are; a dict: a struct with these fields; a list: of such structs.
_Shape = dict[int, Any]
_SKIPPED = object()
_STATISTICS: _Shape = {1: None, 2: None, 3: None, 5: None, 6: None}
_COLUMN: _Shape = {1: None, 4: None, 7: None, 9: None, 11: None, 12: _STATISTICS}
_CHUNK: _Shape = {1: None, 3: _COLUMN, 8: {}}
_GROUP: _Shape = {1: [_CHUNK], 3: None}
_FILE: _Shape = {4: [_GROUP], 7: [{1: {}}]}
_PAGE: _Shape = {4: None}


def _group(fields: dict[int, Any]) -> Group:
    rows = fields.get(3)
    if not isinstance(rows, int) or rows < 0:
        raise FooterError("a row group does not say how many rows it has")
    return Group(rows, tuple(_chunk(c) for c in fields.get(1, ())))


def _chunk(fields: dict[int, Any]) -> Chunk:
    column = fields.get(3)
    elsewhere, encrypted = 1 in fields, 8 in fields
    if column is None:
        return Chunk(-1, -1, 0, 0, None, encrypted, elsewhere)
    physical, codec, size, data, dictionary = (column.get(n) for n in (1, 4, 7, 9, 11))
    if not (isinstance(physical, int) and isinstance(size, int) and isinstance(data, int)):
        raise FooterError("a column chunk does not say where it lies")
    begin = dictionary if isinstance(dictionary, int) and 0 < dictionary < data else data
    statistics = None
    if 12 in column:
        old_high, old_low, nulls, high, low = (column[12].get(n) for n in (1, 2, 3, 5, 6))
        statistics = Statistics(
            nulls if isinstance(nulls, int) else None, *(_bytes(b) for b in (low, high, old_low, old_high))
        )
    codec = codec if isinstance(codec, int) else -1
    return Chunk(physical, codec, begin, size, statistics, encrypted, elsewhere)


def _bytes(value: Any) -> bytes | None:
    return value if isinstance(value, bytes) else None


def _struct(data: bytes, at: int, shape: _Shape, depth: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a struct that `shape` names (of one that comes twice the last), and where it ends.

    One loop with what is frequent written out: a file of 20,000 columns has half a million fields.
    """
    if depth > _DEEPEST:
        raise FooterError("it is nested too deep")
    found: dict[int, Any] = {}
    number = 0
    while True:
        head = data[at]
        at += 1
        kind = head & 15
        if not kind:
            return found, at
        if head > 15:
            number += head >> 4
        else:
            value, at = _varint(data, at)
            number = (value >> 1) ^ -(value & 1)
        wanted = shape.get(number, _SKIPPED)
        if kind in _INTEGERS:
            if wanted is None:
                value, at = _varint(data, at)
                found[number] = (value >> 1) ^ -(value & 1)
            elif wanted is _SKIPPED:
                while data[at] > 127:
                    at += 1
                at += 1
            else:
                raise FooterError("a field has another type than it should")
        elif kind == _BINARY:
            size, at = _varint(data, at)
            if wanted is None:
                found[number] = data[at : at + size]
            elif wanted is not _SKIPPED:
                raise FooterError("a field has another type than it should")
            at += size
            if at > len(data):
                raise FooterError("it ends inside a value")
        elif wanted is _SKIPPED or wanted is None:
            at = _skipped(data, at, kind, depth)
        elif kind == _STRUCT and isinstance(wanted, dict):
            found[number], at = _struct(data, at, wanted, depth + 1)
        elif kind == _LIST and isinstance(wanted, list):
            found[number], at = _structs(data, at, wanted[0], depth)
        else:
            raise FooterError("a field has another type than it should")


def _structs(data: bytes, at: int, shape: _Shape, depth: int) -> tuple[list[dict[int, Any]], int]:
    count, kind, at = _list(data, at)
    if count and kind != _STRUCT:
        raise FooterError("a list holds no structs")
    found = []
    for _ in range(count):
        fields, at = _struct(data, at, shape, depth + 1)
        found.append(fields)
    return found, at


def _list(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the number of a list's elements, their type, and where they begin."""
    head = data[at]
    count, at = (head >> 4, at + 1) if head < 240 else _varint(data, at + 1)
    return count, head & 15, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at + 1
        shift += 7
        if shift > 63:
            raise FooterError("a number is too long")


def _skipped(data: bytes, at: int, kind: int, depth: int) -> int:
    """Return where the value of a field ends."""
    if kind in _INTEGERS:
        while data[at] > 127:
            at += 1
        return at + 1
    if kind == _BINARY:
        size, at = _varint(data, at)
        return at + size
    if kind == _STRUCT:
        return _struct(data, at, {}, depth + 1)[1]
    if kind in (_LIST, _SET):
        count, inner, at = _list(data, at)
        return _skipped_elements(data, at, count, inner, depth)
    if kind == _MAP:
        count, at = _varint(data, at)
        if count:
            kinds, at = data[at], at + 1
            for _ in range(count):
                at = _skipped_elements(data, at, 1, kinds >> 4, depth)
                at = _skipped_elements(data, at, 1, kinds & 15, depth)
        return at
    if kind in (_BYTE, _DOUBLE, _UUID):
        return at + _WIDTHS[kind]
    if kind in (_TRUE, _FALSE):  # which have no bytes of their own
        return at
    raise FooterError(f"there is no type {kind}")


def _skipped_elements(data: bytes, at: int, count: int, kind: int, depth: int) -> int:
    if depth > _DEEPEST:
        raise FooterError("it is nested too deep")
    width = _WIDTHS.get(kind)
    if width is not None:
        return at + count * width
    for _ in range(count):
        at = _skipped(data, at, kind, depth + 1)
        if at > len(data):
            raise FooterError("it ends inside a value")
    return at

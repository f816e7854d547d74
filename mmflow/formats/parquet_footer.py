"""Footers of Parquet files, read without pyarrow: where column chunks lie, and their statistics.

    file     "PAR1" | column chunks ... | footer | length of the footer (4 bytes) | "PAR1"
    footer   FileMetaData in Thrift's compact protocol (parquet.thrift, format 2.11)

pyarrow 26 ends the process where a row group has fewer chunks than the schema has columns, where a chunk is encrypted,
or where a statistic is shorter than its type: nothing between C++ and Python catches these exceptions.

Invariant: any bytes give a footer or a FooterError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Chunk", "FileLayout", "FooterError", "Group", "Statistics", "read_layout"]

_DEEPEST = 32
# Types of Thrift's compact protocol.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = 1, 2, 3, 7, 8, 9, 10, 11, 12, 13
_INTEGERS = (4, 5, 6)
_WIDTHS = {_TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8, _UUID: 16}


class FooterError(ValueError):
    """A footer is not Thrift, or not a footer."""


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
    """A column chunk.

    Attributes:
        physical: Number of its physical type; -1: its metadata is missing, or encrypted.
        begin: Byte offset of its first page.
        size: Bytes in the file.
        statistics: None: it has none.
        encrypted: It can't be read without a key.
        elsewhere: It is said to lie in another file.
    """

    physical: int
    begin: int
    size: int
    statistics: Statistics | None
    encrypted: bool
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: its rows, and the chunks of its columns."""

    rows: int
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class FileLayout:
    """What a footer says.

    Attributes:
        groups: Row groups.
        ordered: Of which columns `low` and `high` follow the order of their type, shape (columns,); may be shorter.
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
        found = _Reader(footer).struct(_FILE)
        groups = tuple(_group(g) for g in found.get(4, ()))
        return FileLayout(groups, tuple(1 in order for order in found.get(7, ())))
    except (IndexError, RecursionError, OverflowError, MemoryError) as error:
        raise FooterError("it ends inside a value") from error


# Fields that are read, and how: None: as they are; a dict: a struct with these fields; a list: of such structs.
_Shape = dict[int, Any]
_STATISTICS: _Shape = {1: None, 2: None, 3: None, 5: None, 6: None}
_COLUMN: _Shape = {1: None, 7: None, 9: None, 11: None, 12: _STATISTICS}
_CHUNK: _Shape = {1: None, 3: _COLUMN, 8: {}}
_GROUP: _Shape = {1: [_CHUNK], 3: None}
_FILE: _Shape = {4: [_GROUP], 7: [{1: {}}]}


def _group(fields: dict[int, Any]) -> Group:
    rows = fields.get(3)
    if not isinstance(rows, int) or rows < 0:
        raise FooterError("a row group does not say how many rows it has")
    return Group(rows, tuple(_chunk(c) for c in fields.get(1, ())))


def _chunk(fields: dict[int, Any]) -> Chunk:
    column = fields.get(3)
    elsewhere, encrypted = 1 in fields, 8 in fields
    if column is None:
        return Chunk(-1, 0, 0, None, encrypted, elsewhere)
    physical, size, data, dictionary = (column.get(n) for n in (1, 7, 9, 11))
    if not (isinstance(physical, int) and isinstance(size, int) and isinstance(data, int)):
        raise FooterError("a column chunk does not say where it lies")
    begin = dictionary if isinstance(dictionary, int) and 0 < dictionary < data else data
    statistics = None
    if 12 in column:
        old_high, old_low, nulls, high, low = (column[12].get(n) for n in (1, 2, 3, 5, 6))
        statistics = Statistics(
            nulls if isinstance(nulls, int) else None, *(_bytes(b) for b in (low, high, old_low, old_high))
        )
    return Chunk(physical, begin, size, statistics, encrypted, elsewhere)


def _bytes(value: Any) -> bytes | None:
    return value if isinstance(value, bytes) else None


class _Reader:
    """Reads Thrift's compact protocol; what it is not asked for it skips."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self, shape: _Shape, depth: int = 0) -> dict[int, Any]:
        """Return the fields of a struct that `shape` names; of one that comes twice the last."""
        if depth > _DEEPEST:
            raise FooterError("it is nested too deep")
        found: dict[int, Any] = {}
        number, data = 0, self._data
        while True:
            head = data[self._at]
            self._at += 1
            kind = head & 15
            if kind == 0:
                return found
            if head >> 4:
                number += head >> 4
            else:
                number = _signed(self._varint())
            if number not in shape:
                self._skip(kind, depth)
            elif (wanted := shape[number]) is None:
                found[number] = self._value(kind, depth)
            elif isinstance(wanted, dict) and kind == _STRUCT:
                found[number] = self.struct(wanted, depth + 1)
            elif isinstance(wanted, list) and kind == _LIST:
                found[number] = self._structs(wanted[0], depth)
            else:
                raise FooterError("a field has another type than it should")

    def _structs(self, shape: _Shape, depth: int) -> list[dict[int, Any]]:
        count, kind = self._list()
        if count and kind != _STRUCT:
            raise FooterError("a list holds no structs")
        return [self.struct(shape, depth + 1) for _ in range(count)]

    def _list(self) -> tuple[int, int]:
        head = self._data[self._at]
        self._at += 1
        count = head >> 4
        return (self._varint() if count == 15 else count), head & 15

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return _signed(self._varint())
        if kind == _BINARY:
            size = self._varint()
            begin, self._at = self._at, self._at + size
            if self._at > len(self._data):
                raise FooterError("it ends inside a value")
            return self._data[begin : self._at]
        self._skip(kind, depth)
        return None

    def _varint(self) -> int:
        data, at = self._data, self._at
        byte = data[at]
        at += 1
        if byte < 128:
            self._at = at
            return byte
        value, shift = byte & 127, 7
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                self._at = at
                return value & 0xFFFFFFFFFFFFFFFF
            shift += 7
            if shift > 63:
                raise FooterError("a number is too long")

    def _skip(self, kind: int, depth: int) -> None:
        """Skip the value of a field."""
        if kind in _INTEGERS:
            data, at = self._data, self._at
            while data[at] > 127:
                at += 1
            self._at = at + 1
        elif kind == _BINARY:
            size = self._varint()
            self._at += size
        elif kind == _STRUCT:
            self.struct({}, depth + 1)
        elif kind in (_LIST, _SET):
            count, inner = self._list()
            self._skip_elements(count, inner, depth)
        elif kind == _MAP:
            count = self._varint()
            if count:
                kinds = self._data[self._at]
                self._at += 1
                for _ in range(count):
                    self._skip_elements(1, kinds >> 4, depth)
                    self._skip_elements(1, kinds & 15, depth)
        elif kind in (_BYTE, _DOUBLE, _UUID):
            self._at += _WIDTHS[kind]
        elif kind not in (_TRUE, _FALSE):  # which have no bytes of their own
            raise FooterError(f"there is no type {kind}")

    def _skip_elements(self, count: int, kind: int, depth: int) -> None:
        if depth > _DEEPEST:
            raise FooterError("it is nested too deep")
        width = _WIDTHS.get(kind)
        if width is not None:
            self._at += count * width
            return
        for _ in range(count):
            self._skip(kind, depth + 1)
            if self._at > len(self._data):
                raise FooterError("it ends inside a value")


def _signed(number: int) -> int:
    return (number >> 1) ^ -(number & 1)

"""Structure of CSV: the bytes where records and fields begin and end, by RFC 4180 with the usual liberties, exactly.

    terminator   \\n or \\r\\n; a \\r without \\n is data in quotes, and makes a record broken outside of them
    quote        opens a field only as its first byte; elsewhere in an unquoted field it is data
    doubled      inside a quoted field, two quotes are one
    after quote  a delimiter or terminator must follow the closing quote, else the record is broken; it goes on
                 as if unquoted up to the next delimiter or terminator
    escape       (optional) takes the next byte as data, in and out of quotes
    blank        empty lines, and NULs before a record, are no records

Vectorised with numpy where quotes are regular: then a byte is inside quotes where an odd number of quotes
lies before it. The first irregular quote sends its record, and only it, to a scanner that goes byte by byte
and is the definition of all this.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass

__all__ = [
    "BLANKS",
    "BROKEN",
    "Dialect",
    "Ragged",
    "Structure",
    "parse_record",
    "scan_structure",
    "structure_advice",
]

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

_NEWLINE, _RETURN, _NUL = 10, 13, 0
_SMALL, _LARGE = 1 << 12, 1 << 22
#: Reasons for broken records, by `Structure.broken`.
BROKEN = {
    1: "text after a closing quote",
    2: "a quote is not closed before the end of the file",
    3: "a carriage return without line feed outside of quotes",
}


Ragged = Literal["error", "null", "truncate", "extra"]

#: Delimiter that stands for any run of blanks.
BLANKS = b"\\s+"


@dataclass(frozen=True, slots=True)
class Dialect:
    """Rules by which records are cut.

    Attributes:
        delimiter: One byte, several, or `BLANKS`.
        quote: Byte around fields; None: there are no quotes.
        escape: Byte that takes the next one as data.
        comment: First bytes of lines that are no records; empty: there are none.
        trim: Blanks around values, and before and behind quotes, are no part of them.
        ragged: What becomes of records with another number of fields.
        lenient: Broken records are repaired.
        returns: A carriage return alone ends a line, too.
        trailing: One delimiter behind the last field is no field more.
    """

    delimiter: bytes = b","
    quote: bytes | None = b'"'
    escape: bytes | None = None
    comment: bytes = b""
    trim: bool = False
    ragged: Ragged = "error"
    lenient: bool = False
    returns: bool = False
    trailing: bool = False

    @property
    def plain(self) -> bool:
        """Return whether records are those of this module; else `csv.normal` cuts them."""
        return len(self.delimiter) == 1 and not (
            self.comment
            or self.trim
            or self.lenient
            or self.returns
            or self.trailing
            or self.ragged != "error"
        )


_LONE = 3


@dataclass(frozen=True, slots=True)
class Structure:
    """Records of some bytes, shape (n,) each: `[starts, ends)` without terminators, fields, what is broken.

    Attributes:
        starts: Offset of each record's first byte (after NULs before it).
        ends: Offset behind its last byte, its terminator excluded.
        nexts: Offset behind its terminator.
        fields: Number of its fields.
        broken: 0 fine, 1 text after a closing quote, 2 unterminated quote at the end of the file, 3 a
            carriage return without line feed outside of quotes.
        consumed: Offset behind the last complete record and blanks after it.
    """

    starts: I64
    ends: I64
    nexts: I64
    fields: I64
    broken: I64
    consumed: int


def structure_advice(broken: int, expected: int, found: int, *, commented: bool) -> str:
    """Return which option reads a record that is broken, as the end of a sentence that says what is wrong with it.

    Args:
        broken: As in `Structure`; 0: its number of fields is wrong.
        expected: Number of fields expected.
        found: Number of fields found.
        commented: The record begins with `#`.
    """
    if commented:
        return "; comment='#' leaves out lines that begin so"
    if broken:
        return (
            "; line_end='any' ends a record there"
            if broken == _LONE
            else "; lenient=true repairs such records"
        )
    way = "null" if found < expected else "truncate"
    return f"; ragged='{way}' reads such records"


def parse_record(
    data: bytes | memoryview, start: int, dialect: Dialect, *, final: bool
) -> tuple[int, int, int] | None:
    """Parse one record, byte by byte. This is the definition.

    Returns:
        Offset of its terminator (or the end of the data), number of fields, broken as in `Structure`.
        None where the data ends before the record does.
    """
    delimiter, quote, escape = dialect.delimiter[0], dialect.quote, dialect.escape
    q = quote[0] if quote else -1
    e = escape[0] if escape else -1
    fields, broken, at_start, quoted, closed = 1, 0, True, False, False
    position, size = start, len(data)
    while position < size:
        byte = data[position]
        if byte == e:
            if position + 1 >= size and not final:
                return None
            if closed:
                broken, closed = 1, False
            at_start = False
            position += 2
            continue
        if quoted:
            if byte == q:
                if position + 1 < size and data[position + 1] == q:
                    position += 1
                elif position + 1 >= size and not final:
                    return None
                else:
                    quoted, closed = False, True
        elif byte == q and at_start:
            quoted, at_start = True, False
        elif byte == delimiter:
            fields, at_start, closed = fields + 1, True, False
        elif byte == _NEWLINE:
            return position, fields, broken
        elif closed and not (byte == _RETURN and (position + 1 >= size or data[position + 1] == _NEWLINE)):
            broken, closed = 1, False
        else:
            if byte == _RETURN and position + 1 < size and data[position + 1] != _NEWLINE:
                broken = broken or 3
            at_start = False
        position += 1
    if not final:
        return None
    return size, fields, 2 if quoted else broken


def scan_structure(data: U8, stop: int, dialect: Dialect, *, final: bool) -> Structure:
    """Find the records of `data` that begin before `stop` and are complete.

    Args:
        data: Bytes, shape (n,); the first one begins a record or blanks.
        stop: End of the part, in bytes.
        dialect: Dialect of the file.
        final: The file ends with these bytes.
    """
    view = memoryview(data.data)
    limit = min(stop, len(data))
    parts: list[I64] = []
    position, chunk = 0, _LARGE
    while position < limit:
        if data[position] == _NUL:
            position = _skip_nuls(data, position, limit)
            continue
        piece = data[position : position + chunk]
        records, regular = _regular(piece, dialect)
        if records.shape[1]:
            parts.append(_moved(records, position))
            position = int(records[2, -1])
            chunk = min(_LARGE, 2 * chunk) if regular else _SMALL
            continue
        if regular and position + len(piece) < len(data):
            chunk *= 2  # a record longer than the piece
            continue
        # An irregular quote, or a last record without a terminator.
        single = parse_record(view[position:], 0, dialect, final=final)
        if single is None:
            break
        end, fields, broken = single
        following = min(end + 1, len(data) - position)
        if end and data[position + end - 1] == _RETURN:
            end -= 1
        parts.append(_moved(np.array([[0], [end], [following], [fields], [broken]], np.int64), position))
        position += following
        chunk = _SMALL
    return _owned(data, parts, stop, position)


def _moved(records: I64, by: int) -> I64:
    records[:3] += by
    return records


def _skip_nuls(data: U8, position: int, limit: int) -> int:
    while position < limit:
        piece = data[position : min(limit, position + _LARGE)]
        used = np.flatnonzero(piece)
        if len(used):
            return position + int(used[0])
        position += len(piece)
    return limit


def _escaped(piece: U8, escape: bytes | None) -> npt.NDArray[np.bool_] | None:
    """Return which bytes an escape takes as data; escapes themselves only where they are escaped."""
    if escape is None:
        return None
    at = np.flatnonzero(piece == escape[0])
    if not len(at):
        return None
    taken = np.zeros(len(piece) + 1, np.bool_)
    # In a run of escapes every second one is data, and so is the byte after a run of odd length.
    run_start = at[np.concatenate([[True], np.diff(at) != 1])]
    run = np.repeat(run_start, np.diff(np.append(np.searchsorted(at, run_start), len(at))))
    taken[at[(at - run) % 2 == 0] + 1] = True
    return taken[: len(piece)]


def _positions(piece: U8, byte: int, escaped: npt.NDArray[np.bool_] | None) -> I64:
    found = np.flatnonzero(piece == byte)
    return found if escaped is None else found[~escaped[found]]


def _regular(piece: U8, dialect: Dialect) -> tuple[I64, bool]:
    """Return the complete records before the first irregular quote, shape (5, n), and whether there was none."""
    escaped = _escaped(piece, dialect.escape)
    newlines = _positions(piece, _NEWLINE, escaped)
    delimiters = _positions(piece, dialect.delimiter[0], escaped)
    returns = _positions(piece, _RETURN, escaped)
    lone = returns[:-1] if len(returns) and returns[-1] + 1 == len(piece) else returns
    lone = lone[piece[lone + 1] != _NEWLINE]
    regular = True
    if dialect.quote is not None:
        quotes = _positions(piece, dialect.quote[0], escaped)
        if len(quotes):
            newlines = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
            delimiters = delimiters[np.searchsorted(quotes, delimiters) % 2 == 0]
            lone = lone[np.searchsorted(quotes, lone) % 2 == 0]
            first = _first_irregular(piece, quotes, dialect, escaped)
            if first is not None:
                regular = False
                newlines = newlines[: np.searchsorted(newlines, first)]
    starts = np.concatenate([[0], newlines[:-1] + 1]) if len(newlines) else newlines
    returned = (newlines > starts) & (piece[newlines - 1] == _RETURN)
    ends = newlines - returned
    fields = np.searchsorted(delimiters, ends) - np.searchsorted(delimiters, starts) + 1
    broken = 3 * (np.searchsorted(lone, ends) > np.searchsorted(lone, starts))
    records = np.stack([starts, ends, newlines + 1, fields, broken]).astype(np.int64)
    return records, regular


def _first_irregular(
    piece: U8, quotes: I64, dialect: Dialect, escaped: npt.NDArray[np.bool_] | None
) -> int | None:
    """Return the first quote that neither opens a field at its first byte, closes one at its last, nor is doubled."""
    assert dialect.quote is not None
    quote, delimiter = dialect.quote[0], dialect.delimiter[0]
    opens, closes = quotes[0::2], quotes[1::2]
    before = piece[opens - 1]
    plain = np.ones(len(opens), np.bool_) if escaped is None else ~escaped[opens - 1]
    opening = (opens == 0) | (((before == delimiter) | (before == _NEWLINE)) & plain)
    doubled = np.zeros(len(opens), np.bool_)
    doubled[1:] = opens[1:] == closes[: len(opens) - 1] + 1
    padded = np.concatenate([piece, np.zeros(2, np.uint8)])
    after, second = padded[closes + 1], padded[closes + 2]
    closing = (
        (closes + 1 >= len(piece))
        | (after == delimiter)
        | (after == _NEWLINE)
        | (after == quote)
        | ((after == _RETURN) & ((second == _NEWLINE) | (closes + 2 >= len(piece))))
    )
    wrong = np.concatenate([opens[~(opening | doubled)], closes[~closing]])
    return int(wrong.min()) if len(wrong) else None


def _owned(data: U8, parts: list[I64], stop: int, position: int) -> Structure:
    """Return the records before `stop`, without blanks."""
    records = np.concatenate(parts, axis=1) if parts else np.zeros((5, 0), np.int64)
    kept = int(np.searchsorted(records[0], stop))
    consumed = position if kept == records.shape[1] else int(records[2, kept - 1]) if kept else 0
    records = records[:, :kept]
    if kept:
        longer = records[1] > records[0]
        for index in np.flatnonzero(longer & (data[np.minimum(records[0], len(data) - 1)] == _NUL)):
            records[0, index] = _skip_nuls(data, int(records[0, index]), int(records[1, index]))
        if records[0, -1] >= stop and records[1, -1] > records[0, -1]:
            # The NULs before it are this shard's, the record is not.
            consumed = int(records[0, -1])
            records = records[:, :-1]
        records = records[:, records[1] > records[0]]
    starts, ends, nexts, fields, broken = records
    return Structure(starts, ends, nexts, fields, broken, consumed)

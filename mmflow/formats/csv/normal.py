"""Records of odd CSV, one by one: comments, ragged rows, trimmed and escaped values, other line ends, and repairs.

    raw record --cut--> fields --fit to the columns--> canonical record: fields, delimiter, quotes doubled, a line feed

This is the definition. The kernel (`kernels/csv/normal.h`) does the same to a window at once; headers are read by this.

A lenient record that is not clean, or has too few or too many fields, is cut in other ways. The first one that gives
the right number of fields counts:

    inner      a quote closes a field only in front of a delimiter or a line end; others in it are data
    blanks     blanks before and behind quotes are no part of the value
    strict     text behind a closing quote belongs to the value, up to the end of the line
    near       a quote with another quoted field before its closing one is data
    lines      as inner, over line breaks, up to `SPAN` bytes
    returns    a carriage return ends the record

Invariant: a record depends on nothing but its own bytes and those right behind it, so every shard cuts it alike.
"""

from __future__ import annotations

from dataclasses import field
from enum import IntEnum

from mmflow.formats.csv.structure import BLANKS, Dialect
from mmflow.lazy.dataclasses import dataclass

__all__ = ["REPAIRS", "SPAN", "Cut", "cut_record", "skip_blank"]

#: Bytes that a lenient record may have behind a quote before that counts as never closed.
SPAN = 1 << 20
_LF, _CR, _NUL = 10, 13, 0
_BLANK = b" \t\0"

#: Repairs of lenient records, by number.
REPAIRS = {
    1: "a quote within the quoted field was taken as data",
    2: "text after the closing quote was taken as part of the value",
    3: "blanks around the quotes were left out",
    4: "a quote that is not closed was taken as data",
    5: "a carriage return was taken as data",
    6: "missing fields were filled with nulls",
    7: "surplus fields were left out",
    8: "surplus fields were kept in the extra column",
}
INNER_QUOTE, AFTER_QUOTE, AROUND_QUOTE, OPEN_QUOTE, RETURN, FILLED, DROPPED, KEPT = range(1, 9)


class Mode(IntEnum):
    """Ways to cut a record."""

    STRICT, INNER, BLANKS, NEAR = range(4)


class _MoreError(Exception):
    """The data ends before it is known where the record does."""


class _UnfitError(Exception):
    """A record can't be cut in this way."""


@dataclass(slots=True)
class Cut:
    """A record cut into fields.

    Attributes:
        fields: Value of each, and whether it was in quotes.
        end: Offset of its line end.
        following: Offset behind its line end.
        broken: As in `structure.Structure`.
        repairs: Number of a field, from 0, and of what was repaired in it.
    """

    fields: list[tuple[bytes, bool]] = field(default_factory=list)
    end: int = 0
    following: int = 0
    broken: int = 0
    repairs: list[tuple[int, int]] = field(default_factory=list)

    @property
    def blank(self) -> bool:
        """Return whether this is an empty line, and so no record."""
        return self.fields == [(b"", False)]


def skip_blank(data: bytes, position: int, stop: int, dialect: Dialect, *, final: bool) -> tuple[int, bool]:
    """Return the offset behind NULs and comments that begin before `stop`, and whether the data ends in a comment."""
    while position < stop:
        if data[position] == _NUL:
            position += 1
            continue
        if not dialect.comment:
            break
        at = position
        if dialect.trim or dialect.delimiter == BLANKS:
            at = _skip(data, position, b" \t")
        found = data[at : at + len(dialect.comment)]
        if found != dialect.comment:
            if not final and dialect.comment.startswith(found) and at + len(dialect.comment) > len(data):
                return position, True
            break
        ends = [e for e in (data.find(b"\n", at), data.find(b"\r", at) if dialect.returns else -1) if e >= 0]
        if not ends:
            return (len(data), False) if final else (position, True)
        end = min(ends)
        if data[end] == _CR:
            if end + 1 == len(data) and not final:
                return position, True
            end += data[end + 1 : end + 2] == b"\n"
        position = end + 1
    return position, False


def cut_record(data: bytes, start: int, dialect: Dialect, expected: int | None, *, final: bool) -> Cut | None:
    """Cut the record at an offset; None: the data ends before it.

    Args:
        data: Bytes of a file.
        start: Offset of the record's first byte.
        dialect: Dialect of the file.
        expected: Number of fields; None: any.
        final: The file ends with the data.
    """
    try:
        if dialect.lenient:
            return _lenient(data, start, dialect, expected, final)
        return _Cutter(data, start, dialect, Mode.STRICT, final).cut()
    except _MoreError:
        return None


def _fits(cut: Cut, dialect: Dialect, expected: int | None) -> bool:
    count = len(cut.fields)
    return (
        expected is None
        or count == expected
        or (dialect.trailing and count == expected + 1 and cut.fields[-1] == (b"", False))
    )


def _lenient(data: bytes, start: int, dialect: Dialect, expected: int | None, final: bool) -> Cut:
    near = data[: start + SPAN]
    ends = final and len(near) == len(data)

    def attempt(mode: Mode, *, line: bool, returns: bool = False) -> Cut | None:
        try:
            return _Cutter(near, start, dialect, mode, ends, line=line, returns=returns).cut()
        except _UnfitError:
            return None
        except _MoreError:
            if len(near) == len(data):
                raise
            return None

    first = attempt(Mode.STRICT, line=False)
    clean = first is not None and not first.broken
    if first is not None and clean:
        if _fits(first, dialect, expected):
            return first
        text = near[start : first.end]
        if b"\r" not in text and (dialect.quote is None or dialect.quote not in text):
            return first
    kept: list[Cut] = []
    for mode, line in (
        (Mode.INNER, True),
        (Mode.BLANKS, True),
        (Mode.STRICT, True),
        (Mode.NEAR, True),
        (Mode.INNER, False),
    ):
        found = attempt(mode, line=line)
        if found is None or found.broken == 2 or (mode is Mode.BLANKS and found.broken):
            continue
        if _fits(found, dialect, expected):
            return found
        if mode in (Mode.INNER, Mode.STRICT) and line:
            kept.append(found)
    split = attempt(Mode.STRICT, line=True, returns=True)
    if split is not None and not split.broken and _fits(split, dialect, expected):
        return split
    if first is not None and clean:
        return first
    return kept[0] if kept else _Cutter(data, start, dialect, Mode.NEAR, final, line=True).cut()


class _Cutter:
    """Cuts one record.

    Args:
        data: Bytes of a file.
        start: Offset of the record's first byte.
        dialect: Dialect of the file.
        mode: How quotes are read.
        final: The file ends with the data.
        line: The record ends with its first line, also within quotes.
        returns: A carriage return alone ends it, too.
    """

    def __init__(
        self,
        data: bytes,
        start: int,
        dialect: Dialect,
        mode: Mode,
        final: bool,
        *,
        line: bool = False,
        returns: bool = False,
    ) -> None:
        self.data, self.at, self.dialect, self.mode, self.final, self.line = (
            data,
            start,
            dialect,
            mode,
            final,
            line,
        )
        self.returns = returns or dialect.returns
        self.quote = dialect.quote[0] if dialect.quote else -1
        self.escape = dialect.escape[0] if dialect.escape else -1
        self.spaces = dialect.delimiter == BLANKS
        self.trims = dialect.trim or mode is Mode.BLANKS
        self.blank = bytes(b for b in _BLANK if bytes([b]) != dialect.delimiter)
        self.made = Cut()

    def cut(self) -> Cut:
        """Cut the record.

        Raises:
            _MoreError: The data ends before it.
            _UnfitError: A field can't be closed on its line.
        """
        made = self.made
        if self.spaces:
            self.at = _skip(self.data, self.at, b" \t")
        while True:
            made.fields.append(self._field())
            if not self._delimiter():
                break
        made.end = self.at
        made.following = self._line_end(self.at) or self.at
        return made

    def _field(self) -> tuple[bytes, bool]:
        opens = self.at
        if self.trims:
            opens = _skip(self.data, self.at, self.blank)
        if self._byte(opens) == self.quote and (self.mode is not Mode.NEAR or self._closes_near(opens + 1)):
            if opens > self.at and not self.dialect.trim:
                self._repaired(AROUND_QUOTE)
            self.at = opens + 1
            return self._quoted(), True
        if self.mode is Mode.NEAR and self._byte(self.at) == self.quote:
            self._repaired(OPEN_QUOTE)
        value = self._unquoted()
        return value.strip(self.blank) if self.dialect.trim else value, False

    def _quoted(self) -> bytes:
        data, value, strays = self.data, bytearray(), 0
        while True:
            byte = self._byte(self.at)
            if byte is None:
                if self.line:
                    raise _UnfitError
                self.made.broken = 2
                return bytes(value)
            following = self._byte(self.at + 1)
            if byte == self.escape:
                value += data[self.at + 1 : self.at + 2]
                self.at = min(self.at + 2, len(data))
            elif byte == self.quote:
                if following == self.quote:
                    value.append(byte)
                    self.at += 2
                    if self.mode is Mode.INNER and strays % 2 and self._ends_field(self.at):
                        strays += 1
                        break
                elif self.mode is Mode.INNER and not self._ends_field(self.at + 1):
                    value.append(byte)
                    strays += 1
                    self.at += 1
                else:
                    self.at += 1
                    break
            elif self.line and (byte == _LF or self._line_end(self.at) is not None):
                raise _UnfitError
            else:
                value.append(byte)
                self.at += 1
        if strays:
            self._repaired(INNER_QUOTE)
        if self._ends_field(self.at):
            if self.trims:
                self._skip_blanks_behind()
            return bytes(value)
        self.made.broken = self.made.broken or 1
        self._repaired(AFTER_QUOTE)
        return bytes(value + self._unquoted())

    def _skip_blanks_behind(self) -> None:
        behind = _skip(self.data, self.at, self.blank)
        if behind > self.at and not self.dialect.trim and not self.spaces:
            self._repaired(AROUND_QUOTE)
        if not self.spaces:
            self.at = behind

    def _unquoted(self) -> bytes:
        value = bytearray()
        while (byte := self._byte(self.at)) is not None:
            if byte == self.escape:
                self._byte(self.at + 1)
                value += self.data[self.at + 1 : self.at + 2]
                self.at = min(self.at + 2, len(self.data))
                continue
            if self._delimiter_size(self.at) or self._line_end(self.at) is not None:
                break
            if byte == _CR:
                self.made.broken = self.made.broken or 3
                self._repaired(RETURN)
            value.append(byte)
            self.at += 1
        return bytes(value)

    def _closes_near(self, at: int) -> bool:
        """Return whether a quote closes the field before another quoted one begins, and on this line."""
        while (byte := self._byte(at)) is not None:
            if byte == self.escape:
                at += 2
                continue
            if byte == self.quote:
                if self._byte(at + 1) == self.quote:
                    at += 2
                    continue
                return self._ends_field(at + 1)
            size = self._delimiter_size(at)
            if (size and self._byte(at + size) == self.quote) or self._line_end(at) is not None:
                return False
            at += 1
        return False

    # ---- bytes -------------------------------------------------------------------------------

    def _byte(self, at: int) -> int | None:
        """Return a byte; None: the file ends before it."""
        if at < len(self.data):
            return self.data[at]
        if not self.final:
            raise _MoreError
        return None

    def _ends_field(self, at: int) -> bool:
        if self.trims:
            at = _skip(self.data, at, self.blank)
        return self._byte(at) is None or bool(self._delimiter_size(at)) or self._line_end(at) is not None

    def _delimiter(self) -> bool:
        """Go behind the delimiter at this place; False: here the record ends."""
        size = self._delimiter_size(self.at)
        self.at += size
        if not size and self.spaces:
            self.at = _skip(self.data, self.at, b" \t")  # blanks at the end of a line
        return size > 0

    def _delimiter_size(self, at: int) -> int:
        """Return the bytes of the delimiter at an offset, 0 where there is none."""
        if not self.spaces:
            delimiter = self.dialect.delimiter
            found = self.data[at : at + len(delimiter)]
            if (
                found != delimiter
                and not self.final
                and delimiter.startswith(found)
                and at + len(found) == len(self.data)
            ):
                raise _MoreError
            return len(delimiter) if found == delimiter else 0
        behind = _skip(self.data, at, b" \t")
        if behind == at or self._byte(behind) is None or self._line_end(behind) is not None:
            return 0
        return behind - at

    def _line_end(self, at: int) -> int | None:
        """Return the offset behind the line end at an offset; None: there is none."""
        if self.spaces:
            at = _skip(self.data, at, b" \t")
        byte = self._byte(at)
        if byte is None:
            return at
        if byte == _LF:
            return at + 1
        if byte != _CR:
            return None
        following = self._byte(at + 1)
        if following is None or following == _LF:
            return min(at + 2, len(self.data))
        if self.returns:
            return at + 1
        if self.dialect.lenient:
            behind = _skip(self.data, at, b"\r")
            following = self._byte(behind)
            if following is None or following == _LF:
                return min(behind + 1, len(self.data))
        return None

    def _repaired(self, kind: int) -> None:
        place = (len(self.made.fields), kind)
        if place not in self.made.repairs:
            self.made.repairs.append(place)


def _skip(data: bytes, at: int, what: bytes) -> int:
    while at < len(data) and data[at] in what:
        at += 1
    return at

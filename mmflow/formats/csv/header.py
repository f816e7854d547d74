"""Header of a CSV file: the names of its columns, and where its first record begins.

    first bytes -> signs of something else than UTF-8 text -> first record -> names, made unique

Schemas are found in one direction: compression -> sampling -> detection of the format -> header -> inference of types.
This module knows no decoder: only the inference of types, in `csv.format`, reads the sample with one.

Invariant: every name is text without control characters, none is empty, and none comes twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from mmflow.errors import SourceError
from mmflow.formats.csv.frame import Frame
from mmflow.formats.csv.normal import cut_record, skip_blank
from mmflow.formats.csv.structure import BROKEN, Dialect, parse_record
from mmflow.formats.decoding.lines import skip_lines
from mmflow.formats.encodings.encoding import UTF8
from mmflow.formats.encodings.files import FileEncoding, FirstText, translated_start
from mmflow.formats.encodings.invalid import encoding_advice
from mmflow.formats.schemas.encodings import BOM, check_text
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = [
    "CONTROL",
    "Header",
    "delimiter_line",
    "first_record",
    "holds_records",
    "read_header",
    "seen_dialect",
    "unique_names",
]

_SAMPLED = 1 << 14  # bytes by which an encoding is guessed
_UNCLOSED, _LONE_RETURN = 2, 3  # of `Structure.broken`
#: Control characters but for tabs and line breaks, which a quoted name may hold.
CONTROL = lazy_regex(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")
_PLAIN = Frame()
#: Line that names the delimiter for spreadsheets.
_DELIMITER_LINE = lazy_regex(rb"(?:\xef\xbb\xbf)?sep=([\t -~])(?:\r\n|\n|\r)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Header:
    """Names of a file's columns in its order, and the offset behind them; no names in an empty file.

    Attributes:
        names: Names of the columns.
        begins: Offset behind the header.
        trailing: The first record has one delimiter more than the header, behind its last field.
        returns: Lines end in carriage returns alone.
    """

    names: tuple[str, ...]
    begins: int
    trailing: bool = False
    returns: bool = False


@dataclass(frozen=True, slots=True)
class FirstRecord:
    """First record of some bytes: its fields, where it lies, what is broken (`Structure.broken`).

    Attributes:
        complete: It ends with a line break, or with the file.
    """

    fields: tuple[bytes, ...]
    begin: int
    following: int
    broken: int
    complete: bool


def first_record(
    start: bytes, dialect: Dialect, position: int = 0, *, final: bool = True
) -> FirstRecord | None:
    """Return the first record from `position` on, blank lines and NULs before it left out; None: there is none.

    Args:
        start: First bytes of a file.
        dialect: Dialect of the file.
        position: Offset at which to begin, in bytes.
        final: The file ends with these bytes.
    """
    if not dialect.plain:
        return _first_odd(start, dialect, position, final=final)
    while position < len(start):
        if dialect.escape is None:
            fields, end, broken = _split(start, position, dialect)
        else:
            found = parse_record(start, position, dialect, final=True)
            assert found is not None
            end, _, broken = min(found[0], len(start)), *found[1:]
            fields = _split_escaped(start[position:end].removesuffix(b"\r"), dialect)
        if start[position:end].strip(b"\r\0"):
            complete = final or (end < len(start) and broken != _UNCLOSED)
            return FirstRecord(tuple(fields), position, min(end + 1, len(start)), broken, complete)
        position = end + 1
    return None


def _first_odd(start: bytes, dialect: Dialect, position: int, *, final: bool) -> FirstRecord | None:
    while True:
        begin, _ = skip_blank(start, position, len(start), dialect, final=True)
        if begin >= len(start):
            return None
        found = cut_record(start, begin, dialect, None, final=False)
        complete = found is not None or final
        found = found or cut_record(start, begin, dialect, None, final=True)
        assert found is not None
        if not found.blank:
            fields = tuple(value for value, _ in found.fields)
            broken = 0 if dialect.lenient else found.broken
            return FirstRecord(fields, begin, found.following, broken, complete)
        position = found.following


def _split(start: bytes, position: int, dialect: Dialect) -> tuple[list[bytes], int, int]:
    """Return the fields of the record at `position`, its end, and what is broken as in `parse_record`, by patterns."""
    quote = dialect.quote
    end = start.find(b"\n", position)
    end = len(start) if end < 0 else end
    line = start[position:end].removesuffix(b"\r")
    if b"\r" not in line and (quote is None or quote not in line):
        return line.split(dialect.delimiter), end, 0  # as most headers are
    delimiter = re.escape(dialect.delimiter)
    plain = re.compile(b"[^" + delimiter + rb"\n]*+")
    marks = re.escape(quote or b"")
    quoted = re.compile(marks + b"((?:[^" + marks + b"]++|" + marks * 2 + b")*+)" + marks) if quote else None
    fields: list[bytes] = []
    broken = 0
    while True:
        value = b""
        if quoted is not None and start.startswith(quote or b"", position):
            found = quoted.match(start, position)
            if found is None:
                return [*fields, start[position + 1 :]], len(start), _UNCLOSED
            assert quote is not None
            value, position = found[1].replace(quote * 2, quote), found.end()
            rest = plain.match(start, position)
            assert rest is not None
            position = rest.end()
            ends = position >= len(start) or start[position : position + 1] == b"\n"
            if rest[0] and not (ends and rest[0] == b"\r"):
                broken, value = 1, value + rest[0]
        else:
            rest = plain.match(start, position)
            assert rest is not None
            value, position = rest[0], rest.end()
            ends = position >= len(start) or start[position : position + 1] == b"\n"
            value = value.removesuffix(b"\r") if ends else value
            if b"\r" in value:
                broken = broken or _LONE_RETURN
        fields.append(value)
        if ends:
            return fields, position, broken
        position += 1


def _split_escaped(record: bytes, dialect: Dialect) -> list[bytes]:
    """Return the fields of a record with escapes, byte by byte."""
    fields = [bytearray()]
    position, quoted, at_start = 0, False, True
    while position < len(record):
        byte, following = record[position : position + 1], record[position + 1 : position + 2]
        if byte == dialect.escape:
            fields[-1] += following
            at_start = False
            position += 1
        elif quoted and byte == dialect.quote:
            if following == byte:
                fields[-1] += byte
                position += 1
            else:
                quoted = False
        elif at_start and byte == dialect.quote:
            quoted, at_start = True, False
        elif byte == dialect.delimiter and not quoted:
            fields.append(bytearray())
            at_start = True
        else:
            fields[-1] += byte
            at_start = False
        position += 1
    return [bytes(field) for field in fields]


def holds_records(start: bytes, dialect: Dialect, count: int, frame: Frame = _PLAIN) -> bool:
    """Return whether the first bytes of a file hold `count` complete records, behind the lines that are skipped."""
    dialect = seen_dialect(start, dialect)
    position = _behind_skipped(start, frame, dialect)
    if position is None:
        return False
    for _ in range(count):
        found = first_record(start, dialect, position, final=False)
        if found is None or not found.complete:
            return False
        position = found.following
    return True


def read_header(
    path: str, start: bytes, dialect: Dialect, frame: Frame = _PLAIN, source: FirstText | None = None
) -> Header:
    """Read a header; without one, find where the records begin.

    Args:
        path: Path of the file, for messages.
        start: Its first bytes in UTF-8, the whole header among them.
        dialect: Its dialect.
        frame: Lines that are skipped, and which records are the header.
        source: Bytes of the file that these are of; None: they.

    Returns:
        The names of the header, or those that `frame` gives instead.

    Raises:
        SourceError: The file is no text of its encoding, its header is broken, has another number of names than
            `frame`, or holds control characters.
    """
    check_text(path, start)
    source = source or translated_start(start, FileEncoding(UTF8), ended=True)
    dialect = seen_dialect(start, dialect)
    position = _behind_skipped(start, frame, dialect)
    if not frame.header:
        return Header(frame.names, len(start) if position is None else position, returns=dialect.returns)
    rows: list[list[str]] = []
    number = 0
    while number < frame.header[-1]:
        found = None if position is None else first_record(start, dialect, position)
        if found is None:
            if number == 0:
                return Header((), len(start), returns=dialect.returns)
            raise _short(path, number, frame)
        number, position = number + 1, found.following
        if number not in frame.header:
            continue
        if found.broken:
            raise _broken(path, start, found, source)
        rows.append([_name(path, start, found, place, source) for place in range(len(found.fields))])
    assert position is not None
    names = unique_names(rows[0] if len(rows) == 1 else _joined(rows))
    if frame.names and len(frame.names) != len(names):
        raise SourceError(
            f"{path}: names= has {len(frame.names):,} names, and its header has {len(names):,}\n"
            "  give as many, or header=false if the first line is data",
            path=path,
        )
    first = first_record(start, dialect, position, final=source.ended)
    trailing = (
        first is not None
        and first.complete
        and len(first.fields) == len(names) + 1
        and not first.fields[-1]
        and start[first.begin : first.following].rstrip(b"\r\n").endswith(dialect.delimiter)
    )
    return Header(frame.names or names, position, trailing, dialect.returns)


def seen_dialect(start: bytes, dialect: Dialect) -> Dialect:
    """Return the dialect of a file whose first bytes are given: carriage returns end its lines if nothing else does."""
    if dialect.returns or b"\n" in start or b"\r" not in start[:-1]:
        return dialect
    return replace(dialect, returns=True)


def delimiter_line(start: bytes) -> tuple[str, int] | None:
    """Return the delimiter that the first line of a file names for spreadsheets, and the offset behind that line.

    >>> delimiter_line(b"sep=;\\r\\na;b\\r\\n")
    (';', 7)
    """
    found = _DELIMITER_LINE.match(start)
    return None if found is None else (found[1].decode(), found.end())


def _behind_skipped(start: bytes, frame: Frame, dialect: Dialect) -> int | None:
    """Return the offset behind the lines that are skipped; None: the text ends before."""
    if not frame.skip_rows and (named := delimiter_line(start)) is not None:
        return named[1]
    begin = len(BOM) if start.startswith(BOM) else 0
    return skip_lines(start, begin, frame.skip_rows, returns=dialect.returns)


def _joined(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of several header rows: the texts of each column, joined by `_`; empty ones are left out."""
    width = max(map(len, rows))
    padded = [[*row, *[""] * (width - len(row))] for row in rows]
    return ["_".join(filter(None, texts)) for texts in zip(*padded, strict=True)]


def _short(path: str, number: int, frame: Frame) -> SourceError:
    return SourceError(
        f"{path}: it has {number:,} rows, and the header is its row {frame.header[-1]:,}\n"
        "  set header= to the number of the row that names the columns; the first is 1",
        path=path,
    )


def _broken(path: str, start: bytes, found: FirstRecord, source: FirstText) -> SourceError:
    advice = (
        "if carriage returns end its lines, set line_end='any'"
        if found.broken == _LONE_RETURN
        else "set quote= to what quotes fields, or to nothing, or header=false if the first line is data"
    )
    what = f"its header is broken: {BROKEN[found.broken]}"
    return _wrong(path, start, found.begin, what, advice, source)


def _name(path: str, start: bytes, found: FirstRecord, number: int, source: FirstText) -> str:
    field = found.fields[number]
    try:
        name = field.decode()
    except UnicodeDecodeError as error:
        at = start.find(field[error.start : error.end], found.begin)
        name = "UTF-8" if source.encoding == "utf-8" else f"valid {source.encoding}"
        begin = source.raw_offset(found.begin)
        advice = encoding_advice(source.raw[begin : begin + _SAMPLED], source.encoding)
        what = f"the name of its column {number + 1:,} is not {name}"
        raise _wrong(path, start, at, what, advice, source) from error
    control = CONTROL.search(name)
    if control is None:
        return name
    at = start.find(control[0].encode(), found.begin)
    advice = "say which format it has with format="
    if len(found.fields) == 1 and control[0] != "\0":
        advice = f"set delimiter={control[0]!r} if that is what delimits fields, else {advice}"
    what = f"its header holds the control character {control[0]!r}, as binary files do"
    raise _wrong(path, start, at, what, advice, source)


def _wrong(path: str, start: bytes, at: int, what: str, advice: str, source: FirstText) -> SourceError:
    line = start.count(b"\n", 0, at) + 1
    at = source.raw_offset(at)
    return SourceError(
        f"{path}: {what} (line {line:,}, byte offset {at:,})\n  {advice}", path=path, byte_offset=at
    )


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names that differ: of two columns `a` the second is `a_2`, one without a name is `column_3` by its place.

    >>> unique_names(["a", "a", "", "a_2"])
    ('a', 'a_3', 'column_3', 'a_2')
    """
    taken = set(names)
    used: set[str] = set()
    numbers: dict[str, int] = {}
    made = []
    for place, given in enumerate(names, 1):
        name = given or f"column_{place}"
        if (given and name not in used) or (not given and name not in taken and name not in used):
            used.add(name)
            made.append(name)
            continue
        number = numbers.get(name, 1)
        unique = name
        while unique in taken or unique in used:
            number += 1
            unique = f"{name}_{number}"
        numbers[name] = number
        used.add(unique)
        made.append(unique)
    return tuple(made)

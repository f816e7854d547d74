"""Records of text under a hypothetical dialect, forgiving: whatever is wrong is counted, not raised."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from mmflow.lazy.dataclasses import dataclass

__all__ = ["SPACES", "Hypothesis", "Quoted", "Record", "split_records"]

#: The delimiter that is any run of blanks.
SPACES = r"\s+"


class Quoted(str):
    """Text of a field that was quoted."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Dialect that a text may have.

    Attributes:
        delimiter: Text between fields, or `SPACES`.
        quote: Character around fields; empty: none.
        escape: Character before a quote; empty: quotes are doubled.
        trim: Blanks around fields do not count, also before quotes.
    """

    delimiter: str
    quote: str = '"'
    escape: str = ""
    trim: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """Record of a text.

    Attributes:
        line: Number of its first line, from 0.
        lines: Number of its lines.
        raw: Its text without the line end.
        cells: Its fields; those that were quoted are `Quoted`.
        broken: Text follows a closing quote, or a quote is not closed.
    """

    line: int
    lines: int
    raw: str
    cells: tuple[str, ...]
    broken: bool = False


def split_records(text: str, form: Hypothesis, most: int) -> list[Record]:
    """Return the first records of a text whose lines end in LF, blank lines among them (without cells).

    Args:
        text: Text.
        form: Dialect by which it is split.
        most: Largest number of records.
    """
    split = _splitter(form)
    quote = form.quote
    found: list[Record] = []
    position, line, size = 0, 0, len(text)
    while position < size and len(found) < most:
        end = text.find("\n", position)
        end = size if end < 0 else end
        raw = text[position:end]
        if not raw or (raw.isspace() and (form.trim or form.delimiter not in raw)):
            found.append(Record(line, 1, raw, ()))
            position, line = end + 1, line + 1
            continue
        if (not quote or quote not in raw) and not (form.escape and form.escape in raw):
            found.append(Record(line, 1, raw, split(raw)))
            position, line = end + 1, line + 1
            continue
        cells, end, broken = _quoted_record(text, position, form)
        raw = text[position:end]
        lines = raw.count("\n") + 1
        if broken and lines > 1:
            # A quote that is not closed takes no more than its line, so that one title costs no table.
            end = text.find("\n", position)
            raw, lines = text[position:end], 1
            cells = split(raw)
        found.append(Record(line, lines, raw, cells, broken))
        position, line = end + 1, line + lines
    return found


def _splitter(form: Hypothesis) -> Callable[[str], tuple[str, ...]]:
    if form.delimiter == SPACES:
        return lambda raw: tuple(raw.split())
    if form.trim:
        return lambda raw: tuple(c.strip(" ") for c in raw.split(form.delimiter))
    return lambda raw: tuple(raw.split(form.delimiter))


@lru_cache(maxsize=64)
def _patterns(form: Hypothesis) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of a quoted field, and of what reaches up to the next delimiter or line end."""
    quote, escape = re.escape(form.quote), re.escape(form.escape)
    delimiter = r"[ \t]+" if form.delimiter == SPACES else re.escape(form.delimiter)
    escaped = rf"{escape}[^\n]|" if form.escape else ""
    inside = f"[^{quote}{escape}]" + (f"|{escape}(?s:.)" if form.escape else "") + f"|{quote}{quote}"
    return (
        re.compile(f"{quote}((?:{inside})*+){quote}"),
        re.compile(f"((?:{escaped}(?!{delimiter})[^\n])*+)({delimiter})?"),
    )


def _quoted_record(text: str, position: int, form: Hypothesis) -> tuple[tuple[str, ...], int, bool]:
    """Return the fields of the record at a position, the offset of its line end, and whether it is broken."""
    quoted, plain = _patterns(form)
    cells: list[str] = []
    broken = False
    while True:
        at = position
        if form.trim or form.delimiter == SPACES:
            while text.startswith(" ", at):
                at += 1
        value: str
        match = quoted.match(text, at) if text.startswith(form.quote, at) else None
        if match is not None:
            rest = plain.match(text, match.end())
            assert rest is not None
            broken = broken or bool(rest[1].strip(" ") if form.trim else rest[1])
            value = Quoted(match[1].replace(form.quote * 2, form.quote))
        else:
            broken = broken or text.startswith(form.quote, at)
            rest = plain.match(text, at)
            assert rest is not None
            value = rest[1].strip(" ") if form.trim else rest[1]
        if form.escape and form.escape in value:
            plain_text = re.sub(re.escape(form.escape) + "(?s:(.))", r"\1", value)
            value = Quoted(plain_text) if isinstance(value, Quoted) else plain_text
        cells.append(value)
        position = rest.end()
        if rest[2] is None:
            return tuple(cells), position, broken

"""Lines of logfmt: `level=info msg="a text" ms=12 cached`.

Fields stand in any order, and a line may lack some: they are null. A word without `=` is `true`. Quoted values have the
escapes of JSON. Of a field that a line has twice, the last one counts.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.decoder import I64
from mmflow.formats.decoding.views import set_nulls, views_over
from mmflow.formats.text.splitting import Split
from mmflow.lazy import array_types as npt
from mmflow.lazy import compute as pc
from mmflow.lazy.dataclasses import dataclass

__all__ = ["LogfmtSplitter", "logfmt_names"]

_QUOTE, _ESCAPE, _EQUALS, _SPACE, _TAB = b'"\\= \t'


@dataclass(slots=True)
class _Words:
    """Words of some lines, shape (words,) each; `value` begins behind the `=`, and is -1 where there is none."""

    data: pa.Buffer
    line: I64
    begin: I64
    key_end: I64
    value: I64
    end: I64
    bad: dict[int, str]


@dataclass(frozen=True, slots=True)
class LogfmtSplitter:
    """Splits lines of logfmt.

    Attributes:
        names: Fields that are known.
        closed: Other fields make a bad record; else they are left out.
    """

    names: tuple[str, ...]
    closed: bool
    verbatim: bool = False

    def split(self, lines: pa.Array, wanted: tuple[str, ...]) -> Split:
        words = _words(lines)
        count = len(lines)
        field = _fields_of(words, self.names)
        bad = dict(words.bad)
        assigned = np.zeros(count, np.bool_)
        assigned[words.line[words.value >= 0]] = True
        empty = np.diff(_offsets(lines)) == 0
        for row in np.flatnonzero(~assigned & ~empty).tolist():
            bad.setdefault(row, "the line is not of logfmt: no word of it is key=value")
        if self.closed:
            for word in np.flatnonzero(field < 0).tolist():
                if (row := int(words.line[word])) not in bad:
                    name = _text(words.data, int(words.begin[word]), int(words.key_end[word]))
                    bad[row] = (
                        f"field {name!r} is not in the schema; add it with schema=, or set on_new_field=ignore"
                    )
        texts = {name: _column(words, field == self.names.index(name), count, bad) for name in wanted}
        return Split(texts, bad, empty if empty.any() else None)


def logfmt_names(lines: pa.Array) -> list[str]:
    """Return the names of the fields of some lines, in order of appearance; lines that are not logfmt don't count."""
    words = _words(lines)
    names: dict[str, None] = {}
    fit = set(words.line[words.value >= 0].tolist()) - words.bad.keys()
    for word in range(len(words.line)):
        if int(words.line[word]) in fit:
            names.setdefault(_text(words.data, int(words.begin[word]), int(words.key_end[word])))
    return list(names)


def _offsets(lines: pa.Array) -> npt.NDArray[np.int32]:
    return np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1]


def _words(lines: pa.Array) -> _Words:
    """Find the words of lines, and what is wrong with quotes."""
    offsets = _offsets(lines).astype(np.int64)
    buffer = lines.buffers()[2] or pa.py_buffer(b"")
    data = buffer.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    offsets = offsets - offsets[0]
    raw = np.frombuffer(data, np.uint8)
    bad: dict[int, str] = {}
    quote = _unescaped(raw)
    places = np.flatnonzero(quote)
    counts = np.diff(np.searchsorted(places, offsets))
    for row in np.flatnonzero(counts & 1).tolist():
        bad[row] = "a quote is never closed"
        quote[offsets[row] : offsets[row + 1]] = False
    inside = (np.cumsum(quote, dtype=np.int64) & 1).astype(np.bool_)
    blank = ((raw == _SPACE) | (raw == _TAB)) & ~inside
    first = np.zeros(len(raw) + 1, np.bool_)
    first[offsets] = True
    after_blank = np.concatenate([[True], blank[:-1]]) if len(raw) else blank
    before_blank = np.concatenate([blank[1:], [True]]) if len(raw) else blank
    begin = np.flatnonzero(~blank & (after_blank | first[:-1]))
    end = np.flatnonzero(~blank & (before_blank | first[1:])) + 1
    line = np.searchsorted(offsets, begin, side="right") - 1
    equals = np.flatnonzero((raw == _EQUALS) & ~inside)
    equals = np.append(equals, len(raw))
    sign = equals[np.searchsorted(equals, begin)]
    has = sign < end
    key_end = np.where(has, sign, end)
    value = np.where(has, sign + 1, -1)
    places = np.flatnonzero(quote)
    quotes = np.searchsorted(places, end) - np.searchsorted(places, begin)
    safe = np.minimum(np.maximum(value, 0), max(0, len(raw) - 1))
    closed = has & (quotes == 2) & (end - value >= 2)
    if len(raw):
        closed &= quote[safe] & quote[np.maximum(end - 1, 0)]
    for row in line[(quotes > 0) & ~closed].tolist():
        bad.setdefault(row, "a quote stands inside a word; values with quotes are written within quotes")
    return _Words(data, line, begin, key_end, value, end, bad)


def _unescaped(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return where quotes stand that no backslash escapes."""
    quote: npt.NDArray[np.bool_] = raw == _QUOTE
    behind = np.flatnonzero(quote[1:] & (raw[:-1] == _ESCAPE)) + 1
    if len(behind):
        other = np.maximum.accumulate(np.where(raw != _ESCAPE, np.arange(len(raw)), -1))
        quote[behind[(behind - 1 - other[behind - 1]) % 2 == 1]] = False
    return quote


def _fields_of(words: _Words, names: tuple[str, ...]) -> I64:
    """Return for each word the number of its field among the names; -1 for others."""
    raw = np.frombuffer(words.data, np.uint8)
    lengths = words.key_end - words.begin
    found = np.full(len(words.begin), -1, np.int64)
    for number, name in enumerate(names):
        key = np.frombuffer(name.encode(), np.uint8)
        same = np.flatnonzero(lengths == len(key))
        for place, byte in enumerate(key):
            same = same[raw[words.begin[same] + place] == byte]
        found[same] = number
    return found


def _column(words: _Words, chosen: npt.NDArray[np.bool_], count: int, bad: dict[int, str]) -> pa.Array:
    """Return the texts of one field, one for each line; null where it lacks the field."""
    raw = np.frombuffer(words.data, np.uint8)
    word = np.full(count, -1, np.int64)
    numbers = np.flatnonzero(chosen)
    word[words.line[numbers]] = numbers
    there = word >= 0
    word = np.maximum(word, 0)
    if not there.any():
        return pa.nulls(count, pa.string())
    flag = there & (words.value[word] < 0)
    starts = np.where(flag, 0, words.value[word])
    ends = np.where(flag, 0, words.end[word])
    quoted = there & ~flag & (ends > starts)
    quoted[quoted] = raw[starts[quoted]] == _QUOTE
    starts, ends = starts + quoted, ends - quoted
    ends = np.maximum(ends, starts)
    lengths = np.where(there, ends - starts, 0)
    texts = set_nulls(views_over(words.data, np.where(there, starts, 0), lengths, pa.string_view()), ~there)
    texts = texts.cast(pa.string())
    if flag.any():
        texts = pc.if_else(pa.array(flag), pa.scalar("true", pa.string()), texts)
    escapes = np.flatnonzero(raw == _ESCAPE)
    escaped = quoted & (np.searchsorted(escapes, starts) < np.searchsorted(escapes, ends))
    if not escaped.any():
        return texts
    values = []
    for row in np.flatnonzero(escaped).tolist():
        try:
            values.append(json.loads(f'"{texts[row].as_py()}"', strict=False))
        except ValueError:
            bad.setdefault(row, "a quoted value has an escape that JSON does not have")
            values.append("")
    return pc.replace_with_mask(texts, pa.array(escaped), pa.array(values, pa.string()))


def _text(data: pa.Buffer, begin: int, end: int) -> str:
    found: str = data.slice(begin, end - begin).to_pybytes().decode()
    return found

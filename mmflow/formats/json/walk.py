"""Walk over JSON documents to the records at a path, which are copied as lines of NDJSON.

    {"meta": 1, "data": [ {"a": 1,          lines:  {"a": 1, "b": 2}
                           "b": 2}, ...             ...

Only the way to the records is checked: a record itself is checked by whoever decodes its line, and of what lies beside
the path, brackets and quotes are counted. This is the definition; kernels/json/walk.inl.h is the fast way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.decoder import I64
from mmflow.formats.json.path import Step
from mmflow.kernels import kernels
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = [
    "ENDS",
    "NO_CONTAINER",
    "START",
    "Cursor",
    "KernelWalker",
    "ReferenceWalker",
    "Walked",
    "Walker",
    "record_cursor",
]

#: level, phase, first, matched, depth, inside, escape: JsonCursor in kernels/json/walk.h.
Cursor = tuple[int, int, bool, bool, int, bool, int]
_VALUE, _KEY, _AFTER, _SKIP = 0, 1, 2, 3
ENDS, UNEXPECTED, NO_CONTAINER = 1, 2, 3
#: Cursor at the start of a file.
START: Final[Cursor] = (0, _VALUE, True, True, 0, False, 0)


def record_cursor(level: int) -> Cursor:
    """Return the cursor of the first byte of a record, of a path of so many steps."""
    return (level, _VALUE, False, True, 0, False, 0)


@dataclass(frozen=True, slots=True)
class Walked:
    """Result of a walk.

    Attributes:
        consumed: Bytes that need not come again.
        at_record: A record begins there, at `stop` or behind it.
        newlines: Line breaks within `consumed`.
        cursor: Cursor of that byte.
        begins: Offset of each record in the data, shape (records,).
        ends: Offset behind it.
        places: Offset of its line in `lines`.
        lines: Records, a line each.
        problem: Why the walk can't go on: ENDS, UNEXPECTED or NO_CONTAINER; 0: it can.
        problem_at: Offset in the data.
    """

    consumed: int
    at_record: bool
    newlines: int
    cursor: Cursor
    begins: I64
    ends: I64
    places: I64
    lines: pa.Buffer
    problem: int
    problem_at: int


class Walker(Protocol):
    """Walks over the records that begin before `stop`, up to the begin of the next one."""

    def walk(self, data: pa.Buffer, stop: int, cursor: Cursor, *, final: bool, copies: bool = True) -> Walked:
        """Walk on from the first byte of `data`.

        Args:
            data: Bytes.
            stop: Records that begin here or later are left.
            cursor: Cursor of the first byte.
            final: The file ends where `data` does.
            copies: Copy the records; else only pass over them.
        """
        ...


class KernelWalker:
    """`Walker` by the kernel."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._kernel = kernels().JsonWalker([None if s is None else s.encode() for s in steps])

    def walk(self, data: pa.Buffer, stop: int, cursor: Cursor, *, final: bool, copies: bool = True) -> Walked:
        consumed, at_record, _, newlines, problem, problem_at, moved, places, (address, size, owner) = (
            self._kernel.walk(data.address, data.size, stop, final, copies, cursor)
        )
        table = np.frombuffer(places, np.int64).reshape(-1, 3)
        lines = pa.foreign_buffer(address, size, owner) if size else pa.py_buffer(b"")
        return Walked(
            consumed, at_record, newlines, moved, table[:, 0], table[:, 1], table[:, 2], lines, problem, problem_at
        )  # fmt: skip


_SPACE = b" \t\r\n"
_SCALAR = lazy_regex(rb'[^ \t\r\n{}\[\],:"]*')
_BREAK = lazy_regex(rb"\n[ \t\r\n]*")
_PART = lazy_regex(rb'\\["\\]|["{}\[\]]')
_TEXT = lazy_regex(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class ReferenceWalker:
    """`Walker` in Python."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)

    def walk(self, data: pa.Buffer, stop: int, cursor: Cursor, *, final: bool, copies: bool = True) -> Walked:
        return _Walk(self._steps, data.to_pybytes(), stop, cursor, final, copies).run()


class _Walk:
    def __init__(
        self, steps: tuple[Step, ...], text: bytes, stop: int, cursor: Cursor, final: bool, copies: bool
    ) -> None:
        self._steps, self._text, self._stop, self._final, self._copies = steps, text, stop, final, copies
        self._level, self._phase, self._first, self._matched, self._depth, self._inside, self._escape = cursor
        self._records: list[tuple[int, int, int]] = []
        self._lines = bytearray()

    def _result(self, consumed: int, problem: int = 0, at: int = 0, *, at_record: bool = False) -> Walked:
        table = np.array(self._records, np.int64).reshape(-1, 3)
        moved = (
            self._level,
            self._phase,
            self._first,
            self._matched,
            self._depth,
            self._inside,
            self._escape,
        )
        return Walked(
            consumed, at_record, self._text.count(b"\n", 0, consumed), moved, table[:, 0], table[:, 1], table[:, 2],
            pa.py_buffer(bytes(self._lines)), problem, at,
        )  # fmt: skip

    def run(self) -> Walked:
        text, size, at = self._text, len(self._text), 0
        steps = self._steps
        while True:
            if self._phase == _SKIP:
                end = self._brackets_end(at)
                if end is None:
                    # The state within is not kept: a reference may begin again.
                    return self._result(at, ENDS, size) if self._final else self._result(at)
                at, self._phase = end, _AFTER
            while at < size and text[at] in _SPACE:
                at += 1
            if at == size:
                ends = self._final and self._level > 0
                return self._result(at, ENDS, size) if ends else self._result(at)
            c = text[at : at + 1]
            in_list = self._level > 0 and steps[self._level - 1] is None
            if self._phase == _AFTER and self._level > 0:
                if c == b",":
                    self._phase, self._matched, self._first = (_VALUE if in_list else _KEY), in_list, False
                elif c == (b"]" if in_list else b"}"):
                    self._leave()
                else:
                    return self._result(at, UNEXPECTED, at)
                at += 1
                continue
            if self._phase == _AFTER:
                self._phase, self._matched = _VALUE, True
            if self._phase == _KEY:
                if c == b"}" and self._first:
                    at += 1
                    self._leave()
                    continue
                if c != b'"':
                    return self._result(at, UNEXPECTED, at)
                key = _TEXT.match(text, at)
                colon = size if key is None else key.end()
                while colon < size and text[colon] in _SPACE:
                    colon += 1
                if colon == size:
                    return self._result(at, ENDS, size) if self._final else self._result(at)
                if text[colon : colon + 1] != b":":
                    return self._result(at, UNEXPECTED, colon)
                assert key is not None
                self._matched = _key(key[0]) == steps[self._level - 1]
                self._phase, self._first = _VALUE, False
                at = colon + 1
                continue
            if in_list and c == b"]" and self._first:
                at += 1
                self._leave()
                continue
            if c in b",:]}\0":
                return self._result(at, UNEXPECTED, at)
            record = self._matched and self._level == len(steps)
            if record and at >= self._stop:
                return self._result(at, at_record=True)
            if self._matched and not record:
                if c == (b"[" if steps[self._level] is None else b"{"):
                    self._phase = _VALUE if steps[self._level] is None else _KEY
                    self._matched = self._first = True
                    self._level += 1
                    at += 1
                    continue
                if c != b"n":  # null has no records, and is not wrong
                    return self._result(at, NO_CONTAINER, at)
            if not record and c in b"{[":
                self._phase, self._depth, self._inside, self._escape = _SKIP, 0, False, 0
                continue
            end = self._value_end(at)
            if end is None:
                return self._result(at, ENDS, size) if self._final else self._result(at)
            if record:
                self._emit(at, end)
            at, self._phase = end, _AFTER

    def _leave(self) -> None:
        self._level -= 1
        self._phase = _AFTER

    def _emit(self, begin: int, end: int) -> None:
        if self._copies:
            self._records.append((begin, end, len(self._lines)))
            self._lines += _one_line(self._text[begin:end]) + b"\n"

    def _value_end(self, at: int) -> int | None:
        c = self._text[at : at + 1]
        if c in b"{[":
            self._depth, self._inside, self._escape = 0, False, 0
            return self._brackets_end(at)
        if c == b'"':
            found = _TEXT.match(self._text, at)
            return None if found is None else found.end()
        found = _SCALAR.match(self._text, at)
        assert found is not None
        return None if found.end() == len(self._text) and not self._final else found.end()

    def _brackets_end(self, at: int) -> int | None:
        depth, inside = self._depth, self._inside
        for part in _PART.finditer(self._text, at):
            match part[0]:
                case b'"':
                    inside = not inside
                case b"{" | b"[" if not inside:
                    depth += 1
                case b"}" | b"]" if not inside:
                    depth -= 1
                    if depth == 0:
                        return part.end()
        return None


def _one_line(record: bytes) -> bytes:
    """Return a record without its line breaks and the indentation behind them; those in text, an error, as 0x01."""
    if b"\n" not in record:
        return record
    made, at, inside = bytearray(), 0, False
    for part in re.finditer(rb'\\["\\]|"|\n', record):
        if part.start() < at:
            continue
        if part[0] == b'"':
            inside = not inside
        elif part[0] == b"\n":
            made += record[at : part.start()]
            if inside:
                made += b"\x01"
                at = part.end()
            else:
                made += b" "
                following = _BREAK.match(record, part.start())
                assert following is not None
                at = following.end()
    return bytes(made + record[at:])


def _key(quoted: bytes) -> str | None:
    if b"\\" not in quoted:
        return quoted[1:-1].decode(errors="surrogateescape")
    if len(quoted) > 1026:
        return None
    try:
        key: str = json.loads(quoted.decode(errors="surrogateescape"), strict=False)
        key.encode(errors="surrogateescape")
    except ValueError:
        return None
    return key

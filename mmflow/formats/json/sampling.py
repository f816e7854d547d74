"""Sample of the records of a file of JSON documents, and the bytes that records begin with.

    [{"id": 1, "tags": [...]},      mark: {"id":   if every record of the sample begins so, and nothing else does
     {"id": 2, ...

A mark lets a reader of any part of the file find where a record begins. It is only a guess, which the boundary check
verifies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.json.decoder import problem_reason
from mmflow.formats.json.path import LIST, Step, auto_steps, path_text
from mmflow.formats.json.walk import ENDS, START, KernelWalker, Walked, record_cursor
from mmflow.formats.schemas.encodings import BOM, check_text
from mmflow.formats.schemas.sampling import MOST, PIECE, sample_file
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.remote.opening import open_file

__all__ = ["RecordSample", "sample_records"]

_OPENING = lazy_regex(rb'\{[ \t\r\n]*"(?:[^"\\]|\\.)*"[ \t\r\n]*:')
_LIST_OF_OBJECTS = lazy_regex(rb'"((?:[^"\\]|\\.){1,100})"\s*:\s*\[\s*\{')


@dataclass(frozen=True, slots=True)
class RecordSample:
    """Sample of a file's records.

    Attributes:
        records: Text of each, without line breaks.
        mark: Bytes that records begin with; empty: they differ, or something else begins so too.
        empty: The file has no records, and was read to its end.
    """

    records: tuple[bytes, ...]
    mark: bytes
    empty: bool


def sample_records(path: str, steps: Sequence[Step] | None, piece: int = PIECE) -> RecordSample:
    """Read records from the start, the middle and the end of a file; of a compressed one, from the start.

    Raises:
        SourceError: It can't be read, is no JSON, or has a record that is too long.
    """

    def enough(start: bytes) -> bool:
        walked = _walk(start, _steps(start, steps), final=False)
        return len(walked.begins) > 0 or walked.problem != 0

    sample = sample_file(path, piece, enough=enough)
    check_text(path, sample.start)
    text = sample.start.removeprefix(BOM)
    found = _steps(text, steps)
    walked = _walk(text, found, final=sample.whole)
    records = _lines(walked)
    if not records and walked.problem:
        raise _sample_error(path, sample.start, walked, found)
    if not records and not sample.whole:
        what = _too_long(text, found)
        raise SourceError(f"{path}: {what}", path=path)
    mark = _mark(text, walked)
    if sample.whole or sample.compression is not None:
        return RecordSample(tuple(records), mark, not records)
    keys = None if not records else _OPENING.match(records[0])
    begin = mark or (keys[0] if keys is not None else b"")
    if begin:
        for part in _pieces(path, len(sample.start), piece):
            at = part.find(begin)
            if at >= 0:
                # What is found is a record if it was one at the start; what is not, ends the walk.
                there = KernelWalker(found).walk(
                    pa.py_buffer(part[at:]), len(part), record_cursor(len(found)), final=False
                )
                records += [line for line in _lines(there) if mark or line.startswith(begin)]
    return RecordSample(tuple(records), mark, False)


def _steps(start: bytes, steps: Sequence[Step] | None) -> tuple[Step, ...]:
    return auto_steps(start) if steps is None else tuple(steps)


def _walk(text: bytes, steps: Sequence[Step], *, final: bool) -> Walked:
    return KernelWalker(steps).walk(pa.py_buffer(text.removeprefix(BOM)), len(text), START, final=final)


def _lines(walked: Walked) -> list[bytes]:
    text: bytes = walked.lines.to_pybytes()
    return text.split(b"\n")[:-1]


def _mark(text: bytes, walked: Walked) -> bytes:
    """Return what all records of a text begin with, and nothing else in it."""
    if not len(walked.begins):
        return b""
    first = _OPENING.match(text, int(walked.begins[0]))
    if first is None or len(first[0]) > 256:
        return b""
    covered = text[: int(walked.ends[-1])]
    places = np.array([m.start() for m in re.finditer(re.escape(first[0]), covered)], np.int64)
    return first[0] if np.array_equal(places, walked.begins) else b""


def _pieces(path: str, start: int, piece: int) -> list[bytes]:
    """Return bytes of the middle and of the end of a file, as far as they lie behind `start`."""
    with open_file(path, io="pread", access="random") as file:
        begins = [b for b in (file.size // 2, file.size - piece) if b >= start]
        return [file.window(b, min(piece, file.size - b)).buffer.to_pybytes() for b in begins]


def _too_long(text: bytes, steps: Sequence[Step]) -> str:
    inner = _LIST_OF_OBJECTS.search(text)
    if steps:
        return f"no record at {path_text(steps)} within its first {MOST:,} bytes, which is the most"
    hint = ""
    if inner is not None:
        key = inner[1].decode(errors="replace")
        hint = f"; set json_path = {path_text((key, LIST))!r} to read the objects of that list as records"
    return f"its first document is longer than {MOST:,} bytes, which is the most of a record{hint}"


def _sample_error(path: str, start: bytes, walked: Walked, steps: Sequence[Step]) -> SourceError:
    text = start.removeprefix(BOM)
    at = walked.consumed if walked.problem == ENDS else walked.problem_at
    offset = at + len(start) - len(text)
    line = text.count(b"\n", 0, at) + 1
    reason = problem_reason(walked, text[at : at + PIECE], steps)
    shown = text[at : at + 60].decode(errors="backslashreplace")
    return SourceError(
        f"{path}, line {line:,}, byte offset {offset:,}: not JSON: {reason}\n  found: {shown!r}",
        path=path,
        byte_offset=offset,
    )

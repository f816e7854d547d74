"""Decoder of JSON documents: a walk finds the records, and the decoder of NDJSON reads them as lines.

    bytes  --walk-->  lines, and where each was  --NDJSON-->  rows, offsets and bad records of lines  -->  of the bytes

A decoder keeps where it is between calls, which come in order of the file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.decoder import I64, BadValue, Decoded, RecordDecoder
from mmflow.formats.json.path import LIST, Step, path_text
from mmflow.formats.json.walk import ENDS, NO_CONTAINER, Cursor, Walked, Walker, record_cursor
from mmflow.formats.row_groups import make_batch

__all__ = ["JsonDecoder", "problem_reason"]

_NEWLINE = 10
#: Bytes of a broken record that Python's json looks at for the reason.
_LOOKED_AT = 1 << 20
_KINDS = {b"{": "an object", b"[": "a list", b'"': "text", b"t": "a boolean", b"f": "a boolean"}


class JsonDecoder:
    """`RecordDecoder` of the records at a path.

    Args:
        steps: The path.
        walker: Finds the records.
        lines: Decoder of NDJSON.
        strict: The first bad record ends it.
        cursor: Where the first call begins; None: every call begins with a record.
    """

    skips_nuls = False

    def __init__(
        self,
        steps: Sequence[Step],
        walker: Walker,
        lines: RecordDecoder,
        *,
        strict: bool,
        cursor: Cursor | None = None,
    ) -> None:
        self.columns = lines.columns
        self._steps, self._walker, self._lines, self._strict = steps, walker, lines, strict
        self._kept = cursor is not None
        self._cursor = cursor or record_cursor(len(steps))
        self.at_record = False

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        walked = self._walker.walk(data, stop, self._cursor, final=final)
        decoded = self._decode_lines(data, walked, located)
        if walked.problem and not (self._strict and decoded.bad):
            decoded.broken = _broken(data, walked, self._steps, decoded.records)
        if self._kept:
            self._cursor, self.at_record = walked.cursor, walked.at_record
        return decoded

    def _decode_lines(self, data: pa.Buffer, walked: Walked, located: bool) -> Decoded:
        lines, done, records = walked.lines, 0, 0
        batches: list[pa.RecordBatch] = []
        offsets: list[I64] = []
        bad: list[BadValue] = []
        ended = False
        while (done < lines.size or not batches) and not ended:
            part = self._lines.decode(lines.slice(done), lines.size - done, final=True, located=located)
            batches.append(part.batch)
            bad += [_moved(one, done, records, data, walked) for one in part.bad]
            ended = self._strict and bool(part.bad)
            if located:
                assert part.offsets is not None
                offsets.append(
                    walked.begins[np.searchsorted(walked.places, part.offsets + done, "right") - 1]
                )
            done += part.consumed
            records += part.records
            if not part.consumed:
                break
        batch = batches[0] if len(batches) == 1 else _joined(batches)
        decoded = Decoded(batch, walked.consumed, records, walked.newlines, bad=bad)
        if located:
            begins = offsets[0] if len(offsets) == 1 else np.concatenate(offsets)

            def line_numbers() -> I64:
                newlines = np.flatnonzero(np.frombuffer(data, np.uint8)[: walked.consumed] == _NEWLINE)
                return np.searchsorted(newlines, begins)

            decoded.offsets, decoded.located_lines = begins, line_numbers
        return decoded


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    names = batches[0].schema.names
    arrays = [pa.concat_arrays([b.column(n) for b in batches]) for n in range(len(names))]
    return make_batch(arrays, names, sum(b.num_rows for b in batches))


def _moved(bad: BadValue, done: int, records: int, data: pa.Buffer, walked: Walked) -> BadValue:
    """Return a bad line as the record that it is of."""
    number = int(np.searchsorted(walked.places, bad.offset + done, "right")) - 1
    begin, end = int(walked.begins[number]), int(walked.ends[number])
    line = int(np.count_nonzero(np.frombuffer(data, np.uint8)[:begin] == _NEWLINE))
    return BadValue(
        begin, end - begin, bad.record + records, line, bad.column, bad.value, bad.reason, bad.dropped
    )


def _broken(data: pa.Buffer, walked: Walked, steps: Sequence[Step], records: int) -> BadValue:
    """Return a document that can't be walked on as a bad record: nothing behind that byte can be read."""
    at = min(walked.consumed, data.size) if walked.problem == ENDS else walked.problem_at
    rest = data.slice(at, min(data.size - at, _LOOKED_AT)).to_pybytes()
    line = int(np.count_nonzero(np.frombuffer(data, np.uint8)[:at] == _NEWLINE))
    return BadValue(at, len(rest), records, line, None, None, problem_reason(walked, rest, steps))


def problem_reason(walked: Walked, rest: bytes, steps: Sequence[Step]) -> str:
    """Return why a walk can't go on, with the bytes from there on."""
    level, phase, first = walked.cursor[:3]
    in_list = level > 0 and steps[level - 1] is LIST
    if walked.problem == NO_CONTAINER:
        wanted = "a list" if steps[level] is LIST else "an object"
        found = _KINDS.get(rest[:1], "a number")
        return f"{path_text(steps[:level])} is {found}, and json_path = {path_text(steps)!r} needs {wanted} there"
    if walked.problem == ENDS:
        if phase == 0 and rest.strip():
            return (
                f"the document ends within this value{_first_error(rest)}; it is cut short, or a bracket or quote is "
                "not closed"
            )
        missing = "]" if in_list else "}"
        return f"the document ends without the {missing} that closes {path_text(steps[: level - 1])}; it is cut short"
    found = repr(rest[:1].decode("latin-1")) if rest[:1] != b"\0" else "a NUL"
    if level == 0:
        return f"expected a document, or the end of the file, found {found}"
    if not first and rest[:1] in (b"]", b"}") and phase in (0, 1):
        return f"a trailing comma: a value must follow a comma, found {found}"
    wanted = {0: "a value", 1: "a key in double quotes", 2: "a comma or ]" if in_list else "a comma or }"}[
        phase
    ]
    return f"expected {wanted}, found {found}"


def _first_error(rest: bytes) -> str:
    """Return what Python's json finds wrong in a value before its end."""
    try:
        json.JSONDecoder().raw_decode(rest.decode(errors="replace"))
    except json.JSONDecodeError as error:
        if error.pos < len(rest) - 1:
            return f" ({error.msg}: byte {error.pos:,} of it)"
    except (RecursionError, ValueError):  # of nesting, or of a number of thousands of digits
        pass
    return ""

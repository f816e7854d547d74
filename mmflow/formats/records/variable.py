"""Binary records of different lengths: behind their length, or up to a delimiter.

    record_length   | length | payload .......... || length | payload .. |
    delimiter       | payload .......... | delimiter | payload .. | delimiter |

Where a record begins is known from the one before only, so a file is one task. Fields are found for all records of a
window at once: one after the other, each with the offsets where it begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.errors import ConfigError
from mmflow.formats.base import BadRecordPolicy, Scan, ScanReport, ScanRequest
from mmflow.formats.compression import refuse_compressed
from mmflow.formats.decoding.decoder import I64, BadValue, Decoded
from mmflow.formats.decoding.reader import MAX_RECORD, assemble, note_bad
from mmflow.formats.decoding.views import take_rows, views_over
from mmflow.formats.records.gathering import fields_schema, gather_column, text_at
from mmflow.formats.records.header import check_header
from mmflow.formats.records.layout import REST, Field, field_spec, record_field
from mmflow.kernels import kernels
from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.shards import Shard

__all__ = ["VariableFormat", "open_variable"]

#: Records whose lengths are followed by one call.
_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class VariableFormat:
    """Binary records of different lengths. See `formats.Format`.

    Attributes:
        fields: Columns, in the order in which they lie.
        prefix: Number in front of each record, which counts the bytes behind itself; None: a delimiter ends it.
        delimiter: Bytes behind each record.
        header: Bytes of the file before the first record.
        footer: Bytes of the file behind the last record.
        check_all: Look at all columns, whatever a query reads.
    """

    fields: tuple[Field, ...]
    prefix: Field | None
    delimiter: bytes
    header: int = 0
    footer: int = 0
    on_bad_record: BadRecordPolicy = "error"
    check_all: bool = False
    name: str = "records"
    record_oriented: bool = True
    one_nan: bool = False
    splittable: bool = False
    skips_holes: bool = False

    @property
    def schema(self) -> pa.Schema:
        return fields_schema(self.fields)

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        """Read the records of a file. Takes and raises what `Format.scan` does."""
        del shard  # the whole file
        return _VariableScan(self, file, request)

    def check(self, file: MappedFile) -> None:
        """Check that header and footer fit the file, and that it is not compressed.

        Raises:
            SourceError: They don't, or it is.
        """
        refuse_compressed(file)
        check_header(file.path, file.size, self.header, self.footer)

    def lacks(self, file: MappedFile) -> frozenset[str]:
        """Return no columns: the layout says those of every file."""
        del file
        return frozenset()

    def spec(self) -> dict[str, Any]:
        ends = (
            {"delimiter": self.delimiter.decode("latin-1")}
            if self.prefix is None
            else {"record_length": field_spec(self.prefix)}
        )
        return {
            "format": "records",
            "layout": [field_spec(f) for f in self.fields],
            **ends,
            "header_bytes": self.header,
            "footer_bytes": self.footer,
            "on_bad_record": self.on_bad_record,
            "validate": "all" if self.check_all else "projected",
        }


def open_variable(
    fields: tuple[Field, ...],
    prefix: Any,
    delimiter: Any,
    header: int,
    footer: int,
    policy: BadRecordPolicy,
    check_all: bool,
) -> VariableFormat:
    """Bind a layout whose records end where their length or a delimiter says.

    Raises:
        ConfigError: The length is no unsigned number, or the delimiter no text of bytes.
    """
    number, text = None, b""
    before = next((f.name for f in fields if f.offset < REST), None)
    if before is not None:
        raise ConfigError(f"field {before!r} has an offset before its record")
    if prefix is not None:
        item = {"type": prefix} if isinstance(prefix, str) else prefix
        number = record_field({"name": "length", "offset": 0, **item}) if isinstance(item, Mapping) else None
        if number is None or not pa.types.is_unsigned_integer(number.type) or not number.is_plain:
            raise ConfigError(
                f"record_length = {prefix!r}: must be uint8, uint16, uint32 or uint64, or "
                "{'type': 'uint32', 'order': 'big'}"
            )
    else:
        try:
            text = str(delimiter).encode("latin-1")
            if b"\\" in text:
                text = text.decode("unicode_escape").encode("latin-1")
        except ValueError:
            text = b""
        if not text:
            raise ConfigError(
                f"delimiter = {delimiter!r}: must be some bytes, written as text such as '\\n' or '\\x1e'"
            )
    return VariableFormat(fields, number, text, header, footer, policy, check_all)


class _VariableScan:
    """Records of one file, window by window."""

    def __init__(self, form: VariableFormat, file: MappedFile, request: ScanRequest) -> None:
        self._form, self._file, self._request = form, file, request
        self.report = ScanReport()
        own = [f.name for f in form.fields]
        self._wanted = tuple(c for c in request.columns if c in own)
        self._converted = tuple(own) if form.check_all else self._wanted

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        form, file, report = self._form, self._file, self.report
        form.check(file)
        # The chain counts bytes of the file, of which this shard has all; nobody can go on in the middle.
        report.next = file.size
        position, end = form.header, file.size - form.footer
        window_sizes = file.window_sizes(max(1, self._request.window_bytes))
        length = next(window_sizes)
        while position < end:
            window = file.window(position, min(length, end - position))
            last = window.end >= end
            starts, ends, consumed = self._records(window.buffer, final=last)
            if not consumed:
                if last or window.length >= MAX_RECORD:
                    self._unfinished(window.buffer, position)
                    return
                length = min(2 * length, MAX_RECORD)
                continue
            for first in range(0, len(starts), self._request.batch_rows):
                part = slice(first, first + self._request.batch_rows)
                batch = self._decoded(window.buffer, position, starts[part], ends[part])
                yield batch
                if report.error is not None:
                    return
            report.bytes_read += consumed
            file.evict_behind(position, consumed)
            position += consumed
            length = next(window_sizes)

    def _records(self, data: pa.Buffer, *, final: bool) -> tuple[I64, I64, int]:
        """Return where the payloads of whole records begin and end, and the bytes that these records take."""
        form = self._form
        if form.prefix is not None:
            return _by_length(data, form.prefix)
        ends = _places(data, form.delimiter)
        if final and (not len(ends) or ends[-1] + len(form.delimiter) < data.size):
            ends = np.append(ends, data.size)
        starts = np.concatenate([[0], ends[:-1] + len(form.delimiter)]).astype(np.int64)[: len(ends)]
        return starts, ends, min(int(ends[-1]) + len(form.delimiter), data.size) if len(ends) else 0

    def _unfinished(self, data: pa.Buffer, base: int) -> None:
        """Reject bytes that are no whole record, at the end of the file or too many."""
        if data.size >= MAX_RECORD:
            reason = f"a record longer than {MAX_RECORD:,} bytes; is record_length or delimiter right?"
        else:
            reason = f"its length says more than the {data.size:,} bytes that the file has left"
        bad = BadValue(0, data.size, 0, None, None, None, reason)
        policy = "error" if data.size >= MAX_RECORD else self._form.on_bad_record
        note_bad(self.report, policy, self._file.path, data, base, bad)
        if self.report.error is None:
            self.report.records += 1

    def _decoded(self, data: pa.Buffer, base: int, starts: I64, ends: I64) -> pa.RecordBatch:
        form, report, count = self._form, self.report, len(starts)
        front = 0 if form.prefix is None else form.prefix.width
        bad: dict[int, BadValue] = {}

        def reject(rows: list[int], column: str | None, reason: str) -> None:
            dropped = form.on_bad_record != "null"
            for row in rows:
                begin = int(starts[row]) - front
                length = int(ends[row]) - begin
                bad.setdefault(row, BadValue(begin, length, row, None, column, None, reason, dropped))

        raw = np.frombuffer(data, np.uint8)
        arrays: dict[str, pa.Array] = {}
        cursor = starts
        short = np.zeros(count, np.bool_)
        for field in form.fields:
            begin = cursor if field.offset == REST else starts + field.offset
            behind, content, counted = _extent(raw, field, begin, ends)
            beyond = (behind > ends) & ~short
            reject(
                np.flatnonzero(beyond).tolist(), None, f"the record ends before its field {field.name!r} does"
            )
            short |= beyond
            cursor = np.where(short, ends, behind)
            if field.name in self._converted:
                array, wrong = _column(
                    data, field, np.where(short, 0, content), np.where(short, 0, counted), short
                )
                arrays[field.name] = array
                reject(
                    [row for row in wrong if not short[row]],
                    field.name,
                    "not valid UTF-8, or a length beyond its field",
                )
        keep = np.ones(count, np.bool_)
        for row in sorted(bad):
            note_bad(report, form.on_bad_record, self._file.path, data, base, bad[row])
            if report.error is not None:
                keep[row:] = False
                break
            keep[row] = form.on_bad_record == "null"
        numbers = np.flatnonzero(keep)
        made = []
        for name in self._wanted:
            array = arrays[name]
            if short.any():
                array = take_rows(array, pa.array(np.arange(count), mask=short))
            made.append(array if len(numbers) == count else take_rows(array, pa.array(numbers)))
        if made:
            batch = pa.RecordBatch.from_arrays(made, names=list(self._wanted))
        else:
            batch = pa.RecordBatch.from_arrays([pa.nulls(len(numbers))], names=["rows"]).select([])
        if report.error is None:
            report.records += count
        decoded = Decoded(
            batch, data.size, count, 0, starts[numbers] - front, np.zeros(len(numbers), np.int64)
        )
        return assemble(decoded, self._request, self._file.path, base, 0)


def _by_length(data: pa.Buffer, prefix: Field) -> tuple[I64, I64, int]:
    """Follow the lengths from record to record."""
    parts: list[I64] = []
    at = 0
    while True:
        ends = np.empty(_AT_ONCE, np.int64)
        count = kernels().follow_lengths(
            data.address + at, data.size - at, prefix.width, prefix.big_endian, ends.ctypes.data, _AT_ONCE
        )
        parts.append(ends[:count] + at)
        if count < _AT_ONCE:
            break
        at = int(parts[-1][-1])
    found = np.concatenate(parts)
    starts = np.concatenate([[0], found[:-1]]).astype(np.int64)[: len(found)] + prefix.width
    return starts, found, int(found[-1]) if len(found) else 0


def _places(data: pa.Buffer, text: bytes) -> I64:
    """Return where a text stands, each behind the one before."""
    raw = np.frombuffer(data, np.uint8)
    places = np.flatnonzero(raw[: max(0, len(raw) - len(text) + 1)] == text[0])
    for index in range(1, len(text)):
        places = places[raw[places + index] == text[index]]
    if len(text) > 1 and len(places) > 1 and (np.diff(places) < len(text)).any():
        kept, behind = [], 0
        for place in places.tolist():
            if place >= behind:
                kept.append(place)
                behind = place + len(text)
        return np.array(kept, np.int64)
    return places


def _extent(raw: npt.NDArray[np.uint8], field: Field, begin: I64, ends: I64) -> tuple[I64, I64, I64]:
    """Return where a field of each record ends, where its content begins, and the bytes of that."""
    if field.width != REST:
        return begin + field.width, begin, np.full(len(begin), field.width, np.int64)
    if field.length is None:
        return np.maximum(begin, ends), begin, np.maximum(ends - begin, 0)
    width = field.length.width
    fits = begin + width <= ends
    at = np.where(fits, begin, 0)
    numbers = np.zeros((len(begin), 8), np.uint8)
    for index in range(width):
        place = width - 1 - index if field.length.big_endian else index
        numbers[:, place] = raw[np.minimum(at + index, max(0, len(raw) - 1))] if len(raw) else 0
    # A length beyond any file is cut to one that is too long anyway.
    lengths = np.minimum(numbers.view("<u8")[:, 0], np.uint64(1 << 40)).astype(np.int64)
    return np.where(fits, begin + width + lengths, ends + 1), begin + width, lengths


def _column(
    data: pa.Buffer, field: Field, begin: I64, lengths: I64, short: npt.NDArray[np.bool_]
) -> tuple[pa.Array, list[int]]:
    """Return a field of each record as a column, and the rows whose bytes are no value: null."""
    if field.width == REST:
        if field.is_text:
            return text_at(data, begin, lengths, np.zeros(len(begin), np.bool_))
        return views_over(data, begin, lengths, pa.binary_view()).cast(pa.binary()), []
    raw = np.frombuffer(data, np.uint8)
    packed = np.zeros((len(begin), field.width), np.uint8)
    whole = np.flatnonzero(~short)
    packed[whole] = raw[begin[whole, None] + np.arange(field.width)]
    return gather_column(pa.py_buffer(packed), replace(field, offset=0), field.width, len(begin))

"""Rows of csv, ndjson and text files through their record index.

Intervals of the index hold whole records, so any of them, concatenated, are text of the same format: they are copied
together, some MiB at a time, and decoded by one call.

    file      ....[=======]......[====|====].........[======]....      requested intervals
    copy      [=======][====|====][======]
    pass 1    finds all records (no columns are converted); their number and starts must be those of the index
    pass 2    decodes only the requested records, again copied together

Where many rows of the intervals are requested, pass 1 decodes them and pass 2 is skipped. Either way an error is
raised only for a bad value in a requested row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa

from mmflow.errors import BadRecordError
from mmflow.formats.decoding.decoder import BadValue, RecordDecoder
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.formats.encodings.encoding import Encoding
from mmflow.formats.encodings.files import file_encoding
from mmflow.formats.row_groups import make_batch
from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.mapping.ranges import read_ranges
from mmflow.rows.base import BadRecordFoundError, Job, StaleIndexError, add_virtual_columns, take_values
from mmflow.rows.index import RecordIndex
from mmflow.rows.index_builder import IndexOptions, extend_index
from mmflow.rows.index_file import drop_index, fingerprint, load_index, save_index
from mmflow.shards import FileEntry

__all__ = ["IndexedRows", "LocatedRows", "decode_all"]

I64 = npt.NDArray[np.int64]

_COPY_BYTES = 4 << 20
#: Rows per requested row below which pass 1 converts all rows.
_DENSE = 8
_EXCERPT = 120


@dataclass(frozen=True, slots=True)
class LocatedRows:
    """All rows of some bytes: `batch` of the decoder's columns, and the offset of each row's record, shape (rows,)."""

    batch: pa.RecordBatch
    offsets: I64


def decode_all(
    decoder: RecordDecoder, data: pa.Buffer, *, final: bool, refused: Callable[[BadValue], Exception] | None
) -> LocatedRows:
    """Decode bytes that hold whole records only.

    Args:
        decoder: Decoder of any columns.
        data: Bytes that begin with a record.
        final: Whether the file ends where they do.
        refused: Returns the error for a bad record, its offset counted in `data`; None: the policy accepts them.

    Raises:
        StaleIndexError: The bytes do not end with a record.
        Exception: The error that `refused` returned.
    """
    batches: list[pa.RecordBatch] = []
    offsets: list[I64] = []
    done = 0
    while done < data.size or not batches:
        decoded = decoder.decode(data.slice(done), data.size - done, final=final, located=True)
        if decoded.bad and refused is not None:
            raise refused(_shifted(decoded.bad[0], done))
        if decoded.broken is not None:
            raise StaleIndexError  # the pass that built the index would have ended there
        if not decoded.consumed and data.size:
            raise StaleIndexError
        assert decoded.offsets is not None  # asked for
        batches.append(decoded.batch)
        offsets.append(decoded.offsets + done)
        done += decoded.consumed
    if len(batches) == 1:
        return LocatedRows(batches[0], offsets[0])
    names = batches[0].schema.names
    arrays = [pa.concat_arrays([b.column(n) for b in batches]) for n in range(len(names))]
    found = np.concatenate(offsets)
    return LocatedRows(make_batch(arrays, names, len(found)), found)


def _shifted(bad: BadValue, by: int) -> BadValue:
    return replace(bad, offset=bad.offset + by)


class IndexedRows:
    """Rows of one csv, ndjson or text file.

    Args:
        file: File opened for random access.
        entry: Entry of the same file.
        form: Its format.
        columns: Requested columns, virtual ones among them.
        options: Options for building the index.
    """

    def __init__(
        self,
        file: MappedFile,
        entry: FileEntry,
        form: ScannedFormat,
        columns: tuple[str, ...],
        options: IndexOptions,
    ) -> None:
        self._file, self._entry, self._form, self._columns = file, entry, form, columns
        own = set(form.schema.names)
        self._decoded = tuple(c for c in columns if c in own)
        self._lines = "_line" in columns and "_line" not in self._decoded
        self._options = options
        # Where bad records are dropped, the format's options decide which are bad, not the columns read (`checks_all`).
        drops = form.on_bad_record in ("skip", "quarantine")
        parts = (form.boundaries(), form.on_bad_record)
        self._index_key = fingerprint((parts, _format_options(form)) if drops else parts)
        self._index = load_index(entry, self._index_key)

    def forget(self) -> None:
        """Delete the index, which doesn't fit the file."""
        drop_index(self._entry, self._index_key)

    def count(self, upto: int) -> int:
        index = self._index
        if not index.complete and index.total < upto:
            grown = extend_index(index, self._entry, self._form, upto, self._options)
            save_index(self._entry, self._index_key, grown, index)
            self._index = grown
        return self._index.total

    def jobs(self, numbers: I64) -> Iterator[Job]:
        index = self._index
        intervals = index.interval(numbers)
        every, first = np.unique(intervals, return_index=True)
        lengths = index.ends()[every] - index.starts[every]
        copies = (np.cumsum(lengths) - lengths) // _COPY_BYTES
        edges = [0, *(np.flatnonzero(copies[1:] != copies[:-1]) + 1).tolist(), len(every)]
        bounds = np.append(first, len(numbers))
        for begin, end in itertools.pairwise(edges):
            part = numbers[bounds[begin] : bounds[end]]
            yield partial(self._read, index, every[begin:end], part)

    def _read(self, index: RecordIndex, intervals: I64, numbers: I64) -> list[pa.RecordBatch]:
        """Read rows, all of them in these intervals.

        Raises:
            StaleIndexError: They are not.
        """
        try:
            return self._read_intervals(index, intervals, numbers)
        except StaleIndexError:
            if len(intervals) == 1:
                raise
        # Blank NULs at the end of one interval may combine with an empty line at the start of the next.
        found = []
        of = index.interval(numbers)
        for interval in intervals.tolist():
            found += self._read_intervals(index, np.array([interval]), numbers[of == interval])
        return found

    def _read_intervals(self, index: RecordIndex, intervals: I64, numbers: I64) -> list[pa.RecordBatch]:
        encoding = file_encoding(self._file, self._form.encoding).encoding
        copy = _CopiedIntervals(self._file, encoding, index, intervals, self._form.ends(self._file))
        positions = copy.positions(numbers)
        count = copy.rows
        if len(numbers) * _DENSE >= count:
            decoder = self._form.decoder(self._file, self._decoded)
            try:
                refused = (lambda _: BadRecordFoundError()) if self._strict else None
                found = self._check_rows(
                    copy, decode_all(decoder, copy.data, final=copy.final, refused=refused)
                )
            except BadRecordFoundError:
                pass  # perhaps in a row that was not requested
            else:
                return [self._result_batch(copy, found.batch, positions, found.offsets[positions])]
        decoder = self._form.decoder(self._file, ())
        stale = (lambda _: StaleIndexError()) if self._strict else None
        found = self._check_rows(copy, decode_all(decoder, copy.data, final=copy.final, refused=stale))
        begins = found.offsets[positions]
        ends = np.append(found.offsets, copy.data.size)[positions + 1]
        if encoding.unit == 1:  # else a NUL is also a part of other characters
            ends = _trim_blank(copy.data, begins, ends, copy.final)
        data = _copy_records(copy.data, begins, ends)
        starts = np.cumsum(ends - begins) - (ends - begins)

        def refused_at(bad: BadValue) -> Exception:
            position = int(np.searchsorted(starts, bad.offset, side="right")) - 1
            offset = int(begins[position]) + bad.offset - int(starts[position])
            return copy.error(self._file.path, offset, int(numbers[position]), bad)

        final = copy.final and bool(ends[-1] == copy.data.size)
        decoder = self._form.decoder(self._file, self._decoded)
        wanted = decode_all(decoder, data, final=final, refused=refused_at if self._strict else None)
        if wanted.batch.num_rows != len(numbers):
            raise StaleIndexError
        return [self._result_batch(copy, wanted.batch, np.arange(len(numbers)), begins)]

    @property
    def _strict(self) -> bool:
        return self._form.on_bad_record == "error"

    def _check_rows(self, copy: _CopiedIntervals, found: LocatedRows) -> LocatedRows:
        """Return the rows after a check that each interval has as many as the index says."""
        before = np.searchsorted(found.offsets, copy.begins)
        if len(found.offsets) != copy.rows or not np.array_equal(before, copy.before):
            raise StaleIndexError
        return found

    def _result_batch(
        self, copy: _CopiedIntervals, batch: pa.RecordBatch, positions: I64, begins: I64
    ) -> pa.RecordBatch:
        arrays = [take_values(column, positions) for column in batch.columns]
        read = make_batch(arrays, batch.schema.names, len(positions))
        if len(self._decoded) == len(self._columns):
            return read
        lines = copy.lines(begins) if self._lines else None
        return add_virtual_columns(self._columns, read, self._file.path, copy.file_offsets(begins), lines)


class _CopiedIntervals:
    """Intervals of a file, copied one after the other.

    Args:
        file: The file.
        index: Its index.
        intervals: Their numbers.
        file_ends: Offset behind the last record of the file.

    Attributes:
        data: Bytes of the intervals.
        begins: Offset of each interval in `data`, shape (intervals,).
        before: Rows of `data` before each interval.
        rows: Rows of `data`.
        final: Whether the file's records end where `data` does.
    """

    def __init__(
        self, file: MappedFile, encoding: Encoding, index: RecordIndex, intervals: I64, file_ends: int
    ) -> None:
        self._encoding = encoding
        ends: I64 = np.minimum(index.ends()[intervals], file_ends)
        self._starts = index.starts[intervals]
        self._first = index.rows[intervals]
        self._lines = index.lines[intervals]
        counts = index.rows_after()[intervals] - self._first
        self.data = read_ranges(file, self._starts, ends)
        self.begins = np.cumsum(ends - self._starts) - (ends - self._starts)
        self.before = np.cumsum(counts) - counts
        self.rows = int(counts.sum())
        self.final = bool(ends[-1] == file_ends)

    def positions(self, numbers: I64) -> I64:
        """Return the positions of these row numbers among the rows of `data`."""
        interval = np.searchsorted(self._first, numbers, side="right") - 1
        positions: I64 = numbers - self._first[interval] + self.before[interval]
        return positions

    def file_offsets(self, offsets: I64) -> I64:
        """Return offsets in the file for offsets in `data`."""
        interval = np.searchsorted(self.begins, offsets, side="right") - 1
        found: I64 = offsets - self.begins[interval] + self._starts[interval]
        return found

    def lines(self, offsets: I64) -> I64:
        """Return the physical lines of the file, from 1, at offsets in `data`."""
        breaks = self._encoding.line_ends(np.frombuffer(self.data, np.uint8))
        interval = np.searchsorted(self.begins, offsets, side="right") - 1
        here = np.searchsorted(breaks, offsets) - np.searchsorted(breaks, self.begins[interval])
        lines: I64 = here + self._lines[interval] + 1
        return lines

    def error(self, path: str, offset: int, number: int, bad: BadValue) -> BadRecordError:
        """Return the error for the bad record of a row that begins at an offset of `data`."""
        at = np.array([offset])
        return BadRecordError.at(
            path=path,
            byte_offset=int(self.file_offsets(at)[0]),
            reason=bad.reason,
            record=number,
            line=int(self.lines(at)[0]),
            column=bad.column,
            value=bad.value,
            excerpt=bad.excerpt or self.data.slice(offset, min(bad.length, _EXCERPT)).to_pybytes(),
        )


def _trim_blank(data: pa.Buffer, begins: I64, ends: I64, final: bool) -> I64:
    """Return the ends of records without trailing NULs, which are blank before the next record but not always before
    another one.
    """
    if final and ends[-1] == data.size:
        return np.append(_trim_blank(data, begins[:-1], ends[:-1], False), ends[-1])
    padded = np.flatnonzero(np.frombuffer(data, np.uint8)[ends - 1] == 0)
    ends = ends.copy()
    for position in padded.tolist():
        record = (
            data.slice(int(begins[position]), int(ends[position] - begins[position]))
            .to_pybytes()
            .rstrip(b"\0")
        )
        if record.endswith(b"\n"):
            ends[position] = begins[position] + len(record)
    return ends


def _copy_records(data: pa.Buffer, begins: I64, ends: I64) -> pa.Buffer:
    """Return ranges of a buffer, concatenated."""
    lengths = ends - begins
    total = int(lengths.sum())
    if total > 256 * len(lengths):  # few long ones: an index for each byte would cost more than a loop
        view = memoryview(data)
        return pa.py_buffer(b"".join(view[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)))
    shift = np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
    return pa.py_buffer(np.frombuffer(data, np.uint8)[shift + np.arange(total)])


def _format_options(form: ScannedFormat) -> list[tuple[str, str]]:
    return sorted((key, str(value)) for key, value in form.spec().items())

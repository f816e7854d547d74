"""Rows of csv, ndjson and text files through their record index.

Whole intervals of the index hold whole records, so any of them one behind the other are text of the same format: they
are copied together, some MiB at a time, and decoded by one call.

    file      ....[=======]......[====|====].........[======]....      wanted intervals
    copy      [=======][====|====][======]
    pass 1    finds all records (no columns are converted); they must be as many, and begin where, the index says
    pass 2    decodes the wanted ones alone, again copied together

Where many rows of the intervals are wanted, pass 1 decodes them and pass 2 is spared. Either way a bad value is met
only in a row that was asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmflow.access.building import Building, extended
from mmflow.access.index import RecordIndex
from mmflow.access.rows import Job, MetError, StaleIndexError, chosen, with_virtual
from mmflow.access.sidecar import fingerprint, forget, keep, known
from mmflow.errors import BadRecordError
from mmflow.formats.decoder import BadValue, RecordDecoder, ScannedFormat
from mmflow.formats.groups import batch_of
from mmflow.mapping import MappedFile
from mmflow.mapping.ranges import read_ranges
from mmflow.shards import FileEntry

__all__ = ["IndexedRows", "Located", "decode_all"]

I64 = npt.NDArray[np.int64]

_COPY_BYTES = 4 << 20
#: One wanted row of so many: from there on pass 1 converts all rows.
_DENSE = 8
_EXCERPT = 120
_NEWLINE = 10


@dataclass(frozen=True, slots=True)
class Located:
    """All rows of some bytes: `batch` of the decoder's columns, and where each row's record begins, shape (rows,)."""

    batch: pa.RecordBatch
    offsets: I64


def decode_all(
    decoder: RecordDecoder, data: pa.Buffer, *, final: bool, refused: Callable[[BadValue], Exception] | None
) -> Located:
    """Decode bytes that hold whole records only.

    Args:
        decoder: Of any columns.
        data: Begins with a record.
        final: The file ends where they do.
        refused: The error for a bad record, its offset counted in `data`; None: the policy lets them pass.

    Raises:
        StaleIndexError: They do not end with a record.
        Exception: What `refused` made.
    """
    batches: list[pa.RecordBatch] = []
    offsets: list[I64] = []
    done = 0
    while done < data.size or not batches:
        decoded = decoder.decode(data.slice(done), data.size - done, final=final, located=True)
        if decoded.bad and refused is not None:
            raise refused(_moved(decoded.bad[0], done))
        if not decoded.consumed and data.size:
            raise StaleIndexError
        assert decoded.offsets is not None  # asked for
        batches.append(decoded.batch)
        offsets.append(decoded.offsets + done)
        done += decoded.consumed
    if len(batches) == 1:
        return Located(batches[0], offsets[0])
    names = batches[0].schema.names
    arrays = [pa.concat_arrays([b.column(n) for b in batches]) for n in range(len(names))]
    found = np.concatenate(offsets)
    return Located(batch_of(arrays, names, len(found)), found)


def _moved(bad: BadValue, by: int) -> BadValue:
    return BadValue(
        bad.offset + by, bad.length, bad.record, bad.line, bad.column, bad.value, bad.reason, bad.dropped
    )


class IndexedRows:
    """Rows of one file. See `FileRows`.

    Args:
        file: Open, for random access.
        entry: The same.
        form: Its format.
        columns: Wanted, virtual ones among them.
        how: For building the index.
    """

    def __init__(
        self, file: MappedFile, entry: FileEntry, form: ScannedFormat, columns: tuple[str, ...], how: Building
    ) -> None:
        self._file, self._entry, self._form, self._columns = file, entry, form, columns
        own = set(form.schema.names)
        self._decoded = tuple(c for c in columns if c in own)
        self._lines = "_line" in columns and "_line" not in self._decoded
        self._how = how
        # Where bad records are dropped, options decide what is bad; the columns that are read don't (`checks_all`).
        drops = form.on_bad_record in ("skip", "quarantine")
        by = (form.boundaries(), form.on_bad_record)
        self._by = fingerprint((by, _spec(form)) if drops else by)
        self._index = known(entry, self._by)

    def forget(self) -> None:
        """Drop the index, which doesn't fit."""
        forget(self._entry, self._by)

    def count(self, upto: int) -> int:
        """See `FileRows.count`."""
        index = self._index
        if not index.complete and index.total < upto:
            grown = extended(index, self._entry, self._form, upto, self._how)
            keep(self._entry, self._by, grown, index)
            self._index = grown
        return self._index.total

    def jobs(self, numbers: I64) -> Iterator[Job]:
        """See `FileRows.jobs`."""
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
        """Rows, all of them in these intervals.

        Raises:
            StaleIndexError: They aren't.
        """
        try:
            return self._together(index, intervals, numbers)
        except StaleIndexError:
            if len(intervals) == 1:
                raise
        # NULs, which are blank, at the end of one interval may go together with an empty line at the start of another.
        found = []
        of = index.interval(numbers)
        for interval in intervals.tolist():
            found += self._together(index, np.array([interval]), numbers[of == interval])
        return found

    def _together(self, index: RecordIndex, intervals: I64, numbers: I64) -> list[pa.RecordBatch]:
        copy = _Copy(self._file, index, intervals)
        places = copy.places(numbers)
        count = copy.rows
        if len(numbers) * _DENSE >= count:
            decoder = self._form.decoder(self._file, self._decoded)
            try:
                refused = (lambda _: MetError()) if self._strict else None
                found = self._checked(copy, decode_all(decoder, copy.data, final=copy.final, refused=refused))
            except MetError:
                pass  # perhaps in a row that nobody asked for
            else:
                return [self._finished(copy, found.batch, places, found.offsets[places])]
        decoder = self._form.decoder(self._file, ())
        stale = (lambda _: StaleIndexError()) if self._strict else None
        found = self._checked(copy, decode_all(decoder, copy.data, final=copy.final, refused=stale))
        begins = found.offsets[places]
        ends = _trimmed(copy.data, begins, np.append(found.offsets, copy.data.size)[places + 1], copy.final)
        data = _gathered(copy.data, begins, ends)
        starts = np.cumsum(ends - begins) - (ends - begins)

        def refused_at(bad: BadValue) -> Exception:
            place = int(np.searchsorted(starts, bad.offset, side="right")) - 1
            offset = int(begins[place]) + bad.offset - int(starts[place])
            return copy.error(self._file.path, offset, int(numbers[place]), bad)

        final = copy.final and bool(ends[-1] == copy.data.size)
        decoder = self._form.decoder(self._file, self._decoded)
        wanted = decode_all(decoder, data, final=final, refused=refused_at if self._strict else None)
        if wanted.batch.num_rows != len(numbers):
            raise StaleIndexError
        return [self._finished(copy, wanted.batch, np.arange(len(numbers)), begins)]

    @property
    def _strict(self) -> bool:
        return self._form.on_bad_record == "error"

    def _checked(self, copy: _Copy, found: Located) -> Located:
        """The rows, if they are as many in each interval as the index says."""
        before = np.searchsorted(found.offsets, copy.begins)
        if len(found.offsets) != copy.rows or not np.array_equal(before, copy.before):
            raise StaleIndexError
        return found

    def _finished(self, copy: _Copy, batch: pa.RecordBatch, places: I64, begins: I64) -> pa.RecordBatch:
        arrays = [chosen(column, places) for column in batch.columns]
        read = batch_of(arrays, batch.schema.names, len(places))
        if len(self._decoded) == len(self._columns):
            return read
        lines = copy.lines(begins) if self._lines else None
        return with_virtual(self._columns, read, self._file.path, copy.in_file(begins), lines)


class _Copy:
    """Intervals of a file, copied one behind the other.

    Attributes:
        data: The bytes.
        begins: Where each interval begins in `data`, shape (intervals,).
        before: Rows of `data` before each.
        rows: All of them.
        final: The file ends where `data` does.
    """

    def __init__(self, file: MappedFile, index: RecordIndex, intervals: I64) -> None:
        self._starts, ends = index.starts[intervals], index.ends()[intervals]
        self._first = index.rows[intervals]
        self._lines = index.lines[intervals]
        counts = index.rows_after()[intervals] - self._first
        self.data = read_ranges(file, self._starts, ends)
        self.begins = np.cumsum(ends - self._starts) - (ends - self._starts)
        self.before = np.cumsum(counts) - counts
        self.rows = int(counts.sum())
        self.final = bool(ends[-1] == file.size)

    def places(self, numbers: I64) -> I64:
        """Where the rows of these numbers stand among the rows of `data`."""
        interval = np.searchsorted(self._first, numbers, side="right") - 1
        places: I64 = numbers - self._first[interval] + self.before[interval]
        return places

    def in_file(self, offsets: I64) -> I64:
        """Offsets in `data` as those in the file."""
        interval = np.searchsorted(self.begins, offsets, side="right") - 1
        found: I64 = offsets - self.begins[interval] + self._starts[interval]
        return found

    def lines(self, offsets: I64) -> I64:
        """Physical lines of the file, from 1, at offsets in `data`."""
        breaks = np.flatnonzero(np.frombuffer(self.data, np.uint8) == _NEWLINE)
        interval = np.searchsorted(self.begins, offsets, side="right") - 1
        here = np.searchsorted(breaks, offsets) - np.searchsorted(breaks, self.begins[interval])
        lines: I64 = here + self._lines[interval] + 1
        return lines

    def error(self, path: str, offset: int, number: int, bad: BadValue) -> BadRecordError:
        """The error for the bad record of a row that begins at an offset of `data`."""
        at = np.array([offset])
        return BadRecordError.at(
            path=path,
            byte_offset=int(self.in_file(at)[0]),
            reason=bad.reason,
            record=number,
            line=int(self.lines(at)[0]),
            column=bad.column,
            value=bad.value,
            excerpt=self.data.slice(offset, min(bad.length, _EXCERPT)).to_pybytes(),
        )


def _trimmed(data: pa.Buffer, begins: I64, ends: I64, final: bool) -> I64:
    """Ends of records without NULs that are blank before the next one; behind another record they might make it so."""
    if final and ends[-1] == data.size:
        return np.append(_trimmed(data, begins[:-1], ends[:-1], False), ends[-1])
    padded = np.flatnonzero(np.frombuffer(data, np.uint8)[ends - 1] == 0)
    ends = ends.copy()
    for place in padded.tolist():
        record = data.slice(int(begins[place]), int(ends[place] - begins[place])).to_pybytes().rstrip(b"\0")
        if record.endswith(b"\n"):
            ends[place] = begins[place] + len(record)
    return ends


def _gathered(data: pa.Buffer, begins: I64, ends: I64) -> pa.Buffer:
    """Ranges of a buffer, one behind the other."""
    lengths = ends - begins
    total = int(lengths.sum())
    if total > 256 * len(lengths):  # few long ones: an index for each byte would cost more than a loop
        view = memoryview(data)
        return pa.py_buffer(b"".join(view[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)))
    shift = np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
    return pa.py_buffer(np.frombuffer(data, np.uint8)[shift + np.arange(total)])


def _spec(form: ScannedFormat) -> list[tuple[str, str]]:
    return sorted((key, str(value)) for key, value in form.spec().items())

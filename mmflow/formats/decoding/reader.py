"""Reader of a shard: windows, the first record, records that reach past the shard's end.

    shard      [begin ................ end)
    records  ...|rec|rec|rec|rec|rec.....|rec
                ^first: the first one that begins in the shard    ^next
    windows     [....W....][....W....][..W

Invariant: whatever the window size, the same records come out. A record that does not fit in the window
doubles it, up to `max_record`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pyarrow as pa

from mmflow.errors import BadRecordError, plain_text
from mmflow.formats.base import VIRTUAL_COLUMNS, BadRecordPolicy, NativeEnd, Reject, ScanReport, ScanRequest
from mmflow.formats.decoding.decoder import BadValue, Decoded, RecordDecoder
from mmflow.formats.decoding.kernel_types import KernelDecoder
from mmflow.formats.decoding.lines import line_breaks
from mmflow.formats.encodings.encoding import UTF8, Encoding
from mmflow.lazy import array_types as npt
from mmflow.mapping import MappedFile
from mmflow.shards import Shard

__all__ = ["MAX_RECORD", "RecordScan", "RowMaker", "assemble", "bad_record", "note_bad"]

#: Bytes of the longest record; a longer one is mostly a quote that was never closed.
MAX_RECORD = 64 << 20
_FIRST_REJECTS = 100  # that a report keeps; quarantine keeps all
_EXCERPT = 120
#: Bytes of the places where a line break is looked for, and of the first one, where most have one.
_LOOK, _FIRST_LOOK = 1 << 16, 1 << 12
#: Bytes that decoders get at once whose results grow with them.
_PIECE = 4 << 20
#: Bytes at least by which a window grows where the record at its start goes on behind it.
_GROWTH = 1 << 16


class RowMaker:
    """Decodes pieces of one shard, in order, and keeps its report.

    Args:
        path: Path for messages and `_file`.
        request: Columns and limits.
        decoder: Made for `request.columns` less the virtual ones.
        policy: Policy for bad records.
        lines_before: Physical lines of the file before the shard's first record.
    """

    def __init__(
        self,
        path: str,
        request: ScanRequest,
        decoder: RecordDecoder,
        policy: BadRecordPolicy,
        lines_before: int,
    ) -> None:
        self._path = path
        self._request = request
        self.decoder = decoder
        self._policy = policy
        self._lines_before = lines_before
        self._located = bool({"_offset", "_line"} & set(request.columns))
        self.report = ScanReport()
        if isinstance(decoder, KernelDecoder):
            decoder.most_bytes = request.batch_bytes

    def piece_bytes(self, window: int) -> int:
        """Return how many bytes of a window are decoded at once.

        A kernel works in parts that stay in cache, and ends by itself once its columns hold enough.
        """
        if self._request.piece_bytes:
            return self._request.piece_bytes
        return window if isinstance(self.decoder, KernelDecoder) and not self._located else _PIECE

    def decode(
        self, data: pa.Buffer, base: int, stop: int, *, final: bool
    ) -> tuple[pa.RecordBatch | None, int]:
        """Return the rows of the records that begin in `data` before `stop`, and the bytes consumed.

        No rows and nothing consumed where the first record goes on behind `data`.
        """
        decoded = self.decoder.decode(data, stop, final=final, located=self._located)
        if decoded.consumed == 0 and not decoded.bad and decoded.broken is None:
            return None, 0
        self._note(decoded, data, base)
        lines = self._lines_before + self.report.lines
        batch = assemble(decoded, self._request, self._path, base, lines)
        self.report.records += decoded.records
        self.report.lines += decoded.lines
        return batch, decoded.consumed

    def _note(self, decoded: Decoded, data: pa.Buffer, base: int) -> None:
        for bad in decoded.bad:
            note_bad(self.report, self._policy, self._path, data, base, bad)
            if self.report.error is not None:
                break
        self.report.repaired += decoded.repaired
        for repair in islice(decoded.repairs, max(0, _FIRST_REJECTS - len(self.report.rejects))):
            self.report.rejects.append(_reject(data, base, repair, self.report, raw=False))
        if decoded.broken is not None and self.report.error is None:
            self.report.bad += 1
            self.report.error = bad_record(self._path, data, base, decoded.broken, self.report, fatal=True)

    @property
    def end(self) -> NativeEnd | None:
        """The native steps that can take records as they are decoded; None: all come as batches."""
        end, decoder = self._request.end, self.decoder
        feeds = end is not None and isinstance(decoder, KernelDecoder) and decoder.feeds(end)
        return end if feeds and not self._located and not self._request.piece_bytes else None

    def aggregate(self, end: NativeEnd, data: pa.Buffer, stop: int, *, final: bool) -> int:
        """Have native steps take records that begin in `data` before `stop`; return the bytes consumed."""
        assert isinstance(self.decoder, KernelDecoder)
        consumed, records, lines = self.decoder.aggregate(end, data, stop, final=final)
        self.report.records += records
        self.report.lines += lines
        return consumed

    def too_long(self, data: pa.Buffer, position: int, limit: int) -> None:
        """Reject a record longer than `limit` bytes: an error whatever the policy, since its end is not known."""
        reason = f"a record longer than {limit:,} bytes (max_record); a quote that is never closed?"
        bad = BadValue(0, data.size, 0, 0, None, None, reason)
        self.report.bad += 1
        self.report.error = bad_record(self._path, data, position, bad, self.report, fatal=True)


class RecordScan:
    """Scan of one shard of a record format.

    Args:
        file: Open.
        shard: Shard of the file to read.
        request: Columns and limits.
        decoder: Made for `request.columns` less the virtual ones.
        policy: Policy for bad records.
        begins: Offset of the first byte after the file's header.
        max_record: Bytes of the longest record.
        encoding: Encoding of the file, with its order of bytes.

    Attributes:
        ends: Offset behind the last record: the file's size, or where its footer begins. Of a stream the size, which
            becomes known on the way.
        returns: A carriage return without a line feed ends a line, too.
    """

    returns = False

    def __init__(
        self,
        file: MappedFile,
        shard: Shard,
        request: ScanRequest,
        decoder: RecordDecoder,
        policy: BadRecordPolicy,
        begins: int,
        max_record: int = MAX_RECORD,
        encoding: Encoding = UTF8,
    ) -> None:
        self._file = file
        self._shard = shard
        self._request = request
        self._rows = RowMaker(file.path, request, decoder, policy, shard.lines_before)
        self._begins = begins
        self._max_record = max_record
        self._encoding = encoding
        self._ends = file.size

    @property
    def ends(self) -> int:
        return self._file.size if self._file.once else self._ends

    @ends.setter
    def ends(self, offset: int) -> None:
        self._ends = offset

    @property
    def report(self) -> ScanReport:
        return self._rows.report

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        report, shard = self.report, self._shard
        window_sizes = self._file.window_sizes(max(1, self._request.window_bytes))
        window_bytes, following = next(window_sizes), next(window_sizes)
        beyond = self._file.beyond(window_bytes)
        if shard.begin:  # what the search for the first record looks at comes with the first window
            self._file.fetch([(shard.begin - 1, min(window_bytes, shard.end - shard.begin) + beyond)])
        position = self._first()
        report.first = position
        end = min(shard.end, self.ends)
        tried = 0  # bytes that did not hold the record at the position
        while position < end:
            # No window holds more than the longest record, so that the same ones are too long at each window size.
            length = min(window_bytes, self._max_record, self.ends - position, end - position + beyond)
            # Before the window, so that a server always has requests: those of the next window behind those of this.
            self._file.fetch([(position + length, min(following, end - position - length))])
            window = self._file.window(position, length)
            if window.end < end and not self._file.fetches:
                self._file.prefetch(window.end, min(following, end - window.end + beyond))
            consumed = 0
            for batch, done in self._pieces(window.buffer, position, tried):
                report.next = position + done
                report.bytes_read += done - consumed
                consumed = done
                if batch is not None:
                    yield batch
                if report.error is not None:
                    return
            if consumed:
                self._file.evict_behind(position, consumed)
                position += consumed
                tried = 0
                window_bytes, following = following, next(window_sizes)
                beyond = self._file.beyond(window_bytes)
                continue
            if window.length >= self._max_record or window.end == self.ends:
                self._rows.too_long(window.buffer, position, self._max_record)
                break
            tried = window.length
            window_bytes = min(2 * window_bytes, self._max_record)
            beyond = min(max(2 * beyond, _GROWTH), self._max_record)
        # A footer is no record: the shards that hold it end behind it, as those that end in blanks do.
        report.next = position if position < self.ends else max(position, shard.end)

    def _first(self) -> int:
        """Return where to start decoding. Lines between a known start and that place are counted."""
        shard = self._shard
        if shard.known_start is not None:
            return shard.known_start
        if shard.begin == 0:
            header = self._file.glance(0, self._begins)
            if self._encoding is UTF8 and not self.returns:  # 100,000 small files have as many headers
                self.report.lines += header.count(b"\n")
            else:
                self.report.lines += len(self._line_ends(np.frombuffer(header, np.uint8)))
            return self._begins
        if shard.fresh:
            return max(shard.begin, self._begins)
        unit = self._encoding.unit
        first = position = (shard.begin - 1) // unit * unit
        look = _FIRST_LOOK
        while position < shard.end:
            length = min(look, self._file.size - position)
            look = _LOOK
            text = self._file.glance(position, length)
            if self._rows.decoder.skips_nuls and position == first and not any(text[:unit]):
                return first + unit
            found = self._line_end(text)
            if self.returns and found == len(text) - 1 and text.endswith(b"\r"):
                found = -1  # a line feed may follow
                length = max(1, length - 1)
            if found >= 0:
                return max(position + found + unit, self._begins)
            position += length
            if position >= self._file.size:
                break
        return position

    def _line_end(self, text: bytes) -> int:
        """Return the offset of the first line end; -1: there is none."""
        if not self.returns:
            return self._encoding.line_end(text)
        ends = self._line_ends(np.frombuffer(text, np.uint8))
        return int(ends[0]) if len(ends) else -1

    def _line_ends(self, text: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        return line_breaks(text, returns=True) if self.returns else self._encoding.line_ends(text)

    def _pieces(self, data: pa.Buffer, base: int, tried: int) -> Iterator[tuple[pa.RecordBatch | None, int]]:
        """Decode a window in pieces; gives batches and bytes consumed so far.

        The first record does not end within the first `tried` bytes.
        """
        piece = self._rows.piece_bytes(data.size)
        done, size = 0, max(piece, 2 * tried)
        stop = min(self._shard.end, self.ends) - base
        at_end = base + data.size == self.ends
        end = self._rows.end
        while done < min(stop, data.size):
            if end is not None:
                taken = self._rows.aggregate(end, data.slice(done), stop - done, final=at_end)
                if taken:
                    done += taken
                    size = piece
                    yield end.empty, done
                    continue
            length = min(size, data.size - done)
            last = done + length == data.size
            batch, consumed = self._rows.decode(
                data.slice(done, length), base + done, stop - done, final=at_end and last
            )
            if not consumed and self.report.error is None:
                if last:
                    return
                size *= 2  # a record longer than the piece
                continue
            done += consumed
            size = piece
            yield batch, done


def note_bad(
    report: ScanReport, policy: BadRecordPolicy, path: str, data: pa.Buffer, base: int, bad: BadValue
) -> None:
    """Reject a bad record of `data`, which is at `base` in the file: as the shard's error, or among its rejects."""
    report.bad += 1
    if policy == "error":
        report.error = bad_record(path, data, base, bad, report)
    elif policy == "quarantine" or len(report.rejects) < _FIRST_REJECTS:
        report.rejects.append(_reject(data, base, bad, report, raw=policy == "quarantine"))


def bad_record(
    path: str, data: pa.Buffer, base: int, bad: BadValue, report: ScanReport, *, fatal: bool = False
) -> BadRecordError:
    """Return the error for a bad record; `record` and `line` count from the shard's start, line from 1."""
    excerpt = bad.excerpt or data.slice(bad.offset, min(bad.length, _EXCERPT)).to_pybytes()
    return BadRecordError.at(
        path=path,
        byte_offset=base + bad.offset,
        reason=bad.reason,
        record=report.records + bad.record,
        line=None if bad.line is None else report.lines + bad.line + 1,
        column=bad.column,
        value=bad.value,
        excerpt=excerpt,
        fatal=fatal,
    )


def _reject(data: pa.Buffer, base: int, bad: BadValue, report: ScanReport, *, raw: bool) -> Reject:
    return Reject(
        byte_offset=base + bad.offset,
        record=report.records + bad.record,
        line=None if bad.line is None else report.lines + bad.line,
        column=bad.column,
        reason=bad.reason if bad.value is None else f"{bad.reason} (value {bad.value!r})",
        raw=data.slice(bad.offset, bad.length).to_pybytes() if raw else b"",
    )


def assemble(decoded: Decoded, request: ScanRequest, path: str, base: int, lines: int) -> pa.RecordBatch:
    """Return the wanted columns in order, with virtual ones among them.

    Args:
        decoded: Rows, with offsets and line numbers where such columns are wanted.
        request: Columns.
        path: Path for `_file`.
        base: Offset of the decoded bytes in the file.
        lines: Physical lines of the file before them.
    """
    batch = decoded.batch
    if not VIRTUAL_COLUMNS.keys() & set(request.columns) - set(batch.schema.names):
        return batch
    arrays, fields = [], []
    for name in request.columns:
        if name in batch.schema.names:
            arrays.append(batch.column(name))
        elif name == "_file":
            arrays.append(
                pa.repeat(pa.scalar(plain_text(path), pa.string()), batch.num_rows).cast(pa.string_view())
            )
        elif name == "_offset":
            assert decoded.offsets is not None
            arrays.append(pa.array(decoded.offsets + base))
        else:
            before = decoded.line_numbers
            assert before is not None
            arrays.append(pa.array(before + lines + 1))
        fields.append(pa.field(name, arrays[-1].type))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

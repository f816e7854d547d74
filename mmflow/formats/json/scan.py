"""Scan of one shard of a file of JSON documents.

    shard     [begin ......................... end)
    file  {...},  {...},  {...}, ... {...}   ]  }          the walk goes on to the begin of the next record,
                  ^first                     ^^^^^ next    or to the end of the file

Invariant: `first` and `next` are where records begin, or the end of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from mmflow.formats.base import BadRecordPolicy, ScanRequest
from mmflow.formats.decoding.decoder import BadValue
from mmflow.formats.decoding.reader import MAX_RECORD, RecordScan, bad_record
from mmflow.formats.json.decoder import JsonDecoder, problem_reason
from mmflow.formats.json.path import Step
from mmflow.formats.json.walk import ENDS, START, Walked, Walker
from mmflow.mapping import MappedFile
from mmflow.shards import Shard

__all__ = ["DocumentScan", "RecordFinder"]

_WINDOW = 8 << 20
_LOOK = 1 << 16
#: Bytes by which a window may reach past the end of its shard, to find where the next record begins.
_BEYOND = 1 << 20


class RecordFinder:
    """Finds where records begin, in one pass over a file.

    Args:
        file: File.
        steps: The path.
        walker: Walker of that path.
        begins: Offset of the first byte of the first document.
        window_bytes: Bytes looked at at a time.

    Attributes:
        newlines: Line breaks before `position`.
        broken: The place where the walk ended, and the reason; None: it goes on.
    """

    def __init__(
        self,
        file: MappedFile,
        steps: Sequence[Step],
        walker: Walker,
        begins: int,
        window_bytes: int = _WINDOW,
    ) -> None:
        self._file, self._steps, self._walker = file, steps, walker
        self._position, self._cursor = begins, START
        self._window_bytes = window_bytes
        self.newlines = 0
        self.broken: tuple[int, str] | None = None

    def find(self, target: int, *, evict: bool = False) -> int:
        """Return the offset of the first record that begins at `target` or behind it; none: the end of the file.

        Targets ascend. With `evict`, pages that were passed are given back as a scan does.
        """
        size = self._window_bytes
        file = self._file
        while self._position < file.size and self.broken is None:
            window = file.window(self._position, min(size, file.size - self._position))
            final = window.end >= file.size
            stop = max(0, target - self._position)
            walked = self._walker.walk(window.buffer, stop, self._cursor, final=final, copies=False)
            self._cursor = walked.cursor
            self.newlines += walked.newlines
            if evict and walked.consumed:
                file.evict_behind(self._position, walked.consumed)
            self._position += walked.consumed
            if walked.at_record:
                return self._position
            if walked.problem or (not walked.consumed and (final or window.length >= MAX_RECORD)):
                self.broken = self._position, self._reason(window.buffer, walked)
            size = self._window_bytes if walked.consumed else min(2 * size, MAX_RECORD)
        return file.size

    def _reason(self, data: pa.Buffer, walked: Walked) -> str:
        if not walked.problem:
            return f"a value longer than {MAX_RECORD:,} bytes; a quote that is never closed?"
        at = min(walked.consumed, data.size) if walked.problem == ENDS else walked.problem_at
        return problem_reason(walked, data.slice(at, min(_LOOK, data.size - at)).to_pybytes(), self._steps)


class DocumentScan(RecordScan):
    """Scan of one shard.

    Args:
        file: Open.
        shard: Shard of the file to read.
        request: Columns and limits.
        decoder: Decoder of `request.columns` less the virtual ones; it begins with a record.
        policy: Policy for bad records.
        finder: Finds the first record of the file.
        mark: Bytes that records begin with, as far as known; empty: only a known start is found.
    """

    def __init__(
        self,
        file: MappedFile,
        shard: Shard,
        request: ScanRequest,
        decoder: JsonDecoder,
        policy: BadRecordPolicy,
        finder: RecordFinder,
        mark: bytes,
    ) -> None:
        super().__init__(file, shard, request, decoder, policy, 0)
        self._finder, self._mark, self._documents = finder, mark, decoder

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        report, shard, size = self.report, self._shard, self._file.size
        position = self._first()
        report.first = report.next = position
        if report.error is not None:
            return
        window_bytes = max(1, self._request.window_bytes)
        grown = 0  # size that a long record needs
        # A shard that begins with a record reads to the begin of the next shard's, which may be far behind its end.
        passing = position >= shard.end
        while not passing and position < size:
            length = min(window_bytes, size - position, max(shard.end - position, grown) + _BEYOND)
            window = self._file.window(position, length)
            if window.end < min(shard.end, size):
                self._file.prefetch(window.end, min(window_bytes, shard.end - window.end))
            most = self._rows.piece_bytes(window.length)
            done, piece = 0, most
            while done < window.length:
                part = min(piece, window.length - done)
                final = position + done + part == size
                stop = max(0, shard.end - position - done)
                batch, consumed = self._rows.decode(
                    window.buffer.slice(done, part), position + done, stop, final=final
                )
                done += consumed
                report.next = position + done
                report.bytes_read += consumed
                if batch is not None:
                    yield batch
                if self.report.error is not None:
                    return
                if self._documents.at_record:
                    passing = True
                    break
                if not consumed and done + part >= window.length:
                    break  # a record that goes on behind the window
                piece = most if consumed else 2 * piece
            if done:
                self._file.evict_behind(position, done)
                position += done
                window_bytes, grown = max(1, self._request.window_bytes), 0
            elif window.length >= self._max_record or window.end == size:
                self._rows.too_long(window.buffer, position, self._max_record)
                return
            else:
                window_bytes = grown = min(2 * window_bytes, self._max_record)
        report.next = position

    def _first(self) -> int:
        shard = self._shard
        if shard.known_start is not None:
            return shard.known_start
        if shard.begin > 0:
            return self._guess()
        first = self._finder.find(0)
        if self._finder.broken is not None:
            at, reason = self._finder.broken
            data = self._file.window(at, min(_LOOK, self._file.size - at)).buffer
            self.report.lines = self._finder.newlines
            self.report.error = bad_record(
                self._file.path,
                data,
                at,
                BadValue(0, data.size, 0, 0, None, None, reason),
                self.report,
                fatal=True,
            )
            self.report.bad = 1
            return at
        self.report.lines = self._finder.newlines
        return first

    def _guess(self) -> int:
        """Return where the mark of a record is found first; the shard's end where it is not."""
        shard, mark = self._shard, self._mark
        position = shard.begin
        while mark and position < shard.end:
            length = min(_LOOK, self._file.size - position)
            text: bytes = self._file.window(position, length).buffer.to_pybytes()
            found = text.find(mark)
            if found >= 0:
                return min(position + found, shard.end)
            if position + length >= self._file.size:
                break
            position += max(1, length - len(mark) + 1)
        return shard.end

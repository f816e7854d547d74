"""Tasks of `map_array`: a function over the rows of an array, region by region.

    rows (a file all hole, as large as the target)   |  shard 0  |  shard 1  |  shard 2  |
    the target                                       | head | row | row | row | row |    |
    region 1: the rows that begin in shard 1                      [ r r r r )
      its whole pages                                               [  . .  )        only it writes these
      the rest of its bytes                                       [ )       [ )      seams: returned to the driver

In place, the old content of a region is in its log, whole and durable, before a byte of the region changes. The first
attempt gives the log its name, which is never reused; every other attempt reads the old content there. So all attempts
read the same bytes and write the same bytes, whenever they run.

For Linux: late workers are kept out by locks on ranges. `mmflow.arrays` does not import this.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.arrays.change import ROWS, UNDO
from mmflow.arrays.holes import find_data_extents, write_sparsely
from mmflow.arrays.layout import ArrayLayout
from mmflow.arrays.locks import lock_bytes
from mmflow.arrays.undo import Record, log_range, read_records, start_log
from mmflow.errors import MmflowError, SinkError, SourceChangedError, UserFunctionError
from mmflow.formats import Scan, ScanReport, ScanRequest
from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.shards import Shard
from mmflow.sinks.commit.atomic import fsync_folder, rename_new
from mmflow.sinks.commit.failpoints import failpoint
from mmflow.storage import disk
from mmflow.storage.os_errors import write_errors
from mmflow.usercode.failures import function_error

__all__ = ["REGION", "SEAMS", "RegionFormat", "RegionWriter", "read_seams"]

REGION = pa.schema([("begin", pa.int64()), ("stop", pa.int64())])
SEAMS = pa.schema([("offset", pa.int64()), ("data", pa.large_binary())])
_PAGE = mmap.ALLOCATIONGRANULARITY
_Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class RegionFormat:
    """Format of an array's rows by their numbers in the file: one row `REGION` a shard."""

    layout: ArrayLayout
    name: str = "array"
    schema: pa.Schema = REGION
    record_oriented: bool = False
    one_nan: bool = False
    splittable: bool = True
    skips_holes: bool = False

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        return _RegionScan(self, file, shard, request)

    def lacks(self, file: MappedFile) -> frozenset[str]:
        del file
        return frozenset()

    def spec(self) -> dict[str, Any]:
        return {"format": self.name, "schema": self.schema}


class _RegionScan:
    """Scan of one shard; a row belongs to the shard that holds its first byte."""

    def __init__(self, form: RegionFormat, file: MappedFile, shard: Shard, request: ScanRequest) -> None:
        layout = form.layout

        def at(offset: int) -> int:
            return min(layout.rows, max(0, -(-(offset - layout.begin) // layout.row_bytes)))

        self._columns = request.columns
        self.report = ScanReport()
        if layout.row_bytes:  # else there is nothing to write
            last = layout.rows if shard.end >= file.size else at(shard.end)
            self.report = ScanReport(first=at(shard.begin), next=last)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        report = self.report
        report.records = report.next - report.first
        if report.records:
            made = pa.RecordBatch.from_pylist([{"begin": report.first, "stop": report.next}], REGION)
            yield made.select(list(self._columns))


def read_seams(batch: pa.RecordBatch) -> dict[int, bytes]:
    """Read the seams of a batch, by offset."""
    offsets, data = batch.columns
    return dict(zip(offsets.to_pylist(), data.to_pylist(), strict=True))


@dataclass(frozen=True, slots=True)
class RegionWriter:
    """Writer of regions: a batch of `REGION` in, their `SEAMS` out. Safe to repeat, even concurrently.

    Attributes:
        function: The user's function from rows to rows.
        numbered: Whether it also takes the number of the first row.
        source: File that is read; with a change in place it is the target.
        given: Layout of the source.
        size, mtime_ns: Size and time of modification that the source must have.
        target: File that is written.
        made: Layout of the target.
        folder: Folder of the change.
        in_place: Whether the old content is logged, and read from the log.
        skip_holes: Whether rows in holes of the source are not computed, so that their target stays as it is.
        chunk_bytes: Approximate size of the rows of one call, in bytes.
    """

    function: Callable[..., Any]
    numbered: bool
    source: str
    given: ArrayLayout
    size: int
    mtime_ns: int
    target: str
    made: ArrayLayout
    folder: str
    in_place: bool
    skip_holes: bool
    chunk_bytes: int = 8 << 20

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        seams: dict[int, bytes] = {}
        for begin, stop in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            with write_errors(self.target), contextlib.ExitStack() as open_files:
                try:
                    fd = disk.open(self.target, os.O_RDWR | os.O_CLOEXEC)
                except FileNotFoundError:
                    raise self.ended() from None
                open_files.callback(disk.close, fd)
                old: _Old = self._open_old(open_files, fd, begin, stop)
                pages = _Pages(self, fd, *self.made.span(*self._numbers(begin, stop)))
                for first, last in self._chunks(begin, stop):
                    if self.skip_holes and old.is_hole(first, last):
                        pages.skip()
                    else:
                        self._write_chunk(old, pages, first, last)
                seams |= pages.finish()
                old.check()
        return pa.RecordBatch.from_arrays(
            [pa.array(list(seams), pa.int64()), pa.array(list(seams.values()), pa.large_binary())],
            schema=SEAMS,
        )

    def _numbers(self, begin: int, stop: int) -> tuple[int, int]:
        """Convert rows to the user's numbers."""
        return self.made.in_file(begin, stop)

    def source_span(self, begin: int, stop: int) -> tuple[int, int]:
        """Return the bytes of the source that hold rows `[begin, stop)`."""
        return self.given.span(*self._numbers(begin, stop))

    def _chunks(self, begin: int, stop: int) -> Iterator[tuple[int, int]]:
        step = max(1, self.chunk_bytes // max(1, self.given.row_bytes, self.made.row_bytes))
        for first in range(begin, stop, step):
            yield first, min(first + step, stop)

    def _write_chunk(self, old: _Old, pages: _Pages, first: int, last: int) -> None:
        count = last - first
        data = old.rows(first, last)
        number = self._numbers(first, last)[0]
        made = self._call(self.given.view(data, count), number, count)
        begin, end = self.made.span(number, number + count)
        if self.made.contiguous:
            pages.write(begin, np.ascontiguousarray(made).reshape(-1).view(np.uint8).data)
            return
        # Padding keeps its content.
        copy = bytearray(data) if self.made == self.given else bytearray(end - begin)
        self.made.view(copy, count)[...] = made
        pages.write(begin, memoryview(copy))

    def _call(self, rows: _Array, number: int, count: int) -> _Array:
        name = getattr(self.function, "__name__", "function")
        where = f"map_array function {name!r}, of rows {number:,} to {number + count:,} of {self.source}"
        rows.flags.writeable = False
        try:
            made = np.asarray(self.function(rows, number) if self.numbered else self.function(rows))
        except (
            MmflowError,
            KeyboardInterrupt,
        ):  # Ray stops a task by KeyboardInterrupt, which its runner handles
            raise
        except BaseException as error:  # the user's function may raise anything
            raise function_error(f"{where},", error, name) from error
        expected = (count, *self.made.shape[1:])
        if made.shape != expected or made.dtype != self.made.dtype:
            raise UserFunctionError(
                f"{where}, returned {made.dtype} of shape {made.shape}, expected {self.made.dtype} of shape "
                f"{expected}; cast its result, or pass dtype= and row_shape=",
                function=name,
            )
        return made

    def _open_old(self, open_files: contextlib.ExitStack, fd: int, begin: int, stop: int) -> _Old:
        if not self.in_place:
            return _Source(self, open_files.enter_context(MappedFile.open(self.source)))
        log = self._open_log(fd, *self.source_span(begin, stop))
        open_files.callback(disk.close, log)
        return _Logged(self, log)

    def _open_log(self, fd: int, begin: int, end: int) -> int:
        """Open a region's log, and write it unless another attempt was first."""
        name = os.path.join(self.folder, f"{UNDO}{begin}")
        with contextlib.suppress(FileNotFoundError):
            return disk.open(name, os.O_RDONLY | os.O_CLOEXEC)
        unfinished = f"{name}.{os.urandom(6).hex()}.part"
        try:
            log = disk.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise self.ended() from None
        try:
            start_log(log, fd)
            log_range(log, fd, begin, end)
            disk.fsync(log)
            failpoint("logged region")
            rename_new(Path(unfinished), Path(name))
            fsync_folder(Path(self.folder))
            failpoint("named region")
        except BaseException as error:
            disk.close(log)
            with contextlib.suppress(OSError):
                disk.unlink(unfinished)
            if isinstance(error, FileNotFoundError):
                raise self.ended() from None
            if not isinstance(error, FileExistsError):
                raise
            fsync_folder(Path(self.folder))  # the attempt that named it may not have synced yet
            return disk.open(name, os.O_RDONLY | os.O_CLOEXEC)
        return log

    def ended(self) -> SinkError:
        """Return the error of an attempt that came too late."""
        return SinkError(
            f"the change of {self.source} was ended by another process while this task ran; run again",
            path=self.source,
        )

    @contextlib.contextmanager
    def lock_for_write(self, fd: int, begin: int, length: int) -> Iterator[None]:
        """Lock bytes for a write during the block, and check that the change is still active.

        Raises:
            SinkError: The change has ended.
        """
        with lock_bytes(fd, self.target, begin, length):
            try:
                # Open it, since file servers answer `stat` from their cache.
                there = disk.open(os.path.join(self.folder, ROWS), os.O_RDONLY | os.O_CLOEXEC)
                disk.close(there)
                now = disk.open(self.target, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise self.ended() from None
            try:
                if os.fstat(now).st_ino != os.fstat(fd).st_ino:
                    raise self.ended()
            finally:
                disk.close(now)
            yield


# ---- old content --------------------------------------------------------------------------------------


class _Source:
    """Old rows of another file, mapped."""

    def __init__(self, writer: RegionWriter, file: MappedFile) -> None:
        self._writer, self._file = writer, file
        if (file.identity.size, file.identity.mtime_ns) != (writer.size, writer.mtime_ns):
            raise SourceChangedError(
                f"{file.path} changed while it was being read: size or time of modification are not what they were; "
                "run again once nothing writes to it",
                path=file.path,
            )

    def rows(self, first: int, last: int) -> Any:
        begin, end = self._writer.source_span(first, last)
        return self._file.window(begin, end - begin).buffer if begin < end else b""

    def is_hole(self, first: int, last: int) -> bool:
        return next(find_data_extents(self._file.fd, *self._writer.source_span(first, last)), None) is None

    def check(self) -> None:
        self._file.check_unchanged()


class _Logged:
    """Old rows of a region, from its log."""

    def __init__(self, writer: RegionWriter, log: int) -> None:
        self._writer, self._log = writer, log
        self._records: list[Record] = list(read_records(log))

    def rows(self, first: int, last: int) -> bytearray:
        begin, end = self._writer.source_span(first, last)
        made = bytearray(end - begin)
        with memoryview(made) as view:
            for record, low, high in self._within(begin, end):
                part, at = view[low - begin : high - begin], record.position + low - record.offset
                while part:
                    got = os.preadv(self._log, [part], at)
                    part, at = part[got:], at + got
        return made

    def _within(self, begin: int, end: int) -> Iterator[tuple[Any, int, int]]:
        """Yield records of data, with their parts of `[begin, end)`."""
        for record in self._records:
            low, high = max(begin, record.offset), min(end, record.offset + record.length)
            if record.position is not None and low < high:
                yield record, low, high

    def is_hole(self, first: int, last: int) -> bool:
        begin, end = self._writer.source_span(first, last)
        return next(self._within(begin, end), None) is None

    def check(self) -> None:
        """Do nothing: a log does not change."""


_Old = _Source | _Logged

# ---- new content --------------------------------------------------------------------------------------


class _Pages:
    """Writer of a region's whole pages, in order; collects the other bytes as seams.

    It writes only whole pages at once: a reader with a lock (`MappedArray.snapshot`) sees no page that is half new.
    """

    def __init__(self, writer: RegionWriter, fd: int, begin: int, end: int) -> None:
        self._writer, self._fd = writer, fd
        # The last page of a file has no other owner.
        whole = end if end == os.fstat(fd).st_size else end - end % _PAGE
        self._low = min(-(-begin // _PAGE) * _PAGE, end)
        self._high = max(self._low, whole)
        self._seams: dict[int, bytes] = {}
        self._pending = bytearray()
        self._at = begin

    def write(self, offset: int, data: memoryview) -> None:
        if not self._pending:
            self._at = offset
        if offset < self._low:
            head = data[: self._low - offset]
            self._add_seam(offset, head)
            data, offset = data[len(head) :], offset + len(head)
            self._at = offset
        tail = max(0, offset + len(data) - max(offset, self._high))
        data, rest = data[: len(data) - tail], data[len(data) - tail :]
        if rest:
            self._add_seam(offset + len(data), rest)
        whole = (self._at + len(self._pending) + len(data)) // _PAGE * _PAGE
        if self._at + len(self._pending) + len(data) == self._high:
            whole = self._high
        take = whole - self._at - len(self._pending)
        if take <= 0:
            self._pending += data
            return
        if self._pending:  # complete its page first, so that most bytes are written without a copy
            fill = min(take, -(self._at + len(self._pending)) % _PAGE)
            self._pending += data[:fill]
            data, take = data[fill:], take - fill
            self._flush()
        self._write_pages(data[:take], self._at)
        self._at += take
        self._pending += data[take:]

    def _add_seam(self, offset: int, data: memoryview) -> None:
        if len(data):
            self._seams[offset] = bytes(data)

    def skip(self) -> None:
        """End the current range: the next bytes don't follow the last ones."""
        if self._pending:
            self._flush()

    def _flush(self) -> None:
        self._write_pages(memoryview(bytes(self._pending)), self._at)
        self._at += len(self._pending)
        self._pending.clear()

    def _write_pages(self, data: memoryview, offset: int) -> None:
        if not len(data):
            return
        first = offset - offset % _PAGE
        length = -(-(offset + len(data)) // _PAGE) * _PAGE - first
        with self._writer.lock_for_write(self._fd, first, length):
            write_sparsely(self._fd, data, offset, _PAGE)
        failpoint("wrote pages")

    def finish(self) -> Mapping[int, bytes]:
        """Make all pages durable, and return the seams, which the driver writes."""
        self.skip()
        disk.fdatasync(self._fd)
        failpoint("region synced")
        return self._seams

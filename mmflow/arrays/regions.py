"""A function over the rows of an array, region by region: what a task of `map_array` does.

    rows (a file all hole, as large as the target)   |  shard 0  |  shard 1  |  shard 2  |
    the target                                       | head | row | row | row | row |    |
    region 1: the rows that begin in shard 1                      [ r r r r )
      its whole pages                                               [  . .  )        it alone writes these
      the rest of its bytes                                       [ )       [ )      seams: go back to the driver

In place the old content of a region is in its log, whole and durable, before a byte of the region changes. Whoever
comes first gives the log its name, which nobody can take again; every other attempt reads the old content there. So
all attempts compute of the same bytes and write the same bytes, whenever they run.

For Linux: late workers are kept out by locks on ranges. `mmflow.arrays` does not import this.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmflow.arrays.change import ROWS, UNDO
from mmflow.arrays.failures import writing
from mmflow.arrays.holes import data_extents, write_sparsely
from mmflow.arrays.layout import ArrayLayout
from mmflow.arrays.locks import locked
from mmflow.arrays.undo import Record, log_range, records, start_log
from mmflow.errors import MmflowError, SinkError, SourceChangedError, UserFunctionError
from mmflow.formats import Scan, ScanReport, ScanRequest
from mmflow.mapping import MappedFile
from mmflow.shards import Shard
from mmflow.sinks.atomic import fsync_folder, rename_new
from mmflow.sinks.checkpoints import checkpoint

__all__ = ["REGION", "SEAMS", "RegionFormat", "RegionWriter", "pieces_of"]

REGION = pa.schema([("begin", pa.int64()), ("stop", pa.int64())])
SEAMS = pa.schema([("offset", pa.int64()), ("data", pa.large_binary())])
_PAGE = mmap.ALLOCATIONGRANULARITY
_Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class RegionFormat:
    """The rows of an array by their numbers in the file: one row `REGION` a shard. See `formats.Format`."""

    layout: ArrayLayout
    name: str = "array"
    schema: pa.Schema = REGION
    record_oriented: bool = False
    one_nan: bool = False
    splittable: bool = True
    skips_holes: bool = False

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        """See `Format.scan`."""
        return _RegionScan(self, file, shard, request)

    def spec(self) -> dict[str, Any]:
        """See `Format.spec`."""
        return {"format": self.name, "schema": self.schema}


class _RegionScan:
    """A row belongs to the shard in which its first byte lies."""

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


def pieces_of(batch: pa.RecordBatch) -> dict[int, bytes]:
    """The seams of a batch, by offset."""
    offsets, data = batch.columns
    return dict(zip(offsets.to_pylist(), data.to_pylist(), strict=True))


@dataclass(frozen=True, slots=True)
class RegionWriter:
    """Computes and writes regions: a batch of `REGION` in, their `SEAMS` out. Safe to repeat, also at the same time.

    Attributes:
        function: Of the user: rows to rows; with `numbered`, also of the number of the first of them.
        source: The file that is read, `given` its layout; `size` and `mtime_ns` it must have. Of a change in place it
            is the target.
        target: The file that is written, `made` its layout.
        folder: Of the change.
        in_place: Log old content, read from there.
        skip_holes: Rows that are all in a hole of the source are not computed: their target stays as it is.
        chunk_bytes: Of rows that one call takes, about.
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
            with writing(self.target), contextlib.ExitStack() as open_files:
                try:
                    fd = os.open(self.target, os.O_RDWR | os.O_CLOEXEC)
                except FileNotFoundError:
                    raise self.ended() from None
                open_files.callback(os.close, fd)
                old: _Old = self._old(open_files, fd, begin, stop)
                pages = _Pages(self, fd, *self.made.span(*self._numbers(begin, stop)))
                for first, last in self._chunks(begin, stop):
                    if self.skip_holes and old.is_hole(first, last):
                        pages.skip()
                    else:
                        self._chunk(old, pages, first, last)
                seams |= pages.finish()
                old.check()
        return pa.RecordBatch.from_arrays(
            [pa.array(list(seams), pa.int64()), pa.array(list(seams.values()), pa.large_binary())],
            schema=SEAMS,
        )

    def _numbers(self, begin: int, stop: int) -> tuple[int, int]:
        """Rows by their numbers in the target, as the user counts them."""
        return self.made.in_file(begin, stop)

    def read_from(self, begin: int, stop: int) -> tuple[int, int]:
        """Where rows `[begin, stop)` of the target are in the source, in bytes."""
        return self.given.span(*self._numbers(begin, stop))

    def _chunks(self, begin: int, stop: int) -> Iterator[tuple[int, int]]:
        step = max(1, self.chunk_bytes // max(1, self.given.row_bytes, self.made.row_bytes))
        for first in range(begin, stop, step):
            yield first, min(first + step, stop)

    def _chunk(self, old: _Old, pages: _Pages, first: int, last: int) -> None:
        count = last - first
        data = old.rows(first, last)
        number = self._numbers(first, last)[0]
        made = self._called(self.given.view(data, count), number, count)
        begin, end = self.made.span(number, number + count)
        if self.made.contiguous:
            pages.write(begin, np.ascontiguousarray(made).reshape(-1).view(np.uint8).data)
            return
        # Padding stays what it was.
        copy = bytearray(data) if self.made == self.given else bytearray(end - begin)
        self.made.view(copy, count)[...] = made
        pages.write(begin, memoryview(copy))

    def _called(self, rows: _Array, number: int, count: int) -> _Array:
        name = getattr(self.function, "__name__", "function")
        where = f"map_array function {name!r}, of rows {number:,} to {number + count:,} of {self.source}"
        rows.flags.writeable = False
        try:
            made = np.asarray(self.function(rows, number) if self.numbered else self.function(rows))
        except (MmflowError, KeyboardInterrupt):  # Ray stops a task by the latter: its runner judges that
            raise
        except BaseException as error:  # whatever the user's function raised
            raise UserFunctionError(
                f"{where}, raised {type(error).__name__}: {error}", function=name
            ) from error
        wanted = (count, *self.made.shape[1:])
        if made.shape != wanted or made.dtype != self.made.dtype:
            raise UserFunctionError(
                f"{where}, gave {made.dtype} of shape {made.shape}, expected {self.made.dtype} of shape {wanted}; "
                "cast what it gives, or say dtype= and row_shape=",
                function=name,
            )
        return made

    def _old(self, open_files: contextlib.ExitStack, fd: int, begin: int, stop: int) -> _Old:
        if not self.in_place:
            return _Source(self, open_files.enter_context(MappedFile.open(self.source)))
        log = self._log(fd, *self.read_from(begin, stop))
        open_files.callback(os.close, log)
        return _Logged(self, log)

    def _log(self, fd: int, begin: int, end: int) -> int:
        """The descriptor of a region's log, which is made unless another attempt was first."""
        name = os.path.join(self.folder, f"{UNDO}{begin}")
        with contextlib.suppress(FileNotFoundError):
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        unfinished = f"{name}.{os.urandom(6).hex()}.part"
        try:
            log = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise self.ended() from None
        try:
            start_log(log, fd)
            log_range(log, fd, begin, end)
            os.fsync(log)
            checkpoint("logged region")
            rename_new(Path(unfinished), Path(name))
            fsync_folder(Path(self.folder))
            checkpoint("named region")
        except BaseException as error:
            os.close(log)
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            if isinstance(error, FileNotFoundError):
                raise self.ended() from None
            if not isinstance(error, FileExistsError):
                raise
            fsync_folder(Path(self.folder))  # who named it may not have got so far
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        return log

    def ended(self) -> SinkError:
        """This attempt came too late."""
        return SinkError(
            f"the change of {self.source} was ended by somebody else while this task ran; run again",
            path=self.source,
        )

    @contextlib.contextmanager
    def may_write(self, fd: int, begin: int, length: int) -> Iterator[None]:
        """Hold a lock on what is written, while the change is under way.

        Raises:
            SinkError: It is not any more.
        """
        with locked(fd, self.target, begin, length):
            try:
                # Opened, since file servers answer `stat` from what they remember.
                there = os.open(os.path.join(self.folder, ROWS), os.O_RDONLY | os.O_CLOEXEC)
                os.close(there)
                now = os.open(self.target, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise self.ended() from None
            try:
                if os.fstat(now).st_ino != os.fstat(fd).st_ino:
                    raise self.ended()
            finally:
                os.close(now)
            yield


# ---- old content --------------------------------------------------------------------------------------


class _Source:
    """The rows of another file, mapped."""

    def __init__(self, writer: RegionWriter, file: MappedFile) -> None:
        self._writer, self._file = writer, file
        if (file.identity.size, file.identity.mtime_ns) != (writer.size, writer.mtime_ns):
            raise SourceChangedError(
                f"{file.path} changed while it was being read: size or time of modification are not what they were; "
                "run again once nothing writes to it",
                path=file.path,
            )

    def rows(self, first: int, last: int) -> Any:
        begin, end = self._writer.read_from(first, last)
        return self._file.window(begin, end - begin).buffer if begin < end else b""

    def is_hole(self, first: int, last: int) -> bool:
        return next(data_extents(self._file.fd, *self._writer.read_from(first, last)), None) is None

    def check(self) -> None:
        self._file.check_unchanged()


class _Logged:
    """The rows of a region as its log has them."""

    def __init__(self, writer: RegionWriter, log: int) -> None:
        self._writer, self._log = writer, log
        self._records: list[Record] = list(records(log))

    def rows(self, first: int, last: int) -> bytearray:
        begin, end = self._writer.read_from(first, last)
        made = bytearray(end - begin)
        with memoryview(made) as view:
            for record, low, high in self._within(begin, end):
                part, at = view[low - begin : high - begin], record.position + low - record.offset
                while part:
                    got = os.preadv(self._log, [part], at)
                    part, at = part[got:], at + got
        return made

    def _within(self, begin: int, end: int) -> Iterator[tuple[Any, int, int]]:
        """Records of data, and what each has of `[begin, end)`."""
        for record in self._records:
            low, high = max(begin, record.offset), min(end, record.offset + record.length)
            if record.position is not None and low < high:
                yield record, low, high

    def is_hole(self, first: int, last: int) -> bool:
        begin, end = self._writer.read_from(first, last)
        return next(self._within(begin, end), None) is None

    def check(self) -> None:
        """A log does not change."""


_Old = _Source | _Logged

# ---- new content --------------------------------------------------------------------------------------


class _Pages:
    """Writes the whole pages of a region as bytes come, in order; keeps the rest.

    Only whole pages at once: a reader with a lock (`MappedArray.snapshot`) sees no page that is half new.
    """

    def __init__(self, writer: RegionWriter, fd: int, begin: int, end: int) -> None:
        self._writer, self._fd = writer, fd
        # The last page of a file has no other owner.
        whole = end if end == os.fstat(fd).st_size else end - end % _PAGE
        self._low = min(-(-begin // _PAGE) * _PAGE, end)
        self._high = max(self._low, whole)
        self._seams: dict[int, bytes] = {}
        self._held = bytearray()
        self._at = begin

    def write(self, offset: int, data: memoryview) -> None:
        if not self._held:
            self._at = offset
        if offset < self._low:
            head = data[: self._low - offset]
            self._seam(offset, head)
            data, offset = data[len(head) :], offset + len(head)
            self._at = offset
        tail = max(0, offset + len(data) - max(offset, self._high))
        data, rest = data[: len(data) - tail], data[len(data) - tail :]
        if rest:
            self._seam(offset + len(data), rest)
        whole = (self._at + len(self._held) + len(data)) // _PAGE * _PAGE
        if self._at + len(self._held) + len(data) == self._high:
            whole = self._high
        take = whole - self._at - len(self._held)
        if take <= 0:
            self._held += data
            return
        if self._held:  # complete its page first, so that most is written without a copy
            fill = min(take, -(self._at + len(self._held)) % _PAGE)
            self._held += data[:fill]
            data, take = data[fill:], take - fill
            self._flush()
        self._put(data[:take], self._at)
        self._at += take
        self._held += data[take:]

    def _seam(self, offset: int, data: memoryview) -> None:
        if len(data):
            self._seams[offset] = bytes(data)

    def skip(self) -> None:
        """What comes next does not follow what was written last."""
        if self._held:
            self._flush()

    def _flush(self) -> None:
        self._put(memoryview(bytes(self._held)), self._at)
        self._at += len(self._held)
        self._held.clear()

    def _put(self, data: memoryview, offset: int) -> None:
        if not len(data):
            return
        first = offset - offset % _PAGE
        length = -(-(offset + len(data)) // _PAGE) * _PAGE - first
        with self._writer.may_write(self._fd, first, length):
            write_sparsely(self._fd, data, offset, _PAGE)
        checkpoint("wrote pages")

    def finish(self) -> Mapping[int, bytes]:
        """Make all of it durable; what is left to be written by the driver."""
        self.skip()
        os.fdatasync(self._fd)
        checkpoint("region synced")
        return self._seams

"""One file as an array: npy, or an image (`arrays.images`).

    a = create_array("a.npy", "float64", (10**9, 3))      preallocated: a full disk is an error now, not later
    a = open_array("a.npy", "r+")
    a[10:20] = 1.5                                         in place: old pages go to the undo log first
    a.flush()                                              from here on the change counts, whatever happens
    c = open_array("a.npy", "c"); c[0] = 7                 private: the file is as it was
    c.changed_pages(); c.commit()                          just these pages, through the undo log

`r` and `r+` map what is asked for, window by window, so an array may be larger than memory and address space. `c` maps
all of it once, since private pages live as long as their mapping does.

Invariant: with the undo log, whoever opens the file after a crash finds it as of the last `flush` or `commit`. Changes
count for the file at the path that was opened, as long as it is that file and whole; else `flush` and `commit` refuse.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmflow.arrays.change import Change, being_changed, settle
from mmflow.arrays.failures import MAPPING, writing
from mmflow.arrays.holes import data_extents, write_at
from mmflow.arrays.layout import ArrayLayout
from mmflow.arrays.locks import locked
from mmflow.arrays.pages import changed
from mmflow.arrays.undo import UndoLog
from mmflow.arrays.writers import OtherWriters
from mmflow.errors import ConfigError, SinkError, SourceChangedError
from mmflow.mapping import Access, MappedFile
from mmflow.mapping.failures import source_failure
from mmflow.mapping.file import require_regular
from mmflow.mapping.forks import disown_in_children
from mmflow.mapping.huge import HugePages, advise_huge, check_huge_pages
from mmflow.mapping.system import system
from mmflow.sinks.checkpoints import checkpoint

__all__ = ["MappedArray", "Mode"]

Mode = Literal["r", "r+", "c"]
_Array = npt.NDArray[Any]


class MappedArray:
    """An array over the mapped pages of a file; see `open_array` and `open_image`. A context manager: an error in
    the block rolls back what was not flushed.

    Attributes:
        path: The file.
        mode: `r`, `r+` or `c`.
        dtype, shape: Of the array; rows are its first dimension.
        layout: Where its rows lie in the file.
        fallback: Why changes are written instead of mapped; "": they are mapped.
    """

    _closed = True  # until it is open

    def __init__(
        self,
        path: str,
        mode: Mode,
        layout: Callable[[str], ArrayLayout],
        *,
        undo: bool,
        own: str = "",
        access: Access = "any",
        huge_pages: HugePages = "auto",
    ) -> None:
        if mode not in ("r", "r+", "c"):
            raise ConfigError(f"open_array: mode {mode!r} must be r, r+ or c")
        if access not in ("sequential", "random", "any"):
            raise ConfigError(f"open_array: access {access!r} must be sequential, random or any")
        check_huge_pages(huge_pages)
        self._access: Access = access
        self._huge: HugePages = huge_pages
        self.path = path
        self.mode = mode
        self.fallback = ""
        self._keeps_old = undo
        self._fd = -1
        self._foreign = False  # this process is a fork of the one that opened the array
        try:
            require_regular(path, os.stat(path).st_mode)  # opening a pipe would wait for a writer
        except OSError as error:
            raise source_failure(path, error) from error
        self._real = os.path.realpath(path)  # logs lie beside the file, whatever name it is opened by
        settle(self._real, own)
        if mode == "r+" and being_changed(self._real):
            raise SinkError(
                f"{path} is being changed by a run; wait for it, or open it for reading", path=path
            )
        self.layout = layout(path)
        self.dtype, self.shape = self.layout.dtype, self.layout.shape
        if self.layout.whole and mode == "r+":
            raise SinkError(
                f"{path} is in Fortran order or a single value, which can't be changed in place; open it with mode r "
                "or c, or save it in C order (numpy.ascontiguousarray)",
                path=path,
            )
        self._others = OtherWriters(self._real, system.GRANULARITY)
        self._open()
        disown_in_children(self)

    def _open(self) -> None:
        self._undo: UndoLog | None = None
        self._private: mmap.mmap | None = None
        self._reading = MappedFile.open(self.path, access=self._access)
        self._closed = False
        if self.mode != "r":
            with writing(self.path, "open for writing"):
                self._fd = os.open(self.path, os.O_RDWR | system.OPEN_FLAGS)
            self._undo = UndoLog(self._real, self._fd, system.GRANULARITY) if self._keeps_old else None
        if self.mode == "c" and self.layout.end:
            with writing(self.path, "map"):
                self._private = system.map_writable(self._fd, 0, self.layout.end, private=True)

    def disown(self) -> None:
        """Leave changes, log and locks to the process that opened the array: a forked child only reads."""
        self._foreign = True
        if self._undo is not None:
            self._undo.abandon()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _check_owner(self, what: str) -> None:
        if self._foreign:
            raise SinkError(
                f"can't {what} {self.path}: the process that opened it forked this one, and its changes are that "
                "process's; open the array again here, or start processes with spawn",
                path=self.path,
            )

    def _check_whole(self) -> None:
        """Check that the file still has all rows: pages beyond its end are zeros, or can't be touched at all.

        Raises:
            SourceChangedError: It was cut short.
        """
        size = os.fstat(self._reading.fd).st_size
        if size < self.layout.end:
            raise SourceChangedError(
                f"{self.path} was cut short while it was open: it has {size:,} bytes, its rows end at "
                f"{self.layout.end:,}; what views of it show beyond is not its content",
                path=self.path,
            )

    def _check_views(self) -> None:
        """Check that no view showed zeros instead of the file's content.

        Raises:
            SourceChangedError: It was cut short, and grew back.
        """
        try:
            self._reading.check_windows()
        except SourceChangedError:
            # On a full tmpfs a hole gets no page to be read from, and looks the same: its zeros are right.
            if shutil.disk_usage(self.path).free:
                raise

    def _check_place(self, what: str) -> None:
        """Check that the path still names the file that was opened.

        Raises:
            SinkError: Another file has taken its place, or it was deleted.
        """
        with writing(self.path, what):
            mine = os.fstat(self._fd)
            try:
                there = os.stat(self.path)
            except FileNotFoundError:
                there = None
        if there is None or not os.path.samestat(mine, there):
            happened = "it was deleted" if there is None else "another file has taken its place"
            raise SinkError(
                f"can't {what} {self.path}: {happened} since it was opened, so what was changed here is not in it; "
                "open it again, and change that",
                path=self.path,
            )

    # ---- reading ---------------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.layout.rows * self.layout.used_bytes

    @property
    def channels(self) -> str:
        """What the bytes of a BMP's pixel are, as `BGR` or `BGRX` (X: nothing); "" of other arrays."""
        return self.layout.channels

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a single value has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"MappedArray({self.path!r}, {self.dtype}, {self.shape}, mode={self.mode!r})"

    def __getitem__(self, key: Any) -> Any:
        """As numpy has it: a view of mapped memory, where numpy gives a view. Of `c` it may be written to.

        Raises:
            IndexError: Out of range.
            SourceChangedError: The file was cut short.
        """
        self._check_whole()
        if self._private is not None:
            return self._all(self._private)[key]
        if self.layout.whole:
            return self._window(0, self.layout.rows)[key]
        begin, stop, inner = self._touched(key)
        return self._window(begin, stop)[inner]

    def _touched(self, key: Any) -> tuple[int, int, tuple[Any, ...]]:
        """The range of rows that a key touches, and the key within it."""
        if self.layout.whole:
            return 0, self.layout.rows, ()
        first, rest = _split(key, self.ndim)
        if first is None:
            return 0, len(self), rest
        begin, stop, inner = _rows(first, len(self))
        return begin, stop, (inner, *rest)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> _Array:
        return np.asarray(self[...], dtype=dtype)

    def to_arrow(self) -> pa.Array:
        """The array as Arrow, without a copy (booleans, byte orders of other machines, and images whose rows are padded
        or bottom-up, are copied); of two and more dimensions as fixed-size lists.

        Raises:
            ConfigError: Arrow has no such type.
        """
        array = np.asarray(self[...])
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        try:
            made = pa.array(array.reshape(-1))
            for count in reversed(self.shape[1:]):
                made = pa.FixedSizeListArray.from_arrays(made, count)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ConfigError(
                f"{self.path}: Arrow has no type for rows of {self.shape[1:]} of {self.dtype}: {error}"
            ) from error
        return made

    def _window(self, begin: int, stop: int) -> _Array:
        """Rows `[begin, stop)`, mapped for reading."""
        offset, end = self.layout.span(begin, max(begin, stop))
        if offset == end:
            return (
                self.layout.everything(b"")
                if self.layout.whole
                else self.layout.view(b"", max(0, stop - begin))
            )
        window = self._reading.window(offset, end - offset, populate=False)
        if window.mapping is not None:
            advise_huge(window.mapping.address, window.mapping.length, self._huge)
        return (
            self.layout.everything(window.buffer)
            if self.layout.whole
            else self.layout.view(window.buffer, stop - begin)
        )

    def _all(self, mapping: mmap.mmap) -> _Array:
        if self.layout.whole:
            return self.layout.everything(mapping, self.layout.begin)
        return self.layout.view(mapping, self.layout.rows, self.layout.begin)

    def snapshot(self, key: Any = ...) -> _Array:
        """A copy of `self[key]`, while others write: each page is as it was before a change of it, or after.

        (A view may show a page that is just being written.)

        Raises:
            SinkError: The file system, or the system (Windows), has no locks on ranges.
            IndexError: Out of range.
        """
        begin, stop, _ = self._touched(key)
        offset, end = self.layout.span(begin, max(begin, stop))
        if offset == end:
            return np.array(self[key])
        # A descriptor of its own: threads that shared one would give back each other's locks.
        fd = self._reading_again()
        try:
            with locked(fd, self.path, *_pages(offset, end), shared=True):
                return np.array(self[key])
        finally:
            os.close(fd)

    def _reading_again(self) -> int:
        """Another descriptor of the file."""
        with writing(self.path, "lock"):
            try:
                return system.reopen(self._reading.fd)
            except OSError as error:
                if error.errno != errno.ENOSYS:
                    raise
            fd = system.open_file(self.path)
        if os.path.samestat(os.fstat(fd), os.fstat(self._reading.fd)):
            return fd
        os.close(fd)
        raise SinkError(
            f"can't lock {self.path}: another file has taken its place since it was opened; open that one",
            path=self.path,
        )

    def rows_with_data(self) -> Iterator[tuple[int, int]]:
        """Ranges `[begin, stop)` of rows that are not all in holes of a sparse file; the others are zeros. In order of
        the file."""
        layout, size = self.layout, self.layout.row_bytes
        if not size or not layout.rows:
            return
        if layout.whole:
            yield 0, layout.rows
            return
        done = 0
        for first, last in list(data_extents(self._reading.fd, layout.begin, layout.end)):
            begin, stop = max(done, (first - layout.begin) // size), -(-(last - layout.begin) // size)
            if begin < stop:
                yield layout.in_file(begin, stop)
                done = stop

    # ---- writing ---------------------------------------------------------------------------------------

    def __setitem__(self, key: Any, value: Any) -> None:
        """As numpy has it.

        Raises:
            SinkError: The array is open for reading, there is no room, another writer has changed a page of these rows
                and not flushed it, or the process that opened the array forked this one (but for `c`).
            SourceChangedError: The file was cut short.
            IndexError: Out of range.
        """
        if self.mode == "r":
            raise SinkError(f"{self.path} is open for reading; open it with mode r+ or c", path=self.path)
        self._check_whole()
        if self._private is not None:
            self._all(self._private)[key] = value
            return
        self._check_owner("change")
        begin, stop, inner = self._touched(key)
        if stop <= begin or self.nbytes == 0:
            np.empty((max(0, stop - begin), *self.shape[1:]), self.dtype)[inner] = value  # numpy's errors
            return
        offset, end = self.layout.span(begin, stop)
        # Before anything is touched: does the value fit, is the old content safe, is there room in a hole?
        probe = np.broadcast_to(np.empty((), self.dtype), (stop - begin, *self.shape[1:]))[inner]
        np.broadcast_to(np.asarray(value), np.shape(probe))
        with locked(self._fd, self.path, *_pages(offset, end), needed=False):
            self._prepare(offset, end)
            with self._writable(offset, end) as rows:
                self.layout.view(rows, stop - begin)[inner] = value
        checkpoint("changed")

    def _prepare(self, begin: int, end: int) -> None:
        """Have the bytes `[begin, end)`, whose pages are locked, ready to be changed."""
        self._others.check(begin, end, self._undo)
        if self._undo is not None:
            self._undo.save(begin, end)
        with writing(self.path):
            system.preallocate(self._fd, begin, end - begin)

    @contextlib.contextmanager
    def _writable(self, offset: int, end: int) -> Iterator[_Array]:
        """The bytes `[offset, end)` of the file, to be changed: mapped, or where that is impossible a copy that is
        written back."""
        aligned = offset - offset % system.GRANULARITY
        try:
            mapping = system.map_writable(self._fd, aligned, end - aligned, private=False)
        except OSError as error:
            if error.errno not in MAPPING:
                with writing(self.path, "map"):
                    raise
            self.fallback = f"mapping failed: {MAPPING[error.errno]}"
        else:
            try:
                yield np.frombuffer(mapping, np.uint8, offset=offset - aligned, count=end - offset)
            finally:
                with writing(self.path):
                    system.written(mapping)
            return
        try:
            copy = np.empty(end - offset, np.uint8)
        except MemoryError as error:
            raise SinkError(
                f"can't write {self.path}: {self.fallback}; and there is no memory for {end - offset:,} bytes: change "
                "fewer rows at once",
                path=self.path,
            ) from error
        view: Any = copy.data
        with writing(self.path):
            done = 0
            while done < len(copy):
                got = system.read_at(self._fd, view[done:], offset + done)
                if not got:
                    raise OSError(errno.EIO, "it was cut short by somebody else")
                done += got
            yield copy
            write_at(self._fd, view, offset)

    def flush(self) -> None:
        """Make all changes durable: from here on they count. Does nothing in `r`; `c` has `commit`.

        Raises:
            SinkError: The disk says no; the undo log stays. Or another file has taken this one's place, or it was
                deleted, or the process that opened the array forked this one.
            SourceChangedError: The file was cut short.
        """
        if self.mode == "r+":
            self._check_owner("flush")
            self._check_whole()
            self._check_place("flush")
            with writing(self.path, "flush"):
                system.sync(self._fd)  # dirty mapped pages of the file, too
            checkpoint("synced")
            if self._undo is not None:
                self._undo.clear()

    def roll_back(self) -> None:
        """Undo what was changed since the last `flush` (`commit`).

        Raises:
            SinkError: There is no undo log (`r+` with `undo=False`).
        """
        if self._private is not None:
            self._show_file()
        elif self.mode == "r+":
            self._check_owner("roll back")
            if self._undo is None:
                raise SinkError(
                    f"{self.path} was opened without an undo log: its changes stay", path=self.path
                )
            self._undo.roll_back()

    def _show_file(self) -> None:
        """Let the private pages go: the file's show again."""
        assert self._private is not None
        with writing(self.path, "map"):
            self._private = system.drop_copies(self._private, self._fd)

    def changed_pages(self) -> npt.NDArray[np.int64]:
        """Numbers of the file's pages that differ from the file, of mode `c`; none of the others."""
        if self._private is None:
            return np.empty(0, np.int64)
        return changed(self._private, self._fd, system.GRANULARITY)

    def commit(self, *, in_place: bool = True) -> int:
        """Write the changed pages of mode `c` to the file: all or, after a crash, none.

        Args:
            in_place: Change the file itself, through the undo log. Else a copy of it is changed (which shares what is
                equal, where the file system has reflinks) and takes its place in one step: who has the file open goes
                on reading the old one, and other names of it (hard links) stay with that, too. (Not on Windows.)

        Returns:
            How many they were.

        Raises:
            SinkError: Another mode, or no room, or somebody else is changing the file; it is as it was.
        """
        if self._private is None:
            raise SinkError(
                f"{self.path}: commit is for mode c; r+ changes the file itself: flush()", path=self.path
            )
        self._check_owner("commit to")
        if not in_place and not system.DELETES_OPEN:
            raise SinkError(
                f"can't replace {self.path}: on this system no file that is open can be; commit in place",
                path=self.path,
            )
        pages = self.changed_pages()
        if not len(pages):
            return 0
        self._check_whole()
        self._check_place("commit to")
        runs = np.split(pages, np.flatnonzero(np.diff(pages) != 1) + 1)
        page, end = system.GRANULARITY, self.layout.end
        spans = [(int(r[0]) * page, min((int(r[-1]) + 1) * page, end)) for r in runs]
        if in_place:
            try:
                self._commit_in_place(spans)
            except BaseException:
                if self._undo is not None:
                    self._undo.roll_back()
                raise
            self._show_file()
        else:
            self._commit_copy(spans)
        return len(pages)

    def _commit_in_place(self, spans: Sequence[tuple[int, int]]) -> None:
        assert self._private is not None
        if being_changed(self._real):
            raise SinkError(f"{self.path} is being changed by a run; wait for it", path=self.path)
        for begin, end in spans:
            with locked(self._fd, self.path, *_pages(begin, end), needed=False):
                self._prepare(begin, end)
        with memoryview(self._private) as view, writing(self.path):
            for begin, end in spans:
                with locked(self._fd, self.path, *_pages(begin, end), needed=False):
                    write_at(self._fd, view[begin:end], begin)
                checkpoint("changed")
            system.sync(self._fd)
        checkpoint("synced")
        if self._undo is not None:
            self._undo.clear()

    def _commit_copy(self, spans: Sequence[tuple[int, int]]) -> None:
        assert self._private is not None
        with Change(self._real, in_place=False) as change, memoryview(self._private) as view:
            size = os.fstat(self._fd).st_size
            change.begin(size, overwrite=True, preallocate=False, like=self._real)
            change.put({begin: view[begin:end] for begin, end in spans})
            change.commit()
        self._let_go()
        self._open()

    # ---- ends ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Flush (`r+`), drop what was not committed (`c`), and close. Views that were taken stay valid. Idempotent.

        Raises:
            SinkError: As `flush`. Where the disk says no, the array stays open.
            SourceChangedError: The file was cut short while it was open: views may have shown zeros.
        """
        if self._closed:
            return
        try:
            self._check_whole()
            self._check_views()
            if self._fd >= 0 and self.mode == "r+":
                self._check_place("flush")
        except SourceChangedError:
            if self._undo is not None:
                self._undo.abandon()  # the old content of its pages is kept beside it
            self._let_go()
            raise
        except SinkError:
            if self._undo is not None:
                self._undo.roll_back()  # of the file that has no name any more; the log is not the new one's
            self._let_go()
            raise
        if self._fd >= 0:
            self.flush()
        self._let_go()

    def _let_go(self) -> None:
        self._closed = True
        self._private = None  # views that are left hold the mapping
        self._reading.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        expected = (SourceChangedError,) if isinstance(error, SourceChangedError) else ()
        cut_short = contextlib.suppress(*expected)
        with cut_short:  # it is the error that ended the block
            if error is not None and self.mode == "r+" and self._undo is not None and self._fd >= 0:
                self._check_whole()
                self._undo.roll_back()
        with cut_short:
            self.close()

    def __del__(self) -> None:
        if not self._closed:
            self.close()


def _pages(begin: int, end: int) -> tuple[int, int]:
    """The first byte of the pages of `[begin, end)`, and how many bytes they have."""
    first = begin - begin % system.GRANULARITY
    return first, -(-end // system.GRANULARITY) * system.GRANULARITY - first


def _split(key: Any, ndim: int) -> tuple[Any, tuple[Any, ...]]:
    """What a key says of the rows, and of the other dimensions."""
    parts = key if isinstance(key, tuple) else (key,)
    simple = all(isinstance(p, int | np.integer | slice) or p is Ellipsis for p in parts)
    if simple and Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts = (*parts[:at], *[slice(None)] * (ndim - len(parts) + 1), *parts[at + 1 :])
        parts = (*parts, ...)  # numpy gives an array then, not a scalar
    if simple or (len(parts) == 1 and parts[0] is not None):
        return (parts[0], parts[1:]) if parts else (slice(None), ())
    return None, parts  # numpy's business, over all rows


def _rows(key: Any, count: int) -> tuple[int, int, Any]:
    """The range of rows that a key touches, and the key within it."""
    if isinstance(key, int | np.integer) and not isinstance(key, bool | np.bool_):
        row = int(key) + (count if key < 0 else 0)
        if not 0 <= row < count:
            raise IndexError(f"row {key} is out of range: there are {count:,}")
        return row, row + 1, 0
    if isinstance(key, slice):
        begin, stop, step = key.indices(count)
        if step == 1:
            return begin, max(begin, stop), slice(None)
        rows = range(begin, stop, step)
        if not rows:
            return 0, 0, slice(None)
        low, high = min(rows[0], rows[-1]), max(rows[0], rows[-1])
        return low, high + 1, slice(None, None, step)
    chosen = np.asarray(key)
    if chosen.dtype == bool:
        if chosen.shape[:1] != (count,):
            raise IndexError(f"a mask of {chosen.shape} does not fit {count:,} rows")
        hits = np.flatnonzero(chosen.any(axis=tuple(range(1, chosen.ndim))))
        if not len(hits):
            return 0, 0, np.zeros((0, *chosen.shape[1:]), bool)
        return int(hits[0]), int(hits[-1]) + 1, chosen[hits[0] : hits[-1] + 1]
    if not np.issubdtype(chosen.dtype, np.integer) and chosen.size:
        raise IndexError(f"rows are chosen by numbers, slices or masks, not by {chosen.dtype}")
    chosen = np.where(chosen < 0, chosen + count, chosen).astype(np.int64)
    if not chosen.size:
        return 0, 0, chosen
    low, high = int(chosen.min()), int(chosen.max())
    if low < 0 or high >= count:
        raise IndexError(f"row {low if low < 0 else high} is out of range: there are {count:,}")
    return low, high + 1, chosen - low

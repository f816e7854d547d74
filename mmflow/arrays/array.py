"""Mapped arrays: one file as an array, npy or an image (`arrays.images`).

    a = create_array("a.npy", "float64", (10**9, 3))      preallocated: a full disk is an error now
    a = open_array("a.npy", "r+")
    a[10:20] = 1.5                                         in place: old pages go to the undo log first
    a.flush()                                              from here on the change counts, whatever happens
    c = open_array("a.npy", "c"); c[0] = 7                 private: the file is as it was
    c.changed_pages(); c.commit()                          just these pages, through the undo log

`r` and `r+` map the rows of each access, window by window, so an array may be larger than memory and address space. `c`
maps all of it once, since private pages live only as long as their mapping.

Threads may share an array. One at a time changes it, since a change has three steps (log the old pages, write the new
ones, delete the log) and there is one log. Reads wait for no writer, only while the file is opened or closed.

Invariant: with the undo log, a crash leaves the file as of the last `flush` or `commit`, which the next one to open it
finds. Changes count for the file at the path that was opened, while it is that file and whole; else `flush` and
`commit` refuse.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa

from mmflow.arrays.change import Change, is_being_changed, recover_dead_changes
from mmflow.arrays.holes import find_data_extents, write_at
from mmflow.arrays.layout import ArrayLayout
from mmflow.arrays.locks import lock_bytes
from mmflow.arrays.pages import find_changed_pages
from mmflow.arrays.undo import UndoLog
from mmflow.arrays.writers import OtherWriters
from mmflow.errors import ConfigError, SinkError, SourceChangedError
from mmflow.lazy import array_types as npt
from mmflow.mapping import Access, MappedFile
from mmflow.mapping.file import require_regular
from mmflow.mapping.system import system
from mmflow.mapping.system.forks import disown_in_children
from mmflow.mapping.system.huge import HugePages, advise_huge, check_huge_pages
from mmflow.sinks.commit.failpoints import failpoint
from mmflow.storage.os_errors import read_error, write_errors
from mmflow.usercode.tracebacks import PublicApi

__all__ = ["MappedArray", "Mode"]

Mode = Literal["r", "r+", "c"]
#: Reasons why a file that can be written can't be mapped for it; it is written with pwrite then.
_UNMAPPABLE = {
    errno.ENOMEM: "not enough address space or mappings left (RLIMIT_AS, vm.max_map_count)",
    errno.ENODEV: "its file system can't be mapped for writing",
    errno.EINVAL: "its file system doesn't allow this kind of mapping",
    errno.EACCES: "mapping it for writing is not permitted",
    errno.EPERM: "mapping it for writing is not permitted",
    errno.ENOTSUP: "its file system can't be mapped for writing",
    errno.EAGAIN: "too much memory is locked (RLIMIT_MEMLOCK)",
}
_Array = npt.NDArray[Any]


class MappedArray(PublicApi):
    """Array over the mapped pages of a file, from `open_array` or `open_image`.

    A context manager: an error in the block rolls back the changes that were not flushed.

    Attributes:
        path: File.
        mode: `r`, `r+` or `c`.
        dtype, shape: Type and shape of the array; rows are its first dimension.
        layout: Layout of its rows in the file.
        fallback: Reason why changes are written instead of mapped; "": they are mapped.
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
        self._make_locks()
        try:
            require_regular(path, os.stat(path).st_mode)  # opening a pipe would wait for a writer
        except OSError as error:
            raise read_error(path, error) from error
        self._real = os.path.realpath(path)  # logs lie beside the file, whatever name it is opened by
        recover_dead_changes(self._real, own)
        if mode == "r+" and is_being_changed(self._real):
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
        self._others = OtherWriters(self._real, system.granularity)
        self._open()
        disown_in_children(self)

    def _make_locks(self) -> None:
        # Reentrant, since an array may be collected anywhere. `_changing` is taken before `_files`.
        self._changing = threading.RLock()
        #: Held while descriptors are used, opened and closed: a closed number may be another file's at once.
        self._files = threading.RLock()

    def _open(self) -> None:
        self._undo: UndoLog | None = None
        self._private: mmap.mmap | None = None
        self._reading = MappedFile.open(self.path, access=self._access, live=True)
        self._closed = False
        if self.mode != "r":
            with write_errors(self.path, "open for writing"):
                self._fd = os.open(self.path, os.O_RDWR | system.open_flags)
            self._undo = UndoLog(self._real, self._fd, system.granularity) if self._keeps_old else None
        if self.mode == "c" and self.layout.end:
            with write_errors(self.path, "map"):
                self._private = system.map_writable(self._fd, 0, self.layout.end, private=True)

    def disown(self) -> None:
        """Leave changes, log and locks to the process that opened the array; a forked child only reads."""
        self._foreign = True
        self._make_locks()  # a thread that this process doesn't have may have held them
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
            SourceChangedError: The file was cut short.
            SourceError: Its file system can't say.
        """
        try:
            with self._files:
                size = os.fstat(self._reading.fd).st_size
        except OSError as error:
            raise read_error(self.path, error, "look at") from error
        if size < self.layout.end:
            raise SourceChangedError(
                f"{self.path} was cut short while it was open: it has {size:,} bytes, its rows end at "
                f"{self.layout.end:,}; views of rows beyond it show other content",
                path=self.path,
            )

    def _check_views(self) -> None:
        """Check that no view showed zeros instead of the file's content.

        Raises:
            SourceChangedError: The file was cut short, and grew back.
        """
        try:
            self._reading.check_windows()
        except SourceChangedError:
            # On a full tmpfs a hole gets no page to read from, and looks the same; its zeros are right.
            if shutil.disk_usage(self.path).free:
                raise

    def _check_place(self, what: str) -> None:
        """Check that the path still names the file that was opened.

        Raises:
            SinkError: Another file has taken its place, or it was deleted.
        """
        with write_errors(self.path, what):
            mine = os.fstat(self._fd)
            try:
                there = os.stat(self.path)
            except FileNotFoundError:
                there = None
        if there is None or not os.path.samestat(mine, there):
            happened = "it was deleted" if there is None else "another file has taken its place"
            raise SinkError(
                f"can't {what} {self.path}: {happened} since it was opened, so the changes made here are not in it; "
                "open it again, and change that",
                path=self.path,
            )

    # ---- reading ---------------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.layout.rows * self.layout.used_bytes

    @property
    def channels(self) -> str:
        """Meaning of the bytes of a BMP's pixel, as `BGR` or `BGRX` (X: none); "" for other arrays."""
        return self.layout.channels

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a single value has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"MappedArray({self.path!r}, {self.dtype}, {self.shape}, mode={self.mode!r})"

    def __getitem__(self, key: Any) -> Any:
        """Index as numpy does: a view of mapped memory, where numpy returns a view; writable with mode `c`.

        Raises:
            IndexError: The key is out of range.
            SourceChangedError: The file was cut short.
        """
        self._check_whole()
        private = self._private
        if private is not None:
            return self._all(private)[key]
        if self.layout.whole:
            return self._window(0, self.layout.rows)[key]
        begin, stop, inner = self._touched(key)
        return self._window(begin, stop)[inner]

    def _touched(self, key: Any) -> tuple[int, int, tuple[Any, ...]]:
        """Return the range of rows that a key touches, and the key within it."""
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
        """Convert to Arrow without a copy; two and more dimensions become fixed-size lists.

        Booleans, byte orders of other machines, and images whose rows are padded or bottom-up, are copied.

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
        """Map rows `[begin, stop)` for reading."""
        offset, end = self.layout.span(begin, max(begin, stop))
        if offset == end:
            return (
                self.layout.view_whole(b"")
                if self.layout.whole
                else self.layout.view(b"", max(0, stop - begin))
            )
        with self._files:
            window = self._reading.window(offset, end - offset, populate=False)
        if window.mapping is not None:
            advise_huge(window.mapping.address, window.mapping.length, self._huge)
        return (
            self.layout.view_whole(window.buffer)
            if self.layout.whole
            else self.layout.view(window.buffer, stop - begin)
        )

    def _all(self, mapping: mmap.mmap) -> _Array:
        if self.layout.whole:
            return self.layout.view_whole(mapping, self.layout.begin)
        return self.layout.view(mapping, self.layout.rows, self.layout.begin)

    def snapshot(self, key: Any = ...) -> _Array:
        """Copy `self[key]` while others write: each page is from before a change of it, or from after.

        (A view may show a half-written page.)

        Raises:
            SinkError: The file system, or the system (Windows), has no locks on ranges.
            IndexError: The key is out of range.
        """
        begin, stop, _ = self._touched(key)
        offset, end = self.layout.span(begin, max(begin, stop))
        if offset == end:
            return np.array(self[key])
        # Its own descriptor: threads that share one would release each other's locks.
        fd = self._reopen()
        try:
            with lock_bytes(fd, self.path, *_page_range(offset, end), shared=True):
                return np.array(self[key])
        finally:
            os.close(fd)

    def _reopen(self) -> int:
        """Open another descriptor of the file."""
        with self._files, write_errors(self.path, "lock"):
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
        """Yield ranges `[begin, stop)` of rows that are not all in holes of a sparse file, in the file's order.

        The other rows are zeros.
        """
        layout, size = self.layout, self.layout.row_bytes
        if not size or not layout.rows:
            return
        if layout.whole:
            yield 0, layout.rows
            return
        done = 0
        with self._files:
            extents = list(find_data_extents(self._reading.fd, layout.begin, layout.end))
        for first, last in extents:
            begin, stop = max(done, (first - layout.begin) // size), -(-(last - layout.begin) // size)
            if begin < stop:
                yield layout.in_file(begin, stop)
                done = stop

    # ---- writing ---------------------------------------------------------------------------------------

    def __setitem__(self, key: Any, value: Any) -> None:
        """Assign as numpy does.

        Raises:
            SinkError: The array is open for reading, the disk is full, another writer has changed a page of these rows
                and not flushed it, or the process that opened the array forked this one (except for `c`).
            SourceChangedError: The file was cut short.
            IndexError: The key is out of range.
        """
        if self.mode == "r":
            raise SinkError(f"{self.path} is open for reading; open it with mode r+ or c", path=self.path)
        with self._changing:
            self._change(key, value)

    def _change(self, key: Any, value: Any) -> None:
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
        # Before the first change: the value must fit, the old content be logged, and holes have space.
        probe = np.broadcast_to(np.empty((), self.dtype), (stop - begin, *self.shape[1:]))[inner]
        np.broadcast_to(np.asarray(value), np.shape(probe))
        with lock_bytes(self._fd, self.path, *_page_range(offset, end), needed=False):
            self._prepare_pages(offset, end)
            with self._writable(offset, end) as rows:
                self.layout.view(rows, stop - begin)[inner] = value
        failpoint("changed")

    def _prepare_pages(self, begin: int, end: int) -> None:
        """Prepare the bytes `[begin, end)`, whose pages are locked, for a change."""
        self._others.check(begin, end, self._undo)
        if self._undo is not None:
            self._undo.save(begin, end)
        with write_errors(self.path):
            system.preallocate(self._fd, begin, end - begin)

    @contextlib.contextmanager
    def _writable(self, offset: int, end: int) -> Iterator[_Array]:
        """Yield the bytes `[offset, end)` of the file for a change: mapped, or as a copy that is written back."""
        aligned = offset - offset % system.granularity
        try:
            mapping = system.map_writable(self._fd, aligned, end - aligned, private=False)
        except OSError as error:
            if error.errno not in _UNMAPPABLE:
                with write_errors(self.path, "map"):
                    raise
            self.fallback = f"mapping failed: {_UNMAPPABLE[error.errno]}"
        else:
            try:
                yield np.frombuffer(mapping, np.uint8, offset=offset - aligned, count=end - offset)
            finally:
                with write_errors(self.path):
                    system.flush_mapping(mapping)
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
        with write_errors(self.path):
            done = 0
            while done < len(copy):
                got = system.read_at(self._fd, view[done:], offset + done)
                if not got:
                    raise OSError(errno.EIO, "another process cut it short")
                done += got
            yield copy
            write_at(self._fd, view, offset)

    def flush(self) -> None:
        """Make all changes durable, so that they count. Does nothing with mode `r`; for `c` there is `commit`.

        Raises:
            SinkError: The disk fails (the undo log stays), another file has taken this one's place, it was deleted, or
                the process that opened the array forked this one.
            SourceChangedError: The file was cut short.
        """
        if self.mode != "r+":
            return
        with self._changing:
            self._check_owner("flush")
            self._check_whole()
            self._check_place("flush")
            with write_errors(self.path, "flush"):
                system.sync(self._fd)  # dirty mapped pages of the file, too
            failpoint("synced")
            if self._undo is not None:
                self._undo.clear()

    def roll_back(self) -> None:
        """Undo the changes since the last `flush` (`commit`).

        Raises:
            SinkError: There is no undo log (`r+` with `undo=False`).
        """
        with self._changing:
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
        """Discard the private pages, so that the file's show again."""
        assert self._private is not None
        with write_errors(self.path, "map"):
            self._private = system.discard_copies(self._private, self._fd)

    def changed_pages(self) -> npt.NDArray[np.int64]:
        """Return the numbers of pages that differ from the file, with mode `c`; empty with the others."""
        with self._changing:
            if self._private is None:
                return np.empty(0, np.int64)
            return find_changed_pages(self._private, self._fd, system.granularity)

    def commit(self, *, in_place: bool = True) -> int:
        """Write the changed pages of mode `c` to the file: all of them or, after a crash, none.

        Args:
            in_place: Whether to change the file itself, through the undo log. Else a changed copy (which shares blocks
                where the file system has reflinks) replaces it atomically: processes that have the file open go on
                reading the old one, which other names of it (hard links) keep, too. (Not on Windows.)

        Returns:
            The number of pages.

        Raises:
            SinkError: The mode is another one, the disk is full, or another process is changing the file; the file is
                unchanged.
        """
        with self._changing:
            return self._commit(in_place=in_place)

    def _commit(self, *, in_place: bool) -> int:
        if self._private is None:
            raise SinkError(
                f"{self.path}: commit is for mode c; r+ changes the file itself: flush()", path=self.path
            )
        self._check_owner("commit to")
        if not in_place and not system.deletes_open:
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
        page, end = system.granularity, self.layout.end
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
        if is_being_changed(self._real):
            raise SinkError(f"{self.path} is being changed by a run; wait for it", path=self.path)
        for begin, end in spans:
            with lock_bytes(self._fd, self.path, *_page_range(begin, end), needed=False):
                self._prepare_pages(begin, end)
        with memoryview(self._private) as view, write_errors(self.path):
            for begin, end in spans:
                with lock_bytes(self._fd, self.path, *_page_range(begin, end), needed=False):
                    write_at(self._fd, view[begin:end], begin)
                failpoint("changed")
            system.sync(self._fd)
        failpoint("synced")
        if self._undo is not None:
            self._undo.clear()

    def _commit_copy(self, spans: Sequence[tuple[int, int]]) -> None:
        assert self._private is not None
        with Change(self._real, in_place=False) as change, memoryview(self._private) as view:
            size = os.fstat(self._fd).st_size
            change.begin(size, overwrite=True, preallocate=False, like=self._real)
            change.write_seams({begin: view[begin:end] for begin, end in spans})
            change.commit()
        with self._files:
            self._release()
            self._open()

    # ---- ends ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Flush (`r+`), discard uncommitted changes (`c`), and close. Views stay valid. Idempotent.

        Raises:
            SinkError: As for `flush`. Where the disk fails, the array stays open.
            SourceChangedError: The file was cut short while it was open: views may have shown zeros.
        """
        with self._changing:
            if not self._closed:
                self._close()

    def _close(self) -> None:
        try:
            self._check_whole()
            self._check_views()
            if self._fd >= 0 and self.mode == "r+":
                self._check_place("flush")
        except SourceChangedError:
            if self._undo is not None:
                self._undo.abandon()  # the old content of its pages is kept beside it
            self._release()
            raise
        except SinkError:
            if self._undo is not None:
                self._undo.roll_back()  # the log is of the file that has no name any more, not of the new one
            self._release()
            raise
        if self._fd >= 0:
            self.flush()
        self._release()

    def _release(self) -> None:
        with self._files:
            self._closed = True
            self._private = None  # views hold the mapping
            self._reading.close()
            if self._fd >= 0:
                fd, self._fd = self._fd, -1  # it is closed whatever `close` says
                with write_errors(self.path, "close"):
                    os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        expected = (SourceChangedError,) if isinstance(error, SourceChangedError) else ()
        cut_short = contextlib.suppress(*expected)
        with cut_short, self._changing:  # it is the error that ended the block
            if error is not None and self.mode == "r+" and self._undo is not None and self._fd >= 0:
                self._check_whole()
                self._undo.roll_back()
        with cut_short:
            self.close()

    def __del__(self) -> None:
        if not self._closed:
            self.close()


def _page_range(begin: int, end: int) -> tuple[int, int]:
    """Return the first byte of the pages of `[begin, end)`, and their length in bytes."""
    first = begin - begin % system.granularity
    return first, -(-end // system.granularity) * system.granularity - first


def _split(key: Any, ndim: int) -> tuple[Any, tuple[Any, ...]]:
    """Split a key into its part for the rows, and those for the other dimensions."""
    parts = key if isinstance(key, tuple) else (key,)
    simple = all(isinstance(p, int | np.integer | slice) or p is Ellipsis for p in parts)
    if simple and Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts = (*parts[:at], *[slice(None)] * (ndim - len(parts) + 1), *parts[at + 1 :])
        parts = (*parts, ...)  # numpy returns an array then, not a scalar
    if simple or (len(parts) == 1 and parts[0] is not None):
        return (parts[0], parts[1:]) if parts else (slice(None), ())
    return None, parts  # numpy indexes all rows


def _rows(key: Any, count: int) -> tuple[int, int, Any]:
    """Return the range of rows that a key touches, and the key within it."""
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

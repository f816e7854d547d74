"""One npy file as an array.

    a = create_array("a.npy", "float64", (10**9, 3))      preallocated: a full disk is an error now, not later
    a = open_array("a.npy", "r+")
    a[10:20] = 1.5                                         in place: old pages go to the undo log first
    a.flush()                                              from here on the change counts, whatever happens
    c = open_array("a.npy", "c"); c[0] = 7                 private: the file is as it was
    c.changed_pages(); c.commit()                          just these pages, through the undo log

`r` and `r+` map what is asked for, window by window, so an array may be larger than memory and address space. `c` maps
all of it once, since private pages live as long as their mapping does.

Invariant: with the undo log, whoever opens the file after a crash finds it as of the last `flush` or `commit`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmflow.arrays.failures import writing
from mmflow.arrays.header import ArrayHeader, header_bytes, read_array_header
from mmflow.arrays.pages import changed
from mmflow.arrays.undo import UndoLog, roll_back_dead
from mmflow.errors import ConfigError, SinkError
from mmflow.mapping import MappedFile
from mmflow.sinks.checkpoints import checkpoint

__all__ = ["MappedArray", "create_array", "open_array"]

Mode = Literal["r", "r+", "c"]
_Array = npt.NDArray[Any]
_PAGE = mmap.ALLOCATIONGRANULARITY


def create_array(
    path: str | os.PathLike[str],
    dtype: npt.DTypeLike,
    shape: int | Sequence[int],
    *,
    sparse: bool = False,
    overwrite: bool = False,
    undo: bool = True,
) -> MappedArray:
    """Make an npy file of zeros, and open it for writing.

    Args:
        path: The file.
        dtype: Of its elements; no Python objects.
        shape: Rows first.
        sparse: Take no room until something is written; else all of it now.
        overwrite: Replace a file that is there.
        undo: See `open_array`.

    Raises:
        SinkError: The file exists, or there is no room, or no permission.
        ConfigError: A dtype or shape that can't be.
    """
    name = os.fspath(path)
    try:
        kind = np.dtype(dtype)
        sizes = (int(shape),) if isinstance(shape, int) else tuple(int(n) for n in shape)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"create_array: {error}") from error
    if kind.hasobject or kind.itemsize == 0:
        raise ConfigError(
            f"create_array: elements of {kind} have no bytes of their own; choose a plain dtype"
        )
    if not sizes or any(n < 0 for n in sizes):
        raise ConfigError(f"create_array: shape {sizes} must have at least one dimension, and none below 0")
    head = header_bytes(kind, sizes, _PAGE)
    size = len(head) + kind.itemsize * int(np.prod(sizes, dtype=object))
    unfinished = f"{name}.mmflow-{os.getpid()}.part"
    with writing(name, "make"):
        if not overwrite and os.path.lexists(name):
            raise FileExistsError
        fd = os.open(unfinished, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            os.write(fd, head)
            os.ftruncate(fd, size)
            if not sparse:
                os.posix_fallocate(fd, 0, size)
            os.fsync(fd)
            if overwrite:
                os.replace(unfinished, name)
            else:
                os.link(unfinished, name)
                os.unlink(unfinished)
        except BaseException:
            os.unlink(unfinished)
            raise
        finally:
            os.close(fd)
    return MappedArray(name, "r+", undo=undo)


def open_array(path: str | os.PathLike[str], mode: Mode = "r", *, undo: bool = True) -> MappedArray:
    """Open an npy file as an array.

    Args:
        path: The file.
        mode: `r`: read. `r+`: change the file in place. `c`: change it in private (copy on write).
        undo: Keep the old content of changed pages until `flush` (`commit`), so that a crash changes nothing; without,
            changes are quicker, and a crash leaves some of them.

    Raises:
        SourceError: Missing, no npy file, damaged, or not accessible.
        SinkError: A writer died in the middle of a change, and its pages can't be put back.
        ConfigError: Another mode.
    """
    return MappedArray(os.fspath(path), mode, undo=undo)


class MappedArray:
    """An array over the mapped pages of an npy file; see `open_array`. A context manager: an error in the block rolls
    back what was not flushed.

    Attributes:
        path: The file.
        mode: `r`, `r+` or `c`.
        dtype, shape: Of the array; rows are its first dimension.
    """

    def __init__(self, path: str, mode: Mode, *, undo: bool) -> None:
        if mode not in ("r", "r+", "c"):
            raise ConfigError(f"open_array: mode {mode!r} must be r, r+ or c")
        self.path = path
        self.mode = mode
        roll_back_dead(path)
        self._header: ArrayHeader = read_array_header(path)
        self.dtype, self.shape = self._header.dtype, self._header.shape
        self._fd = -1
        self._undo: UndoLog | None = None
        self._private: mmap.mmap | None = None
        self._reading = MappedFile.open(path)
        if mode != "r":
            with writing(path, "open for writing"):
                self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            self._undo = UndoLog(path, self._fd, _PAGE) if undo else None
        if mode == "c" and self._header.end:
            with writing(path, "map"):
                flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
                self._private = mmap.mmap(self._fd, self._header.end, flags, mmap.PROT_READ | mmap.PROT_WRITE)

    # ---- reading ---------------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self._header.end - self._header.begin

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"MappedArray({self.path!r}, {self.dtype}, {self.shape}, mode={self.mode!r})"

    def __getitem__(self, key: Any) -> Any:
        """As numpy has it: a view of mapped memory, where numpy gives a view. Of `c` it may be written to.

        Raises:
            IndexError: Out of range.
            SourceChangedError: The file was cut short.
        """
        if self._private is not None:
            return self._all(self._private)[key]
        begin, stop, inner = self._touched(key)
        return self._window(begin, stop)[inner]

    def _touched(self, key: Any) -> tuple[int, int, tuple[Any, ...]]:
        """The range of rows that a key touches, and the key within it."""
        first, rest = _split(key, self.ndim)
        if first is None:
            return 0, len(self), rest
        begin, stop, inner = _rows(first, len(self))
        return begin, stop, (inner, *rest)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> _Array:
        return np.asarray(self[...], dtype=dtype)

    def to_arrow(self) -> pa.Array:
        """The array as Arrow, without a copy (booleans, and byte orders of other machines, are copied); of two and more
        dimensions as fixed-size lists.

        Raises:
            ConfigError: Arrow has no such type.
        """
        array = np.asarray(self[...])
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        try:
            made = pa.array(array.reshape(-1))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ConfigError(f"{self.path}: Arrow has no type for {self.dtype}: {error}") from error
        for count in reversed(self.shape[1:]):
            made = pa.FixedSizeListArray.from_arrays(made, count)
        return made

    def _window(self, begin: int, stop: int) -> _Array:
        """Rows `[begin, stop)`, mapped for reading."""
        shape = (max(0, stop - begin), *self.shape[1:])
        offset = self._header.begin + begin * self._header.row_bytes
        length = shape[0] * self._header.row_bytes
        if length == 0:
            return np.empty(shape, self.dtype)
        if self.mode == "r":
            self._reading.check_unchanged()
        window = self._reading.window(offset, length, populate=False)
        return np.frombuffer(window.buffer, self.dtype).reshape(shape, order="C")

    def _all(self, mapping: mmap.mmap) -> _Array:
        flat = np.frombuffer(mapping, self.dtype, offset=self._header.begin)
        return flat.reshape(self.shape)

    # ---- writing ---------------------------------------------------------------------------------------

    def __setitem__(self, key: Any, value: Any) -> None:
        """As numpy has it.

        Raises:
            SinkError: The array is open for reading, or there is no room.
            IndexError: Out of range.
        """
        if self.mode == "r":
            raise SinkError(f"{self.path} is open for reading; open it with mode r+ or c", path=self.path)
        if self._private is not None:
            self._all(self._private)[key] = value
            return
        begin, stop, inner = self._touched(key)
        if stop <= begin or self.nbytes == 0:
            np.empty((max(0, stop - begin), *self.shape[1:]), self.dtype)[inner] = value  # numpy's errors
            return
        offset = self._header.begin + begin * self._header.row_bytes
        end = self._header.begin + stop * self._header.row_bytes
        # Before anything is touched: does the value fit, is there room in a hole, is the old content safe?
        probe = np.broadcast_to(np.empty((), self.dtype), (stop - begin, *self.shape[1:]))[inner]
        np.broadcast_to(np.asarray(value), np.shape(probe))
        with writing(self.path):
            os.posix_fallocate(self._fd, offset, end - offset)
        if self._undo is not None:
            self._undo.save(offset, end)
        aligned = offset - offset % _PAGE
        with writing(self.path, "map"):
            mapping = mmap.mmap(
                self._fd, end - aligned, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=aligned
            )
        flat = np.frombuffer(mapping, np.uint8, offset=offset - aligned, count=end - offset)
        flat.view(self.dtype).reshape(stop - begin, *self.shape[1:])[inner] = value
        checkpoint("changed")

    def flush(self) -> None:
        """Make all changes durable: from here on they count. Does nothing in `r`; `c` has `commit`.

        Raises:
            SinkError: The disk says no; the undo log stays.
        """
        if self.mode == "r+":
            with writing(self.path, "flush"):
                os.fsync(self._fd)  # dirty mapped pages of the file, too
            checkpoint("synced")
            if self._undo is not None:
                self._undo.clear()

    def roll_back(self) -> None:
        """Undo what was changed since the last `flush` (`commit`).

        Raises:
            SinkError: There is no undo log (`r+` with `undo=False`).
        """
        if self._private is not None:
            self._private.madvise(mmap.MADV_DONTNEED)  # the file's pages show again
        elif self.mode == "r+":
            if self._undo is None:
                raise SinkError(
                    f"{self.path} was opened without an undo log: its changes stay", path=self.path
                )
            self._undo.roll_back()

    def changed_pages(self) -> npt.NDArray[np.int64]:
        """Numbers of the file's pages that differ from the file, of mode `c`; none of the others."""
        if self._private is None:
            return np.empty(0, np.int64)
        return changed(self._private, self._fd, _PAGE)

    def commit(self) -> int:
        """Write the changed pages of mode `c` to the file: all or, after a crash, none.

        Returns:
            How many they were.

        Raises:
            SinkError: Another mode, or no room; the file is as it was.
        """
        if self._private is None:
            raise SinkError(
                f"{self.path}: commit is for mode c; r+ changes the file itself: flush()", path=self.path
            )
        pages = self.changed_pages()
        if not len(pages):
            return 0
        runs = np.split(pages, np.flatnonzero(np.diff(pages) != 1) + 1)
        spans = [(int(r[0]) * _PAGE, min((int(r[-1]) + 1) * _PAGE, self._header.end)) for r in runs]
        for begin, end in spans:
            with writing(self.path):
                os.posix_fallocate(self._fd, begin, end - begin)
            if self._undo is not None:
                self._undo.save(begin, end)
        with memoryview(self._private) as view, writing(self.path):
            for begin, end in spans:
                while begin < end:
                    begin += os.pwrite(self._fd, view[begin:end], begin)
                checkpoint("changed")
            os.fsync(self._fd)
        checkpoint("synced")
        if self._undo is not None:
            self._undo.clear()
        self._private.madvise(mmap.MADV_DONTNEED)
        return len(pages)

    # ---- ends ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Flush (`r+`), drop what was not committed (`c`), and close. Views that were taken stay valid. Idempotent."""
        if self._fd >= 0:
            self.flush()
        self._let_go()

    def _let_go(self) -> None:
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
        if error is not None and self.mode == "r+" and self._undo is not None and self._fd >= 0:
            self._undo.roll_back()
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


def _split(key: Any, ndim: int) -> tuple[Any, tuple[Any, ...]]:
    """What a key says of the rows, and of the other dimensions."""
    parts = key if isinstance(key, tuple) else (key,)
    simple = all(isinstance(p, int | np.integer | slice) or p is Ellipsis for p in parts)
    if simple and Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts = (*parts[:at], *[slice(None)] * (ndim - len(parts) + 1), *parts[at + 1 :])
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

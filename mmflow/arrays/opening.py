"""Creating and opening arrays: npy files and images."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmflow.arrays.array import MappedArray, Mode
from mmflow.arrays.header import build_header, read_npy_layout
from mmflow.arrays.images import build_raw_layout, read_bmp_layout
from mmflow.arrays.layout import ArrayLayout
from mmflow.errors import ConfigError
from mmflow.lazy import array_types as npt
from mmflow.mapping import Access
from mmflow.mapping.answering import check_answers
from mmflow.mapping.system import system
from mmflow.mapping.system.huge import HugePages, check_huge_pages
from mmflow.mapping.system.owner_lock import drop_unowned, open_held, try_lock
from mmflow.sinks.commit.atomic import fsync_folder, rename_new
from mmflow.storage import disk
from mmflow.storage.os_errors import write_errors
from mmflow.usercode.tracebacks import public

__all__ = ["create_array", "open_array", "open_image"]

_MAX_BYTES = (1 << 63) - 1


@public
def create_array(
    path: str | os.PathLike[str],
    dtype: npt.DTypeLike,
    shape: int | Sequence[int],
    *,
    sparse: bool = False,
    overwrite: bool = False,
    undo: bool = True,
    access: Access = "any",
    huge_pages: HugePages = "auto",
) -> MappedArray:
    """Create an npy file of zeros, and open it for writing.

    Parameters
    ----------
    path
        File.
    dtype
        Type of the elements; no Python objects.
    shape
        Shape, rows first.
    sparse
        Whether the file takes space only where it is written. Else all of it is reserved now.
    overwrite
        Whether to replace an existing file.
    undo, access, huge_pages
        As for `open_array`.

    Returns
    -------
    MappedArray
        Array of zeros of this shape, opened with mode `r+`.

    Raises
    ------
    SinkError
        The file exists, the disk is full, or there is no permission.
    ConfigError
        The dtype, shape, access or huge_pages is invalid.

    Examples
    --------
    >>> import mmflow as mf
    >>> with mf.create_array("a.npy", "int32", (3, 2)) as array:
    ...     array[0] = [1, 2]
    >>> mf.open_array("a.npy")[0]
    array([1, 2], dtype=int32)
    """
    check_huge_pages(huge_pages)
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
    head = build_header(kind, sizes)
    size = len(head) + kind.itemsize * math.prod(sizes)
    if size > _MAX_BYTES:
        raise ConfigError(
            f"create_array: {kind} of shape {sizes} takes {size:,} bytes; a file holds at most {_MAX_BYTES:,}"
        )
    with write_errors(name, "make"):
        if not overwrite and os.path.lexists(name):
            raise FileExistsError
        _remove_unfinished(name)
        unfinished, fd = _begin(name)
        with contextlib.ExitStack() as open_file:
            open_file.callback(disk.close, fd)
            try:
                disk.write_all(fd, head)
                disk.ftruncate(fd, size)
                if not sparse:
                    system.preallocate(fd, 0, size)
                system.sync(fd)
                if not system.deletes_open:
                    open_file.close()  # nor does it rename such a file
                if overwrite:
                    disk.replace(unfinished, name)
                else:
                    rename_new(Path(unfinished), Path(name))
            except BaseException:
                open_file.close()
                with contextlib.suppress(FileNotFoundError):  # nobody holds its lock any more
                    disk.unlink(unfinished)
                raise
        # What is flushed is durable, and so must be the name that it is found by.
        fsync_folder(Path(name).parent)
    return open_array(name, "r+", undo=undo, access=access, huge_pages=huge_pages)


def _begin(name: str) -> tuple[str, int]:
    """Make a file beside an array's, locked while this process makes the array of it; return name and descriptor."""

    def take(fd: int) -> None:
        with contextlib.suppress(OSError):  # where there are no locks, nobody removes it
            held.append(try_lock(fd))

    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | system.open_flags
    while True:
        held: list[bool] = []
        path = os.fspath(_unfinished(name, os.urandom(6).hex()))
        fd = open_held(path, flags, 0o666, take)
        if fd is not None and False not in held:
            return path, fd
        if fd is not None:  # whoever has just locked it removes it
            disk.close(fd)


def _unfinished(name: str, maker: str) -> Path:
    path = Path(name)
    return path.parent / f".{path.name}.mmflow-new-{maker}"


def _remove_unfinished(name: str) -> None:
    """Remove the files that processes have left that died as they made this array: they may be as large as it."""
    beside = _unfinished(name, "")
    with contextlib.suppress(OSError):
        for found in os.listdir(beside.parent):
            if found.startswith(beside.name):
                with contextlib.suppress(OSError):
                    drop_unowned(beside.parent / found)


@public
def open_array(
    path: str | os.PathLike[str],
    mode: Mode = "r",
    *,
    undo: bool = True,
    access: Access = "any",
    huge_pages: HugePages = "auto",
) -> MappedArray:
    """Open an npy file as an array.

    Parameters
    ----------
    path
        File.
    mode
        `r`: read. `r+`: change the file in place. `c`: change a private copy (copy on write).
    undo
        Whether to log the old content of changed pages until `flush` (`commit`), so that a crash changes nothing.
        Without the log, changes are faster, and a crash leaves some of them.
    access
        Order of reads: `sequential` (large readahead), `random` (none), or `any` (the system decides).
    huge_pages
        Use of huge pages for reads. `auto`: the system decides; `on`: the first touch of a page reads a whole huge one;
        `off`: never. docs/mapping.md has measurements.

    Returns
    -------
    MappedArray
        Array over the mapped file. Nothing is read before it is indexed.

    Raises
    ------
    SourceError
        The file is missing, no npy file, damaged, or not accessible.
    SinkError
        A writer died during a change, and its pages can't be restored.
    ConfigError
        The mode, access or huge_pages is invalid.

    Examples
    --------
    >>> import mmflow as mf
    >>> import numpy as np
    >>> np.save("a.npy", np.arange(6).reshape(3, 2))
    >>> mf.open_array("a.npy")[1:]
    array([[2, 3],
           [4, 5]])
    """
    check_answers([os.fspath(path)])
    return MappedArray(
        os.fspath(path), mode, read_npy_layout, undo=undo, access=access, huge_pages=huge_pages
    )


@public
def open_image(
    path: str | os.PathLike[str],
    mode: Mode = "r",
    *,
    undo: bool = True,
    access: Access = "any",
    huge_pages: HugePages = "auto",
    shape: Sequence[int] | None = None,
    dtype: npt.DTypeLike = "u1",
    offset: int = 0,
    row_bytes: int | None = None,
    bottom_up: bool = False,
) -> MappedArray:
    """Open an image as an array of pixels, the top row first.

    Parameters
    ----------
    path
        Uncompressed BMP file of 24 or 32 bits a pixel. With `shape`, any file.
    mode, undo, access, huge_pages
        As for `open_array`.
    shape
        Shape of a raster without a header, rows first.
    dtype
        Type of its elements.
    offset
        Offset of the first row in the file, in bytes.
    row_bytes
        Distance from one row to the next, in bytes. By default rows have no padding.
    bottom_up
        Whether the bottom row comes first in the file.

    Returns
    -------
    MappedArray
        Pixels of the BMP, shape (height, width, channels), bytes whose meaning `channels` gives; or the raster.

    Raises
    ------
    SourceError
        The file is missing, not such a BMP (compressed, with a palette), damaged, cut short, or not accessible.
    SinkError
        A writer died during a change, and its pages can't be restored.
    ConfigError
        The mode is invalid, or the raster impossible.

    Examples
    --------
    >>> from pathlib import Path
    >>> import mmflow as mf
    >>> _ = Path("gray.raw").write_bytes(bytes(range(6)))
    >>> mf.open_image("gray.raw", shape=(2, 3))[1]
    array([3, 4, 5], dtype=uint8)
    """

    def layout(name: str) -> ArrayLayout:
        if shape is None:
            return read_bmp_layout(name)
        return build_raw_layout(name, shape, dtype, offset=offset, row_bytes=row_bytes, bottom_up=bottom_up)

    check_answers([os.fspath(path)])
    return MappedArray(os.fspath(path), mode, layout, undo=undo, access=access, huge_pages=huge_pages)

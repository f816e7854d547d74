"""How arrays come to be: made, or opened, as npy files or images."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmflow.arrays.array import MappedArray, Mode
from mmflow.arrays.failures import writing
from mmflow.arrays.header import header_bytes, read_npy_layout
from mmflow.arrays.images import raw_layout, read_bmp_layout
from mmflow.arrays.layout import ArrayLayout
from mmflow.errors import ConfigError
from mmflow.mapping import Access
from mmflow.mapping.huge import HugePages, check_huge_pages
from mmflow.mapping.system import system
from mmflow.sinks.atomic import rename_new

__all__ = ["create_array", "open_array", "open_image"]

_MOST_BYTES = (1 << 63) - 1


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
    """Make an npy file of zeros, and open it for writing.

    Args:
        path: The file.
        dtype: Of its elements; no Python objects.
        shape: Rows first.
        sparse: Take no room until something is written; else all of it now.
        overwrite: Replace a file that is there.
        undo, access, huge_pages: See `open_array`.

    Raises:
        SinkError: The file exists, or there is no room, or no permission.
        ConfigError: A dtype or shape that can't be, or another access or huge_pages.
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
    head = header_bytes(kind, sizes)
    size = len(head) + kind.itemsize * math.prod(sizes)
    if size > _MOST_BYTES:
        raise ConfigError(
            f"create_array: {kind} of shape {sizes} takes {size:,} bytes; a file holds at most {_MOST_BYTES:,}"
        )
    unfinished = f"{name}.mmflow-{os.getpid()}.part"
    with writing(name, "make"):
        if not overwrite and os.path.lexists(name):
            raise FileExistsError
        fd = os.open(unfinished, os.O_CREAT | os.O_TRUNC | os.O_RDWR | system.OPEN_FLAGS, 0o666)
        try:
            try:
                os.write(fd, head)
                os.ftruncate(fd, size)
                if not sparse:
                    system.preallocate(fd, 0, size)
                system.sync(fd)
            finally:
                os.close(fd)
            if overwrite:
                os.replace(unfinished, name)
            else:
                rename_new(Path(unfinished), Path(name))
        except BaseException:
            os.unlink(unfinished)
            raise
    return open_array(name, "r+", undo=undo, access=access, huge_pages=huge_pages)


def open_array(
    path: str | os.PathLike[str],
    mode: Mode = "r",
    *,
    undo: bool = True,
    access: Access = "any",
    huge_pages: HugePages = "auto",
) -> MappedArray:
    """Open an npy file as an array.

    Args:
        path: The file.
        mode: `r`: read. `r+`: change the file in place. `c`: change it in private (copy on write).
        undo: Keep the old content of changed pages until `flush` (`commit`), so that a crash changes nothing; without,
            changes are quicker, and a crash leaves some of them.
        access: How it will be read: in `sequential` order (large readahead), `random` (none), or `any` (the system
            judges by what it sees).
        huge_pages: May pages of what is read be huge? `auto`: as the system has it; `on`: a touch of what is not in
            memory reads a whole one; `off`. docs/mapping.md says what each gives.

    Raises:
        SourceError: Missing, no npy file, damaged, or not accessible.
        SinkError: A writer died in the middle of a change, and its pages can't be put back.
        ConfigError: Another mode, access or huge_pages.
    """
    return MappedArray(
        os.fspath(path), mode, read_npy_layout, undo=undo, access=access, huge_pages=huge_pages
    )


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

    Args:
        path: An uncompressed BMP file of 24 or 32 bits a pixel: an array of (height, width, channels) bytes, of which
            `channels` says what they are. With `shape`, any file.
        mode: As of `open_array`.
        undo, access, huge_pages: As of `open_array`.
        shape: Of a raster without a header: rows first.
        dtype: Of its elements.
        offset: Byte offset of the row that lies first.
        row_bytes: From one row to the next; None: rows have no padding.
        bottom_up: The bottom row lies first.

    Raises:
        SourceError: Missing, no such BMP (compressed, of a palette), damaged, cut short, or not accessible.
        SinkError: A writer died in the middle of a change, and its pages can't be put back.
        ConfigError: Another mode, or a raster that can't be.
    """

    def layout(name: str) -> ArrayLayout:
        if shape is None:
            return read_bmp_layout(name)
        return raw_layout(name, shape, dtype, offset=offset, row_bytes=row_bytes, bottom_up=bottom_up)

    return MappedArray(os.fspath(path), mode, layout, undo=undo, access=access, huge_pages=huge_pages)

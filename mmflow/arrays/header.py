"""Headers of npy files for arrays: any number of dimensions, and data that begins at a multiple of 4 KiB.

That is a page of most systems; where pages are larger, the data still begins there, since numpy reads no header of more
than 10,000 bytes. Files are the same on every system. They are version 2 of the format, whose header may be
that long; numpy reads it like any other.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np
from numpy.lib import format as npy

from mmflow.arrays.layout import ArrayLayout, packed_row_bytes
from mmflow.errors import SourceError
from mmflow.formats.npy.header import NpyError, parse_header
from mmflow.storage.os_errors import read_error

__all__ = ["build_header", "read_npy_layout"]

_UNIT = 4096


def build_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return a header whose length is a multiple of 4 KiB."""
    fields = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    text = repr(fields).encode("latin1")
    head = npy.magic(2, 0)
    used = len(head) + 4 + len(text) + 1
    text += b" " * (-used % _UNIT) + b"\n"
    return head + struct.pack("<I", len(text)) + text


def read_npy_layout(path: str) -> ArrayLayout:
    """Read the layout of an npy file, and check that the file has all bytes that its header promises.

    Raises:
        SourceError: The file is missing, not npy, damaged, cut short, or holds Python objects.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            found = parse_header(read, size)
    except OSError as error:
        raise read_error(path, error) from error
    except NpyError as error:
        raise SourceError(f"{path} is no npy file that can be mapped: {error}", path=path) from error
    dtype, shape = found.dtype, found.shape
    if dtype.hasobject:
        raise SourceError(f"{path} holds Python objects, which are never unpickled here", path=path)
    layout = ArrayLayout(
        "npy",
        dtype,
        shape,
        found.begin,
        packed_row_bytes(dtype, shape),
        fortran=found.fortran and len(shape) > 1,
    )
    if size < layout.end:
        raise SourceError(
            f"{path} is cut short: it has {size:,} bytes, and its header promises {layout.end:,}", path=path
        )
    return layout

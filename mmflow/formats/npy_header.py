"""Headers of npy files, versions 1 to 3: what the array is, without ever unpickling.

\\x93NUMPY | version (2 bytes) | length of the header (2 bytes, from version 2 on 4) | header | data
header: {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmflow.errors import SourceError
from mmflow.mapping import MappedFile

__all__ = ["NpyHeader", "read_header"]

_MAGIC = b"\x93NUMPY"
#: A header longer than this is damaged, not long: thousands of fields take less.
#: Bytes behind the array that are looked at: zeros are padding, anything else is data that nobody would read.
_PADDING = 4096
_MOST = 4 << 20


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """An array in a file.

    Attributes:
        dtype: Of its elements.
        shape: One or two dimensions.
        fortran: Columns are contiguous, not rows (two dimensions only).
        begin: Byte offset of the data.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    begin: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * (self.shape[1] if len(self.shape) == 2 else 1)

    @property
    def end(self) -> int:
        """Byte offset behind the data."""
        return self.begin + self.shape[0] * self.row_bytes


def read_header(file: MappedFile) -> NpyHeader:
    """The header of a file, checked: the file has all the bytes that it promises.

    Raises:
        SourceError: Not npy, damaged, cut short, of objects, or of dimensions that are no table.
    """
    begin, text = _text(file)
    try:
        header = ast.literal_eval(text)
        order, shape = header["fortran_order"], header["shape"]
        dtype = np.lib.format.descr_to_dtype(header["descr"])
    except (ValueError, SyntaxError, TypeError, KeyError, IndexError, RecursionError, MemoryError) as error:
        raise _damaged(file, f"its header makes no sense ({error})") from error
    if not isinstance(order, bool) or not isinstance(shape, tuple):
        raise _damaged(file, "its header makes no sense")
    if any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for n in shape):
        raise _damaged(file, f"its shape is {shape!r}")
    if dtype.hasobject:
        raise _unfit(file, "it holds Python objects, which only unpickling could read, and that runs code")
    if len(shape) not in (1, 2):
        raise _unfit(file, f"it has {len(shape)} dimensions {shape}; one or two are a table: reshape it")
    if dtype.names is not None and len(shape) == 2:
        raise _unfit(file, "it is structured and has two dimensions; flatten it")
    made = NpyHeader(dtype, shape, order and len(shape) == 2, begin)
    if made.row_bytes == 0:
        raise _unfit(file, "its rows have no bytes")
    if made.end > file.size:
        raise _damaged(
            file,
            f"its header promises {shape[0]:,} rows up to byte {made.end:,}, and it ends at {file.size:,}",
        )
    if made.end < file.size and any(file.window(made.end, _PADDING).buffer.to_pybytes()):
        raise _unfit(
            file,
            f"{file.size - made.end:,} bytes follow its {shape[0]:,} rows; does it hold several arrays? "
            "Write each to a file of its own",
        )
    return made


def _text(file: MappedFile) -> tuple[int, str]:
    """Where the data begins, and the header's text."""
    start = file.window(0, 12).buffer.to_pybytes()
    if not start.startswith(_MAGIC):
        hint = "; it is an npz archive: unpack it and read its npy files" if start.startswith(b"PK") else ""
        raise SourceError(f"can't read {file.path}: it is not an npy file{hint}", path=file.path)
    if len(start) < 12:
        raise _damaged(file, "it ends inside its header")
    version = start[6]
    if version not in (1, 2, 3):
        raise _unfit(file, f"it is of npy version {version}, and 1 to 3 are known")
    prefix = 10 if version == 1 else 12
    length = int.from_bytes(start[8:prefix], "little")
    if length > _MOST or prefix + length > file.size:
        raise _damaged(file, f"its header would be {length:,} bytes long")
    raw = file.window(prefix, length).buffer.to_pybytes()
    try:
        return prefix + length, raw.decode("utf-8" if version == 3 else "latin-1")
    except UnicodeDecodeError as error:
        raise _damaged(file, f"its header makes no sense ({error})") from error


def _damaged(file: MappedFile, what: str) -> SourceError:
    return SourceError(
        f"can't read {file.path}: {what}; the file is damaged or was cut short, write it again",
        path=file.path,
    )


def _unfit(file: MappedFile, what: str) -> SourceError:
    return SourceError(f"can't read {file.path}: {what}", path=file.path)

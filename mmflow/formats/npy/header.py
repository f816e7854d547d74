"""Headers of npy files, versions 1 to 3: dtype, shape and order of the array, without ever unpickling.

\\x93NUMPY | version (2 bytes) | length of the header (2 bytes, from version 2 on 4) | header | data
header: {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.compression import detect_compression
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = ["ArrayBytes", "NpyError", "NpyHeader", "parse_header", "read_header"]

_MAGIC = b"\x93NUMPY"
_KEYS = {"descr", "fortran_order", "shape"}
_LONG = lazy_regex(r"(\d)L\b")
#: Bytes behind the array that are looked at: zeros are padding, anything else is data that nobody would read.
_PADDING = 4096
#: A header longer than this is damaged, not long: thousands of fields take less.
_MOST = 4 << 20


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """Header of an array.

    Attributes:
        dtype: Data type of its elements.
        shape: Shape of the array; () is a single value.
        fortran: The first index runs first in the file (two dimensions: columns are contiguous, not rows).
        begin: Byte offset of the data.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    begin: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def end(self) -> int:
        """Byte offset behind the data."""
        return self.begin + self.dtype.itemsize * math.prod(self.shape)


class _Piece(Protocol):
    @property
    def buffer(self) -> pa.Buffer: ...


class ArrayBytes(Protocol):
    """Bytes of an array: a file, or what was compressed in an archive.

    Attributes:
        path: Path for messages.
        size: Number of bytes.
    """

    @property
    def path(self) -> str: ...

    @property
    def size(self) -> int: ...

    def window(self, offset: int, length: int) -> _Piece:
        """Return bytes from an offset on, as many as there are."""
        ...

    def window_sizes(self, most: int) -> Iterator[int]:
        """Return sizes of the windows in which they are best read."""
        ...

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Begin to fetch ranges that will be read."""
        ...

    def evict_behind(self, offset: int, length: int) -> None:
        """Give back what was read."""
        ...


class NpyError(ValueError):
    """Error for a header that numpy does not take, with its reason. `damaged`: a whole file would have another."""

    def __init__(self, reason: str, *, damaged: bool = True) -> None:
        super().__init__(reason)
        self.damaged = damaged


def parse_header(read: Callable[[int, int], bytes], size: int) -> NpyHeader:
    """Parse the header of an npy file; takes what numpy takes, and refuses what it refuses.

    Args:
        read: Gives bytes of the file, by offset and length.
        size: Size of the file, in bytes.

    Raises:
        NpyError: It is no header.
    """
    start = read(0, min(12, size))
    if not start.startswith(_MAGIC):
        hint = "; it is an npz archive, which is read by read_npy only" if start.startswith(b"PK") else ""
        compression = detect_compression(start, "")
        if compression is not None and not hint:
            hint = f"; it is compressed by {compression}: decompress it, and read that"
        raise NpyError(f"it is not an npy file{hint}", damaged=False)
    if len(start) < 12:
        raise NpyError("it ends inside its header")
    version = (start[6], start[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise NpyError(
            f"it is of npy version {version[0]}.{version[1]}, and 1.0, 2.0 and 3.0 are known", damaged=False
        )
    prefix = 10 if version[0] == 1 else 12
    length = int.from_bytes(start[8:prefix], "little")
    if length > _MOST or prefix + length > size:
        raise NpyError(f"its header would be {length:,} bytes long")
    try:
        header = _literal(read(prefix, length).decode("utf-8" if version[0] == 3 else "latin-1"), version[0])
        if not isinstance(header, dict) or header.keys() != _KEYS:
            raise NpyError("its header is no dict of descr, fortran_order and shape")
        order, shape = header["fortran_order"], header["shape"]
        if (
            not isinstance(order, bool)
            or not isinstance(shape, tuple)
            or not all(isinstance(n, int) for n in shape)
        ):
            raise NpyError(f"its header makes no sense (order {order!r}, shape {shape!r})")
        dtype = np.lib.format.descr_to_dtype(header["descr"])
    except NpyError:
        raise
    except Exception as error:  # numpy and ast raise errors of all kinds over a bad literal or dtype
        raise NpyError(f"its header makes no sense ({error})") from error
    if any(n < 0 for n in shape):
        raise NpyError(f"its shape is {shape!r}")
    return NpyHeader(dtype, tuple(int(n) for n in shape), order, prefix + length)


def _literal(text: str, version: int) -> Any:
    try:
        return ast.literal_eval(text)
    except SyntaxError:
        if version == 3:
            raise
        return ast.literal_eval(_LONG.sub(r"\1", text))  # Python 2 wrote (3L, 4L)


def read_header(file: ArrayBytes, begin: int = 0, end: int | None = None) -> NpyHeader:
    """Read and check the header of an array: the file has all the bytes that it promises. A single value is one row.

    Args:
        file: File of the array, or archive.
        begin: Offset of the array in it.
        end: Offset behind the array; None: the end of the file.

    Raises:
        SourceError: Not npy, damaged, cut short, of objects, or of dimensions that are no table.
    """
    limit = file.size if end is None else end
    try:
        found = parse_header(
            lambda offset, length: file.window(begin + offset, length).buffer.to_pybytes(), limit - begin
        )
    except NpyError as error:
        raise (_damaged if error.damaged else _unfit)(file, str(error)) from error
    dtype, shape = found.dtype, found.shape or (1,)
    if dtype.hasobject:
        raise _unfit(file, "it holds Python objects, which only unpickling could read, and that runs code")
    if len(shape) not in (1, 2):
        raise _unfit(file, f"it has {len(shape)} dimensions {shape}; one or two are a table: reshape it")
    if dtype.names is not None and len(shape) == 2:
        raise _unfit(file, "it is structured and has two dimensions; flatten it")
    made = replace(found, shape=shape, fortran=found.fortran and len(shape) == 2, begin=found.begin + begin)
    if made.row_bytes == 0:
        raise _unfit(file, "its rows have no bytes")
    if made.end > limit:
        raise _damaged(
            file,
            f"its header promises {shape[0]:,} rows up to byte {made.end:,}, and it ends at {limit:,}",
        )
    if made.end < limit and any(file.window(made.end, min(_PADDING, limit - made.end)).buffer.to_pybytes()):
        raise _unfit(
            file,
            f"{limit - made.end:,} bytes follow its {shape[0]:,} rows; does it hold several arrays? "
            "Write each to a file of its own",
        )
    return made


def _damaged(file: ArrayBytes, what: str) -> SourceError:
    return SourceError(
        f"can't read {file.path}: {what}; the file is damaged or was cut short, write it again",
        path=file.path,
    )


def _unfit(file: ArrayBytes, what: str) -> SourceError:
    return SourceError(f"can't read {file.path}: {what}", path=file.path)

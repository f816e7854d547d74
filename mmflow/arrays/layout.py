"""Layout of an array's rows in its file, for every kind of file.

    file   | head | row | pad | row | pad | ... | tail |
           0      begin  row_bytes                end

Rows have two kinds of numbers: the user's (an image's first row is its top one), and those of their order in the file.
They differ where the file's last row comes first (`flipped`).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass

__all__ = ["ArrayLayout"]


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """Layout of an array in a file.

    Attributes:
        kind: Kind of the file.
        dtype: Type of the elements.
        shape: Shape, rows first.
        begin: Offset of the first row in the file, in bytes.
        row_bytes: Distance from one row to the next, padding included, in bytes.
        flipped: Whether the last row comes first in the file.
        channels: Meaning of each byte of an image's pixel, as `BGR`; `X`: none.
        fortran: Whether the first index runs first in the file, so that no row is contiguous.
    """

    kind: Literal["npy", "bmp", "raw"]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    row_bytes: int
    flipped: bool = False
    channels: str = ""
    fortran: bool = False

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def whole(self) -> bool:
        """True if no row is contiguous (a single value, Fortran order), so that the file is mapped as a whole."""
        return self.fortran or not self.shape

    @property
    def end(self) -> int:
        """Offset behind the last row and its padding, in bytes."""
        return self.begin + self.rows * self.row_bytes

    @property
    def used_bytes(self) -> int:
        """Bytes of a row without its padding."""
        return packed_row_bytes(self.dtype, self.shape)

    @property
    def contiguous(self) -> bool:
        """True if the array in memory equals the bytes of the file."""
        return self.used_bytes == self.row_bytes and not self.flipped

    def in_file(self, begin: int, stop: int) -> tuple[int, int]:
        """Convert rows `[begin, stop)` to their numbers in the file, or back."""
        return (self.rows - stop, self.rows - begin) if self.flipped else (begin, stop)

    def span(self, begin: int, stop: int) -> tuple[int, int]:
        """Return the bytes `[from, to)` of rows `[begin, stop)`."""
        first, last = self.in_file(begin, stop)
        return self.begin + first * self.row_bytes, self.begin + last * self.row_bytes

    def view_whole(self, data: Any, offset: int = 0) -> npt.NDArray[Any]:
        """Return the array of a layout that is `whole`, in `data` from byte `offset` on."""
        if not self.end - self.begin:
            return np.empty(self.shape, self.dtype)
        return np.ndarray(
            self.shape, self.dtype, buffer=data, offset=offset, order="F" if self.fortran else "C"
        )

    def view(self, data: Any, count: int, offset: int = 0) -> npt.NDArray[Any]:
        """Return `count` consecutive rows in `data`, from byte `offset` on, in the user's order."""
        shape = (count, *self.shape[1:])
        if not count or not self.used_bytes:
            return np.empty(shape, self.dtype)
        flat = np.frombuffer(data, np.uint8, count=count * self.row_bytes, offset=offset)
        rows = flat.reshape(count, self.row_bytes)[:, : self.used_bytes]
        if not self.contiguous:
            inner = np.empty((1, *self.shape[1:]), self.dtype).strides[1:]
            rows_view: npt.NDArray[Any] = np.ndarray(
                shape, self.dtype, buffer=flat, strides=(self.row_bytes, *inner)
            )
            return rows_view[::-1] if self.flipped else rows_view
        return rows.view(self.dtype).reshape(shape)


def packed_row_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Return the bytes of one row without padding."""
    return dtype.itemsize * int(np.prod(shape[1:], dtype=object))

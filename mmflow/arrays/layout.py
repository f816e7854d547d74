"""Where the rows of an array lie in its file, whatever kind of file that is.

    file   | head | row | pad | row | pad | ... | tail |
           0      begin  row_bytes                end

Rows are told by numbers of two kinds: as the user counts them (an image's first row is its top one), and as they lie in
the file. They differ where the file's last row comes first (`flipped`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["ArrayLayout"]


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """An array in a file.

    Attributes:
        kind: Of the file.
        dtype: Of the elements.
        shape: Rows first.
        begin: Byte offset of the row that lies first.
        row_bytes: From one row to the next, padding included.
        flipped: The last row lies first.
        channels: Of images: what each byte of a pixel is, as `BGR`; `X`: nothing.
        fortran: The first index runs first in the file: no row lies in one piece.
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
        """Has it no rows that lie by themselves (a single value, Fortran order)? Then it is mapped in one piece."""
        return self.fortran or not self.shape

    @property
    def end(self) -> int:
        """Byte offset behind the last row and its padding."""
        return self.begin + self.rows * self.row_bytes

    @property
    def used_bytes(self) -> int:
        """Bytes of a row without its padding."""
        return packed_row(self.dtype, self.shape)

    @property
    def contiguous(self) -> bool:
        """Is the array in memory just the bytes of the file?"""
        return self.used_bytes == self.row_bytes and not self.flipped

    def in_file(self, begin: int, stop: int) -> tuple[int, int]:
        """Rows `[begin, stop)` by their numbers in the file; and the other way round."""
        return (self.rows - stop, self.rows - begin) if self.flipped else (begin, stop)

    def span(self, begin: int, stop: int) -> tuple[int, int]:
        """The bytes `[from, to)` of rows `[begin, stop)`."""
        first, last = self.in_file(begin, stop)
        return self.begin + first * self.row_bytes, self.begin + last * self.row_bytes

    def everything(self, data: Any, offset: int = 0) -> npt.NDArray[Any]:
        """The array in one piece of `data`, from byte `offset` on, of a layout that is `whole`."""
        if not self.end - self.begin:
            return np.empty(self.shape, self.dtype)
        return np.ndarray(
            self.shape, self.dtype, buffer=data, offset=offset, order="F" if self.fortran else "C"
        )

    def view(self, data: Any, count: int, offset: int = 0) -> npt.NDArray[Any]:
        """`count` rows that lie one behind the other in `data`, from byte `offset` on, in the user's order."""
        shape = (count, *self.shape[1:])
        if not count or not self.used_bytes:
            return np.empty(shape, self.dtype)
        flat = np.frombuffer(data, np.uint8, count=count * self.row_bytes, offset=offset)
        rows = flat.reshape(count, self.row_bytes)[:, : self.used_bytes]
        if not self.contiguous:
            inner = np.empty((1, *self.shape[1:]), self.dtype).strides[1:]
            made: npt.NDArray[Any] = np.ndarray(
                shape, self.dtype, buffer=flat, strides=(self.row_bytes, *inner)
            )
            return made[::-1] if self.flipped else made
        return rows.view(self.dtype).reshape(shape)


def packed_row(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Bytes of one row without padding."""
    return dtype.itemsize * int(np.prod(shape[1:], dtype=object))

"""Images as arrays of pixels: uncompressed BMP, and rasters whose layout the user gives.

    BMP   | file header (14) | header (40 and more) | masks | rows of pixels, each padded to 4 bytes | colour profile |

Pixels are the bytes of the file, in its order: for BMP blue, green, red (`ArrayLayout.channels`). Header fields that
don't concern the pixels are ignored (sizes that are 0 or, beyond 4 GiB, wrong).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import numpy as np

from mmflow.arrays.layout import ArrayLayout, packed_row_bytes
from mmflow.errors import ConfigError, SourceError
from mmflow.lazy import array_types as npt
from mmflow.storage.os_errors import read_error

__all__ = ["build_raw_layout", "is_bmp", "read_bmp_layout"]

_FILE = struct.Struct("<2sI4xI")
_HEADER = struct.Struct("<IiiHHI")
_MASKS = struct.Struct("<IIII")
_MASKS_AT = 54
_RGB, _BITFIELDS, _ALPHA_BITFIELDS = 0, 3, 6
_COMPRESSED = {1: "run lengths (RLE8)", 2: "run lengths (RLE4)", 4: "JPEG", 5: "PNG"}
_BYTES = {0xFF << (8 * n): n for n in range(4)}


def read_bmp_layout(path: str) -> ArrayLayout:
    """Read the layout of a BMP file: (height, width, channels) of uint8, the top row first.

    Raises:
        SourceError: The file is missing, no BMP, damaged, cut short, compressed, or has a palette.
    """
    try:
        with open(path, "rb") as file:
            head, size = file.read(_MASKS_AT + _MASKS.size), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise read_error(path, error) from error
    if head[:2] != b"BM":
        raise SourceError(f"{path} is no BMP file: it does not begin with BM", path=path)
    if len(head) < _FILE.size + _HEADER.size:
        raise _damaged(path, f"it has {size:,} bytes, which is no whole header")
    _, _, begin = _FILE.unpack_from(head)
    header, width, height, _, bits, packing = _HEADER.unpack_from(head, _FILE.size)
    if header < 40:
        raise SourceError(f"{path} is a BMP file of OS/2 (header of {header} bytes); convert it", path=path)
    if packing in _COMPRESSED:
        raise SourceError(
            f"{path} is compressed ({_COMPRESSED[packing]}), so its pixels can't be mapped; save it uncompressed",
            path=path,
        )
    if bits not in (24, 32):
        raise SourceError(
            f"{path} has {bits} bits a pixel{' and a palette' if bits <= 8 else ''}; only 24 and 32 can be mapped: "
            "convert it",
            path=path,
        )
    if width <= 0 or height == 0:
        raise _damaged(path, f"it says to be {width:,} by {height:,} pixels")
    if begin < _FILE.size + header:
        raise _damaged(path, f"its pixels would begin at byte {begin:,}, within its header")
    shape = (abs(height), width, bits // 8)
    padded = -(-width * bits // 32) * 4
    channels = _channels(path, head, header, bits, packing)
    made = ArrayLayout("bmp", np.dtype("u1"), shape, begin, padded, height > 0, channels)
    return _require_whole(made, path, size)


def _channels(path: str, head: bytes, header: int, bits: int, packing: int) -> str:
    if packing == _RGB:
        return "BGR" if bits == 24 else "BGRX"
    if packing not in (_BITFIELDS, _ALPHA_BITFIELDS) or bits != 32:
        raise _damaged(path, f"{bits} bits a pixel don't go with compression {packing}")
    if len(head) < _MASKS_AT + _MASKS.size:
        raise _damaged(path, "it ends within its masks")
    masks = list(_MASKS.unpack_from(head, _MASKS_AT))
    if header < 56 and packing == _BITFIELDS:
        masks[3] = 0  # these four bytes have another meaning
    used = [mask for mask in masks if mask]
    if not all(masks[:3]) or len(set(used)) != len(used) or any(mask not in _BYTES for mask in used):
        shown = ", ".join(f"{mask:#010x}" for mask in masks)
        raise SourceError(f"{path}: its channels are no whole bytes (masks {shown}); convert it", path=path)
    made = ["X"] * 4
    for name, mask in zip("RGBA", masks, strict=True):
        if mask:
            made[_BYTES[mask]] = name
    return "".join(made)


def build_raw_layout(
    path: str,
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    *,
    offset: int,
    row_bytes: int | None,
    bottom_up: bool,
) -> ArrayLayout:
    """Build the layout of a raster without a header from the user's description.

    Raises:
        ConfigError: The description is impossible.
        SourceError: The file is missing, or cut short.
    """
    try:
        kind, sizes = np.dtype(dtype), tuple(int(n) for n in shape)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"open_image: {error}") from error
    if kind.hasobject or kind.itemsize == 0 or not sizes or min(sizes) < 0 or offset < 0:
        raise ConfigError(
            f"open_image: shape {sizes} of {kind} from byte {offset:,} on is nowhere in a file; give a plain dtype, "
            "at least one dimension, and nothing below 0"
        )
    packed = packed_row_bytes(kind, sizes)
    if row_bytes is not None and row_bytes < packed:
        raise ConfigError(
            f"open_image: row_bytes = {row_bytes:,} is less than the {packed:,} that a row takes"
        )
    made = ArrayLayout("raw", kind, sizes, offset, packed if row_bytes is None else row_bytes, bottom_up)
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise read_error(path, error) from error
    return _require_whole(made, path, size)


def _require_whole(layout: ArrayLayout, path: str, size: int) -> ArrayLayout:
    if size < layout.end:
        raise SourceError(
            f"{path} is cut short: it has {size:,} bytes, and rows of {layout.shape} end at {layout.end:,}",
            path=path,
        )
    return layout


def _damaged(path: str, why: str) -> SourceError:
    return SourceError(f"{path} is a damaged BMP file: {why}; write it again", path=path)


def is_bmp(path: str) -> bool:
    """Return whether a file begins as a BMP.

    Raises:
        SourceError: The file can't be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"BM"
    except OSError as error:
        raise read_error(path, error) from error

"""BMP files, written byte by byte."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
MASKS = {"R": 0, "G": 1, "B": 2, "A": 3}


def bmp(
    pixels: Pixels, *, top_down: bool = False, header: int = 40, channels: str = "", profile: bytes = b""
) -> bytes:
    """Build an uncompressed BMP file.

    Args:
        pixels: (height, width, 3 or 4), the top row first, bytes as they are to lie.
        top_down: The order of the rows.
        header: Bytes of the second header: 40, 52, 56, 108 or 124.
        channels: Meaning of each byte, as `RGBA`, where there are masks.
        profile: Bytes after the pixels.
    """
    height, width, depth = pixels.shape
    padded = np.full((height, -(-width * depth // 4) * 4), 0xEE, np.uint8)
    padded[:, : width * depth] = pixels.reshape(height, -1)
    rows = padded if top_down else padded[::-1]
    masks = b""
    if channels:
        masks = struct.pack("<4I", *(0xFF << 8 * channels.find(c) if c in channels else 0 for c in "RGBA"))
        masks = masks if header >= 56 else masks[:12]
    size = max(14 + header, 54 + len(masks))
    start = size + 10  # a gap
    second = struct.pack(
        "<IiiHHIIiiII", header, width, -height if top_down else height, 1, 8 * depth, 3 if channels else 0,
        rows.size, 2835, 2835, 0, 0,
    )  # fmt: skip
    head = struct.pack("<2sIHHI", b"BM", 0, 0, 0, start) + second + masks
    return head.ljust(start, b"\x11" if header == 40 else b"\0") + rows.tobytes() + profile

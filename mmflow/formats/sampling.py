"""A bounded sample of a file: bytes of its start, middle and end, cut to whole lines.

What planning reads of the data, and all that it reads: three pieces of `PIECE` bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from mmflow.formats.compressed import COMPRESSIONS, compression_of, decompressed
from mmflow.remote.opening import open_file

__all__ = ["PIECE", "Sample", "sample_file"]

PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class Sample:
    """Pieces of one file.

    Attributes:
        start: From the file's first byte, up to a newline where the file goes on.
        others: From further on, from newline to newline: whole lines, but perhaps not whole records.
        whole: `start` is the whole file.
    """

    start: bytes
    others: tuple[bytes, ...]
    whole: bool


def sample_file(path: str, piece: int = PIECE) -> Sample:
    """Look at a file's start, middle and end (a compressed one: at its start).

    Raises:
        SourceError: It can't be read.
    """
    if compression_of(path) in COMPRESSIONS:
        with decompressed(path) as stream:
            text = stream.read(piece + 1)
        return Sample(_to_newline(text[:piece]) if len(text) > piece else text, (), len(text) <= piece)
    with open_file(path, io="pread", access="random") as file:
        first = file.window(0, piece).buffer.to_pybytes()
        if file.size <= piece:
            return Sample(first, (), True)
        begins = [b for b in (file.size // 2, file.size - piece) if b >= piece]
        others = [_whole_lines(file.window(b, piece).buffer, at_end=b + piece >= file.size) for b in begins]
        return Sample(_to_newline(first), tuple(others), False)


def _to_newline(text: bytes) -> bytes:
    """Up to the last newline; all of it where there is none."""
    cut = text.rfind(b"\n")
    return text[: cut + 1] if cut >= 0 else text


def _whole_lines(buffer: pa.Buffer, *, at_end: bool) -> bytes:
    text: bytes = buffer.to_pybytes().replace(b"\0", b"")
    text = text[text.find(b"\n") + 1 :]
    return text if at_end else text[: text.rfind(b"\n") + 1]

"""A bounded sample of a file: bytes of its start, middle and end, cut to whole lines.

What planning reads of the data, and all that it reads: three pieces of `PIECE` bytes; where the first record
is longer, as much as holds it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from mmflow.formats.compression import file_compression, open_decompressed
from mmflow.formats.encodings.encoding import UTF8, Encoding
from mmflow.formats.encodings.files import FileEncoding, file_encoding, translated_start
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.remote.opening import open_file

__all__ = ["MOST", "PIECE", "Sample", "sample_file"]

PIECE = 1 << 18
#: Bytes that a start may grow to: those of the longest record.
MOST = 64 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """Pieces of one file, in UTF-8 where its encoding was given; without a byte order mark that was translated.

    Attributes:
        start: Bytes from the beginning of the file, cut at a newline unless they are all of it.
        others: Bytes from further on, cut at newlines: whole lines, but perhaps not whole records.
        whole: `start` is the whole file.
        compression: The file's, which the pieces have no more; None: it had none.
    """

    start: bytes
    others: tuple[bytes, ...]
    whole: bool
    compression: str | None = None


def sample_file(
    path: str,
    piece: int = PIECE,
    enough: Callable[[bytes], bool] = lambda _: True,
    most: int = MOST,
    encoding: Encoding = UTF8,
) -> Sample:
    """Read a file's start, middle and end (a compressed one: its start).

    Args:
        path: Path of the file.
        piece: Bytes of each.
        enough: Says whether the start holds what is needed of it; it grows until then, or to `most` bytes.
        most: Largest size, in bytes.
        encoding: Encoding of the file.

    Raises:
        SourceError: It can't be read, or is of another encoding.
    """
    with open_file(path, io="pread", access="random") as file:
        if (compression := file_compression(file)) is not None:
            return _decompressed_sample(file, compression, piece, enough, most, encoding)
        found = file_encoding(file, encoding)
        size = piece

        def start() -> bytes:
            raw = file.window(0, size).buffer.to_pybytes()
            return translated_start(raw, found, ended=file.size <= size).text

        first = start()
        while size < min(file.size, most) and not enough(first):
            size = min(4 * size, most)
            first = start()
        if file.size <= size:
            return Sample(first, (), True)
        if encoding.stateful or file.once:  # what is in its middle would have to be kept
            return Sample(_to_newline(first), (), False)
        unit = found.encoding.unit
        begins = [b // unit * unit for b in (file.size // 2, file.size - piece) if b >= size]
        others = [
            _whole_lines(
                file.window(b, piece + unit - 1).buffer, found.encoding, at_end=b + piece >= file.size
            )
            for b in begins
        ]
        return Sample(_to_newline(first), tuple(others), False)


def _decompressed_sample(
    file: MappedFile,
    compression: str,
    piece: int,
    enough: Callable[[bytes], bool],
    most: int,
    encoding: Encoding,
) -> Sample:
    found = file_encoding(file, encoding)
    with open_decompressed(file) as stream:
        raw = stream.read(piece + 1)
        text = translated_start(raw[:piece], found, ended=len(raw) <= piece).text
        while len(raw) > piece and piece < most and not enough(text):
            piece = min(4 * piece, most)
            raw += stream.read(piece + 1 - len(raw))
            text = translated_start(raw[:piece], found, ended=len(raw) <= piece).text
    whole = len(raw) <= piece
    return Sample(text if whole else _to_newline(text), (), whole, compression)


def _to_newline(text: bytes) -> bytes:
    """Return the text up to its last newline; all of it where there is none."""
    cut = text.rfind(b"\n")
    return text[: cut + 1] if cut >= 0 else text


def _whole_lines(buffer: pa.Buffer, encoding: Encoding, *, at_end: bool) -> bytes:
    raw: bytes = buffer.to_pybytes()
    if encoding.kind != "utf-8":
        ends = encoding.line_ends(np.frombuffer(raw, np.uint8))
        if not len(ends):
            return b""
        text = translated_start(raw[int(ends[0]) :], FileEncoding(encoding), ended=at_end).text
    else:
        text = raw
    text = text.replace(b"\0", b"")
    _, newline, text = text.partition(b"\n")
    if not newline:
        return b""
    return text if at_end else text[: text.rfind(b"\n") + 1]

"""Physical lines at the beginning and the end of text, before anything is known of its records."""

from __future__ import annotations

import numpy as np

from mmflow.formats.encodings.encoding import UTF8, Encoding
from mmflow.lazy import array_types as npt
from mmflow.lazy.patterns import lazy_regex
from mmflow.mapping import MappedFile

__all__ = ["footer_begin", "last_lines", "line_breaks", "skip_lines"]

_LOOK = 1 << 16
_LF, _CR = 10, 13
_BREAK = lazy_regex(rb"\n")
_ANY_BREAK = lazy_regex(rb"\r\n|\n|\r")


def skip_lines(start: bytes, position: int, count: int, *, returns: bool = False) -> int | None:
    """Return the offset behind `count` lines from `position` on; None: there are fewer.

    Args:
        start: First bytes of a file.
        position: Offset at which the first line begins.
        count: Number of lines.
        returns: A carriage return alone ends a line, too.
    """
    pattern = _ANY_BREAK if returns else _BREAK
    for _ in range(count):
        found = pattern.search(start, position)
        if found is None:
            return None
        position = found.end()
    return position


def footer_begin(
    file: MappedFile, count: int, begins: int, encoding: Encoding = UTF8, *, returns: bool = False
) -> int:
    """Return the offset of the last `count` lines of an uncompressed file; `begins` where it has no more lines.

    A line break at the end of the file ends its last line. It begins no other.

    Args:
        file: The file.
        count: Number of lines, 1 or more.
        begins: Offset of the first byte behind the header.
        encoding: Encoding of the file, with its order of bytes.
        returns: A carriage return alone ends a line, too.

    Raises:
        SourceError: The file can't be read.
    """
    # From whole units on, since `begins` is a multiple of one.
    held, position = b"", file.size - (file.size - begins) % encoding.unit
    while position > begins:
        length = min(max(_LOOK, len(held)), position - begins)
        position -= length
        held = bytes(file.window(position, length).buffer.to_pybytes()) + held
        at = last_lines(held, count, encoding, returns=returns)
        if at is not None and (at > 0 or position == begins):
            return position + at
    return begins


def last_lines(text: bytes, count: int, encoding: Encoding = UTF8, *, returns: bool = False) -> int | None:
    """Return where the last `count` lines of a text begin; None: it has no more lines than that."""
    if encoding.kind in ("table", "wide"):
        ends = encoding.line_ends(np.frombuffer(text, np.uint8))
        begins = (ends + encoding.unit).tolist()
    else:
        pattern = _ANY_BREAK if returns else _BREAK
        begins = [found.end() for found in pattern.finditer(text)]
    if begins and begins[-1] == len(text):
        begins.pop()
    return begins[-count] if len(begins) >= count else None


def line_breaks(text: npt.NDArray[np.uint8], *, returns: bool = False) -> npt.NDArray[np.int64]:
    """Return the offsets of the bytes that end lines, in order.

    Args:
        text: Bytes, shape (n,).
        returns: A carriage return without a line feed ends a line, too.
    """
    if not returns:
        return np.flatnonzero(text == _LF)
    ends = text == _LF
    alone = text == _CR
    alone[:-1] &= ~ends[1:]
    return np.flatnonzero(ends | alone)

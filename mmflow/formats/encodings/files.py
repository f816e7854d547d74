"""Encoding of one file: its byte order mark, and its first bytes as UTF-8."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.compression import read_first_bytes
from mmflow.formats.encodings.encoding import UTF8, Encoding, find_encoding
from mmflow.formats.encodings.translation import translator_of
from mmflow.formats.last_results import LastResults
from mmflow.formats.schemas.encodings import check_text
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import FileIdentity, MappedFile

__all__ = [
    "FileEncoding",
    "FirstText",
    "encoding_of_start",
    "file_encoding",
    "first_text",
    "translated_start",
]

_PROBED = 256
_MARKS = {
    "utf-32-le": b"\xff\xfe\0\0",
    "utf-32-be": b"\0\0\xfe\xff",
    "utf-16-le": b"\xff\xfe",
    "utf-16-be": b"\xfe\xff",
}
_UTF8_MARK = b"\xef\xbb\xbf"
_GB18030_MARK = b"\x84\x31\x95\x33"


@dataclass(frozen=True, slots=True)
class FileEncoding:
    """Encoding of a file.

    Attributes:
        encoding: The encoding; of wide ones, with its order of bytes.
        mark: Bytes of the byte order mark at the start.
    """

    encoding: Encoding
    mark: int = 0


@dataclass(frozen=True, slots=True)
class FirstText:
    """First bytes of a file's contents as UTF-8, without a byte order mark where they were translated.

    Attributes:
        text: UTF-8; of UTF-8 files the bytes as they are, valid or not.
        raw_offset: Returns the offset in the file's contents for one in the text.
        ended: The file ends with them.
        raw: They as they are in the file's contents.
        encoding: Name of their encoding.
    """

    text: bytes
    raw_offset: Callable[[int], int]
    ended: bool
    raw: bytes
    encoding: str = "utf-8"


_known: LastResults[tuple[str, FileIdentity, str], FileEncoding] = LastResults(4096)


def file_encoding(file: MappedFile, encoding: Encoding) -> FileEncoding:
    """Return the encoding of a file, as `encoding_of_start`; UTF-8 without a look at it.

    Raises:
        SourceError: The file is of another encoding, by its first bytes.
    """
    if encoding.kind == "utf-8":
        return FileEncoding(UTF8)
    return _known.get(
        (file.path, file.identity, encoding.name),
        lambda: encoding_of_start(file.path, read_first_bytes(file, _PROBED), encoding),
    )


def encoding_of_start(path: str, start: bytes, encoding: Encoding) -> FileEncoding:
    """Return the encoding of a file by its first bytes: its byte order mark, and the order of bytes that this says.

    UTF-16 and UTF-32 without a mark are little-endian, unless the first bytes say otherwise.

    Raises:
        SourceError: They are of another encoding.
    """
    if encoding.kind == "utf-8":
        return FileEncoding(UTF8)
    marked = next((name for name, mark in _MARKS.items() if start.startswith(mark)), None)
    if encoding.kind != "wide":
        check_text(path, start)
        if start.startswith(_UTF8_MARK):
            raise _other(path, encoding, "the byte order mark of UTF-8", "leave encoding= out")
        mark = len(_GB18030_MARK) if encoding.codec == "gb18030" and start.startswith(_GB18030_MARK) else 0
        return FileEncoding(encoding, mark)
    if marked is not None:
        if not marked.startswith(encoding.codec):
            name = marked[:6]
            raise _other(path, encoding, f"the byte order mark of {marked.upper()}", f"set encoding={name!r}")
        return FileEncoding(find_encoding(marked), len(_MARKS[marked]))
    from mmflow.formats.encodings.likely import likely_encodings  # noqa: PLC0415  (slow: for errors only)

    likely = likely_encodings(start)[0][0] if start.strip(b"\0") and likely_encodings(start) else ""
    if likely == "utf-8" and len(start) >= 2 * encoding.unit and 0 not in start:
        raise _other(path, encoding, "text of UTF-8", "leave encoding= out")
    if likely.startswith(("utf-16", "utf-32")) and not likely.startswith(encoding.codec):
        advice = f"set encoding={likely[:6]!r}"
        raise _other(path, encoding, f"text of {likely.upper()}", advice)
    if encoding.codec in ("utf-16", "utf-32"):
        return FileEncoding(find_encoding(likely or f"{encoding.codec}-le"))
    return FileEncoding(encoding)


def _other(path: str, encoding: Encoding, what: str, advice: str) -> SourceError:
    return SourceError(
        f"{path}: it is not {encoding.name}: its first bytes (line 1, byte offset 0) are {what}\n  {advice}",
        path=path,
        byte_offset=0,
    )


def first_text(file: MappedFile, size: int, encoding: Encoding) -> FirstText:
    """Return the first bytes of a file's contents as UTF-8.

    Raises:
        SourceError: It can't be read, or is of another encoding.
    """
    start = read_first_bytes(file, size)
    return translated_start(start, file_encoding(file, encoding), ended=len(start) < size)


def translated_start(start: bytes, encoding: FileEncoding, *, ended: bool) -> FirstText:
    """Translate the first bytes of a file."""
    if encoding.encoding.kind == "utf-8":
        return FirstText(start, lambda offset: offset, ended, start)
    mark = encoding.mark
    found = translator_of(encoding.encoding).translate(pa.py_buffer(start[mark:]), final=ended)

    def raw_offset(offset: int) -> int:
        if offset == found.text.size:
            return mark + found.consumed
        return mark + int(found.raw_offsets(np.array([offset], np.int64))[0])

    return FirstText(found.text.to_pybytes(), raw_offset, ended, start, encoding.encoding.name)

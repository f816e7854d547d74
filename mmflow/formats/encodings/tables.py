"""Tables of an encoding's characters as UTF-8, as the kernel reads them (kernels/encodings/encodings.h)."""

from __future__ import annotations

from functools import cache

import numpy as np

from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass

__all__ = ["MARK", "TextTables", "text_tables"]

#: Byte in place of one that is no character: UTF-8 never holds it.
MARK = 0xC0
_TRIPLES = 0x8F  # first byte of EUC-JP's characters of three
_FOURS = 39420  # of GB 18030, in the BMP


@dataclass(frozen=True, slots=True)
class TextTables:
    """Tables of one encoding; those that it has no use for are None.

    Attributes:
        ascii: Bytes below 128 are themselves.
        singles: Characters of one byte, shape (256,); 0: the byte begins a longer one.
        pairs: Characters by two bytes, shape (65536,).
        triples: Characters by the second and third byte, shape (65536,).
        fours: Code points by number, shape (39420,).
    """

    ascii: bool
    singles: npt.NDArray[np.uint64]
    pairs: npt.NDArray[np.uint64] | None = None
    triples: npt.NDArray[np.uint64] | None = None
    fours: npt.NDArray[np.uint32] | None = None


@cache
def text_tables(codec: str) -> TextTables:
    """Fill the tables of an encoding by Python's codec, some 50 ms for one of several bytes a character."""
    singles = np.zeros(256, np.uint64)
    leads = []
    for byte in range(256):
        text = _decode(bytes([byte]), codec)
        if text is not None:
            singles[byte] = _entry(text)
        elif _begins_longer(byte, codec):
            leads.append(byte)
        else:
            singles[byte] = 1 << 56 | MARK
    is_ascii = all(int(singles[b]) == _entry(chr(b)) for b in range(128))
    if not leads:
        return TextTables(is_ascii, singles)
    pairs = _pairs(codec, b"", leads)
    triples = _pairs(codec, bytes([_TRIPLES]), range(0xA1, 0xFF)) if codec.startswith("euc_j") else None
    return TextTables(is_ascii, singles, pairs, triples, _fours(codec) if codec == "gb18030" else None)


def _pairs(codec: str, before: bytes, firsts: list[int] | range) -> npt.NDArray[np.uint64]:
    found = np.zeros(1 << 16, np.uint64)
    for first in firsts:
        for second in range(0x21, 0xFF):
            text = (before + bytes([first, second])).decode(
                codec, "replace"
            )  # a third of the time of exceptions
            if "\ufffd" not in text:
                found[first << 8 | second] = _entry(text)
    return found


def _fours(codec: str) -> npt.NDArray[np.uint32]:
    found = np.zeros(_FOURS, np.uint32)
    for number in range(_FOURS):
        rest, d = divmod(number, 10)
        rest, c = divmod(rest, 126)
        a, b = divmod(rest, 10)
        text = _decode(bytes([0x81 + a, 0x30 + b, 0x81 + c, 0x30 + d]), codec)
        if text is not None:
            found[number] = ord(text)
    return found


def _entry(text: str) -> int:
    encoded = text.encode()
    return len(encoded) << 56 | int.from_bytes(encoded, "little")


def _decode(raw: bytes, codec: str) -> str | None:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return None


def _begins_longer(byte: int, codec: str) -> bool:
    """Return whether a byte that is no character may begin one."""
    try:
        bytes([byte]).decode(codec)
    except UnicodeDecodeError as error:
        return error.reason == "incomplete multibyte sequence"
    return False

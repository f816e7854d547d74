"""Encodings by name, and what finding records in them takes.

    utf-8       read as it is
    tables      one byte a character (latin-1, windows-125x, koi8, cp437, EBCDIC) or several (shift_jis, gb18030,
                big5, euc_*): the kernel translates by tables, which Python's codec fills (tables.py)
    wide        utf-16, utf-32: the kernel translates units of 2 or 4 bytes
    stateful    iso-2022-*, utf-7, hz: a byte means what the bytes before it say, so a file is one shard

Invariant: but for stateful ones, the bytes of a line break (`newline`, at a multiple of its length) are never part of
another character, so records can be found from any place of a file.
"""

from __future__ import annotations

import codecs
from encodings.aliases import aliases
from functools import cache
from typing import Literal

import numpy as np

from mmflow.errors import ConfigError
from mmflow.lazy import array_types as npt
from mmflow.lazy import difflib
from mmflow.lazy.dataclasses import dataclass

__all__ = ["UTF8", "Encoding", "find_encoding"]

Kind = Literal["utf-8", "table", "wide", "stateful"]

#: Types of the units of wide encodings. Those whose order the file says are read once that is known (files.py).
_UNITS = {"utf-16-le": "<u2", "utf-16-be": ">u2", "utf-32-le": "<u4", "utf-32-be": ">u4"}
_STATEFUL = {"utf-7", "hz", "iso2022_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_2004", "iso2022_jp_3",
             "iso2022_jp_ext", "iso2022_kr"}  # fmt: skip
#: Codecs of Python for text in programs, not in files.
_NO_FILES = {
    "idna",
    "punycode",
    "unicode-escape",
    "raw-unicode-escape",
    "undefined",
    "charmap",
    "mbcs",
    "oem",
}
#: Names that are more usual than those of Python's codecs.
_USUAL = {"iso8859-1": "latin-1", "utf-8-sig": "utf-8"}
_COMMON = ("utf-8", "latin-1", "windows-1252", "windows-1250", "windows-1251", "utf-16", "shift_jis", "gb18030", "big5",
           "euc_jp", "euc_kr", "koi8-r", "cp437", "mac-roman")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Encoding:
    """Encoding of a file's text.

    Attributes:
        name: Its usual name.
        codec: Name of Python's codec.
        kind: How it is read.
        newline: Bytes of a line feed.
    """

    name: str
    codec: str
    kind: Kind
    newline: bytes = b"\n"

    @property
    def stateful(self) -> bool:
        """True if a file can't be read from its middle."""
        return self.kind == "stateful"

    @property
    def ends_lines_alone(self) -> bool:
        """True if every byte of a line feed's value is one, wherever it stands."""
        return self.newline == b"\n" and not self.stateful

    @property
    def unit(self) -> int:
        """Bytes of a unit, to a multiple of which characters are aligned."""
        return len(self.newline)

    def line_end(self, raw: bytes) -> int:
        """Return the offset of the first line feed in bytes that begin with a whole unit; -1: there is none."""
        if self.kind != "wide":
            return raw.find(self.newline)
        ends = self.line_ends(np.frombuffer(raw, np.uint8))
        return int(ends[0]) if len(ends) else -1

    def line_ends(self, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
        """Return the offsets of line feeds in bytes that begin with a whole unit, shape (n,)."""
        if self.kind != "wide":
            return np.flatnonzero(raw == self.newline[0])
        units = raw[: len(raw) // self.unit * self.unit].view(_UNITS[self.codec])
        return np.flatnonzero(units == 10) * self.unit


UTF8 = Encoding("utf-8", "utf-8", "utf-8")


@cache
def find_encoding(name: str) -> Encoding:
    """Return an encoding by any name that Python knows it by.

    Raises:
        ConfigError: There is none of that name, or it is no encoding of text in files.

    >>> find_encoding("cp1252").name, find_encoding("UTF-16LE").newline
    ('windows-1252', b'\\n\\x00')
    """
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        close = difflib.get_close_matches(name.lower(), [*_COMMON, *aliases], 1)
        hint = f"did you mean {close[0]!r}?" if close else f"examples are {', '.join(_COMMON)}"
        raise ConfigError(f"encoding = {name!r}: there is no such encoding; {hint}") from None
    codec = found.name
    if not getattr(found, "_is_text_encoding", True) or codec in _NO_FILES:
        raise ConfigError(
            f"encoding = {name!r}: text in files is not encoded so; examples are {', '.join(_COMMON)}"
        )
    usual = _usual_name(codec)
    if usual == "utf-8":
        return UTF8
    if codec in _STATEFUL:
        return Encoding(usual, codec, "stateful")
    if codec in _UNITS:
        return Encoding(usual, codec, "wide", "\n".encode(codec))
    if codec in ("utf-16", "utf-32"):
        return Encoding(usual, codec, "wide", b"\n".ljust(2 if codec == "utf-16" else 4, b"\0"))
    return Encoding(usual, codec, "table", "\n".encode(codec))


def _usual_name(codec: str) -> str:
    if codec.startswith("cp125") and len(codec) == 6:
        return f"windows-{codec[2:]}"
    if codec.startswith("iso8859-") and codec != "iso8859-1":
        return f"iso-{codec[3:]}"
    if codec.startswith("iso2022_"):
        return codec.replace("iso2022_", "iso-2022-").replace("_", "-")
    return _USUAL.get(codec, codec)

"""Translation of bytes to UTF-8, with a way back for offsets.

    raw bytes -> UTF-8, 0xC0 in place of what is no character -> a decoder -> offsets in UTF-8 -> offsets in raw bytes

`KernelTranslator` does it for encodings without state; text that is ASCII in a superset of it is not even copied.
`CodecTranslator` does it by Python's codecs, line by line: for stateful encodings, and as the reference in tests.
"""

from __future__ import annotations

import bisect
import codecs
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from mmflow.formats.encodings.encoding import Encoding
from mmflow.formats.encodings.tables import MARK, text_tables
from mmflow.kernels import kernels
from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass

__all__ = ["CodecTranslator", "KernelTranslator", "Translated", "Translator", "translator_of"]

I64 = npt.NDArray[np.int64]

_FORMS = {"utf-16-le": 1, "utf-16-be": 2, "utf-32-le": 3, "utf-32-be": 4}
_STRIDE = 4096  # kTextStride
_MARKED = "\udcff"  # of a character that is none, until it is encoded


def _mark_unit(error: UnicodeError, unit: int) -> tuple[str, int]:
    """Handle an error of a codec by a mark for one unit."""
    assert isinstance(error, UnicodeDecodeError)
    return _MARKED, min(error.start + unit, len(error.object))


for _unit in (1, 2, 4):
    codecs.register_error(f"mmflow.mark{_unit}", partial(_mark_unit, unit=_unit))


@dataclass(frozen=True, slots=True)
class Translated:
    """UTF-8 of some bytes.

    Attributes:
        text: The UTF-8.
        consumed: Bytes of the input before a character that its end cuts.
        raw_offsets: Returns the input's offsets for ascending offsets in the text, each of a character's first byte.
    """

    text: pa.Buffer
    consumed: int
    raw_offsets: Callable[[I64], I64]

    def raw_offset(self, offset: int) -> int:
        """Return the input's offset for one in the text."""
        if offset == self.text.size:
            return self.consumed
        return int(self.raw_offsets(np.array([offset], np.int64))[0])


class Translator(Protocol):
    """Translates bytes that begin with a whole character."""

    def translate(self, data: pa.Buffer, *, final: bool) -> Translated:
        """Translate as many whole characters as there are; `final`: what the end cuts is no character."""
        ...

    def advance(self, consumed: int) -> None:
        """Note that the next call begins so many bytes behind where the last one began."""
        ...


def translator_of(encoding: Encoding) -> Translator:
    """Return a translator, which is for one thread, for a file that is read from its start where that matters."""
    return CodecTranslator(encoding) if encoding.stateful else KernelTranslator(encoding)


class KernelTranslator:
    """Translator for encodings without state."""

    def __init__(self, encoding: Encoding) -> None:
        form = _FORMS.get(encoding.codec, 0)
        self._tables = None if form else text_tables(encoding.codec)
        arrays = (None,) * 4
        if self._tables is not None:
            t = self._tables
            arrays = (t.singles, t.pairs, t.triples, t.fours)  # type: ignore[assignment]
        addresses = [0 if a is None else a.ctypes.data for a in arrays]
        self._kernel: Any = kernels().TextTranslator(
            form, self._tables is not None and self._tables.ascii, *addresses
        )

    def translate(self, data: pa.Buffer, *, final: bool) -> Translated:
        bound = self._kernel.bound(data.address, data.size)
        if bound == 0:
            return Translated(data, data.size, lambda offsets: offsets)
        out = pa.allocate_buffer(bound, resizable=True)
        places = np.empty((data.size // _STRIDE + 1, 2), np.uint64)
        consumed, written, count = self._kernel.translate(
            data.address, data.size, final, out.address, places.ctypes.data
        )

        def raw_offsets(offsets: I64) -> I64:
            found = offsets.astype(np.int64)  # a copy
            self._kernel.locate(
                data.address, consumed, places.ctypes.data, count, found.ctypes.data, len(found)
            )
            return found

        return Translated(out.slice(0, written), consumed, raw_offsets)

    def advance(self, consumed: int) -> None:
        del consumed


class CodecTranslator:
    """Translator by one of Python's codecs, which keeps the codec's state between calls."""

    def __init__(self, encoding: Encoding) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding.codec)(f"mmflow.mark{encoding.unit}")
        self._start: Any = self._decoder.getstate()
        self._raw = [0]
        self._states: list[Any] = [self._start]
        self._data = b""

    def translate(self, data: pa.Buffer, *, final: bool) -> Translated:
        raw = self._data = data.to_pybytes()
        decoder = self._decoder
        decoder.setstate(self._start)
        self._raw, self._states = [0], [self._start]
        parts: list[bytes] = []
        ends = [0]
        for line in raw.splitlines(keepends=True) if raw else []:
            parts.append(_encoded(decoder.decode(line)))
            self._raw.append(self._raw[-1] + len(line))
            self._states.append(decoder.getstate())
            ends.append(ends[-1] + len(parts[-1]))
        consumed = len(raw)
        if final:
            parts.append(_encoded(decoder.decode(b"", True)))
        elif pending := len(self._states[-1][0]):
            consumed -= pending
        starts, states = self._raw, self._states

        def raw_offsets(offsets: I64) -> I64:
            return np.array([self._raw_offset(raw, starts, states, ends, int(o)) for o in offsets], np.int64)

        return Translated(pa.py_buffer(b"".join(parts)), consumed, raw_offsets)

    def _raw_offset(
        self, raw: bytes, starts: list[int], states: list[Any], ends: list[int], offset: int
    ) -> int:
        line = bisect.bisect_right(ends, offset) - 1
        # Of several places with no text between them, the first is where the character before ends.
        line = bisect.bisect_left(ends, ends[line])
        if offset == ends[line]:
            return starts[line] - len(states[line][0])
        return self._walk(raw, starts[line], states[line], offset - ends[line])

    def _walk(self, raw: bytes, start: int, state: Any, length: int) -> int:
        """Return the offset behind so many bytes of text from `start` on, by decoding bytes one by one."""
        self._decoder.setstate(state)
        made, at = 0, start
        while made < length and at < len(raw):
            made += len(_encoded(self._decoder.decode(raw[at : at + 1])))
            at += 1
        return at - len(self._decoder.getstate()[0])

    def advance(self, consumed: int) -> None:
        line = bisect.bisect_right(self._raw, consumed) - 1
        self._decoder.setstate(self._states[line])
        self._decoder.decode(self._data[self._raw[line] : consumed])
        self._start = self._decoder.getstate()


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass").replace(b"\xed\xb3\xbf", bytes([MARK]))

"""Bytes between two protected pages: a kernel that reads one byte too many dies."""

from __future__ import annotations

import ctypes
import mmap
from typing import Literal

import pyarrow as pa

__all__ = ["guarded"]

_libc = ctypes.CDLL(None, use_errno=True)


class _Guarded:
    """Owner of a mapping; the pages before and behind the text are PROT_NONE."""

    def __init__(self, text: bytes, side: Literal["front", "back"]) -> None:
        page = mmap.PAGESIZE
        inner = max(1, -(-len(text) // page)) * page
        self._mapping = mmap.mmap(-1, inner + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))
        for edge in (start, start + page + inner):
            if _libc.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        at = page if side == "front" else page + inner - len(text)
        self._mapping[at : at + len(text)] = text
        self.address = start + at


def guarded(text: bytes, side: Literal["front", "back"]) -> pa.Buffer:
    """Place `text` so that its first or last byte touches a protected page."""
    holder = _Guarded(text, side)
    return pa.foreign_buffer(holder.address, len(text), holder)

"""Copied pages of private mappings, by Linux's /proc/self/pagemap.

/proc/self/pagemap has 64 bits for each page: 63 present, 62 swapped, 61 "of a file, or shared". A page that is there
and not of a file is a private copy: it was written to.
"""

from __future__ import annotations

import ctypes
import mmap
import os

import numpy as np

from mmflow.lazy import array_types as npt

__all__ = ["find_copied_pages"]

_PRESENT, _SWAPPED, _OF_A_FILE = np.uint64(1 << 63), np.uint64(1 << 62), np.uint64(1 << 61)
_PAGES_AT_ONCE = 1 << 17


def find_copied_pages(mapping: mmap.mmap) -> npt.NDArray[np.int64] | None:
    """Return the offsets of the pages of a private mapping that are copies; None: /proc does not say."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    page = mmap.PAGESIZE
    first, count = address // page, -(-len(mapping) // page)
    found = []
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            for begin in range(0, count, _PAGES_AT_ONCE):
                wanted = min(_PAGES_AT_ONCE, count - begin)
                bits = np.frombuffer(os.pread(file.fileno(), 8 * wanted, 8 * (first + begin)), np.uint64)
                if len(bits) != wanted:
                    return None
                copied = ((bits & _PRESENT) > 0) & ((bits & _OF_A_FILE) == 0) | ((bits & _SWAPPED) > 0)
                found.append(begin + np.flatnonzero(copied))
    except OSError:
        return None
    return np.concatenate(found) * page if found else np.empty(0, np.int64)

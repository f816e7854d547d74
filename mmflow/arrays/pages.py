"""Changed pages of a private mapping.

Where the system knows which pages are copies (Linux), only these are compared with the file; elsewhere all pages are.
"""

from __future__ import annotations

import mmap

import numpy as np

from mmflow.lazy import array_types as npt
from mmflow.mapping.system import system

__all__ = ["find_changed_pages"]


def find_changed_pages(mapping: mmap.mmap, fd: int, page: int) -> npt.NDArray[np.int64]:
    """Return the numbers of pages (of `page` bytes) in which a private mapping of a whole file differs from it."""
    copied = system.private_copies(mapping)
    candidates = np.arange(-(-len(mapping) // page)) if copied is None else np.unique(copied // page)
    differ = []
    with memoryview(mapping) as view:
        for number in candidates.tolist():
            mine = view[number * page : (number + 1) * page]
            if mine != system.read_bytes(fd, len(mine), number * page):
                differ.append(number)
    return np.array(differ, np.int64)

"""Which pages of a private mapping differ from the file.

Where the system tells which pages are copies (Linux), only these are compared; elsewhere every page is.
"""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

from mmflow.mapping.system import system

__all__ = ["changed"]


def changed(mapping: mmap.mmap, fd: int, page: int) -> npt.NDArray[np.int64]:
    """Numbers of the pages (of `page` bytes) in which a private mapping of a whole file differs from the file."""
    copied = system.private_copies(mapping)
    candidates = np.arange(-(-len(mapping) // page)) if copied is None else np.unique(copied // page)
    differ = []
    with memoryview(mapping) as view:
        for number in candidates.tolist():
            mine = view[number * page : (number + 1) * page]
            if mine != system.read_bytes(fd, len(mine), number * page):
                differ.append(number)
    return np.array(differ, np.int64)

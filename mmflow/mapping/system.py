"""The system that this runs on: one module for each, chosen here, with what `System` names.

    linux      all of it, by system calls
    macos      Python's mmap; no advice, nothing is known of the page cache
    windows    the same, and mappings begin at multiples of 64 KiB

Nothing else in `mapping` asks which system it is.
"""

from __future__ import annotations

import sys
from typing import Literal, Protocol

if sys.platform == "win32":
    from mmflow.mapping import windows as _here
elif sys.platform == "darwin":
    from mmflow.mapping import macos as _here
else:
    from mmflow.mapping import linux as _here

__all__ = ["FileAdvice", "PageAdvice", "System", "system"]

#: Of a mapped range: `let go` of its pages, so that the kernel may drop them; `load` all of them now; may its pages be
#: huge (2 MiB on most machines) as they come, or never; or `collapse` what is there into huge ones, now.
PageAdvice = Literal["random", "sequential", "let go", "load", "huge", "small", "collapse"]
#: Of a file's range in the page cache; `load`: start to read it.
FileAdvice = Literal["random", "sequential", "load", "drop"]


class System(Protocol):
    """Plain integers in and out; whatever is refused or not offered is an OSError with its errno."""

    @property
    def GRANULARITY(self) -> int:  # noqa: N802
        """Offsets of mappings are multiples of so many bytes."""
        ...

    @property
    def PAGE_SIZE(self) -> int:  # noqa: N802
        """Bytes that the page cache counts in."""
        ...

    def open_file(self, path: str) -> int:
        """A descriptor for reading. Does not wait for a pipe's writer; no child process gets it."""
        ...

    def reopen(self, fd: int) -> int:
        """The same file with a place and readahead of its own."""
        ...

    def read_at(self, fd: int, into: memoryview, offset: int) -> int:
        """Read at an offset, from several threads, too; bytes that came, 0 at the end of the file."""
        ...

    def map_file(self, fd: int, offset: int, length: int, align: int = 0) -> int:
        """Map a range (offset: a multiple of the granularity; length: positive) read-only and shared; its address, a
        multiple of `align` where that can be had.

        The descriptor may be closed."""
        ...

    def unmap(self, address: int, length: int) -> None:
        """Undo `map_file`."""
        ...

    def advise(self, address: int, length: int, advice: PageAdvice) -> None:
        """Advise on whole pages of a mapped range. EFAULT of `load`: a page is beyond the end of the file, or can't be
        read."""
        ...

    def advise_file(self, fd: int, offset: int, length: int, advice: FileAdvice) -> None:
        """Advise on a file's range (length 0: to its end). Does nothing where there is no such thing."""
        ...

    def mincore(self, address: int, length: int) -> bytes:
        """One byte for each page of a mapped range; its lowest bit: it is in memory."""
        ...

    def cachestat(self, fd: int, offset: int, length: int) -> int:
        """Pages of a file's range that are in the page cache."""
        ...

    def file_system_name(self, fd: int) -> str:
        """Type of the file system of an open file, as Linux's mountinfo spells it; "": unknown."""
        ...

    def lock(self, fd: int, *, shared: bool, wait: bool) -> None:
        """Lock an open file until it is closed, or its process dies. BlockingIOError: another one has it."""
        ...

    def soft_limit(self, which: Literal["address space", "open files"]) -> int | None:
        """A limit of this process; None: there is none."""
        ...


system: System = _here

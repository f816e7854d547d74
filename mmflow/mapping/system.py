"""The system that this runs on: one module for each, chosen here, with what `System` names.

    linux      all of it, by system calls
    macos      Python's mmap; no advice, nothing is known of the page cache
    windows    the same, and mappings begin at multiples of 64 KiB; open files can't be deleted

Nothing else in `mapping` and `arrays` asks which system it is.
"""

from __future__ import annotations

import mmap
import sys
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

if sys.platform == "win32":
    from mmflow.mapping import windows as _here
elif sys.platform == "darwin":
    from mmflow.mapping import macos as _here
else:
    from mmflow.mapping import linux as _here

__all__ = ["FileAdvice", "PageAdvice", "RangeLock", "System", "system"]

#: Of a mapped range: `let go` of its pages, so that the kernel may drop them; `load` all of them now; may its pages be
#: huge (2 MiB on most machines) as they come, or never; or `collapse` what is there into huge ones, now.
PageAdvice = Literal["random", "sequential", "let go", "load", "huge", "small", "collapse"]
#: Of a file's range in the page cache; `load`: start to read it.
FileAdvice = Literal["random", "sequential", "load", "drop"]
#: On bytes of a file; `none`: give it back.
RangeLock = Literal["shared", "exclusive", "none"]


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

    @property
    def OPEN_FLAGS(self) -> int:  # noqa: N802
        """What `os.open` is told beside what it is to do, so that bytes stay bytes, and no child process gets them."""
        ...

    @property
    def DELETES_OPEN(self) -> bool:  # noqa: N802
        """Can a file be deleted, or replaced, while it is open?"""
        ...

    @property
    def LOCKS_RANGES(self) -> bool:  # noqa: N802
        """Does `lock_range` lock just these bytes?"""
        ...

    # ---- reading ---------------------------------------------------------------------------------------

    def open_file(self, path: str) -> int:
        """A descriptor for reading. Does not wait for a pipe's writer; no child process gets it."""
        ...

    def reopen(self, fd: int) -> int:
        """The same file with a place and readahead of its own."""
        ...

    def read_at(self, fd: int, into: memoryview, offset: int) -> int:
        """Read at an offset, from several threads, too; bytes that came, 0 at the end of the file."""
        ...

    def read_bytes(self, fd: int, length: int, offset: int) -> bytes:
        """As `read_at`, into bytes of its own."""
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

    # ---- writing ---------------------------------------------------------------------------------------

    def write_at(self, fd: int, data: memoryview, offset: int) -> int:
        """Write at an offset, from several threads, too; how many bytes were written."""
        ...

    def preallocate(self, fd: int, offset: int, length: int) -> None:
        """Take the room of a range (length: positive), so that writing to it can't fail for lack of it. What is there
        stays; the file is that long, at least. Nobody else writes to the range meanwhile."""
        ...

    def map_writable(self, fd: int, offset: int, length: int, *, private: bool) -> mmap.mmap:
        """Map a range for reading and writing; `private`: in copies, of which the file knows nothing."""
        ...

    def written(self, mapping: mmap.mmap) -> None:
        """Hand what was changed through a mapping to the file, so that `sync` finds it."""
        ...

    def sync(self, fd: int, *, content_only: bool = False) -> None:
        """Make a file durable; `content_only`: without the times of its changes, where that is quicker."""
        ...

    def sync_folder(self, path: str) -> None:
        """Make the entries of a folder durable. Does nothing where there is no such thing."""
        ...

    def rename(self, source: str, target: str, how: Literal["new", "swap"]) -> None:
        """Rename in one step: to a name that is free, or exchange two names."""
        ...

    # ---- copies of pages, holes ------------------------------------------------------------------------

    def private_copies(self, mapping: mmap.mmap) -> npt.NDArray[np.int64] | None:
        """Where in a private mapping there are pages that may differ from the file's; None: that can't be told."""
        ...

    def drop_copies(self, mapping: mmap.mmap, fd: int) -> mmap.mmap:
        """Let a private mapping of a file, from its beginning, show the file's content again.

        Returns:
            The mapping that does: the same one, or, where nobody has a view of it, another in its place.
        """
        ...

    def find_data(self, fd: int, offset: int) -> tuple[int, int]:
        """The next range from an offset on that is no hole. ENXIO: there is none; other errors: that can't be told.
        Moves the descriptor's position."""
        ...

    def punch(self, fd: int, offset: int, length: int) -> None:
        """Make a hole."""
        ...

    def clone(self, source: int, target: int) -> None:
        """Let an empty file share the content of another, until one of them is changed."""
        ...

    def copy_range(self, source: int, target: int, offset: int, length: int) -> int:
        """Copy a range to the same place of another file, within the system; bytes that were copied."""
        ...

    # ---- locks, limits ---------------------------------------------------------------------------------

    def lock(self, fd: int, *, shared: bool, wait: bool) -> None:
        """Lock an open file until it is closed, or its process dies. BlockingIOError: another one has it."""
        ...

    def lock_range(self, fd: int, begin: int, length: int, kind: RangeLock, *, wait: bool = True) -> None:
        """Lock bytes (length 0: to the end, wherever that is), or, without `LOCKS_RANGES`, the file. BlockingIOError:
        another one has some. Threads share what they hold; another opening of the file, in the same process too, is
        another one. Held until it is let go of, or the file is closed everywhere, mappings included; apart from
        `lock` on Linux only."""
        ...

    def soft_limit(self, which: Literal["address space", "open files"]) -> int | None:
        """A limit of this process; None: there is none."""
        ...


system: System = _here

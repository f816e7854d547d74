"""Windows: ranges of a file as Arrow buffers, mapped or read into memory.

Invariants: `buffer` is exactly `[offset, offset + length)` of the file, immutable, and decoders
can't tell how it was filled (its address has the alignment of its offset, up to 64 bytes, either
way). A mapping has one owner, which Arrow keeps alive through the buffer: when the last view goes,
it is unmapped. No window holds a file descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from mmflow.errors import EngineError, SourceChangedError, SourceError
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import sigbus_guard
from mmflow.mapping.access_policy import Advice, Decision, Kind
from mmflow.mapping.system import PageAdvice, system
from mmflow.storage.os_errors import read_error

__all__ = ["Mapping", "Window", "open_window", "read_into", "read_window", "window_memory"]

_ALIGNMENT = 64  # of Arrow's allocator
_HWPOISON = 133  # EHWPOISON: memory with a hardware error
_READ_AT_ONCE = 1 << 30  # the kernel reads at most 2 GiB - 4 KiB in one call


class Mapping:
    """Owner of one mapped range, which begins at `offset` of its file; unmaps it when collected.

    `hit` says whether the guard answered a fault in it with zeros (the file shrank). Without `on_hit` it is not
    guarded: where nobody checks, the end of the process is better than zeros. `lease` is released after the range is
    unmapped.
    """

    __slots__ = (
        "__weakref__",
        "_on_hit",
        "_unmap",
        "_using",
        "address",
        "lease",
        "length",
        "offset",
        "token",
    )

    def __init__(
        self, address: int, length: int, offset: int, on_hit: Callable[[], None] | None, lease: object = None
    ) -> None:
        self.address = address
        self.length = length
        self.offset = offset
        self._on_hit = on_hit
        self._unmap = system.unmap  # at interpreter exit module globals may be gone before the last view is
        self._using = threading.RLock()
        self.lease = lease
        self.token = sigbus_guard.UNGUARDED if on_hit is None else sigbus_guard.register(address, length)

    @property
    def hit(self) -> bool:
        return sigbus_guard.was_hit(self.token)

    def release_pages(self, begin: int, end: int) -> None:
        """Release the pages of the file's range `[begin, end)`, since the kernel can't evict mapped ones.

        A touch maps them again."""
        # A weak reference may give a mapping that another thread is about to unmap.
        with self._using:
            first = max(0, begin - self.offset)
            last = min(self.length, end - self.offset)
            first -= first % system.page_size
            if first < last:
                _try_advice(self.address + first, last - first, "release")

    def __del__(
        self, _release: Callable[[int], None] = sigbus_guard.release
    ) -> None:  # bound, as `_unmap` is
        if not hasattr(self, "token"):  # guard.register raised
            self._unmap(self.address, self.length)
            return
        if self._on_hit is not None and self.hit:
            self._on_hit()
        _release(self.token)
        with self._using:
            length, self.length = self.length, 0
            self._unmap(self.address, length)


@dataclass(frozen=True, slots=True)
class Window:
    """Live range of a file.

    Attributes:
        buffer: Bytes of the range; any view keeps them alive, even after the window and its file are gone.
        offset: Offset of the first byte in the file.
        length: Length in bytes.
        kind: The way it was filled.
        reason: Reason for that, for people.
        mapping: Owner of the mapped range; None for pread and for empty windows.
    """

    buffer: pa.Buffer
    offset: int
    length: int
    kind: Kind
    reason: str
    mapping: Mapping | None = None

    @property
    def end(self) -> int:
        return self.offset + self.length


def open_window(
    fd: int,
    path: str,
    offset: int,
    length: int,
    decision: Decision,
    *,
    populate: bool = True,
    on_hit: Callable[[], None] = lambda: None,
    lease: object = None,
) -> Window:
    """Map or read `[offset, offset + length)` of an open file.

    Args:
        fd: Open for reading; may be closed at once afterwards.
        path: Path of the file, for messages.
        decision: Its advice is followed; where mapping fails, pread takes over and says why.
        populate: False where most pages will not be touched: they come in one by one, whatever the decision.
        lease: Kept for as long as the range is mapped.
        on_hit: Called when the guard had to step in for this window, at the latest as it is unmapped.

    Raises:
        SourceChangedError: The file ends before the range does.
        SourceError: The bytes can't be read.
        EngineError: No memory left for the window.
    """
    if length == 0:
        return Window(pa.py_buffer(b""), offset, 0, decision.kind, decision.reason)
    size = os.fstat(fd).st_size
    if offset + length > size:
        raise _shrunk(path, offset + length, size)
    if decision.kind == "mmap":
        begin = offset - offset % system.granularity
        span = offset - begin + length
        try:
            address = system.map_file(fd, begin, span)
        except OSError as error:
            # Whatever the reason (ENODEV: the file system can't; ENOMEM: no mappings or address space left;
            # EACCES, EINVAL), pread gives the same bytes, or the error that matters.
            name = errno.errorcode.get(error.errno or 0, str(error.errno))
            decision = decision.fallback(f"mapping failed ({name}: {os.strerror(error.errno or 0)})")
        else:
            mapping = Mapping(address, span, begin, on_hit, lease)
            advice = decision.advice if populate else decision.advice & ~Advice.POPULATE
            _advise(fd, path, mapping, advice, offset + length)
            buffer = pa.foreign_buffer(address + offset - begin, length, base=mapping)
            return Window(buffer, offset, length, "mmap", decision.reason, mapping)
    buffer = read_window(fd, path, offset, length)
    return Window(buffer, offset, length, "pread", decision.reason)


def _advise(fd: int, path: str, mapping: Mapping, advice: Advice, end: int) -> None:
    if Advice.RANDOM in advice:
        _try_advice(mapping.address, mapping.length, "random")
    elif Advice.SEQUENTIAL in advice:
        _try_advice(mapping.address, mapping.length, "sequential")
    if Advice.POPULATE not in advice:
        return
    try:
        system.advise(mapping.address, mapping.length, "load")
    except OSError as error:
        if error.errno == errno.EFAULT:
            # A page is beyond the end of the file now, or the device could not read it.
            size = os.fstat(fd).st_size
            if size < end:
                raise _shrunk(path, end, size) from error
            raise read_error(path, OSError(errno.EIO, "I/O error"), "read") from error
        if error.errno == _HWPOISON:
            raise SourceError(
                f"can't read {path}: a page of memory that holds it has a hardware error; "
                "check the machine's memory (dmesg)",
                path=path,
            ) from error
        # Not offered (before Linux 5.14), or no memory for page tables: faults bring the pages in, one by one.


def _try_advice(address: int, length: int, advice: PageAdvice) -> None:
    with contextlib.suppress(OSError):  # a kernel without this advice only loses speed
        system.advise(address, length, advice)


def read_window(fd: int, path: str, offset: int, length: int) -> pa.Buffer:
    """Read a range into memory.

    Raises:
        SourceChangedError: The file ends before the range does.
        SourceError: The bytes can't be read.
        EngineError: No memory left for the window.
    """
    buffer, view = window_memory(path, offset, length)
    read_into(fd, path, offset, view)
    return buffer


def window_memory(path: str, offset: int, length: int) -> tuple[pa.Buffer, memoryview]:
    """Allocate memory for a window that is not mapped, aligned as its offset; return it, and a view to fill it.

    Raises:
        EngineError: There is no memory left.
    """
    lead = offset % _ALIGNMENT
    try:
        # Arrow's pool, not a mapping of our own: it also works when mappings have run out.
        memory: Any = pa.allocate_buffer(lead + length)
    except MemoryError as error:  # pa.ArrowMemoryError is one
        raise EngineError(
            f"no memory for a window of {length:,} bytes of {path}; lower --shard-size or --workers",
            path=path,
        ) from error
    return memory.slice(lead, length), memoryview(memory).cast("B")[lead:]


def read_into(fd: int, path: str, offset: int, view: memoryview) -> None:
    """Fill writable bytes from a file.

    Raises:
        SourceChangedError: The file ends before they are full.
        SourceError: The bytes can't be read.
    """
    length, done = len(view), 0
    while done < length:
        try:
            got = system.read_at(fd, view[done : min(length, done + _READ_AT_ONCE)], offset + done)
        except OSError as error:
            raise read_error(path, error, "read") from error
        if got == 0:
            raise _shrunk(path, offset + length, offset + done)
        done += got


def _shrunk(path: str, wanted: int, size: int) -> SourceChangedError:
    return SourceChangedError(
        f"{path} changed while it was being read: bytes up to {wanted:,} are wanted, "
        f"it now ends at {size:,}; "
        "run again once nothing writes to it",
        path=path,
    )

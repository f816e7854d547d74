"""One remote file's pages on the local disk, shared by all processes of this machine.

    KEY.data    sparse, of the remote file's size: its blocks that were fetched
    KEY.map     for each group of blocks when it was used last, then a byte for each block: is it there?

Invariants: a block's byte is set only after its data was written. A block that a mapping or a fetch needs is *leased*:
the process holds a shared lock on it (byte N of the data file is for block N), and only who has it alone may punch it
out. So no mapping ever shows a hole for data. The kernel takes the locks of a process that dies; what it wrote stays
right. Files of another boot are never opened (`remote.cache.folder`): what a power loss left of them is not known.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mmflow.lazy import array_types as npt
from mmflow.mapping.system import system
from mmflow.mapping.system.forks import disown_in_children
from mmflow.mapping.system.owner_lock import open_held
from mmflow.remote.cache.blocks import BLOCK, Range, absent_ranges, join_ranges
from mmflow.storage import disk

__all__ = ["GROUP", "Entry", "Lease", "evict", "last_used", "map_bytes", "remove_unused"]

#: Blocks that are used and evicted as one, where nobody needs some of them.
GROUP = 64
#: Byte of the data file that who has the entry open holds a shared lock on.
_OPEN = 1 << 62


def map_bytes(blocks: int) -> tuple[int, int]:
    """Return the groups of a file of so many blocks, and the bytes of its map."""
    groups = -(-blocks // GROUP)
    return groups, max(1, 8 * groups + blocks)


class Lease:
    """Keeps blocks from being evicted for as long as it lives."""

    __slots__ = ("__weakref__", "_entry", "ranges")

    def __init__(self, entry: Entry, ranges: Sequence[Range]) -> None:
        self._entry = entry
        self.ranges = tuple(ranges)

    def __del__(self) -> None:
        self._entry.release(self.ranges)


class _Descriptor:
    """Descriptor that is closed with its last user.

    Not by Entry: who has a weak reference may still get an object whose `__del__` runs.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        fd, self.fd = self.fd, -1
        with contextlib.suppress(OSError):  # pages that can't be written are fetched again
            disk.close(fd)


class Entry:
    """Open cache entry of one file; one for all threads of a process.

    Attributes:
        present: A byte for each block. used: for each group, `time.monotonic_ns` of its last use; 0: nothing is there.

    Raises:
        OSError: It can't be made.
    """

    def __init__(self, folder: str, name: str, size: int) -> None:
        self.size = size
        self.blocks = -(-size // BLOCK)
        self._lock = threading.Lock()
        self._counts: dict[int, int] = {}
        self._released: deque[tuple[Range, ...]] = deque()
        groups, length = map_bytes(self.blocks)
        self._data = _Descriptor(_open(folder, f"{name}.data"))
        if os.fstat(self.data).st_size != size:
            disk.ftruncate(self.data, size)
        path = os.path.join(folder, f"{name}.map")
        self._map = _Descriptor(disk.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        if os.fstat(self.fetching).st_size != length:
            disk.ftruncate(self.fetching, length)
        # A flag that is set where no room is left would be a SIGBUS.
        system.preallocate(self.fetching, 0, length)
        memory = mmap.mmap(self.fetching, length)
        self.used = np.frombuffer(memory, np.int64, groups)
        self.present = np.frombuffer(memory, np.uint8, self.blocks, 8 * groups)
        disown_in_children(self)

    def disown(self) -> None:
        """Acquire own locks, in a forked child, for the windows that it has mapped: those of its parent are shared
        with it, so that either would give back the other's."""
        self._lock = threading.Lock()  # a thread that the child doesn't have may have held it
        for descriptor in (self._data, self._map):
            own = disk.open(f"/proc/self/fd/{descriptor.fd}", os.O_RDWR | os.O_CLOEXEC)
            os.dup2(own, descriptor.fd, inheritable=False)
            disk.close(own)
        system.lock_range(self.data, _OPEN, 1, "shared")
        for first, last in join_ranges([(block, block + 1) for block in sorted(self._counts)], gap=0):
            system.lock_range(self.data, first, last - first, "shared")

    @property
    def data(self) -> int:
        """Descriptor of the data file."""
        return self._data.fd

    @property
    def fetching(self) -> int:
        """Descriptor of the map. Who fetches a block locks its byte."""
        return self._map.fd

    def lease(self, ranges: Iterable[Range]) -> Lease:
        """Keep these blocks from being evicted, whether they are there or not.

        Raises:
            OSError: The system has no locks left.
        """
        wanted = tuple(ranges)
        now = time.monotonic_ns()
        with self._lock:
            self._drain()
            new = []
            for first, last in wanted:
                for block in range(first, last):
                    count = self._counts.get(block, 0)
                    self._counts[block] = count + 1
                    if not count:
                        new.append((block, block + 1))
            try:
                for first, last in join_ranges(new, gap=0):
                    # Waits for who evicts them just now, which waits for nobody.
                    system.lock_range(self.data, first, last - first, "shared")
            except BaseException:  # some are not locked: none may count as leased
                self._released.append(wanted)
                self._drain()
                raise
            for first, last in wanted:
                self.used[first // GROUP : -(-last // GROUP)] = now
        return Lease(self, wanted)

    def release(self, ranges: tuple[Range, ...]) -> None:
        """Undo a lease. May be called at any time: while a collection runs inside of `lease`, too."""
        if self.data < 0:  # both were collected at once, in any order
            return
        self._released.append(ranges)
        while self._released and self._lock.acquire(blocking=False):
            try:
                self._drain()
            finally:
                self._lock.release()

    def _drain(self) -> None:
        free = []
        while self._released:
            for first, last in self._released.popleft():
                for block in range(first, last):
                    count = self._counts[block] - 1
                    if count:
                        self._counts[block] = count
                    else:
                        del self._counts[block]
                        free.append((block, block + 1))
        for first, last in join_ranges(free, gap=0):
            system.lock_range(self.data, first, last - first, "unlock")

    def absent(self, ranges: Sequence[Range]) -> list[Range]:
        """Return the parts of the ranges that are absent. Only for leased ones does the answer stay true."""
        return absent_ranges(self.present, ranges)

    def allocate(self, ranges: Iterable[Range]) -> None:
        """Allocate disk space for blocks.

        Raises:
            OSError: There is none (ENOSPC).
        """
        for first, last in ranges:
            try:
                system.preallocate(self.data, first * BLOCK, min(last * BLOCK, self.size) - first * BLOCK)
            except OSError as error:
                if error.errno not in _NOT_OFFERED:
                    raise
                return  # writing will tell

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into the data file; `publish` comes after.

        Raises:
            OSError: No space is left, or the disk fails.
        """
        view = memoryview(data)
        while view:
            done = disk.pwrite(self.data, view, offset)
            view, offset = view[done:], offset + done

    def publish(self, ranges: Iterable[Range]) -> None:
        """Mark blocks as present."""
        for first, last in ranges:
            self.present[first:last] = 1


_NOT_OFFERED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def _open(folder: str, name: str) -> int:
    """Open or make a data file, and hold it: nobody removes it from now on."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        disk.makedirs(folder, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # the folder was removed meanwhile
            fd = open_held(
                os.path.join(folder, name), flags, 0o600, lambda fd: system.lock_range(fd, _OPEN, 1, "shared")
            )
            if fd is not None:
                return fd


def evict(path: str, groups: Sequence[int]) -> None:
    """Punch out groups of an entry, but for blocks that somebody needs.

    Args:
        path: Path of the entry, without `.data`.
        groups: Their numbers.
    """
    with contextlib.suppress(FileNotFoundError), _open_both(path) as (data, fd):
        blocks = -(-os.fstat(data).st_size // BLOCK)
        count, length = map_bytes(blocks)
        if os.fstat(fd).st_size != length:
            return
        memory = mmap.mmap(fd, length)
        used = np.frombuffer(memory, np.int64, count)
        present = np.frombuffer(memory, np.uint8, blocks, 8 * count)
        for group in groups:
            first, last = group * GROUP, min((group + 1) * GROUP, blocks)
            if _punch(data, present, first, last):
                used[group] = 0
                system.lock_range(data, first, last - first, "unlock")
                continue
            for block in range(first, last):
                if _punch(data, present, block, block + 1):
                    system.lock_range(data, block, 1, "unlock")


def _punch(data: int, present: npt.NDArray[np.uint8], first: int, last: int) -> bool:
    """Punch out blocks if nobody needs them; they are still locked then."""
    try:
        system.lock_range(data, first, last - first, "exclusive", wait=False)
    except BlockingIOError:
        return False
    present[first:last] = 0
    with contextlib.suppress(OSError):  # a disk that fails: the space stays taken, as `measure` sees
        system.punch_hole(data, first * BLOCK, (last - first) * BLOCK)
    return True


def last_used(path: str) -> npt.NDArray[np.int64]:
    """Return when each group of an entry was used last; 0: no block of it is present. Empty if the entry is gone."""
    with contextlib.suppress(FileNotFoundError), _open_both(path) as (data, fd):
        count, length = map_bytes(-(-os.fstat(data).st_size // BLOCK))
        if os.fstat(fd).st_size == length:
            return np.frombuffer(mmap.mmap(fd, length, prot=mmap.PROT_READ), np.int64, count).copy()
    return np.zeros(0, np.int64)


def remove_unused(path: str) -> None:
    """Remove an entry, if no process has it open."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), _open_both(path) as (data, _):
        system.lock_range(data, _OPEN, 1, "exclusive", wait=False)
        # In this order: data without a map says of no block that it is there; a map without data would.
        disk.unlink(f"{path}.map")
        disk.unlink(f"{path}.data")


@contextlib.contextmanager
def _open_both(path: str) -> Iterator[tuple[int, int]]:
    """Open both files of an entry."""
    with contextlib.ExitStack() as stack:
        fds = []
        for suffix in (".data", ".map"):
            fds.append(disk.open(path + suffix, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
            stack.callback(disk.close, fds[-1])
        yield fds[0], fds[1]

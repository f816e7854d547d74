"""All entries of the cache under one bound, least recently used out, shared by the processes of this machine.

    BASE/entries-1/
        lock                     held while space is made and had, for moments
        KIND/NAME                `cache.entry`; the name is a digest of the key
        KIND/NAME.part           being written: its writer holds an exclusive lock on it

    write     lock NAME.part -> space for the next bytes, counted by the disk -> bytes -> ... -> head -> rename to NAME
    evict     an exclusive lock on NAME, which whoever has it mapped shares -> unlink

Invariants: a name without `.part` has had all its bytes before. A part without a lock is a dead writer's: the next
writer of that name takes it, else eviction and `verify` remove it. Space is had before it is written to, so the bound
holds whatever dies when. Nothing here raises for the disk or for other processes: there is no entry, or what was
written is lost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import zlib
from collections.abc import Iterable, Iterator

from mmflow.cache.entry import (
    BLOCK,
    KINDS,
    CacheEntry,
    DamagedEntryError,
    EntryKey,
    Kind,
    body_offset,
    encode_head,
    open_entry,
)
from mmflow.cache.place import own_folder, places
from mmflow.errors import MmflowError
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.mapping import FileIdentity
from mmflow.mapping.system import system
from mmflow.mapping.system.owner_lock import open_held, try_lock
from mmflow.storage import clock, disk
from mmflow.storage.format_versions import CACHE_ENTRY
from mmflow.storage.url import is_url

__all__ = ["CacheStore", "EntryInfo", "EntryWriter", "Verified", "open_store"]

_DEFAULT_BYTES = 10 << 30
#: Bytes for which space is had at once.
_STEP = 4 << 20
#: Share of the bound that is evicted beyond what is needed: each search lists all entries.
_SHARE = 16
_PART = ".part"
_NAME = lazy_regex(r"[0-9a-f]{32}(\.part)?")
#: Seconds that a writer waits for others that make space; then its entry is lost.
_PATIENCE = 1.0
_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
_NOT_OFFERED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """Entry as people see it.

    Attributes:
        key: Its key.
        path: Its file.
        nbytes: Bytes on the disk.
        used: When it was used last, in seconds since 1970.
        pinned: Whether a process has it mapped.
    """

    key: EntryKey
    path: str
    nbytes: int
    used: float
    pinned: bool


@dataclass(frozen=True, slots=True)
class Verified:
    """Outcome of a check of all entries: paths of what is right, and of what was removed, by reason."""

    right: tuple[str, ...]
    damaged: tuple[str, ...]
    stale: tuple[str, ...]
    unfinished: tuple[str, ...]


class CacheStore:
    """Cache in a folder. `open_store` makes it.

    Args:
        base: Folder of the cache.
        size: Bytes that it may hold; None: 10 GiB, or half of the free space if that is less.

    Raises:
        OSError: The folder can't be made, is not this user's alone, or lies on a file server.
    """

    def __init__(self, base: str, size: int | None) -> None:
        disk.makedirs(base, mode=0o700, exist_ok=True)
        self.folder = os.path.join(base, f"entries-{CACHE_ENTRY.version}")
        own_folder(self.folder)
        self.size = size

    # ---- reading -----------------------------------------------------------------------------------

    def open(self, key: EntryKey) -> CacheEntry | None:
        """Return the entry of a key, pinned as long as it or a view of it lives; None: there is none.

        One that is not as it was written, or somebody else's, is removed.
        """
        path = self._path(key)
        try:
            return open_entry(path, key)
        except DamagedEntryError:
            with contextlib.suppress(OSError):
                disk.unlink(path)
            return None

    def has(self, key: EntryKey) -> bool:
        """Return whether there is an entry of a key, which may still prove damaged."""
        return os.path.exists(self._path(key))

    def entries(self, kinds: Iterable[Kind] = KINDS) -> Iterator[EntryInfo]:
        """Yield the entries whose heads are right, in no order, without using them."""
        for path, found in self._files(kinds):
            if path.endswith(_PART):
                continue
            with contextlib.suppress(DamagedEntryError):
                entry = open_entry(path)
                if entry is not None:
                    _set_used(path, found)
                    key = entry.key
                    del entry  # whose lock would be another's
                    yield EntryInfo(key, path, found.st_blocks * 512, found.st_mtime, _is_pinned(path))

    # ---- writing -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def write(self, key: EntryKey) -> Iterator[EntryWriter]:
        """Write an entry, which is published when the block ends, unless it raises.

        Nothing is raised for the disk: without space, or where another process writes the same entry just now, the
        writer is `lost`, and takes bytes for nothing.
        """
        writer = EntryWriter(self, self._path(key), key)
        try:
            yield writer
            writer.publish()
        finally:
            writer.close()

    def drop(self, key: EntryKey) -> None:
        """Remove an entry that turned out to be wrong. Never fails."""
        with contextlib.suppress(OSError):
            disk.unlink(self._path(key))

    def clear(self, kinds: Iterable[Kind] = KINDS) -> tuple[int, int]:
        """Remove all entries that no process has mapped; return how many went, and their bytes."""
        count = nbytes = 0
        for path, found in self._files(kinds):
            if _remove(path):
                count, nbytes = count + 1, nbytes + found.st_blocks * 512
        return count, nbytes

    def verify(self, kinds: Iterable[Kind] = KINDS) -> Verified:
        """Compare all bytes of all entries with their sums, and entries with their files; remove what is wrong."""
        right, damaged, stale, unfinished = [], [], [], []
        for path, found in self._files(kinds):
            if path.endswith(_PART):
                if _remove(path):
                    unfinished.append(path)
                continue
            try:
                entry = open_entry(path)
                if entry is None:
                    continue
                _set_used(path, found)
                entry.view()
            except DamagedEntryError:
                with contextlib.suppress(OSError):
                    disk.unlink(path)
                damaged.append(path)
                continue
            if _is_stale(entry.key):
                entry.drop()
                stale.append(path)
            else:
                right.append(path)
        return Verified(tuple(right), tuple(damaged), tuple(stale), tuple(unfinished))

    # ---- the bound ---------------------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """Bytes that it may hold now."""
        if self.size is not None:
            return self.size
        return min(_DEFAULT_BYTES, (shutil.disk_usage(self.folder).free + self.measure()) // 2)

    def measure(self) -> int:
        """Return the bytes that entries have on the disk, and those that are being written."""
        return sum(found.st_blocks * 512 for _, found in self._files())

    def reserve(self, fd: int, offset: int, least: int, most: int) -> int:
        """Get space for bytes of a file of the cache; entries go for `least`, where the bound or the disk is reached.

        Returns:
            Bytes that were had. 0: what is there is in use, or others make space all the time.
        """
        with contextlib.suppress(OSError), self._locked() as locked:
            if not locked:
                return 0
            if self.measure() + most <= self.limit and _allocate(fd, offset, most):
                return most
            if not self._make_room(least):
                return 0
            if _allocate(fd, offset, least) or (self._evict(least) >= least and _allocate(fd, offset, least)):
                return least
        return 0

    def _make_room(self, nbytes: int) -> bool:
        limit = self.limit
        if nbytes > limit:
            return False
        excess = self.measure() + nbytes - limit
        return excess <= 0 or self._evict(excess, limit // _SHARE) >= excess

    def _evict(self, nbytes: int, more: int = 0) -> int:
        """Remove what nobody uses until so many bytes, and about so many more, are free; return the bytes freed."""
        freed = 0
        files = sorted(self._files(), key=lambda f: (not f[0].endswith(_PART), f[1].st_mtime_ns))
        for path, found in files:
            if freed >= nbytes + more:
                break
            if _remove(path):
                freed += found.st_blocks * 512
        return freed

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the lock of the bound; False: others hold it all the time."""
        fd = disk.open(
            os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CREAT | _NOFOLLOW | system.open_flags, 0o600
        )
        try:
            until = clock.monotonic() + _PATIENCE
            while not (locked := try_lock(fd)) and clock.monotonic() < until:
                clock.sleep(0.005)
            yield locked
        finally:
            disk.close(fd)

    # ---- files -------------------------------------------------------------------------------------

    def _path(self, key: EntryKey) -> str:
        return os.path.join(self.folder, key.kind, key.name)

    def _files(self, kinds: Iterable[Kind] = KINDS) -> list[tuple[str, os.stat_result]]:
        found = []
        for kind in kinds:
            with contextlib.suppress(FileNotFoundError), os.scandir(os.path.join(self.folder, kind)) as files:
                for file in files:
                    with contextlib.suppress(FileNotFoundError):
                        if _NAME.fullmatch(file.name):
                            found.append((file.path, file.stat(follow_symlinks=False)))
        return found


class EntryWriter:
    """Entry that is being written. `CacheStore.write` makes it.

    Attributes:
        lost: Nothing is written any more: there is no space, or another process writes this entry.
        size: Bytes of the body so far.
    """

    def __init__(self, store: CacheStore, path: str, key: EntryKey) -> None:
        self._store = store
        self._path = path
        self._text = key.text
        self._begin = body_offset(len(self._text))
        self._had = 0
        self._sums: list[int] = []
        self._sum = 0
        self._fd: int | None = None
        self._published = False
        self.size = 0
        with contextlib.suppress(OSError):
            own_folder(os.path.dirname(path))
            flags = os.O_RDWR | os.O_CREAT | _NOFOLLOW | system.open_flags
            while self._fd is None:
                self._fd = open_held(f"{path}{_PART}", flags, 0o600, _take)
            disk.ftruncate(self._fd, 0)
        self.lost = self._fd is None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes to the body."""
        view = memoryview(data).cast("B")
        while view and not self.lost:
            part = view[: BLOCK - self.size % BLOCK]
            self._put(part, self._begin + self.size)
            self._sum = zlib.crc32(part, self._sum)
            self.size += len(part)
            if self.size % BLOCK == 0:
                self._sums.append(self._sum)
                self._sum = 0
            view = view[len(part) :]

    def _put(self, view: memoryview, offset: int) -> bool:
        assert self._fd is not None
        try:
            if offset + len(view) > self._had:
                least = offset + len(view) - self._had
                most = max(least, _STEP if self.size else BLOCK + self._begin)
                had = self._store.reserve(self._fd, self._had, least, most)
                self._had += had
                self.lost = not had
            while view and not self.lost:
                done = disk.pwrite(self._fd, view, offset)
                view, offset = view[done:], offset + done
        except OSError:
            self.lost = True
        return not self.lost

    def publish(self) -> None:
        """Give the entry its name, under which every process finds it. Never fails."""
        if self.lost:
            return
        assert self._fd is not None
        if self.size % BLOCK:
            self._sums.append(self._sum)
        sums = b"".join(s.to_bytes(4, "little") for s in self._sums)
        end = self._begin + self.size + len(sums)
        head = memoryview(encode_head(self._text, self.size, sums))
        if not (self._put(memoryview(sums), self._begin + self.size) and self._put(head, 0)):
            return
        with contextlib.suppress(OSError):
            disk.ftruncate(self._fd, end)  # space that was had for more
            disk.replace(f"{self._path}{_PART}", self._path)
            self._published = True

    def close(self) -> None:
        """Remove what was not published. Idempotent."""
        fd, self._fd = self._fd, None
        self.lost = not self._published
        if fd is None:
            return
        with contextlib.suppress(OSError):
            if not self._published:
                disk.unlink(f"{self._path}{_PART}")
        with contextlib.suppress(OSError):
            disk.close(fd)


def _take(fd: int) -> None:
    if not try_lock(fd):
        raise BlockingIOError


def _allocate(fd: int, offset: int, length: int) -> bool:
    try:
        system.preallocate(fd, offset, length)
    except OSError as error:
        return error.errno in _NOT_OFFERED  # writing will tell
    return True


def _remove(path: str) -> bool:
    """Remove a file, if no process has it mapped or writes it; return whether."""
    try:
        fd = _open_alone(path)
        if fd is None:
            return False
        try:
            disk.unlink(path)
        finally:
            disk.close(fd)
    except OSError:
        return False
    return True


def _is_pinned(path: str) -> bool:
    try:
        fd = _open_alone(path)
    except BlockingIOError:
        return True
    except OSError:
        return False
    if fd is not None:
        disk.close(fd)
    return False


def _open_alone(path: str) -> int | None:
    return open_held(path, os.O_RDWR | _NOFOLLOW | system.open_flags, 0o600, _take)


def _set_used(path: str, found: os.stat_result) -> None:
    """Undo that a look at an entry counts as its use."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)


def _is_stale(key: EntryKey) -> bool:
    if is_url(key.source):
        return False
    try:
        return FileIdentity.of(key.source) != key.identity
    except (MmflowError, OSError, ValueError):
        return True


# ---- of this process ------------------------------------------------------------------------------


_lock = threading.Lock()
_stores: dict[tuple[str, int | None, str, str], CacheStore | None] = {}


def open_store(cache_dir: str, cache_size: int | None, spill_dir: str) -> CacheStore | None:
    """Return the cache that these settings name (`Settings.remote_options`); None where there is none.

    There is none if `cache_size` is 0, no folder can be used, or the system's locks do not last as long as a mapping.
    """
    if cache_size == 0 or not system.locks_ranges:
        return None
    key = (cache_dir, cache_size, spill_dir, os.environ.get("XDG_CACHE_HOME", ""))
    with _lock:
        known = _stores.get(key)
        if key not in _stores or (known is not None and not os.path.isdir(known.folder)):
            known = _stores[key] = None
            for place in places(cache_dir, spill_dir):
                with contextlib.suppress(OSError):
                    known = _stores[key] = CacheStore(place, cache_size)
                    break
        return known

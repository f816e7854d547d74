"""The folder of pages: bounded, least recently used out, shared by the processes of this machine.

    BASE/pages-1-BOOT/                      one for each boot and version: others are removed once nobody uses them
        lock                                held (shared) by each process that uses the folder
        used                                bytes there are on the disk, or a little more; its lock is for changing them
        URL/IDENTITY.data, .map             `remote.cache.entry`; names are digests

Invariants: space is had (`reserve`) before it is written to, and counted before it is had, so the bound holds whatever
dies when. Who finds no space, since all is needed just now, reads into memory instead. The folder is its users' by its
lock (`mapping.system.owner_lock`), also after a power cut; what else that leaves of it is never read.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import stat
import struct
import threading
import weakref
from collections.abc import Iterator, Sequence

import numpy as np

from mmflow.cache.place import places
from mmflow.errors import EngineError
from mmflow.lazy.patterns import lazy_regex
from mmflow.mapping.system import system
from mmflow.mapping.system.host import read_boot_id
from mmflow.mapping.system.owner_lock import open_held, remove_dead, sync_names
from mmflow.remote.cache.blocks import BLOCK, Range
from mmflow.remote.cache.entry import Entry, evict, last_used, remove_unused
from mmflow.remote.options import RemoteOptions
from mmflow.storage import disk
from mmflow.storage.format_versions import PAGES

__all__ = ["PageCache", "open_cache"]

_DEFAULT_BYTES = 10 << 30
_LOCK = "lock"
_FOLDER = lazy_regex(r"pages-\d+-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_COUNT = struct.Struct("q")
#: Share of the cache that is evicted at once: the search for the least recently used costs something each time.
_SHARE = 16
_BEHIND = 1 << 20  # nothing is there
_MADE = os.O_RDWR | os.O_CREAT  # no child process gets it: that is Python's default


class PageCache:
    """Cache folder of one boot. `open_cache` makes it.

    Attributes:
        folder: Folder of pages of this boot.
        size: Bytes that it may hold; None: as `RemoteOptions.cache_size` says.

    Raises:
        OSError: The folder can't be made or written to.
    """

    def __init__(self, base: str, size: int | None) -> None:
        self.size = size
        boot = read_boot_id()
        if not boot:
            raise OSError(errno.ENOSYS, "this system doesn't say since when it runs")
        self.folder = os.path.join(base, f"pages-{PAGES.version}-{boot}")
        self._alive = _open_locked(self.folder)
        counting = os.path.join(self.folder, "used")
        if not os.path.exists(counting):
            sync_names(self.folder)
        self._counting = disk.open(counting, _MADE, 0o600)
        if os.fstat(self._counting).st_size < _COUNT.size:
            disk.ftruncate(self._counting, _COUNT.size)
        # Errors where these are not offered.
        system.lock_range(self._counting, 0, _COUNT.size, "unlock")
        system.punch_hole(self._counting, _BEHIND, system.page_size)
        system.preallocate(self._counting, 0, _COUNT.size)  # a store where no room is left would be a SIGBUS
        self._count = mmap.mmap(self._counting, _COUNT.size)
        self._lock = threading.Lock()
        self._entries: weakref.WeakValueDictionary[str, Entry] = weakref.WeakValueDictionary()
        _sweep(base, os.path.basename(self.folder))

    def entry(self, url: str, identity: str, size: int) -> Entry:
        """Return the entry of a file.

        Args:
            url: Digest of its URL.
            identity: Digest of what it is; entries of other identities are removed, unless they are used.
            size: Bytes.

        Raises:
            OSError: It can't be made.
        """
        folder = os.path.join(self.folder, url)
        with self._lock:
            known = self._entries.get(f"{url}/{identity}")
            if known is None:
                known = self._entries[f"{url}/{identity}"] = Entry(folder, identity, size)
                for path in _paths(folder):
                    if os.path.basename(path) != identity:
                        remove_unused(path)
        return known

    @property
    def limit(self) -> int:
        """Bytes that it may hold now."""
        if self.size is not None:
            return self.size
        return min(_DEFAULT_BYTES, (shutil.disk_usage(self.folder).free + self.counted()) // 2)

    def reserve(self, entry: Entry, ranges: Sequence[Range]) -> bool:
        """Reserve space for blocks of an entry that are about to be fetched; they must be leased.

        Returns:
            False: there is none. Nothing is had then.
        """
        wanted = sum(last - first for first, last in ranges) * BLOCK
        try:
            with self._locked_count():
                return self._try_reserve(entry, ranges, wanted)
        except (
            FileNotFoundError
        ):  # somebody removed the folder: what is open stays, and the next file makes it anew
            return False

    def _try_reserve(self, entry: Entry, ranges: Sequence[Range], wanted: int) -> bool:
        limit = self.limit
        if wanted > limit:
            return False
        used = self.counted()
        if used + wanted > limit:
            used = self.measure()
        if used + wanted > limit:
            self._evict(used + wanted - limit + limit // _SHARE)
            used = self.measure()
        room = used + wanted <= limit and self._try_allocate(entry, ranges, used + wanted)
        if not room and used + wanted <= limit:  # the disk is full, whatever the bound
            self._evict(wanted)
            room = self._try_allocate(entry, ranges, self.measure() + wanted)
            used = self.measure() - (wanted if room else 0)
        self._count[:] = _COUNT.pack(used + wanted if room else used)
        return room

    def _try_allocate(self, entry: Entry, ranges: Sequence[Range], used: int) -> bool:
        """Allocate space, which is counted before: a count that is too large is corrected by the next measurement."""
        self._count[:] = _COUNT.pack(used)
        try:
            entry.allocate(ranges)
        except OSError:
            return False
        return True

    def measure(self) -> int:
        """Return the bytes of pages on the disk, without their maps: a page per file, 1/32,000 of the largest files."""
        total = 0
        for path in self._all():
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(f"{path}.data").st_blocks * 512
        return total

    def counted(self) -> int:
        """Return the bytes of pages on the disk, or a little more."""
        return int(_COUNT.unpack(self._count[:])[0])

    @contextlib.contextmanager
    def _locked_count(self) -> Iterator[None]:
        with self._lock:
            system.lock_range(self._counting, 0, _COUNT.size, "exclusive")
            try:
                yield
            finally:
                system.lock_range(self._counting, 0, _COUNT.size, "unlock")

    def _all(self) -> list[str]:
        folders = [f.path for f in os.scandir(self.folder) if f.is_dir()]
        return [path for folder in folders for path in _paths(folder)]

    def _evict(self, nbytes: int) -> None:
        """Make about so much room: groups of blocks go, least recently used first, and entries without any."""
        paths = self._all()
        times = [last_used(path) for path in paths]
        owners = np.repeat(np.arange(len(paths)), [len(t) for t in times])
        groups = np.concatenate([np.arange(len(t)) for t in times]) if times else np.zeros(0, np.int64)
        when = np.concatenate(times) if times else np.zeros(0, np.int64)
        there = np.flatnonzero(when)
        order = there[np.argsort(when[there], kind="stable")]
        target = self.measure() - nbytes
        # In steps: what somebody needs stays, so that what a step frees is not known before.
        step = max(1, min(len(order), -(-nbytes // (BLOCK * 64))))
        for begin in range(0, len(order), step):
            chosen = order[begin : begin + step]
            for owner in np.unique(owners[chosen]):
                evict(paths[owner], [int(g) for g in groups[chosen][owners[chosen] == owner]])
            if self.measure() <= target:
                break
        for path in paths:
            if not last_used(path).any():
                remove_unused(path)
                with contextlib.suppress(OSError):  # other entries are in it, or one is being made
                    disk.rmdir(os.path.dirname(path))


def _open_locked(folder: str) -> int:
    """Make a folder of pages unless it is there, and hold it: nobody removes it from now on."""
    while True:
        disk.makedirs(folder, mode=0o700, exist_ok=True)
        _require_own(folder)
        with contextlib.suppress(FileNotFoundError):  # the folder was removed meanwhile
            fd = open_held(
                os.path.join(folder, _LOCK), _MADE, 0o600, lambda fd: system.lock(fd, shared=True, wait=True)
            )
            if fd is not None:
                return fd


def _require_own(folder: str) -> None:
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(errno.EPERM, f"{folder} is a link, which another user may have made")
    if _user() not in ("", str(found.st_uid)):
        raise PermissionError(errno.EPERM, f"{folder} belongs to another user")


def _user() -> str:
    """Return the number of this user; "": the system has none."""
    return str(os.geteuid()) if hasattr(os, "geteuid") else ""


def _paths(folder: str) -> list[str]:
    """Return the entries of a URL, without suffix."""
    try:
        return [f.path.removesuffix(".data") for f in os.scandir(folder) if f.name.endswith(".data")]
    except FileNotFoundError:
        return []


def _sweep(base: str, own: str) -> None:
    """Remove folders of other boots, and of other versions, that nobody uses."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = os.listdir(base)
    for name in names:
        if _FOLDER.fullmatch(name) and name != own:
            with contextlib.suppress(OSError):
                remove_dead(os.path.join(base, name), _LOCK)


# ---- of this process ------------------------------------------------------------------------------


_lock = threading.Lock()
_caches: dict[tuple[int, RemoteOptions], PageCache | None] = {}


def open_cache(remote_options: RemoteOptions) -> PageCache | None:
    """Return the cache that these settings name; None where there is none.

    There is none if nothing is to be kept, no folder can be written to, or the system has no locks on ranges of
    files.

    Raises:
        EngineError: `cache_dir` is given, and can't be used.
    """
    if not system.locks_ranges and remote_options.cache_dir:
        raise EngineError(
            f"can't keep pages of remote files in {remote_options.cache_dir}: this system has no locks on ranges of "
            "files; leave cache_dir out"
        )
    if remote_options.cache_size == 0 or not system.locks_ranges:
        return None
    key = (
        os.getpid(),
        RemoteOptions(remote_options.cache_dir, remote_options.cache_size, remote_options.spill_dir),
    )
    with _lock:
        known = _caches.get(key)
        if key not in _caches or (known is not None and not os.path.isdir(known.folder)):
            known = _caches[key] = _open(remote_options)
        return known


def _open(remote_options: RemoteOptions) -> PageCache | None:
    if remote_options.cache_dir:
        try:
            return PageCache(remote_options.cache_dir, remote_options.cache_size)
        except OSError as error:
            raise EngineError(
                f"can't keep pages of remote files in {remote_options.cache_dir}: {error.strerror or error}; set "
                "cache_dir (MMFLOW_CACHE_DIR) to a folder on a local disk that can be written to, or cache_size to 0"
            ) from error
    home, *others = places("", remote_options.spill_dir)
    with contextlib.suppress(OSError):
        return PageCache(home, remote_options.cache_size)
    for place in others:
        with contextlib.suppress(OSError):
            disk.makedirs(place, mode=0o700, exist_ok=True)
            _require_own(place)  # anybody may make folders in /tmp
            return PageCache(place, remote_options.cache_size)
    return None

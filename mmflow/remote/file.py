"""A remote file that is read through windows, as a local one is.

Invariant: a window is mapped from the sparse file only after its blocks are there, and holds a lease on them for as
long as a view of it lives. Where the cache has no room, or there is none, the window's bytes are fetched into memory:
slower if they are read again, never wrong, and bounded by the windows that are alive.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from mmflow.errors import MmflowError
from mmflow.mapping.file import MappedFile, default_budget
from mmflow.mapping.identity import FileIdentity
from mmflow.mapping.strategy import Access, Decision, Io, decide, read_facts
from mmflow.mapping.system import system
from mmflow.mapping.window import Window, read_into
from mmflow.remote.blocks import BLOCK, Range, blocks_of, joined
from mmflow.remote.cache import PageCache, open_cache
from mmflow.remote.entry import Entry, Lease
from mmflow.remote.object import RemoteObject, look
from mmflow.remote.paging import Pages, read_into_memory
from mmflow.remote.reach import Reach
from mmflow.remote.url import scheme_of, shown

__all__ = ["RemoteFile"]

#: A scan begins with small windows: its rows come sooner, and one that needs few of them fetches little.
_FIRST_WINDOW, _GROWTH = 1 << 20, 4
#: Of one file, read ahead at once.
_AHEAD = 2

_lock = threading.Lock()
_pages: weakref.WeakValueDictionary[tuple[int, str, str], Pages] = weakref.WeakValueDictionary()


class RemoteFile(MappedFile):
    """A remote file, open for reading through windows. `remote.open_file` makes it."""

    remote = True

    def __init__(
        self, url: str, reach: Reach, identity: FileIdentity, io: Io, budget: int | None, access: Access
    ) -> None:
        self._source = RemoteObject(url, reach, identity)
        cache = open_cache(reach)
        self._paging = None if cache is None else _pages_of(cache, url, reach, identity)
        self._ahead = threading.BoundedSemaphore(_AHEAD)
        self._closed = threading.Event()
        if self._paging is None:
            fd = system.open_file(os.devnull)
            where = (
                "cache_size is 0" if reach.cache_size == 0 else "no folder to keep pages in can be written to"
            )
            decision = decide(read_facts(fd), io="pread", budget=default_budget(), access=access)
            decision = replace(decision, reason=f"remote, read into memory: {where}")
        else:
            fd = os.dup(self._paging.entry.data)
            limit = default_budget() if budget is None else budget
            decision = _paged(decide(read_facts(fd), io=io, budget=limit, access=access), cache)
        super().__init__(shown(url), fd, identity, decision)

    @classmethod
    def reach(
        cls,
        url: str,
        reach: Reach,
        *,
        io: Io = "auto",
        budget: int | None = None,
        access: Access = "sequential",
        expected: FileIdentity | None = None,
    ) -> RemoteFile:
        """Open a remote file. Of one that is `expected`, or was seen in this `reaching` block, nothing is asked now:
        whatever is fetched of it is checked against its identity, and so is it by `check_unchanged`.

        Raises:
            SourceError: Missing, a folder, unreadable, of unknown size.
            ConfigError: No such file system.
            EngineError: `cache_dir` can't be written to.
        """
        identity = look(url, reach.storage, again=False).identity if expected is None else expected
        return cls(url, reach, identity, io, budget, access)

    @property
    def fetched(self) -> int:
        """See `MappedFile.fetched`."""
        return self._source.fetched

    def kept(self) -> int:
        """See `MappedFile.kept`."""
        if self._paging is None:
            return 0
        return min(int(self._paging.entry.present.sum()) * BLOCK, self.size)

    def _window(self, offset: int, length: int, populate: bool, lease: object = None) -> Window:
        if not length:
            return Window(pa.py_buffer(b""), offset, 0, self.decision.kind, self.decision.reason)
        reason, paging = self.decision.reason, self._paging
        self._descriptor()  # says so if the file is closed
        if paging is not None:
            blocks = [blocks_of(offset, length)]
            lease = _leased(paging.entry, blocks)
            if lease is not None and paging.fill(self._source, blocks):
                return super()._window(offset, length, populate, lease)
            reason = "remote, read into memory: the cache has no room (cache_size, or the disk is full)"
        buffer = read_into_memory(self._source, offset, length)
        return Window(buffer, offset, length, "pread", reason)

    @property
    def fd(self) -> int:
        """None that may be read from: what was not fetched are zeros there."""
        raise TypeError(f"bug: {self.path} is remote, and read through its windows only")

    def read_into(self, offset: int, view: memoryview) -> None:
        """See `MappedFile.read_into`."""
        blocks, paging = [blocks_of(offset, len(view))], self._paging
        lease = None if paging is None else _leased(paging.entry, blocks)
        if paging is not None and lease is not None and paging.fill(self._source, blocks):
            read_into(self._descriptor(), self.path, offset, view)
        else:
            view[:] = read_into_memory(self._source, offset, len(view))

    def hold(self, parts: Sequence[tuple[int, int]]) -> object:
        """See `MappedFile.hold`."""
        blocks, paging = joined(blocks_of(o, n) for o, n in parts), self._paging
        lease = None if paging is None else _leased(paging.entry, blocks)
        if paging is not None and lease is not None:
            paging.fill(self._source, blocks)
        return lease

    def load(self, begin: int, end: int) -> None:
        """See `MappedFile.load`; it does not wait."""
        self.prepare([(begin, end - begin)])

    def prefetch(self, offset: int, length: int) -> None:
        """Start fetching a range; returns at once, and never fails."""
        self.prepare([(offset, length)])

    def prefetch_parts(self, parts: Sequence[tuple[int, int]]) -> None:
        """Start fetching ranges; returns at once, and never fails."""
        self.prepare(parts)

    def prepare(self, parts: Sequence[tuple[int, int]]) -> None:
        """Start fetching ranges; returns at once, and never fails."""
        paging = self._paging
        if paging is None:
            return
        clipped = [(o, min(n, self.size - o)) for o, n in parts if o < self.size and n > 0]
        ranges = joined(blocks_of(o, n) for o, n in clipped)
        if not paging.idle(ranges) or not self._ahead.acquire(blocking=False):
            return
        threading.Thread(
            target=self._fetch_ahead, args=(paging, ranges), name="mmflow-read-ahead", daemon=True
        ).start()

    def _fetch_ahead(self, paging: Pages, ranges: list[tuple[int, int]]) -> None:
        try:
            lease = paging.entry.lease(ranges)
            paging.fill(self._source, ranges, wanted=lambda: not self._closed.is_set())
            del lease
        except (MmflowError, OSError):  # whoever reads it will meet it
            pass
        finally:
            self._ahead.release()

    def paces(self, most: int) -> Iterator[int]:
        """See `MappedFile.paces`."""
        size = min(_FIRST_WINDOW, most)
        while True:
            yield size
            size = min(_GROWTH * size, most)

    def resident(self, begin: int, end: int) -> int:
        """See `MappedFile.resident`."""
        return 0 if self._paging is None else super().resident(begin, end)

    def check_unchanged(self) -> None:
        """See `MappedFile.check_unchanged`.

        Raises:
            SourceChangedError: It changed.
            SourceError: It can't be asked.
        """
        self._source.verify_lately()
        self.check_windows()

    def close(self) -> None:
        """See `MappedFile.close`; nothing more is read ahead, and the entry is held by windows only."""
        self._closed.set()
        super().close()
        self._paging = None


def _leased(entry: Entry, blocks: Sequence[Range]) -> Lease | None:
    try:
        return entry.lease(blocks)
    except OSError:
        return None


def _paged(decision: Decision, cache: PageCache | None) -> Decision:
    assert cache is not None
    return replace(decision, reason=f"remote, paged through {cache.folder}; {decision.reason}")


def _pages_of(cache: PageCache, url: str, reach: Reach, identity: FileIdentity) -> Pages | None:
    """The pages of a file; None: they can't be kept (the disk is full, no descriptors are left)."""
    # Files in memory are of one process.
    own = f"{os.getpid()}-{identity.mtime_ns}" if scheme_of(url) == "memory" else ""
    named = (
        _digest(url, reach.storage),
        _digest(str(identity.size), str(identity.mtime_ns), identity.tag, own),
    )
    with _lock:
        known = _pages.get((id(cache), *named))
        if known is None:
            try:
                known = Pages(cache, cache.entry(*named, identity.size))
            except OSError:
                return None
            _pages[id(cache), *named] = known
        return known


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

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
from mmflow.mapping.access_policy import Access, Decision, Io, decide, read_facts
from mmflow.mapping.file import MappedFile, default_budget
from mmflow.mapping.identity import FileIdentity
from mmflow.mapping.system import system
from mmflow.mapping.window import Window, read_into
from mmflow.remote.cache.blocks import BLOCK, Range, blocks_of, join_ranges
from mmflow.remote.cache.entry import Entry, Lease
from mmflow.remote.cache.fetcher import EntryFetcher, read_into_memory
from mmflow.remote.cache.folder import PageCache, open_cache
from mmflow.remote.object import RemoteObject, look_up
from mmflow.remote.options import RemoteOptions
from mmflow.storage.url import redact_url, url_scheme

__all__ = ["RemoteFile"]

#: A scan begins with small windows: its rows come sooner, and one that needs few of them fetches little. Once so many
#: bytes of a file were read, the next shards begin with larger ones.
_FIRST_WINDOW, _GROWTH = 1 << 20, 4
_NEXT_WINDOW = 16 << 20
#: Bytes by which the last window of a shard reaches past its end, to find the end of its last record.
_BEYOND = 1 << 16
#: Bytes of one file that are read ahead at once.
_AHEAD = 2

_lock = threading.Lock()
_pages: weakref.WeakValueDictionary[tuple[int, str, str], EntryFetcher] = weakref.WeakValueDictionary()


class RemoteFile(MappedFile):
    """Remote file, open for reading through windows. `remote.open_file` makes it."""

    fetches = True

    def __init__(
        self,
        url: str,
        remote_options: RemoteOptions,
        identity: FileIdentity,
        io: Io,
        budget: int | None,
        access: Access,
    ) -> None:
        self._source = RemoteObject(url, remote_options, identity)
        cache = open_cache(remote_options)
        self._fetcher = None if cache is None else _fetcher_of(cache, url, remote_options, identity)
        self._ahead = threading.BoundedSemaphore(_AHEAD)
        self._closed = threading.Event()
        if self._fetcher is None:
            fd = system.open_file(os.devnull)
            where = (
                "cache_size is 0"
                if remote_options.cache_size == 0
                else "no folder to keep pages in can be written to"
            )
            decision = decide(read_facts(fd), io="pread", budget=default_budget(), access=access)
            decision = replace(decision, reason=f"remote, read into memory: {where}")
        else:
            fd = os.dup(self._fetcher.entry.data)
            limit = default_budget() if budget is None else budget
            decision = _decide_paged(decide(read_facts(fd), io=io, budget=limit, access=access), cache)
        super().__init__(redact_url(url), fd, identity, decision)

    @classmethod
    def remote_options(
        cls,
        url: str,
        remote_options: RemoteOptions,
        *,
        io: Io = "auto",
        budget: int | None = None,
        access: Access = "sequential",
        expected: FileIdentity | None = None,
    ) -> RemoteFile:
        """Open a remote file.

        A file that is `expected`, or was seen in this `using_remote_options` block, causes no request now: its bytes
        are checked against its identity when they are fetched, and by `check_unchanged`.

        Raises:
            SourceError: Missing, a folder, unreadable, of unknown size.
            ConfigError: No such file system.
            EngineError: `cache_dir` can't be written to.
        """
        identity = (
            look_up(url, remote_options.storage, again=False).identity if expected is None else expected
        )
        return cls(url, remote_options, identity, io, budget, access)

    @property
    def fetched(self) -> int:
        return self._source.fetched

    def cached_bytes(self) -> int:
        if self._fetcher is None:
            return 0
        return min(int(self._fetcher.entry.present.sum()) * BLOCK, self.size)

    def _window(self, offset: int, length: int, populate: bool, lease: object = None) -> Window:
        if not length:
            return Window(pa.py_buffer(b""), offset, 0, self.decision.kind, self.decision.reason)
        reason, fetcher = self.decision.reason, self._fetcher
        self._descriptor()  # says so if the file is closed
        if fetcher is not None:
            blocks = [blocks_of(offset, length)]
            lease = _try_lease(fetcher.entry, blocks)
            if lease is not None and fetcher.fill(self._source, blocks):
                fetcher.read += length
                return super()._window(offset, length, populate, lease)
            reason = "remote, read into memory: the cache has no room (cache_size, or the disk is full)"
        buffer = read_into_memory(self._source, offset, length)
        return Window(buffer, offset, length, "pread", reason)

    @property
    def fd(self) -> int:
        """Raise an error: a descriptor must not be read from, since parts that were not fetched are zeros."""
        raise TypeError(f"bug: {self.path} is remote, and read through its windows only")

    def beyond(self, window_bytes: int) -> int:
        return _BEYOND

    def read_into(self, offset: int, view: memoryview) -> None:
        blocks, fetcher = [blocks_of(offset, len(view))], self._fetcher
        lease = None if fetcher is None else _try_lease(fetcher.entry, blocks)
        if fetcher is not None and lease is not None and fetcher.fill(self._source, blocks):
            read_into(self._descriptor(), self.path, offset, view)
        else:
            view[:] = read_into_memory(self._source, offset, len(view))

    def pin(self, parts: Sequence[tuple[int, int]]) -> object:
        blocks, fetcher = join_ranges(blocks_of(o, n) for o, n in parts), self._fetcher
        lease = None if fetcher is None else _try_lease(fetcher.entry, blocks)
        if fetcher is not None and lease is not None:
            fetcher.fill(self._source, blocks)
        return lease

    def load(self, begin: int, end: int) -> None:
        """Start fetching a range; returns at once."""
        self.fetch([(begin, end - begin)])

    def prefetch(self, offset: int, length: int) -> None:
        """Start fetching a range; returns at once, and never fails."""
        self.fetch([(offset, length)])

    def prefetch_parts(self, parts: Sequence[tuple[int, int]]) -> None:
        """Start fetching ranges; returns at once, and never fails."""
        self.fetch(parts)

    def fetch(self, parts: Sequence[tuple[int, int]]) -> None:
        """Start fetching ranges; returns at once, and never fails."""
        fetcher = self._fetcher
        if fetcher is None:
            return
        clipped = [(o, min(n, self.size - o)) for o, n in parts if o < self.size and n > 0]
        ranges = join_ranges(blocks_of(o, n) for o, n in clipped)
        if not fetcher.idle(ranges) or not self._ahead.acquire(blocking=False):
            return
        threading.Thread(
            target=self._fetch_ahead, args=(fetcher, ranges), name="mmflow-read-ahead", daemon=True
        ).start()

    def _fetch_ahead(self, fetcher: EntryFetcher, ranges: list[tuple[int, int]]) -> None:
        try:
            lease = fetcher.entry.lease(ranges)
            fetcher.fill(self._source, ranges, wanted=lambda: not self._closed.is_set())
            del lease
        except (MmflowError, OSError):  # whoever reads it will meet it
            pass
        finally:
            self._ahead.release()

    def window_sizes(self, most: int) -> Iterator[int]:
        fetcher = self._fetcher
        size = min(_FIRST_WINDOW if fetcher is None or fetcher.read < _NEXT_WINDOW else _NEXT_WINDOW, most)
        while True:
            yield size
            size = min(_GROWTH * size, most)

    def resident(self, begin: int, end: int) -> int:
        return 0 if self._fetcher is None else super().resident(begin, end)

    def check_unchanged(self) -> None:
        self._source.verify_recently()
        self.check_windows()

    def close(self) -> None:
        """Close the file: nothing more is read ahead, and only windows hold the entry."""
        self._closed.set()
        super().close()
        self._fetcher = None


def _try_lease(entry: Entry, blocks: Sequence[Range]) -> Lease | None:
    try:
        return entry.lease(blocks)
    except OSError:
        return None


def _decide_paged(decision: Decision, cache: PageCache | None) -> Decision:
    assert cache is not None
    return replace(decision, reason=f"remote, paged through {cache.folder}; {decision.reason}")


def _fetcher_of(
    cache: PageCache, url: str, remote_options: RemoteOptions, identity: FileIdentity
) -> EntryFetcher | None:
    """Return the pages of a file; None: they can't be kept (the disk is full, no descriptors are left)."""
    # Files in memory are of one process.
    own = f"{os.getpid()}-{identity.mtime_ns}" if url_scheme(url) == "memory" else ""
    named = (
        _digest(url, remote_options.storage),
        _digest(str(identity.size), str(identity.mtime_ns), identity.tag, own),
    )
    with _lock:
        known = _pages.get((id(cache), *named))
        if known is None:
            try:
                known = EntryFetcher(cache, cache.entry(*named, identity.size))
            except OSError:
                return None
            _pages[id(cache), *named] = known
        return known


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

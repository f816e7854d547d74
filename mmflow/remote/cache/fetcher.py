"""Fetcher of the blocks that an entry lacks.

    fill(ranges)    which blocks are absent, and not being fetched by another thread
                    space for them; locks, in order, against other processes
                    requests in parallel
                    the file is still the same, as each answer says or another look: they are there

Invariant: a block is there only after all of its bytes came, and their answer named the version that the entry is named
by with a strong ETag; or the file was looked at *after* that and had this identity. So what is kept of one version is
never of another, whoever dies when.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from functools import partial
from typing import TypeVar

import pyarrow as pa

from mmflow.errors import SourceError, SourceUnreachableError
from mmflow.mapping.system import system
from mmflow.mapping.window import window_memory
from mmflow.remote.cache.blocks import BLOCK, Range, join_ranges, split_ranges
from mmflow.remote.cache.entry import Entry
from mmflow.remote.cache.folder import PageCache
from mmflow.remote.cache.pool import submit
from mmflow.remote.object import RemoteObject
from mmflow.remote.responses import NoRanges, Part

__all__ = ["REQUEST", "EntryFetcher", "read_into_memory"]

#: Bytes of a request, at most: large enough for its way there and back not to matter, small enough for several at once.
REQUEST = 4 << 20
_ROUNDS = 4
_T = TypeVar("_T")


class _NotWanted(Exception):  # noqa: N818  (a signal: nobody waits for these bytes any more)
    pass


class _Job:
    """Blocks that a thread of this process fetches."""

    def __init__(self, ranges: list[Range]) -> None:
        self.ranges = ranges
        self.done = threading.Event()


class EntryFetcher:
    """Cache entry and the fetches of this process into it; one for all threads.

    Attributes:
        entry: Entry that holds the pages.
        read: Bytes of windows that this process had of it, about.
    """

    def __init__(self, cache: PageCache, entry: Entry) -> None:
        self.entry = entry
        self.read = 0
        self._cache = cache
        self._lock = threading.Lock()
        self._claimed: dict[int, _Job] = {}
        self._whole = threading.Lock()

    def idle(self, ranges: Sequence[Range]) -> list[Range]:
        """Return the parts of the ranges that are neither present nor being fetched by this process."""
        with self._lock:
            return self._unclaimed(self.entry.absent(ranges))

    def _unclaimed(self, ranges: Sequence[Range]) -> list[Range]:
        free = [(b, b + 1) for first, last in ranges for b in range(first, last) if b not in self._claimed]
        return join_ranges(free, gap=0)

    def fill(
        self, source: RemoteObject, ranges: Sequence[Range], wanted: Callable[[], bool] = lambda: True
    ) -> bool:
        """Fetch what is missing of these blocks, which the caller has leased.

        Args:
            source: Object to fetch from.
            ranges: Blocks.
            wanted: Looked at before each request; False: no more of them.

        Returns:
            False: the cache has no space for them, or they are not wanted any more.

        Raises:
            SourceChangedError, SourceError: They can't be fetched.
        """
        for _ in range(_ROUNDS):
            with self._lock:
                missing = self.entry.absent(ranges)
                if not missing:
                    return True
                others = {id(job): job for first, last in missing for b in range(first, last)
                          if (job := self._claimed.get(b)) is not None}  # fmt: skip
                job = _Job(self._unclaimed(missing))
                for first, last in job.ranges:
                    self._claimed.update(dict.fromkeys(range(first, last), job))
            if job.ranges:
                try:
                    if not self._fetch(source, job.ranges, wanted):
                        return False
                except NoRanges:
                    return self._fetch_whole(source)
                finally:
                    with self._lock:
                        for first, last in job.ranges:
                            for block in range(first, last):
                                self._claimed.pop(block, None)
                    job.done.set()
            # Last: whoever waits for this thread's job must not wait for another's.
            for other in others.values():
                other.done.wait()
        return not self.entry.absent(ranges)

    def _fetch(self, source: RemoteObject, ranges: list[Range], wanted: Callable[[], bool]) -> bool:
        entry = self.entry
        if not self._cache.reserve(entry, ranges):
            return False
        held: list[Range] = []
        try:
            # In order, so that no two processes wait for each other. Who waited finds what the other has fetched.
            for first, last in ranges:
                # Whoever does not let go is stopped: the same bytes, fetched twice, do no harm.
                with contextlib.suppress(TimeoutError):
                    system.lock_range(entry.fetching, first, last - first, "exclusive")
                    held.append((first, last))
            parts = list(split_ranges(entry.absent(ranges), REQUEST // BLOCK))
            requests = [submit(partial(self._piece, source, part, wanted)) for part in parts]
            came: list[Range] = []
            proven = True
            try:
                for place, part in _as_completed(parts, requests):
                    entry.write(place[0] * BLOCK, part.data)
                    came.append(place)
                    proven &= part.proven
            finally:
                if came:
                    if not proven:
                        source.verify()
                    entry.publish(came)
        except _NotWanted:
            return False
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                return False
            raise
        finally:
            for first, last in held:
                system.lock_range(entry.fetching, first, last - first, "unlock")
        return True

    def _piece(self, source: RemoteObject, part: Range, wanted: Callable[[], bool]) -> Part:
        if not wanted():
            raise _NotWanted
        return source.read(part[0] * BLOCK, min(part[1] * BLOCK, self.entry.size))

    def _fetch_whole(self, source: RemoteObject) -> bool:
        """Fetch all of a file whose server sends no parts."""
        entry = self.entry
        every = [(0, entry.blocks)]
        lease = entry.lease(every)
        try:
            with self._whole:
                missing = entry.absent(every)
                if not missing:
                    return True
                if not self._cache.reserve(entry, missing):
                    raise SourceError(
                        f"can't read {source.name}: its server sends whole files only, and its {entry.size:,} bytes "
                        f"don't fit the cache; set cache_size (MMFLOW_CACHE_SIZE) higher, or download it",
                        path=source.name,
                    )
                for attempt in (1, 2, 3):
                    try:
                        self._download(source)
                        break
                    except SourceUnreachableError:
                        if attempt == 3:
                            raise
                source.verify()
                entry.publish(every)
        finally:
            del lease
        return True

    def _download(self, source: RemoteObject) -> None:
        offset = 0
        for data in source.stream():
            if offset + len(data) > self.entry.size:
                offset += len(data)
                break
            self.entry.write(offset, data)
            offset += len(data)
        if offset != self.entry.size:
            came = "more" if offset > self.entry.size else f"{offset:,}"
            raise SourceUnreachableError(
                f"can't read {source.name}: it has {self.entry.size:,} bytes, {came} came", path=source.name
            )


def _as_completed(parts: Sequence[_T], requests: Sequence[Future[Part]]) -> Iterator[tuple[_T, Part]]:
    """Yield parts and their bytes, in the order in which they arrive; raise the first failure after the last part."""
    numbers = {request: part for part, request in zip(parts, requests, strict=True)}
    failure: BaseException | None = None
    for request in as_completed(numbers):
        part = numbers.pop(request)  # its bytes are not held until the last one is there
        error = request.exception()
        if error is None:
            yield part, request.result()
        elif failure is None or isinstance(failure, _NotWanted):
            failure = error
    if failure is not None:
        raise failure


def read_into_memory(source: RemoteObject, offset: int, length: int) -> pa.Buffer:
    """Read bytes of a remote file without keeping them.

    Raises:
        SourceChangedError, SourceError: They can't be fetched.
        EngineError: No memory.
    """
    buffer, view = window_memory(source.name, offset, length)

    def piece(begin: int) -> Part:
        return source.read(offset + begin, offset + min(begin + REQUEST, length))

    begins = range(0, length, REQUEST)
    requests = [submit(partial(piece, begin)) for begin in begins]
    proven = True
    try:
        for begin, part in _as_completed(begins, requests):
            view[begin : begin + len(part.data)] = part.data
            proven &= part.proven
    except NoRanges as error:
        raise SourceError(
            f"can't read {source.name}: its server sends whole files only; they are kept in the cache, for which there "
            "is no room now: set cache_dir and cache_size, or download it",
            path=source.name,
        ) from error
    if not proven:
        source.verify()
    return buffer

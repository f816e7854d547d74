"""Files that are read through windows.

Invariant: while a MappedFile is open it holds one descriptor and no mapping of its own; windows
own theirs and outlive it. Bytes that were read may be trusted only after `check_unchanged`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import threading
import weakref
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import pyarrow as pa

from mmflow.errors import SourceChangedError, SourceError
from mmflow.mapping.access_policy import SMALL, Access, Advice, Decision, Io, decide, read_facts
from mmflow.mapping.identity import FileIdentity
from mmflow.mapping.page_cache import resident_bytes
from mmflow.mapping.readahead import Loader, is_most
from mmflow.mapping.reclaim import is_near_limit
from mmflow.mapping.system import system
from mmflow.mapping.system.limits import total_memory
from mmflow.mapping.window import Mapping, Window, open_window, read_into, read_window
from mmflow.storage.os_errors import read_error

__all__ = ["UNKNOWN_SIZE", "MappedFile", "default_budget", "require_regular"]

#: Size of a stream whose end has not come yet: more than any has.
UNKNOWN_SIZE = 1 << 62

#: Page cache is evicted in pieces of at least this many bytes: each call walks page tables and locks.
_EVICT_BYTES = 32 << 20
#: Bytes between checks whether the container's memory nears its limit.
_CHECK_BYTES = 8 << 20
#: Bytes past the end of a shard that come with its last window: what is mapped costs time for each page.
_BEYOND = 1 << 20
#: Ranges of up to this many bytes are left to the kernel's own readahead.
_READAHEAD_BYTES = 1 << 20


def default_budget() -> int:
    """Return the bytes of page cache that one file may fill: half the container's memory."""
    return total_memory() // 2


class MappedFile:
    """Regular file, open for reading through windows; a context manager. Thread-safe.

    Attributes:
        fetches: Whether bytes are fetched before they can be read, so that unneeded ones should not be asked for.
        once: Whether bytes come once and in order (a stream); their number is not known before the end.
        path: Path, as given.
        identity: Identity when opened.
        decision: The way in which windows are filled, with the reason.
        whole: Whether it is read at once, as small files are: all windows are of one moment.
        seen: What the format that reads it found out about it; of use to that format only.
        compression: Compression of its bytes, where its archive says that; None: its first bytes tell.
        in_archive: Whether it is a member of an archive.
        decompressed: Whether its bytes are the contents of a compressed file.
    """

    fetches = False
    once = False
    whole = False
    seen: object = None
    compression: str | None = None
    in_archive = False
    decompressed = False

    def __init__(self, path: str, fd: int, identity: FileIdentity, decision: Decision) -> None:
        self.path = path
        self.identity = identity
        self.decision = decision
        self._fd: int | None = fd
        self._lock = threading.Lock()
        self._mappings: list[weakref.ref[Mapping]] = []
        self._prune_at = 64
        self._hits: list[bool] = []  # shared with windows, which may outlive this object
        self._prefetched = 0
        self._cached = (0, 0)  # range that was in the page cache when `resident` looked
        self._loading: Loader | None = None
        self._evict_begin = 0
        self._evict_end = 0
        self._evict_checked = 0  # `_evict_end` when eviction was last considered
        self._contents: pa.Buffer | None = None  # of a file that is read as a whole

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        io: Io = "auto",
        budget: int | None = None,
        access: Access = "sequential",
        expected: FileIdentity | None = None,
        live: bool = False,
    ) -> Self:
        """Open a file for reading.

        Args:
            path: Regular file.
            io: `mmap`, `pread`, or `auto` to let `strategy.decide` choose.
            budget: Bytes of page cache that the file may fill; beyond it, pages are evicted behind the cursor.
                None: half of the container's memory.
            access: Order in which it will be read.
            expected: Identity at planning time.
            live: Each window shows the file as it is then, and mapped ones what is written later; else a small file is
                read once.

        Raises:
            SourceError: The file is missing, unreadable, a directory, a pipe or a device.
            SourceChangedError: The file is not the one that was planned with.
            EngineError: The process is out of file descriptors.
        """
        name = os.fspath(path)
        try:
            fd = system.open_file(name)
        except FileNotFoundError as error:
            if expected is not None:
                expected.check(name)
            raise read_error(name, error) from error
        except OSError as error:
            raise read_error(name, error) from error
        try:
            status = os.fstat(fd)
            require_regular(name, status.st_mode)
            identity = FileIdentity.from_stat(status)
            if expected is not None:
                expected.check_same(identity, name)
            limit = default_budget() if budget is None else budget
            decision = decide(read_facts(fd, status), io=io, budget=limit, access=access, live=live)
            whole = not live and decision.kind == "pread" and identity.size <= SMALL
            if access != "any" and not whole:
                system.advise_file(fd, 0, 0, access)
        except BaseException:  # the descriptor must not leak, whatever happens
            os.close(fd)
            raise
        file = cls(name, fd, identity, decision)
        file.whole = whole
        return file

    @property
    def size(self) -> int:
        """Size when opened, in bytes; windows never reach beyond it. Of a stream that has not ended, `UNKNOWN_SIZE`."""
        return self.identity.size

    @property
    def fd(self) -> int:
        """Descriptor of the file, valid until `close`."""
        return self._descriptor()

    def _descriptor(self) -> int:
        if self._fd is None:
            raise ValueError(f"{self.path} is closed")
        return self._fd

    @property
    def fetched(self) -> int:
        """Bytes that were fetched for this object."""
        return 0

    def cached_bytes(self) -> int | None:
        """Return the bytes that a local cache holds; None: the file needs no cache."""
        return None

    def resident(self, begin: int, end: int) -> int:
        """Return the bytes of `[begin, end)` in the page cache; 0 where the kernel does not tell."""
        try:
            found = resident_bytes(self._descriptor(), begin, end - begin)
        except OSError:
            return 0
        self._cached = (begin, end) if is_most(found, end - begin) else (0, 0)
        return found

    def _was_cached(self, begin: int, end: int) -> bool:
        """Return whether `resident` has found a range in the page cache, but for what is left to the kernel."""
        first, last = self._cached
        return first <= begin and end <= last + _READAHEAD_BYTES

    def window(self, offset: int, length: int, *, populate: bool = True) -> Window:
        """Return the bytes `[offset, offset + length)`, clipped to the file's size.

        Without `populate`, pages come in one by one as they are touched, for windows of which few pages are read.

        Raises:
            SourceChangedError: The file shrank.
            SourceError: The bytes can't be read.
            EngineError: There is no memory left for the window.
        """
        if offset < 0 or length < 0:
            raise ValueError(f"window [{offset}, {offset} + {length}) of {self.path} is negative")
        offset = min(offset, self.size)
        return self._window(offset, min(length, self.size - offset), populate)

    def _window(self, offset: int, length: int, populate: bool, lease: object = None) -> Window:
        if self.whole and length:
            contents = self._contents
            if contents is None:
                contents = self._contents = read_window(self._descriptor(), self.path, 0, self.size)
            return Window(contents.slice(offset, length), offset, length, "pread", self.decision.reason)
        hits = self._hits
        if (
            populate
            and length > _READAHEAD_BYTES
            and Advice.PREFETCH in self.decision.advice
            and not self._was_cached(offset, offset + length)
        ):
            self._loader().load(offset, offset + length)
        window = open_window(
            self._descriptor(),
            self.path,
            offset,
            length,
            self.decision,
            populate=populate,
            on_hit=lambda: hits.append(True),
            lease=lease,
        )
        if window.mapping is not None:
            with self._lock:
                if len(self._mappings) >= self._prune_at:
                    self._mappings = [ref for ref in self._mappings if ref() is not None]
                    self._prune_at = max(64, 2 * len(self._mappings))
                self._mappings.append(weakref.ref(window.mapping))
        return window

    def prefetch(self, offset: int, length: int) -> None:
        """Start reading a range into the page cache. Returns at once, and never fails.

        Does nothing where the decision is against it, or for a range that was prefetched before.
        """
        if Advice.PREFETCH not in self.decision.advice or self._was_cached(offset, offset + length):
            return
        begin, end = max(offset, self._prefetched), min(offset + length, self.size)
        if end - begin <= _READAHEAD_BYTES:
            return
        self._prefetched = end
        loader = self._loader()
        if not loader.is_cached(begin, end):  # a thread costs more than to ask
            threading.Thread(
                target=loader.load, args=(begin, end), name="mmflow-prefetch", daemon=True
            ).start()

    def load(self, begin: int, end: int) -> None:
        """Read a range into the page cache, in order. Blocks until it is there, and never fails."""
        self._loader().load(begin, min(end, self.size))

    def glance(self, offset: int, length: int) -> bytes:
        """Return a few bytes of the file, as `window` does; they are read, since it takes six calls to map them.

        Raises as `window`.
        """
        if self.fetches or self.once or self.whole:
            return bytes(self.window(offset, length, populate=False).buffer.to_pybytes())
        buffer = bytearray(max(0, min(length, self.size - offset)))
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` with bytes of the file.

        Raises:
            SourceChangedError: The file ends before the view is full.
            SourceError: The bytes can't be read.
        """
        read_into(self._descriptor(), self.path, offset, view)

    def pin(self, parts: Sequence[tuple[int, int]]) -> object:
        """Fetch ranges (offset, length) together, and pin them while the returned object lives.

        Ranges that find no room are fetched when they are read.
        """
        del parts
        return None

    def fetch(self, parts: Sequence[tuple[int, int]]) -> None:
        """Start fetching ranges (offset, length) that are read next, where bytes must be fetched. Never fails."""

    def prefetch_parts(self, parts: Sequence[tuple[int, int]]) -> None:
        """Prefetch ranges (offset, length), of which not all bytes in between are needed."""
        begin = min(offset for offset, _ in parts)
        self.prefetch(begin, max(offset + length for offset, length in parts) - begin)

    def window_sizes(self, most: int) -> Iterator[int]:
        """Yield the sizes of a scan's windows in bytes, the first one, the second one, ...; `most` soon."""
        return itertools.repeat(most)

    def beyond(self, window_bytes: int) -> int:
        """Return by how many bytes a window reaches past the end of its shard, for the end of the last record."""
        return min(window_bytes, _BEYOND)

    def _loader(self) -> Loader:
        with self._lock:
            if self._loading is None:
                self._loading = Loader(self._descriptor())
            return self._loading

    def evict_behind(self, offset: int, length: int) -> None:
        """Evict the pages of a range that has been read, where the decision says so or memory nears its limit.

        Near the limit of the container, all that was read in order up to here goes. Calls are coalesced; `close` evicts
        the last piece. Views of the range stay valid: their pages come back from the file when they are touched.
        """
        if length <= 0:
            return
        if offset != self._evict_end:
            self._evict()
            self._evict_begin = self._evict_checked = offset
        self._evict_end = offset + length
        always = Advice.EVICT_BEHIND in self.decision.advice
        if self._evict_end - self._evict_checked >= (_EVICT_BYTES if always else _CHECK_BYTES):
            self._evict()

    def _evict(self) -> None:
        begin, end = self._evict_begin, self._evict_end
        self._evict_checked = end
        if begin < end and (Advice.EVICT_BEHIND in self.decision.advice or is_near_limit()):
            with self._lock:
                live = [mapping for ref in self._mappings if (mapping := ref()) is not None]
            for mapping in live:
                mapping.release_pages(begin, end)
            system.advise_file(self._descriptor(), begin, end - begin, "evict")
            self._evict_begin = end

    def check_unchanged(self) -> None:
        """Check that the file is still as it was when opened, and that no window lost its pages.

        Raises:
            SourceChangedError: The file changed; nothing that was read from it may be used.
        """
        self.identity.check(self.path)
        self.check_windows()

    def check_windows(self) -> None:
        """Check that no window lost its pages, whatever else happened to the file.

        Raises:
            SourceChangedError: A page was read as zeros: it lay beyond the end of the file, or could not be read.
        """
        with self._lock:
            live = [ref() for ref in self._mappings]
        if self._hits or any(mapping is not None and mapping.hit for mapping in live):
            raise SourceChangedError(
                f"{self.path} changed while it was being read: it was cut short, and grew back, or its disk or file "
                "server failed; run again once nothing writes to it, or look for the fault in dmesg",
                path=self.path,
            )

    def close(self) -> None:
        """Close the descriptor; windows stay valid. Idempotent."""
        if self._fd is not None:
            self._evict()
            fd, self._fd = self._fd, None  # it is closed whatever `close` says
            with contextlib.suppress(OSError):  # of no concern to who has read it
                os.close(fd)
            self._loading = None  # a prefetch under way still holds it
            self._contents = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"MappedFile({self.path!r}, size={self.size}, {self.decision.kind}: {self.decision.reason})"


def require_regular(path: str, mode: int) -> None:
    """Refuse a file that can't be mapped or read twice.

    Args:
        path: Path of the file, for the message.
        mode: `st_mode` of the file.

    Raises:
        SourceError: It is a directory, a pipe, a socket or a device.
    """
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise SourceError(
            f"can't open {path}: this is a directory; name its files, or use a glob such as {path}/*",
            path=path,
        )
    kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
    raise SourceError(
        f"can't open {path}: it is a {kind}, which can be read only once and from its start; "
        "save it to a file first (for example with `cat`), and read that",
        path=path,
    )

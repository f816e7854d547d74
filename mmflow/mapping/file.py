"""A file that is read through windows.

Invariant: while a MappedFile is open it holds one descriptor and no mapping of its own; windows
own theirs and outlive it. What was read is only to be trusted after `check_unchanged`.
"""

from __future__ import annotations

import itertools
import os
import stat
import threading
import weakref
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from mmflow.errors import SourceChangedError, SourceError
from mmflow.mapping.failures import source_failure
from mmflow.mapping.identity import FileIdentity
from mmflow.mapping.limits import total_memory
from mmflow.mapping.loading import Loader
from mmflow.mapping.pressure import near_limit
from mmflow.mapping.residency import resident_bytes
from mmflow.mapping.strategy import Access, Advice, Decision, Io, decide, read_facts
from mmflow.mapping.system import system
from mmflow.mapping.window import Mapping, Window, open_window, read_into

__all__ = ["MappedFile", "default_budget", "require_regular"]

#: Page cache is given back in pieces of at least this much: each call walks page tables and locks.
_DROP_AT_ONCE = 32 << 20
#: How often, in bytes that are done with, to look whether the container's memory nears its limit.
_LOOK_EVERY = 8 << 20
#: Ranges up to this are left to the kernel's own readahead.
_LOAD_BYTES = 1 << 20


def default_budget() -> int:
    """Bytes of page cache that one file may fill: half the container's memory."""
    return total_memory() // 2


class MappedFile:
    """A regular file, open for reading through windows. A context manager; `open` makes it.

    Windows may be asked for from several threads.

    Attributes:
        remote: Bytes that nobody needs are better not asked for: they come over a network.
        path: As given.
        size: In bytes, when opened; windows never reach beyond it.
        identity: When opened.
        decision: How windows are filled, and why.
    """

    remote = False

    def __init__(self, path: str, fd: int, identity: FileIdentity, decision: Decision) -> None:
        self.path = path
        self.identity = identity
        self.size = identity.size
        self.decision = decision
        self._fd: int | None = fd
        self._lock = threading.Lock()
        self._mappings: list[weakref.ref[Mapping]] = []
        self._prune_at = 64
        self._hits: list[bool] = []  # shared with windows, which may outlive this object
        self._prefetched = 0
        self._loading: Loader | None = None
        self._drop_begin = 0
        self._drop_end = 0
        self._drop_seen = 0  # how far `_drop_end` was when it was last asked whether to drop

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        io: Io = "auto",
        budget: int | None = None,
        access: Access = "sequential",
        expected: FileIdentity | None = None,
    ) -> Self:
        """Open a file for reading.

        Args:
            path: A regular file.
            io: `mmap`, `pread`, or `auto` to let `strategy.decide` choose.
            budget: Bytes of page cache that the file may fill; beyond it, pages are dropped behind.
                None: half of the container's memory.
            access: How it will be read.
            expected: Identity when planned.

        Raises:
            SourceError: Missing, not readable, a directory, a pipe or a device.
            SourceChangedError: Not the file that was planned with.
            EngineError: Out of file descriptors.
        """
        name = os.fspath(path)
        try:
            fd = system.open_file(name)
        except FileNotFoundError as error:
            if expected is not None:
                expected.check(name)
            raise source_failure(name, error) from error
        except OSError as error:
            raise source_failure(name, error) from error
        try:
            status = os.fstat(fd)
            require_regular(name, status.st_mode)
            identity = FileIdentity.from_stat(status)
            if expected is not None:
                expected.check_same(identity, name)
            limit = default_budget() if budget is None else budget
            decision = decide(read_facts(fd), io=io, budget=limit, access=access)
            if access != "any":
                system.advise_file(fd, 0, 0, access)
        except BaseException:  # whatever it is, the descriptor must not leak
            os.close(fd)
            raise
        return cls(name, fd, identity, decision)

    @property
    def fd(self) -> int:
        """The descriptor of a local file, valid until `close`."""
        return self._descriptor()

    def _descriptor(self) -> int:
        if self._fd is None:
            raise ValueError(f"{self.path} is closed")
        return self._fd

    @property
    def fetched(self) -> int:
        """Bytes of it that came over a network, for this object; none of a local file."""
        return 0

    def kept(self) -> int | None:
        """Bytes of a remote file that are kept here; None: it is local."""
        return None

    def resident(self, begin: int, end: int) -> int:
        """Bytes of `[begin, end)` that are in the page cache, as far as the kernel tells."""
        try:
            return resident_bytes(self._descriptor(), begin, end - begin)
        except OSError:
            return 0

    def window(self, offset: int, length: int, *, populate: bool = True) -> Window:
        """The bytes `[offset, offset + length)`, clipped to the file's size.

        Without `populate`, pages come in one by one as they are touched: for windows of which little is.

        Raises:
            SourceChangedError: The file shrank.
            SourceError: The bytes can't be read.
            EngineError: No memory left for the window.
        """
        if offset < 0 or length < 0:
            raise ValueError(f"window [{offset}, {offset} + {length}) of {self.path} is negative")
        offset = min(offset, self.size)
        return self._window(offset, min(length, self.size - offset), populate)

    def _window(self, offset: int, length: int, populate: bool, lease: object = None) -> Window:
        hits = self._hits
        if populate and length > _LOAD_BYTES and Advice.PREFETCH in self.decision.advice:
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
        """Start loading a range into the page cache; returns at once, and never fails.

        Does nothing where the decision is against it, or for a range that was asked for already.
        """
        if Advice.PREFETCH not in self.decision.advice:
            return
        begin, end = max(offset, self._prefetched), min(offset + length, self.size)
        if end - begin <= _LOAD_BYTES:
            return
        self._prefetched = end
        threading.Thread(
            target=self._loader().load, args=(begin, end), name="mmflow-prefetch", daemon=True
        ).start()

    def load(self, begin: int, end: int) -> None:
        """Bring a range into the page cache by reading it in order; blocks while it does, and never fails."""
        self._loader().load(begin, min(end, self.size))

    def read_into(self, offset: int, view: memoryview) -> None:
        """Copy bytes of the file, all of `view`.

        Raises:
            SourceChangedError: The file ends before.
            SourceError: They can't be read.
        """
        read_into(self._descriptor(), self.path, offset, view)

    def hold(self, parts: Sequence[tuple[int, int]]) -> object:
        """Have these ranges (offset, length) of a remote file here, fetched all at once, while what this gives lives.

        A favour: what there is no room for is fetched as it is read.
        """
        del parts
        return None

    def prepare(self, parts: Sequence[tuple[int, int]]) -> None:
        """These ranges (offset, length) are read next, one after the other: a remote file asks for all of them at once.

        Local ones leave it to `prefetch`.
        """

    def prefetch_parts(self, parts: Sequence[tuple[int, int]]) -> None:
        """`prefetch` for ranges of which not all between them is needed."""
        begin = min(offset for offset, _ in parts)
        self.prefetch(begin, max(offset + length for offset, length in parts) - begin)

    def paces(self, most: int) -> Iterator[int]:
        """Bytes of the first window of a scan, of the second, ...; `most` at most, and soon."""
        return itertools.repeat(most)

    def _loader(self) -> Loader:
        with self._lock:
            if self._loading is None:
                self._loading = Loader(self._descriptor())
            return self._loading

    def drop_behind(self, offset: int, length: int) -> None:
        """Give back the page cache of a range that is done with, where the decision says so, or where the container's
        memory nears its limit (then all that was read in order up to here).

        Calls are coalesced; the last piece is dropped on `close`. Views of the range that are left stay valid: their
        pages come back from the file when they are touched.
        """
        if length <= 0:
            return
        if offset != self._drop_end:
            self._drop()
            self._drop_begin = self._drop_seen = offset
        self._drop_end = offset + length
        always = Advice.DROP_BEHIND in self.decision.advice
        if self._drop_end - self._drop_seen >= (_DROP_AT_ONCE if always else _LOOK_EVERY):
            self._drop()

    def _drop(self) -> None:
        begin, end = self._drop_begin, self._drop_end
        self._drop_seen = end
        if begin < end and (Advice.DROP_BEHIND in self.decision.advice or near_limit()):
            with self._lock:
                live = [mapping for ref in self._mappings if (mapping := ref()) is not None]
            for mapping in live:
                mapping.let_go(begin, end)
            system.advise_file(self._descriptor(), begin, end - begin, "drop")
            self._drop_begin = end

    def check_unchanged(self) -> None:
        """Check that the file still is what it was when opened, and that no window lost its pages.

        Raises:
            SourceChangedError: It changed; nothing that was read from it may be used.
        """
        self.identity.check(self.path)
        self.check_windows()

    def check_windows(self) -> None:
        """Check that no window lost its pages, whatever else became of the file.

        Raises:
            SourceChangedError: It was cut short, and a page beyond its end was read as zeros.
        """
        with self._lock:
            live = [ref() for ref in self._mappings]
        if self._hits or any(mapping is not None and mapping.hit for mapping in live):
            raise SourceChangedError(
                f"{self.path} changed while it was being read: it was cut short, and grew back; "
                "run again once nothing writes to it",
                path=self.path,
            )

    def close(self) -> None:
        """Close the descriptor; windows stay valid. Idempotent."""
        if self._fd is not None:
            self._drop()
            os.close(self._fd)
            self._fd = None
            self._loading = None  # a prefetch under way still holds it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"MappedFile({self.path!r}, size={self.size}, {self.decision.kind}: {self.decision.reason})"


def require_regular(path: str, mode: int) -> None:
    """Refuse what can't be mapped or read twice.

    Args:
        path: For the message.
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

"""A remote file of a known identity: reading ranges of it, and checking that it still is what it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from mmflow.errors import MmflowError, SourceChangedError, SourceError, SourceUnreachableError
from mmflow.mapping import FileIdentity
from mmflow.remote.failures import missing_error, retry
from mmflow.remote.filesystem import FileInfo, open_store
from mmflow.remote.options import RemoteOptions, seen_files
from mmflow.remote.responses import UNVERIFIABLE, AnswerMismatchError, Part
from mmflow.storage.url import redact_url, url_scheme

__all__ = ["RemoteObject", "look_up"]

#: A file that was looked at a moment ago is not looked at again at the end of a task: what was read of it is known to
#: be of this identity anyway.
_FRESH_SECONDS = 1.0


def look_up(url: str, storage: str, *, again: bool = True) -> FileInfo:
    """Return what is at a URL now; or, unless `again`, as it was seen in this `using_remote_options` block.

    Raises:
        SourceError: Nothing; or it can't be asked.
        ConfigError: No such file system.
    """
    store = open_store(url, storage)
    seen: dict[tuple[str, str], FileInfo] = seen_files()
    if not again and (url, storage) in seen:
        return seen[url, storage]
    try:
        found = retry(lambda: store.look(url))
    except FileNotFoundError as error:
        raise missing_error(url) from error
    seen[url, storage] = found
    return found


class RemoteObject:
    """Remote file of a known identity. Thread-safe.

    Attributes:
        url: URL as given.
        name: URL for messages, without secrets.
        identity: Expected identity.
        fetched: Bytes that came over the network.
    """

    def __init__(self, url: str, remote_options: RemoteOptions, identity: FileIdentity) -> None:
        self.url = url
        self.name = redact_url(url)
        self.identity = identity
        self.fetched = 0
        self._storage = remote_options.storage
        self._store = open_store(url, remote_options.storage)
        self._lock = threading.Lock()
        self._checked = float("-inf")

    def read(self, begin: int, end: int) -> Part:
        """Read the bytes `[begin, end)`, all of them; only to be used after `verify`, unless they are proven.

        Raises:
            NoRanges: The server sends whole files only.
            SourceChangedError: The file is another one, or gone.
            SourceError: They can't be read.
        """

        def ask() -> Part:
            part = self._store.read(self.url, begin, end, self.identity)
            if len(part.data) != end - begin:
                raise SourceUnreachableError(
                    f"can't read byte {begin:,} and on of {self.name}: {end - begin:,} bytes were asked for, "
                    f"{len(part.data):,} came",
                    path=self.name,
                )
            with self._lock:
                self.fetched += len(part.data)
                if part.proven:
                    self._checked = time.monotonic()
            return part

        try:
            return retry(ask, between=self._verify_if_possible)
        except FileNotFoundError as error:
            raise self._gone() from error
        except SourceUnreachableError as error:
            if isinstance(error.__cause__, AnswerMismatchError):
                raise self._changed(error.__cause__) from error
            raise

    def stream(self) -> Iterator[bytes]:
        """Yield all bytes in order; only to be used after `verify`.

        Raises:
            SourceChangedError: The file is gone.
            SourceError: They can't be read; not tried again.
        """
        try:
            for data in self._store.stream(self.url, self.identity):
                with self._lock:
                    self.fetched += len(data)
                yield data
        except FileNotFoundError as error:
            raise self._gone() from error
        except AnswerMismatchError as error:
            raise self._changed(error) from error

    def verify(self) -> None:
        """Check that it is what it was.

        Raises:
            SourceChangedError: It is not.
            SourceError: It can't be asked.
        """
        try:
            found = retry(lambda: self._store.look(self.url))
        except FileNotFoundError as error:
            raise self._gone() from error
        now = found.identity
        if self.identity.tag.startswith(UNVERIFIABLE) and now.tag.startswith(UNVERIFIABLE):
            now = replace(now, tag=self.identity.tag)
        self.identity.check_same(now, self.name)
        self._checked = time.monotonic()

    def verify_recently(self) -> None:
        """Verify the identity, unless that was done a moment ago."""
        if time.monotonic() - self._checked > _FRESH_SECONDS:
            self.verify()

    def _verify_if_possible(self) -> None:
        """Verify the identity between attempts: a file that can't be read may have been replaced."""
        try:
            self.verify()
        except SourceChangedError:
            raise
        except MmflowError:
            pass

    def _changed(self, mismatch: AnswerMismatchError) -> SourceChangedError:
        return SourceChangedError(
            f"{mismatch.message}; run again once nothing writes to it, and check the caches and proxies in between",
            path=self.name,
        )

    def _gone(self) -> SourceError:
        if url_scheme(self.url) == "memory":
            return missing_error(self.url)
        return SourceChangedError(
            f"{self.name} changed while it was being read: it is gone; run again once nothing writes to it",
            path=self.name,
        )

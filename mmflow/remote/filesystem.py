"""Requests to remote file systems that read: one question, one attempt each.

Invariant: every error of a file system is one of `remote.failures`.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from mmflow.errors import SourceError
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import FileIdentity
from mmflow.remote import http, s3, s3_listing
from mmflow.remote.failures import translate_errors
from mmflow.remote.responses import UNVERIFIABLE, Part, to_nanoseconds
from mmflow.storage import object_store
from mmflow.storage.globs import ANY_DEPTH, path_matches
from mmflow.storage.object_store import FsspecStore, Info, ObjectStore
from mmflow.storage.url import S3, WEB, redact_url, url_scheme

__all__ = ["FileInfo", "Store", "open_store"]

_TIMES = (
    "LastModified", "last_modified", "Last-Modified", "mtime", "updated", "modified", "timeModified", "modifiedAt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileInfo:
    """File or folder that a store describes. `size` is None where it doesn't tell."""

    url: str
    folder: bool
    size: int | None
    tag: str
    mtime_ns: int

    @property
    def identity(self) -> FileIdentity:
        """Raises: SourceError: Without a size it can't be read in parts."""
        if self.size is None:
            raise SourceError(
                f"can't read {redact_url(self.url)}: its server doesn't say how large it is (it makes it as it sends "
                "it); download it, and read the local file",
                path=redact_url(self.url),
            )
        if not self.tag and not self.mtime_ns:
            # Nothing tells its versions apart: what is kept of it is for whoever looked now.
            return FileIdentity(0, 0, self.size, 0, f"{UNVERIFIABLE}{uuid.uuid4().hex}")
        return FileIdentity(0, 0, self.size, 0 if self.tag else self.mtime_ns, self.tag)


def open_store(url: str, storage: str) -> Store:
    """Return the store of a URL.

    Args:
        url: Any that `is_url` is true for.
        storage: Options (`options.storage_text`).

    Raises:
        ConfigError: There is no such file system, its package is missing, or the URL holds credentials.
        SourceError: It can't be opened.
    """
    options: dict[str, Any] = json.loads(storage) if storage else {}
    with translate_errors(url, "open"):
        if url_scheme(url) in WEB:
            with contextlib.suppress(ImportError):  # `object_store.open_store` says what to install
                session = http.client_options(options.get("client_kwargs", {}))
                options |= {"encoded": True, "client_kwargs": session}
        return Store(object_store.open_store(url, options))


class Store:
    """One remote file system; see `open_store`. Thread-safe."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        #: Whether this is http(s): a server that is asked for a part may send the whole.
        self.web = store.scheme in WEB

    def look(self, url: str) -> FileInfo:
        """Return what there is at a URL now.

        Raises:
            FileNotFoundError: Nothing.
            MmflowError: It can't be asked (`failures.translate_errors`).
        """
        with translate_errors(url, "look at"):
            web = self._checking(WEB)
            return _described(url, self._store.info(url) if web is None else http.look(web, url))

    def read(self, url: str, begin: int, end: int, identity: FileIdentity) -> Part:
        """Read the bytes `[begin, end)` of a file, or fewer if it ends before.

        Args:
            identity: Expected identity of the file. Answers of web servers and S3 are compared with it.

        Raises:
            FileNotFoundError: There is none.
            NoRanges: The server sends whole files only.
            AnswerMismatchError: The answer is of another version, or of another part.
            MmflowError: `failures.translate_errors`.
        """
        with translate_errors(url, f"read byte {begin:,} and on of"):
            if web := self._checking(WEB):
                return http.read(web, url, begin, end, identity)
            if amazon := self._checking(S3):
                return s3.read(amazon, url, begin, end, identity)
            return Part(self._store.read(url, begin, end))

    def stream(self, url: str, identity: FileIdentity) -> Iterator[bytes]:
        """Yield all bytes of a file in order. Raises as `read`."""
        with translate_errors(url, "read"):
            web = self._checking(WEB)
            yield from self._store.stream(url) if web is None else http.stream(web, url, identity)

    def below(self, url: str) -> list[FileInfo]:
        """Return all files below a folder, in no order. Raises as `look`."""
        with translate_errors(url, "list"):
            amazon = self._listing_pages()
            return self._listed(
                url, self._store.find(url) if amazon is None else s3_listing.below(amazon, url)
            )

    def beside(self, url: str) -> list[FileInfo]:
        """Return the files and folders of a folder, in no order. Raises as `look`."""
        with translate_errors(url, "list"):
            amazon = self._listing_pages()
            return self._listed(
                url, self._store.list(url) if amazon is None else s3_listing.beside(amazon, url)
            )

    def matches(self, folder: str, pattern: list[str]) -> list[FileInfo]:
        """Return what below a folder matches the parts of a glob, in no order; of `**` only files. Raises as `look`."""
        with translate_errors(folder, "list"):
            amazon = self._listing_pages()
            if amazon and "://" in folder:  # else the bucket is not known
                return self._listed(folder, s3_listing.matches(amazon, folder, pattern))
            # What fsspec takes for a pattern matches more.
            wanted = (part.replace("**", "*") if part != ANY_DEPTH else part for part in pattern)
            found = self._store.glob("/".join([folder, *wanted]).replace("[^", "[!"))
            start = len(folder)
            return [
                f
                for f in self._listed(folder, found)
                if path_matches(pattern, f.url[start:].strip("/").split("/"))
            ]

    def _checking(self, schemes: frozenset[str]) -> FsspecStore | None:
        """Return the store if it is of these schemes, whose answers are checked by requests of mmflow's own."""
        store = self._store
        return store if store.scheme in schemes and isinstance(store, FsspecStore) else None

    def _listing_pages(self) -> FsspecStore | None:
        """Return the store if its listings are parsed here: S3's, but those of versions."""
        store = self._checking(S3)
        return None if store is None or store.fs.version_aware else store

    def _listed(self, url: str, found: Mapping[str, Info]) -> list[FileInfo]:
        # Consoles make an empty object for a folder, whose name ends with a slash.
        listed = [_described(u, info) for u, info in found.items() if self.web or not u.endswith("/")]
        return [f for f in listed if f.url.rstrip("/") != url.rstrip("/") or not f.folder]


def _described(url: str, info: Info) -> FileInfo:
    size = info.get("size")
    tag = str(info.get("ETag") or info.get("etag") or "")
    when = next((info[name] for name in _TIMES if info.get(name)), None)
    folder = info.get("type") == "directory"
    return FileInfo(url, folder, None if size is None else int(size), tag, to_nanoseconds(when))

"""What is asked of remote file systems, through fsspec: one question, one attempt each.

Invariant: no answer comes from a listing or an instance that fsspec keeps; every error of a file system is one of
`remote.failures`. Instances are shared by the threads of this process.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.registry import known_implementations

from mmflow.errors import ConfigError, SourceError
from mmflow.mapping import FileIdentity
from mmflow.remote.answers import UNTOLD
from mmflow.remote.failures import judged
from mmflow.remote.times import nanoseconds
from mmflow.remote.url import CHAINED, URL, refused_secret, scheme_of, shown

__all__ = ["Found", "Store", "open_store"]

_WEB = frozenset({"http", "https"})
_S3 = frozenset({"s3", "s3a"})
_TIMES = (
    "LastModified", "last_modified", "Last-Modified", "mtime", "updated", "modified", "timeModified", "modifiedAt",
)  # fmt: skip
_STREAMED = 4 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """What a store says of a URL. `size` is None where it doesn't tell."""

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
                f"can't read {shown(self.url)}: its server doesn't say how large it is (it makes it as it sends it); "
                "download it, and read the local file",
                path=shown(self.url),
            )
        if not self.tag and not self.mtime_ns:
            # Nothing tells its versions apart: what is kept of it is for whoever looked now.
            return FileIdentity(0, 0, self.size, 0, f"{UNTOLD}{uuid.uuid4().hex}")
        return FileIdentity(0, 0, self.size, 0 if self.tag else self.mtime_ns, self.tag)


_lock = threading.Lock()
_stores: dict[tuple[int, str, str, str], Store] = {}


def open_store(url: str, storage: str) -> Store:
    """The store of a URL.

    Args:
        url: Any that `is_url` is true for.
        storage: Options (`reach.storage_text`).

    Raises:
        ConfigError: There is no such file system, its package is missing, or the URL holds credentials.
        SourceError: It can't be opened.
    """
    if CHAINED.match(url):
        raise ConfigError(f"can't read {url}: give the file's own URL, without `::`")
    if refused_secret(url):
        raise ConfigError(
            f"a {scheme_of(url)}:// URL with credentials in it would end in logs and journals; give them by the "
            "environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, …) or by fsspec's configuration (~/.config/fsspec/*.json)"
        )
    protocol = scheme_of(url)
    kind = _implementation(url, protocol)
    given = kind._get_kwargs_from_urls(url)
    key = os.getpid(), protocol, storage, json.dumps(given, sort_keys=True, default=str)
    with _lock:
        known = _stores.get(key)
        if known is None:
            options = {**(json.loads(storage) if storage else {}), **given}
            with judged(url, "open"):
                known = _stores[key] = Store(protocol, _opened(protocol, options))
        return known


def _implementation(url: str, protocol: str) -> Any:
    try:
        return fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        package = known_implementations.get(protocol, {}).get("class", "").split(".")[0] or protocol
        package = "aiohttp" if protocol in _WEB else package
        raise ConfigError(
            f"can't read {shown(url)}: {protocol}:// needs a package that can't be imported ({error}); "
            f"pip install {package}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"can't read {shown(url)}: {error}") from error


def _opened(protocol: str, options: Mapping[str, Any]) -> Any:
    if protocol in _WEB:
        from mmflow.remote.web import client_options  # noqa: PLC0415  (aiohttp is there only where http is read)

        options = {
            **options,
            "encoded": True,
            "client_kwargs": client_options(options.get("client_kwargs", {})),
        }
    return fsspec.filesystem(protocol, skip_instance_cache=True, use_listings_cache=False, **options)


class Store:
    """One remote file system; see `open_store`. Thread-safe."""

    def __init__(self, protocol: str, fs: Any) -> None:
        self.protocol = protocol
        self._fs = fs
        #: Of http(s): a server that is asked for a part may send the whole.
        self.web = protocol in _WEB

    def look(self, url: str) -> Found:
        """What there is at a URL, now.

        Raises:
            FileNotFoundError: Nothing.
            MmflowError: It can't be asked (`failures.judged`).
        """
        path = self._path(url)
        with judged(url, "look at"):
            if self.web:
                from mmflow.remote import web  # noqa: PLC0415

                return self._found(url, web.look(self._fs, path))
            raw = self._fs.info(path)
            if self.protocol == "memory" and raw["type"] == "file":
                raw = {**raw, "mtime": self._fs.modified(path)}
            return self._found(url, raw)

    def read(self, url: str, begin: int, end: int, identity: FileIdentity) -> bytes:
        """The bytes `[begin, end)` of a file, or fewer if it ends before.

        Args:
            identity: What the file is to be. Web servers' and S3's answers are held against it; others say nothing.

        Raises:
            FileNotFoundError: There is none.
            NoRanges: The server sends whole files only.
            AnswerMismatchError: The answer is of another version, or of another part.
            MmflowError: `failures.judged`.
        """
        path = self._path(url)
        with judged(url, f"read byte {begin:,} and on of"):
            if self.web:
                from mmflow.remote import web  # noqa: PLC0415

                return web.read(self._fs, path, begin, end, identity)
            if self.protocol in _S3:
                from mmflow.remote import s3  # noqa: PLC0415

                return s3.read(self._fs, url, path, begin, end, identity)
            return bytes(self._fs.cat_file(path, start=begin, end=end))

    def stream(self, url: str, identity: FileIdentity) -> Iterator[bytes]:
        """All bytes of a file in order. Raises as `read`."""
        with judged(url, "read"):
            if self.web:
                from mmflow.remote import web  # noqa: PLC0415

                yield from web.stream(self._fs, self._path(url), identity)
                return
            with self._fs.open(self._path(url), "rb", block_size=0) as file:
                while data := file.read(_STREAMED):
                    yield bytes(data)

    def below(self, url: str) -> list[Found]:
        """All files below a folder, in no order. Raises as `look`."""
        with judged(url, "list"):
            found: Mapping[str, Any] = self._fs.find(self._path(url), detail=True)
            return self._listed(url, found)

    def beside(self, url: str) -> list[Found]:
        """The files and folders of a folder, in no order. Raises as `look`."""
        with judged(url, "list"):
            return self._listed(url, {raw["name"]: raw for raw in self._fs.ls(self._path(url), detail=True)})

    def matches(self, url: str) -> list[Found]:
        """What a glob stands for, in no order. Raises as `look`."""
        with judged(url, "list"):
            return self._listed(url, self._fs.glob(self._path(url), detail=True))

    def _listed(self, url: str, found: Mapping[str, Any]) -> list[Found]:
        root = self._root(url)
        # Consoles make an empty object for a folder, whose name ends with a slash.
        listed = [self._found(root + p, raw) for p, raw in found.items() if self.web or not p.endswith("/")]
        return [f for f in listed if f.url.rstrip("/") != url.rstrip("/") or not f.folder]

    def _path(self, url: str) -> str:
        return str(self._fs._strip_protocol(_plain_scheme(url)))

    def _root(self, url: str) -> str:
        """What makes URLs of this store's paths, which lack the scheme and sometimes the host."""
        url, path = _plain_scheme(url).rstrip("/"), self._path(url).rstrip("/")
        return url.removesuffix(path) if url.endswith(path) else f"{self.protocol}://"

    def _found(self, url: str, raw: Mapping[str, Any]) -> Found:
        size = raw.get("size")
        tag = str(raw.get("ETag") or raw.get("etag") or "")
        when = next((raw[name] for name in _TIMES if raw.get(name)), None)
        folder = raw.get("type") == "directory"
        return Found(url, folder, None if size is None else int(size), tag, nanoseconds(when))


def _plain_scheme(url: str) -> str:
    """Return the URL with its scheme in lower case, as file systems know it."""
    return URL.sub(lambda match: f"{match[1].lower()}://", url, count=1)

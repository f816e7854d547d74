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
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import fsspec
from fsspec.registry import known_implementations

from mmflow.errors import ConfigError, SourceError
from mmflow.mapping import FileIdentity
from mmflow.remote.failures import NoRanges, judged
from mmflow.remote.url import CHAINED, refused_secret, scheme_of, shown

__all__ = ["UNTOLD", "Found", "Store", "open_store"]

_WEB = frozenset({"http", "https"})
#: Seconds for which a web server may say nothing; other stores have such limits of their own.
_SILENT_SECONDS = 30.0
_TIMES = (
    "LastModified", "last_modified", "Last-Modified", "mtime", "updated", "modified", "timeModified", "modifiedAt",
)  # fmt: skip
_STREAMED = 4 << 20
#: How tags begin that are made up here: of two such only the sizes can be compared.
UNTOLD = "untold-"


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
        from aiohttp import ClientTimeout  # noqa: PLC0415  (there only where fsspec reads http)

        given = dict(options.get("client_kwargs", {}))
        seconds = given.pop("timeout", _SILENT_SECONDS)
        # Not of the whole answer: it may take as long as it does while bytes come.
        limit = ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
        options = {**options, "client_kwargs": {**given, "timeout": limit}}
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
            raw = self._fs.info(path)
            if self.protocol == "memory" and raw["type"] == "file":
                raw = {**raw, "mtime": self._fs.modified(path)}
            return self._found(url, raw)

    def read(self, url: str, begin: int, end: int) -> bytes:
        """The bytes `[begin, end)` of a file, or fewer if it ends before.

        Raises:
            FileNotFoundError: There is none.
            NoRanges: The server sends whole files only.
            MmflowError: `failures.judged`.
        """
        path = self._path(url)
        with judged(url, f"read byte {begin:,} and on of"):
            if not self.web:
                return bytes(self._fs.cat_file(path, start=begin, end=end))
            # Unlike cat_file it looks at the status, so that a whole file is never taken in instead of a part.
            try:
                with self._fs.open(path, "rb", size=end, cache_type="none") as file:
                    file.seek(begin)
                    return bytes(file.read(end - begin))
            except ValueError as error:
                if "range" in str(error):
                    raise NoRanges(url) from error
                raise

    def stream(self, url: str) -> Iterator[bytes]:
        """All bytes of a file in order.

        Raises:
            MmflowError: `failures.judged`.
        """
        with judged(url, "read"), self._fs.open(self._path(url), "rb", block_size=0) as file:
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
        return str(self._fs._strip_protocol(url))

    def _root(self, url: str) -> str:
        """What makes URLs of this store's paths, which lack the scheme and sometimes the host."""
        url, path = url.rstrip("/"), self._path(url).rstrip("/")
        return url.removesuffix(path) if url.endswith(path) else f"{self.protocol}://"

    def _found(self, url: str, raw: Mapping[str, Any]) -> Found:
        size = raw.get("size")
        tag = str(raw.get("ETag") or raw.get("etag") or "")
        when = next((raw[name] for name in _TIMES if raw.get(name)), None)
        folder = raw.get("type") == "directory"
        return Found(url, folder, None if size is None else int(size), tag, _nanoseconds(when))


def _nanoseconds(when: Any) -> int:
    """A time as stores tell it, since 1970; 0: not told, or not understood."""
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            try:
                when = parsedate_to_datetime(when)
            except ValueError:
                return 0
    if isinstance(when, datetime):
        since = (when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
        seconds: int = since.days * 86_400 + since.seconds
        return seconds * 1_000_000_000 + since.microseconds * 1000
    return int(float(when) * 1e9) if isinstance(when, int | float) else 0

"""Object stores and other remote file systems: the seam in front of them, and the one adapter to fsspec.

    open_store(url)  ->  ObjectStore    operations that reads, commits, runs and checkpoints need
                              ^
                         FsspecStore    the file system of the URL's scheme

Invariant: no answer comes from a listing or an instance that fsspec keeps. Errors are those of the file system, which
callers translate. Only this module imports fsspec, and only when a URL is opened, since that is slow.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

from mmflow.distribution import install_command
from mmflow.errors import ConfigError
from mmflow.storage.renewal import renewing
from mmflow.storage.silence import request
from mmflow.storage.url import AZURE, GCS, S3, URL, WEB, check_url, redact_url, url_scheme

__all__ = ["FsspecStore", "Info", "ObjectStore", "open_store"]

#: Metadata as fsspec names it: "type" ("file" or "directory"), "size", and what tells versions apart.
Info = dict[str, Any]

#: Extras of the distribution that install the file system of a scheme.
_EXTRAS = {
    scheme: extra
    for extra, schemes in {"http": WEB, "s3": S3, "gcs": GCS, "azure": AZURE}.items()
    for scheme in schemes
}
_STREAMED = 4 << 20
_MAGIC = frozenset("*?[")


class ObjectStore(Protocol):
    """Objects of one remote file system, each named by its URL. A missing one is a FileNotFoundError."""

    scheme: str

    @property
    def exclusive(self) -> bool:
        """True if `create` is atomic; else two clients that create at once may both succeed."""

    def path(self, url: str) -> str | None:
        """Return the path of a URL in this store; None if its scheme is another store's."""

    def info(self, url: str) -> Info:
        """Return the metadata of an object or folder."""

    def read(self, url: str, begin: int | None = None, end: int | None = None) -> bytes:
        """Return the bytes `[begin, end)` of an object, or fewer if it ends before."""

    def stream(self, url: str) -> Iterator[bytes]:
        """Yield all bytes of an object in order."""

    def write(self, url: str, data: bytes) -> None:
        """Write an object atomically, replacing an existing one."""

    def create(self, url: str, data: bytes) -> None:
        """Write an object that must not exist; if it does, each file system raises its own kind of error."""

    def upload(self, file: str, url: str) -> None:
        """Copy a local file to an object."""

    def copy(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Copy objects within the store, several at once; each copy appears atomically."""

    def find(self, url: str) -> dict[str, Info]:
        """Return all objects below a folder, by URL."""

    def list(self, url: str) -> dict[str, Info]:
        """Return the objects and folders of a folder, by URL."""

    def glob(self, url: str) -> dict[str, Info]:
        """Return the objects and folders that a pattern matches, by URL."""

    def delete(self, urls: Iterable[str]) -> None:
        """Delete objects; missing ones are ignored."""

    def delete_tree(self, url: str) -> None:
        """Delete an object, or all objects below a folder."""


_lock = threading.Lock()
_stores: dict[tuple[int, str, str], ObjectStore] = {}


def open_store(url: str, options: Mapping[str, Any] | None = None, *, action: str = "read") -> ObjectStore:
    """Return the store of a URL, which the threads of this process share.

    Args:
        url: URL of a store, or of anything in it.
        options: Options of its file system, besides those of fsspec's configuration and the environment.
        action: Verb phrase for messages.

    Raises:
        ConfigError: There is no such file system, its package is missing, or the URL holds credentials.
        Exception: It can't be opened; each file system has its own kinds.
    """
    check_url(url, action)
    scheme = url_scheme(url)
    kind = _file_system_class(url, scheme, action)
    options = {**(options or {}), **kind._get_kwargs_from_urls(url)}
    # A store keeps the endpoint and the profile that it began with: notebooks set them after a first try, too.
    environment = {n: v for n, v in os.environ.items() if n.startswith("AWS_")} if scheme in S3 else {}
    key = os.getpid(), scheme, json.dumps([options, environment], sort_keys=True, default=str)
    with _lock:
        if key not in _stores:
            made = kind(skip_instance_cache=True, use_listings_cache=False, **options)
            if scheme in S3:
                # botocore asks five times; s3fs would repeat that five times, for a minute of dropped connections.
                made.retries = 1
            # A page of links names others that are not below it, and need not be there.
            _stores[key] = FsspecStore(scheme, made if scheme in WEB else renewing(_listing_all(made)))
        return _stores[key]


def _file_system_class(url: str, scheme: str, action: str) -> Any:
    from fsspec.registry import get_filesystem_class, known_implementations  # noqa: PLC0415  (imports fsspec, which is slow)

    try:
        return get_filesystem_class(scheme)
    except ImportError as error:
        package = known_implementations.get(scheme, {}).get("class", "").split(".")[0] or scheme
        extra = _EXTRAS.get(scheme)
        command = f"pip install {package}" if extra is None else install_command(extra)
        raise ConfigError(
            f"can't {action} {redact_url(url)}: {scheme}:// needs a package that can't be imported ({error}): "
            f"{command}",
            code="MMF-CFG-002",
        ) from error
    except ValueError as error:
        raise ConfigError(f"can't {action} {redact_url(url)}: {error}") from error


def _listing_all(fs: Any) -> Any:
    """Make a walk through folders fail where one can't be listed: fsspec leaves out its files."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # gone meanwhile, as another listing would have it
            raise error

    name = "_walk" if hasattr(fs, "_walk") else "walk"
    setattr(fs, name, partial(getattr(fs, name), on_error=refuse))
    return fs


P = ParamSpec("P")
R = TypeVar("R")


def _named(method: Callable[P, R]) -> Callable[P, R]:
    """Name the request of a method by it and its URL, for when it is not answered (`storage.silence`)."""

    @functools.wraps(method)
    def named(*args: P.args, **kwargs: P.kwargs) -> R:
        url = next((a for a in reversed(args) if isinstance(a, str) and "://" in a), "")
        with request(method.__name__, url):
            return method(*args, **kwargs)

    return named


class FsspecStore:
    """File system of fsspec as an `ObjectStore`; `fs` and `run` are for requests that fsspec has no method for."""

    def __init__(self, scheme: str, fs: Any) -> None:
        self.scheme = scheme
        self.fs = fs
        self._protocols = (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)

    @_named
    def run(self, ask: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        from fsspec.asyn import sync  # noqa: PLC0415  (imports fsspec, which is slow)

        return sync(self.fs.loop, ask, *arguments)

    @property
    def exclusive(self) -> bool:
        kind = type(self.fs)
        method = getattr(kind, "_pipe_file", None) or kind.pipe_file
        own = not method.__module__.startswith(("fsspec.spec", "fsspec.asyn"))
        # adlfs 2026.8 takes the mode among other keyword arguments.
        return own and ("mode" in inspect.signature(method).parameters or self.scheme in AZURE)

    def path(self, url: str) -> str | None:
        return self._path(url) if url_scheme(url) in self._protocols else None

    @_named
    def info(self, url: str) -> Info:
        path = self._path(url)
        info: Info = self.fs.info(path)
        if self.scheme == "memory" and info["type"] == "file":
            info["mtime"] = self.fs.modified(path)
        return info

    @_named
    def read(self, url: str, begin: int | None = None, end: int | None = None) -> bytes:
        return bytes(self.fs.cat_file(self._path(url), start=begin, end=end))

    def stream(self, url: str) -> Iterator[bytes]:
        with self.fs.open(self._path(url), "rb", block_size=0) as file:
            while data := file.read(_STREAMED):
                yield bytes(data)

    @_named
    def write(self, url: str, data: bytes) -> None:
        self.fs.pipe_file(self._path(url), data)

    @_named
    def create(self, url: str, data: bytes) -> None:
        try:
            self.fs.pipe_file(self._path(url), data, mode="create")
        except TypeError:  # a file system of before 2025
            if self.fs.exists(self._path(url)):
                raise FileExistsError(url) from None
            self.write(url, data)

    @_named
    def upload(self, file: str, url: str) -> None:
        self.fs.put_file(file, self._path(url))

    @_named
    def copy(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.fs.copy([self._path(a) for a, _ in pairs], [self._path(b) for _, b in pairs])

    @_named
    def find(self, url: str) -> dict[str, Info]:
        found = self.fs.find(self._path(url), detail=True)
        if isinstance(found, list):  # adlfs 2026.8 forgets the details of an object that is no folder
            found = {path: self.fs.info(path) for path in found}
        return self._by_url(url, found)

    @_named
    def list(self, url: str) -> dict[str, Info]:
        return self._by_url(url, {info["name"]: info for info in self.fs.ls(self._path(url), detail=True)})

    @_named
    def glob(self, url: str) -> dict[str, Info]:
        return self._by_url(url, self.fs.glob(self._path(url), detail=True))

    @_named
    def delete(self, urls: Iterable[str]) -> None:
        paths = [self._path(url) for url in urls]
        one_by_one = [path for path in paths if _MAGIC.intersection(path)]  # `rm` expands wildcards in names
        try:
            if plain := [path for path in paths if not _MAGIC.intersection(path)]:
                self.fs.rm(plain)
        except FileNotFoundError:
            one_by_one = paths
        for path in one_by_one:
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm_file(path)

    @_named
    def delete_tree(self, url: str) -> None:
        self.fs.rm(self._path(url), recursive=True)

    def _path(self, url: str) -> str:
        """Return fsspec's path of a URL, whose scheme file systems know in lower case."""
        return str(self.fs._strip_protocol(URL.sub(lambda match: f"{match[1].lower()}://", url, count=1)))

    def _by_url(self, url: str, found: Mapping[str, Info]) -> dict[str, Info]:
        """Return what was found at or below a URL by URLs: paths lack the scheme, and sometimes the host."""
        url += (
            "-" if url.endswith("/") else "/-"
        )  # as of an object below it: the root of a store has an empty path
        path = common = self._path(url)
        while not url.endswith(common):
            common = common.partition("/")[2]
        before, lacking = url.removesuffix(common), path.removesuffix(common)
        return {before + name.removeprefix(lacking): info for name, info in found.items()}

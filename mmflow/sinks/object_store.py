"""What a commit needs of an object store, through fsspec.

Invariant: no answer comes from a listing that fsspec has cached; every error of a file system is a SinkError.
Credentials and options come from fsspec's configuration and the environment: they are never held here, so that a
task that travels holds none.
"""

from __future__ import annotations

import contextlib
import inspect
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
from fsspec.registry import known_implementations
from fsspec.utils import get_protocol

from mmflow.errors import ConfigError, MmflowError, SinkError

__all__ = ["ObjectStore", "storing"]

_MAGIC = frozenset("*?[")


class ObjectStore:
    """The objects below one URL; names are relative to it.

    Args:
        url: From `sinks.url.checked_url`.

    Raises:
        ConfigError: No such file system, or its package is missing.
        SinkError: It can't be opened: no credentials, no network.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        with storing(url):
            self._fs, root = _open(url)
        self._root = root.rstrip("/")

    @property
    def exclusive(self) -> bool:
        """True if `create` is one step here; else two that create at once may both succeed."""
        kind = type(self._fs)
        method = getattr(kind, "_pipe_file", None) or kind.pipe_file
        own = not method.__module__.startswith(("fsspec.spec", "fsspec.asyn"))
        return own and "mode" in inspect.signature(method).parameters

    def read(self, name: str) -> bytes | None:
        """An object's bytes; None if there is none."""
        with storing(self.url), contextlib.suppress(FileNotFoundError):
            return bytes(self._fs.cat_file(self._path(name)))
        return None

    def put(self, name: str, data: bytes) -> None:
        """Write an object in one step; what was there before is replaced."""
        with storing(self.url):
            self._fs.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist.

        Raises:
            Exception: It exists; each file system has its own kind.
        """
        try:
            self._fs.pipe_file(self._path(name), data, mode="create")
        except TypeError:  # a file system of before 2025
            if self._fs.exists(self._path(name)):
                raise FileExistsError(name) from None
            self._fs.pipe_file(self._path(name), data)

    def upload(self, file: Path, name: str) -> None:
        """Copy a local file to an object."""
        with storing(self.url):
            self._fs.put_file(str(file), self._path(name))

    def copy(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Copy objects inside of the store, several at once; each new one appears in one step."""
        with storing(self.url):
            self._fs.invalidate_cache()
            self._fs.copy([self._path(a) for a, _ in pairs], [self._path(b) for _, b in pairs])

    def sizes(self, folder: str = "") -> dict[str, int]:
        """All objects below a folder, sorted by name, with their sizes."""
        below = self._path(folder) if folder else self._root
        with storing(self.url):
            self._fs.invalidate_cache()
            found: Mapping[str, Any] = self._fs.find(below, detail=True)
        files = {
            path[len(self._root) + 1 :]: int(info["size"] or 0)
            for path, info in found.items()
            # Consoles make an empty object for a folder; `find` of an object gives itself.
            if info["type"] == "file" and path.startswith(below + "/") and not path.endswith("/")
        }
        return dict(sorted(files.items()))

    def info(self, name: str = "") -> dict[str, Any] | None:
        """What the store says about one object (the URL itself for no name); None if there is none."""
        path = self._path(name) if name else self._root
        with storing(self.url), contextlib.suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            info: dict[str, Any] = self._fs.info(path)
            return info if info["type"] == "file" else None
        return None

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are gone already are fine."""
        paths = [self._path(name) for name in names]
        # `rm` takes names for patterns.
        plain = [path for path in paths if not _MAGIC.intersection(path)]
        odd = [path for path in paths if _MAGIC.intersection(path)]
        with storing(self.url):
            try:
                if plain:
                    self._fs.rm(plain)
            except FileNotFoundError:
                odd = paths
            for path in odd:
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(path)
            self._fs.invalidate_cache()

    def delete_folder(self, folder: str) -> None:
        """Delete all objects below a folder."""
        with storing(self.url), contextlib.suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            self._fs.rm(self._path(folder), recursive=True)
            self._fs.invalidate_cache()

    def is_at(self, url: str) -> str:
        """How a path of `url` compares with this one: "same", "inside" of it, "around" it, or "" (apart)."""
        if get_protocol(url) not in _protocols(self._fs):
            return ""
        path = str(self._fs._strip_protocol(url)).rstrip("/")
        if path == self._root:
            return "same"
        if path.startswith(self._root + "/"):
            return "inside"
        return "around" if self._root.startswith(path + "/") else ""

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name)


@contextlib.contextmanager
def storing(url: str) -> Iterator[None]:
    """Turn errors of a file system into SinkErrors.

    Raises:
        SinkError: The block raised anything but an error of mmflow or a FileNotFoundError that it caught itself.
    """
    try:
        yield
    except MmflowError:
        raise
    except Exception as error:
        raise SinkError(f"can't write {url}: {_why(error)}", path=url) from error


def _why(error: Exception) -> str:
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, FileNotFoundError):
        return f"there is no such bucket, or an object is gone ({error})"
    if isinstance(error, PermissionError):
        return f"access denied; check which credentials the environment gives ({error})"
    if "credentials" in said.lower():
        return f"no credentials that work; set them in the environment or fsspec's configuration ({said})"
    return said


def _open(url: str) -> tuple[Any, str]:
    protocol = get_protocol(url)
    try:
        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    except ImportError as error:
        package = known_implementations.get(protocol, {}).get("class", "").split(".")[0] or protocol
        raise ConfigError(
            f"can't write to {url}: {protocol}:// needs a package that can't be imported ({error}); "
            f"pip install {package}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"can't write to {url}: {error}") from error


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)

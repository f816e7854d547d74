"""Objects below the URL of a destination. Every error of the store is a SinkError.

Credentials come from fsspec's configuration and the environment. They are never stored here, so that a pickled task
holds none.
"""

from __future__ import annotations

import contextlib
import errno
import json
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mmflow.errors import MmflowError, SinkError
from mmflow.remote.failures import refusal_hint
from mmflow.storage.object_store import Info, open_store

__all__ = ["DestinationStore", "store_errors"]


class DestinationStore:
    """Objects below one URL; names are relative to it.

    Args:
        url: From `sinks.url.validate_url`.
        storage: Options of its file system (`remote.options.storage_text`).

    Raises:
        ConfigError: fsspec has no such file system, or its package is missing.
        SinkError: The store can't be opened: no credentials, no network.
    """

    def __init__(self, url: str, storage: str = "") -> None:
        self.url = url
        with store_errors(url):
            self._store = open_store(url, json.loads(storage) if storage else None, action="write to")
        self.exclusive = self._store.exclusive

    def read(self, name: str) -> bytes | None:
        """Return an object's bytes; None if there is none."""
        with store_errors(self.url), contextlib.suppress(FileNotFoundError):
            return self._store.read(self._url(name))
        return None

    def put(self, name: str, data: bytes) -> None:
        """Write an object atomically, replacing an existing one."""
        with store_errors(self.url):
            self._store.write(self._url(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object that must not exist; return whether it is there with these bytes."""
        with store_errors(self.url):
            try:
                self._store.create(self._url(name), data)
            except Exception as error:  # each file system has its own kind
                found = self.read(name)
                if found is None and not _is_conflict(error):
                    raise
                return found == data  # ours all the same if only the response was lost
        return True

    def upload(self, file: Path, name: str) -> None:
        """Copy a local file to an object."""
        with store_errors(self.url):
            self._store.upload(str(file), self._url(name))

    def copy(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Copy objects within the store, several at once; each copy appears atomically."""
        with store_errors(self.url):
            self._store.copy([(self._url(a), self._url(b)) for a, b in pairs])

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the sizes in bytes of all objects below a folder, sorted by name."""
        below = posixpath.join(self._url(folder), "")
        with store_errors(self.url):
            found = self._store.find(below)
        files = {
            url[len(self.url) :].lstrip("/"): int(info["size"] or 0)
            for url, info in found.items()
            # Web consoles create an empty object for a folder; `find` of an object returns itself.
            if url.startswith(below) and not url.endswith("/") and info["type"] == "file"
        }
        return dict(sorted(files.items()))

    def info(self, name: str = "") -> Info | None:
        """Return the store's metadata of one object (of the URL itself for no name); None if there is none."""
        with store_errors(self.url), contextlib.suppress(FileNotFoundError):
            info = self._store.info(self._url(name))
            return info if info["type"] == "file" else None
        return None

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; missing ones are ignored."""
        with store_errors(self.url):
            self._store.delete([self._url(name) for name in names])

    def delete_folder(self, folder: str) -> None:
        """Delete all objects below a folder."""
        with store_errors(self.url), contextlib.suppress(FileNotFoundError):
            self._store.delete_tree(self._url(folder))

    def relation_to(self, url: str) -> str:
        """Return how the path of `url` relates to this one: "same", "inside" it, "around" it, or "" (apart)."""
        path, here = self._store.path(url), self._store.path(self.url)
        if path is None or here is None:
            return ""
        path, here = path.rstrip("/"), here.rstrip("/")
        if path == here:
            return "same"
        if path.startswith(here + "/"):
            return "inside"
        return "around" if here.startswith(path + "/") else ""

    def _url(self, name: str) -> str:
        return posixpath.join(self.url, name) if name else self.url


@contextlib.contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Turn errors of a file system into SinkErrors.

    Raises:
        SinkError: The block raised an error that is not one of mmflow's.
    """
    try:
        yield
    except MmflowError:
        raise
    except Exception as error:
        raise SinkError(f"can't write {url}: {_store_problem(error)}", path=url) from error


def _is_conflict(error: Exception) -> bool:
    """Return whether the object existed, or was created at the same time by another client (S3's 409)."""
    return isinstance(error, FileExistsError) or (isinstance(error, OSError) and error.errno == errno.EBUSY)


def _store_problem(error: Exception) -> str:
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, FileNotFoundError):
        return f"there is no such bucket, or an object is missing ({error})"
    if hint := refusal_hint(error):
        return f"access denied: {hint} ({error})"
    if isinstance(error, PermissionError):
        return f"access denied; check the credentials in the environment ({error})"
    if "credentials" in said.lower():
        return f"no credentials that work; set them in the environment or fsspec's configuration ({said})"
    return said

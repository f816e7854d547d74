"""An object store of the world: answers that get lost, throttling, listings of a moment ago, exclusive writes."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tests.simulation.world import START, World

__all__ = ["Store"]

Info = dict[str, Any]


class Store:
    """`ObjectStore` of one world; `exclusive` as the stores are that have conditional writes."""

    scheme = "s3"

    def __init__(self, world: World, *, exclusive: bool) -> None:
        self._world = world
        self.exclusive = exclusive
        self.objects: dict[str, tuple[bytes, float]] = {}
        #: What each call changed, for listings of a moment ago: time, URL, and what was there before.
        self._changes: list[tuple[float, str, tuple[bytes, float] | None]] = []

    def path(self, url: str) -> str | None:
        return url.removeprefix("s3://") if url.startswith("s3://") else None

    def _begin(self, what: str, url: str, kind: str = "store") -> str:
        if self._world.process() is None:
            return ""
        suffers = self._world.enter(kind, what, url)
        if suffers == "throttled":
            raise OSError(errno.EIO, "503 Slow Down")
        return suffers

    def _done(self, suffers: str) -> None:
        if suffers == "lost":
            raise OSError(errno.ECONNRESET, "the answer got lost")
        if suffers:
            self._world.after(suffers)

    def _put(self, url: str, data: bytes | None) -> None:
        self._changes.append((self._world.now, url, self.objects.get(url)))
        if data is None:
            self.objects.pop(url, None)
        else:
            self.objects[url] = (data, self._world.now)

    # ---- single objects ---------------------------------------------------------------------------------

    def info(self, url: str) -> Info:
        suffers = self._begin("info", url)
        made = self._info(url)
        self._done(suffers)
        if made is None:
            raise FileNotFoundError(url)
        return made

    def _info(self, url: str) -> Info | None:
        url = url.rstrip("/")
        if url in self.objects:
            data, written = self.objects[url]
            tag = hashlib.md5(data, usedforsecurity=False).hexdigest()
            return {
                "name": url,
                "type": "file",
                "size": len(data),
                "ETag": f'"{tag}"',
                "mtime": START + written,
            }
        if any(name.startswith(f"{url}/") for name in self.objects):
            return {"name": url, "type": "directory", "size": 0}
        return None

    def read(self, url: str, begin: int | None = None, end: int | None = None) -> bytes:
        suffers = self._begin("read", url)
        found = self.objects.get(url)
        self._done(suffers)
        if found is None:
            raise FileNotFoundError(url)
        return found[0][begin:end]

    def stream(self, url: str) -> Iterator[bytes]:
        yield self.read(url)

    def write(self, url: str, data: bytes) -> None:
        suffers = self._begin("write", url)
        self._put(url, bytes(data))
        self._done(suffers)

    def create(self, url: str, data: bytes) -> None:
        suffers = self._begin("create", url)
        if url in self.objects and self.exclusive:
            raise FileExistsError(url)
        self._put(url, bytes(data))
        self._done(suffers)

    def upload(self, file: str, url: str) -> None:
        suffers = self._begin("upload", url)
        with open(file, "rb", buffering=0) as data:
            self._put(url, data.read())
        self._done(suffers)

    # ---- several ------------------------------------------------------------------------------------------

    def copy(self, pairs: Sequence[tuple[str, str]]) -> None:
        for source, target in pairs:
            suffers = self._begin("copy", target)
            if source not in self.objects:
                raise FileNotFoundError(source)
            self._put(target, self.objects[source][0])
            self._done(suffers)

    def delete(self, urls: Iterable[str]) -> None:
        for url in urls:
            suffers = self._begin("delete", url)
            self._put(url, None)
            self._done(suffers)

    def delete_tree(self, url: str) -> None:
        found = [
            name for name in sorted(self.objects) if name == url or name.startswith(f"{url.rstrip('/')}/")
        ]
        if not found:
            self._done(self._begin("list", url))
            raise FileNotFoundError(url)
        self.delete(found)

    def find(self, url: str) -> dict[str, Info]:
        suffers = self._begin("list", url, "list")
        folder = f"{url.rstrip('/')}/"
        there = self._listed(suffers)
        self._done(suffers)
        found = {name: data for name, (data, _) in there.items() if name.startswith(folder) or name == url}
        return {name: {"name": name, "type": "file", "size": len(found[name])} for name in sorted(found)}

    def list(self, url: str) -> dict[str, Info]:
        folder = f"{url.rstrip('/')}/"
        found = self.find(url)
        if not found:
            raise FileNotFoundError(url)
        made: dict[str, Info] = {}
        for name, info in found.items():
            first, slash, _ = name.removeprefix(folder).partition("/")
            made[folder + first] = {"name": folder + first, "type": "directory", "size": 0} if slash else info
        return made

    def glob(self, url: str) -> dict[str, Info]:
        raise NotImplementedError(url)

    def _listed(self, suffers: str) -> dict[str, tuple[bytes, float]]:
        if suffers != "stale":
            return self.objects
        there = dict(self.objects)
        for at, url, before in reversed(self._changes):
            if at < self._world.now - self._world.stale:
                break
            if before is None:
                there.pop(url, None)
            else:
                there[url] = before
        return there

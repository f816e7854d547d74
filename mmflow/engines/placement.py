"""Places of data: which nodes of a cluster see a file, and whose page cache holds it.

    probe(paths)                       on each node: what it sees
    Placement(probes).choose(shards)   in the driver: where a task may go, and where it better goes

Only nodes that see a file, with the size and time of modification that it had when planned, may read it. A page cache
is a reason to prefer a node, never to wait for it.

Knows no engine: nodes are names.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from mmflow.errors import MmflowError, SourceError
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import FileIdentity, resident_bytes
from mmflow.mapping.system.host import read_boot_id
from mmflow.plan.tasks import ShardTask
from mmflow.shards import FileEntry, Shard
from mmflow.storage.url import is_url

__all__ = ["PROBED", "Choice", "Placement", "Seen", "probe", "probed", "seen_here"]

#: Files of a source that are looked at on every node; of the others nothing is known, and any node may read them.
PROBED = 10_000
#: A file is asked about in so many parts at most, each of this many bytes at least.
_PARTS = 64
_PART_BYTES = 16 << 20
#: A node is preferred from so much of a task's bytes on that it has in its page cache and others have not.
_WORTH = 0.25


@dataclass(frozen=True, slots=True)
class Seen:
    """File as a node sees it; `resident`: bytes in its page cache, for equal parts of the file."""

    size: int
    mtime_ns: int
    resident: tuple[int, ...] = ()

    def same(self, identity: FileIdentity) -> bool:
        """Return whether it is the planned file. Devices and inodes have other numbers on another host."""
        return (self.size, self.mtime_ns) == (identity.size, identity.mtime_ns)

    def resident_in(self, begin: int, end: int) -> float:
        """Return about how many bytes of a range are in the page cache.

        >>> Seen(100, 0, (50, 0)).resident_in(0, 50), Seen(100, 0, (50, 0)).resident_in(25, 100)
        (50.0, 25.0)
        """
        if not self.resident or not self.size:
            return 0.0
        part = -(-self.size // len(self.resident))
        total = 0.0
        for number in range(begin // part, min(len(self.resident), -(-end // part))):
            first, last = number * part, min(self.size, (number + 1) * part)
            overlap = min(end, last) - max(begin, first)
            if overlap > 0:
                total += self.resident[number] * overlap / (last - first)
        return total


def probed(files: Sequence[str]) -> tuple[str, ...]:
    """Return the files of a source that nodes are asked about; every node is taken to read URLs."""
    return tuple(itertools.islice((f for f in files if not is_url(f)), PROBED))


def probe(paths: Sequence[str]) -> list[Seen | None]:
    """Look at files from where this runs; None: not to be seen here. Never raises for a file."""
    return [_look(path) for path in paths]


def _look(path: str) -> Seen | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        size = status.st_size
        part = max(_PART_BYTES, -(-size // _PARTS))
        resident: tuple[int, ...] = ()
        with suppress(OSError):  # unknown for this file: no preference then
            starts = range(0, size, part)
            # Equal parts, as `Seen.resident_in` takes them to be.
            each = -(-size // max(1, len(starts)))
            resident = tuple(
                resident_bytes(fd, i * each, min(each, size - i * each)) for i in range(len(starts))
            )
        return Seen(size, status.st_mtime_ns, resident)
    except OSError:
        return None
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Choice:
    """Nodes for a task: only one of `nodes` (None: any), and `preferred` if possible."""

    nodes: tuple[str, ...] | None = None
    preferred: str | None = None


class Placement:
    """View that all nodes have of a source's files.

    Args:
        probes: Answers by node and path. A path that a node was not asked about may be read there.
        names: Names of nodes for messages; None: their ids.
    """

    def __init__(
        self, probes: Mapping[str, Mapping[str, Seen | None]], names: Mapping[str, str] | None = None
    ) -> None:
        self._probes = probes
        self._names = names or {}

    def _named(self, nodes: Iterable[str]) -> str:
        return ", ".join(sorted({self._names.get(node, node) for node in nodes}))

    def choose(self, task: ShardTask) -> Choice:
        """Choose where the shards of a task are read.

        Raises:
            SourceError: No node sees all of its files; names the first that is missing, and the nodes.
        """
        able = [n for n, seen in self._probes.items() if all(_readable(seen, f) for f in task.files)]
        if not able:
            raise self._nowhere(task)
        nodes = None if len(able) == len(self._probes) else tuple(sorted(able))
        return Choice(nodes, self._preferred(able, task))

    def _preferred(self, nodes: Sequence[str], task: ShardTask) -> str | None:
        held = sorted(((self._resident(n, task), n) for n in nodes), reverse=True)
        total = sum(shard.end - shard.begin for shard in task.shards)
        second = held[1][0] if len(held) > 1 else 0.0
        return held[0][1] if held[0][0] - second > _WORTH * total else None

    def _resident(self, node: str, task: ShardTask) -> float:
        return sum(self._held(node, task.files[shard.file].path, shard) for shard in task.shards)

    def _held(self, node: str, path: str, shard: Shard) -> float:
        seen = self._probes[node].get(path)
        return 0.0 if seen is None else seen.resident_in(shard.begin, shard.end)

    def _nowhere(self, task: ShardTask) -> SourceError:
        for file in task.files:
            if not any(_readable(seen, file) for seen in self._probes.values()):
                return self._error(file)
        paths = ", ".join(f.path for f in task.files[:3])
        return SourceError(
            f"no node sees all of {paths}, ...: each sees some of them; put them on storage that all nodes share"
        )

    def _error(self, file: FileEntry) -> SourceError:
        others = [node for node, seen in self._probes.items() if seen.get(file.path) is not None]
        where = f"none of the nodes that would read it ({self._named(self._probes)}) sees it"
        if others:
            where += f" as it is here: size or time of modification differ on {self._named(others)}"
        return SourceError(
            f"{file.path}: {where}; put it on storage that they share, at the same path", path=file.path
        )


def _readable(seen: Mapping[str, Seen | None], file: FileEntry) -> bool:
    if file.path not in seen:
        return True
    found = seen[file.path]
    return found is not None and found.same(file.identity)


# ---- in workers -------------------------------------------------------------------------------------------


def seen_here(task: ShardTask, host: str) -> ShardTask:
    """Return a task whose files have the identities that they have here.

    Devices and inodes are numbers of a host. Where they don't distinguish the driver's file from this one, since it was
    seen on another host or through another file system, size and time of modification decide; from then on it is this
    file that must not change.

    Args:
        task: Task as the driver planned it.
        host: Host where the task was planned (`read_boot_id`).
    """
    return replace(task, files=tuple(_here(file, host == read_boot_id()) for file in task.files))


def _here(file: FileEntry, planned_here: bool) -> FileEntry:
    try:
        now = FileIdentity.of(file.path)
    except MmflowError:
        return file  # opening it will say why
    planned = file.identity.file
    same = (now.size, now.mtime_ns) == (planned.size, planned.mtime_ns)
    if same and (now.device != planned.device or not planned_here):
        return replace(
            file, identity=now.of_contents(file.identity.size) if file.identity.is_contents else now
        )
    return file

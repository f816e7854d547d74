"""Every state of a folder that POSIX allows after a crash of the machine, at each call of a protocol.

    Recording   the calls of a protocol, as changes of names, writes and syncs
    states      what may be there after a crash at each of them
    Recording.build    makes one of them, to be recovered

What a crash may take: changes of names in a folder that was not synced since, in any combination; of a file, what was
written since it was synced: all of it, its end from a multiple of 512 or 4096 bytes on, or one write of several; and
the data, but not the size. A rename is one change, and durable when the folder of its new name is.

Files keep their inodes: each has a second name in a folder beside, from which states are linked.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmflow.mapping.system import system
from mmflow.storage import disk
from tests.simulation.world import _makedirs, _remove_tree

__all__ = ["Recording", "State"]

_PAGE = 4096
#: Numbers up to which all combinations are taken; beyond, each change alone, all but each, and some at random.
_NAMES, _CONTENTS, _SAMPLES = 7, 48, 24
_CALLS = ("chmod", "close", "fdatasync", "fsync", "ftruncate", "link", "mkdir", "open", "pwrite", "rename", "replace",
          "rmdir", "unlink", "write")  # fmt: skip
_SYSTEM_CALLS = ("preallocate", "punch_hole", "rename")

#: Entry of a folder: the folder's inode, and the name.
Entry = tuple[int, str]
#: Names and content: what is at each entry, and the bytes of each file.
State = tuple[tuple[tuple[Entry, int], ...], tuple[tuple[int, bytes], ...]]


@dataclass(frozen=True)
class Names:
    """Change of entries at once; None: the entry goes. Durable once the folder of the last is synced."""

    entries: tuple[tuple[Entry, int | None], ...]


@dataclass(frozen=True)
class Write:
    """Bytes of a file, or its new size."""

    file: int
    offset: int
    data: bytes
    size: int


@dataclass(frozen=True)
class Sync:
    """Sync of a file or a folder."""

    inode: int


@dataclass
class Recording:
    """Recorded calls below a folder.

    Args:
        folder: The folder; `kept` beside it holds second names of its files. What differs in it from one call to the
            next was written past the seam (by pyarrow, through a mapping), and is recorded, too.
    """

    folder: Path
    changes: list[Names | Write | Sync] = field(default_factory=list)
    #: Index into `changes` from which on each fact holds, by its name (`mark`).
    marks: dict[str, int] = field(default_factory=dict)
    folders: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.kept = self.folder.with_name("kept")
        self.kept.mkdir()
        self.folders.add(os.stat(self.folder).st_ino)
        self._root = os.stat(self.folder).st_ino
        self._entries: dict[Entry, int] = {}
        self._contents: dict[int, bytes] = {}
        self._look()
        self.changes.clear()
        self._first = dict(self._entries), dict(self._contents)

    def mark(self, name: str) -> None:
        """Note that something is true from here on: an operation has returned."""
        self._look()
        self.marks.setdefault(name, len(self.changes))

    # ---- recording ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record the calls of the block."""
        known = {name: getattr(disk, name) for name in (*_CALLS, "makedirs", "remove_tree")}
        try:
            for name in _CALLS:
                setattr(disk, name, self._recorded(name, known[name]))
            others: dict[str, Any] = {"makedirs": _makedirs, "remove_tree": _remove_tree}
            for name, other in others.items():
                setattr(disk, name, other)
            for name in _SYSTEM_CALLS:
                setattr(system, name, self._recorded(name, getattr(system, name)))
            yield
        finally:
            for name in _SYSTEM_CALLS:
                delattr(system, name)  # there is that of the class
            for name, call in known.items():
                setattr(disk, name, call)
        self._look()

    def _recorded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*given: Any, **named: Any) -> Any:
            self._look()
            made = call(*given, **named)
            self._look()
            if name in ("fsync", "fdatasync"):
                self.changes.append(Sync(os.fstat(given[0]).st_ino))
            return made

        return recorded

    def _look(self) -> None:
        """Record what has changed since the last look: changes of names as one."""
        entries: dict[Entry, int] = {}
        contents: dict[int, bytes] = {}
        self._walk(str(self.folder), self._root, entries, contents)
        gone = [(entry, None) for entry in self._entries if entry not in entries]
        new = [(entry, inode) for entry, inode in entries.items() if self._entries.get(entry) != inode]
        if gone or new:
            self.changes.append(Names((*gone, *new)))
        for inode, data in contents.items():
            self._written(inode, self._contents.get(inode, b""), data)
        self._entries = entries
        self._contents |= contents

    def _walk(self, path: str, folder: int, entries: dict[Entry, int], contents: dict[int, bytes]) -> None:
        with os.scandir(path) as found:
            for entry in sorted(found, key=lambda e: e.name):
                inode = entry.inode()
                entries[folder, entry.name] = inode
                if entry.is_dir():
                    self.folders.add(inode)
                    self._walk(entry.path, inode, entries, contents)
                    continue
                with contextlib.suppress(FileExistsError):
                    os.link(entry.path, self.kept / str(inode))
                with open(entry.path, "rb") as file:
                    contents[inode] = file.read()

    def _written(self, inode: int, before: bytes, after: bytes) -> None:
        if before == after:
            return
        common = _common(before, after)
        if common == len(after):  # cut
            self.changes.append(Write(inode, common, b"", len(after)))
            return
        for begin in range(common - common % _PAGE, len(after), _PAGE):
            low, high = max(common, begin), min(len(after), begin + _PAGE)
            if after[low:high] != before[low:high] or high > len(before):
                self.changes.append(
                    Write(inode, low, after[low:high], max(high, min(len(before), len(after))))
                )

    # ---- states ----------------------------------------------------------------------------------------------

    def states(self, r: random.Random) -> Iterator[tuple[int, State]]:
        """Yield each state once, with the latest number of changes after which a crash may leave it."""
        found: dict[State, int] = {}
        for count in range(len(self.changes) + 1):
            for names in self._name_states(count, r):
                for state in self._content_states(count, names, r):
                    found[state] = count
        for state, count in found.items():
            yield count, state

    def _name_states(self, count: int, r: random.Random) -> Iterator[dict[Entry, int]]:
        synced: set[int] = set()
        durable: list[int] = []
        loose: list[int] = []
        for number in range(count - 1, -1, -1):
            change = self.changes[number]
            if isinstance(change, Sync) and change.inode in self.folders:
                synced.add(change.inode)
            elif isinstance(change, Names):
                (durable if change.entries[-1][0][0] in synced else loose).append(number)
        loose.reverse()
        for kept in _choices(loose, r):
            entries = dict(self._first[0])
            for number in sorted([*durable, *kept]):
                change = self.changes[number]
                assert isinstance(change, Names)
                _assign(entries, change)
            yield self._reachable(entries)

    def _reachable(self, entries: dict[Entry, int]) -> dict[Entry, int]:
        reached: dict[Entry, int] = {}
        todo = [self._root]
        while todo:
            here = todo.pop()
            for entry, inode in entries.items():
                if entry[0] == here and entry not in reached:
                    reached[entry] = inode
                    if inode in self.folders:
                        todo.append(inode)
        return reached

    def _content_states(self, count: int, entries: dict[Entry, int], r: random.Random) -> Iterator[State]:
        files = sorted({inode for inode in entries.values() if inode not in self.folders})
        variants = [self._variants(inode, count) for inode in files]
        total = 1
        for each in variants:
            total *= len(each)
        named = tuple(sorted(entries.items()))
        if total <= _CONTENTS:
            chosen: Any = itertools.product(*variants)
        else:
            first, last = [v[0] for v in variants], [v[-1] for v in variants]
            chosen = [first, last]
            for number, each in enumerate(variants):
                chosen += [
                    [*base[:number], one, *base[number + 1 :]] for one in each for base in (first, last)
                ]
            chosen += [[r.choice(v) for v in variants] for _ in range(_SAMPLES)]
        for contents in chosen:
            yield named, tuple(zip(files, contents, strict=True))

    def _applied(self, inode: int, count: int) -> bytes:
        data = self._first[1].get(inode, b"")
        for change in self.changes[:count]:
            if isinstance(change, Write) and change.file == inode:
                data = _wrote(data, change)
        return data

    def _variants(self, inode: int, count: int) -> list[bytes]:
        """Return what a file may hold: first all that is durable, last all that was written."""
        begin = 0
        for number in range(count):
            change = self.changes[number]
            if isinstance(change, Sync) and change.inode == inode:
                begin = number + 1
        base = self._applied(inode, begin)
        writes = [c for c in self.changes[begin:count] if isinstance(c, Write) and c.file == inode]
        made = [base]
        if writes:
            full = base
            for write in writes:
                full = _wrote(full, write)
            made.append(
                (base + bytes(max(0, len(full) - len(base))))[: len(full)]
            )  # the size before the data
            if len(writes) > 1:
                for left_out in range(len(writes)):
                    data = base
                    for number, write in enumerate(writes):
                        data = data if number == left_out else _wrote(data, write)
                    made.append(data)
            last = writes[-1]
            before = base
            for write in writes[:-1]:
                before = _wrote(before, write)
            for unit in (512, _PAGE):
                for cut in {(last.offset // unit + 1) * unit, (last.offset + len(last.data)) // unit * unit}:
                    if last.offset < cut < last.offset + len(last.data):
                        part = last.data[: cut - last.offset]
                        made.append(_wrote(before, Write(inode, last.offset, part, max(cut, len(before)))))
            half = len(last.data) // 2  # a smaller unit than any disk's: logs must stand this, too
            if last.data:
                size = max(last.offset + half, len(before))
                made.append(_wrote(before, Write(inode, last.offset, last.data[:half], size)))
            made.append(full)
        return list(dict.fromkeys(made))

    def build(self, state: State) -> None:
        """Make a state in the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        entries, contents = state
        for inode, data in contents:
            with open(self.kept / str(inode), "wb") as file:
                file.write(data)
        below: dict[int, list[tuple[str, int]]] = {}
        for (folder, name), inode in entries:
            below.setdefault(folder, []).append((name, inode))
        todo = [(self._root, str(self.folder))]
        while todo:
            here, path = todo.pop()
            for name, inode in below.get(here, ()):
                there = f"{path}/{name}"
                if inode in self.folders:
                    os.mkdir(there)
                    todo.append((inode, there))
                else:
                    os.link(self.kept / str(inode), there)


def _common(a: bytes, b: bytes) -> int:
    """Return how many bytes two texts have in common at their beginning."""
    length = min(len(a), len(b))
    differ = np.frombuffer(a, np.uint8, length) != np.frombuffer(b, np.uint8, length)
    return int(differ.argmax()) if differ.any() else length


def _assign(entries: dict[Entry, int], change: Names) -> None:
    for entry, inode in change.entries:
        if inode is None:
            entries.pop(entry, None)
        else:
            entries[entry] = inode


def _wrote(data: bytes, write: Write) -> bytes:
    data += bytes(max(0, write.offset - len(data)))
    data = data[: write.offset] + write.data + data[write.offset + len(write.data) :]
    return data[: write.size]


def _choices(numbers: list[int], r: random.Random) -> Iterator[list[int]]:
    """Yield which of several changes are durable: all combinations of few."""
    if len(numbers) <= _NAMES:
        for length in range(len(numbers) + 1):
            yield from map(list, itertools.combinations(numbers, length))
        return
    for length in range(len(numbers) + 1):  # in order, as file systems with a journal do it
        yield numbers[:length]
    for each in numbers:
        yield [each]
        yield [number for number in numbers if number != each]
    for _ in range(_SAMPLES):
        yield [number for number in numbers if r.random() < 0.5]

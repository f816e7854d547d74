"""Power cuts of the world: what the local store has not synced, and one of the states that a cut may leave.

    a change of names     durable once the folder of its (new) name was synced; of the others any may be lost
    content of a file     as it was synced last, or what was written since, or a part of it, or zeros

The rules are those of `crash_states`, which tries all states of one protocol. A cut of the world takes one of them, at
a moment of a whole history.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.simulation.crash_states import Entry, Names, _assign, _common

__all__ = ["Unsynced"]

_SECTOR = 512


class Unsynced:
    """Changes of some folders that were not synced.

    Args:
        root: Folder that holds them.
        names: Their names; what else is in `root` survives as it is.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._top = str(root)
        self._names = frozenset(names)
        self._kept = f"{root}/kept"
        os.mkdir(self._kept)
        self._root = os.stat(root).st_ino
        self._cut: tuple[dict[Entry, int], dict[int, bytes]] | None = None
        self._begin()

    def _begin(self) -> None:
        """Take all that is there as durable."""
        self._entries: dict[Entry, int] = {}
        self._folders: set[int] = {self._root}
        self._synced: dict[int, bytes] = {}
        #: Inodes of files that have a second name, which keeps them and their numbers.
        self._linked: set[int] = {int(name) for name in os.listdir(self._kept)}
        #: Changes in their order, and the numbers of those that are not durable.
        self._changes: list[Names] = []
        self._loose: set[int] = set()
        self._look_below(self._top)
        for inode in set(self._entries.values()) - self._folders:
            self._synced[inode] = self._content(inode)
        self._changes.clear()
        self._loose.clear()
        self._first = dict(self._entries)

    # ---- calls ----------------------------------------------------------------------------------------------

    def called(self, name: str, given: Sequence[Any]) -> None:
        """Note a call of the seam that has succeeded."""
        match name:
            case "fsync" | "fdatasync":
                self.synced(given[0])
            case "rename" | "replace":
                self.named(given[0], given[1])
            case "link":
                self.named(given[1])
            case "mkdir" | "rmdir" | "unlink":
                self.named(given[0])

    def named(self, *paths: str | os.PathLike[str]) -> None:
        """Note one change of names: what is at these paths now. A rename gives the new name last."""
        changed: list[tuple[Entry, int | None]] = []
        for path in paths:
            folder, name = os.path.split(os.fspath(path))
            with contextlib.suppress(FileNotFoundError):
                entry: Entry = os.stat(folder).st_ino, name
                if entry[0] == self._root and name not in self._names:
                    continue
                inode: int | None = None
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(path)
                    inode = status.st_ino
                    if stat.S_ISDIR(status.st_mode):
                        self._folders.add(inode)
                    elif inode not in self._linked:
                        self._linked.add(inode)
                        os.link(path, f"{self._kept}/{inode}")
                if self._entries.get(entry) != inode:
                    changed.append((entry, inode))
                    if inode is None:
                        del self._entries[entry]
                    else:
                        self._entries[entry] = inode
        if changed:
            self._loose.add(len(self._changes))
            self._changes.append(Names(tuple(changed)))

    def synced(self, fd: int) -> None:
        """Note that a file or folder was synced."""
        status = os.fstat(fd)
        path = os.readlink(f"/proc/self/fd/{fd}")
        if not stat.S_ISDIR(status.st_mode):
            self.named(path)
            with open(f"/proc/self/fd/{fd}", "rb", buffering=0) as file:
                self._synced[status.st_ino] = file.read()
            return
        if path.startswith(self._top):
            for name in sorted(os.listdir(path)):  # files that were made past the seam
                self.named(f"{path}/{name}")
        self._loose = {
            number for number in self._loose if self._changes[number].entries[-1][0][0] != status.st_ino
        }

    # ---- the cut --------------------------------------------------------------------------------------------

    def cut(self, r: random.Random) -> None:
        """Choose what is left after a power cut at this moment."""
        self._look_below(self._top)
        kept = _kept(sorted(self._loose), r)
        entries = dict(self._first)
        for number, change in enumerate(self._changes):
            if number not in self._loose or number in kept:
                _assign(entries, change)
        reached: dict[Entry, int] = {}
        contents: dict[int, bytes] = {}
        todo = [self._root]
        while todo:
            here = todo.pop()
            for entry, inode in entries.items():
                if entry[0] == here:
                    reached[entry] = inode
                    if inode in self._folders:
                        todo.append(inode)
                    elif inode not in contents:
                        contents[inode] = _left(self._synced.get(inode, b""), self._content(inode), r)
        self._cut = reached, contents

    def build(self) -> None:
        """Put what is left after a cut into the folders."""
        assert self._cut is not None, "cut comes first"
        (entries, contents), self._cut = self._cut, None
        for name in self._names:
            shutil.rmtree(f"{self._top}/{name}", ignore_errors=True)
        for inode, data in contents.items():
            with open(f"{self._kept}/{inode}", "wb", buffering=0) as file:
                file.write(data)
        todo = [(self._root, self._top)]
        while todo:
            here, path = todo.pop()
            for (folder, name), inode in entries.items():
                if folder == here:
                    if inode in self._folders:
                        os.mkdir(f"{path}/{name}")
                        todo.append((inode, f"{path}/{name}"))
                    else:
                        os.link(f"{self._kept}/{inode}", f"{path}/{name}")
        self._begin()

    def _content(self, inode: int) -> bytes:
        with open(f"{self._kept}/{inode}", "rb", buffering=0) as file:
            return file.read()

    def _look_below(self, path: str) -> None:
        for entry in sorted(os.scandir(path), key=lambda e: e.name):
            if path == self._top and entry.name not in self._names:
                continue
            self.named(entry.path)
            if entry.is_dir():
                self._look_below(entry.path)


def _kept(loose: list[int], r: random.Random) -> set[int]:
    """Return which changes of names survive, of those that need not."""
    how = r.choice(("none", "all", "first", "first", "some", "some"))
    if how == "none":
        return set()
    if how == "all":
        return set(loose)
    if how == "first":  # as file systems with a journal do it
        return set(loose[: _below(len(loose) + 1, r)])
    share = r.choice((0.2, 0.5, 0.8))
    return {number for number in loose if r.random() < share}


def _below(end: int, r: random.Random) -> int:
    """Return a number of `range(end)`, by one draw: lengths differ by the digits of inodes from run to run."""
    return int(r.random() * end)


def _left(synced: bytes, now: bytes, r: random.Random) -> bytes:
    """Return what a power cut leaves of a file."""
    if synced == now:
        return now
    how = r.choice(("synced", "now", "now", "sectors", "part", "zeros", "hole"))
    common = _common(synced, now)
    match how:
        case "synced":
            return synced
        case "now":
            return now
        case "sectors":
            return now[: max(common, _below(len(now) // _SECTOR + 1, r) * _SECTOR)]
        case "part":
            return now[: common + _below(len(now) - common + 1, r)]
        case "zeros":
            return now[:common] + bytes(len(now) - common)
    sector = (common + _below(len(now) - common + 1, r)) // _SECTOR * _SECTOR
    begin, end = max(sector, common), max(sector + _SECTOR, common)
    return now[:begin] + bytes(max(0, min(end, len(now)) - begin)) + now[end:]

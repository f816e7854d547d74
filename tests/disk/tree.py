"""Files and folders of a disk in memory, of which what was not synced gets lost.

    Tree          what callers see: inodes by number
      Inode       its content now, and as it was when it was last synced
    Tree.forget   the state after a power cut

Invariant: a synced file keeps its content, a synced folder its names; all else may be lost. A rename is one change of
both of its folders: once one is synced, both have it.
"""

from __future__ import annotations

import random
import stat
import time
from dataclasses import dataclass, field

__all__ = ["PAGE", "ROOT", "Inode", "Tree"]

PAGE = 4096
#: Number of the outermost folder.
ROOT = 1


@dataclass
class Inode:
    """File, folder or link.

    Attributes:
        data: Content of a file; target of a link.
        pages: Pages of a file that take space; the others are holes.
        names: Entries of a folder.
        synced: Content and pages when it was last synced; None: never.
        synced_names: Entries that a power cut leaves.
        opens: Number of times that it is open.
        lookups: References that the kernel holds.
        path: Path by which it was found last.
    """

    number: int
    mode: int
    path: str
    data: bytearray = field(default_factory=bytearray)
    pages: set[int] = field(default_factory=set)
    names: dict[str, int] = field(default_factory=dict)
    synced: tuple[bytes, frozenset[int]] | None = None
    synced_names: dict[str, int] = field(default_factory=dict)
    links: int = 0
    opens: int = 0
    lookups: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = field(default_factory=time.time_ns)
    ctime: int = field(default_factory=time.time_ns)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def touch(self) -> None:
        self.mtime = self.ctime = time.time_ns()

    def holes(self, begin: int, end: int) -> set[int]:
        """Return the pages of a range that take no space."""
        return set(range(begin // PAGE, -(-end // PAGE))) - self.pages

    def sync(self) -> None:
        if self.is_folder:
            self.synced_names = dict(self.names)
        else:
            self.synced = bytes(self.data), frozenset(self.pages)


class Tree:
    """All inodes of a disk."""

    def __init__(self) -> None:
        self.inodes = {ROOT: Inode(ROOT, stat.S_IFDIR | 0o777, "/", links=2, lookups=1)}
        #: Pages that files take.
        self.pages = 0
        self._last = ROOT
        self._moves: list[tuple[tuple[int, str], tuple[int, str]]] = []

    # ---- changes of names -----------------------------------------------------------------------------------

    def make(self, folder: Inode, name: str, mode: int, uid: int, gid: int) -> Inode:
        self._last += 1
        made = Inode(self._last, mode, "", uid=uid, gid=gid)
        self.inodes[made.number] = made
        self.link(folder, name, made)
        return made

    def link(self, folder: Inode, name: str, inode: Inode) -> None:
        folder.names[name] = inode.number
        folder.touch()
        inode.links += 1
        self._moved(folder, name, inode)

    def unlink(self, folder: Inode, name: str) -> None:
        inode = self.inodes[folder.names.pop(name)]
        folder.touch()
        inode.links -= 1
        self.drop_unused(inode)

    def rename(self, old: Inode, name: str, new: Inode, target: str, *, exchange: bool) -> None:
        moved, there = self.inodes[old.names[name]], new.names.get(target)
        if there == moved.number:
            return
        if exchange:
            assert there is not None
            other = self.inodes[there]
            old.names[name], new.names[target] = other.number, moved.number
            self._moved(old, name, other)
        else:
            if there is not None:
                self.unlink(new, target)
            del old.names[name]
            new.names[target] = moved.number
        self._moved(new, target, moved)
        old.touch()
        new.touch()
        self._moves.append(((old.number, name), (new.number, target)))

    def _moved(self, folder: Inode, name: str, inode: Inode) -> None:
        inode.path = f"{folder.path.rstrip('/')}/{name}"
        for below, number in inode.names.items():
            self._moved(inode, below, self.inodes[number])

    def drop_unused(self, inode: Inode) -> None:
        """Free an inode that has no name and that nobody has open; what was synced comes back after a power cut."""
        if inode.links <= 0 and inode.opens <= 0:
            self.resize(inode, 0)
            if inode.lookups <= 0 and not any(
                inode.number in folder.synced_names.values() for folder in self.inodes.values()
            ):
                self.inodes.pop(inode.number, None)

    # ---- changes of contents --------------------------------------------------------------------------------

    def write(self, inode: Inode, offset: int, data: bytes | memoryview) -> None:
        end = offset + len(data)
        if end > len(inode.data):
            inode.data.extend(bytes(end - len(inode.data)))
        inode.data[offset:end] = data
        self.allocate(inode, offset, end)

    def allocate(self, inode: Inode, begin: int, end: int) -> None:
        new = inode.holes(begin, end)
        inode.pages |= new
        self.pages += len(new)
        inode.touch()

    def punch(self, inode: Inode, begin: int, end: int) -> None:
        """Make a hole."""
        end = min(end, len(inode.data))
        inode.data[begin:end] = bytes(max(0, end - begin))
        self._free(
            inode,
            {
                page
                for page in inode.pages
                if begin <= page * PAGE and min((page + 1) * PAGE, len(inode.data)) <= end
            },
        )

    def resize(self, inode: Inode, size: int) -> None:
        if size < len(inode.data):
            del inode.data[size:]
            self._free(inode, {page for page in inode.pages if page * PAGE >= size})
        else:
            inode.data.extend(bytes(size - len(inode.data)))
        inode.touch()

    def _free(self, inode: Inode, pages: set[int]) -> None:
        inode.pages -= pages
        self.pages -= len(pages)

    # ---- what is kept ---------------------------------------------------------------------------------------

    def sync(self, inode: Inode) -> None:
        inode.sync()
        for move in [m for m in self._moves if inode.is_folder and inode.number in (m[0][0], m[1][0])]:
            self._moves.remove(move)
            for number, name in move:
                self._keep(number, name)

    def _keep(self, number: int, name: str) -> None:
        folder = self.inodes.get(number)
        if folder is None:
            return
        if name in folder.names:
            folder.synced_names[name] = folder.names[name]
        else:
            folder.synced_names.pop(name, None)

    def sync_all(self) -> None:
        for inode in self.inodes.values():
            inode.sync()
        self._moves.clear()

    def format(self) -> None:
        """Become empty."""
        root = self.inodes[ROOT]
        root.names, root.synced_names = {}, {}
        self.inodes = {ROOT: root}
        self._moves.clear()
        self.pages = 0

    def _coin(
        self, number: int, name: str, chance: random.Random, coins: dict[tuple[int, str], bool]
    ) -> bool:
        """Return whether a change of a name was written: that of all names of one rename, or of none."""
        names = {(number, name)}
        for move in (*self._moves, *reversed(self._moves)):
            if names & {*move}:
                names |= {*move}
        found = next((coins[other] for other in names if other in coins), None)
        written = chance.random() < 0.5 if found is None else found
        coins.update(dict.fromkeys(names, written))
        return written

    def forget(self, seed: int | None = None) -> None:
        """Become the state after a power cut.

        Args:
            seed: None: all that was not synced is lost. Else some of it was written nevertheless: names one by one, of
                files all, nothing, a beginning, or the size without the data.
        """
        chance = None if seed is None else random.Random(seed)
        kept: dict[int, Inode] = {}
        coins: dict[tuple[int, str], bool] = {}
        before, self.inodes = self.inodes, kept
        todo = [(ROOT, "/")]
        while todo:
            number, path = todo.pop()
            if number in kept:
                kept[number].links += 1
                continue
            was = before[number]
            now = kept[number] = Inode(
                number, was.mode, path, links=2 if was.is_folder else 1, lookups=number == ROOT, uid=was.uid, gid=was.gid,
                mtime=was.mtime, ctime=was.ctime,
            )  # fmt: skip
            if was.is_folder:
                now.names = dict(was.synced_names)
                changed = dict(was.names.items() ^ was.synced_names.items())
                for name in sorted(changed):
                    if chance is not None and self._coin(number, name, chance, coins):
                        now.names.pop(name, None)
                        if name in was.names:
                            now.names[name] = was.names[name]
                todo += [(below, f"{path.rstrip('/')}/{name}") for name, below in now.names.items()]
            else:
                data, pages = was.synced or (b"", frozenset())
                now.data, now.pages = bytearray(data), set(pages)
                if chance is not None and was.links > 0 and now.data != was.data:
                    _tear(now, was, chance)
            now.sync()
        self._moves.clear()
        self.pages = sum(len(inode.pages) for inode in kept.values())


def _tear(now: Inode, was: Inode, chance: random.Random) -> None:
    """Have some of what was not synced written: all, the size without the data, or some sectors or pages."""
    kind = chance.randrange(4)
    if kind == 1:
        now.data, now.pages = bytearray(was.data), set(was.pages)
    elif kind > 1:
        unit = chance.choice((512, PAGE))
        size = (
            len(was.data)
            if kind == 2
            else min(len(was.data), unit * chance.randrange(1 + -(-len(was.data) // unit)))
        )
        size = max(size, min(len(now.data), len(was.data)))
        now.data = now.data[:size] + bytes(max(0, size - len(now.data)))
        for begin in range(0, size, unit) if kind == 3 else ():
            if chance.random() < 0.5:
                now.data[begin : min(begin + unit, size)] = was.data[begin : min(begin + unit, size)]
        now.pages = {page for page in now.pages | was.pages if page * PAGE < size}

"""Files and folders of a disk in memory, of which what was not synced gets lost.

    Tree          what callers see: inodes by number
      Inode       its content now, and as it was when it was last synced
    Tree.forget   the state after a power cut

Invariants: a synced file keeps its content, a synced folder its names; all else may be lost. A rename is one change of
both of its folders: once one is synced, both have it. A file takes the memory of its pages, whatever its size, and each
content of a page is shared by all that have it: a sync copies no bytes.
"""

from __future__ import annotations

import random
import stat
import time
from dataclasses import dataclass, field

__all__ = ["PAGE", "ROOT", "Inode", "Tree"]

PAGE = 4096
_ZEROS = bytes(PAGE)
#: Number of the outermost folder.
ROOT = 1


@dataclass
class Inode:
    """File, folder or link.

    Attributes:
        size: Bytes of a file.
        pages: Contents of those pages of a file that take space, with zeros behind its end; the others are holes.
        target: Target of a link.
        names: Entries of a folder.
        synced: Size and pages when it was last synced; None: never.
        synced_names: Entries that a power cut leaves.
        opens: Number of times that it is open.
        lookups: References that the kernel holds.
        path: Path by which it was found last.
    """

    number: int
    mode: int
    path: str
    size: int = 0
    pages: dict[int, bytes] = field(default_factory=dict)
    target: bytes = b""
    names: dict[str, int] = field(default_factory=dict)
    synced: tuple[int, dict[int, bytes]] | None = None
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

    def holes(self, begin: int, end: int) -> int:
        """Return how many pages of a range take no space."""
        first, last = begin // PAGE, -(-end // PAGE)
        return last - first - len(self.pages_of(first, last))

    def pages_of(self, first: int, last: int) -> list[int]:
        """Return the numbers of the pages in a range that take space, in order."""
        if last - first < len(self.pages):
            return [page for page in range(first, last) if page in self.pages]
        return sorted(page for page in self.pages if first <= page < last)

    def find(self, offset: int, *, data: bool) -> int | None:
        """Return the first byte from an offset on that is of a page, or of a hole; None: only the end follows."""
        page = offset // PAGE
        if data:
            page = min((other for other in self.pages if other >= page), default=-(-self.size // PAGE))
        else:
            while page in self.pages:
                page += 1
        found = max(offset, page * PAGE)
        return found if found < self.size else None

    def read(self, begin: int, end: int) -> bytes:
        end = min(end, self.size)
        if begin >= end:
            return b""
        first = begin // PAGE
        whole = b"".join(self.pages.get(page, _ZEROS) for page in range(first, -(-end // PAGE)))
        return whole[begin - first * PAGE : end - first * PAGE]

    def put(self, offset: int, data: bytes | memoryview) -> None:
        """Write into pages, which take space from now on."""
        end = offset + len(data)
        for page in range(offset // PAGE, -(-end // PAGE)):
            low, high = max(offset, page * PAGE), min(end, (page + 1) * PAGE)
            part = bytes(data[low - offset : high - offset])
            if len(part) < PAGE:
                was = self.pages.get(page, _ZEROS)
                part = was[: low - page * PAGE] + part + was[high - page * PAGE :]
            self.pages[page] = part
        self.size = max(self.size, end)

    def cut(self, size: int) -> None:
        """Set the size."""
        if size < self.size:
            for page in self.pages_of(-(-size // PAGE), -(-self.size // PAGE)):
                del self.pages[page]
            page, left = divmod(size, PAGE)
            if page in self.pages:
                self.pages[page] = self.pages[page][:left] + bytes(PAGE - left)
        self.size = size

    def sync(self) -> None:
        if self.is_folder:
            self.synced_names = dict(self.names)
        else:
            self.synced = self.size, dict(self.pages)


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
        before = len(inode.pages)
        inode.put(offset, data)
        self._count(inode, before)

    def allocate(self, inode: Inode, begin: int, end: int) -> None:
        before = len(inode.pages)
        for page in range(begin // PAGE, -(-end // PAGE)):
            inode.pages.setdefault(page, _ZEROS)
        self._count(inode, before)

    def punch(self, inode: Inode, begin: int, end: int) -> None:
        """Make a hole."""
        before = len(inode.pages)
        for page in inode.pages_of(begin // PAGE, -(-end // PAGE)):
            low, high = max(begin, page * PAGE), min(end, (page + 1) * PAGE)
            if low == page * PAGE and (high == low + PAGE or high >= inode.size):
                del inode.pages[page]
            else:
                was = inode.pages[page]
                inode.pages[page] = was[: low - page * PAGE] + bytes(high - low) + was[high - page * PAGE :]
        self._count(inode, before)

    def resize(self, inode: Inode, size: int) -> None:
        before = len(inode.pages)
        inode.cut(size)
        self._count(inode, before)

    def _count(self, inode: Inode, before: int) -> None:
        self.pages += len(inode.pages) - before
        inode.touch()

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
                now.target = was.target
                now.size, pages = was.synced or (0, {})
                now.pages = dict(pages)
                if chance is not None and was.links > 0 and (now.size, now.pages) != (was.size, was.pages):
                    _tear(now, was, chance)
            now.sync()
        self._moves.clear()
        self.pages = sum(len(inode.pages) for inode in kept.values())


def _tear(now: Inode, was: Inode, chance: random.Random) -> None:
    """Have some of what was not synced written: all, the size without the data, or some sectors or pages."""
    kind = chance.randrange(4)
    if kind == 1:
        now.size, now.pages = was.size, dict(was.pages)
    elif kind > 1:
        unit = chance.choice((512, PAGE))
        size = was.size if kind == 2 else min(was.size, unit * chance.randrange(1 + -(-was.size // unit)))
        now.cut(max(size, min(now.size, was.size)))
        for page in was.pages_of(0, -(-now.size // PAGE)):
            now.pages.setdefault(page, _ZEROS)
            for begin in range(page * PAGE, min((page + 1) * PAGE, now.size), unit) if kind == 3 else ():
                if chance.random() < 0.5:
                    now.put(begin, was.read(begin, min(begin + unit, now.size)))

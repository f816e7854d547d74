"""The process of a disk that forgets and fails: it answers the kernel, and takes commands from tests.

    python -m tests.disk.server FUSE_FD CONTROL_FD

The kernel's requests come from /dev/fuse, commands as lines of JSON from a socket. Rules say which requests suffer:

    error    fails with an errno
    short    reads, or writes, no more than so many bytes; only what a call asked for: a page of a mapping comes whole, since
             to the kernel a short page is the end of the file, and what is beyond it zeros
    stall    is not answered before the rule is taken away: the caller is in state D, as with a lost file server
    slow     is answered after so many seconds
    crash    power is cut before it: what was not synced is lost, and all else fails with EIO until power is back

Invariant: this process never touches the disk itself, and ends with its test: then the socket is closed, the kernel
fails whatever is under way, and `fusermount3` unmounts.
"""

from __future__ import annotations

import errno
import fnmatch
import heapq
import itertools
import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.disk.protocol import (
    ATTRIBUTES,
    BUFFER,
    DIRECT_IO,
    DIRENT,
    ENTRY,
    HEADER,
    INIT_FLAGS,
    INIT_FLAGS_2,
    INIT_REPLY,
    INVALIDATE_INODE,
    READ_LOCK_OWNER,
    REPLY,
    SETATTR,
    STATFS,
    WRITE_BYTES,
    WRITE_CACHE,
    Op,
    Valid,
)
from tests.disk.tree import PAGE, ROOT, Inode, Tree

__all__ = ["Rule", "Server"]

_LONGEST_NAME = 255
#: Bytes of a file, at most, as on ext4.
_LARGEST = 1 << 44
_CAPACITY = 1 << 30
_EXCHANGE, _NO_REPLACE = 2, 1
_KEEP_SIZE, _PUNCH = 1, 2
_SEEK_DATA, _SEEK_HOLE = 3, 4
#: Requests that change the disk, or say what must stay: before each of them power may be cut.
_CHANGES = {
    Op.SETATTR, Op.SYMLINK, Op.MKNOD, Op.MKDIR, Op.UNLINK, Op.RMDIR, Op.RENAME, Op.RENAME2, Op.LINK, Op.WRITE, Op.FSYNC,
    Op.FSYNCDIR, Op.CREATE, Op.FALLOCATE,
}  # fmt: skip
#: Requests that need no inode that is there.
_ALWAYS = {Op.INIT, Op.FORGET, Op.BATCH_FORGET, Op.DESTROY, Op.INTERRUPT, Op.RELEASE, Op.RELEASEDIR}


@dataclass
class Rule:
    """Requests that suffer, and how.

    Attributes:
        number: Its number.
        do: `error`, `short`, `stall`, `slow` or `crash`.
        op: Name of the request, in small letters; `change` for all that change the disk; `any`.
        name: Pattern of the path on the disk.
        at: Byte of a file that a read or a write must cover; None: any.
        skip: Number of such requests that are spared first.
        times: Number of those that suffer then; None: all.
        errno: Error of `error`.
        size: Bytes of `short`.
        seconds: Delay of `slow`.
        seed: Of `crash`, as that of `Tree.forget`.
    """

    number: int
    do: str
    op: str
    name: str = "*"
    at: int | None = None
    skip: int = 0
    times: int | None = None
    errno: int = errno.EIO
    size: int = 1
    seconds: float = 0.0
    seed: int | None = None
    seen: int = 0
    hit: int = 0

    def fits(self, op: Op, path: str, begin: int, end: int) -> bool:
        """Return whether a request suffers, and count it."""
        if self.op not in ("any", op.name.lower().removesuffix("2")) and not (
            self.op == "change" and op in _CHANGES
        ):
            return False
        if not fnmatch.fnmatchcase(path, self.name) or not (self.at is None or begin <= self.at < end):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.times is not None and self.hit >= self.times):
            return False
        self.hit += 1
        return True


class _RequestError(Exception):
    """Request whose answer is an error."""


class Server:
    """A disk."""

    def __init__(self, fuse: int, control: socket.socket, *, maps_direct: bool) -> None:
        self._fuse, self._control = fuse, control
        self._init_flags_2 = INIT_FLAGS_2 if maps_direct else 0
        self._tree = Tree()
        self._rules: list[Rule] = []
        self._numbers = itertools.count(1)
        self._held: dict[int, list[bytes]] = {}
        self._later: list[tuple[float, int, bytes]] = []
        self._capacity = _CAPACITY
        self._direct = False
        self._valid = 0  # seconds that the kernel may keep names and attributes
        self._on = True
        self._cuts = 0
        self._calls: Counter[str] = Counter()
        self._listings: dict[int, list[tuple[str, int]]] = {}

    def serve(self) -> None:
        """Answer until the test has gone, or the disk is unmounted."""
        commands, buffer = b"", bytearray(BUFFER)
        sources = [self._fuse, self._control.fileno()]
        while True:
            wait = max(0.0, self._later[0][0] - time.monotonic()) if self._later else 60.0
            ready, _, _ = select.select(sources, [], [], min(wait, 0.5) if self._held else wait)
            if self._held and _is_killed(os.getppid()):
                return
            while self._later and self._later[0][0] <= time.monotonic():
                self._answer(heapq.heappop(self._later)[2], ruled=True)
            if self._fuse in ready:
                try:
                    length = os.readv(self._fuse, [buffer])
                except OSError as error:
                    if error.errno == errno.ENODEV:
                        return
                    if error.errno not in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                        raise
                else:
                    self._answer(bytes(memoryview(buffer)[:length]))
            if self._control.fileno() in ready:
                came = self._control.recv(1 << 16)
                if not came:
                    return
                *lines, commands = (commands + came).split(b"\n")
                for line in lines:
                    command = json.loads(line)
                    self._command(command.pop("command"), command)

    # ---- commands -------------------------------------------------------------------------------------------

    def _command(self, name: str, given: dict[str, Any]) -> None:
        after: Callable[[], None] | None = None
        answer: Any = None
        if name == "rule":
            self._rules.append(Rule(next(self._numbers), **given))
            answer = self._rules[-1].number
        elif name == "hits":
            answer = next((rule.hit for rule in self._rules if rule.number == given["number"]), 0)
        elif name == "release":
            self._rules = [rule for rule in self._rules if rule.number != given["number"]]
            self._let_go(given["number"])
        elif name == "power":
            self._rules.clear()
            for number in list(self._held):
                self._let_go(number)
            self._on = True
        elif name == "crash":
            self._crash(given["seed"])
        elif name == "format":
            self._tree.format()
            self._capacity, self._direct = _CAPACITY, False
        elif name == "resize":
            inode = self._found(given["path"])
            self._tree.resize(inode, given["size"])
            after = partial(self._forget_pages, inode)
        elif name == "capacity":
            self._capacity = given["bytes"]
        elif name == "sync":
            self._tree.sync_all()
        elif name == "alone":
            self._valid = 3600
        elif name == "direct":
            self._direct = given["on"]
        elif name == "calls":
            answer = dict(self._calls)
            self._calls.clear()
        elif name == "used":
            answer = PAGE * self._tree.pages
        reply = json.dumps(answer).encode() + b"\n"
        if after is None:
            self._control.sendall(reply)
        else:
            threading.Thread(target=self._after, args=(after, reply), daemon=True).start()

    def _after(self, do: Callable[[], None], reply: bytes) -> None:
        """Do in a thread of its own what the kernel may answer only once its requests are answered."""
        do()
        self._control.sendall(reply)

    def _forget_pages(self, inode: Inode) -> None:
        """Have the kernel forget what it has cached of a file."""
        body = INVALIDATE_INODE.pack(self._node(inode), 0, 0)
        try:
            os.write(self._fuse, REPLY.pack(REPLY.size + len(body), 2, 0) + body)
        except OSError as error:
            if error.errno != errno.ENOENT:  # it does not know the file
                raise

    def _found(self, path: str) -> Inode:
        inode = self._tree.inodes[ROOT]
        for name in path.strip("/").split("/"):
            inode = self._tree.inodes[inode.names[name]]
        return inode

    def _let_go(self, number: int) -> None:
        for request in self._held.pop(number, []):
            self._answer(request, ruled=True)

    def _crash(self, seed: int | None) -> None:
        self._tree.forget(seed)
        self._listings.clear()
        self._cuts += 1
        self._on = False

    def _node(self, inode: Inode) -> int:
        """Return the kernel's number of an inode: another one after each power cut, so that it begins anew, as a new kernel."""
        return inode.number if inode.number == ROOT else inode.number | self._cuts << 40

    def _inode(self, node: int) -> Inode | None:
        number, cuts = node & (1 << 40) - 1, node >> 40
        return self._tree.inodes.get(number) if cuts == self._cuts or number == ROOT else None

    # ---- requests -------------------------------------------------------------------------------------------

    def _answer(self, request: bytes, *, ruled: bool = False) -> None:
        length, code, unique, number, uid, gid, _, _, _ = HEADER.unpack_from(request)
        body = request[HEADER.size : length]
        try:
            op = Op(code)
        except ValueError:
            self._reply(unique, errno.ENOSYS)
            return
        if op in (Op.FORGET, Op.BATCH_FORGET):
            self._forget(op, number, body)
            return
        if op is Op.INTERRUPT:  # as a file system that is mounted hard
            return
        try:
            limit = None
            if op not in _ALWAYS:
                inode = self._inode(number)
                begin, end = _range(op, body)
                if not ruled:
                    self._calls[op.name.lower()] += 1
                    self._calls["change"] += op in _CHANGES
                for rule in list(self._rules) if not ruled and self._on else ():
                    if rule.fits(op, _path(inode, op, body), begin, end):
                        if rule.do == "error":
                            raise _RequestError(rule.errno)
                        if rule.do == "short":
                            limit = None if _is_of_pages(op, body) else rule.size
                        elif rule.do == "crash":
                            self._crash(rule.seed)
                        else:
                            self._postpone(rule, request)
                            return
                if not self._on:
                    raise _RequestError(errno.EIO)
                if op in _NAMED and any(
                    len(name) > _LONGEST_NAME for name in body[_NAMED[op] :].split(b"\0")[: _NAMES.get(op, 1)]
                ):
                    raise _RequestError(errno.ENAMETOOLONG)
                if inode is None:
                    raise _RequestError(errno.ESTALE)
            else:
                inode = self._inode(number) or Inode(0, 0, "")
            answer = getattr(self, f"_{op.name.lower()}")
            if op in (Op.READ, Op.WRITE):
                self._reply(unique, 0, answer(inode, body, limit))
            elif op in (Op.CREATE, Op.MKDIR, Op.MKNOD, Op.SYMLINK):
                self._reply(unique, 0, answer(inode, body, uid, gid))
            else:
                self._reply(unique, 0, answer(inode, body))
        except _RequestError as failure:
            self._reply(unique, failure.args[0])

    def _reply(self, unique: int, error: int, body: bytes = b"") -> None:
        try:
            os.writev(self._fuse, [REPLY.pack(REPLY.size + len(body), -error, unique), body])
        except OSError as problem:
            if problem.errno not in (errno.ENOENT, errno.ENODEV):  # nobody waits for it any more
                raise

    def _postpone(self, rule: Rule, request: bytes) -> None:
        if rule.do == "slow":
            heapq.heappush(self._later, (time.monotonic() + rule.seconds, next(self._numbers), request))
        else:
            self._held.setdefault(rule.number, []).append(request)

    def _init(self, inode: Inode, body: bytes) -> bytes:
        major, minor, readahead, _ = struct.unpack_from("<4I", body)
        return INIT_REPLY.pack(
            major, min(minor, 36), readahead, INIT_FLAGS, 16, 12, WRITE_BYTES, 1, 0, 0, self._init_flags_2, 0
        )

    def _destroy(self, inode: Inode, body: bytes) -> bytes:
        return b""

    def _forget(self, op: Op, number: int, body: bytes) -> None:
        many = (
            struct.iter_unpack("<QQ", body[8:])
            if op is Op.BATCH_FORGET
            else [(number, *struct.unpack("<Q", body[:8]))]
        )
        for number, lookups in many:
            inode = self._inode(number)
            if inode is not None:
                inode.lookups -= lookups
                self._tree.drop_unused(inode)

    # ---- names ----------------------------------------------------------------------------------------------

    def _entry(self, inode: Inode) -> bytes:
        inode.lookups += 1
        return ENTRY.pack(self._node(inode), 0, self._valid, self._valid, 0, 0) + _attributes(inode)

    def _child(self, folder: Inode, name: str) -> Inode:
        if name not in folder.names:
            raise _RequestError(errno.ENOENT)
        return self._tree.inodes[folder.names[name]]

    def _lookup(self, folder: Inode, body: bytes) -> bytes:
        return self._entry(self._child(folder, _names(body)[0]))

    def _made(self, folder: Inode, name: str, mode: int, uid: int, gid: int) -> Inode:
        if name in folder.names:
            raise _RequestError(errno.EEXIST)
        if folder.links <= 0:
            raise _RequestError(errno.ENOENT)
        self._require(1)
        return self._tree.make(folder, name, mode, uid, gid)

    def _mkdir(self, folder: Inode, body: bytes, uid: int, gid: int) -> bytes:
        mode, _ = struct.unpack_from("<II", body)
        made = self._made(folder, _names(body[8:])[0], stat.S_IFDIR | mode, uid, gid)
        made.links += 1
        return self._entry(made)

    def _mknod(self, folder: Inode, body: bytes, uid: int, gid: int) -> bytes:
        mode, *_ = struct.unpack_from("<4I", body)
        return self._entry(self._made(folder, _names(body[16:])[0], mode, uid, gid))

    def _symlink(self, folder: Inode, body: bytes, uid: int, gid: int) -> bytes:
        name, target = _names(body)
        made = self._made(folder, name, stat.S_IFLNK | 0o777, uid, gid)
        made.target = os.fsencode(target)
        made.sync()  # it comes with its name
        return self._entry(made)

    def _readlink(self, inode: Inode, body: bytes) -> bytes:
        return inode.target

    def _create(self, folder: Inode, body: bytes, uid: int, gid: int) -> bytes:
        _, mode, _, _ = struct.unpack_from("<4I", body)
        made = self._made(folder, _names(body[16:])[0], mode, uid, gid)
        return self._entry(made) + self._opened(made)

    def _link(self, folder: Inode, body: bytes) -> bytes:
        (number,) = struct.unpack_from("<Q", body)
        name = _names(body[8:])[0]
        if name in folder.names:
            raise _RequestError(errno.EEXIST)
        inode = self._inode(number)
        if inode is None:
            raise _RequestError(errno.ESTALE)
        self._tree.link(folder, name, inode)
        return self._entry(inode)

    def _unlink(self, folder: Inode, body: bytes) -> bytes:
        name = _names(body)[0]
        self._child(folder, name)
        self._tree.unlink(folder, name)
        return b""

    def _rmdir(self, folder: Inode, body: bytes) -> bytes:
        name = _names(body)[0]
        inode = self._child(folder, name)
        if inode.names:
            raise _RequestError(errno.ENOTEMPTY)
        inode.links = 1
        self._tree.unlink(folder, name)
        return b""

    def _rename(self, folder: Inode, body: bytes) -> bytes:
        (number,) = struct.unpack_from("<Q", body)
        return self._renamed(folder, number, 0, body[8:])

    def _rename2(self, folder: Inode, body: bytes) -> bytes:
        number, flags, _ = struct.unpack_from("<QII", body)
        return self._renamed(folder, number, flags, body[16:])

    def _renamed(self, folder: Inode, number: int, flags: int, body: bytes) -> bytes:
        old, new = _names(body)
        target = self._inode(number)
        if target is None:
            raise _RequestError(errno.ESTALE)
        moved = self._child(folder, old)
        if new in target.names:
            there = self._child(target, new)
            if flags & _NO_REPLACE:
                raise _RequestError(errno.EEXIST)
            if not flags & _EXCHANGE and there is not moved:
                if there.is_folder != moved.is_folder:
                    raise _RequestError(errno.EISDIR if there.is_folder else errno.ENOTDIR)
                if there.names:
                    raise _RequestError(errno.ENOTEMPTY)
                if there.is_folder:
                    there.links = 1
        elif flags & _EXCHANGE:
            raise _RequestError(errno.ENOENT)
        self._tree.rename(folder, old, target, new, exchange=bool(flags & _EXCHANGE))
        return b""

    # ---- attributes -----------------------------------------------------------------------------------------

    def _getattr(self, inode: Inode, body: bytes) -> bytes:
        return struct.pack("<QII", self._valid, 0, 0) + _attributes(inode)

    def _setattr(self, inode: Inode, body: bytes) -> bytes:
        valid, _, _, size, _, _, mtime, _, _, mtime_ns, _, mode, _, uid, gid, _ = SETATTR.unpack_from(body)
        if valid & Valid.SIZE:
            if size > _LARGEST:
                raise _RequestError(errno.EFBIG)
            self._tree.resize(inode, size)
        if valid & Valid.MODE:
            inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(mode)
        if valid & Valid.UID:
            inode.uid = uid
        if valid & Valid.GID:
            inode.gid = gid
        if valid & Valid.MTIME:
            inode.mtime = time.time_ns() if valid & Valid.MTIME_NOW else mtime * 10**9 + mtime_ns
        inode.ctime = time.time_ns()
        return self._getattr(inode, body)

    def _statfs(self, inode: Inode, body: bytes) -> bytes:
        free = max(0, self._room())
        return STATFS.pack(self._capacity // PAGE, free, free, 1 << 20, 1 << 19, PAGE, 255, PAGE, 0)

    # ---- contents -------------------------------------------------------------------------------------------

    def _opened(self, inode: Inode) -> bytes:
        inode.opens += 1
        return struct.pack("<QIi", inode.number, DIRECT_IO if self._direct and not inode.is_folder else 0, 0)

    def _open(self, inode: Inode, body: bytes) -> bytes:
        return self._opened(inode)

    def _read(self, inode: Inode, body: bytes, limit: int | None) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        return inode.read(offset, offset + (size if limit is None else min(size, limit)))

    def _write(self, inode: Inode, body: bytes, limit: int | None) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        if offset + size > _LARGEST:
            raise _RequestError(errno.EFBIG)
        data = memoryview(body)[40 : 40 + size]
        if limit is not None:
            data = data[:limit]
        while inode.holes(offset, offset + len(data)) > self._room():  # what fits is written
            last = (offset + len(data) - 1) // PAGE * PAGE
            if last <= offset:
                raise _RequestError(errno.ENOSPC)
            data = data[: last - offset]
        self._tree.write(inode, offset, data)
        return struct.pack("<II", len(data), 0)

    def _room(self) -> int:
        return self._capacity // PAGE - self._tree.pages

    def _require(self, pages: int) -> None:
        if pages > self._room():
            raise _RequestError(errno.ENOSPC)

    def _fallocate(self, inode: Inode, body: bytes) -> bytes:
        _, offset, length, mode, _ = struct.unpack_from("<QQQII", body)
        if mode == _KEEP_SIZE | _PUNCH:
            self._tree.punch(inode, offset, offset + length)
        elif mode in (0, _KEEP_SIZE):
            if offset + length > _LARGEST:
                raise _RequestError(errno.EFBIG)
            self._require(inode.holes(offset, offset + length))
            self._tree.allocate(inode, offset, offset + length)
            if not mode:
                self._tree.resize(inode, max(inode.size, offset + length))
        else:
            raise _RequestError(errno.EOPNOTSUPP)
        inode.touch()
        return b""

    def _lseek(self, inode: Inode, body: bytes) -> bytes:
        _, offset, whence, _ = struct.unpack_from("<QQII", body)
        if whence not in (_SEEK_DATA, _SEEK_HOLE):
            raise _RequestError(errno.EINVAL)
        if offset >= inode.size:
            raise _RequestError(errno.ENXIO)
        found = inode.find(offset, data=whence == _SEEK_DATA)
        if found is None and whence == _SEEK_DATA:
            raise _RequestError(errno.ENXIO)
        return struct.pack("<Q", inode.size if found is None else found)

    def _fsync(self, inode: Inode, body: bytes) -> bytes:
        self._tree.sync(inode)
        return b""

    _fsyncdir = _fsync

    def _flush(self, inode: Inode, body: bytes) -> bytes:
        return b""

    def _release(self, inode: Inode, body: bytes) -> bytes:
        inode.opens -= 1
        self._tree.drop_unused(inode)
        return b""

    # ---- folders --------------------------------------------------------------------------------------------

    def _opendir(self, inode: Inode, body: bytes) -> bytes:
        handle = next(self._numbers)
        self._listings[handle] = [(".", inode.number), ("..", ROOT), *inode.names.items()]
        return struct.pack("<QIi", handle, 0, 0)

    def _readdir(self, inode: Inode, body: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", body)
        found = bytearray()
        for place, (name, number) in enumerate(self._listings.get(handle, [])[offset:], offset + 1):
            inode_ = self._tree.inodes.get(number)
            if inode_ is None:
                continue
            raw = os.fsencode(name)
            entry = DIRENT.pack(number, place, len(raw), stat.S_IFMT(inode_.mode) >> 12) + raw
            entry += bytes(-len(entry) % 8)
            if len(found) + len(entry) > size:
                break
            found += entry
            if any(rule.do == "slow" and rule.op == "readdir" for rule in self._rules):
                break  # one name at a time
        return bytes(found)

    def _releasedir(self, inode: Inode, body: bytes) -> bytes:
        self._listings.pop(struct.unpack_from("<Q", body)[0], None)
        return b""


def _is_killed(process: int) -> bool:
    """Return whether a process was killed, though a call that is stalled here may keep it, and its files, alive."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return "Z" in status["State"] or bool(pending >> (signal.SIGKILL - 1) & 1)


def _names(body: bytes) -> list[str]:
    return [os.fsdecode(name) for name in body.split(b"\0")[:-1]]


def _range(op: Op, body: bytes) -> tuple[int, int]:
    """Return the bytes of a file that a request is about."""
    if op not in (Op.READ, Op.WRITE):
        return 0, 0
    _, offset, size = struct.unpack_from("<QQI", body)
    return offset, offset + size


def _is_of_pages(op: Op, body: bytes) -> bool:
    """Return whether a read or write is of the page cache: not what a call asked for, and has to be done whole."""
    (flags,) = struct.unpack_from("<I", body, 20)
    return bool(flags & WRITE_CACHE) if op is Op.WRITE else not flags & READ_LOCK_OWNER


#: Requests whose name follows a header of so many bytes.
_NAMED = {
    Op.LOOKUP: 0, Op.SYMLINK: 0, Op.MKNOD: 16, Op.MKDIR: 8, Op.UNLINK: 0, Op.RMDIR: 0, Op.RENAME: 8, Op.RENAME2: 16,
    Op.LINK: 8, Op.CREATE: 16,
}  # fmt: skip

#: Names that they have, where it is not one; what follows that of SYMLINK is its target.
_NAMES = {Op.RENAME: 2, Op.RENAME2: 2}


def _path(inode: Inode | None, op: Op, body: bytes) -> str:
    """Return the path that a request is about; of a rename, the old one."""
    path = inode.path if inode is not None else "?"
    if op in _NAMED:
        path = f"{path.rstrip('/')}/{_names(body[_NAMED[op] :])[0]}"
    return path


def _attributes(inode: Inode) -> bytes:
    seconds, ns = divmod(inode.mtime, 10**9)
    changed, changed_ns = divmod(inode.ctime, 10**9)
    return ATTRIBUTES.pack(
        inode.number, inode.size or len(inode.target), len(inode.pages) * PAGE // 512, seconds, seconds, changed, ns, ns, changed_ns,
        inode.mode, max(0, inode.links), inode.uid, inode.gid, 0, PAGE, 0,
    )  # fmt: skip


if __name__ == "__main__":
    Server(int(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])), maps_direct=sys.argv[3] == "1").serve()

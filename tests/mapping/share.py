"""A shared folder whose server can be made to fail: a FUSE mount in its own process.

    with Share(tmp_path) as share:         # share.folder shows what lies in share.behind
        share.fail(errno.ESTALE)           # every request but for a look at the mount is answered so
        share.fail(errno.EIO, "read")      # those of one kind: read, write, fsync, rename, open, look, ...
        share.freeze(); share.thaw()       # no answers, as of a server that is gone behind a hard mount
        share.kill()                       # ENOTCONN from now on

The server speaks the kernel's protocol itself (linux/fuse.h, 7.31), request by request, with nothing cached.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Share", "why_no_share"]

_DETACH = 2
_LIBC = ctypes.CDLL(None, use_errno=True)


def _mount(folder: str, fd: int) -> None:
    options = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    if _LIBC.mount(b"share", os.fsencode(folder), b"fuse.share", 0, options.encode()):
        raise OSError(ctypes.get_errno(), f"mount on {folder}: {os.strerror(ctypes.get_errno())}")


def why_no_share() -> str | None:
    """Return the reason why nothing can be mounted here; None: it can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs /dev/fuse"
    return None if os.geteuid() == 0 else "needs root, to mount"


class Share:
    """Mounted folder, unmounted at the end of its block.

    Attributes:
        folder: Mount point.
        behind: The folder that it shows.
    """

    def __init__(self, parent: Path) -> None:
        self.folder, self.behind = parent / "share", parent / "behind"
        self._orders = parent / "orders"
        for folder in (self.folder, self.behind):
            folder.mkdir(parents=True)
        self._orders.touch()
        command = [sys.executable, __file__, str(self.folder), str(self.behind), str(self._orders)]
        # A session of its own: signals to the tests are none of its business.
        self._server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self._server.stdout is not None
        said = self._server.stdout.readline()
        assert said == "up\n", said

    def fail(self, number: int, kind: str = "all") -> None:
        """Answer requests of a kind with this error from now on; 0: answer them correctly."""
        hidden = self._orders.with_suffix(".new")
        hidden.write_text(f"{number} {kind}" if number else "")
        hidden.replace(self._orders)

    def freeze(self) -> None:
        self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._server.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._server.kill()
        self._server.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()  # who waits for an answer gets an error
        assert self._server.stdout is not None
        self._server.stdout.close()
        _LIBC.umount2(os.fsencode(self.folder), _DETACH)


# ---- the server -------------------------------------------------------------------------------------

_ATTR = struct.Struct("<6Q10I")
_OPCODES = {
    1: "look", 3: "look", 4: "change", 9: "make", 10: "remove", 11: "remove", 12: "rename", 13: "make", 14: "open", 15: "read",
    16: "write", 17: "statfs", 18: "release", 20: "fsync", 27: "opendir", 28: "list", 29: "release",
    30: "fsync", 35: "open", 45: "rename",
}  # fmt: skip
_ROOT = 1


def _attributes(found: os.stat_result) -> bytes:
    times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
    return _ATTR.pack(
        found.st_ino, found.st_size, found.st_blocks, *(t // 10**9 for t in times), *(t % 10**9 for t in times),
        found.st_mode, found.st_nlink, found.st_uid, found.st_gid, 0, 4096, 0,
    )  # fmt: skip


class _Server:
    """Server that answers the kernel's requests from a folder."""

    def __init__(self, behind: str, orders: str) -> None:
        self._orders = orders
        self._paths = {_ROOT: behind}
        self._listings: dict[int, list[bytes]] = {}

    def answer(self, opcode: int, node: int, body: bytes) -> bytes | None:
        """Return the answer; None: there is none.

        Raises:
            OSError: That is the answer.
        """
        if opcode in (2, 36, 42):  # forget, interrupt, forget many
            return None
        if opcode == 26:  # init: major, minor, readahead, flags, backgrounds, max_write, granularity
            return struct.pack("<4I2H2I2H8I", 7, 31, 1 << 17, 0, 12, 9, 1 << 17, 1, 32, 0, *[0] * 8)
        kind = _OPCODES.get(opcode)
        if kind is None:
            raise OSError(errno.ENOSYS, "")
        ordered = Path(self._orders).read_text().split()
        if ordered and ordered[1] in ("all", kind) and not (node == _ROOT and opcode == 3):
            raise OSError(int(ordered[0]), "")
        method: Callable[[int, bytes], bytes] = getattr(self, f"_{opcode}")
        return method(node, body)

    def _child(self, node: int, name: bytes) -> str:
        return os.path.join(self._paths[node], os.fsdecode(name.rstrip(b"\0")))

    def _entry(self, path: str) -> bytes:
        found = os.lstat(path)
        node = _ROOT if path == self._paths[_ROOT] else found.st_ino
        self._paths[node] = path
        return struct.pack("<4Q2I", node, 0, 0, 0, 0, 0) + _attributes(found)

    def _moved(self, old: str, new: str) -> bytes:
        for node, path in self._paths.items():
            if path == old or path.startswith(old + "/"):
                self._paths[node] = new + path[len(old) :]
        return b""

    def _1(self, node: int, body: bytes) -> bytes:
        return self._entry(self._child(node, body))

    def _3(self, node: int, body: bytes) -> bytes:
        return struct.pack("<Q2I", 0, 0, 0) + _attributes(os.lstat(self._paths[node]))

    def _4(self, node: int, body: bytes) -> bytes:
        path = self._paths[node]
        valid, _, _, size, _, accessed, modified, _, accessed_ns, modified_ns, _, mode = struct.unpack_from(
            "<2I6Q4I", body
        )
        if valid & 1:
            os.chmod(path, stat.S_IMODE(mode))
        if valid & 8:
            os.truncate(path, size)
        if valid & (128 | 256):
            os.utime(path)
        elif valid & (16 | 32):
            os.utime(path, ns=(accessed * 10**9 + accessed_ns, modified * 10**9 + modified_ns))
        return self._3(node, b"")

    def _9(self, node: int, body: bytes) -> bytes:
        path = self._child(node, body[8:])
        os.mkdir(path, struct.unpack_from("<I", body)[0])
        return self._entry(path)

    def _10(self, node: int, body: bytes) -> bytes:
        os.unlink(self._child(node, body))
        return b""

    def _11(self, node: int, body: bytes) -> bytes:
        os.rmdir(self._child(node, body))
        return b""

    def _rename(self, node: int, target: int, names: bytes) -> bytes:
        old, new = names.split(b"\0")[:2]
        before, after = self._child(node, old), self._child(target, new)
        os.rename(before, after)
        return self._moved(before, after)

    def _12(self, node: int, body: bytes) -> bytes:
        return self._rename(node, struct.unpack_from("<Q", body)[0], body[8:])

    def _45(self, node: int, body: bytes) -> bytes:
        target, flags = struct.unpack_from("<QI", body)
        if flags:
            raise OSError(errno.EINVAL, "")
        return self._rename(node, target, body[16:])

    def _13(self, node: int, body: bytes) -> bytes:
        path = self._child(node, body[8:])
        os.link(self._paths[struct.unpack_from("<Q", body)[0]], path)
        return self._entry(path)

    def _14(self, node: int, body: bytes) -> bytes:
        flags = struct.unpack_from("<I", body)[0] & ~(os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
        return struct.pack("<QIi", os.open(self._paths[node], flags), 0, 0)

    def _35(self, node: int, body: bytes) -> bytes:
        flags, mode = struct.unpack_from("<2I", body)
        path = self._child(node, body[16:])
        fd = os.open(path, flags, stat.S_IMODE(mode))
        return self._entry(path) + struct.pack("<QIi", fd, 0, 0)

    def _15(self, node: int, body: bytes) -> bytes:
        fd, offset, size = struct.unpack_from("<2QI", body)
        return os.pread(fd, size, offset)

    def _16(self, node: int, body: bytes) -> bytes:
        fd, offset, size = struct.unpack_from("<2QI", body)
        return struct.pack("<2I", os.pwrite(fd, body[40 : 40 + size], offset), 0)

    def _17(self, node: int, body: bytes) -> bytes:
        found = os.statvfs(self._paths[_ROOT])
        counts = (found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree)
        return struct.pack("<5Q10I", *counts, found.f_bsize, found.f_namemax, found.f_frsize, *[0] * 7)

    def _18(self, node: int, body: bytes) -> bytes:
        os.close(struct.unpack_from("<Q", body)[0])
        return b""

    def _20(self, node: int, body: bytes) -> bytes:
        os.fsync(struct.unpack_from("<Q", body)[0])
        return b""

    def _27(self, node: int, body: bytes) -> bytes:
        path = self._paths[node]
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        made = []
        for number, name in enumerate(sorted(os.listdir(path)), 1):
            mode = os.lstat(os.path.join(path, name)).st_mode
            text = os.fsencode(name)
            made.append(
                struct.pack("<2Q2I", number, number, len(text), mode >> 12) + text + b"\0" * (-len(text) % 8)
            )
        self._listings[fd] = made
        return struct.pack("<QIi", fd, 0, 0)

    def _28(self, node: int, body: bytes) -> bytes:
        fd, offset, size = struct.unpack_from("<2QI", body)
        whole = b""
        for entry in self._listings[fd][offset:]:
            if len(whole) + len(entry) > size:
                break
            whole += entry
        return whole

    _29, _30 = _18, _20


def serve(folder: str, behind: str, orders: str) -> None:
    """Mount and answer until it is unmounted."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    _mount(folder, fd)
    print("up", flush=True)
    server = _Server(behind, orders)
    while True:
        try:
            request = os.read(fd, (1 << 17) + 4096)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # a request that was taken back
                continue
            return
        _, opcode, unique, node = struct.unpack_from("<2I2Q", request)
        try:
            body = server.answer(opcode, node, request[40:])
            number = 0
        except OSError as error:
            body, number = b"", error.errno or errno.EIO
        if body is not None:
            with contextlib.suppress(OSError):  # nobody waits for it any more
                os.write(fd, struct.pack("<IiQ", 16 + len(body), -number, unique) + body)


if __name__ == "__main__":
    serve(*sys.argv[1:])

"""A disk that forgets and fails, for tests: a file system of its own process, whose faults a test commands.

with forgetful_disk(folder / "disk") as disk:
    (disk.path / "a").write_text("not synced")
    disk.fail("read", "*/data.csv", at=5000)      # EIO for whoever reads this byte
    with disk.stalled("read"):                    # no answer within the block
        ...
    disk.cut_power(after=7)                       # at the eighth change
    disk.crash()                                  # what was not synced is lost; power is back
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

__all__ = ["Disk", "forgetful_disk"]

ROOT = Path(__file__).parents[2]


class Disk:
    """A mounted disk.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, path: Path, control: socket.socket, answers: IO[str]) -> None:
        self.path = path
        self._control, self._answers = control, answers

    def _ask(self, command: str, **given: Any) -> Any:
        self._control.sendall(json.dumps({"command": command, **given}).encode() + b"\n")
        return json.loads(self._answers.readline())

    # ---- faults ---------------------------------------------------------------------------------------------

    def fail(self, op: str, name: str = "*", *, error: int = errno.EIO, **which: Any) -> int:
        """Have requests fail, and return the number of the rule; the rest is that of `server.Rule`."""
        return int(self._ask("rule", do="error", op=op, name=name, errno=error, **which))

    def shorten(self, op: str, size: int, name: str = "*", **which: Any) -> int:
        """Have reads (of files that are `direct`) or writes do so many bytes at most."""
        return int(self._ask("rule", do="short", op=op, size=size, name=name, **which))

    def slow(self, op: str, seconds: float, name: str = "*", **which: Any) -> int:
        """Have requests take time; a listing gives one name at a time then."""
        return int(self._ask("rule", do="slow", op=op, seconds=seconds, name=name, **which))

    def stall(self, op: str, name: str = "*", **which: Any) -> int:
        """Have requests wait until the rule is released: callers are in state D, and signals don't end them."""
        return int(self._ask("rule", do="stall", op=op, name=name, **which))

    @contextlib.contextmanager
    def stalled(self, op: str, name: str = "*", **which: Any) -> Iterator[int]:
        """Have requests wait until the end of the block."""
        rule = self.stall(op, name, **which)
        try:
            yield rule
        finally:
            self.release(rule)

    def release(self, rule: int) -> None:
        """Take a rule away, and have those continue that wait because of it."""
        self._ask("release", number=rule)

    def hits(self, rule: int) -> int:
        """Return how many requests a rule has hit."""
        return int(self._ask("hits", number=rule))

    def cut_power(self, after: int, seed: int | None = None) -> int:
        """Cut power after so many further changes; what was not synced is lost, and all requests fail from then on.

        Args:
            after: Number of changes that are made before.
            seed: None: nothing that was not synced is there. Else some of it is (`Tree.forget`).
        """
        return int(self._ask("rule", do="crash", op="change", skip=after, times=1, seed=seed))

    def power_on(self) -> None:
        """Switch power on again, and take all rules away."""
        self._ask("power")

    def crash(self, seed: int | None = None) -> None:
        """Cut power, and switch it on again."""
        self._ask("crash", seed=seed)
        self.power_on()

    # ---- the disk itself ------------------------------------------------------------------------------------

    def resize(self, path: Path, size: int) -> None:
        """Cut a file short, or let it grow, as another host does that has it mounted."""
        self._ask("resize", path=str(path.relative_to(self.path)), size=size)

    def format(self) -> None:
        """Have it empty, with power, and without faults, as it was at first."""
        self.power_on()
        self._ask("format")

    def sync(self) -> None:
        """Have all that is there survive."""
        self._ask("sync")

    def alone(self) -> None:
        """Let the kernel keep names and attributes: faster, for disks that nothing but callers changes."""
        self._ask("alone")

    def capacity(self, size: int) -> None:
        """Give the disk so much space, in bytes."""
        self._ask("capacity", bytes=size)

    def used(self) -> int:
        """Return the bytes that are taken."""
        return int(self._ask("used"))

    def direct(self, on: bool = True) -> None:
        """Have files that are opened from now on be read past the page cache, where reads may be short."""
        self._ask("direct", on=on)

    def calls(self) -> dict[str, int]:
        """Return how many requests of each kind there were since this was asked last; `change`: of those that change it."""
        return dict(self._ask("calls"))


@contextlib.contextmanager
def forgetful_disk(path: Path, *, maps_direct: bool = True) -> Iterator[Disk]:
    """Mount a disk at a new folder; skips the test where that can't be done.

    Args:
        path: The folder.
        maps_direct: Whether files that are read past the page cache (`Disk.direct`) can be mapped.

    The disk is unmounted when its process ends, which happens at the end of the block, or when this process dies.
    """
    helper = shutil.which("fusermount3")
    if helper is None or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("a disk that fails needs /dev/fuse and fusermount3 (Debian: apt-get install fuse3)")
    path.mkdir(parents=True)
    ours, theirs = socket.socketpair()
    options = "auto_unmount,fsname=forgetful,subtype=forgetful"
    mounted = subprocess.Popen(
        [helper, "-o", options, "--", str(path)], pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
    )  # fmt: skip
    theirs.close()
    with ours:
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if not fds:
            pytest.skip(f"a disk that fails can't be mounted here: {mounted.communicate()[1].strip()}")
        control, served = socket.socketpair()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.disk.server", str(fds[0]), str(served.fileno()), str(int(maps_direct))],
            pass_fds=[fds[0], served.fileno(), ours.fileno()], cwd=ROOT,
        )  # fmt: skip
        served.close()
        os.close(fds[0])
    control.settimeout(60)
    try:
        with control, control.makefile("r") as answers:
            yield Disk(path, control, answers)
    finally:
        # It has lost us, and whatever waits for it gets an error.
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert mounted.stderr is not None
        mounted.stderr.close()
        mounted.wait(60)
        assert not os.path.ismount(path), f"{path} is still mounted"

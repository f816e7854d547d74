"""Hosts on one machine: namespaces with their own address, processes, mounts and /dev/shm, joined by a bridge.

    with Network() as network:
        a, b = network.host(), network.host()
        a.run("some", "command")           # on that host
        b.kill()                           # every process of it ends at once

All of it is held by processes (`unshare`), so that nothing stays when they end: no names under /run/netns, no
interfaces, no mounts. The file system is shared, but for /dev/shm and what a test mounts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.waiting import wait_until

__all__ = ["Host", "Network", "why_not"]

_SUBNET = "10.213.7"
_TOOLS = ("ip", "unshare", "nsenter", "mount")


def why_not() -> str | None:
    """Return why there can't be hosts here; None: there can."""
    if os.geteuid():
        return "needs root, to make network namespaces"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for tool in _TOOLS:
        if shutil.which(tool, path=path) is None:
            return f"needs the command {tool} (apt-get install iproute2 util-linux)"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"],
        capture_output=True, text=True, check=False, env=_env(),
    )  # fmt: skip
    return f"namespaces are not permitted here: {tried.stderr.strip()}" if tried.returncode else None


def _env() -> dict[str, str]:
    return {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_env(), timeout=120)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class _Space:
    """Namespaces, and the process that holds them."""

    def __init__(self, unshared: Sequence[str], script: str) -> None:
        command = ["unshare", *unshared, "sh", "-c", f"{script} && echo up && exec sleep infinity"]
        # A session of its own: Ctrl-C is for the tests.
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_env(),
            start_new_session=True,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said == "up\n", said
        # With --fork, what holds the namespaces is a child.
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self.pid = int(children[0]) if children else self._process.pid

    def enter(self, *which: str) -> list[str]:
        return ["nsenter", "--target", str(self.pid), *which]

    def kill(self) -> None:
        """End every process in here. With the first process of a pid namespace all others go. Idempotent."""
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        # `unshare` ends after its child, which ends after all that was in here. What came in by `nsenter`, and was left
        # alone by it, may be ours to bury.
        wait_until(self._gone, "a host to be gone", 20)
        self._process.communicate()

    def _gone(self) -> bool:
        _bury()
        return self._process.poll() is not None


def _bury() -> None:
    """Take leave of dead children from other pid namespaces: nobody else waits for them."""
    children = " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    for pid in children.split():
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            inner = len(status.split("NSpid:")[1].split("\n")[0].split()) > 1
            if inner and "State:\tZ" in status:
                os.waitpid(int(pid), os.WNOHANG)


class Host:
    """One machine of a `Network`: `address`, `name`."""

    def __init__(
        self,
        number: int,
        switch: _Space,
        *,
        shm_bytes: int,
        mounts: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        self.address = f"{_SUBNET}.{number}"
        self.name = f"host{number}"
        self._environment = environment
        script = f"mount -t tmpfs -o size={shm_bytes} tmpfs /dev/shm && hostname {self.name}"
        for folder in mounts:
            script += f" && mount -t tmpfs tmpfs {folder}"
        self._space = _Space(
            ["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"], script
        )
        port = f"port{number}"
        _run(
            *switch.enter("--net"),
            "ip",
            "link",
            "add",
            port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            str(self._space.pid),
        )
        _run(*switch.enter("--net"), "ip", "link", "set", port, "master", "bridge", "up")
        inside = self._space.enter("--net")
        _run(*inside, "ip", "link", "set", "lo", "up")
        _run(*inside, "ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        _run(*inside, "ip", "link", "set", "eth0", "up")

    @property
    def enter(self) -> list[str]:
        """Return the prefix of a command that runs here."""
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        return [*self._space.enter("--net", "--mount", "--uts", "--pid"), "env", *variables]

    def run(self, *command: str) -> str:
        """Run a command here; its output.

        Raises:
            AssertionError: It failed; says how.
        """
        return _run(*self.enter, *command)

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command here."""
        return subprocess.Popen([*self.enter, *command], text=True, env=_env(), **options)

    def kill(self) -> None:
        """End the host as if its power failed."""
        self._space.kill()


class Network:
    """Hosts that reach one another, and nothing else."""

    def __init__(self) -> None:
        self._switch = _Space(["--net"], "ip link add bridge type bridge && ip link set bridge up")
        self._hosts: list[Host] = []

    def host(
        self,
        *,
        shm_bytes: int = 1 << 30,
        mounts: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Host:
        """Add a host.

        Args:
            shm_bytes: Size of its /dev/shm.
            mounts: Folders that are its own, and empty.
            environment: Environment variables of its processes, beside those of this one.
        """
        number = len(self._hosts) + 1
        host = Host(number, self._switch, shm_bytes=shm_bytes, mounts=mounts, environment=environment or {})
        self._hosts.append(host)
        return host

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as stack:  # all of them, whatever becomes of one
            stack.callback(self._switch.kill)
            for host in self._hosts:
                stack.callback(host.kill)

"""Nodes of a Ray cluster that are processes of `ray start --block`, as a pod or a service has them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.cluster.conftest import STORE_BYTES
from tests.waiting import wait_until

__all__ = ["started_node"]

_TOOL = str(Path(sys.executable).with_name("ray"))


@contextlib.contextmanager
def started_node(
    address: str, log: Path, *options: str, prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A node of one processor in the cluster that this process has joined; it ends at once, if it has not before."""
    import ray

    def alive() -> set[str]:
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]

    known = alive()
    command = [*prefix, _TOOL, "start", f"--address={address}", "--block", "--num-cpus=1"]
    command += [f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats", *options]
    with log.open("wb") as file:
        node = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    try:
        wait_until(lambda: alive() - known, "a node to join", 120)
        yield node
    finally:
        if node.poll() is None:
            every = psutil.Process(node.pid).children(recursive=True)
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()
            for process in every:  # workers outlive a raylet that is killed for a while
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

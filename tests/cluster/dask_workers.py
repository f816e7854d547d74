"""A Dask cluster made of processes that a test can kill one by one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client

__all__ = ["DaskWorkers", "blocks_of", "dask_workers"]

_TOOL = Path(sys.executable).with_name("dask")


@dataclass
class DaskWorkers:
    """A scheduler and workers. `address` is the scheduler's."""

    address: str
    folder: Path
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *options: str, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a worker of one thread; it is up when it has joined."""
        command = [*prefix, str(_TOOL), "worker", self.address, "--nthreads", "1", "--no-dashboard"]
        command += ["--local-directory", str(self.folder), "--death-timeout", "60", *options]
        worker = _start(command, self.folder / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        return worker

    def stop(self) -> None:
        """Workers first: they take leave of the scheduler."""
        for processes in (self.workers, [self.scheduler]):
            for process in processes:
                process.terminate()
            for process in processes:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def blocks_of(address: str) -> list[Path]:
    """Files of blocks in shared memory that the workers of this cluster hold, and of no other."""
    with Client(address, set_as_default=False) as client:
        ports = [worker.rpartition(":")[2] for worker in client.scheduler_info()["workers"]]
    return sorted(p for port in ports for p in Path("/dev/shm").glob(f"mmflow-dask-{port}-*/*.block"))


def _start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )


@contextmanager
def dask_workers(
    folder: Path, count: int, *options: str, host: str = "127.0.0.1", prefix: Sequence[str] = ()
) -> Iterator[DaskWorkers]:
    """A scheduler and `count` workers (with nannies, unless `options` say no)."""
    known = folder / "scheduler.json"
    command = [*prefix, str(_TOOL), "scheduler", "--host", host, "--port", "0", "--no-dashboard"]
    scheduler = _start([*command, "--scheduler-file", str(known)], folder / "scheduler.log")
    try:
        deadline = time.monotonic() + 60
        while not known.exists() or not known.stat().st_size:
            assert time.monotonic() < deadline, (folder / "scheduler.log").read_text()
            assert scheduler.poll() is None, (folder / "scheduler.log").read_text()
            time.sleep(0.05)
        address = json.loads(known.read_text())["address"]
        cluster = DaskWorkers(address, folder, scheduler)
    except BaseException:
        scheduler.kill()
        scheduler.wait()
        raise
    try:
        for _ in range(count):
            cluster.start(*options)
        yield cluster
    finally:
        cluster.stop()

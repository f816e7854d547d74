"""Functions that stop in the middle of a task until a test has done what it came for. They travel to workers by value.

started = folder / "started-<node>"     made by the first call that meets the wanted row; holds its process id
go      = folder / "go"                 made by the test
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Gate"]


class Gate:
    """A folder through which a function in a worker and a test talk."""

    def __init__(self, folder: str | Path, *, hosts: bool = False) -> None:
        self.folder = Path(folder)
        self._hosts = hosts
        self.folder.mkdir(exist_ok=True)

    def waiting_at(self, row: int) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
        """A function for `map_batches`: what holds the row with this `id` waits, the first time."""
        folder, hosts = str(self.folder), self._hosts

        def wait(batch: pa.RecordBatch) -> pa.RecordBatch:
            if hosts:
                where = socket.gethostname()
            else:
                import ray

                where = ray.get_runtime_context().get_node_id()
            Path(folder, f"seen-{where}-{os.getpid()}-{time.monotonic_ns()}").touch()
            if pc.any(pc.equal(batch.column("id"), row)).as_py():
                try:
                    with open(f"{folder}/started", "x") as file:
                        file.write(f"{where} {os.getpid()}")
                except FileExistsError:
                    return batch  # a later attempt
                while not os.path.exists(f"{folder}/go"):
                    time.sleep(0.01)
            return batch

        return wait

    def started(self) -> tuple[str, int] | None:
        """Where, and which process there, waits; None: not yet."""
        try:
            text = (self.folder / "started").read_text().split()
        except FileNotFoundError:
            return None
        return (text[0], int(text[1])) if text else None

    def seen(self) -> list[str]:
        """Return the processes that called the function, once for each call."""
        return [p.name.split("-")[1] for p in self.folder.glob("seen-*")]

    def open(self) -> None:
        (self.folder / "go").touch()

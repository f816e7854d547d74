"""A sort or a join five times larger than the budget, in a driver whose memory and workers a test watches."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.config import parse_size
from tests.cluster.leftovers import descendants
from tests.waiting import wait_until

__all__ = ["BUDGET", "Watched", "anonymous", "watched"]

BUDGET = "48MiB"
WORKERS = 2
INPUT_BYTES = 5 * parse_size(BUDGET)
#: What a process may have beyond its share: the heap of its interpreter between collections, the cluster's own buffers,
#: and what allocators hold back.
EXTRA = 48 << 20
ROW_BYTES = 8 + 112 + 4
DRIVER = Path(__file__).with_name("memory_driver.py")


def _write(path: Path, rows: int, seed: int) -> str:
    """Keys 0 ... rows - 1, shuffled, with a text of 112 bytes."""
    schema = pa.schema({"k": pa.int64(), "s": pa.string()})
    keys = np.random.default_rng(seed).permutation(rows)
    texts = pa.array([f"{i:0112d}" for i in range(1000)])
    with pa.ipc.new_file(path, schema) as writer:
        for start in range(0, rows, 20_000):
            k = keys[start : start + 20_000]
            writer.write_batch(pa.record_batch([pa.array(k), texts.take(pa.array(k % 1000))], schema=schema))
    return str(path)


def anonymous(which: Callable[[int, str], bool]) -> dict[int, int]:
    """Anonymous memory of the processes below this one that are asked for, by id and command line."""
    found: dict[int, int] = {}
    for pid, command in descendants().items():
        if which(pid, command):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            if "RssAnon:" in status:
                found[pid] = int(status.split("RssAnon:")[1].split()[0]) << 10
    return found


def _reading(process: subprocess.Popen[str], lines: list[str]) -> threading.Thread:
    """Wait for the next line of a process beside what else there is to do."""

    def read() -> None:
        assert process.stdout is not None
        lines.append(process.stdout.readline())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


@dataclass
class Watched:
    """A driver that has read all rows, and lives on until it is asked to end: what it found, memory beyond idle by process."""

    found: dict[str, Any]
    beyond: dict[int, int]

    def check(self) -> None:
        """Were the rows right, and memory bounded?"""
        rows = self.found["expected"]
        assert self.found["rows"] == rows
        assert self.found["total"] == rows * (rows - 1) // 2
        assert self.found.get("right", True)
        assert self.found.get("width", 224 * rows) == 224 * rows
        busy = sorted(self.beyond.values(), reverse=True)[: WORKERS + 1]
        assert sum(busy) < parse_size(BUDGET) + (WORKERS + 1) * EXTRA, self.beyond


@contextmanager
def watched(
    kind: str,
    folder: Path,
    settings: dict[str, Any],
    which: Callable[[int, str], bool],
    also: Callable[[], None] = lambda: None,
) -> Iterator[Watched]:
    """Run a sort or a join over files in `folder`.

    Args:
        kind: sort or join.
        folder: Folder for the files.
        settings: Engine, address, spill_dir.
        which: Processes to watch, by id and command line; the driver is watched in any case.
        also: Called again and again while it runs.
    """
    names = ["t"] if kind == "sort" else ["t", "u"]
    rows = INPUT_BYTES // ROW_BYTES // len(names)
    large = {name: _write(folder / f"{name}.arrow", rows, seed) for seed, name in enumerate(names)}
    small = dict.fromkeys(names, _write(folder / "small.arrow", 1000, 0))
    given = {"workers": WORKERS, "memory": BUDGET, "broadcast": 0, **settings}
    process = subprocess.Popen(
        [sys.executable, str(DRIVER), kind, *map(json.dumps, (given, large, small))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=DRIVER.parents[2],
    )  # fmt: skip
    try:
        yield _watch(process, rows, lambda pid, command: pid == process.pid or which(pid, command), also)
        _go_on(process)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def _go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _watch(
    process: subprocess.Popen[str], rows: int, which: Callable[[int, str], bool], also: Callable[[], None]
) -> Watched:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    idle = anonymous(which)
    assert process.pid in idle
    assert len(idle) > 1, "workers are there"
    _go_on(process)
    most: dict[int, int] = {}
    lines: list[str] = []

    def over() -> bool:
        for pid, nbytes in anonymous(which).items():
            most[pid] = max(nbytes, most.get(pid, 0))
        also()
        return bool(lines)

    reader = _reading(process, lines)
    wait_until(over, "the query to end", 200)
    reader.join()
    # A worker that was not there before, or had not imported anything yet (40 MiB instead of 100), is taken to have begun
    # as the smallest of those that had run a task.
    workers = [n for pid, n in idle.items() if pid != process.pid]
    least = min(n for n in workers if n > max(workers) // 2)
    began = {pid: max(n, least) for pid, n in idle.items()} | {process.pid: idle[process.pid]}
    beyond = {pid: n - began.get(pid, least) for pid, n in most.items()}
    return Watched({**json.loads(lines[0]), "expected": rows}, beyond)

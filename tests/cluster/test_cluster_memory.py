"""Sorts and joins five times larger than the budget, in object stores that are too small for them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mmflow.config import parse_size
from tests.cluster.conftest import STORE_BYTES, WORKERS, Nodes
from tests.cluster.leftovers import descendants, wait_until

BUDGET = "48MiB"
INPUT_BYTES = 5 * parse_size(BUDGET)
#: What a process may have beyond its share: the heap of its interpreter between collections, Ray's own buffers, and
#: what allocators hold back.
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


def _anonymous(driver: int) -> dict[int, int]:
    """Anonymous memory of the driver and of the workers that run its tasks."""
    found: dict[int, int] = {}
    for pid, command in descendants().items():
        # Idle workers and those at work; not Ray's agents, nor the processes that spill for it.
        if pid == driver or command.startswith(("ray::IDLE", "ray::mmflow")):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            if "RssAnon:" in status:
                found[pid] = int(status.split("RssAnon:")[1].split()[0]) << 10
    return found


def _spilled(nodes: Nodes) -> int:
    """Bytes that Ray keeps on disk since its stores are full."""
    total = 0
    for file in nodes.temp.glob("session_2*/ray_spilled_objects*/*"):
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def _reading(process: subprocess.Popen[str], told: list[str]) -> threading.Thread:
    """Wait for the next line of a process beside what else there is to do."""

    def read() -> None:
        assert process.stdout is not None
        told.append(process.stdout.readline())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["sort", "join"])
def test_memory_is_bounded_by_the_budget(
    kind: str, nodes: Nodes, spill: Path, tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    names = ["t"] if kind == "sort" else ["t", "u"]
    rows = INPUT_BYTES // ROW_BYTES // len(names)
    large = {name: _write(tmp_path / f"{name}.arrow", rows, seed) for seed, name in enumerate(names)}
    small = dict.fromkeys(names, _write(tmp_path / "small.arrow", 1000, 0))
    settings = {
        "address": nodes.address,
        "workers": WORKERS,
        "memory": BUDGET,
        "spill_dir": str(spill),
        "broadcast": 0,
    }
    process = subprocess.Popen(
        [sys.executable, str(DRIVER), kind, *map(json.dumps, (settings, large, small))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=DRIVER.parents[2],
    )  # fmt: skip
    started.append(process)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    idle = _anonymous(process.pid)
    assert process.pid in idle
    process.stdin.write("\n")
    process.stdin.flush()

    most: dict[int, int] = {}
    spilled = 0
    told: list[str] = []

    def over() -> bool:
        nonlocal spilled
        for pid, nbytes in _anonymous(process.pid).items():
            most[pid] = max(nbytes, most.get(pid, 0))
        spilled = max(spilled, _spilled(nodes))
        return bool(told)

    reader = _reading(process, told)
    wait_until(over, "the query to end", 200)
    reader.join()
    found: dict[str, Any] = json.loads(told[0])
    assert found["rows"] == rows
    assert found["total"] == rows * (rows - 1) // 2
    assert found.get("right", True)
    assert found.get("width", 224 * rows) == 224 * rows

    # A worker that was not there before is taken to have begun as the smallest of the others.
    least = min(n for pid, n in idle.items() if pid != process.pid)
    beyond = {pid: n - idle.get(pid, least) for pid, n in most.items()}
    busy = sorted(beyond.values(), reverse=True)[: WORKERS + 1]
    assert sum(busy) < parse_size(BUDGET) + (WORKERS + 1) * EXTRA, beyond

    assert spilled > 0, "Ray's stores were to be too small"
    assert found["most"] > STORE_BYTES // 4, "the stores were to be used"
    assert found["used"] == 0, "blocks are freed once they are read"
    wait_until(lambda: _spilled(nodes) == 0, "what Ray spilled to be gone", 20)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.wait(30) == 0

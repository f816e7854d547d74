"""Sorts and joins five times larger than the budget, in object stores that are too small for them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.cluster.conftest import STORE_BYTES, Nodes
from tests.cluster.dask_workers import dask_workers
from tests.cluster.leftovers import adopted_orphans, mmflow_files
from tests.cluster.memory import watched
from tests.waiting import wait_until


def _spilled(nodes: Nodes) -> int:
    """Bytes that Ray keeps on disk since its stores are full."""
    total = 0
    for file in nodes.temp.glob("session_2*/ray_spilled_objects*/*"):
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total


def _works_for_ray(pid: int, command: str) -> bool:
    """Idle workers and those at work; not Ray's agents, nor the processes that spill for it."""
    del pid
    return command.startswith(("ray::IDLE", "ray::mmflow"))


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["sort", "join"])
def test_memory_is_bounded_by_the_budget_on_ray(kind: str, nodes: Nodes, spill: Path, tmp_path: Path) -> None:
    spilled = [0]

    def look() -> None:
        spilled[0] = max(spilled[0], _spilled(nodes))

    settings = {"engine": "ray", "address": nodes.address, "spill_dir": str(spill)}
    with watched(kind, tmp_path, settings, _works_for_ray, look) as run:
        run.check()
        assert spilled[0] > 0, "Ray's stores were to be too small"
        assert run.found["most"] > STORE_BYTES // 4, "the stores were to be used"
        assert run.found["used"] == 0, "blocks are freed once they are read"
        wait_until(lambda: _spilled(nodes) == 0, "what Ray spilled to be gone", 20)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["join", "sort"])
def test_memory_is_bounded_by_the_budget_on_dask(kind: str, tmp_path: Path) -> None:
    """Blocks beyond half of a worker's share of shared memory go to disk, and come back."""
    spilled = [0]
    spill = tmp_path / "spill"
    spill.mkdir()
    before = set(mmflow_files("/dev/shm"))

    def look() -> None:
        with contextlib.suppress(FileNotFoundError):  # deleted under our eyes
            spilled[0] = max(spilled[0], *(f.stat().st_size for f in spill.glob("mmflow-dask-*/*.block")), 0)

    with adopted_orphans(), dask_workers(tmp_path, 2) as cluster:
        settings = {"engine": "dask", "address": cluster.address, "spill_dir": str(spill)}
        with watched(kind, tmp_path, settings, lambda _, command: "multiprocessing" in command, look) as run:
            run.check()
            assert spilled[0] > 0, "the workers' shared memory was to be too small"
            # Other tests' workers may die meanwhile; theirs are swept soon.
            wait_until(lambda: before.issuperset(mmflow_files("/dev/shm", spill)), "blocks to be gone", 30)

"""Real clusters on this machine: a head without processors, and nodes (raylets) of one each, that tests may kill."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mmflow as mf
from tests.cluster.leftovers import (
    adopted_orphans,
    descendants,
    mmflow_files,
    nothing_left,
    sockets_under,
)
from tests.waiting import wait_until

STORE_BYTES = 80 << 20  # Ray wants 75 MiB at least
WORKERS = 2


class Nodes:
    """A Ray cluster of raylets on this machine."""

    def __init__(self, temp: Path) -> None:
        from ray.cluster_utils import Cluster

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # A dead node is noticed within two seconds, not fifteen.
        noticing = {
            "health_check_initial_delay_ms": 1000,
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 3,
        }
        self.temp = temp
        self._cluster = Cluster()
        self._cluster.add_node(
            num_cpus=0, object_store_memory=STORE_BYTES, include_dashboard=False, temp_dir=str(temp),
            _system_config=noticing,
        )  # fmt: skip
        self.by_id: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, **options: Any) -> str:
        """Start a node; its id."""
        node = self._cluster.add_node(**{"num_cpus": 1, "object_store_memory": STORE_BYTES, **options})
        self.by_id[node.node_id] = node
        return str(node.node_id)

    def kill(self, node: str) -> None:
        """End all processes of a node by SIGKILL."""
        self._cluster.remove_node(self.by_id.pop(node), allow_graceful=False)

    def stop(self, node: str) -> None:
        """End a node by SIGTERM."""
        self._cluster.remove_node(self.by_id.pop(node), allow_graceful=True)

    def shutdown(self) -> None:
        self._cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray has no types here


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Nodes]:
    """The cluster; nothing of it is left when the module's tests are over."""
    import ray

    ray.shutdown()  # of tests before these
    temp = Path(tempfile.mkdtemp(prefix="mmf-", dir="/tmp"))  # paths of sockets have to be short
    with adopted_orphans():
        before = descendants()
        try:
            nodes = Nodes(temp)
            yield nodes
            ray.shutdown()
            nodes.shutdown()
            nothing_left(before)
            assert not sockets_under(temp)
        finally:
            shutil.rmtree(temp, ignore_errors=True)


@pytest.fixture
def nodes(ray_cluster: Nodes) -> Nodes:
    """The cluster with two nodes that work."""
    while len(ray_cluster.by_id) < WORKERS:
        ray_cluster.add()
    return ray_cluster


@pytest.fixture
def spill(tmp_path: Path) -> Iterator[Path]:
    """Folder where blocks and operators of this test spill; empty once the run is over."""
    folder = tmp_path / "spill"
    folder.mkdir()
    before = mmflow_files("/dev/shm")
    yield folder
    wait_until(lambda: not mmflow_files(folder), f"{folder} to be empty", 30)
    # Other tests' workers may die meanwhile; theirs are swept soon.
    wait_until(lambda: set(mmflow_files("/dev/shm")) <= set(before), "/dev/shm to be as it was", 30)


OpenSession = Callable[..., mf.Session]


@pytest.fixture
def open_session(nodes: Nodes, spill: Path) -> OpenSession:
    """A session on the cluster."""

    def opened(**settings: Any) -> mf.Session:
        base = {"shard_size": "256KiB", "workers": WORKERS, "memory": "256MiB", "spill_dir": str(spill)}
        return mf.Session(engine="ray", address=nodes.address, **{**base, **settings})

    return opened


@pytest.fixture(scope="session")
def rows_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40,000 rows, 5 MB."""
    path = tmp_path_factory.mktemp("cluster") / "rows.csv"
    lines = (f"{i},{(i * 7919) % 40_009},{i % 97},{i * 0.5},{'text ' * 20}{i}" for i in range(40_000))
    path.write_text("id,k,g,v,s\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def local() -> mf.Session:
    return mf.Session(shard_size="256KiB", workers=WORKERS, memory="1GiB")


@pytest.fixture
def data(rows_csv: Path, tmp_path: Path) -> Path:
    """The rows in a folder of their own, which a host may hide."""
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "rows.csv"
    path.write_bytes(rows_csv.read_bytes())
    return path

"""Nodes that are taken away with notice (spot nodes, drains): they go within Kubernetes' 30 seconds, though a function
never ends, the rows are the same, and what a scan has read is kept. SIGTERM of drivers is in
tests/runs/test_runs_drivers.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client

import mmflow as mf
from mmflow.private_apis.dask_nanny import worker_pid
from tests.cluster import test_cluster_dask as on_dask
from tests.cluster.conftest import Nodes, OpenSession
from tests.cluster.dask_workers import DaskWorkers, dask_workers
from tests.cluster.gates import Gate
from tests.cluster.queries import GROUPED, SCHEMA, grouped_rows
from tests.cluster.ray_nodes import started_node
from tests.cluster.slow_scans import ROWS, SETTINGS, Crawl, write_rows
from tests.cluster.test_cluster_nodes import Thread
from tests.waiting import wait_until

pytestmark = pytest.mark.nightly

#: What Kubernetes gives a pod of a spot node.
GRACE_SECONDS = 30.0


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text("id,k,v\n" + "".join(f"{i},{i % on_dask.KEYS},{i * 3}\n" for i in range(on_dask.ROWS)))
    return path


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskWorkers]:
    with dask_workers(tmp_path, 2) as running:
        yield running
        wait_until(lambda: not on_dask.left_behind(tmp_path), "all blocks to be gone")


def _terminate_node(cluster: DaskWorkers, pid: int) -> None:
    node = cluster.workers[on_dask.nanny_of(pid, cluster)]
    node.terminate()
    node.wait(GRACE_SECONDS)


def _terminate_worker(cluster: DaskWorkers, pid: int) -> None:
    os.kill(pid, signal.SIGTERM)  # its nanny lives, and starts another


def _pid(dask_worker: Any) -> int | None:
    return worker_pid(dask_worker)


def _retire(cluster: DaskWorkers, pid: int) -> None:
    with Client(cluster.address, set_as_default=False) as client:
        pids = client.run(_pid, nanny=True)
        (address,) = [known for known, found in pids.items() if found == pid]
        client.retire_workers([address], close_workers=True)


@pytest.mark.parametrize("leave", [_terminate_node, _terminate_worker, _retire])
def test_a_node_of_dask_goes_in_an_exchange(
    leave: Callable[[DaskWorkers, int], None], cluster: DaskWorkers, orders: Path, tmp_path: Path
) -> None:
    gate, took = on_dask.Gate(tmp_path), list[float]()

    def act(pids: list[int]) -> None:
        began = time.monotonic()
        leave(cluster, pids[0])
        took.extend((time.monotonic() - began, time.monotonic()))

    left = gate.when_reached(act)
    with on_dask.session_on(cluster, partitions=4) as session:
        assert on_dask.grouped(session, orders, gate) == on_dask.WANTED
        left.join(GRACE_SECONDS)
    took[1] = time.monotonic() - took[1]
    print(f"{leave.__name__}: {took[0]:.1f} s, and {took[1]:.1f} s until the rows were there")
    assert took[0] < GRACE_SECONDS
    assert took[1] < 20, "no block of a worker that has left was waited for"


def _stop(nodes: Nodes, node: str) -> None:
    nodes.stop(node)


def _raylet(node: Any) -> subprocess.Popen[bytes]:
    raylet: subprocess.Popen[bytes] = node.all_processes["raylet"][0].process
    return raylet


def _drain(nodes: Nodes, node: str, seconds: int = 5) -> None:
    tool = Path(sys.executable).with_name("ray")
    command = [str(tool), "drain-node", "--address", nodes.address, "--node-id", node]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot node"]
    subprocess.run([*command, "--deadline-remaining-seconds", str(seconds)], check=True, timeout=60)
    _raylet(nodes.by_id[node]).wait(GRACE_SECONDS)
    nodes.kill(node)  # what else runs there


@pytest.mark.parametrize("leave", [_stop, _drain])
def test_a_node_of_ray_goes_in_an_exchange(
    leave: Callable[[Nodes, str], None],
    open_session: OpenSession,
    nodes: Nodes,
    rows_csv: Path,
    tmp_path: Path,
) -> None:
    gate = Gate(tmp_path / "gate")
    session = open_session(partitions=2, shard_size="640KiB")
    read = session.read_csv(str(rows_csv), schema=SCHEMA)
    mapped = read.map_batches(gate.waiting_at(30_000), schema=read.schema)
    query = Thread(lambda: session.sql(GROUPED, t=mapped).to_arrow())
    wait_until(gate.started, "a task to wait")
    held = gate.started()
    assert held is not None
    began = time.monotonic()
    leave(nodes, held[0])
    took = time.monotonic() - began
    gate.open()
    got = query.result()
    with mf.Session(workers=2) as local:
        assert got.equals(grouped_rows(local, rows_csv))
    print(f"{leave.__name__}: {took:.1f} s")
    assert took < GRACE_SECONDS


def _written_by_a_slow_scan(
    session: mf.Session, folder: Path, leave: Callable[[Crawl], None]
) -> tuple[list[int], Crawl]:
    """Write the rows of a slow scan, whose worker leaves after its first batches; return them, and who had them."""
    write_rows(folder / "rows.csv")
    crawl = Crawl(folder / "notes")
    read = session.read_csv(str(folder / "rows.csv"))
    crawled = read.map_batches(crawl.function(), schema=read.schema)
    writing = Thread(lambda: crawled.write_csv(str(folder / "out")))
    wait_until(lambda: len(crawl.processes()) == 1 and crawl.rows() > ROWS // 2, "the scan to be slow")
    began = time.monotonic()
    leave(crawl)
    took = time.monotonic() - began
    writing.result()
    print(f"gone after {took:.1f} s, all rows after {time.monotonic() - began:.1f} s")
    assert took < GRACE_SECONDS
    with mf.Session(workers=1) as local:
        return sorted(
            local.read_csv(str(folder / "out")).select("id").to_arrow().column(0).to_pylist()
        ), crawl


def test_a_node_of_dask_returns_what_it_has_read(cluster: DaskWorkers, tmp_path: Path) -> None:
    def leave(crawl: Crawl) -> None:
        (pid,) = crawl.processes()
        _terminate_node(cluster, int(pid))

    with on_dask.session_on(cluster, **SETTINGS) as session:
        rows, crawl = _written_by_a_slow_scan(session, tmp_path, leave)
    assert rows == list(range(ROWS))
    assert crawl.rows() == ROWS, "no row was read twice"
    assert len(crawl.processes()) == 2


def test_a_node_of_ray_returns_what_it_has_read(
    open_session: OpenSession, nodes: Nodes, tmp_path: Path
) -> None:
    def leave(crawl: Crawl) -> None:
        (pid,) = crawl.processes()
        above = {process.pid for process in psutil.Process(int(pid)).parents()}
        (node,) = [n for n, made in nodes.by_id.items() if _raylet(made).pid in above]
        _drain(nodes, node, 25)

    rows, crawl = _written_by_a_slow_scan(open_session(**SETTINGS), tmp_path, leave)
    assert rows == list(range(ROWS))
    assert crawl.rows() == ROWS, "no row was read twice"
    assert len(crawl.processes()) == 2


# ---- SIGTERM of `ray start --block`, by which Ray drains its node -----------------------------------------------


DRAIN_SECONDS = 8.0


@pytest.fixture
def lone_node(ray_cluster: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_LoneNode]:
    """The cluster's one node, which drains for so long."""
    import ray

    monkeypatch.setenv("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", str(DRAIN_SECONDS))
    for node in list(ray_cluster.by_id):
        ray_cluster.kill(node)
    if not ray.is_initialized():
        ray.init(address=ray_cluster.address)
    with started_node(ray_cluster.address, tmp_path / "node.log") as started:
        yield _LoneNode(ray_cluster, started)


class _LoneNode:
    def __init__(self, cluster: Nodes, started: subprocess.Popen[bytes]) -> None:
        self.address = cluster.address
        self._cluster = cluster
        self._started = started

    def leave(self) -> float:
        """End it by SIGTERM, and return how long that took. Another comes then."""
        began = time.monotonic()
        self._started.terminate()
        self._started.wait(GRACE_SECONDS)
        took = time.monotonic() - began
        self._cluster.add()
        return took


def test_a_node_of_ray_start_goes_at_sigterm_though_a_function_never_ends(
    lone_node: _LoneNode, rows_csv: Path, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    settings: dict[str, Any] = {"shard_size": "640KiB", "workers": 2, "memory": "256MiB"}
    with mf.Session(
        engine="ray", address=lone_node.address, spill_dir=str(tmp_path / "spill"), **settings
    ) as session:
        read = session.read_csv(str(rows_csv), schema=SCHEMA)
        query = Thread(read.map_batches(gate.waiting_at(30_000), schema=read.schema).count)
        wait_until(gate.started, "a task to wait", 120)
        took = lone_node.leave()
        gate.open()
        assert query.result() == 40_000
    print(f"\ngone after {took:.1f} s, of which it drains {DRAIN_SECONDS:g} s")
    assert DRAIN_SECONDS - 1 < took < DRAIN_SECONDS + 8

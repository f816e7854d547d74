"""Dask on hosts with addresses, processes and shared memory of their own: blocks go between them as bytes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import mmflow as mf
from tests.cluster.gates import Gate
from tests.cluster.host_checks import cut_off_a_host, fill_shared_memory, hide_a_file, lose_a_host
from tests.cluster.leftovers import adopted_orphans, descendants, mmflow_files, nothing_left
from tests.cluster.namespaces import Host, Network, why_not
from tests.cluster.queries import GROUPED, Query, grouped_rows
from tests.waiting import wait_until

REASON = why_not()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=REASON or "")]

TOOL = str(Path(sys.executable).with_name("dask"))
PORT = 8786
#: A host that answers no more is given up after so long (Dask allows no less than 11 s), not after half a minute.
NOTICING = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s"}


class DaskHosts:
    """A host with the scheduler, where the driver runs, and two that work."""

    def __init__(self, network: Network, folder: Path) -> None:
        self._network = network
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []
        self.head = network.host(environment=NOTICING)
        self.address = f"tcp://{self.head.address}:{PORT}"
        self._start(self.head, "scheduler", "--port", str(PORT))
        self.workers: dict[str, Host] = {}

    def _start(self, host: Host, what: str, *arguments: str) -> Path:
        path = self._folder / f"{host.name}.log"
        command = [TOOL, what, "--host", host.address, "--no-dashboard", *arguments]
        with path.open("w") as log:
            self._started.append(host.start(*command, stdout=log, stderr=log))
        return path

    def fill_up(self) -> None:
        while len(self.workers) < 2:
            host = self._network.host(environment=NOTICING)
            options = ["--nthreads", "1", "--local-directory", str(self._folder)]
            log = self._start(host, "worker", self.address, *options)
            wait_until(partial(_says, log, "Registered to"), "a worker to join")
            self.workers[host.name] = host

    def wait(self) -> None:
        for process in self._started:
            process.wait(20)

    def kill(self, name: str) -> None:
        self.workers.pop(name).kill()


def _says(log: Path, words: str) -> bool:
    return words in log.read_text()


@pytest.fixture(scope="module")
def network() -> Iterator[DaskHosts]:
    with adopted_orphans():
        before = descendants()
        with tempfile.TemporaryDirectory(prefix="mmf-", dir="/tmp") as temp:
            with Network() as made:
                running = DaskHosts(made, Path(temp))
                yield running
            running.wait()
        nothing_left(before)


@pytest.fixture
def hosts(network: DaskHosts) -> DaskHosts:
    network.fill_up()
    return network


def test_blocks_travel_between_hosts(
    hosts: DaskHosts, local: mf.Session, rows_csv: Path, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    gate.open()
    query = Query(hosts.head, "dask", hosts.address, tmp_path, rows_csv, GROUPED)
    try:
        assert query.end() == {"event": "done", "retries": 0}
        assert query.rows().equals(grouped_rows(local, rows_csv))
        assert set(gate.seen()) == set(hosts.workers), "both hosts have blocks"
    finally:
        query.close()
    for host in hosts.workers.values():
        assert "mmflow-" not in host.run("ls", "/dev/shm")
    assert mmflow_files(tmp_path / "spill") == []


def test_a_host_lost_in_the_middle_of_an_exchange(
    hosts: DaskHosts, local: mf.Session, rows_csv: Path, tmp_path: Path
) -> None:
    lose_a_host(hosts, "dask", local, rows_csv, tmp_path)


@pytest.mark.nightly
def test_a_host_that_is_cut_off_as_its_task_ends(
    hosts: DaskHosts, local: mf.Session, rows_csv: Path, tmp_path: Path
) -> None:
    cut_off_a_host(hosts, "dask", local, rows_csv, tmp_path)


@pytest.mark.nightly
def test_shared_memory_that_is_full(
    hosts: DaskHosts, local: mf.Session, rows_csv: Path, tmp_path: Path
) -> None:
    """Blocks go to the disk."""
    done, query = fill_shared_memory(hosts, "dask", rows_csv, tmp_path)
    assert done == {"event": "done", "retries": 0}
    assert query.rows().equals(grouped_rows(local, rows_csv))


def test_shards_go_where_their_file_is_seen(hosts: DaskHosts, data: Path, tmp_path: Path) -> None:
    hide_a_file(hosts, "dask", data, tmp_path)

"""Hosts with addresses, processes and object stores of their own, one of which loses its power."""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import mmflow as mf
from tests.cluster.conftest import STORE_BYTES
from tests.cluster.gates import Gate
from tests.cluster.host_checks import (
    COUNTED,
    cut_off_a_host,
    fill_shared_memory,
    hide_a_file,
    lose_a_host,
)
from tests.cluster.leftovers import adopted_orphans, descendants, nothing_left
from tests.cluster.namespaces import Host, Network, why_not
from tests.cluster.queries import Query, grouped_rows

REASON = why_not()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=REASON or "")]

PORT = 6379
#: Ray takes a token that it finds for a head, but not for the nodes that join it: so all get it.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
NOTICING = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
}


class RayHosts:
    """A head without processors, where the driver runs, and two hosts that work."""

    def __init__(self, network: Network, temp: Path) -> None:
        self._network = network
        self._temp = temp
        self.head = self._host("--head", f"--port={PORT}", f"--temp-dir={temp}", "--num-cpus=0",
                               "--include-dashboard=false", "--system-config=" + json.dumps(NOTICING))  # fmt: skip
        self.address = f"{self.head.address}:{PORT}"
        self.workers: dict[str, Host] = {}

    def _host(self, *arguments: str, environment: Mapping[str, str] = TOKEN) -> Host:
        # Ray keeps its sockets and logs at the same path on every host: each has its own there.
        host = self._network.host(mounts=[str(self._temp)], environment=environment)
        host.run(
            str(Path(sys.executable).with_name("ray")), "start", f"--node-ip-address={host.address}", "--disable-usage-stats",
            f"--object-store-memory={STORE_BYTES}", *arguments,
        )  # fmt: skip
        return host

    def fill_up(self, **environment: str) -> None:
        while len(self.workers) < 2:
            host = self._host(
                f"--address={self.address}", "--num-cpus=1", environment={**TOKEN, **environment}
            )
            self.workers[host.name] = host

    def kill(self, name: str) -> None:
        self.workers.pop(name).kill()

    def renew(self, **environment: str) -> None:
        """Put other hosts, whose processes have these environment variables, in the place of those that work."""
        for name in list(self.workers):
            self.kill(name)
        self.fill_up(**environment)


@pytest.fixture(scope="module")
def network() -> Iterator[RayHosts]:
    with adopted_orphans():
        before = descendants()
        with tempfile.TemporaryDirectory(prefix="mmf-", dir="/tmp") as temp, Network() as made:
            yield RayHosts(made, Path(temp))
        nothing_left(before)
    assert not Path("/sys/class/net/bridge").exists()


@pytest.fixture
def hosts(network: RayHosts) -> RayHosts:
    network.fill_up()
    return network


@pytest.mark.nightly
def test_a_host_lost_in_the_middle_of_an_exchange(
    hosts: RayHosts, local: mf.Session, rows_csv: Path, tmp_path: Path
) -> None:
    lose_a_host(hosts, "ray", local, rows_csv, tmp_path)


@pytest.mark.nightly
def test_a_host_that_is_cut_off_as_its_task_ends(
    hosts: RayHosts, local: mf.Session, rows_csv: Path, tmp_path: Path
) -> None:
    cut_off_a_host(hosts, "ray", local, rows_csv, tmp_path)


@pytest.mark.nightly
def test_shared_memory_that_is_full(hosts: RayHosts, rows_csv: Path, tmp_path: Path) -> None:
    """Ray's own processes end (SIGBUS) as they write to it: that there is no node any more is named, and fails the run."""
    hosts.renew()  # of others, the object stores may have the pages that they need
    try:
        stalls = {"stall_after": 4.0, "stall_timeout": 12.0}
        said, _ = fill_shared_memory(hosts, "ray", rows_csv, tmp_path, **stalls)
    finally:
        hosts.renew()
    assert said["kind"] == "StalledError", said
    assert "it asks for CPU=1, and there is no node with as much" in said["text"]


@pytest.mark.nightly
def test_shared_memory_that_is_full_but_for_object_stores(
    hosts: RayHosts, local: mf.Session, rows_csv: Path, tmp_path: Path
) -> None:
    hosts.renew(RAY_preallocate_plasma_memory="1")
    try:
        done, query = fill_shared_memory(hosts, "ray", rows_csv, tmp_path)
    finally:
        hosts.renew()
    assert done == {"event": "done", "retries": 0}
    assert query.rows().equals(grouped_rows(local, rows_csv))


@pytest.mark.nightly
def test_shards_go_where_their_file_is_seen(hosts: RayHosts, data: Path, tmp_path: Path) -> None:
    hide_a_file(hosts, "ray", data, tmp_path)


@pytest.mark.nightly
def test_shards_go_first_where_their_pages_are(hosts: RayHosts, data: Path, tmp_path: Path) -> None:
    """One host has a copy in memory (with another inode, but the same size and time); on the others it is on disk only."""
    with data.open("rb+") as file:
        os.fsync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    for number, warm in enumerate(hosts.workers.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        gate = Gate(folder / "gate")
        gate.open()
        warm.run("cp", "-p", str(data), "/dev/shm/rows.csv")
        warm.run("mount", "-t", "tmpfs", "tmpfs", str(data.parent))
        try:
            warm.run("cp", "-p", "/dev/shm/rows.csv", str(data))
            with data.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            # One task, so that no host has to help the other.
            query = Query(hosts.head, "ray", hosts.address, folder, data, COUNTED, shard_size="64MiB")
            try:
                assert query.end() == {"event": "done", "retries": 0}
            finally:
                query.close()
        finally:
            warm.run("umount", str(data.parent))
        assert set(gate.seen()) == {warm.name}

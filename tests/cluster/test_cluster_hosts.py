"""Hosts with addresses, processes and object stores of their own, one of which loses its power."""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmflow as mf
from tests.cluster.conftest import STORE_BYTES
from tests.cluster.gates import Gate
from tests.cluster.host_checks import COUNTED, hide_a_file, lose_a_host
from tests.cluster.leftovers import adopted_orphans, descendants, nothing_left
from tests.cluster.namespaces import Host, Network, why_not
from tests.cluster.queries import Query

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

    def _host(self, *arguments: str) -> Host:
        # Ray keeps its sockets and logs at the same path on every host: each has its own there.
        host = self._network.host(mounts=[str(self._temp)], environment=TOKEN)
        host.run(
            str(Path(sys.executable).with_name("ray")), "start", f"--node-ip-address={host.address}", "--disable-usage-stats",
            f"--object-store-memory={STORE_BYTES}", *arguments,
        )  # fmt: skip
        return host

    def fill_up(self) -> None:
        while len(self.workers) < 2:
            host = self._host(f"--address={self.address}", "--num-cpus=1")
            self.workers[host.name] = host

    def kill(self, name: str) -> None:
        self.workers.pop(name).kill()


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


def test_a_host_lost_in_the_middle_of_an_exchange(
    hosts: RayHosts, local: mf.Session, rows_csv: Path, tmp_path: Path
) -> None:
    lose_a_host(hosts, "ray", local, rows_csv, tmp_path)


def test_shards_go_where_their_file_is_seen(hosts: RayHosts, data: Path, tmp_path: Path) -> None:
    hide_a_file(hosts, "ray", data, tmp_path)


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

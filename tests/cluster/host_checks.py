"""Checks of hosts on every engine: one is lost in an exchange, files that only some see."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import mmflow as mf
from tests.cluster.gates import Gate
from tests.cluster.namespaces import Host
from tests.cluster.queries import GROUPED, Query, grouped_rows
from tests.waiting import wait_until

__all__ = [
    "COUNTED",
    "Hosts",
    "cut_off_a_host",
    "fill_shared_memory",
    "hide_a_file",
    "lose_a_host",
]

COUNTED = "SELECT count(*) AS n FROM t"


class Hosts(Protocol):
    """Host of the driver, and hosts that work, by name."""

    head: Host
    address: str
    workers: dict[str, Host]

    def kill(self, name: str) -> None: ...


@contextmanager
def _one_task_left(
    hosts: Hosts, engine: str, rows_csv: Path, folder: Path
) -> Iterator[tuple[Query, Gate, str]]:
    """Begin an exchange whose last producer waits at a gate; yields the query, the gate and the host that it is on."""
    gate = Gate(folder / "gate")
    query = Query(hosts.head, engine, hosts.address, folder, rows_csv, GROUPED, row=30_000)
    try:
        wait_until(gate.started, "a producer to wait")
        assert query.event() == {"event": "one is left"}
        held = gate.started()
        assert held is not None
        yield query, gate, held[0]
    finally:
        query.close()


def lose_a_host(hosts: Hosts, engine: str, local: mf.Session, rows_csv: Path, folder: Path) -> None:
    """One of two hosts is lost in the middle of an exchange: the rows are right, and the report counts what was done again."""
    with _one_task_left(hosts, engine, rows_csv, folder) as (query, gate, held):
        assert set(gate.seen()) == set(hosts.workers), "both hosts have blocks"
        (other,) = set(hosts.workers) - {held}
        hosts.kill(other)
        gate.open()
        done = query.end()
        assert done["event"] == "done", done
        assert done["retries"] >= 1
        assert query.rows().equals(grouped_rows(local, rows_csv))
    assert not list(folder.glob("spill/mmflow-*"))


def cut_off_a_host(hosts: Hosts, engine: str, local: mf.Session, rows_csv: Path, folder: Path) -> None:
    """The network of one of two hosts swallows all, once a task on it ends: its reply is lost, and all processes live."""
    with _one_task_left(hosts, engine, rows_csv, folder) as (query, gate, held):
        began = time.monotonic()
        hosts.workers[held].run("ip", "link", "set", "eth0", "down")
        gate.open()
        done = query.end()
        took = time.monotonic() - began
        hosts.kill(held)
        assert done["event"] == "done", done
        print(f"\n{engine}, a host that is cut off: the rows after {took:.1f} s")
        assert took < 120
        assert query.rows().equals(grouped_rows(local, rows_csv))


def fill_shared_memory(
    hosts: Hosts, engine: str, rows_csv: Path, folder: Path, **settings: Any
) -> tuple[dict[str, Any], Query]:
    """Run a query while others have filled the shared memory of all hosts that work; return its last event."""
    gate = Gate(folder / "gate")
    gate.open()
    leave_a_page = 'fallocate -l $(($(stat -f -c "%a * %S" /dev/shm) - 4096)) /dev/shm/full'
    for host in hosts.workers.values():
        host.run("sh", "-c", leave_a_page)
    query = Query(hosts.head, engine, hosts.address, folder, rows_csv, GROUPED, **settings)
    try:
        began = time.monotonic()
        done = query.end()
        print(f"\n{engine}, full shared memory: {done} after {time.monotonic() - began:.1f} s")
    finally:
        query.close()
        for host in hosts.workers.values():
            host.run("rm", "/dev/shm/full")
    assert time.monotonic() - began < 120
    return done, query


def hide_a_file(hosts: Hosts, engine: str, data: Path, folder: Path) -> None:
    """One of two hosts does not see a file, then both don't."""
    gate = Gate(folder / "gate")
    gate.open()
    blind, seeing = hosts.workers.values()
    blind.run("mount", "-t", "tmpfs", "tmpfs", str(data.parent))
    try:
        query = Query(hosts.head, engine, hosts.address, folder, data, COUNTED)
        try:
            assert query.end() == {"event": "done", "retries": 0}
            assert query.rows().to_pylist() == [{"n": 40_000}]
        finally:
            query.close()
        assert set(gate.seen()) == {seeing.name}

        seeing.run("mount", "-t", "tmpfs", "tmpfs", str(data.parent))
        try:
            query = Query(hosts.head, engine, hosts.address, folder, data, COUNTED)
            try:
                said = query.end()
            finally:
                query.close()
        finally:
            seeing.run("umount", str(data.parent))
    finally:
        blind.run("umount", str(data.parent))
    assert said["kind"] == "SourceError"
    names = ", ".join(sorted(h.address for h in hosts.workers.values()))
    assert f"{data}: none of the nodes that would read it ({names}) sees it" in said["text"]

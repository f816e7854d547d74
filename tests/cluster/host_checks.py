"""Checks of hosts on every engine: one is lost in an exchange, files that only some see."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import mmflow as mf
from tests.cluster.gates import Gate
from tests.cluster.namespaces import Host
from tests.cluster.queries import SCHEMA, Query
from tests.waiting import wait_until

__all__ = ["COUNTED", "GROUPED", "Hosts", "hide_a_file", "lose_a_host"]

GROUPED = "SELECT k, count(*) AS n, sum(v) AS v, max(s) AS s FROM t GROUP BY k ORDER BY k"
COUNTED = "SELECT count(*) AS n FROM t"


class Hosts(Protocol):
    """Host of the driver, and hosts that work, by name."""

    head: Host
    address: str
    workers: dict[str, Host]

    def kill(self, name: str) -> None: ...


def lose_a_host(hosts: Hosts, engine: str, local: mf.Session, rows_csv: Path, folder: Path) -> None:
    """One of two hosts is lost in the middle of an exchange: the rows are right, and the report counts what was done again."""
    gate = Gate(folder / "gate")
    query = Query(hosts.head, engine, hosts.address, folder, rows_csv, GROUPED, row=30_000)
    try:
        wait_until(gate.started, "a producer to wait")
        assert query.event() == {"event": "one is left"}
        held = gate.started()
        assert held is not None
        assert set(gate.seen()) == set(hosts.workers), "both hosts have blocks"
        (other,) = set(hosts.workers) - {held[0]}
        hosts.kill(other)
        gate.open()
        done = query.end()
        assert done["event"] == "done", done
        assert done["retries"] >= 1
        assert query.rows().equals(
            local.sql(GROUPED, t=local.read_csv(str(rows_csv), schema=SCHEMA)).to_arrow()
        )
    finally:
        query.close()
    assert not list(folder.glob("spill/mmflow-*"))


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

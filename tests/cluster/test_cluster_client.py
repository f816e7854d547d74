"""Ray Client: a driver outside the cluster, to whom rows come in messages."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import STORE_BYTES
from tests.cluster.leftovers import adopted_orphans, descendants, nothing_left
from tests.waiting import wait_until

SCRIPT = """
import sys, mmflow as mf
with mf.Session(engine="ray", address=sys.argv[1], shard_size="256KiB", workers=2, memory="256MiB", partitions=2) as s:
    for _ in range(2):
        t = s.read_csv(sys.argv[2])
        print(s.sql("SELECT count(*) AS n, sum(id) AS s FROM t", t=t).to_arrow().to_pylist())
        print(s.sql("SELECT g, count(*) AS n FROM t GROUP BY g ORDER BY g LIMIT 2", t=t).to_arrow().to_pylist())
"""
ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


def _taken(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def _free_port(first: int) -> int:
    """A port that nobody has; workers' begin at 10002."""
    for port in range(first, 10_000):
        if not _taken(port):
            return port
    raise AssertionError("no port is free")


@pytest.fixture
def client_address() -> Iterator[str]:
    """A head that takes clients; nothing of it is left."""
    with adopted_orphans(), tempfile.TemporaryDirectory(prefix="mmf-", dir="/tmp") as temp:
        before = descendants()
        port = _free_port(9300)
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
        command += [f"--port={_free_port(9100)}", f"--ray-client-server-port={port}", f"--temp-dir={temp}"]
        command += [
            f"--object-store-memory={STORE_BYTES}",
            "--include-dashboard=false",
        ]
        with open(f"{temp}/head.log", "wb") as log:
            head = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(lambda: _taken(port), "Ray to take clients")
            wait_until(lambda: "Ray runtime started" in Path(temp, "head.log").read_text(), "Ray to start")
            yield f"ray://127.0.0.1:{port}"
        finally:
            head.terminate()
            head.wait(30)
            nothing_left(before)


@pytest.mark.nightly
def test_a_driver_may_be_a_client(client_address: str, rows_csv: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, client_address, str(rows_csv)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    totals = str([{"n": 40_000, "s": 40_000 * 39_999 // 2}])
    groups = str([{"g": 0, "n": 413}, {"g": 1, "n": 413}])
    assert done.stdout.splitlines() == [totals, groups] * 2

"""Runs looked at, followed and stopped from another shell while they go."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs.conftest import HERE, Workplace, files_of

GATED = HERE / "gated_job.py"


@pytest.fixture
def gated(workplace: Workplace) -> Workplace:
    workplace.orders.write_text("person,amount\n" + "".join(f"{n},{n}\n" for n in range(3000)))
    return workplace


def _submitted(workplace: Workplace, *more: str) -> str:
    made = workplace.mmflow(
        "submit", str(GATED), "--orders", str(workplace.orders), "--gate", str(workplace.folder / "gate"),
        "--output", str(workplace.folder / "out"), "--format", "csv", *workplace.flags(), *more,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return str(made.stdout.splitlines()[0])


def _status(workplace: Workplace, run: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(workplace.mmflow("status", run, "--json").stdout.splitlines()[0])
    return made


def _until(true: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} has not come"
        time.sleep(0.1)


def _at_gate(workplace: Workplace, run: str) -> None:
    log = workplace.runs / run / "output.txt"
    _until(lambda: log.exists() and "at the gate" in log.read_text(), "the gate")


def test_a_submitted_run_is_watched_and_ends(gated: Workplace) -> None:
    run = _submitted(gated)
    _at_gate(gated, run)
    _until(lambda: _status(gated, run)["rows"] > 0, "a row")
    assert _status(gated, run)["state"] == "running"
    shown = gated.mmflow("status", run[:5])
    assert f"run        {run}" in shown.stdout
    listed = json.loads(gated.mmflow("list", "--json").stdout.splitlines()[0])
    assert [(r["run"], r["state"], r["backend"]) for r in listed] == [(run, "running", "local")]
    assert "at the gate" in gated.mmflow("logs", run).stdout
    followed = subprocess.Popen(
        [sys.executable, str(HERE / "crash_run.py"), "never", "logs", run, "-f"],
        env=gated.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    watched = subprocess.Popen(
        [sys.executable, str(HERE / "crash_run.py"), "never", "status", run, "--watch"],
        env=gated.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    (gated.folder / "gate").touch()
    assert "wrote 3,000 rows" in followed.communicate(timeout=60)[0]
    assert "done" in watched.communicate(timeout=60)[0]
    state = _status(gated, run)
    assert (state["state"], state["rows"]) == ("done", 3000)
    assert "<html" in (gated.runs / run / "report.html").read_text()[:200]
    assert not (gated.runs / run / "blocks").exists()


def test_a_run_is_cancelled_and_goes_on(gated: Workplace) -> None:
    run = _submitted(gated)
    _at_gate(gated, run)
    stopped = gated.mmflow("cancel", run)
    assert stopped.returncode == 0, stopped.stderr
    assert _status(gated, run)["state"] == "cancelled"
    assert not (gated.folder / "out").exists()
    assert gated.mmflow("cancel", run).returncode == 1  # it is over
    (gated.folder / "gate").touch()
    again = gated.mmflow("submit", "--resume", run)
    assert again.stdout.splitlines()[0] == run
    _until(lambda: _status(gated, run)["state"] == "done", "the end")
    rows = b"".join(data.partition(b"\n")[2] for _, data in sorted(files_of(gated.folder / "out").items()))
    assert rows == gated.orders.read_bytes().partition(b"\n")[2]
    assert any(e["event"] == "task_restored" for e in gated.events(run))


def test_a_driver_that_is_killed_shows_as_died(gated: Workplace) -> None:
    run = _submitted(gated)
    _at_gate(gated, run)
    holder = re.search(r"process (\d+)", (gated.runs / run / "driver").read_text())
    assert holder is not None
    subprocess.run(["kill", "-9", holder[1]], check=True)
    _until(lambda: _status(gated, run)["state"] == "died", "its death")
    (gated.folder / "gate").touch()
    assert gated.resume(run).returncode == 0
    assert _status(gated, run)["state"] == "done"


def test_what_is_wrong_is_said_at_once(gated: Workplace) -> None:
    wrong = gated.mmflow("submit", str(GATED), "--ordres", "x")
    assert wrong.returncode == 2
    assert "--orders" in wrong.stderr
    assert gated.mmflow("status", "nothing").returncode == 2
    assert gated.mmflow("submit", str(GATED), "--orders", "x", "--gate", "y", "--on", "moon").returncode == 2


def test_bad_records_are_counted_and_shown(gated: Workplace) -> None:
    with gated.orders.open("a") as file:
        file.write("x,1\n7,y\n")
    (gated.folder / "gate").touch()
    arguments = [
        "run", str(GATED), "--orders", str(gated.orders), "--gate", str(gated.folder / "gate"),
        "--policy", "quarantine", "--format", "csv", *gated.flags(),
    ]  # fmt: skip
    refused = gated.mmflow(
        *arguments, "--output", str(gated.folder / "few"), "--name", "few", "--max-bad-records", "1"
    )
    assert refused.returncode == 1
    assert "max_bad_records = 1" in refused.stderr
    assert not (gated.folder / "few").exists()
    assert gated.mmflow("run", "--resume", "few", "--max-bad-records", "0.01%").returncode == 1
    allowed = gated.mmflow("run", "--resume", "few", "--max-bad-records", "1%")
    assert allowed.returncode == 0, allowed.stderr
    shown = json.loads(
        gated.mmflow("quarantine", "show", "few", "--format", "json").stdout.partition("counts")[0]
    )
    assert [(r["path"], r["line"], r["column"], r["raw"]) for r in shown] == [
        (str(gated.orders), 3002, "person", "x,1"),
        (str(gated.orders), 3003, "amount", "7,y"),
    ]
    starts = gated.orders.read_bytes()
    assert [starts[r["byte_offset"] :].split(b"\n")[0].decode() for r in shown] == ["x,1", "7,y"]


def test_bad_records_of_a_run_that_failed_are_kept(gated: Workplace) -> None:
    gated.orders.write_text("person,amount\nx,1\n" + "1,1\n" * 10)
    (gated.folder / "gate").touch()
    failed = gated.mmflow(
        "run", str(GATED), "--orders", str(gated.orders), "--gate", str(gated.folder / "gate"), "--policy",
        "quarantine", "--output", str(gated.folder / "out"), "--name", "r", "--max-bad-records", "0",
    )  # fmt: skip
    assert failed.returncode == 1
    assert "x,1" in gated.mmflow("quarantine", "show", "r", "--format", "csv").stdout


def test_metrics_are_told_in_a_file(gated: Workplace, tmp_path: Path) -> None:
    (gated.folder / "gate").touch()
    path = tmp_path / "mmflow.prom"
    _submitted(gated, "--metrics", str(path), "--name", "m1")
    _until(lambda: _status(gated, "m1")["state"] == "done", "the end")
    assert "mmflow_rows_total" in path.read_text()


def _accepts_jobs(dashboard: str) -> bool:
    """Return whether the cluster starts jobs: its agent starts long after it on a busy machine."""
    from ray.job_submission import JobSubmissionClient

    try:
        JobSubmissionClient(dashboard).submit_job(entrypoint="true")
    except RuntimeError as error:
        assert "No available agent" in str(error)
        return False
    return True


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.mark.nightly
def test_a_run_through_rays_jobs(gated: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    # Ray's jobs run the `python` of the cluster's PATH.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    cluster = Cluster()
    try:
        # Clusters of other tests may have the usual ports; an agent without its port takes no jobs.
        head = cluster.add_node(
            num_cpus=2, include_dashboard=True, dashboard_port=_free_port(), dashboard_agent_listen_port=_free_port()
        )  # fmt: skip
        address = cluster.address
        gated.settings |= {"engine": "ray", "address": address}
        _until(lambda: _accepts_jobs(f"http://{head.webui_url}"), "Ray's agent for jobs", 90)
        run = _submitted(gated)
        # Whoever asked for its status again and again would take a processor from its start.
        journal = gated.runs / run / "journal"
        _until(lambda: any(p.stat().st_size for p in journal.glob("*")), "its first task", 180)
        assert _status(gated, run)["state"] == "running"
        assert _status(gated, run)["backend"] == "ray"
        assert f"run {run}" in gated.mmflow("logs", run).stdout
        _until(lambda: _status(gated, run)["rows"] > 0, "a row", 60)
        assert gated.mmflow("cancel", run).returncode == 0
        assert _status(gated, run)["state"] == "cancelled"
        (gated.folder / "gate").touch()
        gone_on = gated.mmflow("submit", "--resume", run, "--engine", "ray", "--address", address, str(GATED))
        assert gone_on.returncode == 0, gone_on.stderr
        assert "wrote 3,000 rows" in gated.mmflow("logs", run, "-f").stdout
        assert _status(gated, run)["state"] == "done"
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray has no types here

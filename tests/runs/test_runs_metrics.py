"""Metrics as Prometheus reads them."""

from __future__ import annotations

import os
import socket
import sys
import threading
import urllib.request
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mmflow.errors import ConfigError
from mmflow.runs import metrics as metrics_module
from mmflow.runs.metrics import open_metrics
from mmflow.scheduler.progress import Progress, StageProgress
from tests.waiting import wait_until

LABELS = {"run": "r1", "job": 'odd "job"\n\\'}


def progress(done: int = 3) -> Progress:
    stages = (
        StageProgress(0, "scan", done, 2, 10, 30, complete=False),
        StageProgress(1, "sort", 0, 0, None, 0, complete=False),
    )
    counts = {"bytes_done": 1000 * done, "bytes_total": 10_000, "bad": 4, "retries": 2}
    others = {f.name: counts.get(f.name, 1) for f in fields(Progress) if f.name != "stages"}
    return Progress(stages=stages, **others)


def values(text: str) -> dict[tuple[str, str], float]:
    """Samples by name and, where there are some, the stage's labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for s in family.samples:
            assert {k: s.labels[k] for k in LABELS} == LABELS
            key = "/".join(s.labels[k] for k in ("stage", "state", "title") if k in s.labels)
            found[s.name, key] = s.value
    return found


def check(found: dict[tuple[str, str], float]) -> None:
    assert found["mmflow_input_done_bytes_total", ""] == 3000
    assert found["mmflow_input_bytes", ""] == 10_000
    assert found["mmflow_bad_records_total", ""] == 4
    assert found["mmflow_retries_total", ""] == 2
    assert found["mmflow_tasks", "0/done"] == 3
    assert found["mmflow_tasks", "0/running"] == 2
    assert found["mmflow_tasks", "0/waiting"] == 5
    assert ("mmflow_tasks", "1/waiting") not in found
    assert found["mmflow_stage_complete", "0/scan"] == 0


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def test_a_port_tells_the_last_progress_and_is_free_again() -> None:
    port = free_port()
    before = set(threading.enumerate())
    for _ in range(2):  # the second needs the port that the first had
        metrics = open_metrics(str(port), LABELS)
        assert values(scrape(port)) == {}
        metrics.update(progress(1))
        metrics.update(progress(3))
        check(values(scrape(port)))
        metrics.close()
        with pytest.raises(OSError, match="refused"):
            scrape(port)
    # The thread of a request outlives its answer for a moment, and so may those of tests before this one.
    wait_until(lambda: set(threading.enumerate()) <= before, "the threads of the server to end")


def test_a_port_is_of_this_host_only() -> None:
    metrics = open_metrics(str(port := free_port()), {})
    with socket.socket() as s:
        assert s.connect_ex(("127.0.0.2", port)) != 0
    metrics.close()


def test_runs_do_not_meet() -> None:
    ports = free_port(), free_port()
    both = [open_metrics(f"127.0.0.1:{p}", LABELS) for p in ports]
    both[0].update(progress())
    assert values(scrape(ports[1])) == {}
    for m in both:
        m.close()


def test_a_file_is_whole_at_any_time_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mmflow.prom"
    metrics = open_metrics(str(path), LABELS)
    assert path.read_text() == ""
    metrics.update(progress(1))
    assert path.read_text() == ""  # so soon, it is not written again
    monkeypatch.setattr(metrics_module, "_WRITE_SECONDS", 0.0)
    metrics.update(progress(2))
    assert values(path.read_text())["mmflow_tasks", "0/done"] == 2
    monkeypatch.setattr(metrics_module, "_WRITE_SECONDS", 1e9)
    metrics.update(progress(3))
    metrics.close()
    check(values(path.read_text()))
    assert os.listdir(tmp_path) == ["mmflow.prom"]


def test_a_file_that_can_not_be_written_later_ends_no_run(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    metrics = open_metrics(str(folder / "a.prom"), {})
    (folder / "a.prom").unlink()
    folder.rmdir()
    metrics.update(progress())
    metrics.close()


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"can't listen on port {port} of 127\.0\.0\.1: .*in use"):
            open_metrics(str(port), {})
    with pytest.raises(ConfigError, match=r"nowhere/a\.prom: can't write there: No such file"):
        open_metrics(str(tmp_path / "nowhere" / "a.prom"), {})
    for target in ("metrics.txt", "0", "99999", "host:", ""):
        with pytest.raises(ConfigError, match="write a port"):
            open_metrics(target, {})
    with pytest.raises(ConfigError, match="can't be a label"):
        open_metrics("9105", {"stage": "x"})


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'mmflow-engine\[metrics\]'"):
        open_metrics("9105", {})

"""Stalls injected into real clusters of this machine: each is named, and helped or failed. Figures: docs/reliability.md."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import mmflow as mf
from tests.disk.disk import forgetful_disk
from tests.waiting import wait_until

pytestmark = pytest.mark.nightly

ROWS = 50_000
AFTER, TIMEOUT = 4.0, 12.0


@pytest.fixture(params=["local", "dask", "ray"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """An engine; its cluster ends with the test, since threads of its workers hang."""
    yield request.param
    if request.param == "dask":
        from mmflow.engines.dask.engine import disconnect

        disconnect()
    elif request.param == "ray":
        import ray

        ray.shutdown()


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.csv"
    path.write_text("n\n" + "".join(f"{i}\n" for i in range(ROWS)))
    return path


class Report:
    """When a run began, when a stall was named, and when the run ended."""

    def __init__(self, case: str) -> None:
        self.case = case
        self.began = time.monotonic()
        self.named: list[tuple[float, str]] = []

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        def show(message: Warning | str, category: type[Warning], *place: object) -> None:
            del place
            if issubclass(category, mf.StalledWarning):
                self.named.append((time.monotonic() - self.began, str(message)))

        with warnings.catch_warnings():
            warnings.simplefilter("always", mf.StalledWarning)
            warnings.showwarning = show  # type: ignore[assignment]  # it takes whatever comes
            yield

    def close(self, what: str) -> None:
        seconds = time.monotonic() - self.began
        named = f"{self.named[0][0]:.1f} s" if self.named else "-"
        print(f"\n{self.case}: named after {named}, {what} after {seconds:.1f} s; {self.named[:1]}")
        assert seconds < 120


def deadlock(first: Path, *, always: bool) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    def deadlocked(batch: pa.RecordBatch) -> pa.RecordBatch:
        with contextlib.suppress(FileExistsError):
            first.with_name(f"worker-{os.getpid()}").touch()
            first.touch(exist_ok=always)
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        return batch

    return deadlocked


def session(engine: str, folder: Path, **more: float) -> mf.Session:
    return mf.Session(engine=engine, workers=2, stall_after=AFTER, spill_dir=folder, memory="512MiB", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("processes", [False, True])
def test_a_deadlock_of_a_function(engine: str, processes: bool, numbers: Path, tmp_path: Path) -> None:
    if processes and engine != "local":
        pytest.skip("functions of clusters run in their workers")
    with session(engine, tmp_path) as s:
        wait = deadlock(tmp_path / "first", always=False)
        rows = s.read_csv(numbers).map_batches(wait, schema={"n": "int64"}, processes=processes)
        report = Report(f"deadlock, {engine}{', processes' if processes else ''}")
        with report.listening():
            assert rows.count() == ROWS
        report.close("healed")
    assert re.search(r"attempt 0, has not moved for \d+ s: host .* in deadlocked", report.named[0][1])


def test_a_deadlock_of_every_attempt(engine: str, numbers: Path, tmp_path: Path) -> None:
    with session(engine, tmp_path, stall_timeout=TIMEOUT) as s:
        wait = deadlock(tmp_path / "first", always=True)
        rows = s.read_csv(numbers).map_batches(wait, schema={"n": "int64"})
        report = Report(f"deadlock of all attempts, {engine}")
        with report.listening(), pytest.raises(mf.StalledError, match="in deadlocked"):
            rows.count()
        report.close("failed")
    assert report.named


def test_a_stopped_worker(engine: str, numbers: Path, tmp_path: Path) -> None:
    """A worker that gets SIGSTOP in the middle of a task: what stays of it is killed by the engine."""
    first = tmp_path / "first"

    def linger(batch: pa.RecordBatch) -> pa.RecordBatch:
        with contextlib.suppress(FileExistsError):
            first.touch(exist_ok=False)
            first.with_name("worker").write_text(str(os.getpid()))
            time.sleep(1000)
        return batch

    def stop() -> None:
        wait_until(
            lambda: (tmp_path / "worker").exists() and (tmp_path / "worker").read_text(), "the function"
        )
        time.sleep(AFTER / 2)  # until it has said that it moves
        os.kill(int((tmp_path / "worker").read_text()), signal.SIGSTOP)

    with session(engine, tmp_path) as s:
        rows = s.read_csv(numbers).map_batches(linger, schema={"n": "int64"}, processes=engine == "local")
        report = Report(f"SIGSTOP, {engine}{', processes' if engine == 'local' else ''}")
        stopper = threading.Thread(target=stop)
        stopper.start()
        with report.listening():
            assert rows.count() == ROWS
        report.close("healed")
        stopper.join()
    if engine == "local":  # a cluster's worker is killed before, and may only be named for not having begun
        assert any("which is stopped" in text for _, text in report.named)


def test_a_disk_that_does_not_answer(numbers: Path, tmp_path: Path) -> None:
    """A read that hangs in the kernel, as over NFS."""
    with forgetful_disk(tmp_path / "disk") as disk, session("local", tmp_path) as s:
        disk.direct()  # past the page cache
        path = disk.path / "numbers.csv"
        path.write_bytes(numbers.read_bytes())
        rows = s.read_csv(path, schema={"n": "int64"})
        report = Report("disk that does not answer, local")
        with report.listening():
            with disk.stalled("read"):
                counting = threading.Thread(target=rows.count)
                counting.start()
                wait_until(lambda: report.named, "a stall")
            counting.join()
        report.close("healed")
    assert "in the kernel's request_wait_answer" in report.named[0][1]
    assert f"it reads {path}" in report.named[0][1]


@pytest.mark.parametrize(("number", "timeout"), [("SIGSTOP", TIMEOUT), ("SIGKILL", 0.0)])
def test_a_head_of_ray_that_does_not_answer(number: str, timeout: float, tmp_path: Path) -> None:
    """The driver neither waits for ever, nor is ended by Ray."""
    command = [sys.executable, "-m", "tests.cluster.headless", str(tmp_path), number, str(timeout)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    events = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("[")]
    print(f"\nhead of Ray, {number}: {events}")
    named = [seconds for what, seconds, text in events if what == "named" and "head of" in text]
    assert named[0] < 60, said
    ended, seconds, text = events[-1]
    assert ended == ("StalledError" if timeout else "EngineError"), said
    assert re.search(r"the head of the Ray cluster at \S+ has not answered for \d+ s", text)
    assert seconds < 120

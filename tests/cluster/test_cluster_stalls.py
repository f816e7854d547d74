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
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from distributed import Client

import mmflow as mf
from mmflow.storage.object_store import open_store
from tests.cluster.black_hole import BlackHole, Way, black_hole
from tests.cluster.dask_workers import DaskWorkers, dask_workers
from tests.cluster.test_cluster_dask import left_behind
from tests.disk.disk import forgetful_disk
from tests.runs.faulted_servers import s3_server
from tests.waiting import wait_until

pytestmark = pytest.mark.nightly

ROWS = 50_000
AFTER, TIMEOUT = 4.0, 12.0
#: Requests have limits of their own, which may be shorter.
FAILED = (mf.StalledError, mf.SourceError, mf.SinkError)


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


def session(engine: str, folder: Path, **more: Any) -> mf.Session:
    settings: dict[str, Any] = {"engine": engine, "stall_after": AFTER, **more}
    return mf.Session(workers=2, spill_dir=folder, memory="512MiB", **settings)


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
    """A worker that gets SIGSTOP in the middle of a task: what stays of it is named, and killed by the engine.

    On clusters that takes less than the time after which the task would be stalled, and the second attempt of a silent
    worker's task begins before: it takes a while here.
    """
    first = tmp_path / "first"

    def linger(batch: pa.RecordBatch) -> pa.RecordBatch:
        with contextlib.suppress(FileExistsError):
            first.touch(exist_ok=False)
            first.with_name("worker").write_text(str(os.getpid()))
            time.sleep(1000)
        if engine != "local":
            time.sleep(3 * AFTER)
        return batch

    def stop() -> None:
        wait_until(
            lambda: (tmp_path / "worker").exists() and (tmp_path / "worker").read_text(), "the function"
        )
        time.sleep(AFTER / 2)  # until it has said that it moves
        os.kill(int((tmp_path / "worker").read_text()), signal.SIGSTOP)

    with session(engine, tmp_path, stall_after=AFTER if engine == "local" else 8 * AFTER) as s:
        rows = s.read_csv(numbers).map_batches(linger, schema={"n": "int64"}, processes=engine == "local")
        report = Report(f"SIGSTOP, {engine}{', processes' if engine == 'local' else ''}")
        stopper = threading.Thread(target=stop)
        stopper.start()
        with report.listening():
            assert rows.count() == ROWS
        report.close("healed")
        stopper.join()
    stopped = f"process {(tmp_path / 'worker').read_text()}[,a-z 0-9]*, which is stopped"
    assert any(re.search(stopped, text) for _, text in report.named), report.named


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


@contextlib.contextmanager
def own_dask(folder: Path, workers: int = 2) -> Iterator[DaskWorkers]:
    """A Dask cluster of processes, from which this process disconnects before it ends."""
    from mmflow.engines.dask.engine import disconnect

    folder.mkdir()
    with dask_workers(folder, workers) as cluster:
        yield cluster
        disconnect()


@pytest.mark.parametrize(
    ("number", "timeout"), [("SIGSTOP", TIMEOUT), ("SIGSTOP", 0.0), ("SIGKILL", 0.0)], ids=str
)
def test_a_scheduler_of_dask_that_does_not_answer(
    number: str, timeout: float, numbers: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"

    def linger(batch: pa.RecordBatch) -> pa.RecordBatch:
        begun.touch()
        time.sleep(1000)
        return batch

    report = Report(f"scheduler of Dask, {number}, stall_timeout {timeout:g}")
    with own_dask(tmp_path / "cluster") as cluster:

        def stop() -> None:
            wait_until(begun.exists, "the function")
            time.sleep(2)
            report.began = time.monotonic()
            os.kill(cluster.scheduler.pid, signal.Signals[number])

        stopper = threading.Thread(target=stop)
        stopper.start()
        with (
            session("dask", tmp_path, address=cluster.address, stall_timeout=timeout) as s,
            report.listening(),
            pytest.raises(mf.EngineError) as failed,
        ):
            s.read_csv(numbers).map_batches(linger, schema={"n": "int64"}).count()
        report.close("failed")
        stopper.join()
        print(failed.value)
        with contextlib.suppress(ProcessLookupError):
            os.kill(cluster.scheduler.pid, signal.SIGCONT)
    if number == "SIGKILL":  # the connection ends at once
        assert re.search(r"lost the connection to the Dask scheduler at tcp://", str(failed.value))
        return
    assert any("the Dask scheduler at tcp://" in text for _, text in report.named)
    assert isinstance(failed.value, mf.StalledError) == bool(timeout)
    assert re.search(r"the Dask scheduler at \S+ (has not answered for|does not answer)", str(failed.value))


@contextlib.contextmanager
def s3_behind_a_black_hole() -> Iterator[tuple[BlackHole, str]]:
    """An S3 server with a bucket, its URL; processes that start from now on reach it through the proxy."""
    import fsspec

    with s3_server() as server:
        there = urlsplit(server.url)
        with (
            black_hole((str(there.hostname), int(there.port or 0))) as hole,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{hole.address[1]}")
            bucket = f"stalls-{uuid.uuid4().hex[:8]}"
            fsspec.filesystem("s3").mkdir(bucket)
            yield hole, f"s3://{bucket}"


@pytest.mark.parametrize("after", [0, 30_000], ids=["before the body", "in the body"])
@pytest.mark.parametrize("ends", [True, False], ids=["once", "always"])
def test_a_black_hole_before_objects_that_are_read(
    engine: str, after: int, ends: bool, numbers: Path, tmp_path: Path
) -> None:
    with (
        s3_behind_a_black_hole() as (hole, url),
        session(
            engine, tmp_path, stall_timeout=0.0 if ends else TIMEOUT, shard_size="64KiB", cache_size=0
        ) as s,
    ):
        open_store(url).write(f"{url}/a.csv", b"n\n1\n")  # whose header is read before the run
        open_store(url).write(f"{url}/b.csv", numbers.read_bytes())
        rows = s.read_csv(f"{url}/*.csv", schema={"n": "int64"})
        # Not the first shard's beginning, at which the driver looks.
        hole.swallow(r"^GET \S+/b.csv[^$]+\nRange: bytes=[1-9]", "back", after, 1 if ends else 1 << 30)
        report = Report(f"black hole, {engine}, read, after {after:,} bytes, {'once' if ends else 'always'}")
        with report.listening(), contextlib.nullcontext() if ends else pytest.raises(FAILED):
            assert rows.count() == ROWS + 1
        report.close("healed" if ends else "failed")
        assert hole.swallowed
    assert any(f"it reads {url}/b.csv" in text for _, text in report.named)


@pytest.mark.parametrize("ends", [True, False], ids=["once", "always"])
def test_a_black_hole_before_objects_that_are_written(
    engine: str, ends: bool, numbers: Path, tmp_path: Path
) -> None:
    with (
        s3_behind_a_black_hole() as (hole, url),
        session(engine, tmp_path, stall_timeout=0.0 if ends else TIMEOUT) as s,
    ):
        rows = s.read_csv(numbers, schema={"n": "int64"})
        hole.swallow(r"^PUT \S+\.csv", "there", 50_000, 1 if ends else 1 << 30)
        report = Report(f"black hole, {engine}, write, {'once' if ends else 'always'}")
        with report.listening(), contextlib.nullcontext() if ends else pytest.raises(FAILED):
            rows.write_csv(f"{url}/out")
        report.close("healed" if ends else "failed")
        assert hole.swallowed
        if ends:
            assert s.read_csv(f"{url}/out").count() == ROWS
    assert report.named


@pytest.mark.parametrize(
    ("message", "way"), [("task-finished", "there"), ("compute-task", "back")], ids=["reply", "task"]
)
def test_a_message_of_dask_that_gets_lost(message: str, way: Way, numbers: Path, tmp_path: Path) -> None:
    """Scheduler and worker live and hear each other's signs of life; the connection for tasks is dead from a message on."""
    with dask_workers_behind(tmp_path / "cluster") as (cluster, hole):
        with session("dask", tmp_path, address=cluster.address, shard_size="16KiB") as s:
            rows = s.read_csv(numbers, schema={"n": "int64"})
            assert rows.count() == ROWS
            hole.swallow(message, way, connections=1, seen=way)
            report = Report(f"lost {message} of Dask")
            with report.listening():
                assert rows.count() == ROWS
            report.close("healed")
            assert hole.swallowed
        wait_until(lambda: not left_behind(tmp_path), "all blocks to be gone")
    assert report.named


@contextlib.contextmanager
def dask_workers_behind(folder: Path) -> Iterator[tuple[DaskWorkers, BlackHole]]:
    """A cluster of two workers, one of which reaches the scheduler through a proxy."""
    with own_dask(folder, 1) as cluster:
        there = urlsplit(cluster.address)
        with black_hole((str(there.hostname), int(there.port or 0))) as hole:
            direct, cluster.address = cluster.address, f"tcp://127.0.0.1:{hole.address[1]}"
            cluster.start()
            cluster.address = direct
            with Client(direct, set_as_default=False) as client:
                client.wait_for_workers(2, timeout=60)
            yield cluster, hole


def test_slow_work_that_moves_is_no_stall(engine: str, numbers: Path, tmp_path: Path) -> None:
    """An hour of slow work in short: `stall_after` is four seconds rather than sixty, and each kind of work takes several times that.

    No upload: one of this size lies in the buffers of sockets at once, and nobody can see that it moves.
    """
    few = tmp_path / "few.csv"
    few.write_text("n\n" + "".join(f"{i}\n" for i in range(16)))

    def sleep(given: Any) -> Any:
        time.sleep(1)
        return given

    def compute(batch: pa.RecordBatch) -> pa.RecordBatch:
        end = time.monotonic() + 3 * AFTER
        while time.monotonic() < end:
            pass
        return batch

    with s3_behind_a_black_hole() as (proxy, url), session(engine, tmp_path) as s, warnings.catch_warnings():
        warnings.simplefilter("error", mf.StalledWarning)
        schema = {"n": "int64"}
        rows = s.read_csv(few, schema=schema)
        assert rows.map_batches(sleep, schema=schema, batch_rows=1).count() == 16
        assert rows.map(sleep, schema=schema).count() == 16
        assert rows.map_batches(compute, schema=schema).count() == 16
        if engine == "local":
            assert rows.map_batches(sleep, schema=schema, batch_rows=1, processes=True).count() == 16
            assert rows.map(sleep, schema=schema, processes=True).count() == 16
        open_store(url).write(f"{url}/numbers.csv", numbers.read_bytes())
        proxy.rate = numbers.stat().st_size // 16
        assert s.read_csv(f"{url}/numbers.csv", schema=schema).count() == ROWS


def test_rows_that_nobody_takes_are_no_stall(engine: str, numbers: Path, tmp_path: Path) -> None:
    """Tasks end or wait for room, and no attempt is taken for stalled, neither meanwhile nor once rows are read again."""
    with session(engine, tmp_path, shard_size="16KiB", stall_timeout=TIMEOUT) as s, warnings.catch_warnings():
        warnings.simplefilter("error", mf.StalledWarning)
        rows = iter(s.read_csv(numbers, schema={"n": "int64"}).iter_batches())
        taken = next(rows).num_rows
        time.sleep(TIMEOUT + AFTER)
        assert taken + sum(batch.num_rows for batch in rows) == ROWS

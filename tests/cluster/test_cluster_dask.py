"""Dask for real: workers in processes of their own, killed under way; memory that Dask may not count."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

import mmflow as mf
from mmflow import col
from mmflow import functions as F  # noqa: N812  (as users write it)
from mmflow.engines.dask.engine import disconnect
from mmflow.engines.dask.placement import Load
from tests.waiting import wait_until

from .dask_workers import DaskWorkers, blocks_of, dask_workers
from .slow_scans import ROWS as ROWS_OF_CRAWL
from .slow_scans import SETTINGS, Crawl, counted, write_rows

ROWS = 40_000
KEYS = 101


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dask") / "orders.csv"
    path.write_text("id,k,v\n" + "".join(f"{i},{i % KEYS},{i * 3}\n" for i in range(ROWS)))
    return path


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskWorkers]:
    with dask_workers(tmp_path, 2) as running:
        yield running
        deadline = time.monotonic() + 10
        while left_behind(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left_behind(tmp_path) == []


def left_behind(folder: Path) -> list[str]:
    """Blocks of the workers that said their addresses in a log here, anywhere; other tests have workers of their own."""
    logs = "".join(path.read_text() for path in folder.glob("worker-*.log"))
    ports = set(re.findall(r"tcp://[\w.]+:(\d+)", logs))
    shared = [path for port in ports for path in Path("/dev/shm").glob(f"mmflow-dask-{port}-*")]
    found = [str(p) for p in [*shared, *folder.glob("mmflow-*")]]
    return [p for p in found if Path(p).exists()]


def session_on(cluster: DaskWorkers, **settings: Any) -> mf.Session:
    known = {"shard_size": "64KiB", "workers": 2, "memory": "256MiB", "spill_dir": str(cluster.folder)}
    return mf.Session(engine="dask", address=cluster.address, **{**known, **settings})


class Gate:
    """A function for `map_batches` that says that it runs, and waits until it may go on."""

    def __init__(self, folder: Path, only_first: bool = False) -> None:
        self.folder = folder
        self.only_first = only_first

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        open(self.folder / f"at-{os.getpid()}", "w").close()
        deadline = time.monotonic() + 100
        while not (self.folder / "go").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return batch

    def when_reached(self, act: Callable[[list[int]], None]) -> threading.Thread:
        """Call `act` with the processes that wait; then let all go on."""

        def watch() -> None:
            while not (found := list(self.folder.glob("at-*"))):
                time.sleep(0.01)
            try:
                act([int(p.name[3:]) for p in found])
            finally:
                (self.folder / "go").touch()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        return thread


def grouped(session: mf.Session, path: Path, gate: Gate) -> list[dict[str, Any]]:
    """An exchange by key, with the gate in the stage that reads it, and another exchange behind."""
    sums = session.read_csv(str(path)).group_by("k").agg(F.sum(col("v")).alias("s"))
    held = sums.map_batches(gate, schema={"k": "int64", "s": "int64"})
    rows: list[dict[str, Any]] = held.sort("k").to_arrow().to_pylist()
    return rows


WANTED = [{"k": k, "s": sum(3 * i for i in range(k, ROWS, KEYS))} for k in range(KEYS)]


def nanny_of(pid: int, cluster: DaskWorkers) -> int:
    """Return the nanny of a worker process."""
    ancestors = {p.pid for p in psutil.Process(pid).parents()} | {pid}
    (number,) = [n for n, w in enumerate(cluster.workers) if w.pid in ancestors]
    return number


def test_a_worker_process_killed_in_an_exchange(cluster: DaskWorkers, orders: Path, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    killed = gate.when_reached(lambda pids: os.kill(pids[0], signal.SIGKILL))
    with session_on(cluster, partitions=4) as session:
        assert grouped(session, orders, gate) == WANTED
        killed.join()
        assert session.last_run is not None
        assert session.last_run.retries >= 1


def test_a_node_killed_in_an_exchange(cluster: DaskWorkers, orders: Path, tmp_path: Path) -> None:
    """Nanny and worker, for good: their blocks are made again by what is left."""
    gate = Gate(tmp_path)

    def act(pids: list[int]) -> None:
        os.killpg(cluster.workers[nanny_of(pids[0], cluster)].pid, signal.SIGKILL)

    killed = gate.when_reached(act)
    with session_on(cluster, partitions=4) as session:
        assert grouped(session, orders, gate) == WANTED
        killed.join()


def test_blocks_that_vanish_are_made_again(cluster: DaskWorkers, orders: Path, tmp_path: Path) -> None:
    """Files of blocks deleted, and others damaged, under a consumer that has not read them yet."""
    gate = Gate(tmp_path)

    def act(pids: list[int]) -> None:
        del pids
        files = blocks_of(cluster.address)
        assert files
        for file in files[::2]:
            file.unlink()

    done = gate.when_reached(act)
    with session_on(cluster, partitions=8) as session:
        assert grouped(session, orders, gate) == WANTED
        done.join()
        assert session.last_run is not None
        assert session.last_run.retries >= 1


def test_errors_of_functions_are_not_tried_again(cluster: DaskWorkers, orders: Path, tmp_path: Path) -> None:
    def wrong(batch: pa.RecordBatch) -> pa.RecordBatch:
        with open(tmp_path / "calls", "a") as file:
            file.write("x")
        raise ValueError("no")

    with session_on(cluster, shard_size="1GiB") as session:
        t = session.read_csv(str(orders)).map_batches(wrong, schema={"x": "int64"})
        with pytest.raises(mf.UserFunctionError, match="raised ValueError: no"):
            t.to_arrow()
    assert (tmp_path / "calls").read_text() == "x"


def test_a_slow_task_gets_a_second_attempt(
    cluster: DaskWorkers, orders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt at one shard hangs; another worker does it."""
    monkeypatch.setattr("mmflow.engines.loop.SLOW_SECONDS", 1.0)

    def once(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.column("id")[0].as_py() == 0:
            try:
                os.close(os.open(tmp_path / "hung", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return batch
            while not (tmp_path / "over").exists():
                time.sleep(0.01)
        return batch

    with session_on(cluster) as session:
        t = session.read_csv(str(orders)).map_batches(
            once, schema={"id": "int64", "k": "int64", "v": "int64"}
        )
        assert t.agg(F.count().alias("n")).to_arrow().to_pylist() == [{"n": ROWS}]
        (tmp_path / "over").touch()
        assert session.last_run is not None
        assert session.last_run.stragglers == 1


def test_a_slow_scan_stops_early_and_others_read_the_remainder(
    cluster: DaskWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that stopped early is recomputed as far as it went, when its blocks vanish under its readers."""
    monkeypatch.setattr("mmflow.engines.loop.SLOW_SECONDS", 1.0)
    path, crawl, gate = tmp_path / "rows.csv", Crawl(tmp_path / "notes"), Gate(tmp_path)
    write_rows(path)
    given: list[int] = []

    def act(pids: list[int]) -> None:
        del pids
        given.append(crawl.rows())
        for file in blocks_of(cluster.address):
            file.unlink()

    done = gate.when_reached(act)
    with session_on(cluster, **SETTINGS) as session:
        assert counted(session, path, crawl, gate) == [1]
        done.join()
        assert given == [ROWS_OF_CRAWL], "each row once, up to then"
        assert len(crawl.processes()) == 2
        assert session.last_run is not None
        assert session.last_run.stragglers >= 1
        assert session.last_run.retries >= 1


class Freezer:
    """A function for `map_batches` that stops its process, in each of up to `most` processes once."""

    def __init__(self, folder: Path, most: int) -> None:
        folder.mkdir()
        self.folder = folder
        self.most = most

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for number in range(self.most):
            if str(os.getpid()) in self.frozen():
                break
            try:
                os.symlink(str(os.getpid()), self.folder / str(number))
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGSTOP)
        return batch

    def frozen(self) -> list[str]:
        """Processes that were stopped."""
        return [os.readlink(path) for path in sorted(self.folder.iterdir())]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are silent after two seconds, and all of them for too long after two more."""
    monkeypatch.setattr("mmflow.engines.dask.health._LOOK_SECONDS", 0.5)
    monkeypatch.setattr("mmflow.engines.dask.health._SILENT_SECONDS", 2.0)
    monkeypatch.setattr("mmflow.engines.dask.health._ALL_SILENT_SECONDS", 6.0)
    monkeypatch.setattr("mmflow.engines.dask.health._STOPPED_SECONDS", 0.5)
    monkeypatch.setattr("mmflow.engines.dask.health.ANSWER_SECONDS", 3.0)
    monkeypatch.setattr("mmflow.engines.dask.connection.ANSWER_SECONDS", 3.0)
    monkeypatch.setattr("mmflow.engines.dask.connection._ANY_SECONDS", 3.0)


@pytest.mark.usefixtures("hurried")
def test_workers_that_are_stopped_are_replaced_by_their_nannies(
    cluster: DaskWorkers, orders: Path, tmp_path: Path
) -> None:
    """All of them, so that nobody is left for second attempts."""
    freezer = Freezer(tmp_path / "frozen", 2)
    with session_on(cluster, partitions=4) as session:
        read = session.read_csv(str(orders))
        frozen = read.map_batches(freezer, schema=read.schema)
        rows = frozen.group_by("k").agg(F.sum(col("v")).alias("s")).sort("k").to_arrow().to_pylist()
        assert rows == WANTED
        assert session.last_run is not None
        assert session.last_run.retries >= 2
    assert len(freezer.frozen()) == 2
    assert not [pid for pid in freezer.frozen() if psutil.pid_exists(int(pid))]


def test_tasks_of_an_ended_run_that_hang_hold_up_no_later_run(
    cluster: DaskWorkers, orders: Path, tmp_path: Path
) -> None:
    """Dask gives a worker further tasks, though its one thread is still in a function of a cancelled task."""

    def hang(batch: pa.RecordBatch) -> pa.RecordBatch:
        if (
            batch["id"][0].as_py() <= 12_000 <= batch["id"][-1].as_py()
        ):  # in one of the first tasks, which are sent at once
            (tmp_path / "hangs").touch()
            while not (tmp_path / "go").exists():
                time.sleep(0.01)
        return batch

    try:
        with session_on(cluster) as session:
            read = session.read_csv(str(orders))
            rows = iter(read.map_batches(hang, schema=read.schema).iter_batches())
            next(rows)
            wait_until((tmp_path / "hangs").exists, "the function")
            rows.close()  # type: ignore[attr-defined]  # it is a generator
        # A task for each worker: of more, Dask gives some to others.
        with session_on(cluster, shard_size="256KiB") as session:
            assert session.read_csv(str(orders)).count() == ROWS
        disconnect()
        with session_on(cluster, shard_size="256KiB", stall_after=2.0) as session:  # as another process would
            assert session.read_csv(str(orders)).count() == ROWS
    finally:
        (tmp_path / "go").touch()


def test_tasks_sent_to_a_last_worker_that_has_just_left(
    orders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask keeps them for it, though it may give them to others: they once waited for ever."""
    choose, gone = Load.worker, ""

    with dask_workers(tmp_path, 1, "--no-nanny") as cluster, session_on(cluster, partitions=1) as session:

        def late(load: Load, *arguments: Any) -> str:
            """Return the worker that was chosen; it leaves before anything is sent to it."""
            nonlocal gone
            chosen = choose(load, *arguments)
            if not gone:
                gone = chosen
                os.killpg(cluster.workers[0].pid, signal.SIGKILL)
                deadline = time.monotonic() + 60
                while load._link.health.threads:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                cluster.start("--no-nanny")
            return gone if not load._link.health.threads else chosen

        monkeypatch.setattr(Load, "worker", late)
        sums = session.read_csv(str(orders)).group_by("k").agg(F.sum(col("v")).alias("s"))
        assert sums.sort("k").to_arrow().to_pylist() == WANTED
        assert gone


@pytest.mark.nightly
@pytest.mark.usefixtures("hurried")
def test_workers_that_are_stopped_and_have_no_nanny(orders: Path, tmp_path: Path) -> None:
    """One gets no more tasks, and its last one, the first of its stage, a second attempt; all are an error."""
    with dask_workers(tmp_path, 2, "--no-nanny") as cluster:
        try:
            assert frozen_sums(cluster, orders, tmp_path / "first", 1) == WANTED
            states = [psutil.Process(worker.pid).status() for worker in cluster.workers]
            assert states.count(psutil.STATUS_STOPPED) == 1
            with pytest.raises(
                mf.EngineError, match=r"no worker of the Dask cluster at .* has been heard of"
            ):
                frozen_sums(cluster, orders, tmp_path / "second", 1)
        finally:
            thaw(cluster)


@pytest.mark.nightly
@pytest.mark.usefixtures("hurried")
def test_a_session_joins_where_workers_are_stopped(orders: Path, tmp_path: Path) -> None:
    with dask_workers(tmp_path, 2, "--no-nanny") as cluster:
        try:
            os.kill(cluster.workers[0].pid, signal.SIGSTOP)
            assert frozen_sums(cluster, orders, tmp_path / "first", 0) == WANTED
            disconnect()
            os.kill(cluster.workers[1].pid, signal.SIGSTOP)
            with pytest.raises(mf.EngineError, match=r"no worker of the Dask cluster at .* answers"):
                frozen_sums(cluster, orders, tmp_path / "second", 0)
        finally:
            thaw(cluster)
        assert frozen_sums(cluster, orders, tmp_path / "third", 0) == WANTED, "they go on"


def frozen_sums(cluster: DaskWorkers, path: Path, folder: Path, most: int) -> list[dict[str, Any]]:
    """Sums by key, whose one task stops its worker."""
    freezer = Freezer(folder, most)
    with session_on(cluster, partitions=1) as session:
        sums = session.read_csv(str(path)).group_by("k").agg(F.sum(col("v")).alias("s"))
        rows: list[dict[str, Any]] = (
            sums.map_batches(freezer, schema=sums.schema).sort("k").to_arrow().to_pylist()
        )
        return rows


def thaw(cluster: DaskWorkers) -> None:
    for worker in cluster.workers:
        os.kill(worker.pid, signal.SIGCONT)


@pytest.mark.nightly
@pytest.mark.usefixtures("hurried")
def test_a_scheduler_that_is_stopped_is_an_error(cluster: DaskWorkers, orders: Path, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    try:
        stopped = gate.when_reached(lambda pids: os.kill(cluster.scheduler.pid, signal.SIGSTOP))
        with (
            session_on(cluster) as session,
            pytest.raises(mf.EngineError, match=r"the Dask scheduler at .* does not answer"),
        ):
            grouped(session, orders, gate)
        stopped.join()
    finally:
        os.kill(cluster.scheduler.pid, signal.SIGCONT)


def test_scanning_more_than_a_worker_may_have_neither_pauses_nor_kills_it(tmp_path: Path) -> None:
    """Mapped pages are not the worker's memory: the file is larger than its limit, and so is what is mapped of it."""
    path = tmp_path / "large.txt"
    line = b"x" * 99 + b"\n"
    with path.open("wb") as file:
        for _ in range(6):
            file.write(line * 1_000_000)
    with dask_workers(tmp_path, 1, "--memory-limit", "500MB") as cluster:
        with session_on(cluster, shard_size="600MB", workers=1) as session:
            t = session.read_text(str(path))
            for _ in range(2):
                assert session.sql(
                    "SELECT count(*) AS n FROM t WHERE line LIKE '%y%'", t=t
                ).to_arrow().to_pylist() == [{"n": 0}]
        said = "".join(p.read_text() for p in tmp_path.glob("*.log"))
        assert "Pausing" not in said
        assert "Restarting" not in said
    path.unlink()

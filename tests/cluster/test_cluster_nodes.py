"""Several nodes, some of which get lost: the rows are those of the local engine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from ray.experimental import internal_kv

import mmflow as mf
from mmflow import col
from mmflow import functions as F  # noqa: N812  (as users write it)
from mmflow.private_apis.ray_internals import local_object_bytes
from mmflow.scheduler.progress import Progress
from tests.cluster.conftest import Nodes, OpenSession
from tests.cluster.gates import Gate
from tests.cluster.queries import GROUPED, SCHEMA, grouped_rows
from tests.cluster.slow_scans import ROWS, SETTINGS, Crawl, counted, write_rows
from tests.waiting import wait_until


class Thread:
    """A query that runs while the test does something else."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._result: list[Any] = []
        self._error: list[BaseException] = []

        def call() -> None:
            try:
                self._result.append(run())
            except BaseException as error:
                self._error.append(error)

        self._thread = threading.Thread(target=call, daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def result(self, seconds: float = 120) -> Any:
        self._thread.join(seconds)
        assert not self.alive(), "the query hangs"
        if self._error:
            raise self._error[0]
        return self._result[0]


def _wait(query: Thread, true: Callable[[], object], what: str) -> None:
    """Wait for an event, but not for a query that has ended before it."""

    def ready() -> bool:
        happened = bool(true())
        if not happened and not query.alive():
            query.result()
            pytest.fail(f"the query ended before {what}")
        return happened

    wait_until(ready, what)


def test_an_exchange_and_a_sort_over_two_nodes(
    open_session: OpenSession, local: mf.Session, rows_csv: Path, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    gate.open()
    session = open_session(partitions=4)
    read = session.read_csv(str(rows_csv), schema=SCHEMA)
    got = session.sql(GROUPED, t=read.map_batches(gate.waiting_at(-1), schema=read.schema)).to_arrow()
    assert got.equals(grouped_rows(local, rows_csv))
    assert got.num_rows == 40_000
    assert len(set(gate.seen())) == 2, "both nodes had a part in it"
    assert session.last_run is not None
    assert session.last_run.retries == 0


class Watched:
    """Last progress of a session's run."""

    def __init__(self) -> None:
        self.progress: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self.progress = progress

    def running(self, stage: int) -> int:
        """Tasks of a stage that are under way; none before it began."""
        return self.progress.stages[stage].running if self.progress else 0


@pytest.mark.parametrize("victim", ["with finished blocks", "under a running task"])
def test_a_node_lost_while_an_exchange_is_filled(
    victim: str, open_session: OpenSession, local: mf.Session, nodes: Nodes, rows_csv: Path, tmp_path: Path
) -> None:
    """One producer waits, so no consumer has begun; all others are done, and their blocks lie on both nodes."""
    gate, watched = Gate(tmp_path / "gate"), Watched()
    session = open_session(partitions=2, shard_size="640KiB", on_progress=watched)
    read = session.read_csv(str(rows_csv), schema=SCHEMA)
    mapped = read.map_batches(gate.waiting_at(30_000), schema=read.schema)
    query = Thread(lambda: session.sql(GROUPED, t=mapped).to_arrow())
    _wait(query, lambda: gate.started() and watched.running(0) == 1, "all producers but one to be done")
    held = gate.started()
    assert held is not None
    (other,) = set(nodes.by_id) - {held[0]}
    assert other in gate.seen()
    nodes.kill(other if victim == "with finished blocks" else held[0])
    gate.open()
    got = query.result()
    assert got.equals(grouped_rows(local, rows_csv))
    assert session.last_run is not None
    assert session.last_run.retries >= 1


def test_a_node_lost_under_a_task_that_reads_an_exchange(
    open_session: OpenSession, local: mf.Session, nodes: Nodes, rows_csv: Path, tmp_path: Path
) -> None:
    """The reader is begun anew elsewhere, and what lay on the node is made again for it."""
    gate = Gate(tmp_path / "gate")
    session = open_session(partitions=2, shard_size="640KiB")
    query = "SELECT k AS id, count(*) AS n, max(s) AS s FROM t GROUP BY k"
    grouped = session.sql(query, t=session.read_csv(str(rows_csv), schema=SCHEMA))
    run = Thread(lambda: grouped.map_batches(gate.waiting_at(7), schema=grouped.schema).to_arrow())
    _wait(run, gate.started, "a reader to wait")
    held = gate.started()
    assert held is not None
    nodes.kill(held[0])
    gate.open()
    wanted = local.sql(query, t=local.read_csv(str(rows_csv), schema=SCHEMA)).to_arrow()
    assert run.result().sort_by("id").equals(wanted.sort_by("id"))
    assert session.last_run is not None
    assert session.last_run.retries >= 1


def test_a_slow_scan_stops_early_and_others_read_the_remainder(
    open_session: OpenSession, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that stopped early is recomputed as far as it went, when all nodes that have its blocks are lost."""
    monkeypatch.setattr("mmflow.engines.loop.SLOW_SECONDS", 1.0)
    path, crawl, gate = tmp_path / "rows.csv", Crawl(tmp_path / "notes"), Gate(tmp_path / "gate")
    write_rows(path)
    session = open_session(**SETTINGS)
    query = Thread(lambda: counted(session, path, crawl, gate.waiting_at(ROWS // 5)))
    _wait(query, gate.started, "a reader to wait")
    assert crawl.rows() == ROWS, "each row once, up to then"
    assert len(crawl.processes()) == 2
    for node in list(nodes.by_id):
        nodes.kill(node)
    nodes.add()
    gate.open()
    assert query.result() == [1]
    assert crawl.rows() > ROWS, "some were read again"
    assert session.last_run is not None
    assert session.last_run.stragglers >= 1
    assert session.last_run.retries >= 1
    assert not internal_kv._internal_kv_list("", namespace="mmflow")


@pytest.mark.parametrize("reader", ["the next stage", "the caller"])
def test_a_worker_killed_under_its_task_is_a_retry_in_the_report(
    reader: str, open_session: OpenSession, rows_csv: Path, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    session = open_session()
    read = session.read_csv(str(rows_csv), schema=SCHEMA)
    mapped = read.map_batches(gate.waiting_at(20_000), schema=read.schema)
    summed = mapped.agg(F.sum(col("id")).alias("id")) if reader == "the next stage" else mapped
    query = Thread(lambda: pc.sum(summed.to_arrow().column("id")).as_py())
    _wait(query, gate.started, "the task to wait")
    held = gate.started()
    assert held is not None
    os.kill(held[1], signal.SIGKILL)
    assert query.result() == 40_000 * 39_999 // 2
    assert session.last_run is not None
    assert session.last_run.retries == 1


def test_a_task_that_always_kills_its_worker_ends_the_run(
    open_session: OpenSession, rows_csv: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "attempts"
    folder.mkdir()

    def suicidal(batch: pa.RecordBatch) -> pa.RecordBatch:
        (folder / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
        return batch

    session = open_session(retries=1, shard_size="64MiB")
    read = session.read_csv(str(rows_csv), schema=SCHEMA)
    with pytest.raises(mf.EngineError, match=r"lost its worker 2 times.*memory"):
        read.map_batches(suicidal, schema=read.schema).to_arrow()
    assert len(list(folder.iterdir())) == 2


def test_errors_of_users_are_not_tried_again(
    open_session: OpenSession, rows_csv: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()

    def wrong(batch: pa.RecordBatch) -> pa.RecordBatch:
        (folder / str(time.monotonic_ns())).touch()
        raise KeyError("no such thing")

    session = open_session(shard_size="64MiB")
    read = session.read_csv(str(rows_csv), schema=SCHEMA)
    with pytest.raises(mf.UserFunctionError, match="'wrong' raised KeyError"):
        read.map_batches(wrong, schema=read.schema).to_arrow()
    assert len(list(folder.iterdir())) == 1


def test_errors_of_data_are_not_tried_again(open_session: OpenSession, tmp_path: Path) -> None:
    folder, path = tmp_path / "calls", tmp_path / "bad.csv"
    folder.mkdir()
    path.write_text("id\n" + "\n".join(map(str, range(1000))) + "\nx\n")

    def seen(batch: pa.RecordBatch) -> pa.RecordBatch:
        (folder / str(time.monotonic_ns())).touch()
        return batch

    session = open_session()
    read = session.read_csv(str(path), schema={"id": "int64"}, on_bad_record="error")
    with pytest.raises(mf.BadRecordError, match="line 1,002"):
        read.map_batches(seen, schema=read.schema).to_arrow()
    assert len(list(folder.iterdir())) <= 1


@pytest.mark.parametrize("manners", ["polite", "stubborn"])
def test_an_iterator_that_is_closed_stops_its_tasks(
    manners: str, open_session: OpenSession, rows_csv: Path, tmp_path: Path
) -> None:
    """A function that does not hear the cancel has its worker killed."""
    folder = tmp_path / "tasks"
    folder.mkdir()

    def endless(batch: pa.RecordBatch) -> pa.RecordBatch:
        if pc.any(pc.equal(batch.column("id"), 0)).as_py():
            return batch
        mark = folder / str(os.getpid())
        mark.touch()
        while True:
            try:
                time.sleep(0.01)
            except BaseException:
                if manners == "polite":
                    mark.unlink()
                    raise

    def running() -> list[str]:
        return [p.name for p in folder.iterdir() if manners == "polite" or Path("/proc", p.name).exists()]

    session = open_session()
    read = session.read_csv(str(rows_csv), schema=SCHEMA)
    rows = iter(read.map_batches(endless, schema=read.schema).iter_batches())
    assert next(rows).num_rows
    wait_until(running, "a task that does not end")
    began = time.monotonic()
    rows.close()  # type: ignore[attr-defined]  # an iterator to users, a generator here
    assert time.monotonic() - began < 30, "it waits for tasks that do not end"
    wait_until(lambda: not running(), "the tasks to stop")


def test_versions_that_differ_are_named_before_work_starts(
    open_session: OpenSession, nodes: Nodes, rows_csv: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "datafusion-99.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: datafusion\nVersion: 99.1\n")
    node = nodes.add(num_cpus=0, env_vars={"PYTHONPATH": str(other.parent)})
    try:
        session = open_session()
        with pytest.raises(mf.EngineError, match=r"datafusion is .* here and 99\.1 on node"):
            session.read_csv(str(rows_csv), schema=SCHEMA).to_arrow()
    finally:
        nodes.kill(node)


def test_rows_of_the_result_lie_in_the_object_store(open_session: OpenSession, rows_csv: Path) -> None:
    session = open_session(shard_size="640KiB")
    batches = list(session.read_csv(str(rows_csv), schema=SCHEMA).iter_batches())
    mapped = [
        [int(part, 16) for part in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "plasma" in line
    ]
    # Numbers; text is turned from views into what users are used to.
    buffers = [b for batch in batches for c in batch.columns[:4] for b in c.buffers() if b is not None]
    assert len(buffers) >= 4 * 8
    assert all(any(first <= b.address < last for first, last in mapped) for b in buffers)


def test_small_blocks_do_not_pile_up_in_the_driver(open_session: OpenSession, rows_csv: Path) -> None:
    """Ray sends objects of up to 100 KiB to the driver itself: here 80 of them wait for the sort, 5 MiB."""
    most = 0

    def watch(_: Progress) -> None:
        nonlocal most
        most = max(most, local_object_bytes())

    session = open_session(shard_size="64KiB", memory="32MiB", partitions=2, on_progress=watch)
    read = session.read_csv(str(rows_csv), schema=SCHEMA)
    assert session.sql("SELECT id, s FROM t ORDER BY k", t=read).to_arrow().num_rows == 40_000
    assert 0 < most < 3 << 20


def test_workers_that_are_stopped_are_killed(
    open_session: OpenSession,
    local: mf.Session,
    rows_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them, so that nobody is left for second attempts."""
    monkeypatch.setattr("mmflow.engines.ray.stopped._LOOK_SECONDS", 1.0)
    folder = tmp_path / "stopped"
    folder.mkdir()

    def stopping(batch: pa.RecordBatch) -> pa.RecordBatch:
        for name in "ab":
            if str(os.getpid()) in map(os.readlink, folder.iterdir()):
                break
            with contextlib.suppress(FileExistsError):  # another worker was first
                os.symlink(str(os.getpid()), folder / name)
                os.kill(os.getpid(), signal.SIGSTOP)
        return batch

    session = open_session(partitions=2)
    read = session.read_csv(str(rows_csv), schema=SCHEMA)
    query = Thread(lambda: session.sql(GROUPED, t=read.map_batches(stopping, schema=SCHEMA)).to_arrow())
    assert query.result().equals(grouped_rows(local, rows_csv))
    assert len(list(folder.iterdir())) == 2
    assert session.last_run is not None
    # On a slow machine, a speculative attempt may be faster than the search for stopped workers.
    assert session.last_run.retries + session.last_run.stragglers >= 2


@pytest.mark.nightly
def test_a_node_that_is_stopped_is_lost(
    open_session: OpenSession, local: mf.Session, nodes: Nodes, rows_csv: Path, tmp_path: Path
) -> None:
    """The node's raylet and its worker are stopped."""
    gate = Gate(tmp_path / "gate")
    session = open_session(partitions=2)
    read = session.read_csv(str(rows_csv), schema=SCHEMA)
    query = Thread(
        lambda: session.sql(GROUPED, t=read.map_batches(gate.waiting_at(30_000), schema=SCHEMA)).to_arrow()
    )
    _wait(query, gate.started, "the task to wait")
    held = gate.started()
    assert held is not None
    node, worker = held
    raylet = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    for process in (raylet, worker):
        os.kill(process, signal.SIGSTOP)
    try:
        assert query.result().equals(grouped_rows(local, rows_csv))
    finally:
        for process in (raylet, worker):
            os.kill(process, signal.SIGCONT)
        gate.open()
        nodes.kill(node)


def test_one_cluster_may_be_called_by_several_names(
    open_session: OpenSession, nodes: Nodes, rows_csv: Path, spill: Path
) -> None:
    open_session().read_csv(str(rows_csv)).limit(1).to_arrow()
    host, _, port = nodes.address.rpartition(":")
    for name in (host, "localhost", "127.0.0.1", socket.gethostname()):
        with mf.Session(engine="ray", address=f"{name}:{port}", spill_dir=str(spill)) as session:
            assert session.read_csv(str(rows_csv)).limit(1).to_arrow().num_rows == 1
    for address in (None, "auto"):
        with mf.Session(engine="ray", address=address, spill_dir=str(spill)) as session:
            assert session.read_csv(str(rows_csv)).limit(1).to_arrow().num_rows == 1


def test_a_process_is_in_one_cluster_at_a_time(open_session: OpenSession, rows_csv: Path) -> None:
    open_session().read_csv(str(rows_csv)).limit(1).to_arrow()
    with (
        mf.Session(engine="ray", address="127.0.0.1:1") as session,
        pytest.raises(mf.EngineError, match=r"connected to Ray at .*, not 127\.0\.0\.1:1"),
    ):
        session.read_csv(str(rows_csv)).limit(1).to_arrow()

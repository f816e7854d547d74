"""Tasks that wait for what a cluster does not have (any more): resources, and hosts that see their files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from distributed import Client

import mmflow as mf
from tests.cluster.conftest import Nodes
from tests.cluster.dask_workers import DaskWorkers, dask_workers
from tests.cluster.namespaces import why_not
from tests.cluster.ray_nodes import started_node
from tests.cluster.test_cluster_dask import left_behind, session_on
from tests.cluster.test_cluster_nodes import Thread
from tests.waiting import wait_until

ROWS = 20_000
AFTER = 2.0


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "numbers.csv"
    path.write_text("n\n" + "".join(f"{i}\n" for i in range(ROWS)))
    return path


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskWorkers]:
    """A Dask cluster without workers."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with dask_workers(folder, 0) as running:
        yield running
        wait_until(lambda: not left_behind(folder), "all blocks to be gone")


def start(cluster: DaskWorkers, *options: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """Start a worker without a nanny, and wait until it has joined."""
    with Client(cluster.address, set_as_default=False) as client:
        known = len(client.scheduler_info(n_workers=-1)["workers"])
        worker = cluster.start("--no-nanny", *options, prefix=prefix)
        client.wait_for_workers(known + 1, timeout=60)
    return worker


def kill(worker: subprocess.Popen[bytes]) -> None:
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def noting(folder: Path, hold: bool = False) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """A function for `map_batches` that notes its process; with `hold`, it waits for a file `go`."""
    notes = folder / "notes"
    notes.mkdir(exist_ok=True)

    def note(batch: pa.RecordBatch) -> pa.RecordBatch:
        (notes / str(os.getpid())).touch()
        while hold and not (folder / "go").exists():
            time.sleep(0.01)
        return batch

    return note


def noted(folder: Path) -> set[int]:
    return {int(path.name) for path in (folder / "notes").iterdir()}


@contextlib.contextmanager
def stalls() -> Iterator[list[str]]:
    """Texts of stalls that are named meanwhile, in any thread."""
    named: list[str] = []

    def show(message: Warning | str, category: type[Warning], *place: object) -> None:
        del place
        if issubclass(category, mf.StalledWarning):
            named.append(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", mf.StalledWarning)
        warnings.showwarning = show  # type: ignore[assignment]  # it takes whatever comes
        yield named


def wait_for_name(named: list[str], what: str, seconds: float = 60) -> None:
    """Wait until a stall is named by this text, and others perhaps: a worker may take longer than that for its first task."""
    wait_until(lambda: any(what in text for text in named), f"a stall to be named: {what}", seconds)


REASON = why_not()


@pytest.mark.root
@pytest.mark.skipif(REASON is not None, reason=REASON or "")
def test_a_task_of_dask_goes_to_a_worker_that_sees_its_files_and_has_its_resources(
    cluster: DaskWorkers, numbers: Path, tmp_path: Path
) -> None:
    hide = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs tmpfs {numbers.parent} && exec "$@"', "sh")
    start(cluster, "--host", "127.0.0.2")
    start(cluster, "--host", "127.0.0.3", "--resources", "GPU=1 CPU=2", prefix=hide)
    with session_on(cluster, shard_size="32KiB") as session, warnings.catch_warnings():
        warnings.simplefilter("error", mf.StalledWarning)
        read = session.read_csv(numbers, schema={"n": "int64"})

        def mapped(num_gpus: float | None = None, num_cpus: float | None = None) -> mf.Dataset:
            return read.map_batches(
                noting(tmp_path), schema=read.schema, num_gpus=num_gpus, num_cpus=num_cpus
            )

        lacking = r"num_gpus=1: no Dask worker that sees its files \(127\.0\.0\.2\) has as many"
        with pytest.raises(mf.ConfigError, match=lacking):
            mapped(num_gpus=1).count()
        assert mapped(num_cpus=2).count() == ROWS, "no worker there says how many it has"
        (tmp_path / "notes").rename(tmp_path / "before")
        able = start(cluster, "--host", "127.0.0.2", "--resources", "GPU=1")
        assert mapped(num_gpus=1, num_cpus=2).count() == ROWS
        assert noted(tmp_path) == {able.pid}


@pytest.mark.nightly
@pytest.mark.parametrize("comes", [True, False], ids=["another comes", "none comes"])
@pytest.mark.parametrize("gpu", [True, False], ids=["GPU", "any worker"])
def test_the_last_worker_of_dask_that_can_take_a_task_leaves(
    comes: bool, gpu: bool, cluster: DaskWorkers, numbers: Path, tmp_path: Path
) -> None:
    options = ("--resources", "GPU=1") if gpu else ()
    leaves = start(cluster, *options)
    if gpu:
        start(cluster)
    timeout = 0.0 if comes else 3 * AFTER
    with session_on(cluster, stall_after=AFTER, stall_timeout=timeout) as session, stalls() as named:
        read = session.read_csv(numbers, schema={"n": "int64"})
        mapped = read.map_batches(
            noting(tmp_path, hold=True), schema=read.schema, num_gpus=1 if gpu else None
        )
        query = Thread(mapped.count)
        wait_until(lambda: noted(tmp_path), "the function")
        kill(leaves)
        began = time.monotonic()
        (tmp_path / "go").touch()
        lack = "there is no worker with GPU=1 any more" if gpu else "the Dask cluster has no worker"
        wait_for_name(named, f"it has not begun: {lack}")
        print(f"\nnamed after {time.monotonic() - began:.1f} s: {named[-1]}")
        if comes:
            start(cluster, *options)
            assert query.result() == ROWS
        else:
            with pytest.raises(mf.StalledError, match=f"it has not begun: {lack}"):
                query.result()
            print(f"failed after {time.monotonic() - began:.1f} s")
            start(cluster)
            assert read.count() == ROWS  # it also removes what the killed one has left


@pytest.mark.nightly
def test_a_lost_block_of_dask_that_no_worker_can_recompute(
    cluster: DaskWorkers, numbers: Path, tmp_path: Path
) -> None:
    """The blocks of a stage that needs a GPU are lost with its worker, while other workers read them."""
    leaves = start(cluster, "--resources", "GPU=1")
    (tmp_path / "reading").mkdir()
    read_note, gpu_note = noting(tmp_path / "reading", hold=True), noting(tmp_path)
    with session_on(cluster, stall_after=AFTER, partitions=2) as session, stalls() as named:
        read = session.read_csv(numbers, schema={"n": "int64"})
        on_gpu = read.map_batches(gpu_note, schema=read.schema, num_gpus=1)
        grouped = on_gpu.group_by("n").agg(mf.functions.count().alias("c"))
        query = Thread(grouped.map_batches(read_note, schema=grouped.schema).count)
        wait_until(lambda: noted(tmp_path / "reading"), "the readers")
        start(cluster)
        kill(leaves)
        (tmp_path / "reading" / "go").touch()
        lack = "a block that it reads was lost, and to recompute it, there is no worker with GPU=1 any more"
        wait_for_name(named, lack)
        start(cluster, "--resources", "GPU=1")
        assert query.result() == ROWS


# ---- Ray ----------------------------------------------------------------------------------------


RAY_AFTER = 4.0
#: A busy machine takes a while to start workers.
SECONDS = 180.0


def session_of(ray_cluster: Nodes, folder: Path, **settings: Any) -> mf.Session:
    known = {"shard_size": "64KiB", "workers": 2, "memory": "256MiB", "spill_dir": str(folder)}
    return mf.Session(engine="ray", address=ray_cluster.address, **{**known, **settings})


def one_node(ray_cluster: Nodes) -> None:
    while len(ray_cluster.by_id) < 1:
        ray_cluster.add()


def blind_node(
    ray_cluster: Nodes, folder: Path, *options: str
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A node of the cluster that does not see the files of a folder."""
    hide = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs tmpfs {folder} && exec "$@"', "sh")
    return started_node(ray_cluster.address, folder.parent / "blind-node.log", *options, prefix=hide)


@pytest.mark.nightly
@pytest.mark.parametrize("comes", [True, False], ids=["another comes", "none comes"])
def test_the_last_node_of_ray_with_enough_processors_leaves(
    comes: bool, ray_cluster: Nodes, numbers: Path, tmp_path: Path
) -> None:
    for node in list(ray_cluster.by_id):
        ray_cluster.kill(node)
    leaves = ray_cluster.add(num_cpus=2)
    timeout = 0.0 if comes else 2 * RAY_AFTER
    with (
        session_of(ray_cluster, tmp_path, stall_after=RAY_AFTER, stall_timeout=timeout) as session,
        stalls() as named,
    ):
        read = session.read_csv(numbers, schema={"n": "int64"})
        mapped = read.map_batches(noting(tmp_path, hold=True), schema=read.schema, num_cpus=2)
        query = Thread(mapped.count)
        wait_until(lambda: noted(tmp_path), "the function", SECONDS)
        ray_cluster.kill(leaves)
        began = time.monotonic()
        (tmp_path / "go").touch()
        lack = "it has not begun: it asks for CPU=2, and there is no node with as much"
        wait_for_name(named, lack)
        print(f"\nnamed after {time.monotonic() - began:.1f} s: {named[-1]}")
        if comes:
            again = ray_cluster.add(num_cpus=2)
            assert query.result(SECONDS) == ROWS
            ray_cluster.kill(again)
        else:
            with pytest.raises(mf.StalledError, match=lack):
                query.result(SECONDS)
            print(f"failed after {time.monotonic() - began:.1f} s")


@pytest.mark.nightly
def test_more_processors_than_any_node_of_ray_has(ray_cluster: Nodes, numbers: Path, tmp_path: Path) -> None:
    """It is no error at once: a cluster that grows on demand may come to have them."""
    one_node(ray_cluster)
    with session_of(ray_cluster, tmp_path, stall_after=RAY_AFTER, stall_timeout=RAY_AFTER) as session:
        read = session.read_csv(numbers, schema={"n": "int64"})
        mapped = read.map_batches(lambda batch: batch, schema=read.schema, num_cpus=64)
        with pytest.raises(mf.StalledError, match="it asks for CPU=64, and there is no node with as much"):
            mapped.count()


@pytest.mark.nightly
@pytest.mark.root
@pytest.mark.skipif(REASON is not None, reason=REASON or "")
def test_gpus_of_nodes_of_ray_that_do_not_see_the_files(
    ray_cluster: Nodes, numbers: Path, tmp_path: Path
) -> None:
    one_node(ray_cluster)
    with session_of(ray_cluster, tmp_path, stall_after=RAY_AFTER, stall_timeout=2 * RAY_AFTER) as session:
        read = session.read_csv(numbers, schema={"n": "int64"})
        assert read.count() == ROWS
        with blind_node(ray_cluster, numbers.parent, "--num-gpus=1"):
            mapped = read.map_batches(noting(tmp_path), schema=read.schema, num_gpus=1)
            lacking = r"num_gpus=1: no node of the Ray cluster that sees its files \(.*\) has as many GPUs"
            with pytest.raises(mf.ConfigError, match=lacking):
                mapped.count()


@pytest.mark.nightly
@pytest.mark.root
@pytest.mark.skipif(REASON is not None, reason=REASON or "")
def test_blocks_lost_with_all_nodes_of_ray_that_see_the_files(
    ray_cluster: Nodes, numbers: Path, tmp_path: Path
) -> None:
    """A node that does not see them reads the blocks then, and can't recompute them: the run ends, and says why."""
    for node in list(ray_cluster.by_id):
        ray_cluster.kill(node)
    seeing = ray_cluster.add()
    (tmp_path / "reading").mkdir()
    read_note = noting(tmp_path / "reading", hold=True)
    # Blocks of less than 100 KiB would be in the memory of the driver.
    with session_of(ray_cluster, tmp_path, partitions=2, shard_size="1MiB") as session:
        read = session.read_csv(numbers, schema={"n": "int64"})
        assert read.count() == ROWS
        grouped = read.group_by("n").agg(mf.functions.count().alias("c"))
        query = Thread(grouped.map_batches(read_note, schema=grouped.schema).count)
        wait_until(lambda: noted(tmp_path / "reading"), "a reader", SECONDS)
        with blind_node(ray_cluster, numbers.parent):
            ray_cluster.kill(seeing)
            began = time.monotonic()
            (tmp_path / "reading" / "go").touch()
            lost = "a block of intermediate rows was lost, and the task that made it failed when run again"
            with pytest.raises(mf.EngineError, match=f"{lost}: .*{numbers.name}"):
                query.result(SECONDS)
            print(f"\nfailed after {time.monotonic() - began:.1f} s")
            ray_cluster.add()
            assert grouped.count() == ROWS

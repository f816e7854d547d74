"""Functions in worker processes: answers, errors, deaths; no zombies, nothing left in shared memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmflow.blocks import shared_memory_folder
from mmflow.engines.processes import ProcessPool
from mmflow.errors import EngineError, UserFunctionError, WorkerLostError
from tests.waiting import wait_until

BATCH = pa.RecordBatch.from_pydict({"n": list(range(1000)), "s": [f"text {i}" for i in range(1000)]})


def children() -> list[str]:
    """Workers that are children of this process, whichever thread started them, zombies included."""
    pids = [p for task in Path("/proc/self/task").glob("*/children") for p in task.read_text().split()]
    return [p for p in pids if b"process_worker" in Path(f"/proc/{p}/cmdline").read_bytes() or _zombie(p)]


def _zombie(pid: str) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[ProcessPool]:
    made = ProcessPool(2, 64 << 20, tmp_path)
    yield made
    made.close()
    assert children() == []
    assert list(tmp_path.iterdir()) == []
    assert shared_by(os.getpid()) == []


def shared_by(pid: int) -> list[str]:
    """Files in shared memory with a process in their name."""
    shm = shared_memory_folder()
    return [] if shm is None else [n for n in os.listdir(shm) if f"-{pid}" in n]


def test_answers(pool: ProcessPool) -> None:
    offset = 10

    def plus(batch: pa.RecordBatch) -> pa.Table:  # a closure: sent by value
        assert os.getpid() != parent
        return pa.table({"n": [v + offset for v in batch.column(0).to_pylist()]})

    parent = os.getpid()
    for _ in range(3):
        (got,) = pool.apply(plus, BATCH)
        assert got.column(0).to_pylist() == list(range(10, 1010))
    assert pool.apply(lambda batch: iter([batch, batch.slice(0, 1)]), BATCH) == [BATCH, BATCH.slice(0, 1)]
    assert pool.apply(lambda b: b.slice(0, 1), BATCH) == [BATCH.slice(0, 1)]
    assert pool.apply(lambda batch: [], BATCH) == []


def test_views_and_dictionaries_travel(pool: ProcessPool) -> None:
    batch = pa.RecordBatch.from_arrays(
        [BATCH.column(1).cast(pa.string_view()), BATCH.column(1).dictionary_encode()], names=["v", "d"]
    )
    assert pool.apply(lambda b: b, batch) == [batch]


def test_workers_work_side_by_side(pool: ProcessPool, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("running")

    def meets_the_other(batch: pa.RecordBatch) -> pa.RecordBatch:
        (folder / str(os.getpid())).touch()
        wait_until(lambda: len(list(folder.iterdir())) > 1, "the other worker")
        return pa.RecordBatch.from_pydict({"pid": [os.getpid()]})

    pool.apply(lambda b: b, BATCH)
    pids: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda: pids.append(pool.apply(meets_the_other, BATCH)[0].column(0)[0].as_py())
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 4
    assert len(set(pids)) == 2


def test_error_of_the_function_says_what_and_where(pool: ProcessPool) -> None:
    def wrong(batch: pa.RecordBatch) -> pa.RecordBatch:
        empty: dict[str, pa.RecordBatch] = {}
        return empty["missing"]

    with pytest.raises(UserFunctionError, match=r"'wrong' raised KeyError: 'missing'") as caught:
        pool.apply(wrong, BATCH)
    assert "in wrong" in caught.value.context["traceback"]
    with pytest.raises(UserFunctionError, match=r"TypeError: it returned int"):
        pool.apply(lambda batch: 7, BATCH)
    with pytest.raises(UserFunctionError, match=r"SystemExit"):
        pool.apply(lambda batch: sys.exit(3), BATCH)
    assert pool.apply(lambda b: b, BATCH) == [BATCH]


def test_function_that_cannot_be_sent(pool: ProcessPool) -> None:
    lock = threading.Lock()

    def holds(batch: pa.RecordBatch) -> pa.RecordBatch:
        with lock:
            return batch

    with pytest.raises(UserFunctionError, match=r"'holds' can't be sent to another process.*lock"):
        pool.apply(holds, BATCH)


class Unloadable:
    def __reduce__(self) -> Any:
        return (__import__, ("no_such_module_anywhere",))


def test_function_that_cannot_be_loaded(pool: ProcessPool) -> None:
    thing = Unloadable()

    def uses(batch: pa.RecordBatch) -> Any:
        return thing and batch

    for _ in range(2):
        with pytest.raises(UserFunctionError, match="no_such_module_anywhere"):
            pool.apply(uses, BATCH)


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGKILL, r"by SIGKILL.*out of memory"), (signal.SIGTERM, "by SIGTERM$")]
)
def test_killed_worker_is_lost_and_replaced(pool: ProcessPool, number: signal.Signals, said: str) -> None:
    def dies(batch: pa.RecordBatch) -> pa.RecordBatch:
        os.kill(os.getpid(), number)
        return batch

    with pytest.raises(WorkerLostError, match=f"killed {said}"):
        pool.apply(dies, BATCH)
    assert children() == [], "the dead were waited for"
    assert pool.apply(lambda b: b, BATCH) == [BATCH]


def test_a_stopped_worker_is_lost_and_replaced(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmflow.engines.processes._STOPPED_CHECKS", 1)

    def stop(batch: pa.RecordBatch) -> pa.RecordBatch:
        os.kill(os.getpid(), signal.SIGSTOP)
        return batch

    with pytest.raises(WorkerLostError, match="SIGSTOP"):
        pool.apply(stop, BATCH)
    assert len(children()) == 0
    assert pool.apply(lambda batch: batch, BATCH) == [BATCH]


def test_a_function_that_ends_its_process_is_named_after_one_retry(
    pool: ProcessPool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = tmp_path_factory.mktemp("log") / "calls"

    def leaves(batch: pa.RecordBatch) -> pa.RecordBatch:
        with log.open("a") as file:
            file.write("called\n")
        os._exit(5)

    def crashes(batch: pa.RecordBatch) -> pa.RecordBatch:
        with log.open("a") as file:
            file.write("called\n")
        os.kill(os.getpid(), signal.SIGSEGV)
        return batch

    with pytest.raises(
        UserFunctionError, match=r"'leaves' ended its worker process, twice: it exited with code 5"
    ):
        pool.apply(leaves, BATCH)
    with pytest.raises(
        UserFunctionError, match=r"'crashes' ended its worker process, twice: killed by SIGSEGV"
    ):
        pool.apply(crashes, BATCH)
    assert log.read_text() == "called\n" * 4
    assert pool.apply(lambda b: b, BATCH) == [BATCH]


def test_prints_do_not_reach_standard_output(pool: ProcessPool, capfd: pytest.CaptureFixture[str]) -> None:
    def talks(batch: pa.RecordBatch) -> pa.RecordBatch:
        print("hello from the function", flush=True)
        return batch

    pool.apply(talks, BATCH)
    assert "hello" not in capfd.readouterr().out


@pytest.mark.alone
def test_close_ends_calls_under_way(pool: ProcessPool, tmp_path_factory: pytest.TempPathFactory) -> None:
    begun = tmp_path_factory.mktemp("call") / "begun"
    failures: list[BaseException] = []

    def sleeps(batch: pa.RecordBatch) -> pa.RecordBatch:
        begun.touch()
        time.sleep(60)
        return batch

    def call() -> None:
        try:
            pool.apply(sleeps, BATCH)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(begun.exists, "the call to begin")
    clock = time.monotonic()
    pool.close()
    thread.join(5)
    assert time.monotonic() - clock < 1.0
    assert isinstance(failures[0], EngineError)
    with pytest.raises(EngineError, match="closed"):
        pool.apply(lambda b: b, BATCH)


PARENT = """
import os, sys, time, threading
import pyarrow as pa
from mmflow.engines.processes import ProcessPool
pool, begun = ProcessPool(1, 1 << 20, sys.argv[1]), sys.argv[2]
batch = pa.RecordBatch.from_pydict({"n": [1]})
def slow(batch):
    open(begun, "w").close()
    time.sleep(600)
    return batch
pool.apply(lambda b: b, batch)
threading.Thread(target=pool.apply, args=(slow, batch), daemon=True).start()
while not os.path.exists(begun):
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(60)
"""


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """A parent that is killed leaves no worker behind, and nothing in memory or on disk."""
    spill, begun = tmp_path / "spill", tmp_path / "begun"
    spill.mkdir()
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(spill), str(begun)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    workers = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    parent.kill()
    parent.wait()
    parent.stdout.close()

    def gone() -> bool:
        return not any(Path(f"/proc/{p}/cmdline").exists() and not _zombie(p) for p in workers)

    wait_until(gone, "the workers to end with their parent", 10)
    assert list(spill.iterdir()) == []
    assert shared_by(parent.pid) == []


def test_beyond_the_budget_batches_go_by_disk_and_leave_nothing(tmp_path: Path) -> None:
    pool = ProcessPool(1, 50_000, tmp_path)
    big = pa.RecordBatch.from_pydict({"n": list(range(100_000))})

    def several(batch: pa.RecordBatch) -> Any:
        return [batch.slice(0, 1000), batch, batch.slice(5, 2000), batch.slice(0, 4000)]

    got = pool.apply(several, big)
    assert got == [big.slice(0, 1000), big, big.slice(5, 2000), big.slice(0, 4000)]
    mappings = Path("/proc/self/maps").read_text().splitlines()
    assert sum(str(tmp_path) in line and "(deleted)" in line for line in mappings) == 2, (
        "big, and what came last"
    )
    assert list(tmp_path.iterdir()) == []
    pool.close()


def test_death_is_noticed_though_a_child_of_the_worker_lives_on(pool: ProcessPool) -> None:
    def forks(batch: pa.RecordBatch) -> pa.RecordBatch:
        child = os.fork()
        if child == 0:
            time.sleep(60)  # with the worker's end of the link open
            os._exit(0)
        pids.write_text(str(child))
        os.kill(os.getpid(), signal.SIGKILL)
        return batch

    pids = Path(pool._spill_dir) / "pid"
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        pool.apply(forks, BATCH)
    os.kill(int(pids.read_text()), signal.SIGKILL)
    pids.unlink()


def test_descriptors_and_mappings_stay_flat(pool: ProcessPool) -> None:
    def count() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count("\n")

    for _ in range(2):  # one for each worker
        pool.apply(lambda b: b, BATCH)
    before = count()
    for _ in range(300):
        pool.apply(lambda b: b, BATCH)
    after = count()
    assert after[0] == before[0]
    assert after[1] < before[1] + 20

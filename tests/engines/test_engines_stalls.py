"""Stalled tasks, injected for real: named with what they do, helped by a second attempt, or failed; no false alarms."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import mmflow as mf

ROWS = 50_000
NUMBER = {"n": "int64"}


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.csv"
    path.write_text("n\n" + "".join(f"{i}\n" for i in range(ROWS)))
    return path


def locked(folder: Path) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """A function for `map_batches`: its first call waits for ever for a lock, the others until that was named."""

    def deadlocked(batch: pa.RecordBatch) -> pa.RecordBatch:
        lock = threading.Lock()
        lock.acquire()
        try:
            (folder / "first").touch(exist_ok=False)
            lock.acquire()
        except FileExistsError:
            deadline = time.monotonic() + 100
            while not (folder / "named").exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
        return batch

    return deadlocked


@contextlib.contextmanager
def named(folder: Path, what: str) -> Iterator[list[str]]:
    """Collect warnings of stalls, and make a file for the first that names `what`."""
    said: list[str] = []

    def show(message: Warning | str, category: type[Warning], *place: object) -> None:
        del place
        if issubclass(category, mf.StalledWarning) and re.search(what, str(message)):
            said.append(str(message))
            (folder / "named").touch()

    with warnings.catch_warnings():
        warnings.simplefilter("always", mf.StalledWarning)
        warnings.showwarning = show  # type: ignore[assignment]  # it takes whatever comes
        yield said


@pytest.mark.parametrize("processes", [False, True])
def test_a_deadlock_is_named_and_helped(numbers: Path, tmp_path: Path, processes: bool) -> None:
    with (
        mf.Session(workers=1, stall_after=0.4, spill_dir=tmp_path) as session,
        named(tmp_path, r":\d+ in deadlocked") as said,
    ):
        rows = session.read_csv(numbers).map_batches(locked(tmp_path), schema=NUMBER, processes=processes)
        assert rows.count() == ROWS
    assert re.match(
        r"task 0 of stage 0 \(scan .*\), attempt \d, has not moved for \d+ s: host .+, process \d+, thread ",
        said[0],
    )
    assert said[0].endswith(f"; it reads {numbers}")
    assert (f"process {os.getpid()}," in said[0]) is not processes


def test_a_stall_fails_the_run_after_its_time(numbers: Path, tmp_path: Path) -> None:
    forever = threading.Event()

    def wait(batch: pa.RecordBatch) -> pa.RecordBatch:
        forever.wait(100)
        return batch

    with mf.Session(workers=1, stall_after=0.3, stall_timeout=0.9, spill_dir=tmp_path) as session:
        rows = session.read_csv(numbers).map_batches(wait, schema=NUMBER)
        with pytest.warns(mf.StalledWarning), pytest.raises(mf.StalledError, match=r"stall_timeout = 0\.9"):
            rows.count()
    forever.set()


def test_a_call_for_a_schema_that_hangs_is_named_and_broken_off(numbers: Path, tmp_path: Path) -> None:
    def deadlocked(batch: pa.RecordBatch) -> pa.RecordBatch:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire(timeout=20)
        return batch

    with (
        mf.Session(workers=1, stall_after=0.2, stall_timeout=0.5, spill_dir=tmp_path) as session,
        named(tmp_path, "to find its schema, has not moved for .* in deadlocked") as said,
        pytest.raises(
            mf.StalledError, match=r"'deadlocked', called with 0 rows .* in deadlocked.*stall_timeout = 0\.5"
        ),
    ):
        session.read_csv(numbers).map_batches(deadlocked)
    assert said


@pytest.mark.nightly
def test_rows_that_nobody_takes_are_no_stall(numbers: Path, tmp_path: Path) -> None:
    """Results wait for their reader, and the tasks behind them for room."""
    with (
        mf.Session(
            workers=1, shard_size="16KiB", stall_after=3, stall_timeout=6, spill_dir=tmp_path
        ) as session,
        warnings.catch_warnings(),
    ):
        rows = iter(session.read_csv(numbers).iter_batches())
        warnings.simplefilter("error", mf.StalledWarning)
        taken = next(rows).num_rows
        time.sleep(10)
        assert taken + sum(batch.num_rows for batch in rows) == ROWS


@pytest.mark.nightly
def test_a_function_that_sleeps_and_moves_now_and_then_does_not_fail(numbers: Path, tmp_path: Path) -> None:
    """Each batch takes longer than `stall_after`, all of them much longer than `stall_timeout`."""

    def slow(batch: pa.RecordBatch) -> pa.RecordBatch:
        time.sleep(3)
        return batch

    with (
        mf.Session(workers=1, retries=0, stall_after=1, stall_timeout=10, spill_dir=tmp_path) as session,
        named(tmp_path, "in slow") as said,
    ):
        assert (
            session.read_csv(numbers).map_batches(slow, schema=NUMBER, batch_rows=ROWS // 8).count() == ROWS
        )
    assert said


@pytest.mark.nightly
def test_an_hour_of_slow_work_is_no_stall(tmp_path: Path) -> None:
    """A stall is a minute, as users have it; each batch sleeps or computes for 40 s (MMFLOW_TEST_SLOW_SECONDS in all)."""
    batches = int(float(os.environ.get("MMFLOW_TEST_SLOW_SECONDS", "3600")) / 40)
    few = tmp_path / "few.csv"
    few.write_text("n\n" + "".join(f"{i}\n" for i in range(batches)))
    turn = itertools.cycle((time.sleep, _compute))

    def slow(batch: pa.RecordBatch) -> pa.RecordBatch:
        next(turn)(40)
        return batch

    with mf.Session(workers=1, spill_dir=tmp_path) as session, warnings.catch_warnings():
        warnings.simplefilter("error", mf.StalledWarning)
        assert session.read_csv(few).map_batches(slow, schema=NUMBER, batch_rows=1).count() == batches


def _compute(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass

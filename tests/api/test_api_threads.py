"""Sessions, datasets, arrays and shared tables used by many threads at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import mmflow as mf
from mmflow import col
from mmflow.errors import EngineError, MmflowError, SinkError, SourceError
from mmflow.plan import planner
from tests.mixed_work import ROWS, THREADS, make_files, together


def ended(call: Callable[[], Any], error: type[Exception]) -> str:
    """Call this again and again until it raises the error that is meant; its words."""
    while True:
        try:
            call()
        except error as message:
            return str(message)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("threads"))


def test_sql_of_one_session_uses_a_name_for_a_table_of_each_call() -> None:
    session = mf.Session(workers=1)
    tables = [pa.table({"v": [n]}) for n in range(THREADS)]

    def asked(table: pa.Table) -> list[Any]:
        # One that is split into stages, one that runs as SQL in one task, and two columns of one name.
        queries = (
            "SELECT v FROM t WHERE v >= 0",
            "SELECT max(v) OVER (), v FROM t",
            "SELECT v + 1, v FROM t",
        )
        return [list(session.sql(q, t=table).to_arrow().to_pylist()[0].values()) for q in queries]

    found = together([partial(asked, t) for t in tables])
    assert found == [[[n], [n, n], [n + 1, n]] for n in range(THREADS)]


def test_what_a_session_keeps_of_a_query_goes_with_its_dataset() -> None:
    session = mf.Session(workers=1)
    table = pa.table({"v": [1, 2]})
    before = len(planner._planned)
    held = [
        session.sql("SELECT a.v, b.v FROM (SELECT unnest([v]) v FROM t) a JOIN t b ON a.v = b.v", t=table),
        session.sql("SELECT sum(v) FROM t", t=table),
    ]
    assert len(planner._planned) - before == 1
    del held
    assert len(planner._planned) - before == 0


def test_there_is_one_default_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmflow.api.session._default", None)
    found = together([lambda: mf.from_arrow({"v": [1]}).context] * THREADS)
    assert len(set(map(id, found))) == 1


def test_the_last_run_is_that_of_the_thread_that_asks(files: Path) -> None:
    session = mf.Session(workers=1)
    ds = session.read_csv(files / "a.csv")

    def counted(n: int) -> int:
        ds.limit(n).to_arrow()
        summary = session.last_run
        assert summary is not None
        return summary.rows

    assert together([partial(counted, n) for n in range(1, 17)]) == list(range(1, 17))
    # A thread that asked for no run sees that of another.
    assert getattr(session.last_run, "rows", 0) in range(1, 17)
    # Rows may be taken by another thread than the one that asked: libraries that read Arrow streams do.
    ds.limit(3).to_arrow()
    with ThreadPoolExecutor(1) as pool:
        batches = ds.limit(5).iter_batches()
        assert sum(b.num_rows for b in pool.submit(list, batches).result()) == 5
    assert getattr(session.last_run, "rows", 0) == 5


def test_two_writers_to_one_output_are_one_that_wins_and_errors(files: Path, tmp_path: Path) -> None:
    with mf.Session(workers=1) as session:
        ds = session.read_csv(files / "a.csv")
        out = str(tmp_path / "out.parquet")
        found = together([lambda: ds.write_parquet(out)] * 8)
        won = [f for f in found if isinstance(f, mf.WriteResult)]
        lost = [f for f in found if not isinstance(f, mf.WriteResult)]
        assert len(won) == 1, found
        assert all(isinstance(error, SinkError) and "out.parquet" in str(error) for error in lost), lost
        assert session.read_parquet(out).count() == ROWS
        assert sorted(p.name for p in tmp_path.iterdir()) == ["out.parquet"]


def test_closing_a_session_that_others_use(files: Path) -> None:
    session = mf.Session(workers=1)
    ds = session.read_csv(files / "a.csv")
    handles: list[mf.SharedTable] = []

    def share() -> str:
        return ended(lambda: handles.append(session.share({"v": [1, 2, 3]})), EngineError)

    def attach() -> str:
        handle = session.share({"v": [4]})
        return ended(lambda: mf.attach(handle), SourceError)

    def run() -> int:
        return sum(ds.filter(col("g") == g).count() for g in range(7))

    def close() -> None:
        while len(handles) < 20:
            run()
        session.close()
        session.close()

    first = [attach, attach]
    found = together([*first, *[share] * 4, *[run] * 4, close])
    assert all("is closed" in message for message in found[2:6]), found
    assert all("gone" in message or "ended" in message or "closed" in message for message in found[:2]), found
    assert found[6:] == [*[ROWS] * 4, None]
    for handle in handles:
        with pytest.raises(SourceError):
            mf.attach(handle)


def test_functions_that_threads_call_for_the_first_time_while_others_plan() -> None:
    session = mf.Session(workers=1)
    ds = session.from_arrow({"v": [1]})

    def called(n: int) -> Any:
        for m in range(20):

            @mf.udf("int64", "int64", name=f"fresh_{n}_{m}")
            def fresh(values: pa.Array) -> pa.Array:
                return values

            ds.select(fresh(col("v")))
            session.context.register_called()

    assert together([partial(called, n) for n in range(16)]) == [None] * 16


def test_warnings_of_a_run_come_in_its_own_thread(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n3\n4,5\n")
    session = mf.Session(workers=1, runs_dir=tmp_path / "runs")
    ds = session.read_csv(bad, on_bad_record="skip")

    def read() -> int:
        ds.to_arrow()
        summary = session.last_run
        assert summary is not None
        return summary.bad_records

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert together([read] * 8) == [1] * 8
    assert sum(issubclass(w.category, mf.BadRecordsWarning) for w in caught) == 8


def test_threads_share_an_array(tmp_path: Path) -> None:
    rows, width = 64, 1_000  # rows of 8,000 bytes: neighbours share pages
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((rows, width)))
    array = mf.open_array(path, "r+")

    def write(n: int) -> None:
        for row in range(n, rows, 16):
            array[row] = row + 1
            assert (array[row] == row + 1).all()

    assert together([partial(write, n) for n in range(16)]) == [None] * 16
    # All that they changed is in one log, and comes back.
    array.roll_back()
    assert not array[:].any()

    def flushed(n: int) -> None:
        write(n)
        array.flush()

    assert together([partial(flushed, n) for n in range(16)]) == [None] * 16
    array.close()
    assert (np.load(path)[:, 0] == np.arange(rows) + 1).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy"]


def test_closing_an_array_that_others_read(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.npy" for n in range(2)]
    for n, path in enumerate(paths):
        np.save(path, np.full(5_000, n))

    def read(array: mf.MappedArray) -> str:
        def look() -> None:
            assert (array[100:200] == 0).all(), "rows of another file"

        return ended(look, ValueError)

    def close(array: mf.MappedArray) -> None:
        array.close()
        for _ in range(20):  # whose descriptors have the number that was closed
            mf.open_array(paths[1])[:].sum()

    for _ in range(20):
        array = mf.open_array(paths[0])
        found = together([*[partial(read, array)] * 6, partial(close, array)])
        assert found[-1] is None
        assert all(str(paths[0]) in message for message in found[:-1]), found


def test_writers_of_one_array_file_in_threads(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    mf.create_array(path, "int64", (100_000,)).close()
    arrays = [mf.open_array(path, "r+") for _ in range(4)]

    def write(n: int) -> str:
        try:
            arrays[n][n::4] = n  # every page
        except SinkError as error:
            return str(error)
        return ""

    found = together([partial(write, n) for n in range(4)])
    assert found.count("") == 1, found
    assert all("another writer" in message for message in found if message)
    for array in arrays:
        array.close()
    assert len(np.unique(np.load(path)[found.index("") :: 4])) == 1


def test_one_thread_at_a_time_takes_the_rows_of_a_run(files: Path) -> None:
    batches = mf.Session(workers=1, shard_size=4096).read_csv(files / "a.csv").iter_batches()
    found = together([lambda: sum(b.num_rows for b in batches)] * 4)
    counted = [f for f in found if isinstance(f, int)]
    message = [f for f in found if not isinstance(f, int)]
    assert sum(counted) <= ROWS
    assert all(isinstance(f, ValueError | MmflowError) for f in message), message

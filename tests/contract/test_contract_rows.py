"""The same rows on every engine, and the same errors."""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from pathlib import Path
from traceback import extract_tb

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow import col
from mmflow import functions as F  # noqa: N812  (as users write it)
from tests.formats.packing import bgzf
from tests.remote.web import serving

ROWS = 20_000


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("contract") / "orders.csv"
    lines = [f'{i},{["north", "south", "east"][i % 3]},{i % 7},{i * 0.5},"note, {i}"' for i in range(ROWS)]
    path.write_text("id,region,rank,amount,note\n" + "\n".join(lines) + "\n")
    return path


QUERIES = {
    "filter": "SELECT id, note FROM t WHERE rank = 3 AND amount > 100",
    "group": "SELECT region, count(*) AS n, sum(amount) AS s, min(note) AS m FROM t GROUP BY region",
    "distinct": "SELECT region, count(DISTINCT rank) AS n FROM t GROUP BY region",
    "median": "SELECT region, median(amount) AS m FROM t GROUP BY region",
    "sort": "SELECT id, note FROM t ORDER BY rank DESC, id",
    "top": "SELECT id FROM t ORDER BY amount DESC LIMIT 5",
    "limit": "SELECT id FROM t LIMIT 7",
    "join": "SELECT a.id, b.note FROM t AS a JOIN t AS b ON a.id = b.id WHERE a.rank = 1",
    "window": "SELECT id, row_number() OVER (PARTITION BY region ORDER BY id) AS n FROM t",
    "places": "SELECT id, _line, _offset FROM t WHERE rank = 6",
    "none": "SELECT * FROM t WHERE id < 0",
    "constant": "SELECT 1 AS one",
}


@pytest.mark.parametrize("name", QUERIES)
def test_queries(name: str, session: mf.Session, local: mf.Session, orders: Path) -> None:
    query = QUERIES[name]
    got, wanted = (
        (s.sql(query, t=s.read_csv(str(orders))) if "FROM t" in query else s.sql(query)).to_arrow()
        for s in (session, local)
    )
    assert got.schema == wanted.schema
    if "ORDER BY" not in query or name == "window":
        keys = [(c, "ascending") for c in got.column_names]
        got, wanted = got.sort_by(keys), wanted.sort_by(keys)
    assert got.equals(wanted)
    assert got.num_rows or name == "none"


def test_blocks_of_bgzf(session: mf.Session, local: mf.Session, orders: Path) -> None:
    """A compressed file whose blocks can be found is cut into shards as the plain one is."""
    packed = orders.with_suffix(".csv.gz")
    packed.write_bytes(bgzf(orders.read_bytes()))
    got, wanted = (
        s.sql("SELECT id, _line, _offset FROM t WHERE rank = 6", t=s.read_csv(str(path))).to_arrow()
        for s, path in ((session, packed), (local, orders))
    )
    assert session.read_csv(str(packed)).source_info().shards > 1
    assert got.equals(wanted)


def test_a_broadcast_join_and_one_by_hash(session: mf.Session, orders: Path) -> None:
    query = "SELECT count(*) AS n, sum(b.amount) AS s FROM t AS a JOIN t AS b ON a.id = b.id"
    wanted = [{"n": ROWS, "s": sum(i * 0.5 for i in range(ROWS))}]
    settings = session.settings
    for broadcast in ("1GiB", "0"):
        with mf.Session(
            engine=settings.engine,
            shard_size="64KiB",
            workers=2,
            memory="512MiB",
            broadcast=broadcast,
            partitions=4,
        ) as other:
            assert other.sql(query, t=other.read_csv(str(orders))).to_arrow().to_pylist() == wanted


@pytest.mark.parametrize("processes", [False, True])
def test_functions_of_users(session: mf.Session, orders: Path, processes: bool) -> None:
    factor = 3  # of this function's frame: it has to travel too

    @mf.udf(["int64"], "int64")
    def thrice(x: pa.Array) -> pa.Array:
        return pc.multiply(x, factor)

    def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([pc.multiply(batch.column("id"), 2)], names=["twice"])

    t = session.read_csv(str(orders))
    made = t.select(thrice(col("id")).alias("x")).agg(F.sum(col("x")).alias("s"))
    assert made.to_arrow().to_pylist() == [{"s": 3 * ROWS * (ROWS - 1) // 2}]
    mapped = (
        t.select(col("id"))
        .map_batches(doubled, schema={"twice": "int64"}, processes=processes)
        .agg(F.sum(col("twice")).alias("s"))
    )
    assert mapped.to_arrow().to_pylist() == [{"s": ROWS * (ROWS - 1)}]


def test_modules_of_users_travel_with_their_functions(
    session: mf.Session, orders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that were started before don't find them on their path."""
    name = f"helpers_of_{session.settings.engine}"
    (tmp_path / f"{name}_more.py").write_text("OFFSET = 5\n")
    (tmp_path / f"{name}.py").write_text(
        f"import pyarrow as pa, pyarrow.compute as pc\nimport {name}_more as more\n"
        "def moved(batch):\n"
        "    return pa.RecordBatch.from_arrays([pc.add(batch.column('id'), more.OFFSET)], names=['id'])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    helpers = importlib.import_module(name)
    t = session.read_csv(str(orders)).select(col("id"))
    made = t.map_batches(helpers.moved, schema={"id": "int64"}).agg(F.min(col("id")).alias("least"))
    assert made.to_arrow().to_pylist() == [{"least": 5}]


def test_a_function_that_raises_is_an_error_of_the_user_and_not_tried_again(
    session: mf.Session, orders: Path
) -> None:
    def wrong(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise KeyError("no such thing")

    with pytest.raises(mf.UserFunctionError, match="'wrong' raised KeyError") as caught:
        session.read_csv(str(orders)).map_batches(wrong, schema={"x": "int64"}).to_arrow()
    # Where it was raised, and the rows that it was given, on every engine.
    error = caught.value
    assert error.place == f"{__file__}:{wrong.__code__.co_firstlineno + 1}"
    assert (error.path, error.row) == (str(orders), 0)
    assert [line for line in error.traceback.splitlines() if "File" in line][-1].endswith("in wrong")
    assert {f.filename for f in extract_tb(error.__traceback__)} == {__file__}


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_what_is_no_exception_is_an_error_of_the_user_too_and_once(
    session: mf.Session, tmp_path: Path, kind: type[BaseException]
) -> None:
    """A function that calls sys.exit must not end a worker, nor be tried again."""
    log = tmp_path / "calls"
    one = session.from_arrow({"n": [1]})

    def wrong(batch: pa.RecordBatch) -> pa.RecordBatch:
        with log.open("a") as file:
            file.write("called\n")
        raise kind("no more")

    made = one.map_batches(wrong, schema=pa.schema([("n", pa.int64())]))
    with pytest.raises(mf.UserFunctionError, match=f"'wrong' raised {kind.__name__}: no more"):
        made.to_arrow()
    assert log.read_text() == "called\n"
    assert one.count() == 1


def test_the_first_bad_record_of_the_file_is_the_error(session: mf.Session, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    lines = [f"{i},{i}" for i in range(ROWS)]
    lines[15_000] = "15000,x"
    lines[19_000] = "19000"
    path.write_text("a,b\n" + "\n".join(lines) + "\n")
    t = session.read_csv(str(path), schema={"a": "int64", "b": "int64"})
    with pytest.raises(mf.BadRecordError, match=r"line 15,002, record 15,000.*column 'b'"):
        session.sql("SELECT sum(b) FROM t", t=t).to_arrow()
    kept = session.read_csv(str(path), schema={"a": "int64", "b": "int64"}, on_bad_record="quarantine")
    with pytest.warns(mf.BadRecordsWarning):
        assert session.sql("SELECT count(b) AS n FROM t", t=kept).to_arrow().to_pylist() == [{"n": ROWS - 2}]
    assert session.last_run is not None
    assert session.last_run.bad_records == 2


def test_remote_files_have_the_rows_of_local_ones(
    session: mf.Session, local: mf.Session, orders: Path, tmp_path: Path
) -> None:
    query = "SELECT region, count(*) AS n, sum(amount) AS s FROM t GROUP BY region ORDER BY region"
    pq.write_table(local.read_csv(str(orders)).to_arrow(), tmp_path / "orders.parquet", row_group_size=3_000)
    (tmp_path / "orders.csv").write_bytes(orders.read_bytes())
    expected = local.sql(query, t=local.read_csv(str(orders))).to_arrow()
    with serving(tmp_path) as web:
        for name in ("orders.csv", "orders.parquet"):
            assert session.sql(query, t=session.read(f"{web.url}/{name}")).to_arrow().equals(expected)
        t = session.read(f"{web.url}/orders.csv", schema={"id": "int64", "note": "string"})
        wrong = session.read(f"{web.url}/orders.csv", schema={"id": "int64", "note": "int64"})
        with pytest.raises(mf.BadRecordError, match=r"orders\.csv, line 2, .*column 'note'"):
            session.sql("SELECT sum(note) FROM t", t=wrong).to_arrow()
        (tmp_path / "orders.csv").unlink()
        with pytest.raises(mf.SourceError, match=r"no such file or folder: http.*orders\.csv"):
            t.to_arrow()


def test_files_are_written_whole(session: mf.Session, orders: Path, tmp_path: Path) -> None:
    t = session.read_csv(str(orders))
    t.filter(col("rank") == 2).write_parquet(str(tmp_path / "out"))
    written = pq.read_table(tmp_path / "out")
    assert sorted(written.column("id").to_pylist()) == [i for i in range(ROWS) if i % 7 == 2]
    assert not [p for p in (tmp_path / "out").rglob("*") if "staging" in p.name]


def test_a_limit_stops_what_is_under_way(session: mf.Session, orders: Path) -> None:
    t = session.read_csv(str(orders))
    rows = t.iter_batches()
    first = next(iter(rows))
    assert first.num_rows
    began = time.monotonic()
    del rows
    assert time.monotonic() - began < 5


def test_rows_that_nobody_reads_hold_tasks_back(session: mf.Session, orders: Path) -> None:
    seen = 0
    for batch in session.read_csv(str(orders)).iter_batches():
        time.sleep(0.01)
        seen += batch.num_rows
    assert seen == ROWS
    assert threading.active_count() < 40

"""The Python surface, against pyarrow, DuckDB and Polars."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from datafusion import Accumulator

import mmflow as mf
from mmflow import col, lit
from mmflow import functions as F  # noqa: N812  (as users write it)


@pytest.fixture
def session() -> Iterator[mf.Session]:
    with mf.Session(shard_size=4096, workers=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "orders.csv"
    rows = [f"{i},{['north', 'south', 'east'][i % 3]},{i % 7},{i * 0.5},note {i}" for i in range(2_000)]
    path.write_text("id,region,rank,amount,Note Text\n" + "\n".join(rows) + "\n")
    return path


def duck(query: str, path: Path) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = duckdb.sql(query.format(t=f"read_csv('{path}')")).fetchall()
    return found


def tuples(dataset: mf.Dataset) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in dataset.to_arrow().to_pylist()]


def test_the_example_of_the_readme(session: mf.Session, orders: Path) -> None:
    ds = session.read_csv(str(orders))
    out = (
        ds.filter(col("rank") >= 3)
        .group_by("region")
        .agg(F.count(col("id")).alias("n"), F.avg(col("amount")).alias("amount"))
        .sort("n", "region", descending=[True, False])
        .limit(2)
    )
    assert tuples(out) == duck(
        "SELECT region, count(id) n, avg(amount) FROM {t} WHERE rank >= 3 GROUP BY 1 ORDER BY n DESC, 1 LIMIT 2",
        orders,
    )


def test_schema_and_columns_are_public(session: mf.Session, orders: Path) -> None:
    ds = session.read_csv(str(orders))
    assert ds.columns == ["id", "region", "rank", "amount", "Note Text"]
    assert ds.schema.types == [pa.int64(), pa.string(), pa.int64(), pa.float64(), pa.string()]
    assert ds.to_arrow().schema == ds.schema
    assert "region: string" in repr(ds)
    assert ">region<br>" in ds._repr_html_()


def test_select_rename_drop_with_columns(session: mf.Session, orders: Path) -> None:
    ds = session.read_csv(str(orders)).limit(3)
    made = (
        ds.select("id", (col("amount") * lit(2)).alias("twice"), "Note Text")
        .rename({"Note Text": "note"})
        .with_columns(id=col("id") + lit(1), one=1)
        .drop("note")
    )
    assert made.to_arrow().to_pydict() == {"id": [1, 2, 3], "twice": [0.0, 1.0, 2.0], "one": [1, 1, 1]}


def test_file_order_is_kept_without_exchange(session: mf.Session, orders: Path) -> None:
    ids = (
        session.read_csv(str(orders)).filter(col("rank") != lit(2)).select("id").to_arrow()["id"].to_pylist()
    )
    assert ids == sorted(ids)
    assert len(ids) == len([i for i in range(2_000) if i % 7 != 2])


@pytest.mark.parametrize("how", ["inner", "left", "right", "full", "semi", "anti"])
def test_joins(session: mf.Session, orders: Path, how: Any) -> None:
    ds = session.read_csv(str(orders)).select("id", "region").limit(9)
    other = session.from_arrow(
        pa.table({"id": [1, 3, 3, 99], "region": ["a", "b", "c", "d"], "x": [1, 2, 3, 4]})
    )
    got = sorted(map(str, tuples(ds.join(other, on="id", how=how))))
    left = pl.DataFrame(ds.to_arrow())
    right = pl.DataFrame(other.to_arrow())
    if how == "right":
        wanted = left.join(right, on="id", how="right").select("id", "region", "region_right", "x")
        wanted = wanted.select("id", "region", "region_right", "x")
    else:
        wanted = left.join(right, on="id", how=how, coalesce=None if how in ("semi", "anti") else True)
    assert got == sorted(map(str, wanted.rows()))


def test_joins_with_other_names(session: mf.Session) -> None:
    a = session.from_arrow(pa.table({"k": [1, 2], "v": ["x", "y"]}))
    b = session.from_arrow(pa.table({"key": [2, 3], "v": ["p", "q"]}))
    assert tuples(a.join(b, left_on="k", right_on="key", suffix="_b")) == [(2, "y", 2, "p")]


def test_union_distinct_count(session: mf.Session, orders: Path) -> None:
    ds = session.read_csv(str(orders)).select("region")
    assert ds.union(ds).count() == 4_000
    assert sorted(tuples(ds.union(ds).distinct())) == [("east",), ("north",), ("south",)]


def test_sample_does_not_depend_on_shards(orders: Path) -> None:
    taken = []
    for size in (4096, 8192, 1 << 20):
        with mf.Session(shard_size=size, workers=2) as session:
            taken.append(tuples(session.read_csv(str(orders)).sample(0.2, seed=3).select("id")))
    assert taken[0] == taken[1] == taken[2]
    assert 200 < len(taken[0]) < 600


def test_map_batches(session: mf.Session, orders: Path) -> None:
    def shout(batch: pa.RecordBatch) -> pa.RecordBatch:
        upper = pa.compute.utf8_upper(batch["region"])  # public types: string, not string_view
        return pa.record_batch({"id": batch["id"], "loud": upper})

    ds = session.read_csv(str(orders)).map_batches(shout).filter(col("id") < lit(4))
    assert tuples(ds) == [(0, "NORTH"), (1, "SOUTH"), (2, "EAST"), (3, "NORTH")]


def double(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.compute.multiply(batch["id"], 2)})


def test_map_batches_in_processes(session: mf.Session, orders: Path) -> None:
    made = session.read_csv(str(orders)).select("id").map_batches(double, {"id": "int64"}, processes=True)
    assert made.agg(F.sum(col("id")).alias("s")).to_arrow()["s"].to_pylist() == [2 * sum(range(2_000))]


def test_user_functions_that_raise_are_named(session: mf.Session, orders: Path) -> None:
    def broken(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise ValueError("seven")

    made = session.read_csv(str(orders)).map_batches(broken, {"id": "int64"})
    with pytest.raises(mf.UserFunctionError, match=r"'broken' raised ValueError: seven"):
        made.to_arrow()
    with pytest.raises(mf.UserFunctionError, match="pass schema="):
        session.read_csv(str(orders)).map_batches(broken)


def test_udf_in_expressions_and_sql(session: mf.Session, orders: Path) -> None:
    @mf.udf(["string"], "string")
    def backwards(text: pa.Array) -> pa.Array:
        return pa.compute.utf8_reverse(text)

    ds = session.read_csv(str(orders)).limit(2)
    assert tuples(ds.select(backwards(col("region")).alias("r"))) == [("htron",), ("htuos",)]
    session.register_udf(backwards)
    assert tuples(session.sql("SELECT backwards(region) AS r FROM t", t=ds)) == [("htron",), ("htuos",)]


class Longest(Accumulator):
    """The longest text, as an aggregate in Python."""

    def __init__(self) -> None:
        self.best = ""

    def update(self, *values: pa.Array) -> None:
        for text in values[0].to_pylist():
            self.best = max(self.best, text or "", key=len)

    def merge(self, states: list[pa.Array]) -> None:
        self.update(states[0])

    def state(self) -> list[pa.Scalar]:
        return [pa.scalar(self.best, pa.string_view())]

    def evaluate(self) -> pa.Scalar:
        return pa.scalar(self.best, pa.string_view())


def test_udaf(session: mf.Session, orders: Path) -> None:
    longest = mf.udaf(["string"], "string", ["string"])(Longest)
    made = session.read_csv(str(orders)).group_by("rank").agg(longest(col("region")).alias("w")).sort("rank")
    assert [len(w) for _, w in tuples(made)] == [5] * 7


def test_repartition(session: mf.Session, orders: Path, tmp_path: Path) -> None:
    ds = session.read_csv(str(orders))
    done = ds.repartition(3).write_parquet(str(tmp_path / "even"))
    assert done.files == 3
    assert session.read_parquet(str(tmp_path / "even")).count() == 2_000
    ds.repartition(4, "region").write_parquet(str(tmp_path / "keyed"))
    parts = sorted((tmp_path / "keyed").glob("*.parquet"))
    seen = [set(session.read_parquet(str(p)).to_arrow()["region"].to_pylist()) for p in parts]
    assert sum(map(len, seen)) == 3


def test_streams_to_other_libraries(session: mf.Session, orders: Path) -> None:
    ds = session.read_csv(str(orders)).limit(5)
    assert pl.DataFrame(ds).shape == (5, 5)
    assert pa.table(ds).num_rows == 5
    assert duckdb.sql("SELECT sum(id) FROM ds").fetchall() == [(10,)]
    assert ds.to_polars().height == 5
    assert list(ds.to_pandas()["id"]) == [0, 1, 2, 3, 4]


def test_virtual_columns_are_there_when_named(session: mf.Session, orders: Path) -> None:
    ds = session.read_csv(str(orders))
    assert tuples(ds.select("id", "_line", "_offset").limit(2)) == [(0, 2, 32), (1, 3, 53)]
    assert tuples(session.sql("SELECT id, _line FROM t WHERE _line > 1999", t=ds)) == [
        (1998, 2000),
        (1999, 2001),
    ]
    assert "_line" not in session.sql("SELECT * FROM t", t=ds).columns
    (row,) = tuples(ds.filter(col("_line") == lit(10)))
    assert row[0] == 8


def test_wrong_names_suggest_the_right_ones(session: mf.Session, orders: Path) -> None:
    ds = session.read_csv(str(orders))
    with pytest.raises(mf.PlanError, match="did you mean 'region'"):
        ds.select("regoin")
    with pytest.raises(mf.PlanError, match="regoin"):
        ds.filter(col("regoin") == lit("x"))
    with pytest.raises(mf.SourceError, match=r"orders\.csv"):
        session.read_csv(str(orders.with_name("order.csv")))
    wrong: dict[str, Any] = {"delimitr": ";"}
    misspelt: dict[str, Any] = {"shard_sise": 1}
    with pytest.raises(mf.ConfigError, match="delimiter"):
        session.read(str(orders), "csv", **wrong)
    with pytest.raises(TypeError, match="delimitr"):
        session.read_csv(str(orders), **wrong)
    with pytest.raises(TypeError, match="shard_sise"):
        mf.Session(**misspelt)


def test_bad_records_are_counted_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("id,v\n" + "".join(f"{i},{'x' if i % 500 == 7 else i}\n" for i in range(2_000)))
    with mf.Session(shard_size=4096, runs_dir=tmp_path / "runs") as session:
        ds = session.read_csv(str(path), schema={"id": "int64", "v": "int64"}, on_bad_record="quarantine")
        with pytest.warns(mf.BadRecordsWarning, match="4 bad records"):
            assert ds.to_arrow().num_rows == 1_996
        assert session.last_run is not None
        assert session.last_run.quarantine is not None
        kept = session.read(session.last_run.quarantine).to_arrow().to_pylist()
    assert [r["line"] for r in kept] == [9, 509, 1009, 1509]
    assert kept[0]["raw"] == b"7,x"
    assert path.read_bytes()[kept[3]["byte_offset"] :].startswith(b"1507,x\n")


def test_writes_are_committed(session: mf.Session, orders: Path, tmp_path: Path) -> None:
    ds = session.read_csv(str(orders))
    done = ds.write_parquet(str(tmp_path / "out"), partition_by="region")
    assert done.rows == 2_000
    back = session.read_parquet(str(tmp_path / "out"))
    assert back.count() == 2_000
    assert sorted(tuples(back.select("region").distinct())) == [("east",), ("north",), ("south",)]
    with pytest.raises(mf.SinkError, match="exists"):
        ds.write_parquet(str(tmp_path / "out"))
    ds.write_csv(str(tmp_path / "copy.csv"))
    assert session.read_csv(str(tmp_path / "copy.csv")).to_arrow() == ds.to_arrow()
    ds.write_ndjson(str(tmp_path / "copy.ndjson"))
    assert session.read_ndjson(str(tmp_path / "copy.ndjson")).to_arrow() == ds.to_arrow()
    ds.write_arrow(str(tmp_path / "copy.arrow"))
    assert session.read_arrow(str(tmp_path / "copy.arrow")).to_arrow() == ds.to_arrow()
    ds.select("amount").write_npy(str(tmp_path / "copy.npy"))
    assert session.read_npy(str(tmp_path / "copy.npy")).to_arrow().column(0) == ds.to_arrow()["amount"]


def test_iteration_can_be_left_early(session: mf.Session, orders: Path) -> None:
    batches = session.read_csv(str(orders)).iter_batches()
    assert next(batches).num_rows > 0
    batches.close()  # type: ignore[attr-defined]  # an iterator to users, a generator here


def test_public_names_are_there() -> None:
    for name in mf.__all__:
        assert getattr(mf, name) is not None
    assert set(mf.__all__) == set(dir(mf))


IMPORTS = """
import os
import sys
import mmflow
heavy = {"ray", "dask", "distributed", "pandas", "datafusion", "pyarrow", "rich", "numpy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from mmflow.cli.main import main
assert main(["--help"]) == main(["sql", "--help"]) == main(["completion", "bash"]) == 0
assert main(["sqll"]) == 2
os.environ |= {"_MMFLOW_COMPLETE": "bash_complete", "COMP_WORDS": "mmflow status ", "COMP_CWORD": "2"}
assert main([]) == 0
del os.environ["_MMFLOW_COMPLETE"]
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import mmflow as mf
mf.sql("SELECT 1 AS a").agg(mf.functions.sum(mf.col("a")).alias("s")).to_arrow()
assert "pandas" not in sys.modules
import pandas as pd
import pyarrow as pa
assert pa.array(pd.Series(["a", None])).null_count == 1
assert pa.types.is_dictionary(pa.array(pd.Categorical(["a", "b", "a"])).type)
assert pa.table({"x": [1]}).to_pandas()["x"].tolist() == [1]
assert mf.from_arrow(pa.table({"a": [1]})).to_pandas()["a"].tolist() == [1]
"""


@pytest.mark.parametrize("first", ["", "import pandas\n"])
def test_imports_are_light_and_pandas_comes_when_asked(first: str) -> None:
    script = IMPORTS
    if first:
        script = first + IMPORTS[IMPORTS.index("import mmflow as mf") :].replace(
            'assert "pandas" not in sys.modules', ""
        )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_line_of_the_issue(orders: Path) -> None:
    line = f"import mmflow as mf, polars as pl; print(pl.DataFrame(mf.read_csv({str(orders)!r}).limit(5)))"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=False)
    assert "shape: (5, 5)" in done.stdout, done.stderr


def test_no_warning_without_bad_records(session: mf.Session, orders: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.read_csv(str(orders)).count()

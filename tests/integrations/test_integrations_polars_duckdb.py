"""Polars and DuckDB read datasets: the rows are right, and what they don't need is not read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

import mmflow as mf
from mmflow import col
from mmflow.api.bridges.polars import condition_of

NAN = float("nan")
TABLE = pa.table(
    {
        "i": pa.array([1, 2, None, 4, 5, -6], pa.int32()),
        "f": [0.5, NAN, None, -2.25, 8.0, NAN],
        "g": pa.array([1.1, NAN, None, -2.25, 8.0, 0.0], pa.float32()),
        "b": [True, False, None, True, True, False],
        "s": ["x", "y", "x", None, "", "é"],
        "d": [dt.date(2024, 1, n) if n != 3 else None for n in range(1, 7)],
        "t": [dt.datetime(2024, 1, n, 12) for n in range(1, 7)],
        "u": pa.array([0, 2**63, None, 7, 8, 9], pa.uint64()),
        "l": [[1], [], None, [2, 3], [4], [5]],
    }
)
i, f, g, b, s, d, t, u = (pl.col(n) for n in "ifgbsdtu")

#: Predicates, and whether all of each goes into the plan.
PREDICATES: dict[str, tuple[pl.Expr, bool]] = {
    "greater": (i > 1, True),
    "literal first": (pl.lit(2) <= i, True),
    "of floats with NaN": (f > 1, True),
    "of float32": (g == 1.1, True),
    "not equal": (f != 8.0, True),
    "equal text": (s == "x", True),
    "less text": (s < "y", True),
    "truth": (b, True),
    "not": (~b, True),
    "null": (i.is_null(), True),
    "not null": (s.is_not_null(), True),
    "and": ((i > 1) & (s != "y"), True),
    "or": ((i > 4) | f.is_null(), True),
    "not or": (~((i > 4) | b), True),
    "between": (i.is_between(2, 5, closed="right"), True),
    "in": (i.is_in([1, 5, 77]), True),
    "in texts": (s.is_in(["x", "é"]), True),
    "not in": (~s.is_in(["x"]), True),
    "date": (d >= dt.date(2024, 1, 4), True),
    "datetime": (t < dt.datetime(2024, 1, 3), True),
    "unsigned": (u > 8, True),
    "columns": (i < f, False),
    "arithmetic": (i + 1 > 3, False),
    "function": (s.str.starts_with("x"), False),
    "list": (pl.col("l").list.len() > 1, False),
    "missing": (i.eq_missing(None), False),
    "nulls in": (i.is_in([1, None]), False),
    "floats in": (f.is_in([8.0, NAN]), False),
}


@pytest.mark.parametrize("name", PREDICATES)
def test_a_predicate_gives_the_rows_that_polars_gives(name: str) -> None:
    predicate, pushed = PREDICATES[name]
    with mf.Session() as session:
        lazy = session.from_arrow(TABLE).to_polars_lazy().filter(predicate)
        expected = pl.DataFrame(TABLE).filter(predicate)
        assert lazy.collect().equals(expected)
        assert session.last_run is not None
        if pushed:
            assert session.last_run.rows == expected.height
        selected = lazy.select("s", "i").collect()
        assert selected.equals(expected.select("s", "i"))


def test_parts_of_a_predicate_that_mmflow_lacks_are_left_to_polars() -> None:
    with mf.Session() as session:
        lazy = session.from_arrow(TABLE).to_polars_lazy().filter((i > 1) & s.str.starts_with("y"))
        assert lazy.collect()["i"].to_list() == [2]
        assert session.last_run is not None
        assert session.last_run.rows == 3
    assert condition_of((i > 1) | s.str.starts_with("y")) is None


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_polars_asks_for_columns_and_rows_that_it_needs(engine: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    # A column that is read is checked.
    path.write_text("a,b,c\n" + "".join(f"{n},{n % 3},x\n" for n in range(20_000)))
    with mf.Session(shard_size="64KiB") as session:
        lazy = session.read_csv(str(path), schema={"a": "int64", "b": "int64", "c": "int64"}).to_polars_lazy()
        grouped = lazy.filter(pl.col("a") >= 10_000).group_by("b").agg(pl.col("a").sum()).sort("b")
        assert grouped.collect(engine=engine).rows() == [
            (k, sum(n for n in range(10_000, 20_000) if n % 3 == k)) for k in range(3)
        ]
        assert session.last_run is not None
        assert session.last_run.rows == 10_000
        assert lazy.select("b").head(3).collect(engine=engine).rows() == [(0,), (1,), (2,)]
        assert session.last_run.rows == 3
        assert lazy.head(5).filter(pl.col("a") > 3).select("a").collect(engine=engine).rows() == [(4,)]
        assert lazy.select(pl.len()).collect(engine=engine).item() == 20_000
        with pytest.raises(mf.BadRecordError, match="line 2"):
            lazy.select("c").collect(engine=engine)


def test_nothing_is_read_before_polars_collects(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    lazy = mf.read_csv(str(path)).to_polars_lazy()
    assert lazy.collect_schema() == {"a": pl.Int64}
    path.write_text("a\n7\n8\n")
    assert lazy.collect()["a"].to_list() == [7, 8]
    path.unlink()
    with pytest.raises(mf.SourceError, match="no such file"):
        lazy.collect()


def test_polars_has_the_numbers_where_mmflow_left_them() -> None:
    batch = next(mf.from_arrow({"a": range(10_000)}).with_columns(b=col("a") * 2).iter_batches())
    frame = pl.DataFrame(batch)
    for name in ("a", "b"):
        assert frame[name].to_arrow().buffers()[1].address == batch.column(name).buffers()[1].address


@pytest.mark.parametrize(
    "read", [lambda ds: duckdb.sql("SELECT b, sum(a) AS s FROM ds GROUP BY b ORDER BY b"),
             lambda ds: duckdb.from_arrow(ds).aggregate("b, sum(a) AS s").order("b")], ids=["variable", "from_arrow"]
)  # fmt: skip
def test_duckdb_reads_a_dataset_as_a_stream(read: Callable[[mf.Dataset], Any]) -> None:
    ds = mf.from_arrow({"a": range(10_000), "b": [n % 3 for n in range(10_000)]}).filter(col("a") >= 10)
    assert read(ds).fetchall() == [(k, sum(n for n in range(10, 10_000) if n % 3 == k)) for k in range(3)]
    # A stream of the rows each time, so that a dataset can be read again.
    assert read(ds).fetchall()[0][0] == 0

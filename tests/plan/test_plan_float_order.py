"""All NaN are equal and greatest, -0 = 0: in every operator, on every kind of source, as DuckDB has it."""

from __future__ import annotations

import math
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given

import mmflow as mf


def _float(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


NAN, NEGATIVE_NAN, OTHER_NAN = (_float(b) for b in (0x7FF8 << 48, 0xFFF8 << 48, (0x7FF8 << 48) + (1 << 30)))
ODD = [NAN, NEGATIVE_NAN, OTHER_NAN, 0.0, -0.0, math.inf, -math.inf, 1.0, -1.0, 2.0, None]

# Those with ORDER BY give columns that it orders wholly.
QUERIES = [
    "select x from t order by x",
    "select x, y from t order by x desc nulls last, y",
    "select f, x from t order by f nulls first, x desc nulls last",
    "select x, f from t order by x, f limit 5",
    "select y * x as z from t order by z",
    "select x, count(*) from t group by x",
    "select x, f, count(*), min(y), max(y) from t group by x, f",
    "select x - y as z, count(*) from t group by z",
    "select g, min(x), max(x), min(f), max(f), min(x * y), max(x - y) from t group by g",
    "select min(x), max(x), min(f), max(f) from t",
    "select count(distinct x), count(distinct f), count(distinct x * y) from t",
    "select g, count(distinct x), sum(g) from t group by g",
    "select distinct x, f from t",
    "select x from t union select y from t",
    "select x from t intersect select y from t",
    "select x from t except select y from t",
    *(f"select g from t where x {op} {v}" for op in ("=", "<>", "<", "<=", ">", ">=") for v in (0.0, 1.0)),
    *(f"select g from t where {v} {op} f" for op in ("=", "<>", "<", "<=", ">", ">=") for v in (0.0, 1.0)),
    *(f"select g from t where x {op} 'NaN'::double" for op in ("=", "<>", "<", "<=", ">", ">=")),
    *(f"select g from t where x {op} y" for op in ("=", "<>", "<", "<=", ">", ">=")),
    *(f"select g from t where x * y {op} y - x" for op in ("=", "<>", "<", "<=", ">", ">=")),
    "select g from t where x * y > 1.0",
    "select g from t where x * y < 1.0",
    "select g from t where not (x < 1.0)",
    "select g from t where x between -1.0 and 1.0",
    "select g from t where x not between 0.0 and 1.0",
    "select g from t where x between f and y",
    "select g from t where x in (0.0, 1.0)",
    "select g from t where x in (0.0, 1.0, 3.0, 4.0, 5.0, 6.0, 7.0)",
    "select g from t where x in (2.0, 1.0, 3.0, 4.0, 5.0, 6.0, 'NaN'::double)",
    "select g from t where x not in (2.0, 1.0, 3.0, 4.0, 5.0, 6.0, 'NaN'::double)",
    "select g from t where x is distinct from y",
    "select g from t where x is not distinct from y",
    "select case x when 0.0 then 'zero' when 'NaN'::double then 'nan' when y then 'y' end from t",
    "select case when x > y then 1 when x = y then 2 else 3 end from t",
    "select nullif(x, 0.0), nullif(x, y), greatest(x, y), least(x, y) from t where x is not null and y is not null",
    "select a.g, b.g from t a join t b on a.x = b.x",
    "select a.g, b.g from t a join t b on a.x = b.f and a.g = b.g",
    "select a.g, b.g from t a left join t b on a.x = b.x and a.y < b.y",
    "select a.g, b.g from t a full join t b on a.x * a.y = b.x - b.y",
    "select g from t where x in (select y from t)",
    "select g from t where x not in (select y from t where y is not null)",
    "select g from t a where exists (select 1 from t b where b.y = a.x and b.f > a.f)",
    "select x, count(*) over (partition by x), rank() over (order by x) from t",
    "select g, min(x) over (partition by f), max(x) over (order by g range unbounded preceding) from t",
    "select sum(g) filter (where x > 1.0), sum(g) filter (where x < 1.0) from t",
    "select g from t where x > (select min(y) from t)",
    "select x, count(*) from t group by x having max(y) > 1.0",
]


def _plain(value: Any) -> Any:
    """Values that are equal in the one order, as equal Python values."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0.0
    return value


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    columns = [c.to_pylist() for c in table.columns]
    return [tuple(_plain(v) for v in row) for row in zip(*columns, strict=True)]


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    x, y, f, g = (list(c) for c in zip(*rows, strict=True))
    return pa.table(
        {"x": pa.array(x), "y": pa.array(y), "f": pa.array(f, pa.float32()), "g": pa.array(g)}
    ).cast(pa.schema({"x": pa.float64(), "y": pa.float64(), "f": pa.float32(), "g": pa.int64()}))


values = st.sampled_from(ODD)
tables = st.lists(st.tuples(values, values, values, st.integers(0, 3)), min_size=1, max_size=60).map(_table)
sessions = st.sampled_from(
    [
        {},
        {"partitions": 3, "broadcast": 0},
        {"partitions": 3, "broadcast": 0, "shard_size": 4096, "workers": 1},
    ]
)


def _written(session: mf.Session, table: pa.Table, form: str, folder: Path) -> mf.Dataset:
    path = folder / f"t.{form}"
    if form == "parquet":
        pq.write_table(table, path, row_group_size=7)
    elif form == "arrow":
        feather.write_feather(table, str(path), compression="uncompressed", chunksize=7)
    else:
        rows = zip(*(c.to_pylist() for c in table.columns), strict=True)
        path.write_text("x,y,f,g\n" + "".join(",".join(map(_text, row)) + "\n" for row in rows))
        return session.read_csv(
            str(path), schema={"x": "float64", "y": "float64", "f": "float32", "g": "int64"}
        )
    return session.read(str(path))


def _text(value: Any) -> str:
    if value is None:
        return ""
    return (
        "-nan"
        if isinstance(value, float) and math.isnan(value) and math.copysign(1, value) < 0
        else str(value)
    )


@given(
    table=tables,
    queries=st.lists(st.sampled_from(QUERIES), min_size=2, max_size=2),
    options=sessions,
    form=st.sampled_from(["parquet", "arrow", "csv"]),
)
def test_floats_are_ordered_as_duckdb_orders_them(
    tmp_path_factory: pytest.TempPathFactory,
    table: pa.Table,
    queries: list[str],
    options: dict[str, Any],
    form: str,
) -> None:
    duck = duckdb.connect()
    duck.register("t", table)
    with mf.Session(**options) as session:
        t = _written(session, table, form, tmp_path_factory.mktemp("floats"))
        for query in queries:
            _same(query, session, t, duck)


def _same(query: str, session: mf.Session, t: mf.Dataset, duck: duckdb.DuckDBPyConnection) -> None:
    given_rows, wanted = _rows(session.sql(query, t=t).to_arrow()), _rows(duck.sql(query).to_arrow_table())
    if "order by" in query and "over (" not in query:
        assert given_rows == wanted, query
    else:
        assert Counter(given_rows) == Counter(wanted), query


def test_a_parallel_sort_puts_every_nan_last(tmp_path: Path) -> None:
    path = tmp_path / "n.parquet"
    values = [1.0, NEGATIVE_NAN, 2.0, NAN, -math.inf, 0.0, -0.0, None] * 500
    pq.write_table(pa.table({"x": values}), path, row_group_size=100)
    settings: list[dict[str, Any]] = [{}, {"partitions": 3, "broadcast": 0}]
    for options in settings:
        with mf.Session(**options) as session:
            made = session.read(str(path)).sort("x").to_arrow()["x"].to_pylist()
        assert [_plain(v) for v in made] == [-math.inf] * 500 + [0.0] * 1000 + [1.0] * 500 + [2.0] * 500 + [
            "nan"
        ] * 1000 + [None] * 500


def test_values_that_pass_through_keep_their_bits() -> None:
    values = pa.array([NEGATIVE_NAN, -0.0, OTHER_NAN])
    with mf.Session() as session:
        made = session.sql(
            "select x from t where g > 0", t=pa.table({"x": values, "g": [1, 1, 1]})
        ).to_arrow()
    assert made["x"].combine_chunks().buffers()[1].to_pybytes() == values.buffers()[1].to_pybytes()


def test_queries_that_run_as_sql_in_one_task_order_the_floats_of_their_tables() -> None:
    table = pa.table({"x": [1.0, NEGATIVE_NAN, NAN, 0.0, -0.0, OTHER_NAN, None], "i": range(7)})
    query = """select x, count(s) n from (select x, sum(1) over (order by i range between 1 preceding and current row) s
        from t) group by x order by x"""
    with mf.Session() as session:
        made = session.sql(query, t=table)
        assert "gather, SQL" in made.explain()
        rows = _rows(made.to_arrow())
    assert rows == [(0.0, 2), (1.0, 1), ("nan", 3), (None, 1)]


@pytest.mark.parametrize("options", [{}, {"partitions": 3, "broadcast": 0}], ids=["defaults", "exchanges"])
def test_floats_in_lists_and_structs_have_the_same_order(options: dict[str, Any]) -> None:
    odd = [NEGATIVE_NAN, 1.0, NAN, -0.0, 0.0, -1.0]
    table = pa.table(
        {
            "l": pa.array([*([v, 2.0] for v in odd), None], pa.list_(pa.float64())),
            "s": pa.array([*({"a": v, "b": [{"c": v}]} for v in odd), None]),
        }
    )
    with mf.Session(**options) as session:
        parts = [session.from_arrow(table.slice(0, 3)), session.from_arrow(table.slice(3))]
        t = session.sql("select * from a union all select * from b", a=parts[0], b=parts[1])

        def run(query: str) -> list[Any]:
            return [tuple(map(str, row.values())) for row in session.sql(query, t=t).to_arrow().to_pylist()]

        for column in ("l", "s"):
            grouped = run(f"select {column}, count(*) n from t group by {column}")
            assert sorted(int(n) for _, n in grouped) == [1, 1, 1, 2, 2]
            assert run(f"select count(*) from t a join t b on a.{column} = b.{column}") == [("10",)]
            assert run(f"select count(*) from t a, t b where a.{column} = b.{column}") == [("10",)]
        ordered = run("select l from t order by l")
        assert [row[0].replace("-0.0", "0.0") for row in ordered] == [
            *("[-1.0, 2.0]", "[0.0, 2.0]", "[0.0, 2.0]", "[1.0, 2.0]", "[nan, 2.0]", "[nan, 2.0]", "None")
        ]

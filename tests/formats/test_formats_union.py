"""Union by name: the same rows as DuckDB's `union_by_name`, Polars' options and pyarrow's unified schemas."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.formats.schemas.file_columns import ColumnOptions
from mmflow.formats.schemas.widening import conform, holds_exactly, widened

_COLUMNS = {
    "a": (pa.int8(), pa.int32(), pa.int64(), pa.uint16()),
    "b": (pa.float32(), pa.float64()),
    "c": (pa.string(),),
    "d": (pa.date32(),),
    "e": (pa.bool_(), pa.null()),
}


@st.composite
def _tables(draw: st.DrawFn) -> list[pa.Table]:
    """Draw tables whose columns drift: other ones, in another order, of other types."""
    tables = []
    for number in range(draw(st.integers(1, 5))):
        names = draw(
            st.permutations(draw(st.lists(st.sampled_from(sorted(_COLUMNS)), min_size=1, unique=True)))
        )
        columns = {"n": pa.array([10 * number, 10 * number + 1])}
        for name in names:
            kind = draw(st.sampled_from(_COLUMNS[name]))
            value = {"a": 100, "b": 0.5, "c": "x", "d": 10, "e": None if pa.types.is_null(kind) else True}[
                name
            ]
            columns[name] = pa.array([value, None], kind)
        tables.append(pa.table(columns))
    return tables


@settings(max_examples=25, deadline=None)
@given(_tables())
def test_rows_are_those_of_other_tools(tables: list[pa.Table]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{number}.parquet" for number in range(len(tables))]
        for path, table in zip(paths, tables, strict=True):
            pq.write_table(table, path)
        read = mf.read(paths, schema="union")
        found = read.to_arrow().to_pylist()
        names = list(dict.fromkeys(name for table in tables for name in table.column_names))
        assert found == [{n: row.get(n) for n in names} for table in tables for row in table.to_pylist()]
        theirs = duckdb.sql(
            f"SELECT * FROM read_parquet({paths}, union_by_name => true) ORDER BY n"
        ).to_arrow_table()
        assert found == theirs.to_pylist()
        unified = pa.unify_schemas([t.schema for t in tables], promote_options="permissive")
        assert found == pads.dataset(paths, schema=unified).to_table().to_pylist()
        assert [read[i] for i in range(len(found))] == found
        assert read.select("n").filter(mf.col("n") >= 10).count() == 2 * (len(tables) - 1)


@settings(max_examples=15, deadline=None)
@given(_tables())
def test_missing_and_extra_columns_are_those_of_polars(tables: list[pa.Table]) -> None:
    tables = [t.select([n for n in t.column_names if n in "ncd"]) for t in tables]  # whose types don't drift
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{number}.parquet" for number in range(len(tables))]
        for path, table in zip(paths, tables, strict=True):
            pq.write_table(table, path)
        found = mf.read(paths, missing_columns="null", extra_columns="ignore").to_arrow().to_pylist()
        theirs = pl.scan_parquet(paths, missing_columns="insert", extra_columns="ignore").collect()
        assert found == theirs.to_dicts()


_TYPES = [
    pa.null(), pa.bool_(), pa.int8(), pa.uint8(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(),
    pa.decimal128(5, 2), pa.decimal128(30, 10), pa.string_view(), pa.date32(), pa.timestamp("ms"), pa.timestamp("us", "UTC"),
    pa.time32("s"), pa.duration("ms"), pa.binary(), pa.binary(3),
]  # fmt: skip
_NESTED = st.recursive(
    st.sampled_from(_TYPES),
    lambda inner: (
        inner.map(pa.list_)
        | st.lists(inner, min_size=1, max_size=3).map(
            lambda kinds: pa.struct(list(zip("xyz", kinds, strict=False)))
        )
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(_NESTED, _NESTED, _NESTED)
def test_widening_is_symmetric_and_holds_both(
    one: pa.DataType, other: pa.DataType, third: pa.DataType
) -> None:
    assert widened(one, one) == one
    kind = widened(one, other)
    back = widened(other, one)
    assert (kind is None) == (back is None)
    if kind is None or back is None:
        return
    assert holds_exactly(one, kind, fields=True)
    assert holds_exactly(other, kind, fields=True)
    assert len(conform(pa.nulls(3, one), kind)) == 3
    wider = widened(kind, third)
    assert wider is None or holds_exactly(kind, wider, fields=True)


@pytest.mark.parametrize("fmt", ["csv", "ndjson"])
def test_a_column_that_comes_after_the_files_that_were_looked_at(tmp_path: Path, fmt: str) -> None:
    paths = [f"{n:04}.{fmt}" for n in range(300)]
    assert len(ColumnOptions(union=True).looked_at(paths)) == 256
    late = next(p for p in paths if p not in ColumnOptions(union=True).looked_at(paths))
    for path in paths:
        text = "a\n1\n" if fmt == "csv" else '{"a":1}\n'
        if path == late:
            text = "a,late\n1,2\n" if fmt == "csv" else '{"a":1,"late":2}\n'
        (tmp_path / path).write_text(text)
    with pytest.raises(mf.MmflowError, match="extra_columns='keep'" if fmt == "csv" else "late"):
        mf.read(tmp_path, schema="union").to_arrow()
    kept = mf.read(tmp_path, schema="union", extra_columns="keep")
    assert kept.filter(mf.col("late") == 2).count() == 1
    assert mf.read(tmp_path, schema="union", extra_columns="ignore").count() == 300

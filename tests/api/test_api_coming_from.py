"""Each row of docs/coming_from.md does in mmflow what it does in Polars and DuckDB; Dask and Ray Data have the names.

So does each row of docs/coming_from_pandas.md in pandas, and in Spark's interface to DuckDB.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from duckdb.experimental.spark.sql import SparkSession
from duckdb.experimental.spark.sql import functions as F  # noqa: N812  (Spark's custom)

import mmflow as mf
from mmflow.usercode.other_names import _OTHERS

_DOCS = Path(__file__).parents[2] / "docs"


def _rows(page: str) -> list[list[str]]:
    lines = [line for line in (_DOCS / page).read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


ROWS = _rows("coming_from.md")
PANDAS_ROWS = _rows("coming_from_pandas.md")

TABLE = pa.table({"k": ["x", "y", "x", None], "v": [3, 1, None, 2], "f": [0.5, None, 1.5, 2.5]})
OTHER = pa.table({"k": ["x", "z"], "w": [2, 0]})
NESTED = pa.table({"k": ["x", "y"], "l": [[1, 2], [3]], "s": [{"a": 1, "b": "p"}, {"a": 2, "b": "q"}]})
EVENTS = pa.table({"t": pa.array([0, 3599, 3600, 9000], pa.timestamp("s")), "v": [1, 2, 4, 8]})

#: Their rows are random, or described in another form.
NOT_COMPARED = {"draw a sample", "draw some rows", "describe", "write"}


class Model:
    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch


def same(rows: Any) -> Any:
    return rows


def row_function(row: dict[str, Any]) -> dict[str, Any]:
    return {"k": row["k"] or ""}


def rows_of(result: Any) -> list[str]:
    """Rows as texts, in any order: of a table, a number, or a list of dicts."""
    if isinstance(result, pl.LazyFrame):
        result = result.collect()
    if isinstance(result, mf.Dataset):
        result = result.to_arrow()
    if isinstance(result, pa.Table | duckdb.DuckDBPyRelation):
        result = pl.from_arrow(result if isinstance(result, pa.Table) else result.to_arrow_table())
    if isinstance(result, pl.DataFrame):
        result = [dict(sorted(row.items())) for row in result.to_dicts()]
    return sorted(map(repr, result)) if hasattr(result, "__len__") else [repr(result)]


def code(cell: str) -> str | None:
    found = re.match(r"`([^`]+)`", cell)
    return None if found is None else found[1]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("a,b\n1,x\n2,y\n")


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_row_runs_and_agrees(row: list[str]) -> None:
    title, polars, ducks, _, _, ours = row
    if title == "get a tensor":
        pytest.importorskip("torch")
    made = {
        n: mf.from_arrow(t)
        for n, t in (("ds", TABLE), ("other", OTHER), ("nested", NESTED), ("events", EVENTS))
    }
    scope = {"mf": mf, "col": mf.col, "same": same, "row_function": row_function, "Model": Model, **made}
    written = code(ours)
    assert written is not None
    result = eval(written, scope)
    got = rows_of(result) if not isinstance(result, mf.WriteResult) else []
    if (theirs := code(polars)) is not None:
        frames = {
            "df": pl.from_arrow(TABLE),
            "other": pl.from_arrow(OTHER),
            "nested": pl.from_arrow(NESTED),
            "events": pl.from_arrow(EVENTS),
        }
        wanted = eval(theirs, {"pl": pl, "same": same, **frames})
        assert title in NOT_COMPARED or got == rows_of(wanted)
    if (query := code(ducks)) is not None:
        with duckdb.connect() as connection:
            for name, table in (("t", TABLE), ("other", OTHER), ("nested", NESTED)):
                connection.register(name, table)
            answer = connection.sql(query)
            if title == "count rows":
                assert answer.fetchall() == [(result,)]
            elif title not in NOT_COMPARED:
                assert got == rows_of(answer)


def _table(result: Any) -> Any:
    """Return a result of pandas or of Spark's interface as rows that can be compared."""
    if isinstance(result, pd.Series):
        result = result.to_frame()
    if isinstance(result, pd.DataFrame):
        return pa.Table.from_pandas(result, preserve_index=False)
    return result.toArrow() if hasattr(result, "toArrow") else result


@pytest.fixture(scope="module")
def spark() -> Any:
    return SparkSession.builder.getOrCreate()


@pytest.mark.parametrize("row", PANDAS_ROWS, ids=[row[0] for row in PANDAS_ROWS])
def test_the_row_agrees_with_pandas_and_spark(row: list[str], spark: Any) -> None:
    title, pandas, sparks, ours = row
    scope = {"mf": mf, "col": mf.col, "ds": mf.from_arrow(TABLE), "other": mf.from_arrow(OTHER)}
    written = code(ours)
    assert written is not None
    result = eval(written, scope)
    # Spark's columns are texts without `inferSchema`; mmflow gives pandas floats where integers have nulls.
    compared = title not in ("read", "write", "get a DataFrame of pandas")
    got = rows_of(_table(result)) if compared else None
    frames = {"pdf": TABLE, "other": OTHER}
    made = {name: table.to_pandas(types_mapper=pd.ArrowDtype) for name, table in frames.items()}
    if (theirs := code(pandas)) is not None:
        wanted = eval(theirs, {"pd": pd, "np": np, **made})
        assert not compared or got == rows_of(_table(wanted)), title
    if (theirs := code(sparks)) is not None:
        frames = {"sdf": TABLE, "other": OTHER}
        made = {
            name: spark.createDataFrame(table.to_pandas(types_mapper=pd.ArrowDtype))
            for name, table in frames.items()
        }
        wanted = eval(theirs, {"spark": spark, "F": F, **made})
        assert not compared or got == rows_of(_table(wanted)), title


def test_dask_and_ray_have_the_names() -> None:
    import dask.dataframe as dd
    import ray.data

    for title, _, _, dask, rays, _ in ROWS:
        for cell, module, base, wheres in (
            (dask, dd, "ddf", (dd.DataFrame, dd.Series)),
            (rays, ray.data, "ds", (ray.data.Dataset,)),
        ):
            written = code(cell)
            if written is None:
                continue
            first = re.match(rf"(?:dd|ray\.data)\.(\w+)\(|{base}\.(?:[kv]\.)?(\w+)\(", written)
            if first is None:
                assert title in ("choose columns", "keep rows", "count rows"), written
            elif first[1]:
                assert hasattr(module, first[1]), written
            else:
                assert any(hasattr(where, first[2]) for where in wheres), written


def test_names_of_other_libraries_are_told_by_those_of_mmflow() -> None:
    ds = mf.from_arrow(TABLE)
    owners: dict[str, Any] = {
        "Dataset": ds, "GroupedDataset": ds.group_by("k"), "Expr": mf.col("k"), "str": mf.col("k").str, "mmflow": mf,
    }  # fmt: skip
    known = {
        n for owner in (*owners.values(), mf.selectors, mf.functions, mf.col("k").list) for n in dir(owner)
    }
    for owner, others in _OTHERS.items():
        for name, written in others.items():
            assert {*re.findall(r"(\w+)\(", written)} - {"len", "float", "then", "otherwise"} <= known, (
                owner,
                name,
            )
            if owner in owners:
                with pytest.raises(AttributeError) as told:
                    getattr(owners[owner], name)
                assert str(told.value) == f"{owner} has no attribute {name!r}; write {written}"
    untyped: Any = mf
    calls: list[tuple[Callable[[], Any], str]] = [
        (
            lambda: untyped.read_csv("t.csv", separator=";"),
            "read_csv() has no argument 'separator'; write delimiter",
        ),
        (
            lambda: untyped.from_arrow({}).filter(k="x"),
            "filter() has no argument 'k'; write mf.col('k') == …",
        ),
        (lambda: untyped.from_arrow({}).drop(k="x"), "drop() has no argument 'k'; it takes none by name"),
    ]
    for call, message in calls:
        with pytest.raises(TypeError, match=re.escape(message)):
            call()

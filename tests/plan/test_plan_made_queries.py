"""Queries that Hypothesis makes give the rows of DuckDB, however tables lie in files and whatever the settings."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import assume, given, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.config import EngineName
from tests.plan.made_queries import LAYOUTS, SCHEMA, VALUES, Grammar, Layout, settings, tables, write
from tests.plan.sql_tables import rows_of

_FEW = hypothesis_settings(max_examples=20 if os.environ.get("HYPOTHESIS_PROFILE", "ci") == "ci" else 1000)


def answer(
    query: str,
    made: dict[str, pa.Table],
    layout: Layout,
    chosen: dict[str, Any],
    engine: EngineName = "local",
) -> list[tuple[str, ...]]:
    """Rows of a query over tables in files, in the order in which they come."""
    with tempfile.TemporaryDirectory() as folder, mf.Session(engine=engine, **_set(chosen)) as session:
        opened = {}
        for name, table in made.items():
            paths = write(table, Path(folder) / name, layout)
            schema = {f.name: str(f.type).removesuffix("[day]") for f in SCHEMA}
            opened[name] = session.read(paths, schema=schema) if layout.form == "csv" else session.read(paths)
        return rows_of(session.sql(query, **opened).to_arrow())


def _set(chosen: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in chosen.items() if not (name == "partitions" and value == 0)}


def ducks(query: str, made: dict[str, pa.Table]) -> list[tuple[str, ...]]:
    with duckdb.connect() as connection:
        for name, table in made.items():
            connection.register(name, table)
        return rows_of(connection.sql(query).to_arrow_table())


@_FEW
@given(rng=st.randoms(use_true_random=False), t=tables(), u=tables(), layout=LAYOUTS, chosen=settings())
def test_made_queries_give_duckdbs_rows(
    rng: random.Random, t: pa.Table, u: pa.Table, layout: Layout, chosen: dict[str, Any]
) -> None:
    query = Grammar(rng).query()
    note(query)
    made = {"t": t, "u": u}
    try:
        got = answer(query, made, layout, chosen)
    except mf.PlanError as error:
        assume("for one another" not in error.message)  # DataFusion's own limit
        raise
    wanted = ducks(query, made)
    if "ORDER BY" in query:
        assert got == wanted
    assert sorted(got) == sorted(wanted)


@_FEW
@given(rng=st.randoms(use_true_random=False), t=tables(), u=tables(), layout=LAYOUTS, chosen=settings())
def test_a_condition_a_filter_and_its_complements_agree(
    rng: random.Random, t: pa.Table, u: pa.Table, layout: Layout, chosen: dict[str, Any]
) -> None:
    grammar = Grammar(rng)
    condition = grammar.condition("x", subqueries=False)
    source = f"SELECT x.*, {grammar.value('int', 'x')} AS v FROM t x"
    note(condition)
    made = {"t": t, "u": u}
    whole = answer(f"SELECT *, {condition} AS c FROM ({source}) x", made, layout, chosen)
    filtered = [
        answer(f"SELECT * FROM ({source}) x WHERE {test}", made, layout, chosen)
        for test in (condition, f"NOT {condition}", f"{condition} IS NULL")
    ]
    for truth, rows in zip(("True", "False", "None"), filtered, strict=True):
        assert sorted(rows) == sorted(row[:-1] for row in whole if row[-1] == truth)


@pytest.mark.nightly
@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_made_queries_give_duckdbs_rows_on_engines(engine: EngineName, tmp_path: Path) -> None:
    rng = random.Random(11)
    tables_made = {
        name: pa.Table.from_pylist([{c: rng.choice(v) for c, v in VALUES.items()} for _ in range(40)], SCHEMA)
        for name in ("t", "u")
    }
    layout = Layout("parquet", 15, 4, backwards=False)
    with mf.Session(engine=engine, workers=2, partitions=3, broadcast=0) as session:
        opened = {n: session.read(write(t, tmp_path / n, layout)) for n, t in tables_made.items()}
        for _ in range(60):
            query = Grammar(rng).query()
            got = rows_of(session.sql(query, **opened).to_arrow())
            assert sorted(got) == sorted(ducks(query, tables_made)), query

"""Every statement of statements.sql gives the rows of DataFusion or DuckDB alone, or one clear refusal.

In the manner of SQL logic tests. The tables have several row groups, so that stages have several tasks, and exchanges
have three partitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from datafusion import SessionConfig, SessionContext

import mmflow as mf
from mmflow.plan import errors
from mmflow.plan.catalog import unique_names
from tests.plan.sql_tables import plain_types, rows_of, write_tables


def statements(section: str) -> list[object]:
    """Statements of a section; those for `make nightly` only are marked so."""
    found: list[object] = []
    inside = False
    for line in Path(__file__).with_name("statements.sql").read_text().splitlines():
        if line.startswith("-- # "):
            inside = line.removeprefix("-- # ").split(":")[0] == section
        elif inside and line:
            text = line.removeprefix("~ ")
            found.append(pytest.param(text, marks=pytest.mark.nightly if line != text else ()))
    return found


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_tables(tmp_path_factory.mktemp("statements"))


@pytest.fixture(scope="module")
def datafusion(paths: dict[str, Path]) -> SessionContext:
    context = SessionContext(SessionConfig().with_target_partitions(1))
    for name, path in paths.items():
        context.register_parquet(name, str(path))
    return context


@pytest.fixture(scope="module")
def duck(paths: dict[str, Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for name, path in paths.items():
            connection.execute(f"create view {name} as select * from '{path}'")
        yield connection


@pytest.fixture(scope="module")
def tables(paths: dict[str, Path]) -> Iterator[dict[str, mf.Dataset]]:
    with mf.Session(workers=2, partitions=3, broadcast=0) as session:
        yield {name: session.read_parquet(str(path)) for name, path in paths.items()}


def asked(query: str, tables: dict[str, mf.Dataset]) -> mf.Dataset:
    return mf.sql(query, **tables)


def runs_whole(dataset: mf.Dataset) -> bool:
    return "gather, SQL" in dataset.explain()


def same_rows(query: str, dataset: mf.Dataset, datafusion: SessionContext) -> None:
    got, wanted = dataset.to_arrow(), datafusion.sql(query).to_arrow_table()
    # Names are mmflow's own (test_columns_are_named_as_the_query_wrote_them).
    got = got.rename_columns(unique_names(wanted.schema.names))
    assert plain_types(got.schema) == plain_types(wanted.schema)
    if "order by" in query.rsplit(")", maxsplit=1)[-1]:
        assert rows_of(got) == rows_of(wanted)
    assert sorted(rows_of(got)) == sorted(rows_of(wanted))


@pytest.mark.parametrize("query", statements("split"))
def test_statements_that_split_give_datafusions_rows(
    query: str, tables: dict[str, mf.Dataset], datafusion: SessionContext
) -> None:
    dataset = asked(query, tables)
    assert not runs_whole(dataset)
    same_rows(query, dataset, datafusion)


@pytest.mark.parametrize("query", statements("one task"))
def test_statements_that_do_not_split_run_in_one_task(
    query: str, tables: dict[str, mf.Dataset], datafusion: SessionContext
) -> None:
    dataset = asked(query, tables)
    assert runs_whole(dataset)
    same_rows(query, dataset, datafusion)


@pytest.mark.parametrize("query", statements("nulls"))
def test_nulls_of_subqueries_are_as_in_duckdb(
    query: str, tables: dict[str, mf.Dataset], duck: duckdb.DuckDBPyConnection
) -> None:
    got = asked(query, tables).to_arrow()
    assert sorted(rows_of(got)) == sorted(rows_of(duck.sql(query).to_arrow_table()))


@pytest.mark.parametrize("query", statements("refused"))
def test_queries_that_cannot_run_are_one_clear_plan_error(query: str, tables: dict[str, mf.Dataset]) -> None:
    with pytest.raises(mf.PlanError) as refused:
        asked(query, tables).to_arrow()
    message = refused.value.message
    for raw in (
        "DataFusion error",
        "Error during planning",
        "caused by",
        "Physical plan",
        "NotImplemented(",
        "report",
    ):
        assert raw not in message


def test_explain_says_why_a_query_runs_in_one_task(tables: dict[str, mf.Dataset]) -> None:
    plan = asked("SELECT t.id FROM t JOIN range(3) r ON t.k = r.value", tables).explain()
    assert "gather: mmflow can't split what range() gives" in plan
    assert "2 of 26 columns: id, k" in plan


def test_verbs_go_on_from_a_query_that_runs_in_one_task(tables: dict[str, mf.Dataset]) -> None:
    numbers = asked("SELECT value AS n FROM range(10)", tables)
    assert numbers.filter(mf.col("n") > 6).to_arrow().to_pydict() == {"n": [7, 8, 9]}
    joined = asked("SELECT t.id FROM t, n WHERE t.id = n.n AND n.n < 3", tables | {"n": numbers})
    assert sorted(joined.to_arrow()["id"].to_pylist()) == [0, 1, 2]


def test_a_bug_of_the_planner_asks_for_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "bug_error", errors.build_bug_report)
    with (
        pytest.raises(mf.PlanError, match=r"could not plan, a bug: KeyError: 'x'; please report it"),
        errors.report_planner_bugs("plan"),
    ):
        raise KeyError("x")

"""Functions, operators and casts through mmflow's stages give what DataFusion gives on the same data, to the type."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from datafusion import SessionConfig, SessionContext

import mmflow as mf
from mmflow.config import EngineName
from tests.plan.made_calls import calls, functions, uses
from tests.plan.sql_tables import plain_types, rows_of, write_tables

EXPRESSIONS = [
    line
    for line in Path(__file__).with_name("expressions.sql").read_text().splitlines()
    if not line.startswith("--")
]
#: What Substrait can't carry: in one task.
WHOLE = ("arrow_field", "st, null", "null, st", "st is not distinct from null", "d + time", "d - time")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_tables(tmp_path_factory.mktemp("functions"))


@pytest.fixture(scope="module")
def datafusion(paths: dict[str, Path]) -> SessionContext:
    context = SessionContext(SessionConfig().with_target_partitions(1).with_information_schema(True))
    for name, path in paths.items():
        context.register_parquet(name, str(path))
    return context


@pytest.fixture(scope="module")
def tables(paths: dict[str, Path]) -> Iterator[dict[str, mf.Dataset]]:
    with mf.Session(workers=2, partitions=3, broadcast=0) as session:
        yield {name: session.read_parquet(str(path)) for name, path in paths.items()}


def differences(
    expressions: Sequence[str], tables: dict[str, mf.Dataset], datafusion: SessionContext, together: int = 40
) -> list[str]:
    """Expressions whose values or types are not DataFusion's, or that mmflow refuses."""
    found: list[str] = []
    for start in range(0, len(expressions), together):
        some = expressions[start : start + together]
        columns = ", ".join(f"{e} AS c{n}" for n, e in enumerate(some))
        query = f"SELECT id, {columns} FROM t ORDER BY id"
        try:
            dataset = mf.sql(query, t=tables["t"])
            whole = "gather, SQL" in dataset.explain()
            got = dataset.to_arrow()
        except mf.MmflowError as error:
            one = len(some) == 1
            if one and ("overflow: " in error.message or "compares a date with an integer" in error.message):
                continue  # what DataFusion wraps, and dates that it takes for numbers of days
            found += [f"{some[0]}: {error}"] if one else differences(some, tables, datafusion, together=1)
            continue
        wanted = datafusion.sql(query).to_arrow_table()
        if whole and not all(any(w in e for w in WHOLE) for e in some):
            one = len(some) == 1
            found += [f"{some[0]}: in one task"] if one else differences(some, tables, datafusion, together=1)
            continue
        types = zip(plain_types(got.schema), plain_types(wanted.schema), strict=True)
        for number, (expression, (got_type, wanted_type)) in enumerate(
            zip(["id", *some], types, strict=True)
        ):
            if got_type != wanted_type:
                found.append(f"{expression}: {got_type}, not {wanted_type}")
            elif rows_of(got.select([number])) != rows_of(wanted.select([number])):
                found.append(f"{expression}: other values")
    return found


def test_functions_operators_and_casts_give_datafusions_values(
    tables: dict[str, mf.Dataset], datafusion: SessionContext
) -> None:
    split = [e for e in EXPRESSIONS if not any(w in e for w in WHOLE)]
    assert differences(split, tables, datafusion) == []
    assert differences([e for e in EXPRESSIONS if e not in split], tables, datafusion) == []


def test_every_scalar_function_of_datafusion_is_tried(datafusion: SessionContext) -> None:
    tried = {e.split("(")[0] for e in EXPRESSIONS}
    assert [name for name in functions(datafusion, "SCALAR") if name not in tried] == []


def test_functions_mean_the_same_in_filters_and_keys(
    tables: dict[str, mf.Dataset], datafusion: SessionContext
) -> None:
    rng = random.Random(1)
    for expression in rng.sample([e for e in EXPRESSIONS if "similar" not in e and "arrow_" not in e], 6):
        for query in (
            f"SELECT count(*) FROM t WHERE ({expression}) IS NOT NULL",
            f"SELECT {expression} AS x, count(*), min(id) FROM t GROUP BY 1",
        ):
            got = mf.sql(query, t=tables["t"]).to_arrow()
            assert sorted(rows_of(got)) == sorted(rows_of(datafusion.sql(query).to_arrow_table())), query


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(8))
def test_random_calls_give_datafusions_values(
    seed: int, tables: dict[str, mf.Dataset], datafusion: SessionContext
) -> None:
    made = [*calls(datafusion, seed, each=12), *uses(datafusion, seed, share=1.0)]
    # What types tell of their layout is mmflow's own: text within maps and structs is a view there.
    # -0.0 equals 0 in mmflow, as in SQL. DataFusion makes an array that is not valid of a null that is zipped.
    compared = [
        e
        for e in made
        if not any(part in e for part in ("arrow_field", "-0.0", "arrays_zip(lf, null)"))
        and not e.startswith("arrow_typeof")
    ]
    assert len(compared) > 2000
    assert differences(compared, tables, datafusion) == []


# ---- aggregates and windows ---------------------------------------------------------------------------------


AGGREGATES = [
    line
    for line in Path(__file__).with_name("aggregates.sql").read_text().splitlines()
    if not line.startswith("--")
]
GROUPS = [
    "",
    "k",
    "b, k",
    "s",
    "li",
    "st",
    "d",
    "f64",
    "dec",
    "ts",
    "extract(year from d)",
    "rollup (k, b)",
    "cube (k, b)",
]
WINDOWS = [
    "row_number()", "rank()", "dense_rank()", "percent_rank()", "cume_dist()", "ntile(3)", "lag(s)", "lag(dec, 2)",
    "lead(st, 1)", "lead(id, 1, -1)", "first_value(d)", "last_value(s)", "nth_value(li, 2)", "first_value(s) ignore nulls",
    "lag(k) ignore nulls", "sum(i64)", "avg(f64)", "min(s)", "max(ts)", "count(*)", "count(s)", "sum(dec)", "bool_or(b)",
    "bit_or(u16)", "stddev(f64)", "median(i64)", "array_agg(k)", "corr(f64, i64)", "sum(i64) filter (where b)", "var_pop(f32)",
]  # fmt: skip
PARTITIONS = [
    "",
    "partition by k",
    "partition by b, k",
    "partition by s",
    "partition by k + 1",
    "partition by li",
]
ORDERS = [
    "order by id",
    "order by id desc",
    "order by k, id",
    "order by f64 nulls first, id",
    "order by s desc, id",
]
FRAMES = [
    "", "", "rows 2 preceding", "rows between 1 preceding and 1 following", "groups 1 preceding",
    "rows between unbounded preceding and unbounded following", "rows between 2 following and 4 following",
    "range between current row and unbounded following", "rows between unbounded preceding and 1 preceding",
]  # fmt: skip


def same(query: str, tables: dict[str, mf.Dataset], datafusion: SessionContext) -> None:
    wanted = datafusion.sql(query).to_arrow_table()
    try:
        got = mf.sql(query, t=tables["t"]).to_arrow()
    except mf.PlanError as error:
        # DataFusion refuses such frames itself, unless it can turn the order of the window around.
        assert "sliding accumulator" in error.message, query
        return
    assert plain_types(got.schema) == plain_types(wanted.schema), query
    for row, expected in zip(sorted(rows_of(got)), sorted(rows_of(wanted)), strict=True):
        assert all(map(equal_text, row, expected)), (query, row, expected)


def equal_text(value: str, expected: str) -> bool:
    """Return whether two values are equal, or numbers that differ by rounding: DataFusion subtracts in moving frames."""
    if value == expected:
        return True
    try:
        return math.isclose(float(value), float(expected), rel_tol=1e-7, abs_tol=1e-9)
    except ValueError:
        return False


def aggregated(aggregates: Sequence[str], group: str) -> str:
    columns = ", ".join(f"{a} AS c{n}" for n, a in enumerate(aggregates))
    if not group:
        return f"SELECT {columns} FROM t"
    return f"SELECT {'count(*) AS n' if '(' in group else group}, {columns} FROM t GROUP BY {group}"


def windowed(rng: random.Random, number: int) -> str:
    """Return a query of some window functions. Each frame fits each function."""
    chosen = []
    for n in range(number):
        over = f"{rng.choice(PARTITIONS)} {rng.choice(ORDERS)} {rng.choice(FRAMES)}"
        chosen.append(f"{rng.choice(WINDOWS)} OVER ({over}) AS c{n}")
    return f"SELECT id, {', '.join(chosen)} FROM t"


@pytest.mark.parametrize("group", ["", "k", "rollup (k, b)"])
def test_aggregates_give_datafusions_values(
    group: str, tables: dict[str, mf.Dataset], datafusion: SessionContext
) -> None:
    # DataFusion takes one order of rows in a query only.
    ordered = [a for a in AGGREGATES if "order by" in a and "order by id" not in a]
    merged = ("sum(i", "sum(d", "count(", "min", "max", "avg(", "bool", "bit_")
    alone = [a for a in AGGREGATES if a.startswith(merged) and "distinct" not in a]
    for some in ([a for a in AGGREGATES if a not in ordered], alone, *([a] for a in ordered)):
        same(aggregated(some, group), tables, datafusion)


@pytest.mark.parametrize("condition", ["id >= 0", "id < 0"])
@pytest.mark.parametrize("sets", ["(b), (k, b), (k)", "(k, b, k + 1), (k + 1), ()", "(k), (k), (b)"])
def test_grouping_sets_give_datafusions_rows(
    sets: str, condition: str, tables: dict[str, mf.Dataset], datafusion: SessionContext
) -> None:
    query = (
        "SELECT b, k, grouping(b) gb, grouping(k) gk, count(*) n, sum(i64) s, avg(f64) a, max(s) m, var_pop(f32) v "
        f"FROM t WHERE {condition} GROUP BY GROUPING SETS ({sets})"
    )
    same(query, tables, datafusion)


def test_window_functions_give_datafusions_values(
    tables: dict[str, mf.Dataset], datafusion: SessionContext
) -> None:
    rng = random.Random(3)
    queries = [windowed(rng, 4) for _ in range(12)]
    tried = [q for q in queries if not refused(q, datafusion)]
    assert len(tried) >= 4
    for query in tried:
        same(query, tables, datafusion)


def refused(query: str, datafusion: SessionContext) -> bool:
    """Return whether DataFusion itself can't run it."""
    try:
        datafusion.sql(query).to_arrow_table()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return True  # panics are no Exceptions
    return False


def test_every_aggregate_and_window_function_of_datafusion_is_tried(datafusion: SessionContext) -> None:
    tried = {e.split("(")[0] for e in AGGREGATES}
    assert [name for name in functions(datafusion, "AGGREGATE") if name not in tried] == []
    windows = {e.split("(")[0] for e in WINDOWS}
    assert [name for name in functions(datafusion, "WINDOW") if name not in windows] == []


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(4))
def test_random_aggregates_and_windows_give_datafusions_values(
    seed: int, tables: dict[str, mf.Dataset], datafusion: SessionContext
) -> None:
    rng = random.Random(seed)
    queries = [aggregated(rng.sample(AGGREGATES, 5), rng.choice(GROUPS)) for _ in range(120)]
    queries += [windowed(rng, rng.randint(1, 3)) for _ in range(200)]
    tried = [q for q in queries if not refused(q, datafusion)]
    assert len(tried) > 200
    for query in tried:
        same(query, tables, datafusion)


@pytest.mark.nightly
@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_engines_give_datafusions_values(
    engine: EngineName, paths: dict[str, Path], datafusion: SessionContext
) -> None:
    with mf.Session(engine=engine, workers=2, partitions=3, broadcast=0) as session:
        tables = {name: session.read_parquet(str(path)) for name, path in paths.items()}
        assert differences(EXPRESSIONS, tables, datafusion) == []
        for group in GROUPS:
            unordered = [a for a in AGGREGATES if "order by" not in a]
            same(aggregated(unordered, group), tables, datafusion)
        rng = random.Random(5)
        for query in [windowed(rng, 3) for _ in range(20)]:
            if not refused(query, datafusion):
                same(query, tables, datafusion)

"""SQL takes values as parameters and variables as tables. DuckDB is asked the same where it knows the same."""

from __future__ import annotations

import datetime as dt
import decimal
import pickle
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import mmflow as mf
from mmflow.api.sql.parameters import parse_literal
from mmflow.plan.fingerprint import digest
from mmflow.plan.stages import SqlStep

ROWS = {
    "a": [1, 2, None, 4],
    "s": ["x", "it's", None, ""],
    "d": [dt.date(2024, 1, 1), dt.date(2024, 2, 29), None, dt.date(1969, 12, 31)],
    "ts": [dt.datetime(2024, 1, 1, 12), dt.datetime(2024, 2, 29), None, dt.datetime(1969, 12, 31)],
    "f": [0.5, float("nan"), None, -1.5],
}


def rows_of(query: str, **values: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = mf.sql(query, **values).to_arrow().to_pylist()
    return rows


# ---- parameters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("SELECT a FROM t WHERE a > $x", {"x": 1}),
        ("SELECT a FROM t WHERE a < $x OR f < $x", {"x": 1.5}),
        ("SELECT a FROM t WHERE s = $x", {"x": "it's"}),
        ("SELECT a FROM t WHERE s <> $x", {"x": "' OR 1 = 1 --"}),
        ("SELECT a FROM t WHERE d >= $x", {"x": dt.date(2024, 1, 1)}),
        ("SELECT a FROM t WHERE d >= $x", {"x": dt.datetime(2024, 1, 1, 12)}),
        (
            "SELECT a FROM t WHERE ts BETWEEN $x AND $y",
            {"x": dt.date(2023, 1, 1), "y": dt.datetime(2024, 1, 1, 12)},
        ),
        ("SELECT a FROM t WHERE a = $x", {"x": None}),
        ("SELECT a, a IS NOT DISTINCT FROM $x AS same FROM t", {"x": None}),
        ("SELECT a FROM t WHERE a IN $x", {"x": [1, 4, 4]}),
        ("SELECT a FROM t WHERE a NOT IN $x", {"x": [1, 7]}),
        ("SELECT a FROM t WHERE s IN $x", {"x": ["it's", ""]}),
        ("SELECT a FROM t WHERE d IN $x", {"x": [dt.date(2024, 2, 29)]}),
        ("SELECT a FROM t WHERE a IN $x", {"x": []}),
        ("SELECT a FROM t WHERE a = ANY($x)", {"x": [2, 7]}),
        ("SELECT a FROM t WHERE ($b AND a > 1) OR a IN ($x, $y)", {"b": False, "x": 1, "y": 2.0}),
        ("SELECT sum($x * a) AS s, max($x) AS m FROM t", {"x": 2}),
        ("SELECT sum($x) AS s, min($y) AS m FROM t", {"x": 2.5, "y": "q"}),
        ("SELECT a + $x AS v, count(*) AS n FROM t GROUP BY a + $x", {"x": 0.25}),
        ("SELECT a FROM t ORDER BY a NULLS LAST LIMIT $n OFFSET $o", {"n": 2, "o": 1}),
        ("SELECT a FROM t WHERE a = $x UNION ALL SELECT $x AS a", {"x": 4}),
        ("SELECT d + $x AS v FROM t", {"x": dt.timedelta(days=2)}),
        ("SELECT ts + $x AS v FROM t", {"x": dt.timedelta(hours=30)}),
        ("SELECT '$x' AS v, a /* $y */ FROM t -- $z", {}),
        ("SELECT CASE WHEN a > $x THEN $s ELSE s END AS v FROM t", {"x": 1, "s": "$x"}),
        ("SELECT $x AS v", {"x": decimal.Decimal("12.50")}),
        ("SELECT $x AS v", {"x": b"\x00'"}),
        ("SELECT $x AS v", {"x": dt.time(1, 2, 3)}),
        ("SELECT $x AS v", {"x": {"a": 1, "b": "x"}}),
        ("SELECT unnest($x) AS v", {"x": [3, 1]}),
        ("SELECT row_number() OVER (ORDER BY a) + $x AS v FROM t", {"x": 10}),
        ("SELECT * FROM range($n) AS r(v) WHERE v > $m", {"n": 3, "m": 1}),
        ("SELECT * FROM range($n + 1, $n * 3, $n - 1) AS r(v)", {"n": 3}),
        ("SELECT r.v FROM t, range($n) AS r(v)", {"n": 2}),
        ("SELECT * FROM generate_series($x, $y) AS r(v)", {"x": -1, "y": 3}),
        (
            "SELECT * FROM generate_series($x, $y, $z) AS r(v)",
            {"x": dt.datetime(2024, 1, 1), "y": dt.datetime(2024, 1, 2), "z": dt.timedelta(hours=12)},
        ),
        ("SELECT range($n) AS r", {"n": 3}),
        ("SELECT s FROM t WHERE s LIKE $p", {"p": "it'%"}),
        ("SELECT s FROM t WHERE s NOT ILIKE $p", {"p": "X"}),
        ("SELECT * FROM (VALUES ($x, $y), (2, $z)) v(a, b)", {"x": 1, "y": "' --", "z": None}),
        ("SELECT sum(a) OVER (ORDER BY a ROWS $n PRECEDING) AS v FROM t", {"n": 1}),
        (
            "SELECT sum(a) OVER (ORDER BY a ROWS BETWEEN $n PRECEDING AND $m FOLLOWING) AS v FROM t",
            {"n": 0, "m": 1},
        ),
        (
            "SELECT sum(a) OVER (ORDER BY d RANGE BETWEEN $x PRECEDING AND CURRENT ROW) AS v FROM t WHERE d > '2000-01-01'",
            {"x": dt.timedelta(days=60)},
        ),
        ("SELECT ts + INTERVAL ($n) DAY AS v, ts - INTERVAL ($n) HOUR AS w FROM t", {"n": 2}),
        ("SELECT date_part('epoch', ts AT TIME ZONE $z) AS v FROM t WHERE a = 1", {"z": "Asia/Tokyo"}),
        ("SELECT date_part($p, d) AS v FROM t", {"p": "year"}),
        ("SELECT {'x': a}[$f] AS v FROM t", {"f": "x"}),
        ("SELECT lag(a, $n, $d) OVER (ORDER BY a) AS v FROM t", {"n": 1, "d": -1}),
        ("SELECT a FROM t WHERE $x IS NULL OR a = $x", {"x": None}),
        ("SELECT coalesce($x, s) AS v FROM t", {"x": None}),
        ("SELECT a FROM t WHERE ts < $x", {"x": dt.datetime(2024, 1, 2, tzinfo=dt.UTC)}),
        ("SELECT a * $x AS v FROM t", {"x": decimal.Decimal("1.50")}),
        ("SELECT a, sum(a) AS n FROM t GROUP BY a HAVING sum(a) > $m", {"m": 1}),
    ],
)
def test_parameters_give_duckdbs_rows(query: str, values: dict[str, Any]) -> None:
    t = pa.table(ROWS)
    with duckdb.connect() as connection:
        connection.register("t", t)
        wanted = connection.sql(query, params=values or None).to_arrow_table().to_pylist()
    got = rows_of(query, t=t, **values)
    if "ORDER BY a NULLS" not in query:
        wanted, got = sorted(wanted, key=str), sorted(got, key=str)
    assert [str(_midnights(row)) for row in got] == [str(_midnights(row)) for row in wanted]


def _midnights(row: dict[str, Any]) -> dict[str, Any]:
    """Rows whose dates are timestamps, as DuckDB's are after an addition."""
    made = {}
    for name, value in row.items():
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            value = dt.datetime.combine(value, dt.time())
        made[name] = float(value) if isinstance(value, decimal.Decimal | int) else value
        made[name] = value.to_pydatetime() if isinstance(value, pd.Timestamp) else made[name]
    return made


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (2**64 - 1, pa.uint64()), (-(2**63) - 1, pa.decimal128(38, 0)), (True, pa.bool_()), (None, pa.null()),
        (np.int8(3), pa.int8()), (np.datetime64("2024-01-01"), pa.date32()), (np.array([1.5]), pa.list_(pa.float64())),
        (pl.Series([1]), pa.list_(pa.int64())), (pd.Series(["x"]), pa.list_(pa.string())), ([], pa.list_(pa.null())),
        (pa.scalar(3, pa.int16()), pa.int16()), ([[1], []], pa.list_(pa.list_(pa.int64()))),
        (dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo")), pa.timestamp("us", "Asia/Tokyo")),
    ],
)  # fmt: skip
def test_a_parameter_has_the_type_of_its_value(value: Any, kind: pa.DataType) -> None:
    made = mf.sql("SELECT $x AS x", x=value).to_arrow()
    assert str(made.schema.field("x").type) == str(kind)
    expected = value.as_py() if isinstance(value, pa.Scalar) else value
    got = made["x"].to_pylist()[0]
    assert list(got) == list(expected) if isinstance(got, list) else got == expected


def test_a_null_in_a_list_means_what_it_means_in_a_written_list() -> None:
    written = duckdb.sql("SELECT 2 IN (1, NULL) AS v, 2 NOT IN (1, NULL) AS w, 1 IN (1, NULL) AS x")
    got = rows_of("SELECT 2 IN $x AS v, 2 NOT IN $x AS w, 1 IN $x AS x", x=[1, None])
    assert got == written.to_arrow_table().to_pylist()


@pytest.mark.parametrize(
    "text",
    ["[1, 2]", "['a''b', 'c, d']", "[]", "3", "-3", "18446744073709551615", "1.5", ".5", "2e3", "true", "FALSE", "null", "'3'", "'it''s'", "''", "it's",
     "2024-02-29", "2024-02-29 12:00:00.25", "x=1", "", "1_000", "0x10", "1.2.3", "$y"],
)  # fmt: skip
def test_a_value_of_the_command_line_is_read_as_sql_reads_it(text: str) -> None:
    value = parse_literal(text)
    if isinstance(value, str) and not text.startswith("'"):
        assert value == text
        return
    written = f"DATE '{text}'" if text == "2024-02-29" else f"TIMESTAMP '{text}'" if ":" in text else text
    assert (
        rows_of("SELECT $x AS v", x=value)
        == duckdb.sql(f"SELECT {written} AS v").to_arrow_table().to_pylist()
    )


def test_a_query_in_one_task_has_its_parameters() -> None:
    query = "SELECT lag(a) IGNORE NULLS OVER (ORDER BY a) AS l, $x AS x FROM t WHERE a < $y"
    assert "gather" in mf.sql(query, t=ROWS, x="s", y=3).explain()
    assert rows_of(query, t=ROWS, x="s", y=3) == [{"l": None, "x": "s"}, {"l": 1, "x": "s"}]


def test_parameters_travel_with_their_stage_and_count_in_its_digest() -> None:
    def stages(value: Any) -> Any:
        query = "SELECT lag(a) IGNORE NULLS OVER (ORDER BY a) AS l, $x AS x FROM t"
        return mf.sql(query, t=mf.from_arrow(ROWS), x=value)._plan().stages

    made = stages(dt.date(2024, 1, 1))[-1].steps
    there = pickle.loads(pickle.dumps(made))  # as a worker has it
    assert [dict(step.parameters)["x"].as_py() for step in there if isinstance(step, SqlStep)] == [
        dt.date(2024, 1, 1)
    ]
    assert digest(there) == digest(made) == digest(stages(dt.date(2024, 1, 1))[-1].steps)
    assert digest(made) != digest(stages(dt.date(2024, 1, 2))[-1].steps)


def test_columns_are_named_by_their_parameters() -> None:
    assert mf.sql("SELECT $x, sum($x) FROM t GROUP BY 1", t=ROWS, x=1).columns == ["$x", "sum($x)"]


@pytest.mark.parametrize(
    ("query", "values", "message"),
    [
        ("SELECT $least", {"last": 1}, "$least has no value: give it as least=…, or on the command line --param"),
        ("SELECT $least", {"last": 1}, "; did you mean $last?"),
        ("SELECT 1", {"x": 1}, "x = 1 is not used: the query has no $x, and an int is no table; a table is"),
        ("SELECT $x", {"x": object}, "$x is a type, which no type of SQL holds"),
        ("SELECT $x", {"x": 10**40}, "38 digits"),
        ("SELECT 1 IN $x", {"x": 1}, "IN $x needs a list, and it is int64: write IN ($x)"),
        ("SELECT 'a' IN $x", {"x": "a"}, "IN $x needs a list, and it is string: write IN ($x)"),
        ("SELECT 1 IN ($x)", {"x": [1]}, "int64 can't be compared with a list: for the values of a list, write IN $name"),
        ("FROM $x", {"x": "a.csv"}, "$x stands where the name of a table does: a file whose path is a parameter is read($x)"),
        ("FROM range($x)", {"x": "2); SELECT 1 --"}, "range() takes integers, dates, timestamps without zones and intervals"),
        ("SELECT sum(1) OVER (ROWS $x PRECEDING)", {"x": -1}, "is an integer, and not negative: it is -1"),
        ("SELECT sum(1) OVER (ROWS $x PRECEDING)", {"x": "1 PRECEDING) --"}, "is an integer, and not negative: it is '1 P"),
        ("SELECT INTERVAL $x DAY", {"x": "1"}, "INTERVAL $x takes a number: $x is '1'"),
        ("SELECT INTERVAL $x", {"x": 1}, "INTERVAL $x takes text such as '2 days', or a timedelta"),
        ("SELECT INTERVAL $x", {"x": "1' || '"}, "Invalid input syntax for type interval"),
        ("SELECT now() AT TIME ZONE $x", {"x": 1}, "$x must be text for AT TIME ZONE: it is 1"),
        ("SELECT * FROM t, range(t.a + $x) r", {"x": 1, "t": ROWS}, "t.a + $x is none: unnest(range(…)) in SELECT"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(query: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(mf.PlanError) as error:
        mf.sql(query, **values)
    assert message in str(error.value)


# ---- variables --------------------------------------------------------------------------------------

GLOBAL_TABLE = pa.table({"a": [7]})
shadowed = pa.table({"a": [0]})


def test_variables_are_tables_by_their_exact_name(tmp_path: Path) -> None:
    Frame, frame = pd.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]})  # noqa: N806, F841  (SQL reads them)
    reader = pa.table({"a": [3]}).to_reader()  # noqa: F841
    relation = duckdb.sql("SELECT 4 AS a")  # noqa: F841
    columns, shadowed = {"a": [5]}, mf.from_arrow({"a": [6]})  # noqa: F841
    for name, value in {
        "Frame": 1, "frame": 2, "reader": 3, "relation": 4, "columns": 5, "shadowed": 6, "GLOBAL_TABLE": 7
    }.items():  # fmt: skip
        assert mf.sql(f"SELECT a FROM {name}").to_arrow().to_pydict() == {"a": [value]}
    assert rows_of_with_frames() == [{"a": 9}]
    assert [mf.sql('SELECT a FROM "Frame" WHERE a = $x', x=x).count() for x in (0, 1)] == [0, 1]
    with pytest.raises(mf.PlanError, match="Frame and frame are one name in SQL"):
        mf.sql("SELECT * FROM Frame, frame")
    with pytest.raises(mf.PlanError, match="there is no table 'FRAME'; did you mean"):
        mf.sql('SELECT * FROM "FRAME"')


def rows_of_with_frames() -> list[dict[str, Any]]:
    """Rows of a variable of this function, whatever the caller's is."""
    Frame = {"a": [9]}  # noqa: N806, F841
    rows: list[dict[str, Any]] = mf.Session().sql("SELECT * FROM Frame").to_arrow().to_pylist()
    return rows


def test_given_tables_and_names_of_the_query_win_over_variables() -> None:
    t = {"a": [1]}  # noqa: F841
    assert rows_of_given() == [{"a": 2}]
    assert mf.sql("WITH t AS (SELECT 3 AS a) SELECT * FROM t").to_arrow().to_pylist() == [{"a": 3}]


def rows_of_given() -> list[dict[str, Any]]:
    T = {"a": [1]}  # noqa: N806, F841
    return mf.sql("SELECT * FROM T", T={"a": [2]}).to_arrow().to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([1], "a list"),
        (3, "an int"),
        (pl.LazyFrame(), "a polars.LazyFrame"),
        (pa, "a module"),
        (mf.Session, "a type"),
    ],
)
def test_a_variable_that_is_no_table_is_named_with_its_type(value: Any, kind: str) -> None:
    with pytest.raises(mf.PlanError) as error:
        mf.sql("SELECT * FROM value")
    assert f"value is {kind}, which is no table" in str(error.value)


def test_a_file_is_read_where_no_variable_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("logs").write_text("a\n1\n")
    assert mf.sql("SELECT * FROM logs").count() == 2  # lines
    logs = {"a": [1, 2, 3]}  # noqa: F841
    assert mf.sql("SELECT * FROM logs").count() == 3
    assert mf.sql("SELECT * FROM 'logs'").count() == 2


def test_a_query_runs_in_the_session_of_its_dataset() -> None:
    with mf.Session(workers=1, partitions=5) as session:
        ours = session.from_arrow({"a": [1, 1]})
        assert mf.sql("SELECT a FROM ours").context is ours.context


def test_rows_of_two_sessions_can_be_combined() -> None:
    left, right = mf.Session().from_arrow({"a": [1]}), mf.Session().from_arrow({"a": [2]})
    assert mf.sql(
        "SELECT l.a, r.a AS b FROM left_ l, right_ r", left_=left, right_=right
    ).to_arrow().to_pylist() == [{"a": 1, "b": 2}]
    assert left.union(right).to_arrow().to_pydict() == {"a": [1, 2]}
    assert left.join(right, "a").count() == 0


# ---- functions --------------------------------------------------------------------------------------


def test_a_registered_function_works_in_the_first_query() -> None:
    @mf.udf("int64", "int64", name="Twice")
    def twice(values: pa.Array) -> pa.Array:
        return pc.multiply(values, 2)

    with mf.Session() as session:
        session.register_udf(twice)
        assert session.sql(
            'SELECT "Twice"(a) AS v FROM t WHERE a > $x', t={"a": [1, 2]}, x=1
        ).to_arrow().to_pylist() == [{"v": 4}]


@mf.udf("int64", "int64")
def Doubled(values: pa.Array) -> pa.Array:  # noqa: N802
    return pc.multiply(values, 2)


def _tripled(values: pa.Array) -> pa.Array:
    return pc.multiply(values, 3)


def test_functions_in_scope_are_found_by_their_exact_name() -> None:
    t = {"a": [1, 2]}  # noqa: F841
    tripled = mf.udf("int64", "int64", name="other")(_tripled)
    assert rows_of_scope() == [{"Doubled(a)": 3, "b": 6}, {"Doubled(a)": 6, "b": 12}]
    found = mf.sql('SELECT Doubled(a) AS d, "Doubled"(a) + tripled(a) AS s FROM t WHERE tripled(a) > $x', x=3)
    assert found.to_arrow().to_pylist() == [{"d": 4, "s": 10}]
    # The call's come first, then the session's, then variables, then DataFusion's own.
    abs = tripled  # noqa: A001, F841
    assert mf.sql("SELECT abs(a) AS v FROM t").to_arrow().to_pydict() == {"v": [3, 6]}
    assert mf.sql("SELECT abs(a) AS v FROM t", abs=Doubled).to_arrow().to_pydict() == {"v": [2, 4]}
    with mf.Session() as session:
        session.register_udf(mf.udf("int64", "int64", name="abs")(lambda v: pc.multiply(v, 5)))
        assert session.sql("SELECT abs(a) AS v FROM t").to_arrow().to_pydict() == {"v": [5, 10]}
        given = session.sql("SELECT abs(a) AS v, abs FROM (SELECT a, 1 AS abs FROM t)", abs=Doubled)
        assert given.to_arrow().to_pydict() == {"v": [2, 4], "abs": [1, 1]}
    assert rows_without_functions() == [{"v": 1}]


def rows_of_scope() -> list[dict[str, Any]]:
    """Rows of a function of this scope, whatever the global one is."""
    t = {"a": [1, 2]}  # noqa: F841
    Doubled = mf.udf("int64", "int64")(_tripled)  # noqa: N806, F841
    return rows_of_caller("SELECT Doubled(a), Doubled(a) * 2 AS b FROM t", mf.sql)


def rows_of_caller(query: str, sql: Any) -> list[dict[str, Any]]:
    t, Doubled = {"a": [1, 2]}, mf.udf("int64", "int64")(_tripled)  # noqa: N806, F841
    return sql(query).to_arrow().to_pylist()  # type: ignore[no-any-return]


def rows_without_functions() -> list[dict[str, Any]]:
    return mf.sql("SELECT abs(a) AS v FROM t", t={"a": [-1]}).to_arrow().to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("query", "values", "message"),
    [
        ("SELECT doubled(1)", {}, "there is no function doubled()"),
        ("SELECT _tripled(1)", {}, "_tripled is a function, which SQL can't call: decorate it by mf.udf(…)"),
        ("SELECT 1 AS f", {"f": Doubled}, "f is a function, and the query does not call f()"),
        ("SELECT 1 AS f", {"f": _tripled}, "is not used: the query has no $f, and a function is no table"),
        ("SELECT $f", {"f": Doubled}, "$f is"),
    ],
)
def test_functions_out_of_scope_are_named(query: str, values: dict[str, Any], message: str) -> None:
    mf.from_arrow({"a": [1]}).select(
        mf.udf("int64", "int64", name="doubled")(_tripled)(mf.col("a"))
    ).to_arrow()
    with pytest.raises(mf.PlanError) as error:
        mf.sql(query, **values)
    assert message in str(error.value)

"""Boolean expressions over nulls give what DuckDB gives: projected, filtered by, negated, and asked whether they are null."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow.errors import PlanError

#: Over t: text l, d and patterns p, integers x, floats f, booleans b; each with nulls.
EXPRESSIONS = [
    *(f"l {op} {pattern}" for op in ("~", "!~", "~*", "!~*") for pattern in ("'.*'", "''", "'^.*$'", "'.+'", "'^a$'", "'a|b'", "d", "null")),
    *(f"l {op} {pattern}" for op in ("LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE") for pattern in ("'%'", "'%%'", "''", "'A'", "'a%'", "p", "l")),
    *("l ~ '.*' AND d ~ '.*'", "l ~ '.*' OR d ~ '.*'", "l LIKE '%' AND d LIKE '%'", "starts_with(l, '')", "contains(l, '')"),
    *(f"x {op} x" for op in ("=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM")),
    *("f = f", "f <> f", "x - x = 0", "x * 0 = 0", "x % 1 = 0", "x + 0 = x", "x / 1 = x", "x & 0 = 0", "f * 0 = 0", "f - f = 0"),
    *("b AND NOT b", "b OR NOT b", "b AND NULL", "b OR NULL", "b = true", "b <> false", "b AND (b OR x > 1)", "b OR (b AND x > 1)"),
    *("(b AND x > 1) OR (b AND x <= 1)", "(x > 1) = (x > 1)", "coalesce(x = x, false)", "coalesce(b, b)", "nullif(b, b)", "nullif(x, x) = 1"),
    *("CASE WHEN b THEN true ELSE false END", "CASE WHEN b THEN true END", "CASE WHEN b THEN x ELSE x END = 1"),
    *("CASE x WHEN x THEN b ELSE false END", "CASE WHEN x IN (1) THEN 1 END = 2", "CASE b WHEN NULL THEN b ELSE NOT b END"),
    *("x IN (1)", "x NOT IN (1, NULL)", "x IN (x)", "x NOT IN (x, 1)", "x IN (NULL)", "x NOT IN (NULL)", "l IN ('')"),
    *(f"x {a} (1, 2) {op} x {b} ({c})" for a in ("IN", "NOT IN") for b in ("IN", "NOT IN") for op in ("AND", "OR") for c in ("3, 4", "1, 2", "2, 3, 5, 6, 7")),
    *("x IN (1, 2) AND b AND x IN (3, 4)", "x IN (1) AND x IN (2) AND x IN (3)", "x IN (1, 2) AND (x IN (2, 3) AND x IN (4))"),
    *("NOT (x IN (1, 2) OR x NOT IN (1, 2))", "NOT x IN (1) OR NOT x IN (2)", "x IN (1, 2) AND x = 3", "x + 1 IN (2) AND x + 1 IN (3)"),
    *("x = 1 AND x = 2", "x <> 1 OR x <> 2", "x > 5 AND x < 3", "x >= 0 OR x < 0", "x BETWEEN 5 AND 3", "x NOT BETWEEN 5 AND 3"),
    *("x NOT BETWEEN NULL AND 3", "x = NULL", "x < 9223372036854775807", "x >= -9223372036854775808", "x <> 1.5", "length(l) >= 0"),
    *("cast(x AS double) <> 1.5", "cast(x AS varchar) <> '1'", "l = 'a' OR l <> 'a'", "l LIKE 'a%' OR l NOT LIKE 'a%'", "greatest(x, NULL) = x"),
]  # fmt: skip
FORMS = (
    "{}",
    "NOT ({})",
    "({}) IS NULL",
    "({}) IS NOT FALSE",
    "({}) OR b",
    "CASE WHEN {} THEN 1 ELSE 2 END = 2",
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = pa.table(
        {
            "id": range(5),
            "l": ["a", None, "", "ab", "B"],
            "d": ["a", "x", None, "b", ""],
            "p": ["%", None, "", "a%", "_"],
            "x": pa.array([1, None, 0, -3, 2], pa.int64()),
            "f": pa.array([1.5, None, 0.0, 2.5, -0.0]),
            "b": [True, None, False, True, None],
        }
    )
    path = tmp_path_factory.mktemp("nulls") / "t.parquet"
    pq.write_table(table, path)
    return path


def values(rows: Any) -> list[tuple[Any, ...]]:
    return list(zip(*rows.to_pydict().values(), strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_nulls_stay_unknown(path: Path, form: str) -> None:
    tests = [form.format(e) for e in EXPRESSIONS]
    projected = (
        "SELECT id, " + ", ".join(f"{e} AS c{n}" for n, e in enumerate(tests)) + " FROM {t} ORDER BY id"
    )
    counted = [f"SELECT {n} AS n, count(*) AS rows FROM {{t}} WHERE {e}" for n, e in enumerate(tests)]
    with mf.Session(workers=1) as session:
        ds = session.read_parquet(path)
        for query in (projected, " UNION ALL ".join(counted) + " ORDER BY n"):
            expected = duckdb.sql(query.format(t=f"'{path}'")).to_arrow_table()
            found = session.sql(query.format(t="t"), t=ds).to_arrow()
            wrong = [
                e
                for n, e in enumerate(tests)
                if (
                    found[f"c{n}"].to_pylist() != expected[f"c{n}"].to_pylist()
                    if query is projected
                    else found["rows"][n].as_py() != expected["rows"][n].as_py()
                )
            ]
            assert wrong == []


@pytest.mark.parametrize(
    "test",
    [
        "l SIMILAR TO 'b'",
        "l NOT SIMILAR TO 'a%'",
        "l ~ '.*'",
        "x IN (1, 2) AND x IN (3)",
        "x NOT IN (1) OR x NOT IN (2)",
    ],
)
def test_queries_that_would_lose_nulls_as_sql_are_refused(path: Path, test: str) -> None:
    with mf.Session(workers=1) as session, pytest.raises(PlanError, match="write"):
        session.sql(
            f"SELECT {test}, first_value(x) IGNORE NULLS OVER (ORDER BY id) FROM t",
            t=session.read_parquet(path),
        )


@pytest.mark.parametrize(
    "test", ["l = ' SIMILAR TO '", "x IN (1, 2) AND id IN (3)", "x IN (1) OR x IN (2)", "l ~ '(?:.*)'"]
)
def test_other_tests_run_as_sql(path: Path, test: str) -> None:
    with mf.Session(workers=1) as session:
        query = f"SELECT {test}, first_value(x) IGNORE NULLS OVER (ORDER BY id) FROM t"
        assert "gather, SQL" in session.sql(query, t=session.read_parquet(path)).explain()


def test_nulls_of_expressions_stay_unknown(path: Path) -> None:
    from mmflow import col
    from mmflow import functions as F  # noqa: N812  (as users write it)

    with mf.Session(workers=1) as session:
        ds = session.read_parquet(path)
        matched = ds.select(F.regexp_like(col("l"), mf.lit(".*")).alias("m")).to_arrow()["m"].to_pylist()
        assert matched == [True, None, True, True, True]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT o['q'] v FROM t",
        "SELECT o['r']['z'] v FROM t",
        "SELECT max(o['q']) v FROM t GROUP BY o IS NULL",
        "SELECT o['q'] v FROM t GROUP BY o['q']",
        "SELECT lag(o['q'], 0) OVER (ORDER BY o IS NULL) v FROM t",
    ],
)
def test_a_field_of_a_null_struct_is_null(query: str) -> None:
    kind = pa.struct({"q": pa.int64(), "r": pa.struct({"z": pa.int64()})})
    t = mf.from_arrow(pa.table({"o": pa.array([{"q": 1, "r": {"z": 1}}, None], kind)}))
    assert sorted(mf.sql(query, t=t).to_arrow()["v"].to_pylist(), key=str) == [1, None]
    assert mf.sql("SELECT count(*) n FROM t WHERE o['q'] = 0", t=t).to_arrow()["n"].to_pylist() == [0]

"""Table functions, queries that begin with FROM, DESCRIBE and SUMMARIZE. DuckDB is asked the same where it knows the same."""

from __future__ import annotations

import datetime as dt
import decimal
import re
import struct
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow.api.sql.statements import with_select


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("s.csv").write_text("a;b\n1;x\n2;NA\n3;z\n")
    Path("j.ndjson").write_text('{"a": 1, "b": [1.5]}\n{"a": 2, "b": []}\n')
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", None]}), "p.parquet")
    return tmp_path


def rows_of(query: str, **values: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = mf.sql(query, **values).to_arrow().to_pylist()
    return rows


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a, b FROM read_csv('s.csv', delimiter => ';', null => 'NA') ORDER BY a",
        "SELECT a, b FROM read_csv('s.csv', delimiter => ';', null => ['NA', '']) ORDER BY a",
        "FROM read_csv(['s.csv', 's.csv'], delimiter = ';') r WHERE r.a > 1 ORDER BY a, b",
        "FROM read_csv('s.csv', delimiter := ';', header := true) JOIN read_parquet('p.parquet') p USING (a) SELECT a, p.b ORDER BY a",
        "FROM read_json('j.ndjson') ORDER BY a",
        "SELECT count(*) AS n FROM read_parquet('*.parquet')",
        "FROM 'p.parquet' ORDER BY a",
        "FROM 'p.parquet' WHERE b IS DISTINCT FROM 'x'",
        "FROM 'p.parquet' SELECT a + 1 AS n WHERE a > 1",
        "WITH q AS (FROM 'p.parquet') FROM q LIMIT 1",
        "FROM 'p.parquet' WHERE a = 1 UNION ALL FROM 'p.parquet' ORDER BY a",
        "FROM (FROM 'p.parquet' WHERE a = 2) x, (SELECT 5 AS k)",
        "SELECT a FROM 'p.parquet' WHERE a IN (FROM range(2))",
        "SELECT extract(year FROM DATE '2024-01-01') AS y, trim(BOTH 'x' FROM 'xax') AS t, 'FROM (' AS f",
        "SELECT * FROM range(2, 7, 2) AS r(v)",
        "FROM generate_series(1, 3) AS g(v)",
        "SELECT a, v FROM 'p.parquet', unnest([7, 8]) AS u(v) ORDER BY a, v",
        "WITH q AS MATERIALIZED (FROM 'p.parquet'), r AS NOT MATERIALIZED (FROM q) FROM r ORDER BY a",
        "FROM 'p.parquet' SEMI JOIN (SELECT 1 AS a) USING (a)",
        "FROM VALUES (1, 'x'), (2, concat('y', 'z')) AS v(a, b) ORDER BY a",
        "FROM 'p.parquet' ANTI JOIN (SELECT 1 AS a) USING (a)",
        "SELECT b, sum(a) AS s FROM 'p.parquet' GROUP BY ALL ORDER BY s",
        "FROM 'p.parquet' ORDER BY ALL",
        "SELECT b, a FROM 'p.parquet' UNION ALL SELECT 'y', 3 ORDER BY ALL DESC NULLS LAST LIMIT 2",
        "SELECT upper(b) AS u, sum(a) AS s FROM 'p.parquet' GROUP BY ALL ORDER BY ALL NULLS FIRST",
        'SELECT * FROM (SELECT 2 AS "all" UNION ALL SELECT 1) ORDER BY "all"',
        "SELECT a FROM 'p.parquet' QUALIFY row_number() OVER (ORDER BY a) = 1",
        "SELECT * EXCLUDE (b) REPLACE (a + 1 AS a) FROM 'p.parquet' ORDER BY a",
        "SELECT [1, 2][1] AS l, {'x': a} AS s, MAP {'k': a} AS m, '3'::INT AS c FROM 'p.parquet' ORDER BY a",
        "SELECT t.a, x.n FROM 'p.parquet' t, LATERAL (SELECT count(*) AS n FROM 'p.parquet' q WHERE q.a = t.a) x ORDER BY a",
        "SELECT a, unnest([a, 2 * a]) AS v FROM 'p.parquet' ORDER BY a, v",
        "SELECT sum(a) OVER (ORDER BY d RANGE INTERVAL 1 DAY PRECEDING) AS s FROM (SELECT a, DATE '2024-01-01' + a::INT AS d FROM 'p.parquet') ORDER BY s",
        'SELECT "a" AS "My a" /* a /* b */ c */ FROM "p.parquet" ORDER BY 1 -- done\n;',
        "SELECT DISTINCT ON (b) a, b FROM 'p.parquet' ORDER BY b, a",
        "SELECT count(*) FILTER (WHERE a > 1) AS n, string_agg(b, '-') AS s FROM 'p.parquet'",
    ],
)
def test_statements_give_duckdbs_rows(query: str) -> None:
    theirs = query.replace("delimiter", "delim").replace("null =>", "nullstr =>")
    assert rows_of(query) == duckdb.sql(theirs).to_arrow_table().to_pylist()


def test_every_reader_is_a_table_function() -> None:
    np.save("n.npy", np.arange(2))
    mf.from_arrow({"a": [1]}).write_arrow("a.arrow")
    Path("r.bin").write_bytes(b"head" + struct.pack("<ii", 1, 2))
    layout = "[{'name': 'id', 'type': 'int32', 'offset': 0}]"
    assert rows_of("SELECT line, _line FROM read_text('s.csv') WHERE _line = 2") == [
        {"line": "1;x", "_line": 2}
    ]
    assert rows_of("FROM read_npy('n.npy')") == [{"value": 0}, {"value": 1}]
    assert rows_of("FROM read_arrow('a.arrow')") == [{"a": 1}]
    assert rows_of(f"FROM read_records('r.bin', layout => {layout}, header_bytes => 4)") == [
        {"id": 1},
        {"id": 2},
    ]
    assert rows_of("FROM read('s.csv', format => 'text') LIMIT 1") == [{"line": "a;b"}]
    assert (
        mf.sql("FROM read_csv('s.csv', delimiter => ';', schema => {'a': 'int8', 'b': 'string'})")
        .schema.field("a")
        .type
        == pa.int8()
    )
    assert rows_of("FROM read_csv($p, delimiter => $d) WHERE a = $a", p="s.csv", d=";", a=1) == [
        {"a": 1, "b": "x"}
    ]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("FROM 'p.parquet' x JOIN 'p.parquet' y ON x.a = y.a ORDER BY x.a LIMIT 1", ["a", "b", "a_1", "b_1"]),
        ("SELECT DISTINCT x.a, y.a, y.b AS a_1 FROM 'p.parquet' x, 'p.parquet' y", ["a", "a_2", "a_1"]),
        ("SELECT x.a, y.a FROM (SELECT unnest([a]) AS a FROM 'p.parquet') x, 'p.parquet' y", ["a", "a_1"]),
        ("SELECT x.a, twice(y.a) AS t, y.a FROM 'p.parquet' x, 'p.parquet' y", ["a", "t", "a_1"]),
    ],
)
def test_columns_of_several_tables_have_names_of_their_own(query: str, names: list[str]) -> None:
    twice = mf.udf("int64", "int64")(lambda values: pc.multiply(values, 2))
    found = mf.sql(query, twice=twice) if "twice" in query else mf.sql(query)
    assert found.columns == names
    frame = found.to_polars()
    assert frame.columns == names
    rows = [tuple(row.values()) for row in found.to_dicts()]
    assert sorted(frame.rows()) == sorted(rows) if "DISTINCT" in query else frame.rows() == rows


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "FROM read_csv('s.csv', delim => ';')",
            "read_csv has no option 'delim'; did you mean 'delimiter'? its options",
        ),
        ("FROM read_csv('s.csv', nullstr => ';')", "did you mean 'null'?"),
        ("FROM read_csv('s.csv', ';')", "write the options behind the path as name => value"),
        ("FROM read_csv('s.csv', hive => 1)", "hive => 1 must be of type bool"),
        ("FROM read_csv('s.csv', exact => 'x')", "exact => 'x' must be of type bool"),
        ("FROM read_csv('s.csv', null => 5)", "SQL: null = 5: must be a text, or a list of texts"),
        ("FROM read_csv('s.csv', header => b)", "header => b is no constant"),
        ("FROM read_csv()", "read_csv needs a path"),
        ("DESCRIBE", "DESCRIBE needs a query, or a table"),
        (" -- nothing", "the query is empty"),
        ("SELECT * FROM 'p.parquet' TABLESAMPLE (10)", "TABLESAMPLE is not supported: use Dataset.sample"),
        ("SELECT a, count(*) FROM 'p.parquet' GROUP BY a WITH ROLLUP", "write GROUP BY ROLLUP (…)"),
        ("FROM 'p.parquet' EXCEPT ALL FROM 'p.parquet'", "EXCEPT ALL is not supported"),
        ("SELECT * ILIKE 'a' FROM 'p.parquet'", "* ILIKE is not supported: name the columns"),
        ("SELECT FROM 'p.parquet'", "SELECT FROM is not supported: name columns"),
        ("SELECT sum(b) FROM 'p.parquet'", "SQL: sum() takes no string: cast the argument"),
        ("SELECT substr(b, 'x') FROM 'p.parquet'", "SQL: substr() takes no string: cast the argument"),
        ("SELECT upper(b, 1) FROM 'p.parquet'", "SQL: upper() takes 1 argument, and 2 are given"),
        ("SELECT a + b FROM 'p.parquet'", "SQL: int64 + string has no meaning: cast one of them"),
        ("SELECT c FROM 'p.parquet'", "SQL: there is no column c; the columns are a, b"),
        ("SELECT nosuch(a) FROM 'p.parquet'", "SQL: there is no function nosuch()"),
        ("SELECT a, count(*) FROM 'p.parquet'", "column a must be in GROUP BY or within an aggregate"),
        ("SELECT (a FROM 'p.parquet'", "expected ), found FROM (line 1, column 11)"),
        ("SELECT 'a", "Unterminated string literal (line 1, column 8)"),
        (
            "SELECT * FROM 'p.parquet' PIVOT (sum(a) FOR b IN ('x'))",
            "SQL: PIVOT is not supported: use Dataset.pivot",
        ),
        (
            "SELECT * FROM 'p.parquet' UNPIVOT (v FOR k IN (a))",
            "UNPIVOT is not supported: use Dataset.unpivot",
        ),
        ("PIVOT 'p.parquet' ON b USING sum(a)", "PIVOT is no statement of mmflow: use Dataset.pivot"),
        ("FROM (PIVOT 'p.parquet' ON b USING sum(a))", "PIVOT … ON is not supported: use Dataset.pivot"),
        (
            "FROM 'p.parquet' a ASOF JOIN 'p.parquet' b ON a.a >= b.a",
            "ASOF JOIN is not supported: use Dataset.join_asof",
        ),
        ("FROM 'p.parquet' POSITIONAL JOIN 'p.parquet'", "POSITIONAL JOIN is not supported: number the rows"),
        (
            "SELECT * FROM 'p.parquet' a JOIN 'p.parquet' b WHERE a.a > 1",
            "JOIN needs ON or USING: write CROSS JOIN",
        ),
        ("SELECT (SELECT 1 FROM 'p.parquet' a JOIN 'p.parquet' b), 2", "JOIN needs ON or USING"),
        ("FROM 'p.parquet' USING SAMPLE 10%", "USING SAMPLE is not supported: use Dataset.sample"),
        (
            "FROM (SELECT a FROM 'p.parquet' ORDER BY ALL)",
            "ORDER BY ALL is not supported in brackets: name the columns",
        ),
        (
            "SELECT * RENAME (a AS c) FROM 'p.parquet'",
            "* RENAME is not supported: write * EXCLUDE (old), old AS new",
        ),
        ("SELECT COLUMNS('a') FROM 'p.parquet'", "COLUMNS is not supported: name the columns"),
        (
            "SELECT list_transform([1], x -> x + 1)",
            "-> is not supported: for a lambda, write a function of Python",
        ),
        ("SELECT list_transform([1], lambda x: x + 1)", "write a function of Python"),
        ("SELECT [x + 1 for x in [1]]", "write a function of Python"),
        ("SELECT 1 IN [1, 2]", "write IN (1, 2), or array_has(list, value)"),
        ("SELECT 7 // 2", "// is not supported: a / b of integers is an integer"),
        ("SELECT 2 ** 3", "** is not supported: write power(a, b)"),
        ("SELECT TIMESTAMPTZ '2024-01-01'", "write TIMESTAMP '…' AT TIME ZONE 'UTC'"),
        ("SELECT '2024-01-01'::TIMESTAMPTZ", "write x::TIMESTAMP AT TIME ZONE 'UTC'"),
        ("FROM 'p.parquet' LIMIT 1 BY b", "LIMIT … BY is not supported: write QUALIFY"),
        ("FROM 'p.parquet' FETCH FIRST 2 ROWS ONLY", "FETCH FIRST is not supported: write LIMIT"),
        ("SELECT a FROM 'p.parquet' FORMAT JSON", "FORMAT is not supported: methods of datasets"),
        (
            "SELECT a FROM 'p.parquet' SETTINGS x = 1",
            "SETTINGS … = is not supported: give settings to mf.Session",
        ),
        ("SELECT a FROM 'p.parquet' FOR JSON AUTO", "FOR JSON is not supported"),
        ("SELECT a FROM 'p.parquet' WITH (NOLOCK)", "WITH (…) is not supported"),
        ("SELECT 1; SELECT 2", "the query has several statements: give them one by one"),
        ("SELECT ?", "parameters have names: write $x"),
        (
            "EXPLAIN (FORMAT JSON) SELECT 1",
            "EXPLAIN takes no (: write EXPLAIN query, or EXPLAIN ANALYZE query",
        ),
        ("SHOW TABLES", "SHOW is no statement of mmflow: tables are variables"),
        ("CREATE VIEW v AS SELECT 1", "CREATE is no statement of mmflow: give a name to a dataset in Python"),
        ("COPY 'p.parquet' TO 'x.csv'", "COPY is no statement of mmflow: Dataset.write_parquet, write_csv"),
        ("SELECT list(a) FROM 'p.parquet'", "there is no function list(): write array_agg(x)"),
        ("SELECT arg_max(b, a) FROM 'p.parquet'", "write first_value(x ORDER BY y DESC NULLS LAST)"),
        ("SELECT sum([a]) FROM 'p.parquet'", "sum() takes no List(int64): cast the argument"),
        ("SELECT max(a, 2) FROM 'p.parquet'", "max(): min/max was called with 2 arguments"),
        ("SELECT 'abc'[1:2]", "array_slice() takes no string, int64, int64"),
        ("SELECT user.n FROM (SELECT {'n': 1} AS \"user\")", 'put it in double quotes, as in "user".n'),
        (
            "SELECT t.user.n FROM (SELECT {'n': 1} AS \"user\") t",
            "user is a word of SQL: put it in double quotes",
        ),
        ("SELECT upper()", "upper() needs arguments"),
        (
            "SELECT a FROM 'p.parquet' p JOIN 'p.parquet' q ON p.a = q.a",
            "several tables have a column a: write t.a",
        ),
        (
            "SELECT p.a, q.b AS a FROM 'p.parquet' p JOIN 'p.parquet' q ON p.a = q.a",
            "two columns are named a:",
        ),
        ("SELECT b FROM 'p.parquet' WHERE sum(a) > 1", "an aggregate is not known in WHERE: write HAVING"),
        ("SELECT b FROM 'p.parquet' HAVING a > 1", "HAVING takes aggregates and columns of GROUP BY"),
        ("SELECT max(sum(a)) FROM 'p.parquet'", "an aggregate of an aggregate: write one in a subquery"),
        ("SELECT a FROM 'p.parquet' WHERE", "expected an expression, but the query ends"),
        ("SELECT 'a'.upper()", "a function is called as f(x), not x.f()"),
        ("SELECT 'a' COLLATE x", "COLLATE is not supported"),
        (
            "SELECT a AS x, b AS x FROM 'p.parquet'",
            "two columns are named x: give one of them another name with AS",
        ),
        (
            "SELECT a FROM (SELECT a, ('2024-01-0' || a)::DATE AS d FROM 'p.parquet') WHERE d > 2023",
            "d > 2023 compares a date with an integer: write DATE '2024-01-31'",
        ),
        (
            "SELECT d IN (2023, 2024) FROM (SELECT a, ('2024-01-0' || a)::DATE AS d FROM 'p.parquet')",
            "compares a date with an integer",
        ),
        (
            "SELECT a FROM (SELECT a, ('2024-01-0' || a)::DATE AS d FROM 'p.parquet') WHERE a = d",
            "compares a date with an integer",
        ),
        ("SELECT DATE '2024-01-01' < 2025", "compares a date with an integer"),
        ("SELECT lag(a) FROM 'p.parquet'", "lag() is a function of windows: write lag(…) OVER (ORDER BY …)"),
        (
            "SELECT upper(a) FROM 'p.parquet'",
            "upper() takes no int64: cast the argument, as in CAST(x AS VARCHAR)",
        ),
        ("SELECT 1::HUGEINT", "there is no type HUGEINT: write DECIMAL(38, 0)"),
        ("SELECT s.* FROM (SELECT {'a': 1} AS s)", "there is no table s; unnest(s) in SELECT makes columns"),
        (
            "SELECT INTERVAL (a) DAY FROM 'p.parquet'",
            "INTERVAL (expression) is not supported: write INTERVAL '2 days'",
        ),
        ("SELECT a * INTERVAL '1 day' FROM 'p.parquet'", "an interval can't be multiplied"),
        ("SELECT * FROM f.csv", "SQL: there is no table f.csv: write FROM 'f.csv' for a file"),
        ("SELECT * FROM read_xlsx('a')", "SQL: there is no table function read_xlsx()"),
        ("SELECT cast('abc' AS int)", "'abc' is no int32; TRY_CAST"),
        (
            "SELECT a > ALL (SELECT a FROM 'p.parquet' q) AS v FROM 'p.parquet'",
            "outside of a WHERE: write it as a join",
        ),
        ("SELECT a INTO x FROM 'p.parquet'", "SQL: SELECT INTO is not supported"),
        ("DELETE FROM t", "DELETE is no statement of mmflow: write SELECT, FROM,"),
        ("INSERT INTO t VALUES (1)", "INSERT is no statement of mmflow: Dataset.write_parquet"),
    ],
)
def test_wrong_statements_are_refused_in_one_sentence(query: str, message: str) -> None:
    with pytest.raises(mf.PlanError) as error:
        mf.sql(query)
    text = str(error.value)
    assert message in text
    assert not re.search(r"leaf\d|datafusion|Utf8|Int64|Int32|ParserError|Ident|[Ss]pan|sqltorel", text)
    assert "\n" not in text


@pytest.mark.parametrize(
    ("expression", "ours", "theirs"),
    [
        ("7 / 2", 3, 3.5), ("2 ^ 3", 1, 8.0), ("cast(1.6 AS int)", 1, 2), ("0.1 + 0.2 = 0.3", False, True),
        ("'a_b' LIKE 'a\\_b'", True, False), ("substr('abc', -2)", "abc", "bc"), ("round(2.5)", 3.0, 3),
        ("(SELECT x FROM (VALUES (1), (NULL)) v(x) ORDER BY x DESC LIMIT 1)", None, 1),
        ("DATE '2024-01-31' + INTERVAL '1 month'", dt.date(2024, 2, 29), dt.datetime(2024, 2, 29)),
    ],
)  # fmt: skip
def test_differences_from_duckdb_are_those_of_the_docs(expression: str, ours: Any, theirs: Any) -> None:
    docs = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
    assert "ORDER BY x DESC" in docs if "ORDER BY" in expression else f"`{expression}`" in docs
    assert rows_of(f"SELECT {expression} AS v") == [{"v": ours}]
    ((found,),) = duckdb.sql(f"SELECT {expression}").fetchall()
    assert found == theirs


def test_words_of_refused_clauses_may_be_names() -> None:
    query = "WITH sample AS (SELECT 1 AS format, 2 AS settings), cube AS (SELECT 3 AS sort) SELECT format FROM sample, cube"
    assert rows_of(query) == [{"format": 1}]
    assert rows_of("FROM (SELECT 1 AS format) ORDER BY format") == [{"format": 1}]
    assert rows_of("SELECT 3 - -2 AS a, 2 > -1 AS b, '->' AS c -- ->") == [{"a": 5, "b": True, "c": "->"}]
    joined = "SELECT count(*) AS n FROM range(2) a NATURAL LEFT JOIN range(2) b CROSS JOIN range(2) c, (FROM range(2) JOIN range(2) x ON true)"
    assert rows_of(joined) == [{"n": 16}]
    piped = "FROM 'p.parquet' |> WHERE a > 1 |> SELECT a |> LIMIT 1"
    assert rows_of(piped) == [{"a": 2}]


def test_values_that_fail_are_named_without_datafusions_words() -> None:
    for item, message in (
        ("cast(b AS int)", "the query failed on a value: 'x' is no int32; TRY_CAST"),
        ("a / 0", "the query failed on a value: division by zero"),
    ):
        with pytest.raises(mf.PlanError) as error:
            mf.sql(f"SELECT {item} AS v FROM 'p.parquet'").to_arrow()
        assert message in str(error.value)


def test_select_is_put_only_before_a_from_that_begins_a_query() -> None:
    query = (
        'SELECT substring(s FROM 2), trim(FROM s), (FROM a) FROM t -- FROM\n EXCEPT (FROM /* FROM */ "FROM")'
    )
    made = 'SELECT substring(s FROM 2), trim(FROM s), (SELECT * FROM a) FROM t -- FROM\n EXCEPT (SELECT * FROM /* FROM */ "FROM")'
    assert with_select(query) == made


@pytest.mark.parametrize(
    "query",
    [
        "SELECT ((a + a) IS DISTINCT FROM a), (a IS NOT DISTINCT FROM a) FROM t",
        "SELECT substring((s) FROM 2), extract((year) FROM d), overlay((s) PLACING 'x' FROM 1) FROM t",
        "SELECT * EXCEPT (a) FROM t",
        "WITH w AS (SELECT 1 AS a) SELECT * EXCEPT (a) FROM w",
        "WITH w AS (SELECT 1 AS a) SELECT count(DISTINCT a), (a IS DISTINCT FROM 1) FROM w GROUP BY a",
        "SELECT count(DISTINCT a) FILTER (WHERE (a) IS DISTINCT FROM 1) FROM t",
    ],
)
def test_a_from_inside_of_an_expression_begins_no_query(query: str) -> None:
    assert with_select(query) == query


@pytest.mark.parametrize(
    ("query", "made"),
    [
        ("FROM t UNION ALL FROM u", "SELECT * FROM t UNION ALL SELECT * FROM u"),
        ("FROM t UNION DISTINCT BY NAME FROM u", "SELECT * FROM t UNION DISTINCT BY NAME SELECT * FROM u"),
        ("WITH w AS (FROM t) FROM w", "WITH w AS (SELECT * FROM t) SELECT * FROM w"),
        ("((FROM t) EXCEPT (FROM u))", "((SELECT * FROM t) EXCEPT (SELECT * FROM u))"),
        ("SELECT a IN (FROM t) FROM (FROM u)", "SELECT a IN (SELECT * FROM t) FROM (SELECT * FROM u)"),
    ],
)
def test_a_from_that_begins_any_query_gets_a_select(query: str, made: str) -> None:
    assert with_select(query) == made


def test_describe_lists_columns() -> None:
    wanted = [
        {"column_name": "a", "column_type": "int64", "null": "YES"},
        {"column_name": "b", "column_type": "string", "null": "YES"},
    ]
    table = mf.read_parquet("p.parquet")  # noqa: F841  (SQL reads it)
    for what in ("table", "'p.parquet'", "SELECT * FROM 'p.parquet'", "read_parquet('p.parquet');"):
        assert mf.sql(f"DESCRIBE {what}").to_arrow().to_pylist() == wanted


def test_summarize_gives_duckdbs_figures() -> None:
    rows = 3000
    numbers = pa.table(
        {
            "i": [i * 37 % 300 if i % 7 else None for i in range(rows)],
            'f "x"': [i / 8 for i in range(rows)],
            "s": [f"s{i % 13}" if i % 2 else "" for i in range(rows)],
            "d": [dt.date(2024, 1, 1) + dt.timedelta(days=i % 50) for i in range(rows)],
            "b": [i % 3 == 0 for i in range(rows)],
            "m": pa.array([decimal.Decimal(i) / 4 for i in range(rows)], pa.decimal128(10, 2)),
            "t": [dt.datetime(1969, 12, 31, 23) + dt.timedelta(milliseconds=250 * i) for i in range(rows)],
            "h": [dt.time(i % 24, 1, 2, 50) for i in range(rows)],
            "u": pa.array([2**63 + (i << 50) for i in range(rows)], pa.uint64()),
            "g": pa.array([i / 10 for i in range(rows)], pa.float32()),
            "one": [7] + [None] * (rows - 1),
            "none": pa.nulls(rows, pa.int32()),
        }
    )
    pq.write_table(numbers, "numbers.parquet", row_group_size=250)
    with mf.Session(workers=2, shard_size=4096) as session:
        dataset = session.sql("SUMMARIZE FROM 'numbers.parquet'")
        assert "scan numbers.parquet, summarize, gather for merge" in dataset.explain()
        assert len(dataset._plan().stages) == 2
        got = dataset.to_arrow().to_pylist()
    wanted = duckdb.sql("SUMMARIZE FROM 'numbers.parquet'").to_arrow_table().to_pylist()
    assert [list(row) for row in got] == [list(row) for row in wanted]
    for ours, theirs in zip(got, wanted, strict=True):
        name = ours["column_name"]
        for figure in ("column_name", "min", "max", "count"):
            assert ours[figure] == theirs[figure], (name, figure)
        assert ours["null_percentage"] == pytest.approx(float(theirs["null_percentage"]), abs=0.01)
        column = name.replace('"', '""')
        ((counted, *_),) = duckdb.sql(f'SELECT count(DISTINCT "{column}") FROM numbers').fetchall()
        assert ours["approx_unique"] == counted  # fewer than 4,096 are counted exactly
        if name not in ("i", 'f "x"', "m", "u", "g", "one"):
            assert ours["avg"] is ours["std"] is ours["q25"] is None
            continue
        quantiles = f'quantile_cont("{column}"::DOUBLE, [0.25, 0.5, 0.75])'
        ((exact,),) = duckdb.sql(f"SELECT {quantiles} FROM numbers").fetchall()
        spread = float(ours["max"]) - float(ours["min"])
        assert [ours[q] for q in ("q25", "q50", "q75")] == pytest.approx(exact, rel=1e-9, abs=0.003 * spread)
        for figure in ("avg", "std"):
            if theirs[figure] is None:
                assert ours[figure] is None
            else:
                assert ours[figure] == pytest.approx(float(theirs[figure]), rel=1e-6)


def test_summaries_of_parts_are_merged_to_that_of_the_whole() -> None:
    generator = np.random.default_rng(1)
    rows = 60_000
    table = pa.table(
        {
            "wide": generator.standard_normal(rows) * 1e6,
            "few": generator.integers(0, 900, rows),
            "nan": np.where(np.arange(rows) % 100 == 0, np.nan, 1.0),
            "inf": np.where(np.arange(rows) == 5, -np.inf, 2.0),
            "text": [f"{n * 7919 % 50_000}" for n in range(rows)],
        }
    )
    pq.write_table(table, "t.parquet", row_group_size=7_000)
    made = []
    for size in (4096, 1 << 30):
        with mf.Session(workers=2, shard_size=size) as session:
            made.append(
                {r["column_name"]: r for r in session.sql("SUMMARIZE 't.parquet'").to_arrow().to_pylist()}
            )
    parts, whole = made
    for name in ("few", "nan", "inf", "text"):
        for figure, value in parts[name].items():
            same = pytest.approx(value, rel=1e-9, nan_ok=True) if isinstance(value, float) else value
            assert whole[name][figure] == same
    assert abs(parts["text"]["approx_unique"] / 50_000 - 1) < 0.08
    ordered = np.sort(table["wide"].to_numpy())
    for figure, share in (("q25", 0.25), ("q50", 0.5), ("q75", 0.75)):
        assert abs(np.searchsorted(ordered, parts["wide"][figure]) / rows - share) < 0.002
        assert parts["few"][figure] == np.quantile(table["few"].to_numpy(), share)
    assert [parts["nan"][f] for f in ("min", "max", "q50", "approx_unique")] == ["1.0", "nan", 1.0, 2]
    assert [parts["inf"][f] for f in ("min", "max", "q25", "avg")] == ["-inf", "2.0", 2.0, -np.inf]


def test_summarize_reads_in_shards_and_takes_any_column() -> None:
    with mf.Session(workers=2, shard_size=4096) as session:
        Path("n.ndjson").write_text("".join(f'{{"n": {n}, "l": [{n}]}}\n' for n in range(2000)))
        found = session.sql("SUMMARIZE FROM 'n.ndjson' WHERE n >= $x", x=500).to_arrow().to_pylist()
        empty = session.sql("SUMMARIZE SELECT * FROM 'n.ndjson' WHERE false").to_arrow().to_pylist()
    assert [(r["column_name"], r["column_type"], r["min"], r["max"], r["count"]) for r in found] == [
        ("n", "int64", "500", "1999", 1500),
        ("l", "list<int64>", None, None, 1500),
    ]
    assert [(r["count"], r["min"], r["null_percentage"]) for r in empty] == [(0, None, None)] * 2


def test_named_sources_are_tables_of_a_session() -> None:
    Path("mmflow.toml").write_text(
        "[sources.logs]\npath = 's.csv'\ndelimiter = ';'\nnull = ['NA']\n[sources.Numbers]\npath = 'p.parquet'\n"
    )
    logs = {"a": [9]}
    with mf.Session(config="mmflow.toml") as session:
        assert session.sql("SELECT count(b) AS n FROM logs").to_arrow().to_pylist() == [{"n": 2}]
        assert session.sql("FROM Numbers n JOIN logs USING (a)").count() == 2
        assert session.sql("SELECT a FROM logs", logs=logs).to_arrow().to_pylist() == [{"a": 9}]
        with pytest.raises(mf.ConfigError, match="there is no source 'log'; did you mean 'logs'"):
            session.source("log")
    for text, message in (("delimiter = ';'", "needs a path"), ("path = 2024-01-01", "write it as text")):
        Path("mmflow.toml").write_text(f"[sources.logs]\n{text}\n")
        with pytest.raises(mf.ConfigError, match=message):
            mf.Session(config="mmflow.toml")


def test_explain_is_the_plan_of_mmflow() -> None:
    query = "SELECT a, count(*) AS n FROM 'p.parquet' WHERE a > $x GROUP BY a"
    lines = mf.sql(f"EXPLAIN {query}", x=1).to_arrow()["plan"].to_pylist()
    assert "\n".join(lines) == mf.sql(query, x=1).explain()


def test_explain_analyze_measures_each_stage() -> None:
    rows = 30_000
    pq.write_table(pa.table({"a": range(rows), "b": ["x" * 20] * rows}), "big.parquet", row_group_size=10_000)
    with mf.Session(workers=2, partitions=2, broadcast=0, shard_size=4096) as session:
        text = "\n".join(
            session.sql("EXPLAIN ANALYZE SELECT a % 7 AS k, count(b) AS n FROM 'big.parquet' GROUP BY 1")
            .to_arrow()["plan"]
            .to_pylist()
        )
    first, second = text.split("stage 1: ")
    assert re.search(r"ran     \d+ tasks, \d\.\d+ s of task time, [\d,]+ page faults", first)
    assert re.search(r"in      30,000 rows, [\d,]{6,} bytes", first)
    assert re.search(r"out     21 rows, [\d,]+ bytes", first)
    assert re.search(r"in      21 rows, [\d,]+ bytes", second)
    assert re.search(r"out     7 rows, [\d,]+ bytes", second)
    assert re.search(r"run of \d+\.\d+ s: 7 rows from [\d,]{6,} bytes of files", second)


@pytest.mark.parametrize(("keys", "filled"), [("a % 3", range(1, 4)), ("a", range(16, 17))])
def test_explain_analyze_compares_partitions_with_those_planned(keys: str, filled: range) -> None:
    pq.write_table(pa.table({"a": range(30_000)}), "parts.parquet", row_group_size=10_000)
    query = f"EXPLAIN ANALYZE SELECT {keys} AS k, sum(a) AS s FROM 'parts.parquet' GROUP BY 1"
    with mf.Session(workers=2, partitions=16, broadcast=0, shard_size=4096) as session:
        text = "\n".join(session.sql(query).to_arrow()["plan"].to_pylist())
    (line,) = re.findall(r"  parts   .*", text)
    found = re.fullmatch(
        r"  parts   16 planned, (\d+) with rows, ([\d,]+) bytes on average, ([\d,]+) at most; read by stage 1 in (\d+) tasks",
        line,
    )
    assert found is not None, line
    rows, mean, largest, tasks = (int(n.replace(",", "")) for n in found.groups())
    assert rows in filled
    assert 0 < mean <= largest <= mean * rows + rows
    assert f"  ran     {tasks} tasks" in text.split("stage 1: ")[1]


def test_explain_analyze_of_an_exchange_without_rows() -> None:
    pq.write_table(pa.table({"a": range(30_000)}), "none.parquet", row_group_size=10_000)
    query = "EXPLAIN ANALYZE SELECT a AS k, sum(a) AS s FROM 'none.parquet' WHERE a * 2 = 1 GROUP BY 1"
    with mf.Session(workers=2, partitions=16, broadcast=0, shard_size=4096) as session:
        text = "\n".join(session.sql(query).to_arrow()["plan"].to_pylist())
    assert re.search(r"  parts   16 planned, 0 with rows; read by stage 1 in \d+ tasks", text)


def test_a_profile_is_that_of_explain_analyze() -> None:
    query = "SELECT count(*) AS n FROM 'p.parquet'"
    figures = re.compile(r"\d[\d,.]*")
    lines = mf.sql(f"EXPLAIN ANALYZE {query}").to_arrow()["plan"].to_pylist()
    assert [figures.sub("n", line) for line in mf.sql(query).profile().splitlines()] == [
        figures.sub("n", line) for line in lines
    ]


# ---- names of columns ------------------------------------------------------------------------------

NAMES = {
    "SELECT a + 1, sum(a) OVER (PARTITION BY s ORDER BY a DESC), a > 1.5, upper('it''s') FROM t": [
        "a + 1", "sum(a) OVER (PARTITION BY s ORDER BY a DESC)", "a > 1.5", "upper('it''s')",
    ],
    "SELECT -a, a IN (1, 2), a IS NULL, s LIKE 'x%', [1, a], CASE WHEN a = 1 THEN 'y' ELSE 'n' END FROM t": [
        "-a", "a IN (1, 2)", "a IS NULL", "s LIKE 'x%'", "[1, a]", "CASE WHEN a = 1 THEN 'y' ELSE 'n' END",
    ],
    "SELECT count(*), sum(a) + 1, count(DISTINCT s) FROM t": ["count(*)", "sum(a) + 1", "count(DISTINCT s)"],
    "SELECT DISTINCT a * 2 FROM t ORDER BY 1 LIMIT 2": ["a * 2"],
    "SELECT * FROM (SELECT a + 1 FROM t)": ["a + 1"],
    "WITH w AS (SELECT a + 1 FROM t) SELECT * FROM w": ["a + 1"],
    "SELECT a + 1 FROM t UNION ALL SELECT a FROM t": ["a + 1"],
    # What tells two columns apart stays.
    "SELECT x.a + 1, y.a + 1 FROM t x JOIN t y USING (a)": ["x.a + 1", "y.a + 1"],
    # A name of the user's own stays, whatever it looks like.
    'SELECT a AS "Int64(1)", s AS "t.s" FROM t': ["Int64(1)", "t.s"],
}  # fmt: skip


@pytest.mark.parametrize("query", NAMES)
def test_columns_are_named_as_the_query_wrote_them(query: str) -> None:
    t = pa.table({"a": [1, 2], "s": ["x", "y"]})
    assert mf.sql(query, t=t).schema.names == NAMES[query]
    assert mf.sql(query, t=t).to_arrow().schema.names == NAMES[query]

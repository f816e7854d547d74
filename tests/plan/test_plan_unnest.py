"""`unnest` runs in the tasks of its table where each row stands alone, and in one task where it does not."""

from __future__ import annotations

import pyarrow as pa
import pytest

import mmflow as mf
from mmflow.plan.logical.unnesting import unnesting_selects, with_order_columns

ROWS = pa.table(
    {
        "k": [1, 2, 3, 4],
        "l": [[1, 2], [], None, [3, None]],
        "m": [["a"], ["b", "c"], ["d"], None],
        "s": [{"x": 1}, None, {"x": 3}, {"x": 4}],
    }
)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT k, unnest(l) AS u FROM t", [(1, 1), (1, 2), (4, 3), (4, None)]),
        (
            "SELECT k, unnest(l) AS u, unnest(m) AS v FROM t",
            [(1, 1, "a"), (1, 2, None), (2, None, "b"), (2, None, "c"), (3, None, "d"), (4, 3, None), (4, None, None)],
        ),
        ("SELECT k, unnest(s) FROM t", [(1, 1), (2, None), (3, 3), (4, 4)]),
        ("SELECT k, sum(u) FROM (SELECT k, unnest(l) AS u FROM t) GROUP BY k ORDER BY k", [(1, 3), (4, 3)]),
        ("WITH x AS (SELECT unnest(l) AS u FROM t WHERE k < $n) SELECT max(u) FROM x", [(2,)]),
        ("SELECT unnest(l) AS u FROM t WHERE k = 1 UNION ALL SELECT k FROM t ORDER BY u", [(1,), (1,), (2,), (2,), (3,), (4,)]),
        ("SELECT unnest(l) AS k FROM t ORDER BY k DESC NULLS LAST LIMIT 2 OFFSET 1", [(2,), (1,)]),
        ("SELECT unnest(l) AS u FROM t ORDER BY k DESC, u", [(3,), (None,), (1,), (2,)]),
        ("SELECT m[1] AS c, unnest(l) AS u FROM t AS a ORDER BY -a.k, 2 DESC NULLS LAST LIMIT 3", [(None, 3), (None, None), ("a", 2)]),
        ("SELECT unnest(l) + $n AS k FROM t WHERE k < 4 ORDER BY k DESC", [(4,), (3,)]),
        ("SELECT unnest(l) AS u FROM t WHERE l[1] IS NOT NULL ORDER BY coalesce(s['x'], 0), unnest(l) DESC", [(2,), (1,), (None,), (3,)]),
        ("SELECT max(u) FROM (SELECT unnest(l) AS u FROM t ORDER BY t.k LIMIT 1)", [(1,)]),
        ("SELECT unnest(v) AS w FROM (SELECT unnest([l]) AS v FROM t) AS x ORDER BY w", [(1,), (2,), (3,), (None,)]),
    ],
)  # fmt: skip
def test_rows_that_stand_alone_are_made_in_each_task(query: str, rows: list[tuple[object, ...]]) -> None:
    made = mf.sql(query, t=ROWS, **({"n": 2} if "$n" in query else {}))
    assert "gather, SQL" not in made.explain()
    assert [tuple(row.values()) for row in made.to_dicts()] == rows


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT DISTINCT unnest([k % 2]) AS u FROM t ORDER BY u", [(0,), (1,)]),
        ("SELECT unnest(l) AS u FROM t WHERE k > (SELECT avg(k) FROM t) ORDER BY u", [(3,), (None,)]),
        ("SELECT unnest([count(*), 7]) AS u FROM t", [(4,), (7,)]),
        ("WITH t AS (SELECT [k] AS l FROM t LIMIT 1) SELECT unnest(l) AS u FROM t", [(1,)]),
        ("SELECT unnest(x) AS u FROM (SELECT array_agg(k) AS x FROM t) ORDER BY u", [(1,), (2,), (3,), (4,)]),
        ("SELECT now() IS NULL AS n, unnest([1]) AS u FROM t LIMIT 1", [(False, 1)]),
    ],
)
def test_rows_that_need_others_are_made_in_one_task(query: str, rows: list[tuple[object, ...]]) -> None:
    made = mf.sql(query, t=ROWS)
    assert "gather, SQL" in made.explain()
    assert [tuple(row.values()) for row in made.to_dicts()] == rows


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("SELECT unnest(l) FROM t ORDER BY 1", ["SELECT unnest(l) FROM t"]),
        ("SELECT a FROM (SELECT unnest(l) a FROM t LIMIT 3)", ["SELECT unnest(l) a FROM t"]),
        ("SELECT unnest(a) FROM x UNION SELECT unnest(b) FROM y;", ["SELECT unnest(a) FROM x", "SELECT unnest(b) FROM y"]),
        ("WITH RECURSIVE c(n) AS NOT MATERIALIZED (SELECT 1), \"D\" AS (SELECT 2) SELECT unnest(l) FROM d", []),
        ("SELECT unnest(l) FROM t WHERE k IN (SELECT 1)", []),
        ("SELECT '(SELECT unnest(l) FROM t)' AS x FROM t -- unnest(y)", []),
    ],
)  # fmt: skip
def test_selects_are_found_by_their_tokens(query: str, found: list[str]) -> None:
    assert [select.text for select in unnesting_selects(query)] == found


@pytest.mark.parametrize(
    "query",
    [
        "SELECT unnest(l) AS u FROM t ORDER BY u, 1 LIMIT 3",
        "SELECT DISTINCT unnest(l) FROM t ORDER BY k",
        "SELECT k FROM t UNION ALL SELECT unnest(l) FROM t ORDER BY z",
        "SELECT unnest([1, 2]) ORDER BY z",
        "SELECT k FROM t ORDER BY z",
    ],
)
def test_other_orders_stay_as_they_are(query: str) -> None:
    assert with_order_columns(query) == query


def test_an_order_by_a_column_that_is_not_there_is_an_error() -> None:
    with pytest.raises(mf.PlanError, match="no column"):
        mf.sql("SELECT unnest(l) AS u FROM t ORDER BY z", t=ROWS)


def test_a_table_called_as_the_side_of_a_join_is_read() -> None:
    with mf.Session(workers=1) as session:
        t = session.from_arrow(ROWS)
        small = session.from_arrow(pa.table({"k": [1, 4]}))
        for name in ("t1", "t2", "t3", "t4", "t5"):
            joined = session.sql("SELECT a.k, a.l FROM a JOIN b ON a.k = b.k", a=t, b=small)
            made = session.sql(f"SELECT k, unnest(l) AS u FROM {name} ORDER BY k, u", **{name: joined})
            assert [tuple(r.values()) for r in made.to_dicts()] == [(1, 1), (1, 2), (4, 3), (4, None)]

"""Sums, means and moments of floats over frames that move: what has left a frame leaves no trace."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import duckdb
import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given

import mmflow as mf
from mmflow.plan.functions.moving import MOVING, MovingFunction, _Frames, _Rows

INF, NAN = math.inf, math.nan
SPECIAL = [INF, -INF, NAN, -0.0, 0.0, 1e20, -1e20, 1e-20, 1.0, 0.1, None]
VALUES = st.lists(st.one_of(st.sampled_from(SPECIAL), st.floats(-1e6, 1e6)), max_size=24)
BOUND = st.one_of(st.none(), st.integers(-6, 6))


def expected(kind: str, rows: Iterable[Sequence[float | None]]) -> float | None:
    """Return the value of a function over the rows of one frame, from its definition."""
    known = [[v for v in row if v is not None] for row in rows if None not in row]
    n = len(known)
    y, x = ([row[c] for row in known] if n else [] for c in (0, -1))

    def total(values: Sequence[float]) -> float:
        return math.fsum(values) if all(map(math.isfinite, values)) else sum(values, 0.0)

    def moment(a: Sequence[float], b: Sequence[float]) -> float:
        mean_a, mean_b = total(a) / n, total(b) / n
        return total([(v - mean_a) * (w - mean_b) for v, w in zip(a, b, strict=True)])

    if n == 0:
        return None
    match kind:
        case "sum":
            return total(y)
        case "avg" | "regr_avgy":
            return total(y) / n
        case "regr_avgx":
            return total(x) / n
        case "var" | "stddev" | "covar_samp":
            made = moment(y, x) / (n - 1) if n > 1 else None
            return made if made is None or kind != "stddev" else math.sqrt(made)
        case "var_pop" | "stddev_pop":
            made = moment(y, y) / n if n > 1 else 0.0
            return math.sqrt(made) if kind == "stddev_pop" else made
        case "covar_pop":
            return moment(y, x) / n
        case "regr_syy":
            return moment(y, y)
        case "regr_sxx":
            return moment(x, x)
        case "regr_sxy":
            return moment(y, x)
    raise AssertionError(kind)


def near(got: float | None, wanted: float | None, size: float) -> bool:
    """Return whether two results are equal up to the rounding of sums of terms of some size."""
    if got is None or wanted is None or not math.isfinite(wanted):
        return got is wanted or (got is not None and wanted is not None and repr(got) == repr(wanted))
    return abs(got - wanted) <= 1e-12 * size


def frames(count: int, first: int | None, last: int | None) -> list[range]:
    starts = [0 if first is None else max(0, i + first) for i in range(count)]
    ends = [count if last is None else max(0, min(count, i + last + 1)) for i in range(count)]
    return [range(a, max(a, b)) for a, b in zip(starts, ends, strict=True)]


@given(VALUES, BOUND, BOUND, st.sampled_from(["sum", "avg"]))
def test_sums_over_frames_are_those_of_their_rows(
    values: list[float | None], first: int | None, last: int | None, kind: str
) -> None:
    column = [pa.array(values, pa.float64())]
    all_rows = _Rows(kind, first, last).evaluate_all(column, len(values)).to_pylist()
    one_by_one = _Frames(kind)
    for row, frame in enumerate(frames(len(values), first, last)):
        within = [values[i] for i in frame]
        wanted = expected(kind, [(v,) for v in within])
        size = sum(abs(v) for v in within if v is not None and math.isfinite(v))
        assert near(all_rows[row], wanted, size), (within, all_rows[row])
        single = one_by_one.evaluate(column, (frame.start, frame.stop)).as_py()
        assert near(single, wanted, size), (within, single)


MOMENTS = [k for k in MOVING if k not in ("sum", "avg", "corr", "regr_slope", "regr_intercept", "regr_r2")]


@given(
    st.lists(
        st.tuples(*[st.one_of(st.floats(-100, 100), st.sampled_from([INF, NAN, None]))] * 2), max_size=16
    ),
    BOUND,
    BOUND,
    st.sampled_from(MOMENTS),
)
def test_moments_over_frames_are_those_of_their_rows(
    rows: list[tuple[float | None, float | None]], first: int | None, last: int | None, kind: str
) -> None:
    width = MOVING[kind][0]
    columns = [pa.array([row[c] for row in rows], pa.float64()) for c in range(width)]
    all_rows = _Rows(kind, first, last).evaluate_all(columns, len(rows)).to_pylist()
    one_by_one = _Frames(kind)
    for row, frame in enumerate(frames(len(rows), first, last)):
        within = [rows[i][:width] for i in frame]
        single = one_by_one.evaluate(columns, (frame.start, frame.stop)).as_py()
        try:
            wanted = expected(kind, within)
        except (ValueError, OverflowError):  # Python raises where floats give NaN
            wanted = NAN
        if wanted is not None and not math.isfinite(wanted):
            assert all(v is not None and not math.isfinite(v) for v in (all_rows[row], single)), within
        else:
            assert near(all_rows[row], wanted, 1e5), (within, all_rows[row])
            assert near(single, wanted, 1e5), (within, single)


def test_functions_are_pickled_by_what_they_compute() -> None:
    for rows in (None, (None, 0), (-2, 1), (-(1 << 62), None)):
        function = MovingFunction("sum", rows)
        assert pickle.loads(pickle.dumps(function)).name == function.name


ROWS = [
    (1, "a", INF, 0.5), (2, "b", 1.0, 2.0), (3, "a", 2.0, None), (4, "b", 1e20, 4.0), (5, "a", 3.0, 1.0),
    (6, "b", None, 7.0), (7, "a", -INF, 2.5), (8, "b", 0.25, 1.5), (9, "a", 4.0, 3.0), (10, "b", 8.0, 9.0),
]  # fmt: skip
#: Frames as SQL writes them, and the rows of each row's frame, by position among rows in the order of i.
FRAMES: dict[str, Any] = {
    "ORDER BY i ROWS 1 PRECEDING": lambda n: frames(n, -1, 0),
    "ORDER BY i ROWS BETWEEN 1 FOLLOWING AND 3 FOLLOWING": lambda n: frames(n, 1, 3),
    "ORDER BY i ROWS BETWEEN 5 PRECEDING AND 3 PRECEDING": lambda n: frames(n, -5, -3),
    "ORDER BY i ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING": lambda n: frames(n, 0, None),
    "ORDER BY i ROWS UNBOUNDED PRECEDING": lambda n: frames(n, None, 0),
    "ORDER BY i DESC ROWS UNBOUNDED PRECEDING": lambda n: frames(n, 0, None),
    "ORDER BY i DESC": lambda n: frames(n, 0, None),
    "ORDER BY i": lambda n: frames(n, None, 0),
    "ORDER BY i RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING": lambda n: frames(n, 0, None),
    "ORDER BY i GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING": lambda n: frames(n, -1, 1),
    "ORDER BY i RANGE BETWEEN 2 PRECEDING AND 1 PRECEDING": lambda n: frames(n, -2, -1),
}
CALLS = {
    "sum(x)": ("sum", 2), "mean(x)": ("avg", 2), "var_samp(x)": ("var", 2), "stddev_pop(y)": ("stddev_pop", 3),
    "covar_pop(x, y)": ("covar_pop", "xy"), "avg(i)": ("avg", 0), "sum(CAST(y AS REAL))": ("sum", 3),
}  # fmt: skip
TABLE = pa.table(
    {n: pa.array([r[c] for r in ROWS], t) for c, (n, t) in enumerate(
        {"i": pa.int64(), "k": pa.string(), "x": pa.float64(), "y": pa.float64()}.items()
    )}
)  # fmt: skip


def arguments(column: Any, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(r[2], r[3]) if column == "xy" else (r[column],) for r in rows]


@pytest.fixture(scope="module")
def ds() -> mf.Dataset:
    return mf.from_arrow(TABLE)


def assert_rows(
    made: list[dict[str, Any]], partition: str, wanted_frames: Any, keep: Any = lambda _: True
) -> None:
    for k in ("a", "b") if partition else (None,):
        rows = [r for r in ROWS if k in (None, r[1])]
        for number, frame in enumerate(wanted_frames(len(rows))):
            got = next(m for m in made if m["i"] == rows[number][0])
            within = [rows[j] for j in frame if keep(rows[j])]
            for name, (kind, column) in enumerate(CALLS.values()):
                wanted = expected(kind, arguments(column, within))
                value = got[f"c{name}"]
                if kind not in ("sum", "avg") and wanted is not None and not math.isfinite(wanted):
                    assert not math.isfinite(value), (
                        kind,
                        got,
                        within,
                    )  # inf or NaN, by the order of the rows
                else:
                    assert near(value, wanted, max(1e3, abs(wanted or 0))), (kind, got, wanted, within)


@pytest.mark.parametrize("partition", ["", "PARTITION BY k "])
def test_frames_of_sql_hold_only_their_rows(ds: mf.Dataset, partition: str) -> None:
    columns = ", ".join(f"{call} OVER w AS c{n}" for n, call in enumerate(CALLS))
    for frame, wanted in FRAMES.items():
        # Rows that come in another order, and a second order: DataFusion turns a frame around to sort once.
        ordered = "(SELECT * FROM ds ORDER BY i LIMIT 99)"
        query = (
            f"SELECT i, {columns}, rank() OVER (ORDER BY i) FROM {ordered} WINDOW w AS ({partition}{frame})"
        )
        if partition and "RANGE BETWEEN 2" in frame:  # every other number is in a partition
            wanted = partial(frames, first=-1, last=-1)
        assert_rows(mf.sql(query, ds=ds).to_dicts(), partition, wanted)


def test_frames_of_sql_in_one_task_hold_only_their_rows(ds: mf.Dataset) -> None:
    columns = ", ".join(f"{call} FILTER (WHERE i <> 4) OVER w AS c{n}" for n, call in enumerate(CALLS))
    for frame, wanted in FRAMES.items():
        query = f"SELECT i, {columns}, rank() OVER (ORDER BY i) FROM ds WINDOW w AS ({frame})"
        planned = mf.sql(query, ds=ds)
        assert "gather, SQL" in planned.explain()
        assert_rows(planned.to_dicts(), "", wanted, lambda row: row[0] != 4)


def test_whole_numbers_over_frames_are_exact_also_in_one_task(ds: mf.Dataset) -> None:
    frame = "OVER (ORDER BY i ROWS 1 PRECEDING)"
    whole = f"sum(i) {frame} AS a, sum(CAST(i + 1 AS DECIMAL(20, 2))) {frame} AS b"
    both = [
        mf.sql(f"SELECT {whole}, sum(x) {more} AS c FROM ds ORDER BY i", ds=ds).to_arrow()
        for more in (frame, frame.replace("OVER", "FILTER (WHERE i > 0) OVER"))
    ]
    assert both[0].equals(both[1])
    assert both[0]["a"].to_pylist() == [1, *(2 * i - 1 for i in range(2, 11))]


def test_frames_are_those_of_duckdb(ds: mf.Dataset) -> None:
    calls = (
        "corr(x, y), regr_slope(y, x), regr_intercept(y, x), regr_r2(y, x), regr_sxy(y, x), avg(y), stddev(y)"
    )
    columns = ", ".join(
        f"{call} OVER w AS c{n}" for n, call in enumerate(calls.replace("), ", ")|").split("|"))
    )
    con, finite = duckdb.connect(), TABLE.filter(pa.array([abs(r[2] or 0) < 1e9 for r in ROWS]))
    con.register("ds", finite)
    for frame in ("ROWS 3 PRECEDING", "ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING", "RANGE 4 PRECEDING"):
        query = f"SELECT i, {columns} FROM ds WINDOW w AS (ORDER BY i {frame}) ORDER BY i"
        for got, wanted in zip(
            mf.sql(query, ds=mf.from_arrow(finite)).to_dicts(), con.sql(query).fetchall(), strict=True
        ):
            for value, other in zip(got.values(), wanted, strict=True):
                same = value == other or (None in (value, other) and (value or 0.0) != (value or 0.0))
                # DuckDB gives NaN where a spread is 0, DataFusion's aggregates null.
                same = same or (value is None and other is not None and math.isnan(other))
                assert same or math.isclose(value, other, rel_tol=1e-12, abs_tol=1e-12), (got, wanted)


def test_sums_of_expressions_roll_over_any_number_of_rows(ds: mf.Dataset) -> None:
    many = mf.from_arrow({"i": list(range(300)), "x": [INF, 1e300, *[0.5] * 298]})
    made = many.select("i", s=mf.col("x").rolling_sum(100).over(order_by="i")).sort("i").to_arrow()["s"]
    assert made.to_pylist() == [*[None] * 99, INF, 1e300, *[50.0] * 199]
    means = ds.select("i", m=mf.col("x").rolling_mean(2).over(order_by="i")).sort("i").to_arrow()["m"]
    assert means.to_pylist()[1:3] == [INF, 1.5]

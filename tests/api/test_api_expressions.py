"""Expressions: what operators, methods and names of outputs mean before and when a dataset resolves them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from operator import and_, eq, ge, gt, le, lt, ne, or_
from pathlib import Path
from typing import Any, cast

import cloudpickle
import datafusion
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow import col, lit
from mmflow import functions as F  # noqa: N812  (as users write it)
from mmflow import selectors as cs

ROWS = [{"a": a, "b": b} for a in (1, 2, 5, 8, 9, None) for b in (4, 5, None)]


@pytest.mark.parametrize(
    "condition",
    [
        lambda a, b: (a == 1) and (b == 4),
        lambda a, b: (a == 1) or (b == 4),
        lambda a, b: not (a < b),
        lambda a, b: 5 < a < 9,
        lambda a, b: a == b == lit(4),
        lambda a, b: b if a else a,
        lambda a, b: a in [b, lit(4)],
        lambda a, b: sorted([a, b]),
        max,
        lambda a, b: all([a == 1, b == 4]),
        lambda a, b: [a, b] == [b, a],
    ],
)
def test_truth_of_an_expression_is_a_type_error_with_advice(condition: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"(?s)& \| ~ for and, or, not.*is_between"):
        condition(col("a"), col("b"))


@pytest.mark.parametrize("use", [lambda e: 4 in e, list, tuple, any, sum])
def test_an_expression_is_no_container(use: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"not iterable|not a container"):
        use(col("a"))


def test_the_advice_gives_the_rows_that_were_meant() -> None:
    ds = mf.from_arrow(pa.Table.from_pylist(ROWS))

    def rows(condition: mf.Expr) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ds.filter(condition).to_arrow().to_pylist()
        return found

    assert rows((col("a") == 1) & (col("b") == 4)) == [{"a": 1, "b": 4}]
    assert {r["a"] for r in rows((col("a") > 5) & (col("a") < 9))} == {8}
    assert {r["a"] for r in rows(col("a").is_between(5, 9))} == {5, 8, 9}
    assert {r["a"] for r in rows(col("a").is_in([1, 2]))} == {1, 2}


_Test = tuple[Callable[[Any, Any], Any], str, int]
_TESTS = st.tuples(st.sampled_from([lt, le, gt, ge]), st.sampled_from(["a", "b"]), st.integers(0, 10))


@given(_TESTS, _TESTS, st.sampled_from([and_, or_]))
def test_conditions_joined_by_operators_keep_both(
    left: _Test, right: _Test, join: Callable[[Any, Any], Any]
) -> None:
    def holds(row: dict[str, Any], test: _Test) -> bool | None:
        return None if row[test[1]] is None else test[0](row[test[1]], test[2])

    def joined(row: dict[str, Any]) -> bool:
        sides = [holds(row, left), holds(row, right)]
        return all(sides) if join is and_ else any(sides)

    made = [operator(col(name), lit(value)) for operator, name, value in (left, right)]
    found = mf.from_arrow(pa.Table.from_pylist(ROWS)).filter(join(*made)).to_arrow().to_pylist()
    assert found == [row for row in ROWS if joined(row)]


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**38 - 1])
@pytest.mark.parametrize("kind", [pa.uint64(), pa.int64(), pa.decimal128(38, 0)])
def test_integers_beyond_int64_compare_with_every_integer_column(value: int, kind: pa.DataType) -> None:
    rows = [v for v in (0, 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 10**38 - 1) if _holds(v, kind)]
    ds = mf.from_arrow(pa.table({"u": pa.array(rows, kind)}))
    for operator in (eq, ne, lt, le, gt, ge):
        found = [int(v) for v in ds.filter(operator(col("u"), value)).to_arrow().column(0).to_pylist()]
        assert found == [v for v in rows if operator(v, value)], operator.__name__


def _holds(value: int, kind: pa.DataType) -> bool:
    try:
        pa.scalar(value, kind)
    except (OverflowError, pa.ArrowInvalid):
        return False
    return True


def test_integers_that_no_type_holds_are_refused() -> None:
    with pytest.raises(mf.PlanError, match="38 digits"):
        lit(10**38)
    with pytest.raises(mf.PlanError, match="38 digits"):
        lit(-(10**4000))


# ---- names and numbers of outputs --------------------------------------------------------------------------


def test_outputs_have_the_name_of_their_first_column() -> None:
    ds = mf.from_arrow({"a": [1, 2], "b": [3, 4], "s": ["x", "y"]})
    named = ds.select(2 * col("a") + col("b"), col("b").sum().over("a"), F.upper(col("s")), n=mf.len())
    assert named.columns == ["a", "b", "s", "n"]
    grouped = ds.group_by(["s"]).agg([col("a").sum(), F.avg(col("b"))], share=col("a").sum() / mf.len())
    assert grouped.sort("s").to_arrow().to_pydict() == {
        "s": ["x", "y"], "a": [1, 2], "b": [3.0, 4.0], "share": [1.0, 2.0],
    }  # fmt: skip
    assert ds.with_columns(x="s", y=5, z=lit("s")).select(["x", "y"], "z").to_arrow().to_pydict() == {
        "x": ["x", "y"], "y": [5, 5], "z": ["s", "s"],
    }  # fmt: skip


def test_aggregates_alone_are_one_row_and_beside_rows_those_of_all_rows() -> None:
    ds = mf.from_arrow({"a": [1, 2, 3]})
    assert ds.select(col("a").sum(), n=mf.len()).to_arrow().to_pydict() == {"a": [6], "n": [3]}
    assert ds.select("a", least=col("a").min()).to_arrow().to_pydict() == {"a": [1, 2, 3], "least": [1] * 3}
    assert ds.with_columns(n=mf.len()).to_arrow()["n"].to_pylist() == [3, 3, 3]


def test_filters_see_other_rows_before_any_row_is_left_out() -> None:
    ds = mf.from_arrow({"k": ["x", "x", "y", "y"], "v": [1, 2, 3, 4]})
    assert ds.filter(col("v") > col("v").mean()).to_arrow()["v"].to_pylist() == [3, 4]
    first = ds.filter(col("v") == col("v").max().over("k"), col("v") < 4).to_arrow()
    assert first.to_pydict() == {"k": ["x"], "v": [2]}
    assert ds.filter(col("v") > col("v").min()).sample(1.0).count() == 3


def test_virtual_columns_are_there_where_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n5\n6\n")
    ds = mf.read_csv(tmp_path / "t.csv")
    assert ds.select("a", line=col("_line") + 1).to_arrow().to_pydict() == {"a": [5, 6], "line": [3, 4]}
    assert ds.sort(col("_line"), descending=True).to_arrow().to_pydict() == {"a": [6, 5]}
    assert ds.top_k(1, by="_line").to_arrow().to_pydict() == {"a": [6]}
    assert ds.filter(col("_line") > 2).to_arrow().to_pydict() == {"a": [6]}
    assert ds.select(col("a").alias("b")).take([1]).to_pydict() == {"b": [6]}


def test_selectors_stand_for_columns_by_name_and_type() -> None:
    ds = mf.from_arrow({"id": [1], "x": [0.5], "y": [1.5], "s": ["a"], "ok": [True]})
    assert ds.select(cs.numeric() - cs.by_name("id"), cs.string()).columns == ["x", "y", "s"]
    assert ds.select(~cs.numeric()).columns == ["s", "ok"]
    assert ds.select(cs.starts_with("x", "y") | cs.boolean()).columns == ["x", "y", "ok"]
    assert ds.select(cs.matches("^.$") & cs.float()).columns == ["x", "y"]
    assert ds.select(cs.by_dtype("float64", "string"), cs.integer() ^ cs.contains("o")).columns == [
        "x", "y", "s", "id", "ok",
    ]  # fmt: skip
    assert ds.select(cs.exclude("s", "ok") * 2).to_arrow().to_pydict() == {"id": [2], "x": [1.0], "y": [3.0]}
    assert ds.agg(cs.float().max()).to_arrow().to_pydict() == {"x": [0.5], "y": [1.5]}
    assert ds.select(cs.float() / cs.by_name("x")).to_arrow().to_pydict() == {"x": [1.0], "y": [3.0]}
    assert ds.select(2 * cs.float()).to_arrow().to_pydict() == {"x": [1.0], "y": [3.0]}
    assert ds.select(F.abs(cs.float()), 1 - col("id")).columns == ["x", "y", "id"]
    assert ds.group_by("id").agg(cs.numeric().sum()).columns == ["id", "x", "y"]
    assert ds.group_by(col("id").alias("k")).agg(cs.integer().sum()).columns == ["k", "id"]


def test_names_of_outputs_are_those_of_polars() -> None:
    table = pl.DataFrame({"Id": [1, 1], "x": [2, 3]})
    ds = mf.from_arrow(table.to_arrow())
    cases: list[Callable[[Any, Any], Any]] = [
        lambda c, s: c("Id").name.suffix("_y"),
        lambda c, s: (c("x") - 3).name.prefix("p_"),
        lambda c, s: c("Id").alias("Q").name.to_lowercase(),
        lambda c, s: s.integer().sum().over("Id").name.suffix("_s"),
        lambda c, s: c("Id", "x").name.to_uppercase(),
        lambda c, s: c("Id", "x").name.replace("^I", "J"),
        lambda c, s: c("Id", "x").max().name.map(lambda name: name + "!"),
    ]
    for case in cases:
        found = ds.select(case(col, cs)).to_polars()
        assert found.equals(table.select(case(pl.col, pl.selectors)))


def test_types_are_those_of_python_numpy_and_polars() -> None:
    ds = mf.from_arrow({"a": [1]})
    given = {
        "int64": int,
        "float64": float,
        "string": str,
        "float32": np.float32,
        "int8": pl.Int8,
        "date": pl.Date,
    }
    for name, kind in given.items():
        assert ds.select(mf.lit(None).cast(kind)).schema == ds.select(mf.lit(None).cast(name)).schema
    assert ds.select(mf.lit(None).cast(pl.Datetime("ms"))).schema.types == [pa.timestamp("ms")]
    with pytest.raises(TypeError, match="is no type: give a name such as 'int64'"):
        ds.select(col("a").cast(object))


# ---- integers --------------------------------------------------------------------------------------------

_INT64 = st.sampled_from([0, 1, -1, 3, -3, 2**63 - 1, -(2**63), 2**53 + 1]) | st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=max(15, settings().max_examples // 2))
@given(_INT64, _INT64)
def test_floor_division_and_modulo_are_pythons(a: int, b: int) -> None:
    ds = mf.from_arrow(pa.table({"a": pa.array([a], pa.int64()), "b": pa.array([b], pa.int64())}))
    wanted = (None, None) if b == 0 else (a // b, a % b)
    if wanted[0] == 2**63:
        with pytest.raises(mf.PlanError, match=r"[Oo]verflow"):
            ds.select(col("a") // col("b")).to_arrow()
        return
    made = ds.select(q=col("a") // col("b"), r=col("a") % col("b")).to_arrow().to_pylist()
    assert tuple(made[0].values()) == wanted


@pytest.mark.parametrize(
    "make",
    [
        lambda c: c + 1,
        lambda c: c * 2,
        lambda c: c**2,
        lambda c: -c - 2,
        lambda c: (-c - 1).abs(),
        lambda c: c.sum() * 2,
        lambda c: c.cum_sum().over(order_by="a") + 1,
    ],
)
def test_integers_never_wrap(make: Callable[[mf.Expr], mf.Expr]) -> None:
    with pytest.raises(mf.PlanError, match=r"[Oo]verflow"):
        mf.from_arrow({"a": [2**63 - 1]}).select(x=make(col("a"))).to_arrow()


def test_unsigned_integers_and_decimals_are_exact() -> None:
    most = 2**64 - 1
    ds = mf.from_arrow(pa.table({"u": pa.array([most], pa.uint64()), "i": pa.array([-2], pa.int64())}))
    made = ds.select(half=col("u") // 2, rest=col("u") % 10, q=col("u") // col("i"), r=col("u") % col("i"))
    assert [int(v) for v in made.to_arrow().to_pylist()[0].values()] == [
        most // 2, most % 10, most // -2, most % -2,
    ]  # fmt: skip
    exact = mf.from_arrow(pa.table({"d": pa.array([Decimal("-2.25"), Decimal("7.00")])}))
    made = exact.select(q=col("d") // 2, r=col("d") % 2, h=col("d") / 2, s=col("d").sign())
    assert made.to_arrow().to_pylist() == [
        {"q": -2, "r": Decimal("1.75"), "h": Decimal("-1.125"), "s": -1},
        {"q": 3, "r": 1, "h": Decimal("3.5"), "s": 1},
    ]


# ---- errors ----------------------------------------------------------------------------------------------

_DS = mf.from_arrow(
    pa.table(
        {
            "host": ["a"], "ms": [5], "ok": [True], "t": pa.array([0], pa.timestamp("us")), "l": [[1]],
            "z": pa.array([0], pa.timestamp("us", "UTC")), "o": [{"q": 1}], "b": [b"x"],
        }
    )
)  # fmt: skip

#: A call that is wrong, and what its message says.
WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: _DS.filter(col("hosts") == "a"), "no column 'hosts'; did you mean 'host'"),
    (lambda: _DS.select("hosts"), "no column 'hosts'; did you mean 'host'"),
    (lambda: _DS.group_by("hosts"), "no column 'hosts'; did you mean 'host'"),
    (lambda: _DS.sort(col("hosts")), "no column 'hosts'; did you mean 'host'"),
    (lambda: _DS.agg(col("hosts").sum()), "no column 'hosts'; did you mean 'host'"),
    (lambda: _DS.with_columns(x=col("ms").sum().over("hosts")), "no column 'hosts'; did you mean 'host'"),
    (lambda: _DS.select(cs.by_name("hosts")), "no column 'hosts'; did you mean 'host'"),
    (lambda: _DS.select(col("o").struct.field("p")), "column 'o' of type struct<q: int64>: no field 'p'"),
    (lambda: _DS.filter(col("ms") == "5"), "can't compare column 'ms' of type int64 with '5'"),
    (lambda: _DS.filter(col("host") > 5), "can't compare column 'host' of type string with 5"),
    (lambda: _DS.filter(col("ok") == 1), "can't compare column 'ok' of type bool with 1"),
    (lambda: _DS.filter(col("b") == "x"), "can't compare column 'b' of type binary with 'x'"),
    (lambda: _DS.filter(col("t") > "yesterday"), "'yesterday' is no timestamp"),
    (lambda: _DS.filter(col("t") > col("z")), "operator > can't compare .*; cast one of them"),
    (lambda: _DS.filter(col("ms").is_in([1, "x"])), "can't compare column 'ms' of type int64 with 'x'"),
    (lambda: _DS.filter(col("ms").is_between("a", "b")), r"is_between\(\) can't compare column 'ms' of type int64 with 'a'"),
    (lambda: _DS.select(col("host").rolling_mean(2).over(order_by="ms")), r"rolling_mean\(\) takes numbers"),
    (lambda: _DS.select(col("host").diff().over(order_by="ms")), r"diff\(\) does not take column 'host' of type string"),
    (lambda: _DS.filter(col("ms")), "column 'ms' of type int64 is none; compare it with something"),
    (lambda: _DS.filter(col("ms") > 1 & col("ok")), "put each comparison in parentheses"),
    (lambda: _DS.select(col("host") + 1), "[+] does not take column 'host' of type string and 1"),
    (lambda: _DS.select(col("ok") + col("ok")), "cast truth values to 'int64'"),
    (lambda: _DS.select(F.sqrt(col("host"))), r"sqrt\(\) does not take column 'host' of type string"),
    (lambda: _DS.select(F.concat(col("host"), cast(mf.Expr, "x"))), r"mf.lit\('x'\), or mf.col"),
    (lambda: _DS.select(col("ms").str.len_chars()), "takes text, but not column 'ms' of type int64"),
    (lambda: _DS.select(col("host").dt.year()), "takes dates and timestamps, but not column 'host' of type string"),
    (lambda: _DS.select(col("l").list.contains("x")), "column 'l' of type list<int64> does not take 'x'"),
    (lambda: _DS.select(col("ms").fill_null("x")), "can't put column 'ms' of type int64 and 'x' into one column"),
    (lambda: _DS.select(mf.when("ok").then(1).otherwise("x")), "can't put 1 and 'x' into one column"),
    (lambda: _DS.select(mf.when("ms").then(1)), r"when\(\) takes conditions, but column 'ms' of type int64"),
    (lambda: _DS.agg(col("host").sum()), r"sum\(\) takes numbers, but not column 'host' of type string"),
    (lambda: _DS.agg("ms"), r"agg\(\) takes aggregates, but column 'ms' of type int64 has a value for each row"),
    (lambda: _DS.agg(col("ms").sum().max()), r"max\(\) of an aggregate"),
    (lambda: _DS.sort(col("ms").sum().over("host")), r"compute it by with_columns\(\) first"),
    (lambda: _DS.group_by(col("ms").sum()), r"compute it by with_columns\(\) first"),
    (lambda: _DS.select(col("ms").shift()), r"shift\(\) depends on the order of rows.*over\(order_by='...'\)"),
    (lambda: _DS.agg(col("ms").first()), r"first\(\) depends on the order of rows"),
    (lambda: _DS.select(col("ms").over("host")), "needs an aggregate or a window function before it"),
    (lambda: _DS.select(col("ms").sum().over("host").over("ok")), r"over\(\) within over\(\)"),
    (lambda: _DS.select(col("ms").sum(), col("ms").mean()), "two columns are named 'ms'.*alias"),
    (lambda: _DS.select(cs.numeric() + (cs.temporal() | cs.boolean())), r"combines|does not take"),
    (lambda: _DS.select(F.upper(col("ms"))), r"upper\(\) does not take column 'ms' of type int64 \(at"),
    (lambda: _DS.select(col("ms").clip(0.5)), "0.5 does not fit the type of column 'ms' of type int64"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_a_wrong_call_is_named_with_its_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(mf.PlanError, match=message) as caught:
        call()
    assert f"(at {__file__}:{call.__code__.co_firstlineno})" in str(caught.value)
    assert not re.search(r"leaf\d|__right|__aggregate|string_view|Utf8|Int64|candidate", str(caught.value))


def test_values_that_are_no_expressions_are_type_errors_with_advice() -> None:
    for wrong in (5, object(), datafusion.col("ms")):
        with pytest.raises(
            TypeError, match=r"is no expression: give mf.col\('name'\), mf.lit\(value\) or a name"
        ):
            _DS.select(wrong)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(TypeError, match="names of columns"):
        col(5)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(TypeError, match=r"write is_null\(\)"):
        eq(col("ms"), None)
    with pytest.raises(TypeError, match="takes a list of values"):
        col("host").is_in("abc")


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.round(-1),
        lambda c: c.quantile(2),
        lambda c: c.rank("random"),
        lambda c: c.quantile(0.5, "middle"),
        lambda c: c.fill_null(),
        lambda c: c.fill_null(0, strategy="zero"),
        lambda c: c.fill_null(strategy="previous"),
        lambda c: c.fill_null(strategy="mean", limit=1),
        lambda c: c.forward_fill(-1),
        lambda c: c.rolling_sum(0),
        lambda c: c.rolling_sum(2, min_samples=3),
        lambda c: c.std(ddof=2),
        lambda c: c.log(0),
        lambda c: c.cast("int46"),
        lambda c: c.is_between(1, 2, closed="up"),
        lambda c: c.str.split(""),
        lambda c: c.str.slice(0, -1),
        lambda c: c.str.replace("a", r"\1"),
        lambda c: c.str.replace("a", "$x"),
        lambda c: c.str.extract("(a)", -1),
        lambda c: c.str.strptime("time64[us]", "%H"),
        lambda c: c.dt.truncate("0d"),
        lambda c: c.dt.truncate("1mo1d"),
        lambda c: c.dt.round("-1h"),
        lambda c: c.dt.offset_by("1x"),
        lambda c: c.list.head(-1),
        lambda c: c.dt.truncate("1fortnight"),
        lambda c: c.dt.epoch("h"),
        lambda c: c.dt.convert_time_zone("Mars/Base"),
        lambda c: c.list.get("x"),
        lambda _: cs.matches("("),
    ],
)
def test_arguments_that_mean_nothing_are_refused_at_once(call: Callable[[Any], object]) -> None:
    with pytest.raises(mf.ConfigError):
        call(col("ms"))


def test_text_beside_a_time_is_read_as_one() -> None:
    day = mf.from_arrow(
        pa.table({"d": pa.array([0, 1], pa.date32()), "t": pa.array([0, 10**6], pa.timestamp("us"))})
    )
    assert day.filter(col("d") > "1970-01-01").count() == 1
    assert day.filter(col("t") >= "1970-01-01 00:00:01").count() == 1
    assert day.filter(col("d").is_between("1970-01-01", "1970-01-02")).count() == 2


# ---- functions and plans -----------------------------------------------------------------------------------


def test_functions_are_datafusions_and_give_expressions() -> None:
    missing = set(datafusion.functions.__all__) - set(dir(F))
    assert missing == {
        "alias",
        "case",
        "cast_to_type",
        "lambda_",
        "lambda_var",
        "try_cast_to_type",
        "when",
        "spark",
    }
    assert all(isinstance(getattr(F, name)(col("ms")), mf.Expr) for name in {*dir(F)} - {"col"})
    for name in [*missing, "nosuch"]:
        with pytest.raises(AttributeError, match=name):
            getattr(F, name)
    made = _DS.agg(
        F.first_value(col("host"), order_by=[F.order_by(col("ms"), ascending=False)]),
        n=F.count(col("ms"), filter=col("ms") > 2**64 - 1),
    )
    assert made.to_arrow().to_pydict() == {"host": ["a"], "n": [0]}


def test_expressions_travel_with_functions_of_users() -> None:
    sent = cloudpickle.loads(cloudpickle.dumps(mf.when(col("ok")).then(col("ms") % 3)))
    assert _DS.select(sent).to_arrow().to_pydict() == {"ms": [2]}


#: Expressions, and SQL over the same file that must have the same stages, columns and pruning.
PAIRS: list[tuple[Callable[[mf.Dataset], mf.Dataset], str]] = [
    (lambda t: t.filter(col("i") > 5), "SELECT * FROM t WHERE i > 5"),
    (lambda t: t.filter(col("i").is_between(5, 9) & (col("f") != 2)), "SELECT * FROM t WHERE i BETWEEN 5 AND 9 AND f <> 2"),
    (lambda t: t.filter(col("i").is_in([1, 2, 3, 4, 5, 6])), "SELECT * FROM t WHERE i IN (1, 2, 3, 4, 5, 6)"),
    (lambda t: t.filter((col("s") == "a") | (col("s") == "b")), "SELECT * FROM t WHERE s = 'a' OR s = 'b'"),
    (lambda t: t.filter(col("d") >= dt.date(2024, 1, 5)), "SELECT * FROM t WHERE d >= '2024-01-05'"),
    (lambda t: t.filter(col("s").is_not_null()).select("i"), "SELECT i FROM t WHERE s IS NOT NULL"),
    (lambda t: t.filter(col("s").str.contains("item 4[0-2]")), "SELECT * FROM t WHERE s ~ 'item 4[0-2]'"),
    (lambda t: t.filter(col("s").str.contains("m 4", literal=True)), "SELECT * FROM t WHERE s LIKE '%m 4%'"),
    (lambda t: t.filter(col("s").str.starts_with("item")), "SELECT * FROM t WHERE s LIKE 'item%'"),
    (lambda t: t.filter(col("s").str.ends_with("4")), "SELECT * FROM t WHERE s LIKE '%4'"),
    (lambda t: t.group_by("s").agg(n=mf.len(), m=col("f").mean(), x=col("i").max()).sort("s"),
     "SELECT s, count(*) n, avg(f) m, max(i) x FROM t GROUP BY s ORDER BY s"),
    (lambda t: t.agg(a=col("i").sum() / mf.len()), "SELECT coalesce(sum(i), 0) / cast(count(*) AS double) a FROM t"),
    (lambda t: t.sort("f", descending=True).limit(3), "SELECT * FROM t ORDER BY f DESC NULLS LAST LIMIT 3"),
    (lambda t: t.with_columns(z=mf.when(col("i") > 3).then("a").otherwise("b")),
     "SELECT *, CASE WHEN i > 3 THEN 'a' ELSE 'b' END z FROM t"),
    (lambda t: t.select("i", b=col("i").shift().over("s", order_by="f")),
     "SELECT i, lag(i) OVER (PARTITION BY s ORDER BY f) b FROM t"),
    (lambda t: t.filter(col("i") < 90).select("i", "s").join(t.select("i", g=col("f") * 2).filter(col("i") > 9), "i").select("i", "s", "g"),
     "SELECT l.i, s, g FROM (SELECT i, s FROM t WHERE i < 90) l JOIN (SELECT i, f * 2 AS g FROM t WHERE i > 9) r ON l.i = r.i"),
]  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS, ids=[query for _, query in PAIRS])
def test_plans_are_those_of_sql(pair: tuple[Callable[[mf.Dataset], mf.Dataset], str], tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "i,f,s,d\n" + "".join(f"{n},{n}.5,item {n % 50},2024-01-{1 + n % 28:02}\n" for n in range(500))
    )
    with mf.Session(partitions=2) as session:
        t = session.read_csv(path)
        made, query = pair[0](t), session.sql(pair[1], t=t)
        assert made.explain() == query.explain()
        ours, theirs = (sorted(d.to_arrow().to_pylist(), key=str) for d in (made, query))
        assert ours == theirs


_LISTS = {"l": [[1, 2], []], "w": [["a"], None], "i": [1, 2], "j": [3, 4], "b": [True, False]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: col("l").list.get(0),
            r"list\.get\(0\): a list has 0 items; null_on_oob=True gives null there",
        ),
        (
            lambda: col("l").list.eval(mf.element() + 2**62 + 2**62),
            "overflow: int64 . int64 does not fit int64",
        ),
        (
            lambda: col("l").list.eval(col("i")),
            r"list\.eval\(\) sees mf\.element\(\) alone, and not column 'i'",
        ),
        (lambda: col("l").list.eval(mf.element().sum()), "takes an expression of each item"),
        (
            lambda: col("l").list.eval(mf.element().shift().over(order_by=mf.element())),
            "expression of each item",
        ),
        (lambda: col("l").list.eval(mf.lit(1)), "takes an expression of each item"),
        (
            lambda: col("l").list.eval(mf.element() + "x"),
            r"element\(\) of type int64 and 'x'; cast one of them",
        ),
        (lambda: mf.element() + 1, r"use it in the expression of list\.eval"),
        (lambda: col("w").list.sum().alias("x"), "its items must be number or bool or duration"),
        (lambda: col("l").list.concat(col("w")), "does not take column 'w'"),
        (lambda: col("l").list.concat(col("i")), "takes lists, but not column 'i'"),
        (lambda: col("l").list.explode().alias("x") + 1, "changes the number of rows"),
        (lambda: col("b") & col("i"), "two conditions or two integers.*put each comparison in parentheses"),
        (lambda: col("i") | 1.5, "two conditions or two integers"),
        (lambda: ~col("w"), "combines conditions or integers"),
        (lambda: col("i").cast("uint64") & col("j"), "no integer type holds"),
        (lambda: col("i").cast("int8") & 300, "300 does not fit int8"),
        (lambda: col("i").rank("ordinal"), "depends on the order of rows"),
    ],
)
def test_lists_and_bits_refuse_what_they_do_not_take(make: Callable[[], mf.Expr], message: str) -> None:
    with pytest.raises(mf.PlanError, match=message):
        mf.from_arrow(_LISTS).select(x=make()).to_arrow()


def test_bits_of_different_integers_are_those_of_the_wider() -> None:
    ds = mf.from_arrow({"i": [5, None], "u": [255, 1]}).with_columns(
        n=col("i").cast("int8"), m=col("u").cast("uint8")
    )
    made = ds.select(a=col("n") & col("m"), b=col("n") | 2, c=col("m") ^ col("i"), d=1 & col("m")).to_arrow()
    assert made.to_pydict() == {"a": [5, None], "b": [7, None], "c": [250, None], "d": [1, 1]}
    assert [str(t) for t in made.schema.types] == ["int16", "int8", "int64", "uint8"]


def test_exploded_columns_stand_alone() -> None:
    ds = mf.from_arrow({"k": [1, 2, 3], "l": [[1, 2], [], None], "m": [["a", "b"], [], None]})
    both = ds.select(col("l").list.explode(), x=col("m").list.explode())
    assert both.to_arrow().to_pydict() == {"l": [1, 2, None], "x": ["a", "b", None]}
    kept = ds.select(col("l", "m").list.explode(empty_as_null=True, keep_nulls=False))
    assert kept.to_arrow().to_pydict() == {"l": [1, 2, None], "m": ["a", "b", None]}
    with pytest.raises(mf.PlanError, match="all columns must explode"):
        ds.select("k", col("l").list.explode())


def test_sums_of_lists_do_not_wrap() -> None:
    ds = mf.from_arrow({"l": [[2**62, 2**62, -1], [5]]})
    with pytest.raises(
        mf.PlanError, match="overflow: the sum of a list does not fit int64: 9223372036854775809"
    ):
        ds.select(col("l").list.eval(mf.element().abs()).list.sum().alias("x")).to_arrow()
    near = mf.from_arrow({"l": [[2**62, 2**62, -1], [5]]}).select(col("l").list.sum())
    assert near.to_arrow().to_pydict() == {"l": [2**63 - 1, 5]}


def test_clocks_after_2037_have_summer_time() -> None:
    at = dt.datetime(2050, 7, 1, 12, 30, tzinfo=dt.UTC)
    ds = mf.from_arrow(pa.table({"t": pa.array([at], pa.timestamp("us", "America/New_York"))}))
    made = ds.select(
        col("t").dt.truncate("3d"), m=col("t").dt.offset_by("6mo"), h=col("t").dt.round("6h")
    ).to_dicts()
    assert [v.isoformat() for v in made[0].values()] == [
        "2050-06-30T00:00:00-04:00", "2051-01-01T08:30:00-05:00", "2050-07-01T06:00:00-04:00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("every", "below", "above"), [("1mo", "2024-02-01", "2024-03-01"), ("1y", "2024-01-01", "2025-01-01")]
)
def test_months_are_rounded_at_their_middle(every: str, below: str, above: str) -> None:
    first, last = dt.datetime.fromisoformat(below), dt.datetime.fromisoformat(above)
    middle = first + (last - first) / 2
    ds = mf.from_arrow({"t": [middle - dt.timedelta(microseconds=1), middle]})
    assert ds.select(col("t").dt.round(every)).to_arrow()["t"].to_pylist() == [first, last]


def test_first_and_last_by_a_key_are_of_all_rows_or_of_a_group_beside_values() -> None:
    ds = mf.from_arrow({"t": [2, 1, 4, 3], "v": [5, 6, 7, None], "k": ["x", "x", "y", "y"]})
    made = ds.select(
        "t",
        first=col("v").first(order_by="t"),
        last=col("v").last(order_by="t").over("k"),
        latest=col("v").first(order_by="t", descending=True).over("k"),
        less=col("v") - col("v").last(order_by="t"),
    )
    assert made.sort("t").to_arrow().to_pydict() == {
        "t": [1, 2, 3, 4], "first": [6] * 4, "last": [5, 5, 7, 7], "latest": [5, 5, 7, 7], "less": [-1, -2, None, 0]
    }  # fmt: skip
    assert ds.filter(col("v") == col("v").first(order_by="t").over("k")).to_arrow()["t"].to_pylist() == [1]

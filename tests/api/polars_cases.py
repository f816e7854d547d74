"""Expressions that mmflow and Polars take as they are, and the comparison of what they give.

Where the two differ, docs/expressions.md says why.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

import mmflow as mf

Case = Callable[[Any, Any], Any]


def _of_time(column: str, method: str, *arguments: Any) -> Case:
    return lambda _, c: getattr(c(column).dt, method)(*arguments)


def _of_list(column: str, method: str) -> Case:
    return lambda _, c: getattr(c(column).list, method)()


def _quantile(interpolation: str) -> Case:
    return lambda _, c: c("g").quantile(0.3, interpolation=interpolation)


#: Row by row: `m` is either library, `c` its `col`.
ROWS: dict[str, Case] = {
    "add": lambda m, c: c("i") + c("j"),
    "add float": lambda m, c: c("f") + c("i"),
    "subtract": lambda m, c: c("i") - c("j"),
    "subtract from a literal": lambda m, c: 7 - c("i"),
    "multiply": lambda m, c: c("i") * c("j"),
    "divide": lambda m, c: c("i") / c("j"),
    "divide a literal": lambda m, c: 1 / c("j"),
    "divide by two": lambda m, c: c("i") / 2,
    "floor divide": lambda m, c: c("i") // c("j"),
    "floor divide by three": lambda m, c: c("i") // 3,
    "floor divide by minus three": lambda m, c: c("i") // -3,
    "floor divide a literal": lambda m, c: 17 // c("j"),
    "floor divide floats": lambda m, c: c("g") // 1.5,
    "modulo": lambda m, c: c("i") % c("j"),
    "modulo of three": lambda m, c: c("i") % 3,
    "modulo of minus three": lambda m, c: c("i") % -3,
    "modulo of floats": lambda m, c: c("g") % 1.5,
    "unsigned floor divide": lambda m, c: c("u") // 3,
    "unsigned modulo": lambda m, c: c("u") % 3,
    "power": lambda m, c: c("j") ** 3,
    "power of floats": lambda m, c: c("g") ** 2,
    "negate": lambda m, c: -c("i"),
    "negate float": lambda m, c: -c("f"),
    "join text": lambda m, c: c("s") + c("p"),
    "join a literal": lambda m, c: "x" + c("s"),
    "equal": lambda m, c: c("i") == c("j"),
    "not equal": lambda m, c: c("i") != 3,
    "less": lambda m, c: c("i") < c("j"),
    "less or equal": lambda m, c: c("g") <= 1,
    "greater": lambda m, c: c("i") < 2,
    "greater or equal": lambda m, c: c("s") >= "b",
    "float order": lambda m, c: c("f") > 1.0,
    "dates": lambda m, c: c("d") < dt.date(1970, 1, 1),
    "times": lambda m, c: c("t") >= dt.datetime(1969, 12, 31, 23, 59, 59),
    "and": lambda m, c: (c("i") > 0) & c("b"),
    "or": lambda m, c: (c("i") > 0) | c("b"),
    "xor": lambda m, c: (c("i") > 0) ^ c("b"),
    "not": lambda m, c: ~c("b"),
    "difference of times": lambda m, c: c("t") - dt.datetime(1970, 1, 1),
    "sum of time and duration": lambda m, c: c("t") + c("x"),
    "difference of time and duration": lambda m, c: c("t") - c("x"),
    "durations": lambda m, c: c("x") + c("x"),
    "is null": lambda m, c: c("f").is_null(),
    "is not null": lambda m, c: c("s").is_not_null(),
    "is nan": lambda m, c: c("f").is_nan(),
    "is in": lambda m, c: c("i").is_in([1, 2, 3]),
    "is in texts": lambda m, c: c("s").is_in(["a", "é"]),
    "is in nothing": lambda m, c: c("j").is_in([]),
    "is in with a null": lambda m, c: c("j").is_in([1, None]),
    "is between": lambda m, c: c("i").is_between(-2, 5),
    "is between, left": lambda m, c: c("i").is_between(-2, 5, closed="left"),
    "is between, none": lambda m, c: c("g").is_between(-2.0, 5.0, closed="none"),
    "fill null": lambda m, c: c("i").fill_null(0),
    "fill null of text": lambda m, c: c("s").fill_null("none"),
    "fill null by a column": lambda m, c: c("i").fill_null(c("j")),
    "fill nan": lambda m, c: c("f").fill_nan(0.0),
    "fill nan by null": lambda m, c: c("f").fill_nan(None),
    "abs": lambda m, c: c("i").abs(),
    "abs of floats": lambda m, c: c("f").abs(),
    "sign": lambda m, c: c("i").sign(),
    "sign of floats": lambda m, c: c("f").sign(),
    "round": lambda m, c: c("f").round(),
    "round integers": lambda m, c: c("i").round(),
    "round halves": lambda m, c: (c("j") / 2).round(),
    "round halves away": lambda m, c: (c("j") / 2).round(mode="half_away_from_zero"),
    "round to two": lambda m, c: c("g").round(2),
    "floor": lambda m, c: c("f").floor(),
    "ceil": lambda m, c: c("f").ceil(),
    "floor of integers": lambda m, c: c("i").floor(),
    "clip": lambda m, c: c("i").clip(-2, 2),
    "clip floats": lambda m, c: c("f").clip(-1.0, 1.0),
    "clip below": lambda m, c: c("i").clip(lower_bound=0) if m is pl else c("i").clip(lower=0),
    "sqrt": lambda m, c: c("f").sqrt(),
    "sqrt of integers": lambda m, c: c("i").sqrt(),
    "exp": lambda m, c: c("j").exp(),
    "log": lambda m, c: c("f").log(),
    "log of two": lambda m, c: c("g").log(2),
    "cast to float": lambda m, c: c("i").cast(pl.Float64 if m is pl else "float64"),
    "cast to text": lambda m, c: c("i").cast(pl.String if m is pl else "string"),
    "cast to integer": lambda m, c: c("g").cast(pl.Int64 if m is pl else "int64"),
    "cast text": lambda m, c: c("n").cast(pl.Int64 if m is pl else "int64", strict=False),
    "cast to narrow": lambda m, c: c("i").cast(pl.Int8 if m is pl else "int8", strict=False),
    "cast truth": lambda m, c: c("b").cast(pl.Int64 if m is pl else "int64"),
    "cast a time": lambda m, c: c("t").cast(pl.Date if m is pl else "date32"),
    "when": lambda m, c: m.when(c("i") > 0).then(c("i")).when(c("j") > 0).then(c("j")).otherwise(0),
    "when without otherwise": lambda m, c: m.when(c("b")).then(c("s")),
    "when of literals": lambda m, c: m.when(c("b")).then(m.lit("yes")).otherwise(m.lit("no")),
    "coalesce": lambda m, c: m.coalesce("i", "j"),
    "concat_str": lambda m, c: m.concat_str("s", "i", "p", separator="-"),
    "concat_str without nulls": lambda m, c: m.concat_str("s", "p", separator="-", ignore_nulls=True),
    "contains": lambda m, c: c("s").str.contains("[a-c]+é?"),
    "contains a literal": lambda m, c: c("s").str.contains("a.", literal=True),
    "starts with": lambda m, c: c("s").str.starts_with("a"),
    "ends with": lambda m, c: c("s").str.ends_with("é"),
    "starts with a column": lambda m, c: c("s").str.starts_with(c("p")),
    "extract": lambda m, c: c("s").str.extract("(a)(b)?", 2),
    "extract the match": lambda m, c: c("s").str.extract("a(b)?", 0),
    "replace": lambda m, c: c("s").str.replace("(a)", "<$1${1}$$>"),
    "replace all": lambda m, c: c("s").str.replace_all("[ab]", r"\<$0>"),
    "replace a literal": lambda m, c: c("s").str.replace("a.", r"$1\1", literal=True),
    "replace all literals": lambda m, c: c("s").str.replace_all("a", "$0", literal=True),
    "split": lambda m, c: c("s").str.split("a"),
    "strip_chars": lambda m, c: c("s").str.strip_chars(),
    "strip certain chars": lambda m, c: c("s").str.strip_chars("ab "),
    "strip_chars_start": lambda m, c: c("s").str.strip_chars_start("a"),
    "strip_chars_end": lambda m, c: c("s").str.strip_chars_end("a"),
    "strip_prefix": lambda m, c: c("s").str.strip_prefix("aé"),
    "strip_suffix": lambda m, c: c("s").str.strip_suffix("é"),
    "to_lowercase": lambda m, c: c("s").str.to_lowercase(),
    "to_uppercase": lambda m, c: c("s").str.to_uppercase(),
    "len_chars": lambda m, c: c("s").str.len_chars(),
    "len_bytes": lambda m, c: c("s").str.len_bytes(),
    "slice": lambda m, c: c("s").str.slice(1, 2),
    "slice to the end": lambda m, c: c("s").str.slice(1),
    "slice from the end": lambda m, c: c("s").str.slice(-2),
    "slice from before": lambda m, c: c("s").str.slice(-3, 2),
    "to_integer": lambda m, c: c("n").str.to_integer(strict=False),
    "strptime": lambda m, c: c("t").dt.strftime("%Y-%m-%d %H:%M:%S").str.strptime(pl.Datetime("us") if m is pl else "timestamp[us]", "%Y-%m-%d %H:%M:%S"),
    "strptime of dates": lambda m, c: c("d").dt.strftime("%d/%m/%Y").str.strptime(pl.Date if m is pl else "date32", "%d/%m/%Y"),
    **{
        part: _of_time("t", part)
        for part in ("year", "quarter", "month", "week", "day", "ordinal_day", "weekday", "hour", "minute", "second",
                     "millisecond", "microsecond", "nanosecond", "date")
    },
    **{
        f"{part} of dates": _of_time("d", part)
        for part in ("year", "quarter", "month", "week", "day", "ordinal_day", "weekday")
    },
    **{
        f"{part} of a zone": _of_time("z", part)
        for part in ("year", "day", "hour", "minute", "weekday", "date")
    },
    **{
        f"truncate to {every}": _of_time("t", "truncate", every)
        for every in ("1s", "15m", "1h", "6h", "1d", "1w", "1mo", "1q", "1y")
    },
    **{
        f"truncate dates to {every}": _of_time("d", "truncate", every)
        for every in ("1d", "1w", "1mo", "1q", "1y")
    },
    **{f"truncate a zone to {every}": _of_time("z", "truncate", every) for every in ("1h", "1d", "1mo")},
    "strftime": lambda m, c: c("t").dt.strftime("%d.%m.%Y %H:%M:%S"),
    **{f"epoch in {unit}": _of_time("t", "epoch", unit) for unit in ("d", "s", "ms", "us", "ns")},
    "epoch of dates": lambda m, c: c("d").dt.epoch("s"),
    "convert_time_zone": lambda m, c: c("z").dt.convert_time_zone("Asia/Tokyo"),
    "replace_time_zone": lambda m, c: c("t").dt.replace_time_zone("UTC"),
    "replace_time_zone by none": lambda m, c: c("z").dt.replace_time_zone(None),
    **{
        f"total_{unit}": _of_time("x", f"total_{unit}")
        for unit in ("days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds")
    },
    "list.len": lambda m, c: c("l").list.len(),
    "list.get": lambda m, c: c("l").list.get(1, null_on_oob=True),
    "list.get from the end": lambda m, c: c("l").list.get(-2, null_on_oob=True),
    "list.get by a column": lambda m, c: c("w").list.get(c("j"), null_on_oob=True),
    "list.first": lambda m, c: c("l").list.first(),
    "list.last": lambda m, c: c("l").list.last(),
    "list.contains": lambda m, c: c("l").list.contains(1),
    "list.join": lambda m, c: c("w").list.join("-"),
    **{
        f"list.{name}": _of_list("l", name)
        for name in ("sum", "mean", "min", "max", "n_unique", "sort", "reverse", "head", "tail")
    },
    **{
        f"list.{name} of texts": _of_list("w", name)
        for name in ("min", "max", "n_unique", "sort", "reverse")
    },
    "list.unique": lambda m, c: c("l").list.unique(maintain_order=True) if m is pl else c("l").list.unique(),
    "list.unique of texts": lambda m, c: c("w").list.unique(maintain_order=True) if m is pl else c("w").list.unique(),
    "list.sort descending": lambda m, c: c("l").list.sort(descending=True, nulls_last=True),
    "list.sort of floats": lambda m, c: c("h").list.sort(),
    "list.sum of floats": lambda m, c: c("h").list.sum(),
    "list.mean of floats": lambda m, c: c("h").list.mean(),
    "list.any": lambda m, c: c("l").list.eval(m.element() > 1).list.any(),
    "list.all": lambda m, c: c("l").list.eval(m.element() > 0).list.all(),
    "list.sum of truth": lambda m, c: c("l").list.eval(m.element() > 0).list.sum(),
    "list.slice": lambda m, c: c("l").list.slice(1, 1),
    "list.slice from the end": lambda m, c: c("l").list.slice(-2, 1),
    "list.slice from before": lambda m, c: c("l").list.slice(-9, 8),
    "list.slice to the end": lambda m, c: c("w").list.slice(1),
    "list.tail of one": lambda m, c: c("w").list.tail(1),
    "list.concat": lambda m, c: c("l").list.concat(c("l").list.reverse()),
    "list.concat of texts": lambda m, c: c("w").list.concat(c("s").str.split("a")),
    "list.eval": lambda m, c: c("l").list.eval(m.element() * 2 - 1),
    "list.eval of texts": lambda m, c: c("w").list.eval(m.element().str.to_uppercase() + "!"),
    "list.eval to another type": lambda m, c: c("w").list.eval(m.element().str.len_chars() / 2),
    "list.eval of nulls": lambda m, c: c("l").list.eval(m.element().is_null()),
    "list.eval of a choice": lambda m, c: c("l").list.eval(m.when(m.element() > 1).then(m.element()).otherwise(0)),
    "list.eval in list.eval": lambda m, c: c("l").list.eval(m.element() + 1).list.eval(m.element() * 3),
    "and of bits": lambda m, c: c("i") & c("j"),
    "or of bits": lambda m, c: c("i") | 5,
    "xor of bits": lambda m, c: c("i") ^ c("j"),
    "not of bits": lambda m, c: ~c("i"),
    "bits of unsigned": lambda m, c: (c("u") & 15) | 64,
    "not of unsigned bits": lambda m, c: ~c("u"),
    "bits in a condition": lambda m, c: ((c("j") & 1) == 1) | c("b"),
    "fill by zero": lambda m, c: c("i").fill_null(strategy="zero"),
    "fill by one": lambda m, c: c("g").fill_null(strategy="one"),
    "fill text by zero": lambda m, c: c("s").fill_null(strategy="zero"),
    "fill truth by one": lambda m, c: c("b").fill_null(strategy="one"),
    "fill dates by zero": lambda m, c: c("d").fill_null(strategy="zero"),
    **{
        f"{method} {kind} to {every}": _of_time(kind, method, every)
        for kind in "td"
        for method, everys in (
            ("truncate", ("3d", "2w", "5mo", "3q", "7y")),
            ("round", ("1d", "3d", "1w", "2w")),
            ("offset_by", ("1mo", "-3mo", "1y", "-1w", "1mo2d", "1q1w", "-1d", "36h")),
        )
        for every in everys
    },
    **{
        f"round times to {every}": _of_time("t", "round", every) for every in ("1s", "15m", "1h", "7h", "250ms")
    },
    "truncate to 36 hours": _of_time("t", "truncate", "1d12h"),
    **{f"truncate a zone to {every}": _of_time("z", "truncate", every) for every in ("6h", "3d", "2w", "5mo", "7y")},
    **{f"move a zone by {by}": _of_time("z", "offset_by", by) for by in ("1h", "-25h", "1d", "1mo", "-1y", "1w2h")},
    "struct.field": lambda m, c: c("o").struct.field("q"),
}  # fmt: skip

#: One value for each group.
AGGREGATES: dict[str, Case] = {
    "sum": lambda m, c: c("i").sum(),
    "sum of floats": lambda m, c: c("g").sum(),
    "sum of truth": lambda m, c: c("b").sum(),
    "mean": lambda m, c: c("i").mean(),
    "min": lambda m, c: c("i").min(),
    "max": lambda m, c: c("s").max(),
    "min of times": lambda m, c: c("t").min(),
    "count": lambda m, c: c("f").count(),
    "null_count": lambda m, c: c("f").null_count(),
    "len": lambda m, c: m.len(),
    "n_unique": lambda m, c: c("j").n_unique(),
    "n_unique of floats": lambda m, c: c("f").n_unique(),
    "any": lambda m, c: c("b").any(),
    "all": lambda m, c: c("b").all(),
    "std": lambda m, c: c("i").std(),
    "std of all": lambda m, c: c("i").std(ddof=0),
    "var": lambda m, c: c("g").var(),
    "median": lambda m, c: c("i").median(),
    **{f"quantile, {how}": _quantile(how) for how in ("linear", "nearest", "lower", "higher", "midpoint")},
    "quantile of integers": lambda m, c: c("j").quantile(0.5, "nearest"),
    "first": lambda m, c: c("s").sort_by("r").first() if m is pl else c("s").first(order_by="r"),
    "last": lambda m, c: c("s").sort_by("r").last() if m is pl else c("s").last(order_by="r"),
    "ratio": lambda m, c: c("i").sum() / m.len(),
    "conditional": lambda m, c: (c("i") > 0).sum() * 2,
}

#: A value for each row that depends on the others of its group.
WINDOWS: dict[str, Case] = {
    "sum": lambda m, c: c("i").sum().over("k"),
    "share": lambda m, c: c("g") - c("g").mean().over("k"),
    "count": lambda m, c: c("s").count().over("k"),
    "max of all": lambda m, c: c("i").max().over(m.lit(1)) if m is pl else c("i").max().over(),
    "aggregate beside rows": lambda m, c: c("j") - c("j").min(),
    "first": lambda m, c: c("s").first().over("k", order_by="r"),
    "last": lambda m, c: c("s").last().over("k", order_by="r"),
    "shift": lambda m, c: c("i").shift(1).over("k", order_by="r"),
    "shift back": lambda m, c: c("s").shift(-2).over("k", order_by="r"),
    "shift and fill": lambda m, c: c("i").shift(1, fill_value=0).over("k", order_by="r"),
    "diff": lambda m, c: c("i").diff().over("k", order_by="r"),
    "diff of times": lambda m, c: c("t").diff(2).over("k", order_by="r"),
    "rank": lambda m, c: c("j").rank().over("k"),
    "least rank": lambda m, c: c("j").rank("min").over("k"),
    "greatest rank": lambda m, c: c("j").rank("max", descending=True).over("k"),
    "dense rank": lambda m, c: c("j").rank("dense").over("k"),
    "ordinal rank": lambda m, c: c("j").rank("ordinal").over("k", order_by="r"),
    "ordinal rank, descending": lambda m, c: c("s").rank("ordinal", descending=True).over("k", order_by="r"),
    "quantile": lambda m, c: c("g").quantile(0.7, "higher").over("k"),
    "forward_fill": lambda m, c: c("i").forward_fill().over("k", order_by="r"),
    "forward_fill of few": lambda m, c: c("s").forward_fill(1).over("k", order_by="r"),
    "backward_fill": lambda m, c: c("g").backward_fill(2).over("k", order_by="r"),
    "fill forward": lambda m, c: c("t").fill_null(strategy="forward").over("k", order_by="r"),
    "fill backward": lambda m, c: c("w").fill_null(strategy="backward").over("k", order_by="r"),
    "fill by min": lambda m, c: c("s").fill_null(strategy="min").over("k"),
    "fill by max": lambda m, c: c("i").fill_null(strategy="max").over("k"),
    "fill by mean": lambda m, c: c("i").fill_null(strategy="mean"),
    "fill by the group's mean": lambda m, c: c("g").fill_null(strategy="mean").over("k"),
    "cum_sum": lambda m, c: c("i").cum_sum().over("k", order_by="r"),
    "cum_min": lambda m, c: c("i").cum_min().over("k", order_by="r"),
    "cum_max": lambda m, c: c("i").cum_max().over("k", order_by="r"),
    "cum_count": lambda m, c: c("i").cum_count().over("k", order_by="r"),
    "rolling_sum": lambda m, c: c("i").rolling_sum(3).over("k", order_by="r"),
    "rolling_sum of floats": lambda m, c: c("g").rolling_sum(2, min_samples=1).over("k", order_by="r"),
    "rolling_sum of many floats": lambda m, c: c("g").rolling_sum(90, min_samples=1).over("k", order_by="r"),
    "rolling_mean": lambda m, c: c("i").rolling_mean(2).over("k", order_by="r"),
    "rolling_min": lambda m, c: c("i").rolling_min(2, min_samples=1).over("k", order_by="r"),
    "rolling_max": lambda m, c: c("g").rolling_max(3, min_samples=2).over("k", order_by="r"),
}  # fmt: skip


def select_all(table: pa.Table, ds: mf.Dataset) -> None:
    """Compare all expressions over the rows of a table, of which `r` is the number."""
    ours, theirs = both(ROWS)
    check(
        ds.select("r", **ours).sort("r").to_arrow(), frame(table).select("r", **theirs), ["r", *ROWS], table
    )


def aggregate_all(table: pa.Table, ds: mf.Dataset) -> None:
    """Compare all aggregates, of all rows and of groups."""
    ours, theirs = both(AGGREGATES)
    check(ds.select(**ours).to_arrow(), frame(table).select(**theirs), [*AGGREGATES], table)
    grouped = frame(table).group_by("k").agg(**theirs).sort("k", nulls_last=True)
    check(ds.group_by("k").agg(**ours).sort("k").to_arrow(), grouped, ["k", *AGGREGATES], table)


def window_all(table: pa.Table, ds: mf.Dataset) -> None:
    """Compare all functions of windows."""
    ours, theirs = both(WINDOWS)
    wanted = frame(table).with_columns(**theirs).sort("r")
    check(ds.with_columns(**ours).sort("r").to_arrow(), wanted, ["r", *WINDOWS], table)


def both(cases: dict[str, Case]) -> tuple[dict[str, mf.Expr], dict[str, pl.Expr]]:
    """Return the expressions of both libraries."""
    return {n: case(mf, mf.col) for n, case in cases.items()}, {
        n: case(pl, pl.col) for n, case in cases.items()
    }


def frame(table: pa.Table) -> pl.DataFrame:
    """Return a table of Polars."""
    made = pl.from_arrow(table)
    assert isinstance(made, pl.DataFrame)
    return made


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float | int):
        if math.isnan(ours) or math.isnan(theirs):
            return math.isnan(ours) and math.isnan(theirs)
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return bool(ours == theirs)


def check(ours: pa.Table, theirs: pl.DataFrame, names: Sequence[str], table: pa.Table) -> None:
    """Check that columns are the same."""
    for name in names:
        left, right = ours.column(name).to_pylist(), theirs[name].to_list()
        same = len(left) == len(right) and all(map(_same, left, right))
        assert same, f"{name}: {left} but Polars {right} of {table.to_pydict()}"

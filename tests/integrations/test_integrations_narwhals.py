"""Code for narwhals on datasets gives the rows that it gives on Polars; nothing is read before it is collected."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import narwhals as nw
import narwhals.selectors as ncs
import polars as pl
import pyarrow as pa
import pytest
from narwhals.exceptions import ColumnNotFoundError, DuplicateError, InvalidOperationError

import mmflow as mf
from mmflow.integrations.narwhals.expressions import MmflowExpr
from mmflow.integrations.narwhals.fields import ListFields, StructFields, TextFields, TimeFields

ROOT = Path(__file__).parents[2]
TABLE = pa.table(
    {
        "i": [1, 2, 3, 4, 5, 6],
        "k": ["x", "y", "x", None, "y", "x"],
        "v": pa.array([7, None, -3, 4, 4, 12], pa.int64()),
        "f": [0.5, float("nan"), None, -2.25, 8.0, 1.0],
        "b": [True, False, None, True, True, False],
        "s": ["Apple pie", " pear", "plum", None, "fig", "Äpfel"],
        "t": [dt.datetime(2024, 1, d, d, 30, 5, 123456) for d in range(1, 7)],
        "l": [[1, 2, 2], [], None, [5], [3, None], [9, 8]],
    }
)
OTHER = pa.table({"k": ["x", "y", "z"], "v": [100, 200, 300], "w": [1.5, 2.5, 3.5]})

v, f, b, s, t = (nw.col(n) for n in "vfbst")

#: Expressions of values of a row.
VALUES: dict[str, nw.Expr] = {
    "operators": (v * 2 + 1 - v) / 3,
    "integers": v // 5 + v % 5,
    "power": v**2,
    "negative": -v,
    "compared": (v > 3) & ~b | (f <= 1),
    "xor": b ^ (v > 3),
    "reversed": 10 - v,
    "abs": v.abs(),
    "cast": v.cast(nw.Float32),
    "clip": v.clip(0, 5),
    "clip_lower": v.clip(lower_bound=0),
    "fill_nan": f.fill_nan(None),
    "fill_null": v.fill_null(-1),
    "finite": f.is_finite(),
    "in": v.is_in([4, 7]),
    "nan": f.is_nan(),
    "null": v.is_null(),
    "between": v.is_between(0, 7, closed="left"),
    "round": f.round(1),
    "floor": f.floor(),
    "ceil": f.ceil(),
    "roots": v.abs().sqrt() + v.exp() + (v.abs() + 1).log(2),
    "sine": v.sin() + v.cos(),
    "replaced": v.replace_strict([7, 4], [70, 40], default=0, return_dtype=nw.Int64),
    "when": nw.when(v > 3).then(v).otherwise(nw.lit(0)),
    "chain": nw.when(v > 5).then(nw.lit("a")).when(v > 0).then(nw.lit("b")).otherwise(nw.lit("c")),
    "coalesce": nw.coalesce(v, nw.col("i")),
    "sum_horizontal": nw.sum_horizontal("i", "v"),
    "mean_horizontal": nw.mean_horizontal("i", "v"),
    "min_horizontal": nw.min_horizontal("i", "v"),
    "max_horizontal": nw.max_horizontal("i", "v"),
    "all_horizontal": nw.all_horizontal("b", v > 0, ignore_nulls=True),
    "any_horizontal": nw.any_horizontal("b", v > 0, ignore_nulls=False),
    "concat_str": nw.concat_str(["k", "s"], separator="-"),
    "text": s.str.strip_chars().str.to_uppercase().str.slice(1, 3),
    "len_chars": s.str.len_chars(),
    "contains": s.str.contains("^[A-Z]"),
    "starts": s.str.starts_with("p") | s.str.ends_with("g"),
    "replace": s.str.replace("p+", "Q"),
    "replace_all": s.str.replace_all("p", "qq", literal=True),
    "split": s.str.split(" "),
    "zfill": v.cast(nw.String).str.zfill(4),
    "strptime": nw.lit("2024-05-06 07:08:09").str.to_datetime("%Y-%m-%d %H:%M:%S"),
    "parts": t.dt.year() * 100 + t.dt.ordinal_day() + t.dt.weekday() + t.dt.hour() + t.dt.second(),
    "fractions": t.dt.millisecond() + t.dt.microsecond(),
    "date": t.dt.date(),
    "truncate": t.dt.truncate("2h"),
    "offset": t.dt.offset_by("1mo"),
    "strftime": t.dt.to_string("%Y/%m/%d"),
    "epoch": t.dt.timestamp("ms"),
    "minutes": (t - t.dt.truncate("1d")).dt.total_minutes(),
    "list": nw.col("l").list.len(),
    "list_sort": nw.col("l").list.sort(descending=True),
    "list_sum": nw.col("l").list.sum() + nw.col("l").list.max(),
    "list_contains": nw.col("l").list.contains(2),
}
#: Aggregates: alone, of groups, and beside values of rows.
AGGREGATES: dict[str, nw.Expr] = {
    "sum": v.sum(),
    "mean": v.mean(),
    "min": v.min(),
    "max": s.max(),
    "count": v.count(),
    "len": nw.len(),
    "median": v.median(),
    "null_count": v.null_count(),
    "quantile": v.quantile(0.3, "lower"),
    "std": v.std(),
    "var": v.var(ddof=0),
    "all": b.all(),
    "any": b.any(),
    "arithmetic": v.sum() / nw.len() + nw.col("i").max(),
}
WINDOWS: dict[str, nw.Expr] = {
    "sum_over": v.sum().over("k"),
    "difference": v - v.mean().over("k"),
    "cum_sum": v.cum_sum().over("k", order_by="i"),
    "cum_max_reverse": v.cum_max(reverse=True).over(order_by="i"),
    "cum_count": v.cum_count().over(order_by="v"),
    "diff": v.diff().over(order_by="i"),
    "shift": v.shift(2).over("k", order_by="i"),
    "lead": v.shift(-1).over(order_by="i"),
    "rank": v.rank("min", descending=True),
    "rank_over": v.rank("dense").over("k"),
    "unique": v.is_unique(),
    "first_distinct": v.is_first_distinct().over(order_by="i"),
    "last_distinct": v.is_last_distinct().over(order_by="i"),
    "rolling_sum": v.rolling_sum(3, min_samples=2).over(order_by="i"),
    "rolling_mean_center": v.rolling_mean(3, min_samples=1, center=True).over(order_by="i"),
    "rolling_std": v.rolling_std(3, min_samples=2).over(order_by="i"),
    "forward": v.fill_null(strategy="forward").over(order_by="i"),
    "backward": v.fill_null(strategy="backward", limit=1).over(order_by="i"),
    "first": v.first().over("k", order_by="i"),
    "last": v.last(order_by="i").over("k"),
    "broadcast": v - v.max() + v.first(order_by="i"),
}
FRAMES: dict[str, Callable[[Any, Any], Any]] = {
    "select": lambda df, _: df.select("i", nw.col("v", "f") * 2),
    "all": lambda df, _: df.select(nw.all().is_null()),
    "exclude": lambda df, _: df.select(nw.exclude("l", "t")),
    "selectors": lambda df, _: df.select("i", (ncs.numeric() - ncs.matches("^i$")) + 1, ncs.string()),
    "suffix": lambda df, _: df.select(nw.col("i", "v").name.suffix("_x")).rename({"i_x": "i"}),
    "filter": lambda df, _: df.filter(v > v.mean(), b),
    "filter_window": lambda df, _: df.filter(v == v.max().over("k")),
    "drop": lambda df, _: df.drop("v", "s"),
    "drop_nulls": lambda df, _: df.drop_nulls(["v", "s"]),
    "rename": lambda df, _: df.rename({"v": "V"}),
    "sort_head": lambda df, _: df.sort("v", "i", descending=[True, False], nulls_last=True).head(3),
    "top_k": lambda df, _: df.top_k(2, by="v"),
    "unique": lambda df, _: df.unique(["k"], keep="last", order_by="i"),
    "unique_none": lambda df, _: df.unique(["k"], keep="none"),
    "row_index": lambda df, _: df.with_row_index("n", order_by="v"),
    "explode": lambda df, _: df.select("i", "l").explode("l"),
    "unpivot": lambda df, _: df.unpivot(["v", "i"], index="k").rename({"value": "i"}),
    "join": lambda df, o: df.join(o, on="k", how="inner"),
    "left_join": lambda df, o: df.join(o, on="k", how="left"),
    "renamed_join": lambda df, o: df.join(o.rename({"k": "kk"}), left_on="k", right_on="kk", how="left"),
    "full_join": lambda df, o: df.join(o, on="k", how="full"),
    "semi_join": lambda df, o: df.join(o, on="k", how="semi"),
    "anti_join": lambda df, o: df.join(o, on="k", how="anti"),
    "cross_join": lambda df, o: df.select("i").join(o.select("w"), how="cross"),
    "asof_join": lambda df, o: df.drop_nulls("v").sort("v").join_asof(
        o.select((nw.col("v") // 50).alias("v"), "w"), on="v", strategy="backward"
    ),
    "group_by": lambda df, _: df.group_by("k").agg(v.sum(), nw.len(), i=nw.col("i").min()),
    "group_by_expr": lambda df, _: df.group_by((v % 2).alias("odd")).agg(nw.col("i").min()),
    "group_by_no_nulls": lambda df, _: df.group_by("k", drop_null_keys=True).agg(nw.col("i").min()),
    "group_by_all": lambda df, _: df.select("k", "i", "v").group_by("k").agg(nw.all().max()),
    "concat": lambda df, _: nw.concat([df, df.filter(v > 4)]),
    "diagonal": lambda df, o: nw.concat([df.select("i", "k"), o.select("k", "w")], how="diagonal"),
    "literals": lambda df, _: df.select(i=nw.lit(1), x=nw.lit("a")),
}  # fmt: skip


def _rows(frame: nw.LazyFrame[Any]) -> list[dict[str, Any]]:
    table = frame.collect("pyarrow").to_native()
    rows = [{k: _plain(x) for k, x in row.items()} for row in table.to_pylist()]
    return sorted(rows, key=repr)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}")
    return [_plain(x) for x in value] if isinstance(value, list) else value


def _frames() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    ours = tuple(nw.from_native(mf.from_arrow(x)) for x in (TABLE, OTHER))
    theirs = tuple(nw.from_native(pl.DataFrame(x).lazy()) for x in (TABLE, OTHER))
    return ours, theirs


def _same(make: Callable[[Any, Any], Any]) -> None:
    (df, other), (theirs, their_other) = _frames()
    made, expected = make(df, other), make(theirs, their_other)
    assert made.collect_schema().names() == expected.collect_schema().names()
    assert repr(_rows(made)) == repr(_rows(expected))


@pytest.mark.parametrize("name", VALUES)
def test_values_are_those_of_polars(name: str) -> None:
    _same(lambda df, _: df.select("i", made=VALUES[name]))


@pytest.mark.parametrize("name", AGGREGATES)
def test_aggregates_are_those_of_polars(name: str) -> None:
    made = AGGREGATES[name].alias("made")
    _same(lambda df, _: df.select(made))
    _same(lambda df, _: df.group_by("k").agg(made))
    _same(lambda df, _: df.with_columns(made).drop("t"))


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_are_those_of_polars(name: str) -> None:
    _same(lambda df, _: df.select("i", made=WINDOWS[name]))


@pytest.mark.parametrize("name", FRAMES)
def test_verbs_are_those_of_polars(name: str) -> None:
    _same(FRAMES[name])


def test_nothing_is_read_before_collect(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("k,v,unused\n" + "x,1,2\ny,2,3\n" * 50)
    df = nw.from_native(mf.read_csv(str(path))).filter(nw.col("v") > 1).group_by("k").agg(nw.len())
    path.write_text("k,v,unused\n" + "z,5,2\n" * 10)
    assert _rows(df) == [{"k": "z", "len": 10}]
    assert "unused" not in df.to_native().explain()


def test_files_are_scanned_by_the_name_of_the_plugin_or_its_module(tmp_path: Path) -> None:
    path = str(tmp_path / "t.csv")
    Path(path).write_text("a;b\n1;2\n")
    for backend in ("mmflow", mf):
        made = nw.scan_csv(path, backend=backend, separator=";")  # type: ignore[arg-type, unused-ignore]
        assert isinstance(made.to_native(), mf.Dataset)
        assert made.collect().to_native().to_pydict() == {"a": [1], "b": [2]}
    made.sink_parquet(tmp_path / "t.parquet")
    made.sink_parquet(tmp_path / "t.parquet")
    assert nw.scan_parquet(str(tmp_path / "t.parquet"), backend=mf).columns == ["a", "b"]


@pytest.mark.parametrize("backend", ["pyarrow", "pandas", "polars"])
def test_it_is_collected_into_three_libraries(backend: str) -> None:
    made = nw.from_native(mf.from_arrow({"a": [1, 2]})).collect(backend)  # type: ignore[arg-type, unused-ignore]
    assert made.implementation.value == backend
    assert made["a"].to_list() == [1, 2]


def test_errors_say_what_is_wrong() -> None:
    df = nw.from_native(mf.from_arrow(TABLE))
    with pytest.raises(ColumnNotFoundError, match="nope"):
        df.select(nw.col("nope") + 1)
    with pytest.raises(ColumnNotFoundError, match="nope"):
        df.group_by("k").agg(nw.col("nope").sum())
    with pytest.raises(DuplicateError):
        df.select("i", nw.col("v").alias("i"))
    with pytest.raises(InvalidOperationError, match="explode"):
        df.explode("v")
    with pytest.raises(NotImplementedError, match="mmflow takes one value"):
        df.select(s.str.replace("a", nw.col("k")))
    line = sys._getframe().f_lineno + 2
    with pytest.raises(mf.PlanError, match=re.escape(f"({'at '}{__file__}:{line})")):
        df.select(s.dt.year())


def test_docs_list_what_is_not_there() -> None:
    page = (ROOT / "docs" / "neighbours.md").read_text()
    owners = {
        "": MmflowExpr,
        "str.": TextFields,
        "dt.": TimeFields,
        "list.": ListFields,
        "struct.": StructFields,
    }
    missing = [
        f"`{prefix}{name}`"
        for prefix, owner in owners.items()
        for name in dir(owner)
        if not name.startswith("_") and type(getattr(owner, name)).__name__ == "not_implemented"
    ]
    assert len(missing) > 10
    assert [name for name in missing if name not in page] == []


def test_nothing_of_narwhals_is_imported_by_mmflow() -> None:
    code = "import sys, mmflow as mf; mf.from_arrow({'a': [1]}).filter(mf.col('a') > 0).to_arrow(); print('narwhals' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_tests_of_narwhals_pass_but_for_known_ones(tmp_path: Path) -> None:
    """Their source package has them; its version is the one that is installed."""
    get = ["download", "-q", "--no-deps", "--no-binary", "narwhals", f"narwhals=={nw.__version__}"]
    subprocess.run([sys.executable, "-m", "pip", *get, "-d", str(tmp_path)], check=True, capture_output=True)
    (packed,) = tmp_path.glob("narwhals-*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    here = Path(__file__).parent / "narwhals_suite"
    command = [sys.executable, "-m", "pytest", "tests", "-q", "--tb=no", "-rfE", "-p", "mmflow_constructor",
               "-p", "no:cacheprovider", "-W", "ignore:Unknown config option", "--use-external-constructor"]  # fmt: skip
    environment = {**os.environ, "TZ": "UTC", "PYTHONPATH": str(here)}
    folder = packed.with_suffix("").with_suffix("")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    failed = {m[1] for m in re.finditer(r"^(?:FAILED|ERROR) tests/(\S+?::\w+)", done.stdout, re.MULTILINE)}
    known = {n for n in (here / "known.txt").read_text().splitlines() if not n.startswith("#")}
    assert failed - known == set(), done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout + done.stderr
    assert int(passed[1]) > 1200

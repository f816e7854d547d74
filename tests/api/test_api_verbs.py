"""Verbs give the rows of Polars, however tables lie in files and tasks."""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import mmflow as mf

Verb = Callable[[Any, Any], Any]

_TEXT = st.sampled_from(["", "a", "b", "ä", "日本", "a b", "\U0010ffff"])
_FLOATS = st.sampled_from([0.0, -0.0, 1.5, -2.25, math.nan, math.inf])
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "k": st.none() | st.integers(-2, 2),
    "t": st.none() | _TEXT,
    "f": st.none() | _FLOATS,
    "i": st.none() | st.integers(-(2**40), 2**40),
    "l": st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3),
    "m": st.none() | st.lists(st.none() | _TEXT, max_size=3),
    "s": st.none() | st.fixed_dictionaries({"p": st.none() | st.integers(0, 5), "q": st.none() | _TEXT}),
}
SCHEMA = pa.schema(
    [
        ("k", pa.int32()),
        ("t", pa.string()),
        ("f", pa.float64()),
        ("i", pa.int64()),
        ("l", pa.list_(pa.int64())),
        ("m", pa.large_list(pa.string())),
        ("s", pa.struct([("p", pa.int64()), ("q", pa.string())])),
    ]
)
TABLES = st.lists(st.fixed_dictionaries(_VALUES), max_size=14).map(
    lambda rows: pa.Table.from_pylist(rows, SCHEMA)
)


def joins(how: Any) -> tuple[Verb, Verb]:
    half = how in ("semi", "anti")
    columns = ["k", "t", "i"] if half else ["k", "t", "i", "f"]

    def ours(d: Any, e: Any) -> Any:
        return d.select("k", "t", "i").join(e.select("k", "t", "f"), ["k", "t"], how)

    def theirs(d: Any, e: Any) -> Any:
        made = d.join(e.select("k", "t", "f"), ["k", "t"], how, coalesce=None if half else True)
        return made.select(*columns)

    return ours, lambda d, e: theirs(d.select("k", "t", "i"), e)


def asof(how: Any, by: list[str]) -> tuple[Verb, Verb]:
    """Asof joins; Polars wants sorted tables, and values that are there once make the match one row."""

    def ours(d: Any, e: Any) -> Any:
        there = e.select("i", "t", "f").drop_nulls("i").unique("i", keep="first")
        there = there if by else there.drop("t")
        return d.select("i", "t").join_asof(there, on="i", by=by, strategy=how, tolerance=2**39)

    def theirs(d: Any, e: Any) -> Any:
        there = e.select("i", "t", "f").drop_nulls("i").unique("i", keep="first").sort("i")
        there = there if by else there.drop("t")
        left = d.select("i", "t").sort("i")
        return left.join_asof(
            there, on="i", by=by or None, strategy=how, tolerance=2**39, check_sortedness=False
        )

    return ours, theirs


def described(frame: pl.DataFrame) -> pl.DataFrame:
    """Polars' description, without the percentiles of its own interpolation."""
    kept = frame.filter(pl.col("f").is_not_nan().fill_null(True)).select("i", "t")
    return kept.describe(percentiles=[0])


_FLAT = ["k", "t", "f", "i"]

#: What mmflow and Polars are asked: rows in any order, unless the name ends in "in order".
VERBS: dict[str, tuple[Verb, Verb]] = {
    "drop_nulls": (lambda d, e: d.drop_nulls(), lambda d, e: d.drop_nulls()),
    "drop_nulls of a subset": (lambda d, e: d.drop_nulls(["t", "l"]), lambda d, e: d.drop_nulls(["t", "l"])),
    "drop_nans": (lambda d, e: d.drop_nans(), lambda d, e: d.filter(pl.col("f").is_not_nan().fill_null(True))),
    "fill_null by an integer": (
        lambda d, e: d.select(*_FLAT).fill_null(7),
        lambda d, e: d.select(pl.col("k").fill_null(7), "t", pl.col("f", "i").fill_null(7)),
    ),
    "fill_null by a text": (
        lambda d, e: d.select(*_FLAT).fill_null("日"),
        lambda d, e: d.select("k", pl.col("t").fill_null("日"), "f", "i"),
    ),
    "fill_null by name": (
        lambda d, e: d.fill_null({"t": "none", "f": 0.5}),
        lambda d, e: d.with_columns(pl.col("t").fill_null("none"), pl.col("f").fill_null(0.5)),
    ),
    "fill_nan": (lambda d, e: d.fill_nan(None), lambda d, e: d.fill_nan(None)),
    "unique rows": (lambda d, e: d.select("k", "t", "f").unique(), lambda d, e: d.select("k", "t", "f").unique()),
    "unique keeps first": (lambda d, e: d.unique("k", keep="first"), lambda d, e: d.unique("k", keep="first")),
    "unique keeps last": (
        lambda d, e: d.unique(["t", "f"], keep="last").drop("f"),
        lambda d, e: d.unique(["t", "f"], keep="last").drop("f"),
    ),
    "unique keeps none": (lambda d, e: d.unique("t", keep="none"), lambda d, e: d.unique("t", keep="none")),
    "unique keeps any": (
        lambda d, e: d.unique("t", keep="any").select("t"),
        lambda d, e: d.unique("t", keep="any").select("t"),
    ),
    "value_counts": (
        lambda d, e: d.value_counts("t"),
        lambda d, e: d.group_by("t").agg(pl.len().cast(pl.Int64).alias("count")),
    ),
    "value_counts of several as shares": (
        lambda d, e: d.value_counts(["k", "t"], normalize=True),
        lambda d, e: d.group_by("k", "t").agg(
            pl.len().map_elements(lambda n: n / d.height, pl.Float64).alias("proportion")
        ),
    ),
    "group_by with names": (
        lambda d, e: d.group_by("t", few=mf.col("k") % 2 == 0, one=1).agg(mf.len()).select("t", "few", "one", "len"),
        lambda d, e: d.group_by("t", few=pl.col("k") % 2 == 0, one=pl.lit(1, pl.Int64)).agg(
            pl.len().cast(pl.Int64)
        ),
    ),
    "explode in order": (
        lambda d, e: d.select("t", "l").explode("l"),
        lambda d, e: d.select("t", "l").explode("l"),
    ),
    "explode several": (
        lambda d, e: d.select("l", d2("l")).explode(["l", "l2"]),
        lambda d, e: d.select("l", pl.col("l").alias("l2")).explode(["l", "l2"]),
    ),
    "explode with nulls for empty lists": (
        lambda d, e: d.select("t", "l").explode("l", empty_as_null=True, keep_nulls=False),
        lambda d, e: d.select("t", "l").explode("l", empty_as_null=True, keep_nulls=False),
    ),
    "explode texts": (lambda d, e: d.select("m", "k").explode("m"), lambda d, e: d.select("m", "k").explode("m")),
    "unnest in order": (lambda d, e: d.unnest("s"), lambda d, e: d.unnest("s")),
    "unpivot": (
        lambda d, e: d.unpivot(["k", "i"], index="t"),
        lambda d, e: d.unpivot(["k", "i"], index="t"),
    ),
    "unpivot all": (lambda d, e: d.select("t").unpivot(), lambda d, e: d.select("t").unpivot()),
    "pivot": (
        lambda d, e: d.drop_nulls(["t", "i"]).pivot("t", ["a", "ä"], index="k", values="i", aggregate_function="max"),
        lambda d, e: pivoted(d, "max"),
    ),
    "with_row_index in order": (
        lambda d, e: d.with_row_index("n", 3),
        lambda d, e: d.with_row_index("n", 3).with_columns(pl.col("n").cast(pl.Int64)),
    ),
    "row index of sorted rows in order": (
        lambda d, e: d.select("i", "t").sort("i", "t").with_row_index().filter(mf.col("index") > 1),
        lambda d, e: d.select("i", "t")
        .sort("i", "t", nulls_last=True)
        .with_row_index()
        .with_columns(pl.col("index").cast(pl.Int64))
        .filter(pl.col("index") > 1),
    ),
    "describe in order": (
        lambda d, e: d.select("i", "t", "f").drop_nans().describe([0]).select("statistic", "i", "t"),
        lambda d, e: described(d.select("i", "t", "f")),
    ),
    **{f"{how} asof join by {by}": asof(how, by) for how in ("backward", "forward") for by in ([], ["t"])},
    "windows of time": (
        lambda d, e: d.select("k", t=mf.col("i").cast("timestamp[ms]"))
        .group_by_dynamic("t", every="1d", group_by="k")
        .len(),
        lambda d, e: d.select("k", t=pl.col("i").cast(pl.Datetime("ms")))
        .with_columns(pl.col("t").dt.truncate("1d"))
        .group_by("k", "t")
        .agg(pl.len().cast(pl.Int64)),
    ),
    "head in order": (lambda d, e: d.head(3), lambda d, e: d.head(3)),
    "tail in order": (lambda d, e: d.tail(4), lambda d, e: d.tail(4)),
    "tail of nothing": (lambda d, e: d.tail(0), lambda d, e: d.tail(0)),
    "slice in order": (lambda d, e: d.slice(2, 3), lambda d, e: d.slice(2, 3)),
    "slice to the end in order": (lambda d, e: d.slice(2), lambda d, e: d.slice(2)),
    "slice from the end in order": (lambda d, e: d.slice(-5, 3), lambda d, e: d[-5:][: max(0, 3 - max(0, 5 - d.height))]),
    "top_k in order": (
        lambda d, e: d.select("i").top_k(3, by="i"),
        lambda d, e: d.select("i").sort("i", descending=True, nulls_last=True).head(3),
    ),
    "bottom_k in order": (
        lambda d, e: d.select("f").bottom_k(3, by="f"),
        lambda d, e: d.select("f").sort("f", nulls_last=True).head(3),
    ),
    "concat in order": (lambda d, e: mf.concat([d, e, d]), lambda d, e: pl.concat([d, e, d])),
    "concat of other columns": (
        lambda d, e: mf.concat([d.drop("t"), e.select("t", "l"), d.select("s")], how="diagonal"),
        lambda d, e: pl.concat([d.drop("t"), e.select("t", "l"), d.select("s")], how="diagonal"),
    ),
    "cross join": (
        lambda d, e: d.select("k", "t").join(e.select("t", "f"), how="cross", suffix="_e"),
        lambda d, e: d.select("k", "t").join(e.select("t", "f"), how="cross", suffix="_e"),
    ),
    "join of int32 and int64": (
        lambda d, e: d.select("k", "t").join(e.select("i", "f"), left_on="k", right_on="i").drop("i"),
        lambda d, e: d.select(pl.col("k").cast(pl.Int64), "t")
        .join(e.select("i", "f"), left_on="k", right_on="i")
        .select("k", "t", "f"),
    ),
    **{f"{how} join": joins(how) for how in ("inner", "left", "right", "full", "semi", "anti")},
}  # fmt: skip


def d2(name: str) -> Any:
    return mf.col(name).alias(f"{name}2")


def pivoted(frame: pl.DataFrame, function: Any) -> pl.DataFrame:
    """Polars' eager pivot has a column for every value."""
    known = frame.drop_nulls(["t", "i"])
    made = known.pivot("t", on_columns=["a", "ä"], index="k", values="i", aggregate_function=function)
    return made.select("k", "a", "ä")


@pytest.fixture(scope="module")
def sessions() -> Iterator[dict[str, mf.Session]]:
    """One task for all rows, and several for each stage."""
    with (
        mf.Session(workers=1) as one,
        mf.Session(workers=2, partitions=3, broadcast=0, shard_size=4096) as many,
    ):
        yield {"one": one, "many": many}


def spread(session: mf.Session, table: pa.Table, folder: Path, name: str) -> mf.Dataset:
    """A table in three files, whose rows keep their order."""
    cuts = [0, len(table) // 4, len(table) // 2, len(table)]
    paths = []
    for number, (begin, end) in enumerate(itertools.pairwise(cuts)):
        paths.append(str(folder / f"{name}{number}.arrow"))
        with pa.ipc.new_file(paths[-1], table.schema) as writer:
            writer.write_table(table.slice(begin, end - begin), max_chunksize=2)
    return session.read(paths)


def rows(table: pa.Table | pl.DataFrame, *, ordered: bool) -> tuple[list[str], list[tuple[str, ...]]]:
    """Column names, and rows as texts: NaN is NaN, both zeros are one, and the last bits of a mean may differ."""
    frame = pl.from_arrow(table) if isinstance(table, pa.Table) else table
    assert isinstance(frame, pl.DataFrame)
    texts = [
        tuple(f"{v + 0.0:.12g}" if isinstance(v, float) else repr(v) for v in row) for row in frame.rows()
    ]
    return frame.columns, texts if ordered else sorted(texts)


@settings(
    max_examples=3, phases=[Phase.generate]
)  # each example asks for all of them: shrinking takes minutes
@given(one=TABLES, two=TABLES)
def test_verbs_give_the_rows_of_polars(
    sessions: dict[str, mf.Session], tmp_path_factory: pytest.TempPathFactory, one: pa.Table, two: pa.Table
) -> None:
    frames = [pl.from_arrow(t) for t in (one, two)]
    folder = tmp_path_factory.mktemp("verbs")
    made = {
        n: [spread(s, t, folder, f"{n}{i}") for i, t in enumerate((one, two))] for n, s in sessions.items()
    }
    for name, (ours, theirs) in VERBS.items():
        ordered = name.endswith("in order")
        wanted = rows(theirs(*frames), ordered=ordered)
        for layout, datasets in made.items():
            got = ours(*datasets)
            assert (name, layout, rows(got.to_arrow(), ordered=ordered)) == (name, layout, wanted)


@settings(max_examples=20)
@given(
    left=st.lists(st.integers(-9, 9), max_size=8), right=st.lists(st.integers(-9, 9), max_size=8, unique=True)
)
def test_the_nearest_row_is_the_nearest(left: list[int], right: list[int]) -> None:
    one, two = mf.from_arrow(pa.table({"t": pa.array(left, pa.int64())})), pa.array(right, pa.int64())
    made = one.join_asof(
        mf.from_arrow(pa.table({"t": two, "v": two})), on="t", strategy="nearest", tolerance=3
    )
    wanted = []
    for t in left:
        near = min(right, key=lambda r: (abs(r - t), -r), default=None)
        wanted.append((t, near if near is not None and abs(near - t) <= 3 else None))
    assert sorted(map(repr, made.to_polars().rows())) == sorted(map(repr, wanted))
    times = [
        d.with_columns(t=mf.col("t").cast("timestamp[s]")) for d in (one, mf.from_arrow({"t": two, "v": two}))
    ]
    timed = times[0].join_asof(times[1], on="t", strategy="nearest", tolerance="3s")
    assert sorted(map(repr, timed.select("v").to_polars().rows())) == sorted(repr((v,)) for _, v in wanted)


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        (
            lambda d, e: d.union(e),
            "column 'k' of dataset 2 is float64, and column 'k' of the first one int64",
        ),
        (lambda d, e: d.union(e.select("k")), "dataset 2 has 1 columns, the first one 2"),
        (
            lambda d, e: mf.concat([d, e], how="diagonal"),
            "column 'k' is float64 in dataset 2, and int64 before",
        ),
        (lambda d, e: mf.concat([d, d.select("k")]), "column 't' is not in every dataset"),
        (lambda d, e: mf.concat([]), "at least one"),
        (lambda d, e: d.join(e, "k"), r"'k' \(int64\) and 'k' \(float64\).*cast"),
        (lambda d, e: d.join(e, left_on="k", right_on="t"), "are of types that no type holds exactly"),
        (lambda d, e: d.join(e, "k", "cross"), "a cross join has no keys"),
        (lambda d, e: d.join(d.rename(k="k_right"), "t", suffix="").join(d, "t"), "two columns 'k_right'"),
        (lambda d, e: d.join_asof(e, on="k", tolerance=1), "no type holds both"),
        (lambda d, e: d.join_asof(d, on="k", tolerance="1h"), "a number for numbers"),
        (lambda d, e: d.join_asof(d, on="t"), "not of numbers, dates or times"),
        (lambda d, e: d.explode("k"), "column 'k' is int64, not of lists"),
        (lambda d, e: d.unnest("k"), "not of structs"),
        (lambda d, e: d.unpivot(), r"'k' \(int64\) and 't' \(string\) exactly"),
        (lambda d, e: d.unpivot("k", index="t", value_name="t"), "two columns 't'"),
        (
            lambda d, e: d.pivot("t", [1], index="k", values="k", aggregate_function="sum"),
            "1 is no value of column",
        ),
        (lambda d, e: d.with_row_index("k"), "there is a column 'k'"),
        (lambda d, e: d.fill_null({"k": "x"}), "column 'k' of type int64 can't hold 'x'"),
        (lambda d, e: d.fill_null({"k": 1.5}), "can't hold 1.5"),
        (lambda d, e: d.drop_nans("t"), "not of floats"),
        (lambda d, e: d.unique("kk"), "no column 'kk'; did you mean 'k'"),
        (lambda d, e: d.unique("k", keep="all"), "must be any, first, last or none"),
        (lambda d, e: d.tail(-1), "not negative"),
        (lambda d, e: d.value_counts("t", name="t"), "there is a column 't'"),
    ],
)
def test_what_can_not_be_is_an_error_of_the_plan(verb: Verb, message: str) -> None:
    d = mf.from_arrow(pa.table({"k": pa.array([1], pa.int64()), "t": ["x"]}))
    e = mf.from_arrow(pa.table({"k": pa.array([1.0]), "t": ["x"]}))
    with pytest.raises(mf.MmflowError, match=message):
        verb(d, e)


def test_a_dataset_has_a_length_but_no_truth() -> None:
    ds = mf.from_arrow({"a": [1, 2]})
    assert len(ds) == 2
    with pytest.raises(TypeError, match=r"len\(ds\) > 0"):
        bool(ds)


def test_arrays_of_numpy() -> None:
    made = mf.from_arrow({"a": [1, None], "b": [True, False]}).to_numpy()
    assert made.dtype == np.float64
    np.testing.assert_array_equal(made, [[1, 1], [np.nan, 0]])
    assert mf.from_arrow({"a": ["x", None]}).to_numpy().tolist() == [["x"], [None]]
    assert mf.from_arrow({"a": [1]}).limit(0).to_numpy().shape == (0, 1)


def test_what_is_persisted_is_not_run_again_and_goes_with_its_session(tmp_path: Path) -> None:
    calls = tmp_path / "calls"

    def noted(batch: pa.RecordBatch) -> pa.RecordBatch:
        with calls.open("a") as file:
            file.write("called\n")
        return batch

    session = mf.Session(spill_dir=str(tmp_path / "spill"))
    kept = (
        session.from_arrow({"a": [3, 1, 2], "t": ["x", None, "日"]})
        .map_batches(noted, {"a": "int64", "t": "string"})
        .persist()
    )
    assert kept.sort("a").to_dicts() == [{"a": 1, "t": None}, {"a": 2, "t": "日"}, {"a": 3, "t": "x"}]
    assert kept.filter(mf.col("a") > 9).persist().to_dicts() == []
    assert (kept.count(), kept[-1]["a"], kept.sample(1.0).count()) == (3, 2, 3)
    assert calls.read_text() == "called\n"
    session.close()
    del session, kept
    gc.collect()
    assert not list((tmp_path / "spill").iterdir())

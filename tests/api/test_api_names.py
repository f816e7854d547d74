"""Names of every kind through every verb, SQL, sinks and partitions: a name means the column that has it, and no other."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow import col
from mmflow import functions as F  # noqa: N812  (as users write it)

NAMES = ["Id", "a.b", '"q', "'s", "a b", " ", "", "select", "é☃", "A", "a\nb", "a\\b", "a/b", "=", "a=b", "%41", "*", "(x)",
         "a,b", "\ufeffz", "0", "1e5", "t.a", "{x}", "$1", "?", ":n", "a;b", "--c", "/*c*/", "null", "..", "\u0301", "x" * 99,
         "__right_0", "_place2", "t0", "leaf0"]  # fmt: skip
_ANY = st.sampled_from(NAMES) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4
)
#: Columns that mmflow itself offers, and the ones beside the name that is tried.
_TAKEN = {"_file", "_offset", "_line", "_place", "other", "w", "k", "s"}
NAME = _ANY.filter(lambda name: name not in _TAKEN)


def _table(name: str) -> pa.Table:
    return pa.table({name: [1, 2, 2], "other": [10, 20, 30]})


@settings(max_examples=max(6, settings().max_examples // 8))
@given(NAME)
@example("Id")
@example("a.b")
@example('"q')
@example("__right_0")
@example("")
def test_every_verb_takes_a_name_as_it_is(name: str) -> None:
    ds, k = mf.from_arrow(_table(name)), mf.from_arrow(_table("k"))
    assert ds.select(name).filter(col(name) > 1).to_arrow().to_pydict() == {name: [2, 2]}
    assert ds.with_columns(**{name: col(name) * 2}).to_arrow().column(name).to_pylist() == [2, 4, 4]
    renamed = ds.rename({name: "w", "other": name}).to_arrow()
    assert renamed.to_pydict() == {"w": [1, 2, 2], name: [10, 20, 30]}
    assert ds.drop(name).columns == ["other"]
    grouped = ds.group_by(name).agg(F.sum(col("other")).alias("s")).sort(name, descending=True)
    assert grouped.to_arrow().to_pydict() == {name: [2, 1], "s": [50, 10]}
    assert ds.union(ds).select(name).distinct().count() == 2
    assert sorted(ds.repartition(2, name).to_arrow().column(name).to_pylist()) == [1, 2, 2]
    assert ds.map_batches(lambda batch: batch).columns == [name, "other"]
    for how, count in (("inner", 5), ("left", 5), ("right", 5), ("full", 5), ("semi", 3), ("anti", 0)):
        assert ds.join(mf.from_arrow(_table(name)), on=name, how=how).count() == count  # type: ignore[arg-type]  # of str
    assert ds.join(ds, on=name).columns == [name, "other", "other_right"]
    assert ds.join(k, left_on=name, right_on="k").columns == [name, "other", "k", "other_right"]
    joined = k.join(ds, left_on="k", right_on=name).filter(col(name) == 1).to_arrow()
    assert joined.to_pydict() == {"k": [1], "other": [10], name: [1], "other_right": [10]}


@settings(max_examples=max(6, settings().max_examples // 8))
@given(NAME)
@example('"q')
@example("a.b")
@example("number")
@example("__key_0")
@example("")
def test_every_further_verb_takes_a_name_as_it_is(name: str) -> None:
    ds = mf.from_arrow(_table(name))
    assert ds.unique(name, keep="last").sort("other").to_dicts() == [
        {name: 1, "other": 10},
        {name: 2, "other": 30},
    ]
    assert ds.value_counts(name, name="k").sort("k").to_dicts() == [{name: 1, "k": 1}, {name: 2, "k": 2}]
    assert ds.fill_null({name: 0}).drop_nulls(name).top_k(1, by=name).tail(1).columns == [name, "other"]
    assert ds.with_row_index("k").columns == ["k", name, "other"]
    assert (
        ds.unpivot(name, index="other", variable_name="k", value_name="w").limit(1).to_arrow()["k"][0].as_py()
        == name
    )
    assert ds.pivot("other", [10, 20], index=name, values=name, aggregate_function="max").columns == [
        name,
        "10",
        "20",
    ]
    assert ds.join_asof(ds, on=name, suffix="_2").columns == [name, "other", "other_2"]
    assert ds.join_asof(ds, on="other", by=name).count() == 3
    assert ds.describe([0.5]).columns == ["statistic", name, "other"]
    assert mf.concat([ds, ds.select(name)], how="diagonal").sample(n=9).columns == [name, "other"]
    assert ds.select(**{name: F.make_array(col(name))}).explode(name).columns == [name]
    if not name:  # DataFusion has no field without a name
        return
    struct = pa.array([{name: 1}, None], pa.struct([(name, pa.int64())]))
    assert mf.from_arrow(pa.table({"w": struct})).unnest("w").to_arrow().to_pydict() == {name: [1, None]}


@settings(max_examples=max(6, settings().max_examples // 8))
@given(NAME, NAME)
def test_sql_takes_a_quoted_name_as_it_is(name: str, table: str) -> None:
    quoted, source = ('"' + n.replace('"', '""') + '"' for n in (name, table or "t"))
    made = mf.sql(
        f"SELECT {quoted}, sum(x.{quoted}) OVER () s FROM {source} x WHERE {quoted} > 0 ORDER BY {quoted}",
        **{table or "t": mf.from_arrow(_table(name))},
    )
    assert made.to_arrow().to_pydict() == {name: [1, 2, 2], "s": [5, 5, 5]}


@settings(max_examples=max(6, settings().max_examples // 8))
@given(NAME, st.sampled_from(["csv", "parquet", "ndjson", "arrow"]))
def test_files_give_names_back_or_refuse_them(name: str, form: str) -> None:
    """Read back equal, by the name and for filters; partitions too."""
    ds, wanted = mf.from_arrow(_table(name)), _table(name).to_pylist()
    with tempfile.TemporaryDirectory() as folder:
        for path, keys in (("whole", ()), ("parts", (name,))):
            try:
                ds.write(str(Path(folder, path, "")), form, partition_by=keys)
            except mf.SinkError as refused:
                # As a folder's name: empty, hidden. In a header of CSV: control characters.
                assert keys or (form == "csv" and not name.isprintable()), refused
                continue
            read = mf.read(str(Path(folder, path)))
            if form == "csv" and not name:
                assert read.columns == ["column_1", "other"]  # CSV has no name for a column without one
                continue
            assert (
                sorted(read.select(name, "other").to_arrow().to_pylist(), key=lambda row: row["other"])
                == wanted
            )
            assert read.filter(col(name) == 2).count() == 2


@pytest.mark.parametrize("name", ["Id", "a.b", '"q', "a b"])
def test_joins_take_capitals_dots_quotes_and_blanks(name: str) -> None:
    left, right = mf.from_arrow({name: [1, 2]}), mf.from_arrow({name: [2, 3], "v": [4, 5]})
    assert left.join(right, on=name).to_arrow().to_pylist() == [{name: 2, "v": 4}]
    full = left.join(right, on=name, how="full").sort(name).to_arrow().to_pydict()
    assert full == {name: [1, 2, 3], "v": [None, 4, 5]}

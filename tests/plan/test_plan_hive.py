"""Columns of folders `name=value`: of every format, typed, equal to what was written, and pruned by."""

from __future__ import annotations

import datetime as dt
import os
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.api.session import Session
from mmflow.errors import ConfigError, SinkError, SourceError
from mmflow.formats.base import Comparison
from mmflow.formats.schemas.hive import HiveColumns, hive_types, hive_values
from mmflow.formats.schemas.schema import canonical_type, parse_type, public_type
from mmflow.sinks.partition import split

_WRITTEN = ("csv", "ndjson", "parquet", "arrow", "npy")
_DAY = dt.date(2024, 2, 29)


def _rows(table: pa.Table) -> list[str]:
    return sorted(map(repr, table.to_pylist()))


# ---- written and read back --------------------------------------------------------------------


_TYPES: dict[str, st.SearchStrategy[Any]] = {
    **{f"{sign}int{bits}": st.integers(*((0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)))
       for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "bool": st.booleans(),
    "date32": st.dates(),
    "date64": st.dates(),
    "decimal128(9, 2)": st.decimals(min_value=-(10**6), max_value=10**6, places=2),
    "decimal128(38, 30)": st.decimals(min_value=-100, max_value=100, places=30),
    "decimal128(5, -2)": st.integers(-99999, 99999).map(lambda n: Decimal(n).scaleb(2)),
    "decimal256(60, 20)": st.decimals(min_value=-(10**30), max_value=10**30, places=20),
    "timestamp[s]": st.datetimes().map(lambda t: t.replace(microsecond=0)),
    "timestamp[ms]": st.datetimes().map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)),
    "timestamp[us]": st.datetimes(),
    "timestamp[ns]": st.integers(-(2**63) + 1, 2**63 - 1),
    "timestamp[us, tz=America/New_York]": st.integers(-(10**15), 10**16),
    "timestamp[ns, tz=UTC]": st.integers(-(2**63) + 1, 2**63 - 1),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    | st.sampled_from(["", "a/b", "k=v", "100%", "%2F", "01", "-0", "NaN", "true", "2024-01-01", "é漢", ".", "..",
                       " ", "\n", "\0", "__HIVE_DEFAULT_PARTITION__", "*?[a]", "~"]),
}  # fmt: skip


def _column(kind: str, values: list[Any]) -> pa.Array:
    parsed = parse_type(kind)
    if any(isinstance(v, int) for v in values) and pa.types.is_timestamp(parsed):
        return pa.array(values, pa.int64()).cast(parsed)
    return pa.array(values, parsed)


@given(kind=st.sampled_from(sorted(_TYPES)), data=st.data())
def test_values_of_folders_are_read_back_as_they_were_written(kind: str, data: st.DataObject) -> None:
    """Through the paths alone, which cost no files: what `split` names, `HiveColumns` reads."""
    column = _column(kind, data.draw(st.lists(st.none() | _TYPES[kind], min_size=1, max_size=8)))
    batch = pa.RecordBatch.from_arrays([column, pa.array(range(len(column)))], names=["k", "n"])
    folders = {n: folder for folder, part in split(batch, ["k"]) for n in part["n"].to_pylist()}
    hive = HiveColumns(pa.schema([pa.field("k", canonical_type(column.type))]), ("k",))
    hive.check([f"/o/{folder}/x.csv" for folder in folders.values()])
    for number, folder in folders.items():
        assert "/" not in folder
        made = hive.added(f"/o/{folder}/x.csv", ["k", "n"])(pa.RecordBatch.from_pydict({"n": [1, 2]}))["k"]
        assert made.cast(public_type(column.type)).equals(pa.concat_arrays([column.slice(number, 1)] * 2))
    assert len(set(folders.values())) == len(column.unique())


@pytest.mark.parametrize("form", _WRITTEN)
def test_columns_of_folders_are_there_for_every_format_with_their_types(tmp_path: Path, form: str) -> None:
    table = pa.table({
        "text": ["a/b", None, "", "01"],
        "u": pa.array([2**64 - 1, 0, None, 7], pa.uint64()),
        "day": pa.array([_DAY] * 4),
        "zoned": pa.array([1, 2, 3, None], pa.timestamp("us", "America/New_York")),
        "price": pa.array([Decimal("1.50")] * 4, pa.decimal128(5, 2)),
        "flag": [True, False, None, True],
        "value": [1, 2, 3, 4],
    })  # fmt: skip
    keys = [n for n in table.column_names if n != "value"]
    session = Session(workers=2)
    session.from_arrow(table).write(str(tmp_path / "o"), format=form, partition_by=keys)
    read = session.read(str(tmp_path / "o"))
    assert read.columns == ["value", *keys]
    every = read.to_arrow()
    assert every.schema.equals(table.select(["value", *keys]).schema)
    assert _rows(every) == _rows(table.select(["value", *keys]))
    # By row numbers, with and without columns of the files, from both ends.
    assert read.take([3, 0]).equals(every.take([3, 0]))
    assert read[-1:].equals(every[3:])
    assert read[1:3].equals(every[1:3])
    assert read.select("flag", "u").take([2]).equals(every.select(["flag", "u"]).take([2]))
    assert read.head(2).to_arrow().num_rows == 2
    assert _rows(session.sql(f"SELECT day, price FROM '{tmp_path}/o'").to_arrow()) == _rows(
        every.select(["day", "price"])
    )
    assert session.read(str(tmp_path / "o"), hive=False).columns == ["value"]


def test_columns_of_folders_of_text_and_binary_records(tmp_path: Path) -> None:
    for year in (2023, 2024):
        folder = tmp_path / f"year={year}" / "host=a"
        folder.mkdir(parents=True)
        (folder / "x.log").write_text(f"one {year}\ntwo\n")
        (folder / "x.bin").write_bytes(np.array([year, 1], "<i4").tobytes())
    lines = mf.read_text(f"{tmp_path}/*/*/*.log")
    assert lines.columns == ["line", "year", "host"]
    assert lines.filter(mf.col("year") == 2024).to_arrow().to_pylist() == [
        {"line": "one 2024", "year": 2024, "host": "a"}, {"line": "two", "year": 2024, "host": "a"}]  # fmt: skip
    assert mf.sql("SELECT _line, year, line FROM t WHERE _line = 2", t=lines).to_arrow().to_pylist() == [
        {"_line": 2, "year": 2023, "line": "two"}, {"_line": 2, "year": 2024, "line": "two"}]  # fmt: skip
    records = mf.read_records(f"{tmp_path}/*/*/*.bin", layout=[{"name": "n", "type": "int32", "offset": 0}])
    assert records.select("year", "n").to_arrow().to_pydict() == {
        "year": [2023, 2023, 2024, 2024],
        "n": [2023, 1, 2024, 1],
    }
    assert records.take([3, 0]).to_pydict() == {"n": [1, 2023], "year": [2024, 2023], "host": ["a", "a"]}


# ---- types that nobody wrote down -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "-3", "0", None], pa.int64()),
        (["1", str(2**63)], pa.uint64()),
        (["-1", str(2**63)], pa.string_view()),
        ([str(2**64)], pa.string_view()),
        (["01", "2"], pa.string_view()),
        (["-0"], pa.string_view()),
        (["+5"], pa.string_view()),
        (["0x10"], pa.string_view()),
        (["1.5"], pa.decimal128(2, 1)),
        (["1.50", "-120.25", "0.00"], pa.decimal128(5, 2)),
        (["1.5", "1.50"], pa.string_view()),
        (["01.5"], pa.string_view()),
        (["-0.0"], pa.string_view()),
        (["nan"], pa.string_view()),
        (["", "1"], pa.string_view()),
        ([None], pa.string_view()),
        (["true", "false"], pa.bool_()),
        (["True"], pa.string_view()),
        (["2024-02-29", "0001-01-01"], pa.date32()),
        (["2023-02-29"], pa.string_view()),
        (["2024-1-1"], pa.string_view()),
        (["2024-02-29 12:00:00", "2024-02-29T12:00:00.5"], pa.timestamp("us")),
        (["2024-02-29 12:00:00.123456789"], pa.timestamp("ns")),
        (["2024-02-29 12:00:00Z", "2024-02-29 12:00:00+02:00"], pa.timestamp("us", "UTC")),
        (["2024-02-29 12:00:00Z", "2024-02-29 12:00:00"], pa.string_view()),
        (["2024-02-29 25:00:00"], pa.string_view()),
        (["2024-02-29", "2024-02-29 12:00:00"], pa.string_view()),
        (["9999-12-31 00:00:00.000000001"], pa.string_view()),  # beyond nanoseconds
    ],
)
def test_types_are_found_from_all_values(texts: list[str | None], kind: pa.DataType) -> None:
    folders = ["__HIVE_DEFAULT_PARTITION__" if t is None else t for t in texts]
    for order in (folders, folders[::-1]):
        assert hive_types([f"o/k={t}/x.csv" for t in order], ["k"]) == {"k": kind}


@given(
    st.lists(st.text(st.sampled_from("0123456789-+:.TZ trufalse/%=é"), max_size=12), min_size=1, max_size=4)
)
def test_found_types_lose_nothing_of_integers_and_text(texts: list[str]) -> None:
    paths = [f"o/k={quote(t, safe='')}/x.csv" for t in texts]
    types = hive_types(paths, ["k"])
    hive = HiveColumns(pa.schema(types), ("k",))
    for text, path in zip(texts, paths, strict=True):
        assert hive_values(path) == {"k": text}
        value = hive.added(path, ["k", "n"])(pa.RecordBatch.from_pydict({"n": [1]}))["k"][0]
        if not pa.types.is_timestamp(types["k"]):
            assert (str(value).lower() if pa.types.is_boolean(value.type) else str(value)) == text


def _spread(tmp_path: Path, name: str = "k", values: tuple[str, ...] = ("01", "2")) -> str:
    for number, value in enumerate(values):
        folder = tmp_path / f"{name}={value}"
        folder.mkdir(parents=True)
        (folder / "x.csv").write_text(f"a\n{number}\n")
    return str(tmp_path)


def test_declared_columns_of_folders_have_the_declared_type_and_place(tmp_path: Path) -> None:
    root = _spread(tmp_path)
    assert mf.read(root).to_arrow().to_pydict() == {"a": [0, 1], "k": ["01", "2"]}
    declared = mf.read(root, schema={"k": "int8", "a": "string"})
    assert declared.to_arrow().to_pydict() == {"k": [1, 2], "a": ["0", "1"]}
    assert declared.to_arrow().schema.types == [pa.int8(), pa.string()]
    assert mf.read(root, schema={"k": "float64", "a": "int64"}).to_arrow()["k"].to_pylist() == [1.0, 2.0]
    assert mf.read(root, schema={"a": "int64"}).columns == ["a"]
    assert mf.read(root, schema={"k": "string"}).to_arrow().to_pydict() == {"k": ["01", "2"]}
    with pytest.raises(SourceError, match=r"k = '01' is no bool.*schema="):
        mf.read(root, schema={"a": "int64", "k": "bool"})
    with pytest.raises(ConfigError, match="a column of folders can't be"):
        mf.read(root, schema={"a": "int64", "k": "list<int64>"})
    given: dict[str, Any] = {"hive": "maybe"}
    with pytest.raises(ConfigError, match="must be true or false"):
        mf.read(root, **given)


def test_a_column_of_the_files_wins_over_their_folder(tmp_path: Path) -> None:
    root = _spread(tmp_path, "a", ("7", "8"))
    assert mf.read(root).to_arrow().to_pydict() == {"a": [0, 1]}
    assert mf.read(root, schema={"a": "int64"}).to_arrow().to_pydict() == {"a": [0, 1]}


def test_files_in_other_folders_are_refused(tmp_path: Path) -> None:
    root = _spread(tmp_path)
    (tmp_path / "x.csv").write_text("a\n1\n")
    with pytest.raises(
        SourceError, match=r"lies in folders \['k'\].* in \[\].*hive=false|lies in folders \[\]"
    ):
        mf.read(root)
    assert mf.read(root, hive=False).columns == ["a"]


def test_types_that_mmflow_wrote_hold_for_one_file_and_for_folders_below(tmp_path: Path) -> None:
    table = pa.table({"k": pa.array([1, 2], pa.int8()), "j": ["1", "2"], "v": [1, 2]})
    mf.from_arrow(table).write_csv(f"{tmp_path}/run=5/o", partition_by=["k", "j"])
    expected = {"v": pa.int64(), "run": pa.int64(), "k": pa.int8(), "j": pa.string()}
    for path in ("", "k=1", "k=1/j=1/part-00000.csv", "*/*/*.csv"):
        read = mf.read(f"{tmp_path}/run=5/o/{path}").to_arrow()
        assert dict(zip(read.column_names, read.schema.types, strict=True)) == expected
    # Outputs of other types, read together: the type that holds all texts.
    mf.from_arrow(table.set_column(0, "k", pa.array(["1", "x"]))).write_csv(
        f"{tmp_path}/run=6/o", partition_by=["k", "j"]
    )
    both = mf.read([f"{tmp_path}/run=5/o", f"{tmp_path}/run=6/o"]).to_arrow()
    assert both["k"].to_pylist() == ["1", "2", "1", "x"]


def test_a_folder_that_does_not_fit_the_written_type_is_an_error(tmp_path: Path) -> None:
    mf.from_arrow({"k": [1], "v": [1]}).write_csv(str(tmp_path / "o"), partition_by="k")
    (tmp_path / "o" / "k=x").mkdir()
    (tmp_path / "o" / "k=x" / "y.csv").write_text("v\n3\n")
    with pytest.raises(SourceError, match=r"k=x/y.csv: k = 'x' is no int64"):
        mf.read(str(tmp_path / "o"))
    assert mf.read(str(tmp_path / "o"), schema={"v": "int64", "k": "string"}).to_arrow()["k"].to_pylist() == [
        "1",
        "x",
    ]


def test_columns_without_a_name_are_refused_as_partitions(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="no name"):
        mf.from_arrow({"": [1], "v": [1]}).write_csv(str(tmp_path / "o"), partition_by="")


# ---- pruning ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("k = 2", {2}), ("k <> 2", {1, 3}), ("k < 2", {1}), ("k >= 2", {2, 3}), ("k IN (1, 3)", {1, 3}),
        ("k IS NULL", {None}), ("k IS NOT NULL", {1, 2, 3}), ("k = 2 AND v > 0", {2}), ("2 > k", {1}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_files_whose_folder_can_not_match_are_not_opened(
    tmp_path: Path, form: str, condition: str, kept: set[int | None]
) -> None:
    table = pa.table({"k": [1, 2, 3, None], "v": [1, 2, 3, 4]})
    session = Session(workers=1)
    session.from_arrow(table).write(str(tmp_path / "o"), format=form, partition_by="k")
    read = session.read(str(tmp_path / "o"))
    # Damaged after they were looked at: opening them for the query would be an error.
    for value in {1, 2, 3, None} - kept:
        name = "__HIVE_DEFAULT_PARTITION__" if value is None else value
        (path,) = (tmp_path / "o" / f"k={name}").iterdir()
        path.write_bytes(b"\xff\xff\n" * 100)
        os.chmod(path, 0)
    rows = session.sql(f"SELECT k, v FROM t WHERE {condition}", t=read).to_arrow()
    assert set(rows["k"].to_pylist()) == kept
    assert session.last_run is not None
    assert session.last_run.pruned == 4 - len(kept)


@given(
    kind=st.sampled_from(["int64", "date32", "decimal128(9, 2)", "string", "bool"]),
    op=st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge", "is_null", "is_not_null"]),
    data=st.data(),
)
def test_pruning_by_folders_never_drops_a_match(kind: str, op: str, data: st.DataObject) -> None:
    small = {"int64": st.integers(-2, 2), "string": st.sampled_from(["", "a", "b", "ä"])}.get(
        kind, _TYPES[kind]
    )
    value, literal = data.draw(st.none() | small), data.draw(small)
    batch = pa.RecordBatch.from_arrays([_column(kind, [value]), pa.array([1])], names=["k", "n"])
    ((folder, _),) = split(batch, ["k"])
    hive = HiveColumns(pa.schema([pa.field("k", canonical_type(batch["k"].type))]), ("k",))
    may = hive.may_hold(f"o/{folder}/x", [Comparison("k", op, None if op.startswith("is_") else literal)])
    if op.startswith("is_"):
        true = (value is None) == (op == "is_null")
    elif value is None:
        true = False
    else:
        true = {"eq": value == literal, "ne": value != literal, "lt": value < literal, "le": value <= literal,
                "gt": value > literal, "ge": value >= literal}[op]  # fmt: skip
    assert may == true


def test_a_parquet_file_of_another_writer_with_folders(tmp_path: Path) -> None:
    pq.write_to_dataset(
        pa.table({"y": [2024, -3], "r": ["a/b", None], "v": [1, 2]}),
        tmp_path / "o",
        partition_cols=["y", "r"],
    )
    read = mf.read(str(tmp_path / "o"))
    assert _rows(read.to_arrow()) == _rows(pa.table({"v": [1, 2], "y": [2024, -3], "r": ["a/b", None]}))
    assert mf.sql("SELECT v FROM t WHERE r = 'a/b' AND y > 0", t=read).to_arrow().to_pydict() == {"v": [1]}

"""Parquet: equal rows for every tiling, pruning that never loses a row, clear errors."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmflow.errors import SourceError
from mmflow.formats import Comparison, from_spec, open_format
from mmflow.mapping import Io, MappedFile
from tests.formats.group_rows import read, tiling


def sample(rows: int) -> pa.Table:
    numbers = np.arange(rows)
    text = [None if n % 7 == 0 else f"text number {n} é" * (n % 3) for n in range(rows)]
    return pa.table(
        {
            "n": pa.array(numbers, pa.int64()),
            "s": pa.array(text),
            "ls": pa.array(text, pa.large_string()),
            "sv": pa.array(text, pa.string_view()),
            "dict": pa.array(text).dictionary_encode(),
            "l": pa.array([[t, None] if n % 2 else None for n, t in enumerate(text)], pa.list_(pa.string())),
            "st": pa.array([{"a": n, "b": {"c": t}} for n, t in enumerate(text)]),
            "m": pa.array([[(f"k{n}", n)] for n in range(rows)], pa.map_(pa.string(), pa.int64())),
            "f": pa.array(np.where(numbers % 5 == 0, np.nan, numbers / 3)),
            "d": pa.array([Decimal(n).scaleb(-2) for n in range(rows)], pa.decimal128(12, 2)),
            "small": pa.array([Decimal(n).scaleb(-1) for n in range(rows)], pa.decimal32(7, 1)),
            "h": pa.array(numbers % 100, pa.float32()).cast(pa.float16()),
            "ts": pa.array(numbers * 10**9, pa.timestamp("ns", "UTC")),
            "b": pa.array(numbers % 2 == 0),
            "bin": pa.array([t.encode() if t else None for t in text], pa.binary()),
        }
    )


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parquet") / "big.parquet"
    pq.write_table(sample(3000), path, row_group_size=100)
    return path


@pytest.fixture(scope="module")
def expected() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = sample(3000).drop_columns("f").to_pylist()
    return rows


@given(
    cuts=st.lists(st.integers(1, 200), max_size=12),
    batch_rows=st.sampled_from([1000, 64, 7]),
    io=st.sampled_from(["mmap", "pread"]),
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_the_same_for_every_tiling(
    big: Path, expected: list[dict[str, Any]], cuts: list[int], batch_rows: int, io: Io
) -> None:
    form = open_format("parquet", [str(big)])
    names = [n for n in form.schema.names if n != "f"]
    rows, reports = read(form, big, cuts=cuts, columns=names, io=io, batch_rows=batch_rows)
    assert rows == expected
    assert sum(r.records for r in reports) == 3000
    assert reports[-1].next == 30


def test_every_page_a_shard(big: Path) -> None:
    form = open_format("parquet", [str(big)])
    rows, reports = read(form, big, cuts=range(1000), columns=["n"])
    assert [r["n"] for r in rows] == list(range(3000))
    assert len(reports) > 30
    assert max(r.next - r.first for r in reports) <= 2


def test_schema_is_canonical_and_survives_its_spec(big: Path) -> None:
    form = open_format("parquet", [str(big)])
    assert form.schema.field("dict").type == form.schema.field("ls").type == pa.string_view()
    assert form.schema.field("l").type == pa.list_(pa.string_view())
    assert form.schema.field("small").type == pa.decimal128(7, 1)
    assert form.schema.field("h").type == pa.float32()
    assert from_spec(form.spec()) == form
    assert (form.record_oriented, form.splittable) == (False, True)


def test_only_wanted_columns_are_read(big: Path) -> None:
    form = open_format("parquet", [str(big)])
    rows, one = read(form, big, columns=["b"])
    assert rows == [{"b": n % 2 == 0} for n in range(3000)]
    _, every = read(form, big)
    assert one[0].bytes_read < every[0].bytes_read / 20
    rows, none = read(form, big, columns=[], batch_rows=70)
    assert len(rows) == 3000
    assert none[0].bytes_read == 0
    rows, _ = read(form, big, columns=["st", "n"])
    assert list(rows[5]) == ["st", "n"]


# ---- pruning -----------------------------------------------------------------------------------

_TOTAL = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def _order(value: Any) -> Any:
    """Key of DataFusion's order: floats totally."""
    if not isinstance(value, float):
        return value
    return (2, 0.0, 0) if math.isnan(value) else (1, value, 0 if math.copysign(1, value) < 0 else 1)


def _matches(comparison: Comparison, value: Any) -> bool:
    match comparison.op:
        case "is_null":
            return value is None
        case "is_not_null":
            return value is not None
        case "in":
            return value is not None and any(_order(value) == _order(v) for v in comparison.value)
    if value is None:
        return False
    a, b = _order(value), _order(comparison.value)
    return bool(
        {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[comparison.op]
    )


_UTC = dt.UTC
_KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int": (pa.int32(), st.integers(-3, 3)),
    "uint": (pa.uint64(), st.sampled_from([0, 1, 2**63, 2**64 - 1])),
    "float": (pa.float64(), st.sampled_from([-1.0, -0.0, 0.0, 1.5, math.inf, -math.inf, math.nan])),
    "text": (pa.string(), st.sampled_from(["", "a", "ab", "é", "z" * 70, "z" * 70 + "a", "\U0010ffff"])),
    "decimal": (pa.decimal128(5, 2), st.sampled_from([Decimal("-1.50"), Decimal(0), Decimal("2.25")])),
    "decimal big": (pa.decimal256(50, 2), st.sampled_from([Decimal("-1.50"), Decimal(0), Decimal(10) ** 40])),
    "date": (pa.date32(), st.sampled_from([dt.date(1960, 1, 1), dt.date(1970, 1, 1), dt.date(2024, 2, 29)])),
    "bool": (pa.bool_(), st.booleans()),
    "binary": (pa.binary(), st.sampled_from([b"", b"a", b"\xff", b"\x80"])),
    "time": (
        pa.timestamp("us", "Europe/Paris"),
        st.sampled_from(
            [dt.datetime(1969, 1, 1, tzinfo=_UTC), dt.datetime(2024, 1, 1, microsecond=7, tzinfo=_UTC)]
        ),
    ),
}


@given(kind=st.sampled_from(sorted(_KINDS)), data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pruning_never_loses_a_row(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    arrow, values = _KINDS[kind]
    column = data.draw(st.lists(st.none() | values, min_size=1, max_size=12))
    op = data.draw(st.sampled_from([*_TOTAL, "in", "is_null", "is_not_null"]))
    one = values.filter(lambda v: not (isinstance(v, float) and math.isnan(v) and op == "in"))
    value = (
        None
        if op.startswith("is_")
        else tuple(data.draw(st.lists(one, max_size=3)))
        if op == "in"
        else data.draw(one)
    )
    comparison = Comparison("v", op, value)
    path = tmp_path / "p.parquet"
    table = pa.table({"v": pa.array(column, arrow), "row": list(range(len(column)))})
    pq.write_table(
        table, path, row_group_size=data.draw(st.integers(1, 4)), store_schema=data.draw(st.booleans())
    )
    form = open_format("parquet", [str(path)])
    rows, reports = read(form, path, columns=["row"], prune=(comparison,))
    kept = {r["row"] for r in rows}
    assert {n for n, v in enumerate(table["v"].to_pylist()) if _matches(comparison, v)} <= kept
    assert sum(r.records for r in reports) == len(column)
    assert len(kept) == len(column) or reports[0].pruned > 0


@pytest.mark.parametrize(
    ("comparison", "groups"),
    [
        (Comparison("n", "eq", 250), 1),
        (Comparison("n", "lt", 100), 1),
        (Comparison("n", "le", 100), 2),
        (Comparison("n", "ge", 2900), 1),
        (Comparison("n", "gt", 2899.5), 30),  # the literal is a float: NaN's side is not pruned
        (Comparison("n", "in", (5, 1500)), 2),
        (Comparison("n", "is_null", None), 0),
        (Comparison("d", "gt", Decimal("28.99")), 1),
        (Comparison("ts", "lt", dt.datetime(1970, 1, 1, 0, 1, 40, tzinfo=dt.UTC)), 1),
        (Comparison("s", "gt", "zzz"), 0),
        (Comparison("n", "eq", "250"), 30),  # not comparable: kept
        (Comparison("st", "is_null", None), 30),
        (Comparison("nothing", "eq", 1), 30),
    ],
)
def test_groups_are_pruned(big: Path, comparison: Comparison, groups: int) -> None:
    _, reports = read(open_format("parquet", [str(big)]), big, columns=["n"], prune=(comparison,))
    assert 30 - reports[0].pruned == groups


def test_files_without_statistics_are_read_whole(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"v": [1, 2, 3]}), tmp_path / "p.parquet", write_statistics=False, row_group_size=1
    )
    form = open_format("parquet", [str(tmp_path / "p.parquet")])
    rows, reports = read(form, tmp_path / "p.parquet", prune=(Comparison("v", "eq", 9),))
    assert len(rows) == 3
    assert reports[0].pruned == 0


# ---- several files -----------------------------------------------------------------------------


def write(path: Path, **columns: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_columns_are_matched_by_name_and_may_widen(tmp_path: Path) -> None:
    a = write(tmp_path / "a.parquet", x=pa.array([1], pa.int64()), y=pa.array(["s"]), z=pa.array([1.5]))
    b = write(tmp_path / "b.parquet", z=pa.array([2], pa.int32()), y=pa.array(["t"]).dictionary_encode(),
              x=pa.array([2], pa.uint32()))  # fmt: skip
    form = open_format("parquet", [a, b])
    assert read(form, a)[0] + read(form, b)[0] == [{"x": 1, "y": "s", "z": 1.5}, {"x": 2, "y": "t", "z": 2.0}]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"y": pa.array([1])}, "has a column 'y', which .*a.parquet lacks"),
        ({"x": pa.array(["1"])}, "column 'x' is string, but int32 in the source's schema"),
        ({"x": pa.array([2**40])}, "column 'x' is int64, but int32"),
        ({"x": pa.array([1.0])}, "column 'x' is float64, but int32"),
        ({"x": pa.array([1], pa.uint32())}, "column 'x' is uint32, but int32"),
    ],
)
def test_columns_that_do_not_fit_name_the_file(
    tmp_path: Path, column: dict[str, pa.Array], message: str
) -> None:
    a = write(tmp_path / "a.parquet", x=pa.array([1], pa.int32()))
    b = write(tmp_path / "b.parquet", **column)
    with pytest.raises(SourceError, match=f"b.parquet.*{message}"):
        read(open_format("parquet", [a, b]), b)


def test_a_declared_schema_widens(tmp_path: Path) -> None:
    a = write(tmp_path / "a.parquet", x=pa.array([1], pa.int32()), y=pa.array([Decimal("1.5")]))
    form = open_format("parquet", [a], schema="y:decimal128(20,3), x:float64")
    assert read(form, a)[0] == [{"y": Decimal("1.500"), "x": 1.0}]
    with pytest.raises(SourceError, match="no column 'q'"):
        read(open_format("parquet", [a], schema={"q": "int64"}), a)


# ---- files that can't be read ------------------------------------------------------------------


def test_damage_is_an_error_wherever_it_is(tmp_path: Path) -> None:
    good = tmp_path / "good.parquet"
    pq.write_table(sample(200), good, row_group_size=50, write_page_checksum=True)
    data = good.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    bad = tmp_path / "bad.parquet"
    whole = sample(200).drop_columns("f").to_pylist()
    caught = 0
    for place in range(5, len(data), len(data) // 60):
        bad.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            form = open_format("parquet", [str(bad)])
            rows, _ = read(form, bad, columns=[n for n in form.schema.names if n != "f"])
        except SourceError as error:
            assert str(bad) in str(error)
            caught += 1
        else:
            # The footer has no checksum; pages do, and what is wrong in their headers shows.
            assert rows == whole or place >= footer
    assert caught > 30


@pytest.mark.parametrize("cut", [0, 3, 8, 100, -1, -5, -100])
def test_files_cut_short(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(sample(50), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SourceError, match=r"p\.parquet"):
        open_format("parquet", [str(path)])


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    raw = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"s": raw}), path)
    with pytest.raises(SourceError, match=r"p\.parquet.*UTF8"):
        read(open_format("parquet", [str(path)]), path)


def test_types_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(SourceError, match="two of its columns are named 'a'"):
        open_format("parquet", [str(path)])


def test_a_file_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(sample(0), path)
    rows, reports = read(open_format("parquet", [str(path)]), path)
    assert rows == []
    assert reports[0].records == 0


def test_shards_past_all_groups_own_none(big: Path) -> None:
    form = open_format("parquet", [str(big)])
    with MappedFile.open(str(big)) as file:
        assert len(tiling(file.size, [1, 2, 3])) == 4
    _, reports = read(form, big, cuts=[1, 2], columns=["n"])
    assert next((r.first, r.next) for r in reports)[0] == 0
    assert reports[-1].next == 30

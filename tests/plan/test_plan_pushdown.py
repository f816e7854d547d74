"""Conditions that sources leave rows out by never leave out a row that satisfies them, whatever the column's type.

Rows are in groups of two, or one by one in text, so that a literal that is read as another value loses rows.
"""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from collections.abc import Callable
from decimal import Decimal
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow import col, lit

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {"=": eq, "<>": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
LOW, HIGH = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)


def _integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    edges = [v for v in (low, -1, 0, 1, (1 << bits - 1) - 1, 1 << bits - 1, high) if low <= v <= high]
    return st.sampled_from(edges) | st.integers(low, high)


def _decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    top = 10**precision - 1
    whole = st.sampled_from([-top, 1 - top, -1, 0, 1, top - 1, top]) | st.integers(-top, top)
    return whole.map(lambda v: Decimal((int(v < 0), tuple(map(int, str(abs(v)))), -scale)))


_TEXT = st.text(st.sampled_from("ab%_'\\é☃"), max_size=3)
_ZONED = st.datetimes(LOW, HIGH.replace(year=9990)).map(lambda v: v.replace(tzinfo=dt.UTC))
TYPES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    *[
        (getattr(pa, f"{'' if signed else 'u'}int{bits}")(), _integers(bits, signed=signed))
        for bits in (8, 16, 32, 64)
        for signed in (True, False)
    ],
    (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    (pa.float32(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.dates(LOW.date(), HIGH.date())),
    (pa.decimal128(5, 2), _decimals(5, 2)),
    (pa.decimal128(18, 0), _decimals(18, 0)),
    (pa.decimal128(38, 0), _decimals(38, 0)),
    (pa.decimal128(38, 37), _decimals(38, 37)),
    (pa.string(), _TEXT),
    (pa.timestamp("s"), st.datetimes(LOW, HIGH).map(lambda v: v.replace(microsecond=0))),
    (pa.timestamp("us"), st.datetimes(LOW, HIGH)),
    (pa.timestamp("us", "UTC"), _ZONED),
    (pa.timestamp("ms", "Asia/Tokyo"), _ZONED.map(lambda v: v.replace(microsecond=0))),
    (pa.time64("us"), st.times()),
]
#: Columns that text formats don't hold in a spelling that this test writes, and binary ones.
PARQUET_ONLY = [
    (pa.binary(), st.binary(max_size=2)),
    (pa.binary(2), st.binary(min_size=2, max_size=2)),
    (pa.timestamp("ns"), st.datetimes(dt.datetime(1678, 1, 1), dt.datetime(2261, 1, 1))),
    (pa.time32("ms"), st.times().map(lambda v: v.replace(microsecond=0))),
]


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _write(folder: str, form: str, kind: pa.DataType, values: list[Any]) -> mf.Dataset:
    path = Path(folder, f"t.{form}")
    if form == "parquet":
        pq.write_table(pa.table({"x": pa.array(values, kind)}), path, row_group_size=2)
        return mf.read(path)
    if form == "csv":
        cells = [_cell(v).replace('"', '""') for v in values]
        path.write_text("x\n" + "".join(f'"{c}"\n' if pa.types.is_string(kind) else f"{c}\n" for c in cells))
    else:
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        path.write_text("".join(json.dumps({"x": v if number else _cell(v)}) + "\n" for v in values))
    return mf.read(path, schema=pa.schema([pa.field("x", kind)]))


@st.composite
def _cases(draw: st.DrawFn) -> tuple[str, pa.DataType, list[Any], Any]:
    form = draw(st.sampled_from(["parquet", "csv", "ndjson"]))
    kind, values = draw(st.sampled_from(TYPES + (PARQUET_ONLY if form == "parquet" else [])))
    rows = draw(st.lists(values, min_size=1, max_size=6))
    return form, kind, rows, draw(st.sampled_from(rows) | values)


@given(_cases(), st.sampled_from(sorted(OPERATORS)))
def test_rows_that_satisfy_a_comparison_are_never_left_out(
    case: tuple[str, pa.DataType, list[Any], Any], operator: str
) -> None:
    form, kind, values, literal = case
    wanted = [v for v in values if OPERATORS[operator](v, literal)]
    with tempfile.TemporaryDirectory() as folder:
        ds = _write(folder, form, kind, values)
        condition = OPERATORS[operator](col("x"), lit(pa.scalar(literal, kind)))
        assert ds.filter(condition).to_arrow().column(0).to_pylist() == wanted
        # And from the other side of SELECT.
        flags = ds.select(condition.alias("p")).to_arrow().column(0).to_pylist()
        assert flags == [OPERATORS[operator](v, literal) for v in values]


@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson"])
@pytest.mark.parametrize(("kind", "big"), [(pa.uint32(), 3232235777), (pa.uint64(), 2**64 - 1)])
def test_unsigned_literals_beyond_half_of_their_range_match(
    tmp_path: Path, form: str, kind: pa.DataType, big: int
) -> None:
    values = [1, big, 5, big - 1]
    ds = _write(str(tmp_path), form, kind, values)
    conditions: dict[str, Callable[[int], bool]] = {
        f"x = {big}": lambda v: v == big,
        f"x < {big}": lambda v: v < big,
        f"x <= {big}": lambda v: v <= big,
        f"{big} > x": lambda v: big > v,
        f"x BETWEEN {big - 1} AND {big}": lambda v: v >= big - 1,
        f"NOT (x > {big - 1})": lambda v: v <= big - 1,
        f"x IN ({big}, 5)": lambda v: v in (big, 5),
        f"x IN ({big}, 5, 6, 7, 8, 9)": lambda v: v in (big, 5),
    }
    for condition, holds in conditions.items():
        found = mf.sql(f"SELECT x FROM t WHERE {condition}", t=ds).to_arrow().column(0).to_pylist()
        assert found == [v for v in values if holds(v)], condition
    assert ds.filter(col("x") == big).count() == 1
    assert ds.filter(col("x").is_between(5, big - 1)).count() == 2

"""Columns are encoded and decoded without loss, and their bounds hold."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmflow.formats import Comparison
from mmflow.formats.columns.encoding import ZONE_ROWS, ColumnEncoder, EncodedColumn, can_encode, decode
from mmflow.formats.parquet.statistics import may_match

_TYPES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.int64(), st.integers(1000, 1100)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.uint16(), st.integers(0, 65535)),
    (pa.float64(), st.floats()),
    (pa.float64(), st.integers(-(10**6), 10**6).map(lambda n: n / 100)),
    (pa.float64(), st.sampled_from([0.0, -0.0, 1.5])),
    (pa.float32(), st.floats(width=32)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.dates()),
    (pa.timestamp("us"), st.datetimes()),
    (pa.timestamp("ns", "UTC"), st.integers(-(2**63), 2**63 - 1)),
    (pa.time64("us"), st.times()),
    (pa.duration("ms"), st.integers(-(2**63), 2**63 - 1)),
    (pa.decimal128(18, 2), st.decimals(-(10**15), 10**15, places=2)),
    (pa.decimal128(4, 4), st.decimals(Decimal("-0.9999"), Decimal("0.9999"), places=4)),
    (pa.string_view(), st.text(max_size=30)),
    (pa.string(), st.sampled_from(["", "a", "a much longer text than a view holds"])),
]
_COLUMNS = st.sampled_from(range(len(_TYPES))).flatmap(
    lambda n: st.tuples(
        st.just(_TYPES[n][0]), st.lists(st.lists(st.one_of(st.none(), _TYPES[n][1]), max_size=20), max_size=4)
    )
)


def _encoded(arrays: list[pa.Array], kind: pa.DataType) -> EncodedColumn:
    encoder = ColumnEncoder(kind)
    for array in arrays:
        assert encoder.add(array)
    return decode(encoder.finish(), kind)


def _values(column: EncodedColumn) -> pa.Array:
    arrays = [column.zone(n) for n in range(len(column.zones))]
    for array in arrays:
        array.validate(full=True)
    return pa.concat_arrays(arrays) if arrays else pa.array([], column.type)


def _same(one: pa.Array, other: pa.Array) -> bool:
    """Return whether arrays are equal, floats bit by bit."""
    if pa.types.is_floating(one.type):
        bits = pa.int64() if one.type == pa.float64() else pa.int32()
        same_nulls = one.is_null().equals(other.is_null())
        return bool(same_nulls and one.drop_null().view(bits).equals(other.drop_null().view(bits)))
    return bool(one.equals(other))


@given(_COLUMNS)
def test_columns_come_back(column: tuple[pa.DataType, list[list[Any]]]) -> None:
    kind, values = column
    arrays = [pa.array(v, kind) for v in values]
    whole = pa.concat_arrays(arrays) if arrays else pa.array([], kind)
    assert _same(_values(_encoded(arrays, kind)), whole)


@given(_COLUMNS, st.sampled_from(["eq", "lt", "le", "gt", "ge", "is_null", "is_not_null"]), st.data())
def test_no_zone_with_a_wanted_row_is_left_out(
    column: tuple[pa.DataType, list[list[Any]]], op: str, data: st.DataObject
) -> None:
    kind, values = column
    flat = [v for part in values for v in part]
    known = [v for v in flat if v is not None]
    if not known:
        return
    limit = data.draw(st.sampled_from(known))
    rows: dict[str, Callable[[Any], Any]] = {
        "eq": lambda v: v is not None and v == limit,
        "lt": lambda v: v is not None and v < limit,
        "le": lambda v: v is not None and v <= limit,
        "gt": lambda v: v is not None and (v > limit or v != v),  # NaN is above all
        "ge": lambda v: v is not None and (v >= limit or v != v),
        "is_null": lambda v: v is None,
        "is_not_null": lambda v: v is not None,
    }
    found = any(rows[op](v) for v in flat)
    made = _encoded([pa.array(flat, kind)], kind)
    (zone,) = made.zones
    comparison = Comparison("x", op, None if op.startswith("is_") else limit)
    if found:
        assert may_match(comparison, zone)
    codes = made.code_range(comparison)
    mask = None if codes is None else codes.mask(0)
    if mask is not None:
        # Exactly the rows with a value that satisfies it; those of nulls are any.
        assert [m for m, v in zip(mask.tolist(), flat, strict=True) if v is not None] == [
            rows[op](v) for v in known
        ]
        taken = made.take(np.flatnonzero(mask))
        assert taken.equals(pa.array(flat, kind).filter(pa.array(mask)))


def test_zones_of_long_columns_have_their_own_bounds() -> None:
    numbers = pa.array(np.arange(ZONE_ROWS * 2 + 3))
    column = _encoded([numbers.slice(0, 70_000), numbers.slice(70_000)], pa.int64())
    assert [zone.rows for zone in column.zones] == [ZONE_ROWS, ZONE_ROWS, 3]
    assert [may_match(Comparison("x", "ge", 2 * ZONE_ROWS), zone) for zone in column.zones] == [
        False,
        False,
        True,
    ]
    assert _values(column).equals(numbers)


def test_bounds_are_comparable_with_literals() -> None:
    columns = {
        pa.date32(): (dt.date(2020, 1, 1), dt.date(2020, 1, 2)),
        pa.timestamp("us"): (dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 2)),
        pa.decimal128(10, 2): (Decimal("1.25"), Decimal("1.26")),
        pa.string_view(): ("A", "B"),
        pa.float64(): (0.25, 0.5),
        pa.int16(): (7, 8),
    }
    for kind, (value, other) in columns.items():
        (zone,) = _encoded([pa.array([value, None], kind)], kind).zones
        assert may_match(Comparison("x", "eq", value), zone)
        assert not may_match(Comparison("x", "eq", other), zone), kind


@pytest.mark.parametrize(
    ("values", "kind", "most"),
    [
        (np.arange(100_000) % 2500 + 8000, pa.date32(), 2),
        (np.arange(100_000) % 50 + 1, pa.int64(), 1),
        (np.round((np.arange(100_000) % 11) / 100, 2), pa.float64(), 1),
        ([["AIR", "RAIL", "SHIP"][n % 3] for n in range(100_000)], pa.string_view(), 1),
    ],
)
def test_repeating_and_narrow_values_take_few_bytes(values: Any, kind: pa.DataType, most: int) -> None:
    encoder = ColumnEncoder(kind)
    assert encoder.add(
        pa.array(values, pa.int32()).cast(kind) if kind == pa.date32() else pa.array(values, kind)
    )
    assert encoder.finish().size < most * 100_000 + 2000


def test_text_that_does_not_repeat_is_not_encoded() -> None:
    encoder = ColumnEncoder(pa.string_view())
    assert not encoder.add(pa.array([str(n) for n in range(ZONE_ROWS)], pa.string_view()))
    assert not can_encode(pa.list_(pa.int64()))


def test_damaged_columns_are_refused() -> None:
    encoder = ColumnEncoder(pa.int64())
    encoder.add(pa.array([1, 2]))
    made = encoder.finish()
    with pytest.raises(ValueError, match="another type"):
        decode(made, pa.int32())
    with pytest.raises((ValueError, OSError)):
        decode(made.slice(0, made.size // 2), pa.int64())

"""Every operator and method of expressions gives what Polars gives, for tables that Hypothesis makes."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from tests.api.polars_cases import aggregate_all, select_all, window_all

_US = 10**6 * 86_400 * 365 * 70  # 70 years before and behind 1970
_SMALL = st.integers(-7, 7)
_TEXT = st.text(st.sampled_from("ab.cé ßA\n\\$1☃\u0301"), max_size=5)
_COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "i": (pa.int64(), _SMALL | st.integers(-(10**9), 10**9)),
    "j": (pa.int64(), _SMALL),
    "u": (pa.uint8(), st.integers(0, 255)),
    "f": (pa.float64(), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 1.5, -2.5, 1e300])),
    "g": (pa.float64(), st.floats(-1e6, 1e6).map(lambda v: round(v, 3))),
    "s": (pa.string(), _TEXT),
    "p": (pa.string(), _TEXT),
    "n": (pa.string(), st.sampled_from(["1", "-12", "x", "", "007", "9223372036854775807", "9223372036854775808"])),
    "b": (pa.bool_(), st.booleans()),
    "t": (pa.timestamp("us"), st.integers(-_US, _US)),
    "z": (pa.timestamp("us", "America/New_York"), st.integers(-_US, _US)),
    "d": (pa.date32(), st.integers(-25_000, 25_000)),
    "x": (pa.duration("us"), st.integers(-(10**12), 10**12)),
    "l": (pa.list_(pa.int64()), st.lists(st.none() | st.integers(0, 2), max_size=3)),
    "w": (pa.list_(pa.string()), st.lists(st.none() | st.sampled_from("ab"), max_size=3)),
    "h": (pa.list_(pa.float64()), st.lists(st.none() | st.sampled_from([math.nan, -0.0, 1.5, -2.5]), max_size=3)),
    "o": (pa.struct({"q": pa.int64()}), st.fixed_dictionaries({"q": st.none() | _SMALL})),
    "k": (pa.string(), st.sampled_from("xyz")),
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    count = draw(st.sampled_from([0, 1, 30]))
    made = {
        name: pa.array(draw(st.lists(st.none() | values, min_size=count, max_size=count)), kind)
        for name, (kind, values) in _COLUMNS.items()
    }
    return pa.table({"r": pa.array(range(count), pa.int64()), **made})


_EXAMPLES = settings(max_examples=max(4, settings().max_examples // 16))


@_EXAMPLES
@given(tables())
def test_rows_are_those_of_polars(table: pa.Table) -> None:
    select_all(table, mf.from_arrow(table))


@_EXAMPLES
@given(tables())
def test_aggregates_are_those_of_polars(table: pa.Table) -> None:
    aggregate_all(table, mf.Session(partitions=2).from_arrow(table).repartition(3))


@_EXAMPLES
@given(tables())
def test_windows_are_those_of_polars(table: pa.Table) -> None:
    window_all(table, mf.Session(partitions=2).from_arrow(table).repartition(3))

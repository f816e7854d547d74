"""Expressions give what Polars gives on every engine."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

import mmflow as mf
from tests.api.polars_cases import aggregate_all, select_all, window_all

_VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "i": (pa.int64(), [5, None, -7, 0, 10**9]),
    "j": (pa.int64(), [3, -2, 0, None, 1]),
    "u": (pa.uint8(), [255, 0, None, 7, 8]),
    "f": (pa.float64(), [math.nan, math.inf, -0.0, None, -2.5]),
    "g": (pa.float64(), [1.5, -0.125, None, 100.125, -3.0]),
    "s": (pa.string(), ["ab.é", "", None, " aßA\n", "aéb"]),
    "p": (pa.string(), ["a", None, "", "aé", "x"]),
    "n": (pa.string(), ["1", "x", None, "007", "9223372036854775808"]),
    "b": (pa.bool_(), [True, None, False, True, False]),
    "t": (pa.timestamp("us"), [0, -1, None, 1_720_000_000_123_456, -86_400_000_001]),
    "z": (pa.timestamp("us", "America/New_York"), [0, -1, None, 1_720_000_000_123_456, -86_400_000_001]),
    "d": (pa.date32(), [0, -1, None, 20_000, 3]),
    "x": (pa.duration("us"), [0, -1_500_000, None, 10**12, 86_400_000_001]),
    "l": (pa.list_(pa.int64()), [[1, None], [], None, [2], [0, 1, 2]]),
    "w": (pa.list_(pa.string()), [["a", "b"], [], None, ["a", None], ["b"]]),
    "h": (pa.list_(pa.float64()), [[1.5, None], [], None, [math.nan, -2.5], [-0.0]]),
    "o": (pa.struct({"q": pa.int64()}), [{"q": 1}, {"q": None}, None, {"q": 3}, {"q": 4}]),
    "k": (pa.string(), ["x", "y", None, "x", "z"]),
}  # fmt: skip
_ROWS = 60


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Rows in which values of different columns meet in many ways."""
    columns = {
        name: pa.array([values[(row * (1 + at % 4) + row // 5) % 5] for row in range(_ROWS)], kind)
        for at, (name, (kind, values)) in enumerate(_VALUES.items())
    }
    return pa.table({"r": range(_ROWS), **columns})


def test_expressions_are_those_of_polars(session: mf.Session, table: pa.Table) -> None:
    ds = session.from_arrow(table).repartition(3)
    select_all(table, ds)
    aggregate_all(table, ds)
    window_all(table, ds)

"""Orders of rows by normalised keys, and window functions over them, are those of plain Python."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from mmflow.kernels import kernels
from mmflow.plan.window_functions import FUNCTIONS, RANKS, SHARES
from tests.kernels.test_kernels_aggregate import whole

#: Values of each type, few enough that rows are equal, and those at which codes wrap or words of text end.
FLOATS = st.one_of(
    st.sampled_from([math.inf, -math.inf, math.nan, 0.0, 1.5, -1.5]),
    st.floats(allow_nan=False, width=32).map(lambda f: f + 0.0),
)
TEXT = st.one_of(
    st.sampled_from(
        [
            "",
            "a",
            "a\0",
            "a\0\0",
            "sevenby",
            "sevenby\0",
            "sevenbyt",
            "fourteen bytes",
            "fourteen bytes!",
            "é",
        ]
    ),
    st.builds(lambda n, end: "prefix " * n + end, st.integers(0, 6), st.text("ab\0", max_size=9)),
)
KINDS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.bool_(): st.booleans(),
    pa.int8(): whole(pa.int8()),
    pa.int32(): whole(pa.int32()),
    pa.int64(): whole(pa.int64()),
    pa.uint16(): whole(pa.uint16()),
    pa.uint64(): whole(pa.uint64()),
    pa.float32(): FLOATS,
    pa.float64(): FLOATS,
    pa.decimal128(30, 2): st.one_of(
        st.integers(-2, 2).map(lambda n: Decimal(n) / 4), st.integers(-(10**27), 10**27).map(Decimal)
    ),
    pa.string(): TEXT,
    pa.large_string(): TEXT,
    pa.string_view(): TEXT,
    pa.binary(3): st.binary(min_size=3, max_size=3),
}
DIRECTIONS = st.tuples(st.booleans(), st.booleans())
Rows = list[tuple[Any, ...]]


class Key:
    """A value in its place: NaN is the largest float, and null where its key says."""

    def __init__(self, value: Any, direction: tuple[bool, bool]) -> None:
        self.descending, first = direction
        self.rank = 1 if value is not None else 0 if first else 2
        value = value.encode() if isinstance(value, str) else value
        self.value = (value != value, 0.0 if value != value else value) if isinstance(value, float) else value

    def compared(self, other: Key) -> int:
        if self.rank != other.rank or self.rank != 1:
            return self.rank - other.rank
        found = (self.value > other.value) - (self.value < other.value)
        return -found if self.descending else found


def expected_order(rows: Rows, directions: Sequence[tuple[bool, bool]]) -> list[int]:
    keys = [[Key(v, d) for v, d in zip(row, directions, strict=True)] for row in rows]

    def compared(a: int, b: int) -> int:
        return next(filter(None, (x.compared(y) for x, y in zip(keys[a], keys[b], strict=True))), 0)

    return sorted(range(len(rows)), key=functools.cmp_to_key(compared))


def expected_window(function: str, rows: int, place: int, keys: list[Any], partition: range) -> Any:
    """Return the result at a place of an order: of a rank itself, else the place whose value it is, or None."""
    peers = [i for i in partition if keys[i] == keys[place]]
    match function:
        case "row_number":
            return place - partition.start + 1
        case "rank":
            return peers[0] - partition.start + 1
        case "dense_rank":
            return len({keys[i] for i in range(partition.start, place + 1)})
        case "percent_rank":
            return (peers[0] - partition.start) / (len(partition) - 1) if len(partition) > 1 else 0.0
        case "cume_dist":
            return (peers[-1] + 1 - partition.start) / len(partition)
        case "lag" | "lead":
            wanted = place - rows if function == "lag" else place + rows
            return wanted if wanted in partition else None
        case "first_value":
            return partition.start
        case "last_value":
            return peers[-1]
        case "partition_last_value":
            return partition[-1]
    raise AssertionError(function)


def row_order(batches: Sequence[pa.RecordBatch], directions: Sequence[tuple[bool, bool]]) -> Any:
    arrays = [batch.__arrow_c_array__()[1] for batch in batches]
    return kernels().RowOrder(batches[0].schema.__arrow_c_schema__(), arrays, list(directions))


def numbers(order: Any) -> list[int]:
    made = np.empty(order.rows(), np.uint32)
    order.order(made.ctypes.data)
    return list(made.tolist())


@st.composite
def keyed_rows(draw: st.DrawFn) -> tuple[pa.RecordBatch, list[tuple[bool, bool]]]:
    """Draw rows of some keys, more than insertion sorts, and their directions."""
    kinds = draw(st.lists(st.sampled_from([*KINDS]), min_size=1, max_size=4))
    pools = [draw(st.lists(st.one_of(st.none(), KINDS[kind]), min_size=1, max_size=12)) for kind in kinds]
    count = draw(st.integers(0, 70))
    random = draw(st.randoms(use_true_random=False))
    columns = [pa.array(random.choices(pool, k=count), kind) for pool, kind in zip(pools, kinds, strict=True)]
    batch = pa.RecordBatch.from_arrays(columns, names=[f"c{i}" for i in range(len(kinds))])
    return batch, draw(st.lists(DIRECTIONS, min_size=len(kinds), max_size=len(kinds)))


def plain(batch: pa.RecordBatch) -> Rows:
    return list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


@given(keyed_rows(), st.data())
def test_orders_are_those_of_python(
    made: tuple[pa.RecordBatch, list[tuple[bool, bool]]], data: st.DataObject
) -> None:
    batch, directions = made
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, batch.num_rows), max_size=3))), batch.num_rows]
    parts = [batch.slice(a, b - a) for a, b in itertools.pairwise(cuts)]
    assert numbers(row_order(parts, directions)) == expected_order(plain(batch), directions)


@given(keyed_rows(), st.data())
def test_window_functions_are_those_of_their_definitions(
    made: tuple[pa.RecordBatch, list[tuple[bool, bool]]], data: st.DataObject
) -> None:
    batch, directions = made
    partition_keys = data.draw(st.integers(0, batch.num_columns))
    calls = data.draw(
        st.lists(st.tuples(st.sampled_from(FUNCTIONS), st.integers(-3, 3)), min_size=1, max_size=4)
    )
    calls.append(("lead", 2**62))
    order = row_order([batch], directions)
    found = [np.empty(batch.num_rows, np.float64 if f in SHARES else np.int64) for f, _ in calls]
    listed = [
        (FUNCTIONS.index(f), rows, out.ctypes.data) for (f, rows), out in zip(calls, found, strict=True)
    ]
    order.windows(partition_keys, batch.num_columns, listed)
    places = numbers(order)
    keys = [repr(plain(batch)[row]) for row in places]
    leading = [repr(plain(batch)[row][:partition_keys]) for row in places]
    for (function, rows), out in zip(calls, found, strict=True):
        for place, row in enumerate(places):
            members = [i for i in range(len(places)) if leading[i] == leading[place]]
            wanted = expected_window(function, rows, place, keys, range(members[0], members[-1] + 1))
            if function not in RANKS:
                wanted = -1 if wanted is None else places[wanted]
            assert out[row] == wanted, (function, rows)


@pytest.mark.parametrize("shape", ["wide", "narrow", "text", "sorted", "high", "negative"])
def test_many_rows_are_sorted_by_their_digits(shape: str) -> None:
    """Rows enough for radix sort, by keys of several words, and equal ones in their order."""
    random = np.random.default_rng(7)
    count = 40_000
    a = random.integers(0, 300, count)
    columns: dict[str, list[Any]] = {
        "wide": [a, random.integers(-(2**63), 2**63 - 1, count), random.integers(0, 2, count)],
        "narrow": [a],
        "text": [[f"a longer text {n % 3} and {n % 50:>20}" for n in a.tolist()], a % 7],
        "sorted": [np.sort(a), np.arange(count) // 5],
        "high": [(a % 3) * 2**60, a % 2],
        "negative": [-a, random.random(count) // 0.1],
    }
    batch = pa.RecordBatch.from_arrays(
        [pa.array(c) for c in columns[shape]], names=[*"abc"][: len(columns[shape])]
    )
    directions = [(n % 2 == 1, False) for n in range(batch.num_columns)]
    keys = [
        np.asarray(c.dictionary_encode().indices) if pa.types.is_string(c.type) else np.asarray(c)
        for c in batch.columns
    ]
    if shape == "text":
        keys[0] = np.argsort(np.argsort(batch.column(0).dictionary_encode().dictionary.to_numpy(False)))[
            keys[0]
        ]
    # ~x is -x - 1, which has no overflow.
    signed = [
        ~k if d and k.dtype.kind == "i" else -k if d else k
        for k, (d, _) in zip(keys, directions, strict=True)
    ]
    assert numbers(row_order([batch], directions)) == np.lexsort(signed[::-1]).tolist()


def test_types_without_an_order_are_refused() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([[1]])], names=["a"])
    with pytest.raises(ValueError, match="does not know Arrow's type"):
        row_order([batch], [(False, False)])
    one = row_order([pa.RecordBatch.from_arrays([pa.array([1])], names=["a"])], [(False, False)])
    with pytest.raises(IndexError, match="no such function"):
        one.windows(0, 1, [(len(FUNCTIONS), 0, 0)])
    with pytest.raises(ValueError, match="one direction"):
        row_order([pa.RecordBatch.from_arrays([pa.array([1])], names=["a"])], [])

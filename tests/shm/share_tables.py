"""Tables of many types: nested, dictionaries, views, large offsets, nulls, no rows, no columns, several chunks."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

__all__ = ["tables"]

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_INTS = st.integers(-(2**31), 2**31 - 1)

_LEAVES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), _INTS),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.string(), _TEXT),
    (pa.large_string(), _TEXT),
    (pa.string_view(), _TEXT),
    (pa.binary(), st.binary(max_size=20)),
    (pa.binary_view(), st.binary(max_size=20)),
    (pa.binary(5), st.binary(min_size=5, max_size=5)),
    (pa.decimal128(12, 2), st.decimals(-1000, 1000, places=2)),
    (pa.timestamp("us", "UTC"), _INTS),
    (pa.date32(), st.integers(0, 40000)),
    (pa.null(), st.none()),
]


@st.composite
def _column(draw: st.DrawFn, rows: int) -> pa.ChunkedArray:
    kind, values = draw(st.sampled_from(_LEAVES))
    form = draw(
        st.sampled_from(["plain", "plain", "list", "large list", "struct", "map", "dictionary", "fixed list"])
    )
    if form == "list":
        kind, values = pa.list_(kind), st.lists(values, max_size=3)
    elif form == "large list":
        kind, values = pa.large_list(kind), st.lists(values, max_size=3)
    elif form == "fixed list":
        kind, values = pa.list_(kind, 2), st.lists(values, min_size=2, max_size=2)
    elif form == "struct":
        kind, values = (
            pa.struct({"x": kind, "y": pa.int32()}),
            st.fixed_dictionaries({"x": values, "y": _INTS}),
        )
    elif form == "map":
        kind, values = pa.map_(pa.string(), kind), st.lists(st.tuples(_TEXT, values), max_size=3)
    elif form == "dictionary":
        kind, values = pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b", "", "long " * 5])
    column = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
    cut = draw(st.integers(0, rows))
    # Chunks have dictionaries of their own.
    return pa.chunked_array([pa.array(column[:cut], kind), pa.array(column[cut:], kind)], kind)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A table; now and then a slice of one."""
    rows = draw(st.integers(0, 12))
    columns = draw(st.lists(_column(rows), max_size=4))
    metadata = draw(st.sampled_from([None, {"k": "v"}]))
    schema = pa.schema([(f"c{i % 3}", c.type) for i, c in enumerate(columns)], metadata=metadata)
    table = pa.Table.from_arrays(columns, schema=schema)
    begin = draw(st.integers(0, rows))
    return table.slice(begin, draw(st.integers(0, rows))) if draw(st.booleans()) else table

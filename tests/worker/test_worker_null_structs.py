"""Fields of null structs are null, whatever lies under them, at any depth and in parts of arrays."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.worker.null_structs import with_null_fields


@st.composite
def structs(draw: st.DrawFn, depth: int = 2) -> pa.Array:
    """Return four structs with values under null ones, of which one may be cut off at the front."""
    masks = st.lists(st.booleans(), min_size=4, max_size=4)
    inner = draw(structs(depth - 1)) if depth else pa.array([1, 2, 3, 4])
    if len(inner) < 4:
        inner = pa.concat_arrays([inner, inner.slice(0, 4 - len(inner))])
    lists = pa.ListArray.from_arrays([0, 1, 1, 3, 4], inner)
    made = pa.StructArray.from_arrays([inner, lists], names=["x", "l"], mask=pa.array(draw(masks)))
    return made.slice(draw(st.integers(0, 1)))


def _under_nulls(array: pa.Array) -> list[Any]:
    """Return the values that lie under null structs, at any depth."""
    if pa.types.is_list(array.type):
        return _under_nulls(array.values)
    if not pa.types.is_struct(array.type):
        return []
    nulls = array.is_null()
    fields = [array.field(i) for i in range(array.type.num_fields)]
    return [v for f in fields for v in (*f.filter(nulls).to_pylist(), *_under_nulls(f))]


@given(structs())
def test_nothing_lies_under_null_structs_and_rows_stay(array: pa.Array) -> None:
    given_batch = pa.record_batch({"s": array})
    batch = with_null_fields(given_batch)
    assert batch.equals(given_batch)
    batch.validate(full=True)
    assert set(_under_nulls(batch["s"])) <= {None}


def test_sql_in_one_task_finds_null_in_null_structs() -> None:
    """Substrait carries no recursive query, so that it runs as SQL, which no rewriting of plans reaches."""
    void = pa.StructArray.from_arrays([pa.array([1, 2])], names=["a"], mask=pa.array([False, True]))
    query = """
        WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 2)
        SELECT n, k, s['a'] AS a FROM r, t ORDER BY n, k
    """
    with mf.Session(workers=1) as session:
        rows = session.sql(query, t=pa.table({"k": [1, 2], "s": void})).to_arrow()
    assert rows["a"].to_pylist() == [1, None, 1, None]

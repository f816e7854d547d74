"""Tables in memory live as long as a plan reads them, and no longer."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from datafusion import functions as F  # noqa: N812
from datafusion.expr import Window, WindowFrame

import mmflow as mf
from mmflow.plan import catalog


def _table() -> tuple[pa.Table, weakref.ref[np.ndarray]]:
    """Return a table without a copy of its numbers, and a reference to them."""
    numbers = np.arange(1000.0)
    return pa.table({"x": numbers}), weakref.ref(numbers)


def _identity(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def _ranged(dataset: mf.Dataset) -> mf.Dataset:
    """Return an expression that Substrait can't carry, so that DataFusion writes it as SQL."""
    window = Window(order_by=["x"], window_frame=WindowFrame("range", 1.0, 0.0))
    return dataset._new(dataset.frame.select(F.count(F.col("x")).over(window).alias("s")))


#: Datasets over a table `t` in memory, each in another place of plans.
MADE: dict[str, Callable[[mf.Session, pa.Table], mf.Dataset]] = {
    "keyword": lambda s, t: s.sql("SELECT count(*) AS n FROM df", df=t),
    "variable": lambda s, t: s.sql("SELECT count(*) AS n FROM t"),
    "subquery": lambda s, t: s.sql("SELECT count(*) AS n FROM t WHERE x >= (SELECT min(x) FROM t)"),
    "one task": lambda s, t: s.sql("SELECT count(*) AS n FROM t, range(1)"),
    "part of a query": lambda s, t: s.sql("SELECT count(*) AS n FROM q", q=s.sql("SELECT * FROM t")),
    "function": lambda s, t: s.from_arrow(t).map_batches(_identity, schema=t.schema).agg(n=mf.len()),
    "expressions in one task": lambda s, t: _ranged(s.from_arrow(t)).agg(n=mf.len()),
    "other session": lambda s, t: mf.Session().from_arrow(t).union(s.from_arrow(t)).unique().agg(n=mf.len()),
    "join": lambda s, t: s.from_arrow(t).join(mf.Session().from_arrow(t), "x").agg(n=mf.len()),
}


@pytest.mark.parametrize("place", MADE)
def test_tables_in_memory_live_as_long_as_a_plan_reads_them(place: str) -> None:
    session = mf.Session()
    gc.collect()  # of leaves of other tests
    before = len(catalog._leaves)
    table, numbers = _table()
    dataset = MADE[place](session, table)
    del table
    gc.collect()
    assert numbers() is not None
    assert dataset.to_dicts() == [{"n": 1000}]
    assert dataset.to_dicts() == [{"n": 1000}]
    assert "table" in dataset.explain()
    del dataset
    gc.collect()
    assert numbers() is None
    assert len(catalog._leaves) == before


def test_a_table_outlives_datasets_that_others_were_made_of() -> None:
    session = mf.Session()
    table, numbers = _table()
    first = session.from_arrow(table)
    kept = session.sql("SELECT sum(x) AS s FROM first", first=first.filter(mf.col("x") > 0))
    del table, first, session
    gc.collect()
    assert numbers() is not None
    assert kept.to_dicts() == [{"s": 499500.0}]


def test_a_loop_of_queries_keeps_no_table() -> None:
    session, alive = mf.Session(), []
    for _ in range(5):
        table, numbers = _table()
        alive.append(numbers)
        rows = session.sql("SELECT count(*) AS n FROM table_", table_=table).to_dicts()
        assert rows == [{"n": 1000}]
    del table
    gc.collect()
    assert [n() is None for n in alive] == [True] * 5


def test_locals_of_the_caller_stay_what_they_are() -> None:
    session, table = mf.Session(), _table()[0]
    own = locals()
    assert session.sql('SELECT count(*) AS n FROM "table"').to_dicts() == [{"n": 1000}]
    assert own["table"] is table
    assert set(locals()) >= {"session", "table", "own"}


@pytest.mark.parametrize(
    "kind",
    [
        *(
            pa.bool_(),
            pa.int8(),
            pa.uint64(),
            pa.decimal128(20, 2),
            pa.decimal256(50, 1),
            pa.string(),
            pa.binary(),
        ),
        *(
            pa.timestamp("us", "UTC"),
            pa.list_(pa.string()),
            pa.list_(pa.int8(), 2),
        ),
        *(
            pa.struct([("a", pa.string())]),
            pa.map_(pa.string(), pa.int64()),
            pa.binary(3),
            pa.list_(pa.null()),
        ),
    ],
    ids=str,
)
def test_tables_of_every_type_live_while_they_are_read(kind: pa.DataType) -> None:
    before = len(catalog._leaves)
    dataset = mf.Session().from_arrow(pa.table({"c": pa.nulls(3, kind)}))
    assert len(catalog._leaves) == before + 1
    gc.collect()
    assert dataset.filter(mf.col("c").is_null()).agg(n=mf.len()).to_dicts() == [{"n": 3}]
    del dataset
    gc.collect()
    assert len(catalog._leaves) == before

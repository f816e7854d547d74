"""An aggregation that ends a scan."""

from __future__ import annotations

import pyarrow as pa

from mmflow.formats import NativeEnd
from mmflow.plan.native_aggregate import AggregateStep, Measure, distinct_states, result_type, state_type
from mmflow.worker.aggregation import Aggregator

__all__ = ["SCHEMA", "end_of", "step_of"]

SCHEMA = pa.schema([("k", pa.string_view()), ("x", pa.float64()), ("n", pa.int64())])
STATES = [Measure("sum", 1), Measure("count"), Measure("max", 2), Measure("min", 0)]


def step_of() -> AggregateStep:
    """Return an aggregation of rows of `SCHEMA`, by text."""
    kinds = SCHEMA.types
    kind = {m: None if m.column is None else kinds[m.column] for m in STATES}
    states = [
        pa.field(f"s{n}", state_type(m.function, kind[m]))
        for n, m in enumerate(distinct_states(tuple(STATES)))
    ]
    results = [pa.field(f"r{n}", result_type(m.function, kind[m])) for n, m in enumerate(STATES)]
    keys = [pa.field("k", kinds[0])]
    return AggregateStep(
        (0,), tuple(STATES), "final", SCHEMA, pa.schema([*keys, *states]), pa.schema([*keys, *results])
    )


def end_of(schema: pa.Schema, aggregator: Aggregator, batch_bytes: int) -> NativeEnd:
    """Return the end of a scan that an aggregator takes rows at, which have the types of `SCHEMA`."""
    empty = pa.RecordBatch.from_arrays([pa.nulls(0, t) for t in schema.types], schema=schema)
    return NativeEnd(schema, None, 1 << 30, batch_bytes, empty, aggregator.kernel)

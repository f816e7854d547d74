"""Window functions of the kernel over the rows of a task."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.compact import cast_batch, without_views
from mmflow.plan.stages import SortKey, WindowCall, WindowStep
from mmflow.plan.window_functions import FUNCTIONS, RANKS, SHARES
from mmflow.worker.partition import choose_part
from mmflow.worker.row_order import order_bytes, row_order

__all__ = ["add_windows"]

#: Parts of the rows, by the keys of their partitions, that are computed one after the other where memory is small.
_MOST_PARTS = 64

_Batches = Sequence[pa.RecordBatch]


def add_windows(
    step: WindowStep, rows: _Batches, memory: int, fall_back: Callable[[_Batches], Iterator[pa.RecordBatch]]
) -> Iterator[pa.RecordBatch]:
    """Yield rows with the results of window functions, in their order where all fit into memory.

    Args:
        step: Functions and their columns.
        rows: All rows of the task, of the step's types by position.
        memory: Bytes that may be used beside the rows.
        fall_back: Computes the same for rows that need more: one partition can't be divided.
    """
    rows = [cast_batch(batch, step.rows) for batch in rows if batch.num_rows]
    needed = _needed(step, rows)
    if needed <= memory:
        yield from _computed(step, rows)
    elif not step.partition:
        yield from fall_back(rows)
    else:
        parts = min(_MOST_PARTS, 1 << max(0, -(-needed // memory) - 1).bit_length())
        for part in range(parts):
            chosen = list(choose_part(rows, step.partition, part, parts, 0))
            if _needed(step, chosen) <= memory:
                yield from _computed(step, chosen)
            else:
                yield from fall_back(chosen)


def _needed(step: WindowStep, rows: _Batches) -> int:
    values = [c.column for c in step.calls if c.column is not None]
    taken = sum(int(batch.column(column).nbytes) for batch in rows for column in values)
    results: int = 8 * len(step.calls) * sum(batch.num_rows for batch in rows)
    return order_bytes(rows, len(step.partition) + len(step.order)) + taken + results


def _computed(step: WindowStep, rows: _Batches) -> Iterator[pa.RecordBatch]:
    if not rows:
        return
    keys = [*map(SortKey, step.partition), *step.order]
    order = row_order(rows, keys)
    found = [np.empty(order.rows(), _result(call)) for call in step.calls]
    order.windows(
        len(step.partition),
        len(keys),
        [
            (FUNCTIONS.index(c.function), c.rows, f.ctypes.data)
            for c, f in zip(step.calls, found, strict=True)
        ],
    )
    del order
    columns = [_column(call, made, rows) for call, made in zip(step.calls, found, strict=True)]
    ends = itertools.accumulate(batch.num_rows for batch in rows)
    for batch, end in zip(rows, ends, strict=True):
        added = [column.slice(end - batch.num_rows, batch.num_rows) for column in columns]
        yield from _joined([*batch.columns, *added], step.schema)


def _result(call: WindowCall) -> type[np.generic]:
    if call.function in SHARES:
        return np.float64
    return np.uint64 if call.function in RANKS else np.int64


def _column(call: WindowCall, found: np.ndarray[Any, Any], rows: _Batches) -> pa.ChunkedArray:
    """Return the results of a function, which the kernel gave as they are or as the numbers of rows that have them."""
    if call.column is None:
        return pa.chunked_array([pa.array(found)])
    # pyarrow 26 can't take from views.
    values = pa.chunked_array([without_views(batch.column(call.column)) for batch in rows])
    return values.take(pa.array(found, mask=found < 0))


def _joined(columns: list[pa.Array | pa.ChunkedArray], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for made in pa.Table.from_arrays(columns, names=schema.names).to_batches():
        yield cast_batch(made, schema)

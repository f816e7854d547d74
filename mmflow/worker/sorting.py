"""Sort of the rows of a task by the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.compact import cast_batch
from mmflow.plan.stages import SortStep
from mmflow.worker.partition import Partitions
from mmflow.worker.row_order import order_bytes, row_order

__all__ = ["sort_rows"]

#: Rows of a batch.
_ROWS = 1 << 16

_Batches = Sequence[pa.RecordBatch]


def sort_rows(
    step: SortStep, rows: _Batches, memory: int, fall_back: Callable[[_Batches], Iterator[pa.RecordBatch]]
) -> Iterator[pa.RecordBatch]:
    """Yield rows in order; equal ones stay in theirs where all fit into memory.

    Args:
        step: Keys and columns.
        rows: All rows of the task, of the step's types by position.
        memory: Bytes that may be used beside the rows.
        fall_back: Sorts rows that need more.
    """
    rows = [cast_batch(batch, step.rows) for batch in rows if batch.num_rows]
    if not rows:
        return
    copied = sum(batch.nbytes for batch in rows) if len(rows) > 1 else 0
    if order_bytes(rows, len(step.order)) + copied > memory:
        yield from fall_back(rows)
        return
    whole = rows[0] if len(rows) == 1 else pa.concat_batches(rows)  # views: their text stays where it is
    kernel = row_order([whole], step.order)
    order = np.empty(kernel.rows(), np.uint32)
    kernel.order(order.ctypes.data)
    del kernel, rows
    for begin in range(0, len(order), _ROWS):
        places = order[begin : begin + _ROWS].astype(np.int64)
        taken = Partitions(step.rows, 1)
        taken.add(whole, (places, np.array([0, len(places)])))
        for _, batches in taken.take():
            for batch in batches:
                yield cast_batch(batch, step.schema)

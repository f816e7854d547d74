"""Orders of the rows of a task by the kernel (`kernels/sort/row_order.h`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mmflow.kernels import kernels
from mmflow.plan.stages import SortKey

__all__ = ["order_bytes", "row_order"]

#: Bytes for each row: its number, twice while it is sorted, with a word, and whether a partition or peers begin there.
_ROW_BYTES = 18
_KEY_BYTES = 16


def order_bytes(rows: Sequence[pa.RecordBatch], keys: int) -> int:
    """Return the bytes that an order of rows by so many keys takes, beside the rows."""
    count: int = sum(batch.num_rows for batch in rows)
    return count * (_ROW_BYTES + _KEY_BYTES * keys)


def row_order(rows: Sequence[pa.RecordBatch], keys: Sequence[SortKey]) -> Any:
    """Return the kernel's `RowOrder` of one batch or more by their columns `keys`."""
    schema = pa.schema([rows[0].schema.field(key.column) for key in keys])
    given = [
        pa.RecordBatch.from_arrays([batch.column(key.column) for key in keys], schema=schema)
        for batch in rows
    ]
    directions = [(key.descending, key.nulls_first) for key in keys]
    arrays = [batch.__arrow_c_array__()[1] for batch in given]
    return kernels().RowOrder(schema.__arrow_c_schema__(), arrays, directions)

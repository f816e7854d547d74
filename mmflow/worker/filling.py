"""Functions over all batches of a task that fill nulls in the order of the rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.fixed_width import null_places
from mmflow.plan.functions.filling import filled

__all__ = ["fill_backward", "fill_forward"]

_Batches = Iterator[pa.RecordBatch]


def fill_forward(limit: int | None, batches: _Batches, first: int) -> _Batches:
    """Fill nulls by the last value before them, at most `limit` in a row."""
    del first
    before: list[pa.Array] = []
    for batch in batches:
        columns = []
        before = before or [column.slice(0, 0) for column in batch.columns]
        for number, column in enumerate(batch.columns):
            both = pa.concat_arrays([before[number], column])
            columns.append(filled(both, limit).slice(len(before[number])))
            before[number] = _last_value(both, limit)
        yield pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _last_value(column: pa.Array, limit: int | None) -> pa.Array:
    """Return the last value and, where there is a limit, the nulls behind it; nothing where it fills no further."""
    known = np.flatnonzero(~null_places(column))
    if not len(known):
        return column.slice(0, 0)
    behind = len(column) - int(known[-1]) - 1
    if limit is None:
        return column.slice(int(known[-1]), 1)
    return column.slice(int(known[-1])) if behind < limit else column.slice(0, 0)


def fill_backward(limit: int | None, batches: _Batches, first: int) -> _Batches:
    """Fill nulls by the next value behind them, at most `limit` in a row. Rows wait for the value of each column."""
    del first
    waiting: list[pa.RecordBatch] = []
    known: list[bool] = []
    for batch in batches:
        waiting.append(batch)
        valid = [c.null_count < len(c) for c in batch.columns]
        known = [a or b for a, b in zip(known, valid, strict=True)] if known else valid
        if all(known):
            rows = _joined(waiting)
            ready = min((_behind_last(c) for c in rows.columns), default=rows.num_rows)
            yield _filled_backward(rows, limit).slice(0, ready)
            rest = rows.slice(ready)
            waiting, known = [rest], [c.null_count < len(c) for c in rest.columns]
    if waiting:
        yield _filled_backward(_joined(waiting), limit)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    columns = [pa.concat_arrays(parts) for parts in zip(*(b.columns for b in batches), strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=batches[0].schema)


def _behind_last(column: pa.Array) -> int:
    known = np.flatnonzero(~null_places(column))
    return int(known[-1]) + 1 if len(known) else 0


def _filled_backward(rows: pa.RecordBatch, limit: int | None) -> pa.RecordBatch:
    backwards = pa.array(np.arange(rows.num_rows - 1, -1, -1))
    columns = [filled(c.take(backwards), limit).take(backwards) for c in rows.columns]
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)

"""Functions over all batches of a task (`plan.stages.StreamStep`): row numbers, last rows, lists and columns to rows.

Each is called with batches, and the number of the task's first row; the arguments before are bound by the planner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from mmflow.errors import PlanError
from mmflow.formats.decoding.fixed_width import null_places, numpy_values
from mmflow.lazy import array_types as npt
from mmflow.lazy import compute as pc
from mmflow.worker.scan import place_of

__all__ = [
    "append_nulls",
    "append_numbers",
    "append_places",
    "describe_columns",
    "explode_lists",
    "index_rows",
    "keep_last",
    "unpivot_columns",
]

_Batches = Iterator[pa.RecordBatch]
_I64 = npt.NDArray[np.int64]
#: Rows that a batch of exploded lists has at most, unless one list is longer.
_ROWS = 1 << 16


def append_numbers(name: str, batches: _Batches, first: int) -> _Batches:
    """Append the numbers of the rows, which grow in their order."""
    for batch in batches:
        yield batch.append_column(name, pa.array(np.arange(first, first + batch.num_rows)))
        first += batch.num_rows


def append_nulls(fields: Sequence[pa.Field], batches: _Batches, first: int) -> _Batches:
    """Append columns of nulls."""
    del first
    for batch in batches:
        for field in fields:
            batch = batch.append_column(field, pa.nulls(batch.num_rows, field.type))
        yield batch


def append_places(name: str, batches: _Batches, first: int) -> _Batches:
    """Append a place for each row, made of its number, that samples pick by."""
    for batch in append_numbers(name, batches, first):
        places = pa.array(place_of("", batch.column(name)))
        yield batch.set_column(batch.num_columns - 1, name, places)


def index_rows(name: str, offset: int, batches: _Batches, first: int) -> _Batches:
    """Put the index of each row first, counted from `offset`: of the rows of one task that has them all."""
    del first
    for batch in batches:
        yield batch.add_column(0, name, pa.array(np.arange(offset, offset + batch.num_rows)))
        offset += batch.num_rows


def keep_last(count: int, less: int, batches: _Batches, first: int) -> _Batches:
    """Keep the last rows, but for the very last `less` of them."""
    del first
    kept: deque[pa.RecordBatch] = deque()
    rows = 0
    for batch in batches:
        kept.append(batch)
        rows += batch.num_rows
        while kept and rows - kept[0].num_rows >= count:
            rows -= kept.popleft().num_rows
    if kept and rows > count:
        kept[0] = kept[0].slice(rows - count)
        rows = count
    for batch in kept:
        yield batch.slice(0, max(0, rows - less))
        rows -= batch.num_rows


def explode_lists(
    columns: Sequence[str], empty_as_null: bool, keep_nulls: bool, batches: _Batches, first: int
) -> _Batches:
    """Make a row of each value of lists; of an empty list, or of a null, one row with null, or none."""
    del first
    for batch in batches:
        lengths = [_lengths(batch, c) for c in columns]
        for name, other in zip(columns[1:], lengths[1:], strict=True):
            if not np.array_equal(lengths[0], other):
                row = int(np.flatnonzero(lengths[0] != other)[0])
                raise PlanError(
                    f"explode: the lists of a row have {lengths[0][row]:,} values in {columns[0]!r} and "
                    f"{other[row]:,} in {name!r}; explode columns of different lengths one after the other"
                )
        made = lengths[0].copy()
        for column in map(batch.column, columns):
            missing = null_places(column)
            made[(lengths[0] == 0) & np.where(missing, keep_nulls, empty_as_null)] = 1
        ends = np.cumsum(made)
        begin = 0
        while begin < batch.num_rows:
            before = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, before + _ROWS, "right")))
            yield _exploded(batch.slice(begin, end - begin), columns, lengths[0][begin:end], made[begin:end])
            begin = end


def _lengths(batch: pa.RecordBatch, name: str) -> _I64:
    counted = pc.fill_null(pc.list_value_length(batch.column(name)), 0)
    return numpy_values(counted.cast(pa.int64()))


def _exploded(batch: pa.RecordBatch, columns: Sequence[str], lengths: _I64, made: _I64) -> pa.RecordBatch:
    """Make `made` rows of each row, whose lists have `lengths` values."""
    rows = pa.array(np.repeat(np.arange(batch.num_rows), made))
    arrays = []
    for name in batch.schema.names:
        array = batch.column(name)
        if name not in columns:
            arrays.append(array.take(rows))
            continue
        starts = _starts(array)
        if np.array_equal(made, lengths) and np.array_equal(np.diff(starts), lengths):
            arrays.append(
                array.values.slice(starts[0], len(rows))
            )  # one behind the other, as they mostly are
            continue
        within = np.arange(len(rows)) - np.repeat(np.cumsum(made) - made, made)
        missing = np.repeat(lengths == 0, made)
        picked = np.where(missing, 0, np.repeat(starts[:-1], made) + within)
        arrays.append(array.values.take(pa.array(picked, mask=missing)))
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _starts(lists: pa.Array) -> _I64:
    """Return where each list begins in `lists.values`, and where the last one ends, shape (rows + 1,)."""
    if pa.types.is_fixed_size_list(lists.type):
        starts: _I64 = (np.arange(len(lists) + 1) + lists.offset) * lists.type.list_size
        return starts
    return numpy_values(lists.offsets.cast(pa.int64()))


def unpivot_columns(index: int, variable: str, value: str, batches: _Batches, first: int) -> _Batches:
    """Make a row of each value of the columns behind the first `index` ones, which are repeated."""
    del first
    for batch in batches:
        names = batch.schema.names
        for number in range(index, batch.num_columns):
            variables = pa.repeat(pa.scalar(names[number], pa.string()), batch.num_rows)
            arrays = [*batch.columns[:index], variables, batch.column(number)]
            yield pa.RecordBatch.from_arrays(arrays, names=[*names[:index], variable, value])


def describe_columns(
    names: Sequence[str],
    cells: Sequence[Sequence[int | None]],
    schema: pa.Schema,
    batches: _Batches,
    first: int,
) -> _Batches:
    """Make a row of each statistic of the one row of aggregates.

    Args:
        names: Names of the statistics.
        cells: For each column of the result but the first, the columns of its statistics.
        schema: Schema of the result.
    """
    del first
    for batch in batches:
        for row in batch.to_pylist():
            values = list(row.values())
            columns = [pa.array(names, pa.string())]
            for field, numbers in zip(list(schema)[1:], cells, strict=True):
                made = str if field.type == pa.string() else float
                found = [None if n is None or values[n] is None else made(values[n]) for n in numbers]
                columns.append(pa.array(found, field.type))
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

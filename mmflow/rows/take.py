"""Rows by number: `Dataset.take`, `ds[i]`, `ds[a:b]`.

Invariant: row `i` is row `i` of `to_arrow()`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.config import Settings
from mmflow.errors import ConfigError, EngineError, OutOfRangeError
from mmflow.lazy import array_types as npt
from mmflow.rows.base import ALL_ROWS
from mmflow.rows.row_numbers import parse_row_numbers, reorder
from mmflow.rows.selection import Selection
from mmflow.rows.source import SourceRows, read_rows, require_random_access
from mmflow.rows.tail import last_rows

__all__ = ["slice_rows", "take_rows"]

I64 = npt.NDArray[np.int64]

#: Limit of rows that are read from the end, without counting those before them.
_FROM_END = 1 << 16


def take_rows(selection: Selection, indices: Any, settings: Settings) -> pa.Table:
    """Return the rows with these numbers, in this order.

    Args:
        selection: Columns and files to read.
        indices: Integers: a sequence, a range, a NumPy or Arrow array. Negative ones count from the end.
        settings: Settings, of which `workers`, `shard_size` and `io` are used.

    Raises:
        OutOfRangeError: There is no such row; nothing is read then.
        ConfigError: They are not integers.
        PlanError: The files have no random access.
        BadRecordError: A requested row is a bad record, or one before it has no known end.
        SourceError: A file can't be read.
        SourceChangedError: It changed meanwhile.
    """
    numbers = parse_row_numbers(indices)
    if not len(numbers.every):
        return selection.table([])
    low, high = int(numbers.every[0]), int(numbers.every[-1])
    if high < 0 and -low <= _FROM_END:
        found = _last(selection, -low, settings)
        if found is not None:
            if len(found) < -low:
                raise _out_of_range(selection, low, len(found))
            return found.take(pa.array(numbers.requested + len(found)))
    upto = ALL_ROWS if low < 0 else high + 1

    def read(rows: SourceRows) -> pa.Table:
        total = rows.count(upto)
        if low < -total or high >= total:
            raise _out_of_range(selection, high if high >= total else low, total)
        wanted = numbers
        if low < 0:
            wanted = parse_row_numbers(
                np.where(numbers.requested < 0, numbers.requested + total, numbers.requested)
            )
        return _reorder(selection.table(rows.read(wanted.every)), wanted.order)

    return read_rows(selection, settings, read)


def slice_rows(
    selection: Selection, start: int | None, stop: int | None, settings: Settings, step: int = 1
) -> pa.Table:
    """Return rows as a Python slice: ends outside are clipped. Raises the errors of `take_rows`."""
    if step == 0:
        raise ConfigError("a slice's step can't be 0")
    if start is not None and start < 0 and stop is None and step == 1 and -start <= _FROM_END:
        found = _last(selection, -start, settings)
        if found is not None:
            return found
    upto = stop if step > 0 and stop is not None and stop >= 0 and (start is None or start >= 0) else ALL_ROWS

    def read(rows: SourceRows) -> pa.Table:
        wanted = range(rows.count(upto))[slice(start, stop, step)]
        numbers = np.arange(wanted.start, wanted.stop, wanted.step, dtype=np.int64)
        if step > 0:
            return selection.table(rows.read(numbers))
        return _reorder(selection.table(rows.read(numbers[::-1])), np.arange(len(numbers))[::-1])

    return read_rows(selection, settings, read)


def _out_of_range(selection: Selection, number: int, total: int) -> OutOfRangeError:
    return OutOfRangeError(
        f"{selection.source.label} has {total:,} rows, so there is no row {number:,}; "
        f"rows are numbered from 0, and from the end from -1",
        number=number,
        rows=total,
    )


def _last(selection: Selection, count: int, settings: Settings) -> pa.Table | None:
    """Return the last rows, found from the end; None where that isn't possible."""
    require_random_access(selection, settings.remote_options)
    batches = last_rows(selection, count, settings.io, settings.remote_options)
    return None if batches is None else selection.table(batches)


def _reorder(table: pa.Table, order: I64 | None) -> pa.Table:
    try:
        return table if order is None else reorder(table, order)
    except pa.ArrowInvalid as error:
        raise EngineError(f"the rows are too large for one table ({error}); ask for them in parts") from error

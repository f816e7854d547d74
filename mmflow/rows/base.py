"""Rows of one file by number: code that all formats share.

Invariant: row numbers are those of reading the whole file, whatever bytes are read for them. Results of jobs hold no
reference to the mapped file, and have public types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from mmflow.errors import plain_text
from mmflow.formats import VIRTUAL_COLUMNS
from mmflow.formats.decoding.compact import without_views
from mmflow.formats.row_groups import make_batch
from mmflow.formats.schemas.schema import public_type
from mmflow.lazy import array_types as npt

__all__ = [
    "ALL_ROWS",
    "BadRecordFoundError",
    "FileRows",
    "Job",
    "StaleIndexError",
    "add_virtual_columns",
    "take_values",
]

I64 = npt.NDArray[np.int64]
Job = Callable[[], list[pa.RecordBatch]]

#: More rows than any file has.
ALL_ROWS = 1 << 62


class StaleIndexError(Exception):
    """Mismatch of a record index and its file; never seen by users."""


class BadRecordFoundError(Exception):
    """Bad record, perhaps in a row that was not requested; never seen by users."""


class FileRows(Protocol):
    """Rows of one open file."""

    def count(self, upto: int) -> int:
        """Return the number of rows; where that needs a scan, at least `upto` if there are as many."""
        ...

    def jobs(self, numbers: I64) -> Iterator[Job]:
        """Yield jobs that read these existing rows (ascending, distinct): batches of the requested columns, in
        order.
        """
        ...


def take_values(array: pa.Array, positions: I64) -> pa.Array:
    """Return the values at ascending, distinct positions, as a public type, in buffers of their own."""
    if len(positions) and positions[-1] - positions[0] + 1 == len(positions):
        part = without_views(array.slice(int(positions[0]), len(positions)))
        return part.cast(public_type(part.type)) if len(positions) == len(array) else _copy_slice(part)
    return without_views(array).take(pa.array(positions))


def _copy_slice(array: pa.Array) -> pa.Array:
    """Return a copy of a slice that doesn't keep its parent's buffers alive."""
    return pa.concat_arrays([array, array.slice(0, 0)])


def add_virtual_columns(
    columns: Sequence[str], read: pa.RecordBatch, path: str, offsets: I64, lines: I64 | None
) -> pa.RecordBatch:
    """Return the requested columns in order, virtual ones among them.

    Args:
        columns: Names of the requested columns.
        read: Columns of the file.
        path: Path of the file.
        offsets: Offset of each row's record in the file in bytes, shape (rows,).
        lines: Physical line of each, from 1, shape (rows,); None: not requested.
    """
    arrays = []
    for name in columns:
        if name in read.schema.names or name not in VIRTUAL_COLUMNS:
            arrays.append(read.column(name))
        elif name == "_file":
            arrays.append(pa.repeat(pa.scalar(plain_text(path), pa.string()), len(offsets)))
        elif name == "_offset":
            arrays.append(pa.array(offsets))
        else:
            arrays.append(pa.array(lines))
    return make_batch(arrays, columns, len(offsets))

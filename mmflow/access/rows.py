"""Rows of one file by number: what formats have in common.

Invariant: row numbers are those of reading the file as a whole, whatever bytes are read for them. What leaves a job is
cut loose from the file, and has public types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmflow.errors import plain_text
from mmflow.exec.compact import owned
from mmflow.formats import VIRTUAL_COLUMNS
from mmflow.formats.groups import batch_of
from mmflow.formats.schema import public_type

__all__ = ["EVERY", "FileRows", "Job", "MetError", "StaleIndexError", "chosen", "with_virtual"]

I64 = npt.NDArray[np.int64]
Job = Callable[[], list[pa.RecordBatch]]

#: More rows than any file has.
EVERY = 1 << 62


class StaleIndexError(Exception):
    """A record index does not fit its file; never seen by users."""


class MetError(Exception):
    """A bad record was met, perhaps one that nobody asked for; never seen by users."""


class FileRows(Protocol):
    """The rows of one open file."""

    def count(self, upto: int) -> int:
        """How many rows there are; where that costs a search, `upto` is enough."""
        ...

    def jobs(self, numbers: I64) -> Iterator[Job]:
        """What reads these rows, which exist: ascending, distinct. Batches of the wanted columns, in order."""
        ...


def chosen(array: pa.Array, places: I64) -> pa.Array:
    """The values at ascending, distinct places, as a public type, in buffers of their own."""
    if len(places) and places[-1] - places[0] + 1 == len(places):
        part = owned(array.slice(int(places[0]), len(places)))
        return part.cast(public_type(part.type)) if len(places) == len(array) else _copied(part)
    return owned(array).take(pa.array(places))


def _copied(array: pa.Array) -> pa.Array:
    """A slice without what it was cut from."""
    return pa.concat_arrays([array, array.slice(0, 0)])


def with_virtual(
    columns: Sequence[str], read: pa.RecordBatch, path: str, offsets: I64, lines: I64 | None
) -> pa.RecordBatch:
    """The wanted columns in order, virtual ones among them.

    Args:
        columns: Their names.
        read: Those of the file.
        path: Of the file.
        offsets: Of each row's record in the file, shape (rows,).
        lines: Physical line of each, from 1, shape (rows,); None: nobody wants them.
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
    return batch_of(arrays, columns, len(offsets))

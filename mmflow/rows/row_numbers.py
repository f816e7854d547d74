"""Row numbers as users pass them, and tables in the requested order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.errors import ConfigError, OutOfRangeError
from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass

__all__ = ["RowNumbers", "parse_row_numbers", "reorder", "row_number"]

I64 = npt.NDArray[np.int64]

#: Text and binary of more bytes get 64-bit offsets before chunks are combined.
_LARGE = 1 << 30


@dataclass(frozen=True, slots=True)
class RowNumbers:
    """Row numbers.

    Attributes:
        requested: Row numbers as the user passed them, shape (n,).
        every: Distinct numbers, ascending.
        order: Position of each of `requested` in `every`; None: they are the same.
    """

    requested: I64
    every: I64
    order: I64 | None


def row_number(value: Any, what: str) -> int:
    """Return a value as a row number.

    Raises:
        ConfigError: It is not an integer.
    """
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        column = f"; select({value!r}) has the column" if isinstance(value, str) else ""
        raise ConfigError(f"{what}: {value!r} is not the number of a row; numbers are integers{column}")
    return int(value.__index__())


def parse_row_numbers(indices: Any) -> RowNumbers:
    """Parse the row numbers to look up.

    Raises:
        ConfigError: They are not integers.
        OutOfRangeError: No file has so many rows.

    >>> parse_row_numbers([7, 5, 7]).every.tolist(), parse_row_numbers([7, 5, 7]).order.tolist()
    ([5, 7], [1, 0, 1])
    """
    if isinstance(indices, pa.Array | pa.ChunkedArray):
        if indices.null_count:
            raise ConfigError("take: a row number is null")
        if len(indices) and pa.types.is_primitive(indices.type):
            chunks = indices.chunks if isinstance(indices, pa.ChunkedArray) else [indices]
            indices = np.concatenate([numpy_values(c) for c in chunks])
        else:
            indices = indices.to_pylist()
    if isinstance(indices, str | bytes | dict | int):
        raise ConfigError(f"take: {indices!r} is not a list of row numbers; write [5, 17]")
    if isinstance(indices, range):
        given = np.arange(indices.start, indices.stop, indices.step)
    else:
        given = np.asarray(indices if hasattr(indices, "__array__") else list(indices))
    if given.ndim != 1:
        raise ConfigError(f"take: row numbers have one dimension, not the shape {given.shape}")
    if not len(given):
        none = np.empty(0, np.int64)
        return RowNumbers(none, none, None)
    if given.dtype.kind not in "iu":
        wrong = [v for v in given.tolist() if isinstance(v, bool) or not isinstance(v, int)]
        if wrong:
            raise ConfigError(f"take: {wrong[0]!r} is not the number of a row; numbers are integers")
        largest = max(given.tolist(), key=abs)  # Python's integers, too large for any array
        raise OutOfRangeError(f"there is no row {largest:,}: no file has so many")
    if given.dtype.kind == "u" and int(given.max()) > np.iinfo(np.int64).max:
        raise OutOfRangeError(f"there is no row {int(given.max()):,}: no file has so many")
    requested = given.astype(np.int64)
    if (requested[1:] > requested[:-1]).all():
        return RowNumbers(requested, requested, None)
    every, order = np.unique(requested, return_inverse=True)
    return RowNumbers(requested, every, order)


def reorder(table: pa.Table, order: I64) -> pa.Table:
    """Return the rows of a table in the order of `order`, which may repeat rows.

    Raises:
        pa.ArrowInvalid: A nested column is too large to be combined.
    """
    large = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
    wide = [
        pa.field(f.name, large.get(f.type, f.type) if column.nbytes > _LARGE else f.type)
        for f, column in zip(table.schema, table.columns, strict=True)
    ]
    indices = pa.array(order)
    if all(f.type == g.type for f, g in zip(wide, table.schema, strict=True)):
        return _take(table, indices)
    rows = max(1, len(table) * _LARGE // max(table.nbytes, 1))
    widened = table.cast(pa.schema(wide)).combine_chunks()
    parts = [_take(widened, indices.slice(i, rows)).cast(table.schema) for i in range(0, len(order), rows)]
    return pa.concat_tables(parts)


def _take(table: pa.Table, indices: pa.Array) -> pa.Table:
    return table.combine_chunks().take(indices)

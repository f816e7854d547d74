"""Arrow's values of fixed width as numpy has them, without pyarrow's own conversion.

pyarrow 26 imports pandas, where that is installed, in `to_numpy`, `np.asarray(array)`, and wherever it infers the type
of Python values (`pa.array([1])`, `pa.scalar("a")`, compute functions that are given such): 0.7 s. So values leave by
this module, and come in with their types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.lazy import array_types as npt

__all__ = ["null_places", "numpy_column", "numpy_values"]


def numpy_values(array: pa.Array) -> npt.NDArray[Any]:
    """Return the values of an array, shape (len(array),): numbers, booleans, or moments as datetime64 and timedelta64.

    What stands in the place of nulls is undefined. No copy, but of booleans; times are integers of their unit.
    """
    kind = array.type
    data = array.buffers()[1]
    if data is None:
        return np.zeros(len(array), _numpy_type(kind))
    if pa.types.is_boolean(kind):
        return _bits(data, array.offset, len(array))
    values = np.frombuffer(data, _numpy_type(kind), count=array.offset + len(array))
    return values[array.offset :]


def null_places(array: pa.Array) -> npt.NDArray[np.bool_]:
    """Return for each value whether it is null, shape (len(array),)."""
    if not array.null_count:
        return np.zeros(len(array), np.bool_)
    return numpy_values(array.is_null())


def numpy_column(chunks: Sequence[pa.Array], kind: pa.DataType) -> npt.NDArray[Any]:
    """Return the values of a column, shape (rows,). Nulls are NaN, which makes integers floats, NaT, or None.

    What is no number, truth value or moment is a Python object.
    """
    types, rows, nulls = pa.types, sum(map(len, chunks)), sum(c.null_count for c in chunks)
    number = types.is_integer(kind) or types.is_floating(kind)
    moment = types.is_timestamp(kind) or types.is_duration(kind)
    if not (number or moment or (types.is_boolean(kind) and not nulls)):
        made = np.empty(rows, object)
        made[:] = [value for chunk in chunks for value in chunk.to_pylist()]
        return made
    values = np.concatenate([numpy_values(c) for c in chunks] or [np.empty(0, _numpy_type(kind))])
    if nulls:
        values = values.astype(np.float64) if types.is_integer(kind) else values
        values[np.concatenate([null_places(c) for c in chunks])] = "NaT" if moment else np.nan
    return values


def _bits(data: pa.Buffer, offset: int, count: int) -> npt.NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=offset + count, bitorder="little")
    return bits[offset:].view(np.bool_)


def _numpy_type(kind: pa.DataType) -> np.dtype[Any]:
    types = pa.types
    if types.is_timestamp(kind):
        return np.dtype(f"M8[{kind.unit}]")
    if types.is_duration(kind):
        return np.dtype(f"m8[{kind.unit}]")
    if types.is_date32(kind) or types.is_time32(kind):
        return np.dtype(np.int32)
    if types.is_date64(kind):
        return np.dtype("M8[ms]")
    if types.is_time64(kind):
        return np.dtype(np.int64)
    plain: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())  # needs no pandas, whatever its name
    return plain

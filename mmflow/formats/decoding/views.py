"""String views over mapped bytes, made with numpy: the 16-byte structs of Arrow's view layout.

length <= 12:  | length (4) | bytes, zero padded (12)                       |
length >  12:  | length (4) | first 4 bytes | buffer number (4) | offset (4) |
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.compact import has_views, without_views
from mmflow.formats.schemas.arrow_types import convert_array
from mmflow.lazy import array_types as npt

__all__ = ["set_nulls", "take_rows", "views_over"]

_INLINE = 12


def views_over(
    data: pa.Buffer, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], kind: pa.DataType
) -> pa.Array:
    """Return an array whose data buffer is `data` itself.

    Args:
        data: Bytes of the text, at most 2 GiB.
        starts: Offset of each value, shape (n,).
        lengths: Its bytes, shape (n,).
        kind: string_view or binary_view. The bytes are not checked to be UTF-8.
    """
    count = len(starts)
    raw = np.frombuffer(data, np.uint8)
    structs = np.zeros((count, 16), np.uint8)
    words = structs.view("<u4")
    words[:, 0] = lengths
    short = lengths <= _INLINE
    for index in range(_INLINE):
        holds = np.flatnonzero(short & (lengths > index))
        if not len(holds):
            break
        structs[holds, 4 + index] = raw[starts[holds] + index]
    long = np.flatnonzero(~short)
    for index in range(4):
        structs[long, 4 + index] = raw[starts[long] + index]
    words[long, 3] = starts[long]
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(structs), data])


def set_nulls(array: pa.Array, wrong: npt.NDArray[np.bool_]) -> pa.Array:
    """Return the array, which has no nulls, with null where `wrong`, shape (n,)."""
    validity = pa.array(~wrong).buffers()[1]
    return pa.Array.from_buffers(array.type, len(array), [validity, *array.buffers()[1:]])


def take_rows(array: pa.Array, indices: pa.Array) -> pa.Array:
    """Take rows of an array, which may hold views: pyarrow 26 can't take from these."""
    if not len(array):
        return pa.nulls(len(indices), array.type)
    if pa.types.is_string_view(array.type):
        return array.cast(pa.string()).take(indices).cast(pa.string_view())
    if has_views(array.type):
        return convert_array(without_views(array).take(indices), array.type)
    return array.take(indices)

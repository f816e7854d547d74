"""String views over mapped bytes, made with numpy: the 16-byte structs of Arrow's view layout.

length <= 12:  | length (4) | bytes, zero padded (12)                       |
length >  12:  | length (4) | first 4 bytes | buffer number (4) | offset (4) |
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["views_over"]

_INLINE = 12


def views_over(
    data: pa.Buffer, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], kind: pa.DataType
) -> pa.Array:
    """An array whose data buffer is `data` itself.

    Args:
        data: At most 2 GiB.
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

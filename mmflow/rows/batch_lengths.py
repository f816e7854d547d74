"""Row counts of the batches of an Arrow IPC file, from headers alone: nothing is decompressed.

    | ARROW1 | ... batches ... | footer | its length (4 bytes) | ARROW1 |

Footer and headers are flatbuffers; the few fields needed are read here, since pyarrow has no call for them. The counts
are compared with the batches that pyarrow reads.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict

import numpy as np

from mmflow.errors import SourceError
from mmflow.lazy import array_types as npt
from mmflow.mapping import FileIdentity, MappedFile
from mmflow.mapping.ranges import read_ranges

__all__ = ["batch_rows"]

_TAIL = 10
_BLOCKS = 3  # Footer.recordBatches
_HEADER = 2  # Message.header
_LENGTH = 0  # RecordBatch.length
_CONTINUED = b"\xff\xff\xff\xff"
_BLOCK = np.dtype([("offset", "<i8"), ("metadata", "<i4"), ("padding", "<i4"), ("body", "<i8")])
_MAX_CACHED = 16

_cache: OrderedDict[tuple[str, FileIdentity], npt.NDArray[np.int64]] = OrderedDict()
_lock = threading.Lock()


def batch_rows(file: MappedFile) -> npt.NDArray[np.int64]:
    """Return the rows of each batch, shape (batches,).

    Raises:
        SourceError: The file is damaged.
    """
    key = (file.path, file.identity)
    with _lock:
        known = _cache.get(key)
        if known is not None:
            return known
    try:
        found = _read(file)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise SourceError(
            f"can't read {file.path}: it is damaged, or not an Arrow IPC file: its batches can't be counted "
            f"({error}); restore it or write it again",
            path=file.path,
        ) from error
    with _lock:
        _cache[key] = found
        while len(_cache) > _MAX_CACHED:
            _cache.popitem(last=False)
    return found


def _read(file: MappedFile) -> npt.NDArray[np.int64]:
    (length,) = struct.unpack("<i", file.window(file.size - _TAIL, 4).buffer.to_pybytes())
    if not 0 < length <= file.size - _TAIL:
        raise ValueError(f"its footer would be {length:,} bytes long")
    footer = file.window(file.size - _TAIL - length, length).buffer.to_pybytes()
    position = _field(footer, _u32(footer, 0), _BLOCKS)
    if position is None:
        return np.empty(0, np.int64)
    position += _u32(footer, position)
    blocks = np.frombuffer(footer, _BLOCK, count=_u32(footer, position), offset=position + 4)
    order = np.argsort(blocks["offset"], kind="stable")
    begins = blocks["offset"][order].astype(np.int64)
    ends = begins + blocks["metadata"][order]
    if (ends <= begins).any() or (begins < 0).any() or (ends > file.size).any():
        raise ValueError("a batch lies outside of it")
    if (begins[1:] < ends[:-1]).any():
        raise ValueError("two batches overlap")
    headers = read_ranges(file, begins, ends).to_pybytes()
    at = np.cumsum(ends - begins) - (ends - begins)
    rows = np.empty(len(blocks), np.int64)
    rows[order] = [_rows(headers, p) for p in at.tolist()]
    if (rows < 0).any():
        raise ValueError("a batch has less than no rows")
    return rows


def _rows(data: bytes, position: int) -> int:
    """Return the rows of the batch whose message begins at `position`."""
    position += 8 if data[position : position + 4] == _CONTINUED else 4  # before Arrow 0.15 just a length
    message = position + _u32(data, position)
    header = _field(data, message, _HEADER)
    if header is None:
        raise ValueError("a batch without a header")
    length = _field(data, header + _u32(data, header), _LENGTH)
    return 0 if length is None else int(struct.unpack_from("<q", data, length)[0])


def _u32(data: bytes, position: int) -> int:
    return int(struct.unpack_from("<I", data, position)[0])


def _field(data: bytes, table: int, number: int) -> int | None:
    """Return the position of a field of a flatbuffers table; None if it has its default."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    slot = 4 + 2 * number
    if slot + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", data, vtable + slot)
    return table + offset if offset else None

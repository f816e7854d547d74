"""Hash partitioning: the same partition for the same key on every machine and in every run.

Keys are hashed by value, not by layout: text hashes alike whether string or string_view, -0.0 like 0.0,
every NaN alike, null to a constant. The mixer is splitmix64's finalizer (Steele, Lea and Flood, 2014,
"Fast splittable pseudorandom number generators"). Vectorised with numpy: this is the definition, and the
fallback for types that the kernel does not know.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.compact import without_views
from mmflow.formats.decoding.fixed_width import null_places, numpy_values
from mmflow.lazy import array_types as npt

__all__ = ["hash_columns", "mix", "mixed"]

U64 = npt.NDArray[np.uint64]
_NULL = np.uint64(0x9E3779B97F4A7C15)


def mix(x: U64) -> U64:
    """Return splitmix64's finalizer of each number. Shape (rows,)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _fixed(array: pa.Array, width: int) -> U64:
    """Hash fixed-width values of 1 to 32 bytes by their bytes."""
    data = array.buffers()[1]
    rows = np.frombuffer(data, np.uint8, count=len(array) * width, offset=array.offset * width)
    words = -(-width // 8)
    padded = np.zeros((len(array), words * 8), np.uint8)
    padded[:, :width] = rows.reshape(len(array), width)
    state = np.full(len(array), np.uint64(width))
    for word in padded.view("<u8").T:
        state = mix(state ^ word)
    return state


def _numbers(array: pa.Array) -> U64:
    zero = False if pa.types.is_boolean(array.type) else 0
    values = numpy_values(array.fill_null(zero))
    if pa.types.is_boolean(array.type):
        return mix(values.astype(np.uint64))
    if pa.types.is_floating(array.type):
        doubles = values.astype(np.float64) + 0.0  # -0.0 + 0.0 is 0.0
        doubles[np.isnan(doubles)] = np.nan
        return mix(doubles.view(np.uint64))
    if values.dtype.kind in "mM":
        values = values.view(np.int64)
    # Sign-extended, so that equal integers of different widths hash alike.
    return mix(values.astype(np.int64 if values.dtype.kind == "i" else np.uint64).view(np.uint64))


def _text(array: pa.Array) -> U64:
    """Hash variable-length bytes, eight at a time, over all rows at once."""
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    offsets = np.frombuffer(array.buffers()[1], np.int64 if wide else np.int32)
    offsets = offsets[array.offset : array.offset + len(array) + 1].astype(np.int64)
    data = array.buffers()[2]
    raw = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    padded = np.concatenate([raw, np.zeros(8, np.uint8)])
    starts, lengths = offsets[:-1], np.diff(offsets)
    state = mix(lengths.astype(np.uint64))
    active = np.flatnonzero(lengths > 0)
    step = 0
    while len(active):
        positions = starts[active] + step
        left = np.minimum(lengths[active] - step, 8)
        word = np.zeros(len(active), np.uint64)
        for byte in range(8):
            used = padded[positions + np.minimum(byte, left - 1)].astype(np.uint64)
            word |= np.where(byte < left, used, np.uint64(0)) << np.uint64(8 * byte)
        state[active] = mix(state[active] ^ word)
        step += 8
        active = active[lengths[active] > step]
    return state


def _hash(array: pa.Array) -> U64:
    kind = array.type
    if pa.types.is_null(kind):
        return np.full(len(array), _NULL)
    if pa.types.is_dictionary(kind):
        return _hash(array.cast(kind.value_type))
    array = without_views(array)
    kind = array.type
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    if any(test(kind) for test in text):
        hashed = _text(array)
    elif pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        hashed = _fixed(array, kind.bit_width // 8 if pa.types.is_decimal(kind) else kind.byte_width)
    elif pa.types.is_nested(kind):
        # Rare as keys: hash a canonical text of each value.
        hashed = _text(pa.array([repr(v) for v in array.to_pylist()], pa.string()))
    elif pa.types.is_date32(kind) or pa.types.is_time32(kind):
        hashed = _numbers(array.view(pa.int32()))
    elif pa.types.is_temporal(kind):
        hashed = _numbers(array.view(pa.int64()) if kind.bit_width == 64 else pa.array(_fixed(array, 16)))
    else:
        hashed = _numbers(array)
    if array.null_count:
        hashed[null_places(array)] = _NULL
    return hashed


def mixed(state: U64, array: pa.Array) -> U64:
    """Return `state`, shape (rows,), with the hash of one more column mixed in."""
    with np.errstate(over="ignore"):
        return mix(state * np.uint64(31) ^ _hash(array))


def hash_columns(arrays: Sequence[pa.Array]) -> U64:
    """Return a 64-bit hash of each row of some columns, shape (rows,)."""
    state = np.zeros(len(arrays[0]), np.uint64)
    for array in arrays:
        state = mixed(state, array)
    return state

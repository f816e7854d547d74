"""Floats as integers in the order of floats (all NaN equal and greatest, -0 = 0), and back.

DataFusion 55 starts the min of a group with the greatest finite float, and its max with the least: the min of a group
of infinities or NaN is 1.8e308. Integers have no such gap.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.fixed_width import null_places
from mmflow.lazy import array_types as npt
from mmflow.plan.functions.base import PlanFunction

__all__ = ["FloatCode", "encode_floats"]

_NEGATIVE = np.int64(0x7FFFFFFFFFFFFFFF)


class FloatCode(PlanFunction):
    """Scalar function from float64 to int64 that keeps the order, or (`back`) its inverse."""

    def __init__(self, back: bool) -> None:
        name = "mmflow_float_of_code" if back else "mmflow_code_of_float"
        argument, result = (pa.int64(), pa.float64()) if back else (pa.float64(), pa.int64())
        super().__init__(name, _decoded if back else encode_floats, [argument], result, (back,))


def _flipped(bits: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Reverse the order of the bits of negative floats. The function is its own inverse."""
    return bits ^ ((bits >> 63) & _NEGATIVE)


def encode_floats(values: pa.Array) -> pa.Array:
    """Return floats (float64) as integers in their order, in which NaN is the greatest; null for null."""
    data = (
        np.frombuffer(values.buffers()[1], np.float64, len(values), 8 * values.offset)
        if len(values)
        else np.zeros(0)
    )
    floats = data + 0.0
    nan = floats != floats
    if nan.any():
        floats[nan] = np.nan
    return pa.array(_flipped(floats.view(np.int64)), mask=_mask(values))


def _decoded(codes: pa.Array) -> pa.Array:
    data = (
        np.frombuffer(codes.buffers()[1], np.int64, len(codes), 8 * codes.offset)
        if len(codes)
        else np.zeros(0, np.int64)
    )
    return pa.array(_flipped(data).view(np.float64), mask=_mask(codes))


def _mask(array: pa.Array) -> npt.NDArray[np.bool_] | None:
    return null_places(array) if array.null_count else None

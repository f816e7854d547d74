"""NaN of one kind: what formats of text give."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["with_one_nan"]


def with_one_nan(array: pa.Array) -> pa.Array:
    """Return an array of floats in which every NaN has the same bits; the same array where there is none.

    `-nan` in text has the sign bit, and DataFusion 55 orders floats by their bits.
    """
    nan = pc.is_nan(array)
    if not pc.any(nan).as_py():
        return array
    return pc.if_else(nan, pa.scalar(float("nan"), array.type), array)

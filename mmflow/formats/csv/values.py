"""Values that stand as text in CSV, of types without a converter in pyarrow.csv, as `sinks.writers.text` writes them.

Nested values are JSON, as in NDJSON; half floats, and decimals of 256 bits or negative scales, stand as others do.
"""

from __future__ import annotations

import pyarrow as pa

from mmflow.formats.ndjson.values import Misfit, fit_value, parse_value
from mmflow.lazy import compute as pc

__all__ = ["convert_text", "is_read_as_text", "unify_nan"]


def is_read_as_text(kind: pa.DataType) -> bool:
    """Return whether a column is read as text first, and converted by `convert_text`."""
    types = pa.types
    return bool(
        types.is_string_view(kind)
        or types.is_nested(kind)
        or types.is_float16(kind)
        or types.is_decimal256(kind)
        or (types.is_decimal(kind) and kind.scale < 0)
    )


def convert_text(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Convert a column that was read as text.

    Raises:
        pa.ArrowInvalid: A value is not of the type.
    """
    if pa.types.is_nested(kind):
        try:
            values = [None if t is None else fit_value(parse_value(t), kind, "") for t in array.to_pylist()]
        except (Misfit, ValueError, RecursionError) as error:
            raise pa.ArrowInvalid(str(error)) from error
        return pa.array(values, kind)
    made = array.cast(kind)
    if pa.types.is_decimal(kind):
        made.validate(full=True)  # pyarrow 26 reads 9999.9 into decimal(4, 2) as 999990, without a word
    return made


def unify_nan(array: pa.Array) -> pa.Array:
    """Return an array of floats in which every NaN has the same bits; the same array where there is none.

    `-nan` in text has the sign bit, and DataFusion 55 orders floats by their bits.
    """
    nan = pc.is_nan(array)
    if not pc.any(nan).as_py():
        return array
    return pc.if_else(nan, pa.scalar(float("nan"), array.type), array)

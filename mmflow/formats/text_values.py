"""Values that stand as text in CSV, of types that pyarrow.csv has no converter for: what `sinks.text` writes.

Nested values are JSON, as in NDJSON; half floats, and decimals of 256 bits or negative scales, stand as others do.
"""

from __future__ import annotations

import pyarrow as pa

from mmflow.formats.ndjson_values import Misfit, fitted, parse_value

__all__ = ["from_text", "stands_as_text"]


def stands_as_text(kind: pa.DataType) -> bool:
    """Tell whether a column is to be read as text first, and converted by `from_text`."""
    types = pa.types
    return bool(
        types.is_string_view(kind)
        or types.is_nested(kind)
        or types.is_float16(kind)
        or types.is_decimal256(kind)
        or (types.is_decimal(kind) and kind.scale < 0)
    )


def from_text(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Convert a column that was read as text.

    Raises:
        pa.ArrowInvalid: A value is not of the type.
    """
    if pa.types.is_nested(kind):
        try:
            values = [None if t is None else fitted(parse_value(t), kind, "") for t in array.to_pylist()]
        except (Misfit, ValueError, RecursionError) as error:
            raise pa.ArrowInvalid(str(error)) from error
        return pa.array(values, kind)
    made = array.cast(kind)
    if pa.types.is_decimal(kind):
        made.validate(full=True)  # pyarrow 26 reads 9999.9 into decimal(4, 2) as 999990, without a word
    return made

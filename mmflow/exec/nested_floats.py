"""Lists and structs whose floats have one kind of NaN and of zero, so that they compare as floats do."""

from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa

from mmflow.exec.plan_function import PlanFunction
from mmflow.formats.fixed_width import null_places, numpy_values

__all__ = ["NestedFloats", "holds_floats", "with_one_nan_and_zero"]


def holds_floats(kind: pa.DataType) -> bool:
    """Say whether values of a list's or struct's type hold floats, at any depth."""
    if not (_is_list(kind) or pa.types.is_struct(kind)):
        return False
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return any(pa.types.is_floating(t) or holds_floats(t) for t in inner)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def with_one_nan_and_zero(array: pa.Array) -> pa.Array:
    """Return an array in which every NaN has the same bits, and every zero, at any depth."""
    kind = array.type
    if pa.types.is_floating(kind):
        values = numpy_values(array.fill_null(pa.scalar(0, kind))) + kind.to_pandas_dtype()(0)
        values[np.isnan(values)] = np.nan
        return pa.array(values, kind, mask=null_places(array))
    if not holds_floats(kind):
        return array
    if pa.types.is_struct(kind):
        children = [with_one_nan_and_zero(array.field(i)) for i in range(kind.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    children = [with_one_nan_and_zero(array.values)]
    own = array.buffers()[:2]
    return pa.Array.from_buffers(kind, len(array), own, array.null_count, array.offset, children=children)


class NestedFloats(PlanFunction):
    """A scalar function that gives lists or structs with one kind of NaN and of zero."""

    def __init__(self, kind: pa.DataType) -> None:
        name = f"mmflow_floats_{zlib.crc32(str(kind).encode()):08x}"
        super().__init__(name, with_one_nan_and_zero, [kind], kind, (kind,))

"""Lists and structs whose floats have one kind of NaN and of zero, so that they compare as floats do."""

from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.fixed_width import null_places, numpy_values
from mmflow.plan.functions.base import PlanFunction

__all__ = ["NestedFloats", "holds_floats", "is_list", "with_children", "with_one_nan_and_zero"]


def holds_floats(kind: pa.DataType) -> bool:
    """Return whether the type of a list or struct has floats at any depth."""
    if not (is_list(kind) or pa.types.is_struct(kind)):
        return False
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return any(pa.types.is_floating(t) or holds_floats(t) for t in inner)


def is_list(kind: pa.DataType) -> bool:
    """Return whether a type is one of the lists that plans have."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def with_children(array: pa.Array, children: list[pa.Array]) -> pa.Array:
    """Return a list or struct with other children (of a list, all its values), and the nulls that it has."""
    kind = array.type
    if pa.types.is_struct(kind):
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    own = array.buffers()[:2]
    return pa.Array.from_buffers(kind, len(array), own, array.null_count, array.offset, children=children)


def with_one_nan_and_zero(array: pa.Array) -> pa.Array:
    """Return an array in which every NaN has the same bits, and every zero, at any depth."""
    kind = array.type
    if pa.types.is_floating(kind):
        values = numpy_values(array.fill_null(pa.scalar(0, kind))) + kind.to_pandas_dtype()(0)
        values[np.isnan(values)] = np.nan
        return pa.array(values, kind, mask=null_places(array))
    if not holds_floats(kind):
        return array
    inner = [array.values] if is_list(kind) else [array.field(i) for i in range(kind.num_fields)]
    return with_children(array, [with_one_nan_and_zero(child) for child in inner])


class NestedFloats(PlanFunction):
    """Scalar function that returns lists or structs with one kind of NaN and of zero."""

    def __init__(self, kind: pa.DataType) -> None:
        name = f"mmflow_floats_{zlib.crc32(str(kind).encode()):08x}"
        super().__init__(name, with_one_nan_and_zero, [kind], kind, (kind,))

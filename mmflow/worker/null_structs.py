"""Structs whose fields are null where they are: `get_field` of DataFusion 55 gives what lies under a null struct.

Plans that Substrait carries test for that (`plan/rewrites/nulls.py`); SQL that runs whole in one task can't.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as types

from mmflow.plan.functions.nested_floats import is_list, with_children

__all__ = ["with_null_fields"]


def with_null_fields(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch in which the fields of null structs are null, at any depth.

    >>> void = pa.StructArray.from_arrays([pa.array([1, 2])], names=["a"], mask=pa.array([False, True]))
    >>> with_null_fields(pa.record_batch({"s": void}))["s"].field(0).to_pylist()
    [1, None]
    """
    columns = [_with_null_fields(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _with_null_fields(array: pa.Array) -> pa.Array:
    if not _holds_structs(array.type):
        return array
    # `flatten` gives the fields of a struct with its nulls among theirs.
    inner = [array.values] if is_list(array.type) else array.flatten()
    return with_children(array, [_with_null_fields(child) for child in inner])


def _holds_structs(kind: pa.DataType) -> bool:
    if types.is_struct(kind):
        return bool(kind.num_fields)
    return is_list(kind) and _holds_structs(kind.value_type)

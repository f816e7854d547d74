"""Copies of batches that are free of the windows that their views point into.

A `string_view` column over a mapped window holds that whole window; so nothing that leaves a task may
hold one. Text columns are rewritten so that they own just their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mmflow.formats.schemas.arrow_types import convert_array
from mmflow.formats.schemas.schema import public_type

__all__ = ["cast_batch", "compact", "has_views", "rename_columns", "without_views"]


def has_views(data_type: pa.DataType) -> bool:
    """Return whether a value of this type holds string or binary views, at any depth."""
    if pa.types.is_string_view(data_type) or pa.types.is_binary_view(data_type):
        return True
    if pa.types.is_nested(data_type):
        return any(has_views(data_type.field(i).type) for i in range(data_type.num_fields))
    return False


def without_views(array: pa.Array) -> pa.Array:
    """Return the array with text and binary in buffers of its own, as string and binary instead of views."""
    return convert_array(array, public_type(array.type)) if has_views(array.type) else array


def compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with every view column rewritten to hold only its own bytes."""
    if not any(has_views(t) for t in batch.schema.types):
        return batch
    arrays = [_with_own_views(c) if has_views(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _with_own_views(array: pa.Array) -> pa.Array:
    own = without_views(array)
    return own.cast(array.type) if pa.types.is_nested(array.type) else convert_array(own, array.type)


def rename_columns(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the same columns under the names of `schema`; types must be equal, position by position."""
    if not len(schema) or batch.schema.equals(schema):
        return batch
    return pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def cast_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Cast the columns, by position, to the names and types of `schema`.

    Raises:
        pa.ArrowInvalid: A value does not fit its type.
    """
    if not len(schema) or batch.schema.equals(schema):
        return batch
    arrays: Sequence[pa.Array] = [
        c if c.type == f.type else convert_array(without_views(c), f.type)
        for c, f in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)

"""Cutting batches loose from the windows that their views point into.

A `string_view` column over a mapped window holds that whole window; so nothing that leaves a task may
hold one. Text columns are rewritten so that they own just their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mmflow.formats.carried import converted
from mmflow.formats.schema import public_type

__all__ = ["cast_batch", "compact", "has_views", "owned", "renamed"]


def has_views(data_type: pa.DataType) -> bool:
    """Does a value of this type hold string or binary views, at any depth?"""
    if pa.types.is_string_view(data_type) or pa.types.is_binary_view(data_type):
        return True
    if pa.types.is_nested(data_type):
        return any(has_views(data_type.field(i).type) for i in range(data_type.num_fields))
    return False


def owned(array: pa.Array) -> pa.Array:
    """The array with text and binary in buffers of its own, as string and binary instead of views."""
    return converted(array, public_type(array.type)) if has_views(array.type) else array


def compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with every view column rewritten to hold only its own bytes."""
    if not any(has_views(t) for t in batch.schema.types):
        return batch
    arrays = [owned(c).cast(c.type) if has_views(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def renamed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The same columns under the names of `schema`; types must be equal, position by position."""
    if not len(schema) or batch.schema.equals(schema):
        return batch
    return pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def cast_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns, by position, as the names and types of `schema`.

    Raises:
        pa.ArrowInvalid: A value does not fit its type.
    """
    if not len(schema) or batch.schema.equals(schema):
        return batch
    arrays: Sequence[pa.Array] = [
        c if c.type == f.type else converted(owned(c), f.type)
        for c, f in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)

"""Fields of records of one size as columns: plain ones by the kernel, others by numpy.

records  [ id | x | y | z | s   ][ id | x | y | z | s   ]...
list       packed bytes of all records, three floats each  -->  items  -->  fixed_size_list
structure  packed bytes, as records of their own           -->  members --> struct
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.decoder import I64
from mmflow.formats.decoding.kernel_types import import_batch
from mmflow.formats.decoding.views import set_nulls, views_over
from mmflow.formats.records.layout import Field
from mmflow.formats.schemas.arrow_types import convert_array, plan_schema, plan_type
from mmflow.kernels import kernels
from mmflow.lazy import array_types as npt

__all__ = ["FieldReader", "fields_schema", "gather", "gather_column", "kernel_field", "text_at"]


class FieldReader:
    """Reads fields of records of `size` bytes."""

    def __init__(self, fields: Sequence[Field], size: int) -> None:
        self._fields, self._size = fields, size
        self._plain = [f for f in fields if f.is_plain]
        self._schema = pa.schema([pa.field(f.name, f.type) for f in self._plain])
        self._reader = kernels().RecordsReader([kernel_field(f) for f in self._plain], size)

    def read(self, data: pa.Buffer, count: int) -> pa.RecordBatch | None:
        """Return the columns of `count` records; None where some value is none (`gather` finds it)."""
        status, _, _, rows, _, capsule, _ = self._reader.decode(data.address, count, data)
        if status:
            return None
        batch = import_batch(self._schema, capsule, rows)
        if len(self._plain) == len(self._fields):
            return batch
        arrays = []
        for field in self._fields:
            if field.is_plain:
                arrays.append(batch.column(self._schema.get_field_index(field.name)))
                continue
            array, wrong = gather_column(data, field, self._size, count)
            if wrong:
                return None
            arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, names=[f.name for f in self._fields])


def fields_schema(fields: Sequence[Field]) -> pa.Schema:
    """Return the schema of some fields, as plans see it: lists of a fixed size are lists there."""
    return plan_schema(pa.schema([pa.field(f.name, f.type) for f in fields]))


def gather_column(data: pa.Buffer, field: Field, size: int, count: int) -> tuple[pa.Array, list[int]]:
    """Gather a field as `gather` does, of the type that plans see."""
    array, wrong = gather(data, field, size, count)
    kind = plan_type(field.type)
    return (array if array.type == kind else convert_array(array, kind)), wrong


def kernel_field(field: Field) -> tuple[int, int, int]:
    """Return a field as the kernel takes it: offset, width, form (RecordField in gather.h)."""
    if pa.types.is_string_view(field.type):
        form = 3
    elif pa.types.is_boolean(field.type):
        form = 2
    else:
        form = 1 if field.big_endian and not pa.types.is_fixed_size_binary(field.type) else 0
    return field.offset, field.width, form


def gather(data: pa.Buffer, field: Field, size: int, count: int) -> tuple[pa.Array, list[int]]:
    """Gather one field of `count` records of `size` bytes as a column, and the rows whose bytes are no value: null.

    The reference of the kernel.
    """
    raw = np.frombuffer(data, np.uint8)
    cells = np.lib.stride_tricks.as_strided(raw[field.offset :], (count, field.width), (size, 1))
    if field.items is not None or field.members:
        return _nested(pa.py_buffer(np.ascontiguousarray(cells)), field, count)
    if field.bits is not None:
        return _bits(cells, field), []
    if field.length is not None:
        return _counted(data, cells, field, size)
    if field.is_text:
        used = (cells != 0) & (cells != 32)
        lengths = np.where(used.any(axis=1), field.width - used[:, ::-1].argmax(axis=1), 0).astype(np.int64)
        starts = np.arange(count, dtype=np.int64) * size + field.offset
        return text_at(data, starts, lengths, np.zeros(count, np.bool_))
    packed = np.ascontiguousarray(cells)
    if pa.types.is_fixed_size_binary(field.type):
        return pa.Array.from_buffers(field.type, count, [None, pa.py_buffer(packed)]), []
    if pa.types.is_boolean(field.type):
        return pa.array(packed[:, 0] != 0), []
    if field.big_endian and field.width > 1:
        packed = np.ascontiguousarray(packed[:, ::-1])
    return pa.Array.from_buffers(field.type, count, [None, pa.py_buffer(packed)]), []


def _nested(packed: pa.Buffer, field: Field, count: int) -> tuple[pa.Array, list[int]]:
    if field.items is not None:
        each = field.type.list_size
        items, wrong = gather(packed, field.items, field.items.width, count * each)
        return pa.FixedSizeListArray.from_arrays(items, each), sorted({row // each for row in wrong})
    arrays, rows = [], set()
    for member in field.members:
        array, wrong = gather(packed, member, field.width, count)
        arrays.append(array)
        rows |= set(wrong)
    return pa.StructArray.from_arrays(arrays, fields=list(field.type)), sorted(rows)


def _numbers(cells: npt.NDArray[np.uint8], field: Field) -> npt.NDArray[Any]:
    """Return the numbers of a field, shape (records,)."""
    packed = np.ascontiguousarray(cells[:, : field.width])
    order = ">" if field.big_endian else "<"
    kind = np.dtype(field.type.to_pandas_dtype()).newbyteorder(order)  # needs no pandas, whatever its name
    found: npt.NDArray[Any] = packed.view(kind)[:, 0].astype(kind.newbyteorder("="))
    return found


def _bits(cells: npt.NDArray[np.uint8], field: Field) -> pa.Array:
    assert field.bits is not None
    low, count = field.bits
    width = 8 * field.width
    numbers = _numbers(cells, field)
    # Up to the highest bit and down again: the sign of signed numbers comes along.
    made = (numbers << np.array(width - low - count, numbers.dtype)) >> np.array(width - count, numbers.dtype)
    return pa.Array.from_buffers(field.type, len(made), [None, pa.py_buffer(np.ascontiguousarray(made))])


def _counted(
    data: pa.Buffer, cells: npt.NDArray[np.uint8], field: Field, size: int
) -> tuple[pa.Array, list[int]]:
    assert field.length is not None
    room = field.width - field.length.width
    lengths = _numbers(cells, field.length)
    too_long = lengths > room
    lengths = np.where(too_long, 0, lengths).astype(np.int64)
    starts = np.arange(len(cells), dtype=np.int64) * size + field.offset + field.length.width
    if field.is_text:
        return text_at(data, starts, lengths, too_long)
    views = views_over(data, starts, lengths, pa.binary_view()).cast(pa.binary())
    return set_nulls(views, too_long), np.flatnonzero(too_long).tolist()


def text_at(
    data: pa.Buffer, starts: I64, lengths: I64, wrong: npt.NDArray[np.bool_]
) -> tuple[pa.Array, list[int]]:
    """Return text at some places, and the rows where it is not UTF-8, or was wrong before: null."""
    array = views_over(data, np.where(lengths > 0, starts, 0), lengths, pa.string_view())
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        wrong = wrong.copy()
        raw = memoryview(data)
        for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
            try:
                str(raw[start : start + length], "utf-8")
            except UnicodeDecodeError:
                wrong[row] = True
    return (set_nulls(array, wrong) if wrong.any() else array), np.flatnonzero(wrong).tolist()

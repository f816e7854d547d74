"""Timestamps of the old INT96 kind, which Spark and Hive wrote: exact, or an error.

    in the file   nanoseconds of the day (8 bytes) | Julian day (4 bytes)
    range         nanoseconds, some 11 million years
    Arrow         int64: of nanoseconds 1677 to 2262, of microseconds some 580,000 years

pyarrow 26 gives them in any unit, cut to it, and wraps around without a word where they don't fit. Seconds always fit;
seconds and nanoseconds, wrapped or not, give the exact value together. Julian day 0 (4714 BC), which some writers use
for nothing, it takes for 1970-01-01, and nobody can tell.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.fixed_width import null_places, numpy_values

__all__ = ["Int96Error", "RowReader", "join_int96"]

_BILLION = 10**9
#: The first second of a Julian day that is a negative one, or one beyond any calendar: writers wrap around, too.
_END = ((1 << 31) - 2_440_588) * 86_400
_MICROS = (1 << 63) // 10**6 - 1
_LAST, _LAST_NANOS = 9_223_372_036, 854_775_807
_FIRST, _FIRST_NANOS = -9_223_372_037, 145_224_192


class Int96Error(ValueError):
    """Error for a timestamp that has no exact value, with the reason and what to do."""


def join_int96(nanos: pa.Array, seconds: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Return a column that was read twice, INT96 in it as nanoseconds and as seconds, without loss.

    Args:
        nanos: Timestamps at any depth, wrapped where they don't fit.
        seconds: The same.
        wanted: Type of the column as its user wants it: nanoseconds where it has them, else microseconds.

    Raises:
        Int96Error: A timestamp has nanoseconds, and the column is of microseconds; or it is out of its type's range.
    """
    if nanos.type == seconds.type:
        return nanos
    if pa.types.is_timestamp(nanos.type):
        return _timestamps(nanos, seconds, wanted)
    return _nested(nanos, seconds, wanted)


def _nested(nanos: pa.Array, seconds: pa.Array, wanted: pa.DataType) -> pa.Array:
    kind, types = nanos.type, pa.types
    count, nulls = len(nanos), nanos.null_count
    if types.is_struct(kind):
        by_name = {f.name: f.type for f in wanted} if types.is_struct(wanted) else {}
        children = [
            join_int96(nanos.field(i), seconds.field(i), by_name.get(f.name, f.type))
            for i, f in enumerate(kind)
        ]
        fields = [pa.field(f.name, c.type) for f, c in zip(kind, children, strict=True)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=nanos.is_null() if nulls else None)
    if types.is_map(kind):
        inner = (
            (wanted.key_type, wanted.item_type) if types.is_map(wanted) else (kind.key_type, kind.item_type)
        )
        keys, items = (
            join_int96(nanos.keys, seconds.keys, inner[0]),
            join_int96(nanos.items, seconds.items, inner[1]),
        )
        made = pa.map_(keys.type, items.type)
        pairs = pa.StructArray.from_arrays([keys, items], fields=[made.key_field, made.item_field])
        return pa.Array.from_buffers(made, count, nanos.buffers()[:2], nulls, nanos.offset, [pairs])
    values = join_int96(nanos.values, seconds.values, getattr(wanted, "value_type", kind.value_type))
    if types.is_fixed_size_list(kind):
        made = pa.list_(values.type, kind.list_size)
        return pa.Array.from_buffers(made, count, nanos.buffers()[:1], nulls, nanos.offset, [values])
    made = pa.large_list(values.type) if types.is_large_list(kind) else pa.list_(values.type)
    return pa.Array.from_buffers(made, count, nanos.buffers()[:2], nulls, nanos.offset, [values])


def _timestamps(nanos: pa.Array, seconds: pa.Array, wanted: pa.DataType) -> pa.Array:
    valid = ~null_places(nanos)
    low = np.where(valid, numpy_values(nanos).view(np.int64), 0)
    whole = np.where(valid, numpy_values(seconds).view(np.int64), 0)
    # Both are right but for multiples of 2^64.
    part = (low.view(np.uint64) - whole.view(np.uint64) * np.uint64(_BILLION)).view(np.int64)
    if ((part < 0) | (part >= _BILLION)).any():
        raise Int96Error("is none: its parts contradict each other; write the file again")
    if pa.types.is_timestamp(wanted) and wanted.unit == "ns":
        late = (whole > _LAST) | ((whole == _LAST) & (part > _LAST_NANOS))
        early = (whole < _FIRST) | ((whole == _FIRST) & (part < _FIRST_NANOS))
        if (late | early).any():
            raise Int96Error(
                "lies outside of the years 1677 to 2262, which nanoseconds reach; declare the column as timestamp[us] "
                "by schema="
            )
        unit, values = "ns", low
    else:
        if (part % 1000).any():
            raise Int96Error(
                "has nanoseconds, which timestamp[us] can't hold; declare the column as timestamp[ns] by schema="
            )
        if ((whole >= _END) | (np.abs(whole) > _MICROS)).any():
            raise Int96Error(
                "is out of the range of timestamp[us]: its Julian day is none; write the file again"
            )
        unit, values = "us", whole * 10**6 + part // 1000
    return pa.array(values, mask=~valid).cast(pa.timestamp(unit, nanos.type.tz))


class RowReader:
    """Batches that are taken by numbers of rows."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._left: pa.RecordBatch | None = None

    def take(self, count: int) -> pa.RecordBatch:
        """Return the next `count` rows.

        Raises:
            pa.ArrowInvalid: There are fewer.
        """
        parts: list[pa.RecordBatch] = []
        while count:
            batch = self._left if self._left is not None else next(self._batches, None)
            if batch is None:
                raise pa.ArrowInvalid("a column has fewer rows than another")
            part = batch.slice(0, count)
            self._left = batch.slice(part.num_rows) if part.num_rows < batch.num_rows else None
            parts.append(part)
            count -= part.num_rows
        return parts[0] if len(parts) == 1 else pa.concat_batches(parts)

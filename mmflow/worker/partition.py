"""Partitions of batches, by the hash of key columns or by given numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.compact import cast_batch, without_views
from mmflow.kernels import kernels
from mmflow.lazy import array_types as npt
from mmflow.worker.hashing import mixed

__all__ = ["Partitions", "Places", "choose_part", "copy_rows", "hash_rows", "place", "place_by_hash"]

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
#: Numbers of rows by partition, and where those of each begin: order[bounds[p]:bounds[p + 1]] are of partition p.
Places = tuple[I64, I64]


def hash_rows(arrays: Sequence[pa.Array]) -> U64:
    """Return the result of `hash_columns`, computed by the kernel if it knows the types. Shape (rows,)."""
    state = np.zeros(len(arrays[0]), np.uint64)
    for array in arrays:
        if not _mixed_in(state, array):
            state = mixed(state, array)
    return state


def _mixed_in(state: U64, array: pa.Array) -> bool:
    """Mix a column into `state`; return False if the kernel does not know its type."""
    kind, kernel = array.type, kernels()
    test = pa.types
    if test.is_null(kind) or test.is_nested(kind) or test.is_dictionary(kind) or test.is_boolean(kind):
        return False
    buffers = [0 if b is None else b.address for b in array.buffers()]
    bits = buffers[0] if array.null_count else 0
    rest = (bits, array.offset, len(array), state.ctypes.data)
    if test.is_string_view(kind) or test.is_binary_view(kind):
        kernel.hash_views(buffers[1] + 16 * array.offset, buffers[2:], *rest)
    elif test.is_string(kind) or test.is_binary(kind):
        kernel.hash_text(buffers[1] + 4 * array.offset, 4, buffers[2], *rest)
    elif test.is_large_string(kind) or test.is_large_binary(kind):
        kernel.hash_text(buffers[1] + 8 * array.offset, 8, buffers[2], *rest)
    elif test.is_float32(kind) or test.is_float64(kind):
        width = kind.bit_width // 8
        kernel.hash_real(buffers[1] + width * array.offset, width, *rest)
    elif test.is_decimal(kind) or test.is_fixed_size_binary(kind):
        width = kind.bit_width // 8
        kernel.hash_fixed(buffers[1] + width * array.offset, width, *rest)
    elif test.is_integer(kind) or (
        test.is_temporal(kind) and kind.bit_width <= 64 and not test.is_interval(kind)
    ):
        width = kind.bit_width // 8
        kernel.hash_whole(buffers[1] + width * array.offset, width, not test.is_unsigned_integer(kind), *rest)
    else:
        return False
    return True


def place_by_hash(batch: pa.RecordBatch, keys: Sequence[int], partitions: int, before: int = 0) -> Places:
    """Return the rows of each partition, in their order.

    Without keys, partitions are chosen round-robin, from row number `before` on.
    """
    if partitions == 1 or not keys:
        return place(np.arange(before, before + batch.num_rows) % partitions, partitions)
    state = hash_rows([batch.column(k) for k in keys])
    order, bounds = np.empty(len(state), np.int64), np.empty(partitions + 1, np.int64)
    kernels().partition_rows(state.ctypes.data, len(state), partitions, order.ctypes.data, bounds.ctypes.data)
    return order, bounds


def place(chosen: I64, partitions: int) -> Places:
    """Return the rows of each partition, in their order, by the partition numbers `chosen`, shape (rows,)."""
    if partitions <= 1 << 16:  # numpy sorts numbers of 16 bits by their digits
        chosen = chosen.astype(np.uint16)
    bounds = np.zeros(partitions + 1, np.int64)
    np.cumsum(np.bincount(chosen, minlength=partitions), out=bounds[1:])
    return np.argsort(chosen, kind="stable"), bounds


class Partitions:
    """Rows of batches, collected by partition, in their order. They own their text.

    The kernel copies them once, into the buffers of the partitions; types that it does not know are taken by pyarrow.

    Args:
        schema: Columns, to which those of batches are cast by position.
        count: Number of partitions.
    """

    def __init__(self, schema: pa.Schema, count: int) -> None:
        self._schema = schema
        self._kernel: Any = None
        self._taken: list[list[pa.RecordBatch]] = [[] for _ in range(count)]
        self._held = 0
        with contextlib.suppress(ValueError):
            self._kernel = kernels().Partitions(schema.__arrow_c_schema__(), count)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return self._held if self._kernel is None else self._kernel.bytes()

    def add(self, batch: pa.RecordBatch, places: Places) -> None:
        """Add the rows of a batch to their partitions."""
        batch = cast_batch(batch, self._schema)
        order, bounds = places
        if self._kernel is not None:
            self._kernel.append(*batch.__arrow_c_array__(), order.ctypes.data, bounds.ctypes.data)
            return
        owning = _owning(batch)
        self._held += owning.nbytes
        for rows, begin, end in zip(self._taken, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            if begin < end:
                # Taken one by one: slices of one sorted batch would each hold, and spill, all of its text.
                rows.append(_taken(owning, order[begin:end], batch.schema))

    def take(self) -> Iterator[tuple[int, list[pa.RecordBatch]]]:
        """Yield the rows of each partition that has any, and leave it empty."""
        for number, taken in enumerate(self._taken):
            if self._kernel is not None and self._kernel.rows(number):
                made = self._kernel.take(number)
                yield number, [pa.RecordBatch._import_from_c_capsule(self._schema.__arrow_c_schema__(), made)]
            elif taken:
                table = pa.Table.from_batches(taken)
                taken.clear()
                yield number, table.combine_chunks().to_batches()
        self._held = 0


def copy_rows(batch: pa.RecordBatch, rows: I64) -> pa.RecordBatch:
    """Return the rows of these numbers, which own their text."""
    return _taken(_owning(batch), rows, batch.schema)


def choose_part(
    batches: Iterable[pa.RecordBatch], keys: Sequence[int], part: int, parts: int, depth: int
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one part, chosen by other bits of the hash than the exchange uses, and than at other depths."""
    for batch in batches:
        mixed_again = hash_rows([batch.column(k) for k in keys]) * np.uint64(0x9E3779B97F4A7C15)
        chosen = (mixed_again >> np.uint64(40 + 8 * depth)) % np.uint64(parts)
        rows = np.flatnonzero(chosen == part)
        if len(rows):
            yield copy_rows(batch, rows)


def _owning(batch: pa.RecordBatch) -> pa.RecordBatch:
    # pyarrow 26 can't take from views: go through the owned form.
    names = [str(i) for i in range(batch.num_columns)]
    return pa.RecordBatch.from_arrays([without_views(c) for c in batch.columns], names=names)


def _taken(owning: pa.RecordBatch, rows: I64, schema: pa.Schema) -> pa.RecordBatch:
    taken = owning.take(pa.array(rows))
    arrays = [c.cast(t) for c, t in zip(taken.columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)

"""Columns of a row group in the making; text that repeats is buffered as dictionary codes.

Parquet stores such text as codes anyway, and pyarrow's writer takes a dictionary column as it is if all batches of a
row group share one dictionary. So each row group has its own, which begins empty and grows batch by batch.

    kernel   batch by batch: codes, until there are too many values; then plain text
    take     one dictionary for the codes of a row group

Invariant: `take` always returns the same type for a column; the first row group decides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mmflow.formats.schemas.arrow_types import convert_array
from mmflow.kernels import kernels

__all__ = ["RowGroup", "TextColumn", "worth_dictionary"]

ENCODED = pa.dictionary(pa.int32(), pa.string())
# A larger dictionary leaves the L2 cache, and beyond 1 MiB the Parquet writer drops it.
_MAX_VALUES, _MAX_BYTES = 4096, 512 << 10


def worth_dictionary(distinct: int, rows: int) -> bool:
    """Return whether values repeat often enough for a dictionary to pay off."""
    return distinct <= rows * 3 // 4


class _PlainColumn:
    """Column buffered as cast batches; the cast copies text out of the mapped window."""

    def __init__(self, kind: pa.DataType) -> None:
        self._type = kind
        self._buffer: list[pa.Array] = []

    def add(self, array: pa.Array) -> int:
        """Buffer the next rows and return the bytes that they take."""
        self._buffer.append(convert_array(array, self._type))
        return int(self._buffer[-1].nbytes)

    def take(self) -> pa.ChunkedArray:
        """Return all buffered rows and empty the buffer."""
        buffered, self._buffer = self._buffer, []
        return pa.chunked_array(buffered, self._type)


class TextColumn:
    """Column of string_view, buffered as dictionary codes as long as its values repeat.

    Args:
        max_values: Limit of values in a row group's dictionary.
        max_bytes: Limit of their bytes together.
    """

    def __init__(self, max_values: int = _MAX_VALUES, max_bytes: int = _MAX_BYTES) -> None:
        self._limits = (max_values, max_bytes)
        self._type: pa.DataType | None = None
        self._dictionary: Any = None
        self._codes: list[pa.Array] = []
        self._texts: list[pa.Array] = []

    def add(self, array: pa.Array) -> int:
        """Buffer the next rows and return the bytes that they take."""
        if self._type != pa.string() and not self._texts:
            codes = self._encode(array)
            if codes is not None:
                self._codes.append(codes)
                return int(codes.nbytes)
            # Too many values. The codes so far have few, so decoding them is cheap.
            self._texts = [c.cast(pa.string()) for c in self._take_codes()]
        self._texts.append(array.cast(pa.string()))
        return int(self._texts[-1].nbytes)

    def take(self) -> pa.ChunkedArray:
        """Return all buffered rows; as ENCODED if values of the first row group repeated, else as string."""
        texts, self._texts = self._texts, []
        if texts:
            self._type = self._type or pa.string()
            taken = pa.chunked_array(texts, pa.string())
            return taken if self._type == pa.string() else taken.dictionary_encode()
        coded = self._take_codes()
        if self._type is None:
            distinct = len(coded[0].dictionary) if coded else 0
            self._type = ENCODED if worth_dictionary(distinct, sum(map(len, coded))) else pa.string()
        return pa.chunked_array(
            [c if self._type == ENCODED else c.cast(self._type) for c in coded], self._type
        )

    def _encode(self, array: pa.Array) -> pa.Array | None:
        """Return the codes of an array; None where the dictionary is full."""
        if self._dictionary is None:
            self._dictionary = kernels().TextDictionary(*self._limits)
        # Partitioned rows come as plain text. Views of it copy no text.
        array = array.cast(pa.string_view())
        validity, views, *buffers = array.buffers()
        # The codes keep the array's bit offset, so the null bits can be copied as bytes (they may be of a mapped file).
        count, skipped = len(array), array.offset % 8
        bits = None
        if array.null_count:
            bits = pa.py_buffer(validity.slice(array.offset // 8, -(-(skipped + count) // 8)).to_pybytes())
        codes = pa.allocate_buffer((skipped + count) * 4)
        done = self._dictionary.encode(
            views.address + 16 * array.offset,
            [b.address for b in buffers],
            0 if bits is None else bits.address,
            skipped,
            count,
            codes.address + 4 * skipped,
        )
        if done < count:
            return None
        return pa.Array.from_buffers(pa.int32(), count, [bits, codes], array.null_count, skipped)

    def _take_codes(self) -> list[pa.DictionaryArray]:
        """Return the buffered codes with the dictionary that they share, and empty both."""
        codes, self._codes, dictionary, self._dictionary = self._codes, [], self._dictionary, None
        if not codes:
            return []
        offsets, text = map(pa.py_buffer, dictionary.values())
        values = pa.Array.from_buffers(pa.string(), offsets.size // 4 - 1, [None, offsets, text])
        return [pa.DictionaryArray.from_arrays(c, values, safe=False) for c in codes]


class RowGroup:
    """Buffer of the rows of one row group.

    Args:
        schema: Schema of the rows.
        stored: Schema with the types in which they are stored.
    """

    def __init__(self, schema: pa.Schema, stored: pa.Schema) -> None:
        self._names: Sequence[str] = stored.names
        self._columns = [
            TextColumn() if pa.types.is_string_view(has) else _PlainColumn(kind)
            for has, kind in zip(schema.types, stored.types, strict=True)
        ]

    def add(self, batch: pa.RecordBatch) -> int:
        """Buffer the next rows and return the bytes that they take."""
        return sum(c.add(array) for c, array in zip(self._columns, batch.columns, strict=True))

    def take(self) -> pa.Table:
        """Return all buffered rows and empty the buffer."""
        return pa.Table.from_arrays([c.take() for c in self._columns], names=self._names)

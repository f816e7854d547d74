"""Columns on their way into a row group; text that repeats is held as codes of a dictionary.

Parquet stores such text as codes anyway: pyarrow's writer takes a column of dictionaries as it is, if all of a row
group share the very same one. So each row group has its own, which begins empty and takes in batch after batch.

    kernel   batch by batch: codes, until there are too many values; then text, as it would be without this
    take     one dictionary for the codes of a row group

Invariant: all that `take` gives for one column has one type, which the first row group settles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mmflow.formats.carried import converted
from mmflow.kernels import kernels

__all__ = ["RowGroup", "TextColumn", "repeats"]

ENCODED = pa.dictionary(pa.int32(), pa.string())
# Beyond these a dictionary is no longer in the near caches, nor (1 MiB) would the Parquet writer go on with it.
_MOST_VALUES, _MOST_BYTES = 4096, 512 << 10


def repeats(distinct: int, rows: int) -> bool:
    """Do so many values come often enough for a dictionary to be worth its while?"""
    return distinct <= rows * 3 // 4


class _PlainColumn:
    """Batches of a column, cast; the cast cuts text loose from the mapped window too."""

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        self._held: list[pa.Array] = []

    def add(self, array: pa.Array) -> int:
        """Hold the next rows; bytes that this takes."""
        self._held.append(converted(array, self._kind))
        return int(self._held[-1].nbytes)

    def take(self) -> pa.ChunkedArray:
        """All rows held, which are no longer."""
        held, self._held = self._held, []
        return pa.chunked_array(held, self._kind)


class TextColumn:
    """The same for string_view; as codes as long as values repeat.

    Args:
        most_values: Of a row group's dictionary.
        most_bytes: Of all its values together.
    """

    def __init__(self, most_values: int = _MOST_VALUES, most_bytes: int = _MOST_BYTES) -> None:
        self._limits = (most_values, most_bytes)
        self._kind: pa.DataType | None = None
        self._dictionary: Any = None
        self._codes: list[pa.Array] = []
        self._texts: list[pa.Array] = []

    def add(self, array: pa.Array) -> int:
        """See `_PlainColumn`."""
        if self._kind != pa.string() and not self._texts:
            codes = self._encoded(array)
            if codes is not None:
                self._codes.append(codes)
                return int(codes.nbytes)
            # Too many values. Those so far are few, so there is little to take back.
            self._texts = [c.cast(pa.string()) for c in self._with_values()]
        self._texts.append(array.cast(pa.string()))
        return int(self._texts[-1].nbytes)

    def take(self) -> pa.ChunkedArray:
        """See `_PlainColumn`; of type ENCODED if the first ones that were taken repeated, else string."""
        texts, self._texts = self._texts, []
        if texts:
            self._kind = self._kind or pa.string()
            taken = pa.chunked_array(texts, pa.string())
            return taken if self._kind == pa.string() else taken.dictionary_encode()
        coded = self._with_values()
        if self._kind is None:
            distinct = len(coded[0].dictionary) if coded else 0
            self._kind = ENCODED if repeats(distinct, sum(map(len, coded))) else pa.string()
        return pa.chunked_array(
            [c if self._kind == ENCODED else c.cast(self._kind) for c in coded], self._kind
        )

    def _encoded(self, array: pa.Array) -> pa.Array | None:
        """Codes of an array; None where the dictionary gives up."""
        if self._dictionary is None:
            self._dictionary = kernels().TextDictionary(*self._limits)
        # Partitioned rows come as plain text. Views of it copy no text.
        array = array.cast(pa.string_view())
        validity, views, *buffers = array.buffers()
        # Codes begin where they have the array's bits of nulls, which are copied: they may be of a mapped file.
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

    def _with_values(self) -> list[pa.DictionaryArray]:
        """The codes held, with the dictionary that they share; both are no longer held."""
        codes, self._codes, dictionary, self._dictionary = self._codes, [], self._dictionary, None
        if not codes:
            return []
        offsets, text = map(pa.py_buffer, dictionary.values())
        values = pa.Array.from_buffers(pa.string(), offsets.size // 4 - 1, [None, offsets, text])
        return [pa.DictionaryArray.from_arrays(c, values, safe=False) for c in codes]


class RowGroup:
    """Rows held until they are a row group.

    Args:
        schema: Of the rows.
        stored: The same columns as they are stored.
    """

    def __init__(self, schema: pa.Schema, stored: pa.Schema) -> None:
        self._names: Sequence[str] = stored.names
        self._columns = [
            TextColumn() if pa.types.is_string_view(has) else _PlainColumn(kind)
            for has, kind in zip(schema.types, stored.types, strict=True)
        ]

    def add(self, batch: pa.RecordBatch) -> int:
        """Hold the next rows; bytes that this takes."""
        return sum(c.add(array) for c, array in zip(self._columns, batch.columns, strict=True))

    def take(self) -> pa.Table:
        """All rows held, which are no longer."""
        return pa.Table.from_arrays([c.take() for c in self._columns], names=self._names)

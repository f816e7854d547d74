"""Parquet and Arrow IPC files.

Text is stored as plain `string` (and `binary`), not as the views that mmflow computes with: every reader
knows it. Small batches are concatenated, so that the size of row groups and record batches doesn't depend on
the size of the input batches.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmflow.formats.schemas.arrow_types import convert_array
from mmflow.formats.schemas.schema import public_schema
from mmflow.lazy import compute as pc
from mmflow.sinks.base import SortedColumn
from mmflow.sinks.writers.base import Writer, choice_parser, parse_boolean, parse_names, parse_positive
from mmflow.sinks.writers.dictionaries import RowGroup, worth_dictionary
from mmflow.sinks.writers.value_limits import check_batch_days

__all__ = [
    "ARROW_OPTIONS",
    "PARQUET_OPTIONS",
    "arrow_problem",
    "open_arrow",
    "open_parquet",
    "parquet_problem",
    "parquet_writer",
]

PARQUET_OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "compression": choice_parser(("snappy", "zstd", "gzip", "lz4", "brotli", "none")),
    "compression_level": int,
    "row_group_rows": parse_positive,
    "statistics": parse_boolean,
    "bloom_filters": parse_names,
}
ARROW_OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "compression": choice_parser(("none", "lz4", "zstd")),
    "batch_rows": parse_positive,
}
#: Limit of the rows buffered for a row group: in bytes too, so that wide rows don't take all memory.
_ROW_GROUP_BYTES = 64 << 20
_ROW_GROUP_ROWS = 1 << 20
_SAMPLE_ROWS = 16 << 10
_BATCH_BYTES = 16 << 20


class _RowBuffer(Protocol):
    """Buffer of rows that are not yet a row group."""

    def add(self, batch: pa.RecordBatch) -> int:
        """Buffer the next rows and return the bytes that they take."""
        ...

    def take(self) -> pa.Table:
        """Return all buffered rows and empty the buffer."""
        ...


class _BatchBuffer:
    """Buffer of rows in their stored types."""

    def __init__(self, stored: pa.Schema) -> None:
        self._stored = stored
        self._batches: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> int:
        fields = zip(batch.columns, self._stored, strict=True)
        # The cast also copies text out of the mapped window: buffering it costs its own bytes only.
        own = pa.RecordBatch.from_arrays([convert_array(c, f.type) for c, f in fields], schema=self._stored)
        self._batches.append(own)
        return int(own.nbytes)

    def take(self) -> pa.Table:
        batches, self._batches = self._batches, []
        return pa.Table.from_batches(batches, self._stored)


class _BufferedWriter:
    """Writer that gathers batches to `rows` rows or `nbytes` bytes and passes them to `put` as one table.

    `days`: some columns are date64, whose values must be whole days.
    """

    def __init__(
        self,
        file: pa.NativeFile,
        buffer: _RowBuffer,
        writer: Any,
        put: Callable[[pa.Table], None],
        *,
        rows: int,
        nbytes: int,
        days: bool,
    ) -> None:
        self.pending = 0
        self._file = file
        self._buffer = buffer
        self._writer = writer
        self._put = put
        self._max_rows = rows
        self._max_bytes = nbytes
        self._rows = 0
        self._days = days

    def write(self, batch: pa.RecordBatch) -> None:
        if self._days:
            check_batch_days(batch)
        while batch.num_rows and batch.num_columns:
            taken = batch.slice(0, self._max_rows - self._rows)
            batch = batch.slice(taken.num_rows)
            self.pending += self._buffer.add(taken)
            self._rows += taken.num_rows
            if self._rows >= self._max_rows or self.pending >= self._max_bytes:
                self.flush()

    def flush(self) -> None:
        if self._rows:
            table, self._rows, self.pending = self._buffer.take(), 0, 0
            self._put(table)

    def close(self) -> None:
        self.flush()
        self._writer.close()
        self._file.close()

    def discard(self) -> None:
        self._rows = self.pending = 0
        for closing in (self._buffer.take, self._writer.close, self._file.close):
            with contextlib.suppress(OSError, pa.ArrowException):  # the file is about to be deleted
                closing()


class _ParquetWriter:
    """Writer of tables; the first table decides which columns get a dictionary.

    Building one takes much of the write time, and Parquet drops it in the end for a column of mostly distinct values.
    Dictionary columns have theirs already.
    """

    def __init__(self, file: pa.NativeFile, stored: pa.Schema, options: Mapping[str, Any]) -> None:
        self._file, self._stored = file, stored
        # A filter for as many values as a row group has rows finds 95 of 100 that are not there.
        rows = options.get("row_group_rows", _ROW_GROUP_ROWS)
        filters = {name: {"ndv": rows} for name in options.get("bloom_filters", ())}
        self._options = {
            "compression": options.get("compression", "snappy"),
            "compression_level": options.get("compression_level"),
            "write_statistics": options.get("statistics", True),
            "bloom_filter_options": filters or None,
            "sorting_columns": _sorting_columns(stored, options.get("sorted_by", ())) or None,
        }
        self._writer: pq.ParquetWriter | None = None

    def _open(self, schema: pa.Schema, dictionary: bool | list[str]) -> pq.ParquetWriter:
        writer = pq.ParquetWriter(
            self._file,
            schema,
            **self._options,
            use_dictionary=dictionary,
            store_schema=False,
        )
        # As store_schema=True would, but without dictionaries, so that such columns are read back as text.
        recorded = base64.b64encode(self._stored.serialize().to_pybytes()).decode()
        writer.add_key_value_metadata({"ARROW:schema": recorded})
        return writer

    def write(self, table: pa.Table, rows: int) -> None:
        if self._writer is None:
            self._writer = self._open(table.schema, _columns_to_encode(table))
        self._writer.write_table(table, row_group_size=rows)

    def close(self) -> None:
        writer = self._writer or self._open(self._stored, True)
        writer.close()


def _sorting_columns(schema: pa.Schema, sorted_by: Iterable[SortedColumn]) -> list[pq.SortingColumn]:
    """Return the order of the rows as Parquet records it, for as many columns as all readers order alike.

    Columns of partitions are not in the file, and have one value there. Floats end it: readers put NaN at either end.
    """
    leaves = np.cumsum([0, *(_leaves(kind) for kind in schema.types)])
    made: list[pq.SortingColumn] = []
    for column in sorted_by:
        number = schema.get_field_index(column.name)
        if number < 0:
            continue
        kind = schema.field(number).type
        if pa.types.is_nested(kind) or pa.types.is_floating(kind):
            break
        made.append(pq.SortingColumn(int(leaves[number]), column.descending, column.nulls_first))
    return made


def _leaves(kind: pa.DataType) -> int:
    """Return the number of columns of Parquet that hold a column of a type."""
    if not pa.types.is_nested(kind):
        return 1
    return sum(_leaves(kind.field(number).type) for number in range(kind.num_fields))


def _columns_to_encode(table: pa.Table) -> bool | list[str]:
    """Return the columns whose values repeat, or True (all columns) where one is nested."""
    if any(pa.types.is_nested(t) for t in table.schema.types):
        return True
    encoded = [f.name for f in table.schema if pa.types.is_dictionary(f.type)]
    if len(encoded) == table.num_columns:
        return encoded
    # Sampled evenly: the first rows of a sorted key repeat, while all of them together overflow the dictionary.
    step = -(-table.num_rows // _SAMPLE_ROWS)
    some = table.drop_columns(encoded)
    if step > 1:
        picked = [b.take(pa.array(np.arange(0, b.num_rows, step))) for b in some.to_batches()]
        some = pa.Table.from_batches(picked)
    plain = [
        name
        for name, column in zip(some.column_names, some.columns, strict=True)
        if pa.types.is_null(column.type) or worth_dictionary(pc.count_distinct(column).as_py(), some.num_rows)
    ]
    return [*encoded, *plain]


def open_parquet(path: str, schema: pa.Schema, options: Mapping[str, Any]) -> Writer:
    """Open a Parquet file whose row groups have at most `row_group_rows` rows."""
    return parquet_writer(pa.OSFile(os.fsencode(path), "wb"), schema, options)


def parquet_writer(file: pa.NativeFile, schema: pa.Schema, options: Mapping[str, Any]) -> Writer:
    """Return the writer of an open Parquet file, with the options of `open_parquet`."""
    stored = public_schema(schema)
    rows = options.get("row_group_rows", _ROW_GROUP_ROWS)
    writer = _ParquetWriter(file, stored, options)

    def put(table: pa.Table) -> None:
        writer.write(table, rows)

    return _BufferedWriter(
        file,
        RowGroup(schema, stored),
        writer,
        put,
        rows=rows,
        nbytes=_ROW_GROUP_BYTES,
        days=_has_days(stored),
    )


def open_arrow(path: str, schema: pa.Schema, options: Mapping[str, Any]) -> Writer:
    """Open an Arrow IPC file; uncompressed by default, so that it can be mapped without a copy."""
    stored = public_schema(schema)
    rows = options.get("batch_rows", 64 << 10)
    codec = options.get("compression", "none")
    write_options = pa.ipc.IpcWriteOptions(compression=None if codec == "none" else codec)
    file = pa.OSFile(os.fsencode(path), "wb")
    writer = pa.ipc.new_file(file, stored, options=write_options)

    def put(table: pa.Table) -> None:
        writer.write_table(table.combine_chunks(), max_chunksize=rows)

    return _BufferedWriter(
        file, _BatchBuffer(stored), writer, put, rows=rows, nbytes=_BATCH_BYTES, days=_has_days(stored)
    )


def _has_days(schema: pa.Schema) -> bool:
    return any(map(pa.types.is_date64, schema.types))


def parquet_problem(field: pa.Field) -> str | None:
    """Return why Parquet can't hold a column; None where it can."""
    return _first_problem(field.type, _parquet_type_problem)


def arrow_problem(field: pa.Field) -> str | None:
    """Return why an IPC file that mmflow reads back can't hold a column; None where it can."""
    return _first_problem(field.type, _arrow_type_problem)


def _arrow_type_problem(kind: pa.DataType) -> str | None:
    if pa.types.is_union(kind):
        return "unions are not read back by most programs; choose one of its types with a cast"
    if pa.types.is_interval(kind):
        return "calendar intervals are not read back by most programs; write months and days as integers"
    return None


def _parquet_type_problem(kind: pa.DataType) -> str | None:
    if pa.types.is_struct(kind) and kind.num_fields == 0:
        return "Parquet has no struct without fields; leave the column out"
    if pa.types.is_fixed_size_list(kind) and kind.list_size == 0:
        # pyarrow 26 writes it, and can't read it back where a row is null.
        return "Parquet has no lists of the fixed size 0; leave the column out"
    if pa.types.is_decimal(kind) and kind.scale < 0:
        return "Parquet has no decimals of a negative scale; cast the column to one of scale 0"
    return _arrow_type_problem(kind)


def _first_problem(kind: pa.DataType, problem: Callable[[pa.DataType], str | None]) -> str | None:
    why = problem(kind)
    if why is None and pa.types.is_nested(kind):
        for number in range(kind.num_fields):
            why = why or _first_problem(kind.field(number).type, problem)
    return why

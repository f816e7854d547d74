"""Parquet and Arrow IPC files.

Text is stored as plain `string` (and `binary`), not as the views that mmflow computes with: every reader
knows it. Small batches are put together, so that row groups and record batches get their size whatever
pieces the rows come in.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmflow.formats.carried import converted
from mmflow.formats.schema import public_schema
from mmflow.sinks.dictionaries import RowGroup, repeats
from mmflow.sinks.limits import checked_days
from mmflow.sinks.writer import Writer, one_of, positive

__all__ = [
    "ARROW_OPTIONS",
    "PARQUET_OPTIONS",
    "arrow_problem",
    "open_arrow",
    "open_parquet",
    "parquet_problem",
]

PARQUET_OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "compression": one_of(("snappy", "zstd", "gzip", "lz4", "brotli", "none")),
    "row_group_rows": positive,
}
ARROW_OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "compression": one_of(("none", "lz4", "zstd")),
    "batch_rows": positive,
}
#: Rows held back until they are a row group: by bytes too, so that wide rows don't take all memory.
_ROW_GROUP_BYTES = 64 << 20
_SAMPLE_ROWS = 16 << 10
_BATCH_BYTES = 16 << 20


class _Held(Protocol):
    """Rows held back."""

    def add(self, batch: pa.RecordBatch) -> int:
        """Hold the next rows; bytes that this takes."""
        ...

    def take(self) -> pa.Table:
        """All rows held, which are no longer."""
        ...


class _Batches:
    """Rows held as they are stored."""

    def __init__(self, stored: pa.Schema) -> None:
        self._stored = stored
        self._batches: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> int:
        fields = zip(batch.columns, self._stored, strict=True)
        # The cast cuts text loose from the mapped window too: holding it back costs its own bytes only.
        own = pa.RecordBatch.from_arrays([converted(c, f.type) for c, f in fields], schema=self._stored)
        self._batches.append(own)
        return int(own.nbytes)

    def take(self) -> pa.Table:
        batches, self._batches = self._batches, []
        return pa.Table.from_batches(batches, self._stored)


class _Gathered:
    """Gathers batches to `rows` rows or `nbytes` bytes, and hands them to `put` as one table.

    `days`: some columns are date64, whose values are to be whole days.
    """

    def __init__(
        self,
        file: pa.NativeFile,
        held: _Held,
        writer: Any,
        put: Callable[[pa.Table], None],
        *,
        rows: int,
        nbytes: int,
        days: bool,
    ) -> None:
        self.pending = 0
        self._file = file
        self._held = held
        self._writer = writer
        self._put = put
        self._most_rows = rows
        self._most_bytes = nbytes
        self._rows = 0
        self._days = days

    def write(self, batch: pa.RecordBatch) -> None:
        if self._days:
            checked_days(batch)
        while batch.num_rows and batch.num_columns:
            taken = batch.slice(0, self._most_rows - self._rows)
            batch = batch.slice(taken.num_rows)
            self.pending += self._held.add(taken)
            self._rows += taken.num_rows
            if self._rows >= self._most_rows or self.pending >= self._most_bytes:
                self.flush()

    def flush(self) -> None:
        if self._rows:
            table, self._rows, self.pending = self._held.take(), 0, 0
            self._put(table)

    def close(self) -> None:
        self.flush()
        self._writer.close()
        self._file.close()

    def discard(self) -> None:
        self._rows = self.pending = 0
        for closing in (self._held.take, self._writer.close, self._file.close):
            with contextlib.suppress(OSError, pa.ArrowException):  # the file is about to be deleted
                closing()


class _ParquetWriter:
    """Writes tables; the first one says which columns are worth a dictionary.

    Trying one costs a good part of the time, and a column of mostly different values drops it after all. Columns of
    dictionaries have theirs already.
    """

    def __init__(self, file: pa.NativeFile, stored: pa.Schema, compression: str) -> None:
        self._file, self._stored, self._compression = file, stored, compression
        self._writer: pq.ParquetWriter | None = None

    def _open(self, schema: pa.Schema, dictionary: bool | list[str]) -> pq.ParquetWriter:
        writer = pq.ParquetWriter(
            self._file,
            schema,
            compression=self._compression,
            use_dictionary=dictionary,
            store_schema=False,
        )
        # What store_schema=True writes, but dictionaries are the writer's business: they are read back as text.
        recorded = base64.b64encode(self._stored.serialize().to_pybytes()).decode()
        writer.add_key_value_metadata({"ARROW:schema": recorded})
        return writer

    def write(self, table: pa.Table, rows: int) -> None:
        if self._writer is None:
            self._writer = self._open(table.schema, _repeating(table))
        self._writer.write_table(table, row_group_size=rows)

    def close(self) -> None:
        writer = self._writer or self._open(self._stored, True)
        writer.close()


def _repeating(table: pa.Table) -> bool | list[str]:
    """Columns in which values come again; with nested columns, all."""
    if any(pa.types.is_nested(t) for t in table.schema.types):
        return True
    encoded = [f.name for f in table.schema if pa.types.is_dictionary(f.type)]
    if len(encoded) == table.num_columns:
        return encoded
    # Evenly over all rows: the first ones of a sorted key repeat, and the whole of it overflows its dictionary.
    step = -(-table.num_rows // _SAMPLE_ROWS)
    some = table.drop_columns(encoded)
    if step > 1:
        picked = [b.take(pa.array(np.arange(0, b.num_rows, step))) for b in some.to_batches()]
        some = pa.Table.from_batches(picked)
    plain = [
        name
        for name, column in zip(some.column_names, some.columns, strict=True)
        if pa.types.is_null(column.type) or repeats(pc.count_distinct(column).as_py(), some.num_rows)
    ]
    return [*encoded, *plain]


def open_parquet(path: str, schema: pa.Schema, options: Mapping[str, Any]) -> Writer:
    """A Parquet file; row groups have at most `row_group_rows` rows."""
    stored = public_schema(schema)
    rows = options.get("row_group_rows", 1 << 20)
    file = pa.OSFile(os.fsencode(path), "wb")
    writer = _ParquetWriter(file, stored, options.get("compression", "snappy"))

    def put(table: pa.Table) -> None:
        writer.write(table, rows)

    return _Gathered(
        file,
        RowGroup(schema, stored),
        writer,
        put,
        rows=rows,
        nbytes=_ROW_GROUP_BYTES,
        days=_has_days(stored),
    )


def open_arrow(path: str, schema: pa.Schema, options: Mapping[str, Any]) -> Writer:
    """An Arrow IPC file; uncompressed unless asked, so that it can be mapped without a copy."""
    stored = public_schema(schema)
    rows = options.get("batch_rows", 64 << 10)
    codec = options.get("compression", "none")
    write_options = pa.ipc.IpcWriteOptions(compression=None if codec == "none" else codec)
    file = pa.OSFile(os.fsencode(path), "wb")
    writer = pa.ipc.new_file(file, stored, options=write_options)

    def put(table: pa.Table) -> None:
        writer.write_table(table.combine_chunks(), max_chunksize=rows)

    return _Gathered(
        file, _Batches(stored), writer, put, rows=rows, nbytes=_BATCH_BYTES, days=_has_days(stored)
    )


def _has_days(schema: pa.Schema) -> bool:
    return any(map(pa.types.is_date64, schema.types))


def parquet_problem(field: pa.Field) -> str | None:
    """Why Parquet can't hold a column; None where it can."""
    return _anywhere(field.type, _not_in_parquet)


def arrow_problem(field: pa.Field) -> str | None:
    """Why an IPC file that mmflow reads back can't hold a column; None where it can."""
    return _anywhere(field.type, _not_in_arrow)


def _not_in_arrow(kind: pa.DataType) -> str | None:
    if pa.types.is_union(kind):
        return "unions are not read back by most programs; choose one of its types with a cast"
    if pa.types.is_interval(kind):
        return "calendar intervals are not read back by most programs; write months and days as integers"
    return None


def _not_in_parquet(kind: pa.DataType) -> str | None:
    if pa.types.is_struct(kind) and kind.num_fields == 0:
        return "Parquet has no struct without fields; leave the column out"
    if pa.types.is_fixed_size_list(kind) and kind.list_size == 0:
        # pyarrow 26 writes it, and can't read it back where a row is null.
        return "Parquet has no lists of the fixed size 0; leave the column out"
    if pa.types.is_decimal(kind) and kind.scale < 0:
        return "Parquet has no decimals of a negative scale; cast the column to one of scale 0"
    return _not_in_arrow(kind)


def _anywhere(kind: pa.DataType, problem: Callable[[pa.DataType], str | None]) -> str | None:
    why = problem(kind)
    if why is None and pa.types.is_nested(kind):
        for number in range(kind.num_fields):
            why = why or _anywhere(kind.field(number).type, problem)
    return why

"""Parquet and Arrow IPC files.

Text is stored as plain `string` (and `binary`), not as the views that mmflow computes with: every reader
knows it. Small batches are put together, so that row groups and record batches get their size whatever
pieces the rows come in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmflow.formats.schema import public_schema
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


class _Gathered:
    """Gathers batches to `rows` rows or `nbytes` bytes, and hands them to `put` as one table."""

    def __init__(
        self,
        file: pa.NativeFile,
        schema: pa.Schema,
        writer: Any,
        put: Callable[[pa.Table], None],
        *,
        rows: int,
        nbytes: int,
    ) -> None:
        self.pending = 0
        self._file = file
        self._schema = schema
        self._writer = writer
        self._put = put
        self._most_rows = rows
        self._most_bytes = nbytes
        self._held: list[pa.RecordBatch] = []
        self._rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        fields = zip(batch.columns, self._schema, strict=True)
        # The cast cuts text loose from the mapped window too: holding it back costs its own bytes only.
        own = pa.RecordBatch.from_arrays([c.cast(f.type) for c, f in fields], schema=self._schema)
        while own.num_rows:
            taken = own.slice(0, self._most_rows - self._rows)
            own = own.slice(taken.num_rows)
            self._held.append(taken)
            self._rows += taken.num_rows
            self.pending += taken.nbytes
            if self._rows >= self._most_rows or self.pending >= self._most_bytes:
                self.flush()

    def flush(self) -> None:
        if self._held:
            held, self._held, self._rows, self.pending = self._held, [], 0, 0
            self._put(pa.Table.from_batches(held, self._schema))

    def close(self) -> None:
        self.flush()
        self._writer.close()
        self._file.close()

    def discard(self) -> None:
        self._held, self._rows, self.pending = [], 0, 0
        for closing in (self._writer.close, self._file.close):
            with contextlib.suppress(OSError, pa.ArrowException):  # the file is about to be deleted
                closing()


class _ParquetWriter:
    """Writes tables; the first one says which columns are worth a dictionary.

    Trying one costs a good part of the time, and a column of mostly different values drops it after all.
    """

    def __init__(self, file: pa.NativeFile, schema: pa.Schema, compression: str) -> None:
        self._file, self._schema, self._compression = file, schema, compression
        self._writer: pq.ParquetWriter | None = None

    def _open(self, dictionary: bool | list[str]) -> pq.ParquetWriter:
        return pq.ParquetWriter(
            self._file,
            self._schema,
            compression=self._compression,
            use_dictionary=dictionary,
            store_schema=True,
        )

    def write(self, table: pa.Table, rows: int) -> None:
        if self._writer is None:
            self._writer = self._open(_repeating(table.slice(0, _SAMPLE_ROWS)))
        self._writer.write_table(table, row_group_size=rows)

    def close(self) -> None:
        writer = self._writer or self._open(True)
        writer.close()


def _repeating(sample: pa.Table) -> bool | list[str]:
    """Columns in which values come again; with nested columns, all."""
    if any(pa.types.is_nested(t) for t in sample.schema.types):
        return True
    most = sample.num_rows * 3 // 4
    columns = zip(sample.column_names, sample.columns, strict=True)
    return [n for n, c in columns if pa.types.is_null(c.type) or pc.count_distinct(c).as_py() <= most]


def open_parquet(path: str, schema: pa.Schema, options: Mapping[str, Any]) -> Writer:
    """A Parquet file; row groups have at most `row_group_rows` rows."""
    stored = public_schema(schema)
    rows = options.get("row_group_rows", 1 << 20)
    file = pa.OSFile(path, "wb")
    writer = _ParquetWriter(file, stored, options.get("compression", "snappy"))

    def put(table: pa.Table) -> None:
        writer.write(table, rows)

    return _Gathered(file, stored, writer, put, rows=rows, nbytes=_ROW_GROUP_BYTES)


def open_arrow(path: str, schema: pa.Schema, options: Mapping[str, Any]) -> Writer:
    """An Arrow IPC file; uncompressed unless asked, so that it can be mapped without a copy."""
    stored = public_schema(schema)
    rows = options.get("batch_rows", 64 << 10)
    codec = options.get("compression", "none")
    write_options = pa.ipc.IpcWriteOptions(compression=None if codec == "none" else codec)
    file = pa.OSFile(path, "wb")
    writer = pa.ipc.new_file(file, stored, options=write_options)

    def put(table: pa.Table) -> None:
        writer.write_table(table.combine_chunks(), max_chunksize=rows)

    return _Gathered(file, stored, writer, put, rows=rows, nbytes=_BATCH_BYTES)


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
    return _not_in_arrow(kind)


def _anywhere(kind: pa.DataType, problem: Callable[[pa.DataType], str | None]) -> str | None:
    why = problem(kind)
    if why is None and pa.types.is_nested(kind):
        for number in range(kind.num_fields):
            why = why or _anywhere(kind.field(number).type, problem)
    return why

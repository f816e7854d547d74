"""Results on a stream: a table for people; CSV, JSON, NDJSON, Arrow or Parquet for programs.

Invariant: JSON is one array of row objects, NDJSON one object in each line, CSV is RFC 4180 with a header, Arrow is an
IPC stream. All are complete also for a result without rows, and none but Parquet, which gathers row groups, holds more
than a batch in memory. Values are as in
`sinks.writers.text`: decimals and 64-bit integers exactly, timestamps ISO 8601, binary base64, NaN
and infinities as text in JSON.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO, TextIO, cast

import pyarrow as pa

from mmflow.errors import ConfigError, SinkError
from mmflow.formats.schemas.arrow_types import public_batch
from mmflow.formats.schemas.schema import public_schema, type_text
from mmflow.sinks.screen import has_colors, screen_width
from mmflow.sinks.writers.rows import csv_header, csv_problem, text_problem
from mmflow.sinks.writers.text import csv_lines, json_rows, lines, text_slices

__all__ = ["BINARY_FORMATS", "STDOUT_FORMATS", "binary_stdout", "write_table"]

STDOUT_FORMATS = ("table", "csv", "json", "ndjson", "markdown", "arrow", "parquet")
#: Those that are no text.
BINARY_FORMATS = ("arrow", "parquet")


class _Utf8Adapter:
    """Binary stream on top of a text stream that has none below it (a notebook's, or `io.StringIO`)."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return bool(getattr(self._text, "isatty", lambda: False)())

    def write(self, data: bytes | memoryview) -> int:
        """Write UTF-8; characters that the stream's encoding lacks are escaped."""
        text = self._decoder.decode(bytes(data))
        encoding = getattr(self._text, "encoding", None) or "utf-8"
        self._text.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(data)

    def flush(self) -> None:
        """Flush the text stream."""
        getattr(self._text, "flush", lambda: None)()


def binary_stdout() -> BinaryIO:
    """Return standard output as a binary stream; a stream that discards everything where there is none.

    Raises:
        SinkError: It is closed.
    """
    stream = sys.stdout
    if stream is None:
        return io.BytesIO()
    if getattr(stream, "closed", False):
        raise SinkError("can't print: standard output is closed; write the rows to a file instead")
    getattr(stream, "flush", lambda: None)()
    found = getattr(stream, "buffer", None)
    return cast(BinaryIO, _Utf8Adapter(stream)) if found is None else found


def write_table(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    format: str,
    stream: BinaryIO,
    *,
    width: int | None = None,
    max_rows: int | None = 1000,
    every_column: bool = False,
) -> int:
    """Write all rows to a binary stream (`sys.stdout.buffer`) and return their number.

    Args:
        batches: Batches of `schema`, consumed one by one.
        schema: Names and types, also if there is no batch.
        format: One of `STDOUT_FORMATS`.
        stream: Flushed, not closed. BrokenPipeError passes through.
        width: Width of tables in characters; None: the terminal's; without one that of COLUMNS, else unlimited.
        max_rows: Limit of rows in tables: the first and last ones, and the number of all. None: all.
        every_column: Show all columns in tables, where necessary in several ones below each other.

    Raises:
        ConfigError: An unknown format.
        SinkError: A column of a type that it can't show (calendar intervals, unions).
    """
    writers: Mapping[str, Callable[[], int]] = {
        "table": lambda: _write_text_table(batches, schema, stream, width, max_rows, every_column),
        "json": lambda: _write_json(batches, schema, stream),
        "ndjson": lambda: _write_ndjson(batches, stream),
        "markdown": lambda: _write_markdown(batches, schema, stream),
        "parquet": lambda: _write_parquet(batches, schema, stream),
        "csv": lambda: _write_csv(batches, schema, stream),
        "arrow": lambda: _write_arrow(batches, schema, stream),
    }
    if format not in writers:
        raise ConfigError(f"unknown format {format!r}: must be one of {', '.join(STDOUT_FORMATS)}")
    problem = _problem_of(format)
    for field in schema if format != "arrow" else ():
        why = problem(field)
        if why is not None:
            raise SinkError(f"can't show column {field.name!r} ({type_text(field.type)}) as {format}: {why}")
    rows = writers[format]()
    stream.flush()
    return rows


def _problem_of(format: str) -> Callable[[pa.Field], str | None]:
    """Return the function that says why a column can't be written in a format."""
    if format == "parquet":
        from mmflow.sinks.writers.columnar import parquet_problem  # noqa: PLC0415  (slow)

        return parquet_problem
    return csv_problem if format == "csv" else text_problem


def _write_json(batches: Iterable[pa.RecordBatch], schema: pa.Schema, stream: BinaryIO) -> int:
    rows = 0
    stream.write(b"[")
    for batch in batches:
        for piece in text_slices(batch.rename_columns(schema.names)):
            stream.write(b",\n" if rows else b"\n")
            text = memoryview(lines(json_rows(piece), ending=",\n"))
            stream.write(text[:-2])
            rows += piece.num_rows
    stream.write(b"\n]\n" if rows else b"]\n")
    return rows


def _write_ndjson(batches: Iterable[pa.RecordBatch], stream: BinaryIO) -> int:
    rows = 0
    for batch in batches:
        for piece in text_slices(batch):
            stream.write(memoryview(lines(json_rows(piece))))
            rows += piece.num_rows
    return rows


def _write_csv(batches: Iterable[pa.RecordBatch], schema: pa.Schema, stream: BinaryIO) -> int:
    rows = 0
    if schema.names:
        stream.write(csv_header(schema.names, ","))
    from mmflow.sinks.writers.text import text_slices  # noqa: PLC0415  (slow)

    for batch in batches:
        for piece in text_slices(batch):
            if piece.num_columns:
                stream.write(memoryview(csv_lines(piece, delimiter=",", null="")))
            rows += piece.num_rows
    return rows


def _write_markdown(batches: Iterable[pa.RecordBatch], schema: pa.Schema, stream: BinaryIO) -> int:
    from mmflow.sinks.markdown_table import write_markdown  # noqa: PLC0415  (slow)

    return write_markdown(batches, schema, stream)


def _write_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, stream: BinaryIO) -> int:
    from mmflow.sinks.parquet_stream import write_parquet_stream  # noqa: PLC0415  (slow)

    return write_parquet_stream(batches, schema, stream)


def _write_arrow(batches: Iterable[pa.RecordBatch], schema: pa.Schema, stream: BinaryIO) -> int:
    stored = public_schema(schema)
    rows = 0
    writer = pa.ipc.new_stream(stream, stored)
    for batch in batches:
        writer.write_batch(public_batch(batch, stored))
        rows += batch.num_rows
    # Not where something is raised: the mark of the end would say that these are all rows, and wait for a reader.
    writer.close()
    return rows


def _write_text_table(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    stream: BinaryIO,
    width: int | None,
    max_rows: int | None,
    every_column: bool,
) -> int:
    from mmflow.sinks.text_table import ShownRows  # noqa: PLC0415  (slow)

    rows = ShownRows(schema, max_rows)
    for batch in batches:
        rows.add(batch)
    width, colors = width or screen_width(stream), has_colors(stream)
    from mmflow.sinks.text_table import text_table  # noqa: PLC0415  (slow)

    stream.write(text_table(rows, width, colors=colors, every_column=every_column).encode())
    return rows.total

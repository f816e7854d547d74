"""A result on a stream: a table for people; JSON, CSV or Arrow for programs.

Invariant: JSON is one array of row objects, CSV is RFC 4180 with a header, Arrow is an IPC stream; all are
complete also for a result without rows, and none holds more than a batch in memory. Values are as in
`sinks.text`: decimals and 64-bit integers exactly, timestamps ISO 8601, binary base64, NaN and
infinities as text in JSON.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, TextIO, cast

import pyarrow as pa

from mmflow.errors import ConfigError, SinkError
from mmflow.formats.carried import public_batch
from mmflow.formats.fixed_width import numpy_values
from mmflow.formats.schema import public_schema, type_text
from mmflow.sinks.limits import UnwritableError
from mmflow.sinks.rows import csv_header, csv_problem, lines
from mmflow.sinks.text import csv_fields, csv_rows, json_rows, text_slices, unwritable

__all__ = ["STDOUT_FORMATS", "binary_stdout", "write_table"]

STDOUT_FORMATS = ("table", "json", "csv", "arrow")
#: Longer values are cut in tables.
_CELL = 80


class _Encoded:
    """A text stream that has no binary one below it, as a binary one: of a notebook, or `io.StringIO`."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return bool(getattr(self._text, "isatty", lambda: False)())

    def write(self, data: bytes | memoryview) -> int:
        """Write UTF-8; what the stream's own encoding lacks comes as escapes."""
        text = self._decoder.decode(bytes(data))
        encoding = getattr(self._text, "encoding", None) or "utf-8"
        self._text.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(data)

    def flush(self) -> None:
        """Hand on what the stream holds back."""
        getattr(self._text, "flush", lambda: None)()


def binary_stdout() -> BinaryIO:
    """Return standard output as a binary stream, whatever stands in for it; one that drops all where there is none.

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
    return cast(BinaryIO, _Encoded(stream)) if found is None else found


def write_table(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    format: str,  # noqa: A002  (the flag's name)
    stream: BinaryIO,
    *,
    width: int | None = None,
    max_rows: int | None = 1000,
) -> int:
    """Write all rows to a binary stream (`sys.stdout.buffer`); returns their number.

    Args:
        batches: Of `schema`; consumed one by one.
        schema: Names and types, also if there is no batch.
        format: table, json, csv or arrow.
        stream: Is flushed, not closed. BrokenPipeError comes through.
        width: Of tables, in characters; None: the terminal's, or unlimited where there is none.
        max_rows: Of tables; what lies beyond is counted and said. None: all.

    Raises:
        ConfigError: An unknown format, or a type that it can't show (calendar intervals, unions).
    """
    writers: Mapping[str, Callable[[], int]] = {
        "table": lambda: _write_people(batches, schema, stream, width, max_rows),
        "json": lambda: _write_json(batches, schema, stream),
        "csv": lambda: _write_csv(batches, schema, stream),
        "arrow": lambda: _write_arrow(batches, schema, stream),
    }
    if format not in writers:
        raise ConfigError(f"unknown format {format!r}: must be one of {', '.join(STDOUT_FORMATS)}")
    for field in schema if format != "arrow" else ():
        why = csv_problem(field) if format == "csv" else unwritable(field.type)
        if why is not None:
            raise ConfigError(
                f"can't show column {field.name!r} ({type_text(field.type)}) as {format}: {why}"
            )
    rows = writers[format]()
    stream.flush()
    return rows


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


def _write_csv(batches: Iterable[pa.RecordBatch], schema: pa.Schema, stream: BinaryIO) -> int:
    rows = 0
    if schema.names:
        stream.write(csv_header(schema.names, ","))
    for batch in batches:
        for piece in text_slices(batch):
            if piece.num_columns:
                stream.write(memoryview(lines(csv_rows(piece, delimiter=",", null=""))))
            rows += piece.num_rows
    return rows


def _write_arrow(batches: Iterable[pa.RecordBatch], schema: pa.Schema, stream: BinaryIO) -> int:
    stored = public_schema(schema)
    rows = 0
    with pa.ipc.new_stream(stream, stored) as writer:
        for batch in batches:
            writer.write_batch(public_batch(batch, stored))
            rows += batch.num_rows
    return rows


def _write_people(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    stream: BinaryIO,
    width: int | None,
    max_rows: int | None,
) -> int:
    from rich import box  # noqa: PLC0415  (slow to import, and only tables need it)
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for field in schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        right = numeric or pa.types.is_decimal(field.type)
        table.add_column(
            Text(field.name), justify="right" if right else "left", overflow="ellipsis", no_wrap=True
        )
    rows = shown = 0
    for batch in batches:
        rows += batch.num_rows
        take = batch.num_rows if max_rows is None else min(batch.num_rows, max_rows - shown)
        for piece in text_slices(batch.slice(0, take)):
            for cells in zip(*(_cells(column) for column in piece.columns), strict=True):
                table.add_row(*(Text("null", style="dim") if c is None else Text(c) for c in cells))
        shown += take
    terminal = getattr(stream, "isatty", lambda: False)()
    text = io.StringIO()
    if terminal:
        console = Console(file=text, force_terminal=True, force_jupyter=False, width=width)
    else:
        # In a notebook rich would show the table itself, and write nothing.
        console = Console(file=text, force_jupyter=False, width=width or 1_000_000, color_system=None)
    if schema.names:
        console.print(table)
    count = f"{rows:,} row{'' if rows == 1 else 's'}"
    if shown < rows:
        count += f", the first {shown:,} are shown; --format csv gives all"
    console.print(Text(f"({count})", style="dim"))
    stream.write("".join(line.rstrip() + "\n" for line in text.getvalue().splitlines()).encode())
    return rows


def _cells(column: pa.Array) -> list[str | None]:
    """Values as short texts of one line each; None for null."""
    try:
        quoted = csv_fields(column, ",", "")
    except UnwritableError:  # years beyond 9999, which people may see, since nobody reads them back
        quoted = pa.array(list(map(str, numpy_values(column))), pa.string())
    cells: list[str | None] = []
    for text, valid in zip(quoted.to_pylist(), column.is_valid().to_pylist(), strict=True):
        plain = text[1:-1].replace('""', '"') if text.startswith('"') else text
        line = "".join(c if c.isprintable() else _visible(c) for c in plain)
        cells.append(None if not valid else line if len(line) <= _CELL else line[: _CELL - 1] + "…")
    return cells


def _visible(character: str) -> Any:
    """A control character as an escape, so that data can't drive the terminal."""
    return character.encode("unicode_escape").decode()

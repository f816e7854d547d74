"""CSV (RFC 4180) and NDJSON files, from text made column by column."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from mmflow.formats.csv.header import CONTROL
from mmflow.formats.ndjson.values import is_binary
from mmflow.sinks.writers.base import Writer, choice_parser, parse_boolean
from mmflow.sinks.writers.text import csv_field, csv_lines, json_rows, lines, text_slices, text_type_problem

__all__ = [
    "COMPRESSIONS",
    "CSV_OPTIONS",
    "NDJSON_OPTIONS",
    "csv_header",
    "csv_problem",
    "csv_writer",
    "ndjson_writer",
    "open_csv",
    "open_ndjson",
    "text_problem",
]

_BUFFER = 1 << 20
#: Compressions of text files, and the suffixes behind those of their format.
COMPRESSIONS = {"none": "", "gzip": ".gz", "zstd": ".zst"}
_DELIMITERS = frozenset(",;\t|")


def _delimiter(value: Any) -> str:
    text = {"\\t": "\t", "tab": "\t"}.get(str(value), str(value))
    if len(text) != 1 or not text.isascii() or text in '"\r\n\0':
        raise ValueError("must be one character of ASCII, and neither a quote, a line end nor NUL")
    return text


def _null(value: Any) -> str:
    text = str(value)
    if any(c in text for c in '"\r\n\0\ufeff'):
        raise ValueError("must not hold quotes, line ends, NULs or byte order marks")
    return text


CSV_OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "delimiter": _delimiter,
    "header": parse_boolean,
    "null": _null,
    "compression": choice_parser(COMPRESSIONS),
}
NDJSON_OPTIONS: Mapping[str, Callable[[Any], Any]] = {"compression": choice_parser(COMPRESSIONS)}


class _Lines:
    """Writer of every batch at once, as lines."""

    pending = 0

    def __init__(self, file: Any, encode: Callable[[pa.RecordBatch], bytes | pa.Buffer]) -> None:
        self._file = file
        self._encode = encode

    def write(self, batch: pa.RecordBatch) -> None:
        for piece in text_slices(batch):
            self._file.write(self._encode(piece))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        with contextlib.suppress(OSError, pa.ArrowException):  # the file is about to be deleted
            self._file.close()


def csv_header(names: list[str], delimiter: str) -> bytes:
    """Return the header record; names with characters that could be taken for a delimiter are quoted."""
    fields = [csv_field(name, delimiter, "") for name in names]
    quoted = [f'"{f}"' if not f.startswith('"') and _DELIMITERS & set(f) else f for f in fields]
    return (delimiter.join(quoted) + "\n").encode()


def open_csv(path: str, schema: pa.Schema, options: Mapping[str, Any]) -> Writer:
    """Open a CSV file in UTF-8, lines ending in LF."""
    return csv_writer(open(path, "wb", buffering=_BUFFER), schema, options)


def open_ndjson(path: str, schema: pa.Schema, options: Mapping[str, Any]) -> Writer:
    """Open a file of one JSON object per line, in UTF-8; nulls are written as null, not left out."""
    return ndjson_writer(open(path, "wb", buffering=_BUFFER), schema, options)


def csv_writer(file: Any, schema: pa.Schema, options: Mapping[str, Any]) -> Writer:
    """Return a writer of CSV to a binary file, which it closes."""
    delimiter = options.get("delimiter", ",")
    null = options.get("null", "")
    packed = _compressed(file, options)
    if options.get("header", True):
        packed.write(csv_header(schema.names, delimiter))
    return _Lines(packed, lambda batch: csv_lines(batch, delimiter=delimiter, null=null))


def ndjson_writer(file: Any, schema: pa.Schema, options: Mapping[str, Any]) -> Writer:
    """Return a writer of NDJSON to a binary file, which it closes."""
    del schema
    return _Lines(_compressed(file, options), lambda batch: lines(json_rows(batch)))


def _compressed(file: Any, options: Mapping[str, Any]) -> Any:
    """Return a file that compresses into another one, and closes it, if the options say so."""
    codec = options.get("compression", "none")
    return file if codec == "none" else pa.CompressedOutputStream(pa.PythonFile(file, mode="w"), codec)


def text_problem(field: pa.Field) -> str | None:
    """Return why a column can't be written as text; None where it can."""
    return text_type_problem(field.type)


def csv_problem(field: pa.Field) -> str | None:
    """Return why a column can't be written as CSV; None where it can."""
    if is_binary(field.type):
        return "CSV has no form for bytes; write them as text (encode(…, 'base64')), or write ndjson, parquet or arrow"
    if CONTROL.search(field.name):
        return (
            "its name holds a control character, by which readers of CSV tell binary files; rename it (AS …)"
        )
    return text_type_problem(field.type)

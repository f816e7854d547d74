"""Types of the options that public functions take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

import pyarrow as pa

__all__ = [
    "ExtraColumns",
    "FileOptions",
    "MissingColumns",
    "OnBadRecord",
    "OnNewField",
    "Paths",
    "ReadOptions",
    "SchemaLike",
    "Validate",
    "WriteFormat",
    "WriteOptions",
]

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
SchemaLike: TypeAlias = pa.Schema | Mapping[str, str | pa.DataType] | str
OnBadRecord = Literal["error", "null", "skip", "quarantine"]
OnNewField = Literal["error", "ignore", "json"]
Validate = Literal["projected", "all"]
MissingColumns = Literal["error", "null"]
ExtraColumns = Literal["error", "ignore", "keep"]
WriteFormat = Literal["parquet", "arrow", "csv", "ndjson", "npy"]


class ReadOptions(TypedDict, total=False):
    """Options of all formats, for `read`. Those that the format does not have are refused.

    Each is described at the reader of its format: `read_csv`, `read_json`, `read_ndjson`, `read_text`, `read_records`.
    """

    dialect: Literal["auto"]
    schema_overrides: Mapping[str, Any] | str
    delimiter: str
    skip_rows: int
    header: bool | int | str | Sequence[int]
    names: Sequence[str] | str
    skip_footer: int
    quote: str | None
    escape: str
    comment: str
    trim: bool
    ragged: Literal["error", "null", "truncate", "extra"]
    lenient: bool
    line_end: Literal["auto", "any"]
    null: str | Sequence[str] | Mapping[str, str | Sequence[str]]
    quoted_null: bool
    true_values: str | Sequence[str]
    false_values: str | Sequence[str]
    decimal: Literal[".", ","]
    thousands: str
    date_format: str | Sequence[str] | Mapping[str, str | Sequence[str]]
    timestamp_format: str | Sequence[str] | Mapping[str, str | Sequence[str]]
    time_zone: str
    epoch: Mapping[str, Literal["s", "ms", "us", "ns"]]
    exact: bool
    pattern: str
    widths: Sequence[int] | str
    colspecs: Sequence[Sequence[int | None]] | str
    gaps: bool
    encoding: str
    on_bad_record: OnBadRecord
    max_record: int | str
    validate: Validate
    json_path: str
    on_new_field: OnNewField
    layout: Sequence[Mapping[str, Any]] | str
    array: str
    dtype: Any
    record_size: int
    record_length: Mapping[str, Any] | str
    header_bytes: int
    footer_bytes: int
    sheet: str | int


class FileOptions(TypedDict, total=False):
    """Options of all output formats: where a task begins another file of a folder, and how a URL's store is opened.

    Without the first two, a task writes one file for each partition. `repartition` says how many tasks there are.
    `storage_options` are those of the fsspec file system of the URL, as a dict or JSON, without secrets.
    """

    max_rows_per_file: int
    approximate_bytes_per_file: int
    storage_options: Mapping[str, Any] | str


class WriteOptions(FileOptions, total=False):
    """Options of all output formats, for `write`. Those that the format does not have are refused.

    Each is described at the writer of its format: `write_parquet`, `write_arrow`, `write_csv`.
    """

    compression: str
    compression_level: int
    row_group_rows: int
    statistics: bool
    bloom_filters: Sequence[str] | str
    batch_rows: int
    delimiter: str
    header: bool
    null: str


Folder = str | Path

"""Common parts of Parquet, Arrow IPC and npy: the groups that a shard owns, and columns that fit a schema.

A group (row group, record batch, row of an npy array) begins at some byte of the file, and belongs to the
shard that holds this byte. Where that byte is unknown without reading, any rule will do that puts group
i + 1 not before group i and depends on the file alone.

Invariant: for every tiling of a file by shards, every group is owned by exactly one of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa

from mmflow.errors import PlanError, SourceError
from mmflow.formats.base import ScanReport
from mmflow.formats.compression import detect_compression
from mmflow.formats.schemas.arrow_types import (
    check_wanted,
    convert_array,
    plan_field,
    plan_schema,
    tags,
)
from mmflow.formats.schemas.file_columns import DECLARED, ColumnOptions, FileColumns, merge_schemas, read_each
from mmflow.formats.schemas.overrides import with_overrides
from mmflow.formats.schemas.schema import parse_schema, public_type, type_text
from mmflow.formats.schemas.widening import as_text, conform, holds_exactly, is_text
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import FileIdentity, MappedFile
from mmflow.mapping.streams import stream_at
from mmflow.remote.opening import known_size, open_file
from mmflow.shards import Shard
from mmflow.storage.url import is_url

__all__ = [
    "GroupFormat",
    "check_names",
    "check_values",
    "convert_column",
    "declared_schema",
    "first_file",
    "group_row",
    "group_schema",
    "group_source",
    "make_batch",
    "owned_evenly",
    "owned_groups",
    "size_of",
    "slice_batch",
    "translate_read_errors",
]


def owned_groups(starts: Sequence[int], shard: Shard, size: int) -> tuple[int, int]:
    """Return the first group of a shard, and the one after its last, by the ascending byte offsets of groups.

    >>> [owned_groups([4, 4, 900], Shard(0, b, b + 512), 1024) for b in (0, 512)]
    [(0, 2), (2, 3)]
    """
    last = len(starts) if shard.end >= size else bisect_left(starts, shard.end)
    return (0 if shard.begin == 0 else bisect_left(starts, shard.begin)), last


def owned_evenly(count: int, shard: Shard, size: int) -> tuple[int, int]:
    """Return the same for groups of unknown place: group i of `count` is taken to begin at byte i * size // count.

    >>> [owned_evenly(5, Shard(0, b, b + 512), 1024) for b in (0, 512)]
    [(0, 3), (3, 5)]
    """

    def at(offset: int) -> int:
        return min(count, -(-offset * count // size))

    return at(shard.begin), count if shard.end >= size else at(shard.end)


def size_of(path: str) -> int:
    """Return the size of a file or of what a URL names, in bytes; of a stream whether it has any.

    Raises:
        SourceError: It is missing, or can't be asked.
    """
    stream = stream_at(path)
    if stream is not None:
        return stream.open().window(0, 1).length
    return known_size(path) if is_url(path) else FileIdentity.of(path).size


def first_file(paths: Sequence[str], kind: str) -> str:
    """Return the file that the schema is taken from, and check that no file is empty, which no such file can be.

    Raises:
        SourceError: One is missing, or has no bytes.
    """
    for path in paths:
        if size_of(path) == 0:
            raise SourceError(f"{path} is empty, which no {kind} file is; write it again", path=path)
    return paths[0]


@dataclass(frozen=True, slots=True)
class GroupFormat:
    """Format of files that consist of groups of rows (`formats.Format`).

    Attributes:
        schema: All columns.
        splittable: Whether a file may be several shards.
        columns: How the columns of a file may differ from the schema.
    """

    schema: pa.Schema
    splittable: bool = True
    columns: FileColumns = DECLARED
    name: str = ""
    record_oriented: bool = False
    one_nan: bool = False
    skips_holes: bool = False

    def spec(self) -> dict[str, Any]:
        return {
            "format": self.name,
            "schema": self.schema,
            "splittable": self.splittable,
            **self.columns.spec(),
        }

    def convert(self, array: pa.Array, path: str, column: str) -> pa.Array:
        """Return a column of a file as the schema has it.

        Raises:
            SourceError: The file's column has another type, or values that don't fit.
        """
        return convert_column(array, self.schema.field(column).type, path, column, self.columns)


def group_source(
    paths: Sequence[str],
    kind: str,
    schema: Any,
    read_schema: Callable[[MappedFile], pa.Schema],
    options: Mapping[str, Any],
) -> tuple[pa.Schema, FileColumns]:
    """Return the schema of a source, and how the columns of its files may differ from it.

    Args:
        paths: Files in reading order.
        kind: Name of the format, for messages.
        schema: Declared schema; None: that of the first file, or of several (`ColumnOptions`).
        read_schema: Reads the schema of a file.
        options: Options of the format, with `columns`.

    Raises:
        SourceError: A file is missing or empty; or one is damaged, or has a column name twice; or types of two files
            that no type holds.
        ConfigError: `schema` is no schema.
    """
    first_file(paths, kind)
    asked: ColumnOptions = options.get("columns", ColumnOptions())
    declared = None if schema is None else declared_schema(schema)
    overrides = (
        None if options.get("schema_overrides") is None else declared_schema(options["schema_overrides"])
    )
    if declared is not None:
        declared = with_overrides(declared, overrides)
    if declared is not None and not asked.merges:
        return declared, asked.declared(declared)

    def read(path: str) -> tuple[str, pa.Schema]:
        with open_file(path) as file:
            found = group_schema(read_schema(file), path)
        given = {} if overrides is None else {field.name: field for field in overrides}
        return path, pa.schema([given.get(field.name, field) for field in found]) if given else found

    looked_at = asked.looked_at(paths)
    known = () if declared is None else declared.names
    found = merge_schemas(read_each(looked_at, read), _override, dict.fromkeys(known))
    if declared is not None:
        return asked.kept(asked.declared(declared), declared, found)
    policy = asked.inferred(looked_at[0], len(looked_at))
    if overrides is not None:
        found = with_overrides(found, overrides)
        policy = replace(policy, texts=asked.declared(overrides).texts)
    return found, policy


def _override(column: str) -> str:
    return f"read it as text with schema_overrides={{{column!r}: 'string'}}, or read these files apart"


@contextmanager
def translate_read_errors(path: str, kind: str) -> Iterator[None]:
    """Turn pyarrow's errors about a damaged file into a SourceError.

    Raises:
        SourceError: The block raised an Arrow error.
    """
    try:
        yield
    except pa.ArrowNotImplementedError as error:
        raise SourceError(f"can't read {path}: it uses something of {kind} that is not supported: {error}",
                          path=path) from error  # fmt: skip
    except pa.ArrowMemoryError as error:
        raise SourceError(
            f"can't read {path}: it asks for more memory than there is ({error}); it is damaged, or its batches are "
            "too large for this machine: write it again in smaller ones",
            path=path,
        ) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # ORC's errors are of no narrower class
        if (compression := _compression(path)) is not None:
            raise SourceError(
                f"can't read {path}: it is compressed by {compression} as a whole, which {kind} files never are; "
                "decompress it, and read that",
                path=path,
            ) from error
        raise SourceError(
            f"can't read {path}: it is damaged, or no {kind} file: {error}; restore it or write it again",
            path=path,
        ) from error


def _compression(path: str) -> str | None:
    """Return the compression of a file that turned out to be no such one; None: none, or it is remote."""
    try:
        with open(path, "rb") as file:
            return detect_compression(file.read(512), "")
    except OSError:
        return None


def check_names(schema: pa.Schema) -> None:
    """Check all names of a schema, inner ones too: pyarrow 26 finds out that one is not UTF-8 when it is read.

    Raises:
        UnicodeDecodeError: One is not.
    """
    assert schema.names is not None
    kinds = [f.type for f in schema if pa.types.is_nested(f.type)]
    while kinds:
        kind = kinds.pop()
        fields = [kind.field(i) for i in range(kind.num_fields)]
        kinds += [f.type for f in fields if f.name is not None and pa.types.is_nested(f.type)]


# ---- types ----------------------------------------------------------------------------------------


def group_schema(schema: pa.Schema, path: str) -> pa.Schema:
    """Return the schema that mmflow computes with for that of a file.

    Raises:
        SourceError: A column name twice.
    """
    twice = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if twice:
        raise SourceError(
            f"can't read {path}: two of its columns are named {twice[0]!r}; rename one and write it again",
            path=path,
            column=twice[0],
        )
    return plan_schema(schema)


def declared_schema(schema: Any) -> pa.Schema:
    """Return a schema that a user declared, with the types that mmflow computes with.

    Raises:
        ConfigError: It is no schema.
    """
    # A schema that was declared for a source comes here again for its files, with plan types already.
    return pa.schema([f if tags(f) else plan_field(f) for f in parse_schema(schema)])


def convert_column(
    array: pa.Array, wanted: pa.DataType, path: str, column: str, columns: FileColumns
) -> pa.Array:
    """Return a column as the wanted type, which is that of the file's column or wider.

    Raises:
        SourceError: The file's column has another type, or values that don't fit.
    """
    if array.type == wanted:
        return array
    field = plan_field(pa.field(column, array.type))
    try:
        check_wanted([field], f"{path}: ")
    except PlanError as error:
        raise SourceError(error.message, path=path, column=column) from error
    fields = columns.missing == "null"
    text = column in columns.texts and is_text(wanted) and not is_text(field.type)
    if field.type != wanted and not text and not holds_exactly(field.type, wanted, fields=fields):
        raise SourceError(
            f"{path}: column {column!r} is {type_text(public_type(field.type))}, but {type_text(public_type(wanted))} "
            f"in the source's schema; set schema='union' to find a type that holds both, {_override(column)}",
            path=path,
            column=column,
        )
    try:
        plain = convert_array(array, field.type)
        made = as_text(plain) if text else conform(plain, wanted)
    except pa.ArrowInvalid as error:
        raise SourceError(
            f"{path}: column {column!r} is {type_text(public_type(field.type))}, and a value does not fit "
            f"{type_text(public_type(wanted))}: {error}; {_override(column)}",
            path=path,
            column=column,
        ) from error
    if made is None:
        raise SourceError(
            f"{path}: column {column!r} is {type_text(public_type(field.type))}, which has no text; read it as its own "
            "type, and these files apart",
            path=path,
            column=column,
        )
    return made


def check_values(batch: pa.RecordBatch, path: str) -> None:
    """Check every value of a batch: what computes with it trusts that text is UTF-8 and offsets lie within.

    Raises:
        pa.ArrowInvalid: The batch is damaged.
        SourceError: A decimal has more digits than its type, a date64 is no whole day, a time no time of a day: some
            writers don't check that.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        for field, column in zip(batch.schema, batch.columns, strict=True):
            if _checks_ranges(field.type):
                column.validate()  # what fails beyond that, in a type without offsets, is a value
                _check_range(column, path, field)
        raise error from None


def _checks_ranges(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_decimal(kind) or types.is_date64(kind) or types.is_time(kind))


def _check_range(column: pa.Array, path: str, field: pa.Field) -> None:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise SourceError(
            f"can't read {path}: column {field.name!r} ({field.type}): {error}; the program that wrote the file did "
            "not check this: cast the column there, or leave it out here",
            path=path,
            column=field.name,
        ) from error


# ---- batches --------------------------------------------------------------------------------------


def make_batch(arrays: Sequence[pa.Array], names: Sequence[str], rows: int) -> pa.RecordBatch:
    """Return a batch that knows its number of rows, also without columns."""
    if not arrays:
        return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["rows"]).select([])
    return pa.RecordBatch.from_arrays(list(arrays), names=list(names))


def group_row(group: int, row: int = 0) -> int:
    """Return a number for a row of a group, which no other row of the file has: `ScanReport.row`."""
    return (group << 32) + row


def slice_batch(batch: pa.RecordBatch, rows: int, report: ScanReport, first: int) -> Iterator[pa.RecordBatch]:
    """Yield slices of at most `rows` rows, none for a batch without rows. The first row has number `first`."""
    for start in range(0, batch.num_rows, rows):
        report.row = first + start
        yield batch.slice(start, rows)

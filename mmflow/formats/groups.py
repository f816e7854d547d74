"""What Parquet, Arrow IPC and npy files share: which groups a shard owns, and columns that fit a schema.

A group (row group, record batch, row of an npy array) begins at some byte of the file, and belongs to the
shard that holds this byte. Where that byte is unknown without reading, any rule will do that puts group
i + 1 not before group i and depends on the file alone.

Invariant: for every tiling of a file by shards, every group is owned by exactly one of them.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from mmflow.errors import PlanError, SourceError
from mmflow.formats.base import ScanReport
from mmflow.formats.carried import carried_field, carried_schema, check_wanted, converted, tags
from mmflow.formats.schema import parse_schema, public_type, type_text
from mmflow.mapping.failures import source_failure
from mmflow.remote.opening import known_size
from mmflow.remote.url import is_url
from mmflow.shards import Shard

__all__ = [
    "batch_of",
    "check_columns",
    "check_names",
    "check_values",
    "declared_schema",
    "first_file",
    "fit",
    "group_row",
    "group_schema",
    "owned",
    "owned_evenly",
    "reading",
    "size_of",
    "sliced",
]

#: What pyarrow 26 raises over damaged bytes.
_DAMAGE = (
    pa.ArrowInvalid,
    pa.ArrowIndexError,
    pa.ArrowKeyError,
    pa.ArrowTypeError,
    pa.ArrowCapacityError,
    pa.ArrowSerializationError,
)
_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}


def owned(starts: Sequence[int], shard: Shard, size: int) -> tuple[int, int]:
    """First group of a shard, and the one after its last, by the ascending byte offsets of groups.

    >>> [owned([4, 4, 900], Shard(0, b, b + 512), 1024) for b in (0, 512)]
    [(0, 2), (2, 3)]
    """
    last = len(starts) if shard.end >= size else bisect_left(starts, shard.end)
    return (0 if shard.begin == 0 else bisect_left(starts, shard.begin)), last


def owned_evenly(count: int, shard: Shard, size: int) -> tuple[int, int]:
    """The same for groups of unknown place: group i of `count` is taken to begin at byte i * size // count.

    >>> [owned_evenly(5, Shard(0, b, b + 512), 1024) for b in (0, 512)]
    [(0, 3), (3, 5)]
    """

    def at(offset: int) -> int:
        return min(count, -(-offset * count // size))

    return at(shard.begin), count if shard.end >= size else at(shard.end)


def size_of(path: str) -> int:
    """Return the size of a file or of what a URL names, in bytes.

    Raises:
        SourceError: It is missing, or can't be asked.
    """
    try:
        return known_size(path) if is_url(path) else os.stat(path).st_size
    except OSError as error:
        raise source_failure(path, error, "look at") from error


def first_file(paths: Sequence[str], kind: str) -> str:
    """The file to take the schema of; also checks that no file is empty, which no such file can be.

    Raises:
        SourceError: One is missing, or has no bytes.
    """
    for path in paths:
        if size_of(path) == 0:
            raise SourceError(f"{path} is empty, which no {kind} file is; write it again", path=path)
    return paths[0]


@contextmanager
def reading(path: str, kind: str) -> Iterator[None]:
    """What pyarrow says of a damaged file, as a SourceError.

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
    except (*_DAMAGE, OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"can't read {path}: it is damaged, or not a {kind} file: {error}; restore it or write it again",
            path=path,
        ) from error


def check_columns(
    path: str, names: Sequence[str], wanted: Sequence[str], origin: str, *, declarable: bool = True
) -> None:
    """Check that a file has the columns of the file that the source's schema was taken from, and no others.

    Args:
        path: Of the file.
        names: Its columns.
        wanted: Columns of the schema.
        origin: File that the schema was taken from; empty: it was declared, and whoever reads a column looks for it.
        declarable: The format takes `schema=`.

    Raises:
        SourceError: It has a column more, or lacks one; names both files.
    """
    if not origin or names == wanted:
        return
    # In order of the file, and each looked up once: there may be thousands.
    known, there = set(wanted), set(names)
    more = next((name for name in names if name not in known), None)
    less = next((name for name in wanted if name not in there), None)
    advice = "give schema= with the columns to read, which all files must have, or " if declarable else ""
    for name, has, lacks in ((more, path, origin), (less, origin, path)):
        if name is not None:
            raise SourceError(
                f"{has} has a column {name!r}, which {lacks} lacks; {advice}read these files apart",
                path=path,
                column=name,
            )


def check_names(schema: pa.Schema) -> None:
    """Look at all names of a schema, inner ones too: pyarrow 26 checks that they are UTF-8 when they are looked at.

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
    """The schema that mmflow computes with for that of a file.

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
    return carried_schema(schema)


def declared_schema(schema: Any) -> pa.Schema:
    """A schema that a user declared, with the types that mmflow computes with.

    Raises:
        ConfigError: It is no schema.
    """
    # A schema that was declared for a source comes here again for its files, carried already.
    return pa.schema([f if tags(f) else carried_field(f) for f in parse_schema(schema)])


def fit(array: pa.Array, wanted: pa.DataType, path: str, column: str) -> pa.Array:
    """A column as the wanted type, which is that of the file's column or wider.

    Raises:
        SourceError: The file's column has another type, or values that don't fit.
    """
    if array.type == wanted:
        return array
    field = carried_field(pa.field(column, array.type))
    try:
        check_wanted([field], f"{path}: ")
    except PlanError as error:
        raise SourceError(error.message, path=path, column=column) from error
    if field.type != wanted and not _widens(field.type, wanted):
        raise SourceError(
            f"{path}: column {column!r} is {type_text(public_type(field.type))}, but {type_text(public_type(wanted))} "
            "in the source's schema; declare the schema with a type that holds both, or read these files apart",
            path=path,
            column=column,
        )
    try:
        return converted(converted(array, field.type), wanted)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: column {column!r}: {error}", path=path, column=column) from error


def _widens(has: pa.DataType, wanted: pa.DataType) -> bool:
    """Can every value of one type be told exactly in the other?"""
    types = pa.types
    if types.is_null(has):
        return True
    if all(types.is_binary(t) or types.is_large_binary(t) or types.is_binary_view(t) for t in (has, wanted)):
        return True
    if types.is_integer(has):
        if types.is_integer(wanted):
            if types.is_signed_integer(has) == types.is_signed_integer(wanted):
                return bool(has.bit_width <= wanted.bit_width)
            return types.is_signed_integer(wanted) and bool(has.bit_width < wanted.bit_width)
        if types.is_floating(wanted):
            return bool(has.bit_width <= (32 if types.is_float64(wanted) else 16))
        return bool(types.is_decimal(wanted) and _DIGITS[has.bit_width] <= wanted.precision - wanted.scale)
    if types.is_floating(has):
        return types.is_floating(wanted) and bool(has.bit_width <= wanted.bit_width)
    if types.is_decimal(has) and types.is_decimal(wanted):
        whole = wanted.precision - wanted.scale >= has.precision - has.scale
        return bool(whole and wanted.scale >= has.scale)
    units = ("s", "ms", "us", "ns")
    if types.is_timestamp(has) and types.is_timestamp(wanted):
        return bool(has.tz == wanted.tz) and units.index(has.unit) <= units.index(wanted.unit)
    return False


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


def batch_of(arrays: Sequence[pa.Array], names: Sequence[str], rows: int) -> pa.RecordBatch:
    """A batch that knows its number of rows, also without columns."""
    if not arrays:
        return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["rows"]).select([])
    return pa.RecordBatch.from_arrays(list(arrays), names=list(names))


def group_row(group: int, row: int = 0) -> int:
    """Return a number for a row of a group, which no other row of the file has: `ScanReport.row`."""
    return (group << 32) + row


def sliced(batch: pa.RecordBatch, rows: int, report: ScanReport, first: int) -> Iterator[pa.RecordBatch]:
    """The batch in slices of at most `rows` rows; nothing for one without rows. The first row has number `first`."""
    for start in range(0, batch.num_rows, rows):
        report.row = first + start
        yield batch.slice(start, rows)

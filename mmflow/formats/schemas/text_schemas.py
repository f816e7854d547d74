"""Schemas of sources of text files: declared, that of a sample of the first file, or of samples of several.

Invariant: a file without records decides no type; its columns are of type null until another file says more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.row_groups import size_of
from mmflow.formats.schemas.arrow_types import declared_text
from mmflow.formats.schemas.file_columns import ColumnOptions, FileColumns, merge_schemas, read_each
from mmflow.formats.schemas.sampling import PIECE
from mmflow.formats.schemas.schema import canonical_schema

__all__ = ["empty_error", "piece_of", "samples_of", "text_source"]

#: Files that are looked at for one with records, from the first on.
_MOST_EMPTY = 64
_LEAST_PIECE = 8 << 10


def piece_of(count: int) -> int:
    """Return the bytes of a piece of a file's sample where so many files are sampled."""
    return max(_LEAST_PIECE, PIECE // max(1, count))


def samples_of(paths: Sequence[str], options: ColumnOptions) -> tuple[str, ...]:
    """Return the files to sample: the first that is not empty, or those whose columns are merged; at least one."""
    if options.merges:
        return tuple(path for path in options.looked_at(paths) if size_of(path)) or (paths[0],)
    return (next((path for path in paths[:_MOST_EMPTY] if size_of(path)), paths[0]),)


def text_source(
    paths: Sequence[str],
    kind: str,
    schema: pa.Schema | None,
    infer: Callable[[str, int], pa.Schema],
    options: Mapping[str, Any],
) -> tuple[pa.Schema, FileColumns]:
    """Return the schema of a source of text files, and how the columns of its files may differ from it.

    Args:
        paths: Files in reading order.
        kind: Name of the format, for messages.
        schema: Declared schema, or None.
        infer: Infers the columns of a file from a sample with pieces of so many bytes; null where there is no value.
        options: Options of the format, with `columns`.

    Raises:
        SourceError: A sampled file can't be read, all are empty, or no type holds the values of two of them.
        ConfigError: Text can't be read as a declared type.
    """
    asked: ColumnOptions = options.get("columns", ColumnOptions())
    declared = None if schema is None else declared_text(schema, kind)
    if declared is not None and not asked.merges:
        return declared, asked.declared(declared)
    if not asked.merges:
        path, found = _first_with_records(paths, infer)
        return _final(found, path), asked.inferred(path, 1)
    sampled = samples_of(paths, asked)
    piece = piece_of(len(sampled))
    known = dict.fromkeys(() if declared is None else declared.names)
    merged = merge_schemas(read_each(sampled, lambda path: (path, infer(path, piece))), _override, known)
    found = _final(merged, sampled[0])
    if declared is not None:
        return asked.kept(asked.declared(declared), declared, found)
    return found, asked.inferred(sampled[0], len(sampled))


def _first_with_records(
    paths: Sequence[str], infer: Callable[[str, int], pa.Schema]
) -> tuple[str, pa.Schema]:
    """Return the columns of the first file that has records, and its path; of the first with names if none has."""
    found: tuple[str, pa.Schema] | None = None
    for path in paths[:_MOST_EMPTY]:
        if not size_of(path):
            continue
        schema = infer(path, PIECE)
        if not all(map(pa.types.is_null, schema.types)):
            return path, schema
        found = found or (path, schema)
    return found or (paths[0], infer(paths[0], PIECE))


def _final(schema: pa.Schema, path: str) -> pa.Schema:
    """Return the schema with text where no file had a value: the type that most often fits.

    Raises:
        SourceError: It has no columns.
    """
    if not schema.names:
        raise empty_error(path, "columns")
    return canonical_schema(
        pa.schema([(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in schema])
    )


def empty_error(path: str, what: str) -> SourceError:
    """Return the error for a file, or several, that hold nothing."""
    return SourceError(
        f"{path} is empty, so its {what} are unknown; give schema=name:type,... if that is all right",
        path=path,
    )


def _override(column: str) -> str:
    return f"read it as text with schema_overrides={{{column!r}: 'string'}}, or read these files apart"

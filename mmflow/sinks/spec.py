"""Sink specs from user input, and the checks that need no file.

Invariant: a spec that `sink_spec` made has a known format, options of that format with their right types,
and an absolute path without symbolic links, or the URL of an object store without secrets.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import pyarrow as pa

from mmflow.errors import ConfigError, SinkError
from mmflow.formats.schemas.schema import type_text
from mmflow.lazy import difflib
from mmflow.mapping.answering import check_answers
from mmflow.remote.options import storage_text
from mmflow.sinks.base import SUFFIXES, IfExists, SinkSpec
from mmflow.sinks.partition import partition_problem
from mmflow.sinks.url import local_path, validate_url
from mmflow.sinks.writers import columnar, npy, rows
from mmflow.sinks.writers.base import parse_positive
from mmflow.storage.url import is_url
from mmflow.tables.paths import PREFIX, column_problem, delta_path, library

__all__ = ["check_sink", "sink_spec"]

_IF_EXISTS = ("error", "replace", "append", "replace-partitions")
_LIMITS = {"max_rows_per_file": parse_positive, "approximate_bytes_per_file": parse_positive}
_ALIASES = {"ipc": "arrow", "arrow_ipc": "arrow", "feather": "arrow", "jsonl": "ndjson"}
_OPTIONS: dict[str, Mapping[str, Callable[[Any], Any]]] = {
    "parquet": columnar.PARQUET_OPTIONS,
    "arrow": columnar.ARROW_OPTIONS,
    "csv": rows.CSV_OPTIONS,
    "ndjson": rows.NDJSON_OPTIONS,
    "npy": npy.OPTIONS,
}
_PROBLEMS: dict[str, Callable[[pa.Field], str | None]] = {
    "parquet": columnar.parquet_problem,
    "arrow": columnar.arrow_problem,
    "csv": rows.csv_problem,
    "ndjson": rows.text_problem,
    "npy": npy.problem,
}


def sink_spec(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    partition_by: Iterable[str] | str = (),
    if_exists: IfExists = "error",
    max_rows_per_file: int | None = None,
    approximate_bytes_per_file: int | None = None,
    storage_options: Mapping[str, Any] | str | None = None,
    **options: Any,
) -> SinkSpec:
    """Return a checked spec.

    Args:
        path: Destination, a local path or a URL (`s3://bucket/out`): one file if it ends in a suffix of the format,
            else a folder.
        format: parquet, arrow, csv, ndjson, npy, or delta (also by `delta:///` of the path); None: by the path's
            suffix, Parquet for a folder.
        partition_by: Columns that become folders `k=v`; a string is one column.
        if_exists: error, replace, append or replace-partitions.
        max_rows_per_file, approximate_bytes_per_file: Where a task begins another file of a folder.
        storage_options: Options of the fsspec file system of a URL, without secrets; a dict, or JSON of one.
        options: Options of the format; strings are parsed. parquet: `compression` (snappy), `row_group_rows`
            (1,048,576); arrow: `compression` (none), `batch_rows` (65,536); csv: `delimiter` (","), `header`
            (true), `null` (""); csv and ndjson: `compression` (by the suffix of the path, else none).

    Raises:
        ConfigError: An unknown format or option (with a suggestion), a value that does not fit, or a secret.
        SourceUnreachableError: The file server of the path does not answer.

    >>> sink_spec("/tmp/out.tsv").options["delimiter"], sink_spec("/tmp/out").format
    ('\\t', 'parquet')
    """
    given = os.fspath(path)
    if not given:
        raise ConfigError("no output: the path is empty; name a file or a folder")
    table: Literal["", "delta"] = "delta" if format == "delta" or given.lower().startswith(PREFIX) else ""
    if table:
        if format not in (None, "delta", "parquet"):
            raise ConfigError(f"can't write {format} to {given}: files of a Delta table are Parquet")
        if storage_options is not None:
            raise ConfigError(
                f"{given}: storage_options are for URLs of object stores, and Delta tables are written to local paths"
            )
        given, format = delta_path(given), "parquet"
        library(given)
    if is_url(given):
        absolute = validate_url(given)
    else:
        given = local_path(given)
        check_answers([given])
        absolute = os.path.realpath(os.path.expanduser(given))
        # A slash at the end means a folder, whatever the name.
        absolute += "/" if given.endswith("/") and absolute != "/" else ""
    name = _format_name(format, given)
    known = _OPTIONS[name]
    values = {key: _option(name, known, key, value) for key, value in options.items() if value is not None}
    if name in ("csv", "ndjson"):
        _bind_compression(given, name, values, folder=bool(partition_by))
    if name == "csv" and "delimiter" not in values and re.search(r"\.tsv(\.gz|\.zst)?$", given.lower()):
        values["delimiter"] = "\t"
    if name == "csv" and values.get("delimiter", ",") in values.get("null", ""):
        raise ConfigError(
            f"null = {values['null']!r}: must not hold the delimiter, {values.get('delimiter', ',')!r}"
        )
    if if_exists not in _IF_EXISTS:
        raise ConfigError(
            f"if_exists = {if_exists!r}: must be one of {_listed(_IF_EXISTS)}{_close(if_exists, _IF_EXISTS)}"
        )
    columns = (partition_by,) if isinstance(partition_by, str) else tuple(partition_by)
    if len(set(columns)) < len(columns):
        raise ConfigError(f"partition_by names a column twice: {', '.join(columns)}")
    if if_exists == "replace-partitions" and not columns:
        raise ConfigError(
            "if_exists = 'replace-partitions': partition_by says which partitions; name its columns"
        )
    given_limits = {
        "max_rows_per_file": max_rows_per_file,
        "approximate_bytes_per_file": approximate_bytes_per_file,
    }
    limits = {k: _option(name, _LIMITS, k, v) for k, v in given_limits.items() if v is not None}
    _check_level(values)
    storage = storage_text(storage_options)
    spec = SinkSpec(absolute, name, columns, if_exists, values, **limits, storage=storage, table=table)
    if not spec.is_folder and limits:
        raise ConfigError(f"{absolute} is one file, so it can't be cut; write to a folder: end the path in /")
    return spec


def _bind_compression(path: str, format: str, options: dict[str, Any], *, folder: bool) -> None:
    """Take the compression of one text file from its suffix: readers go by that.

    Raises:
        ConfigError: The option says another one.
    """
    lower = path.lower()
    if folder or not lower.endswith(SUFFIXES[format]):
        return
    named = next((c for c, suffix in rows.COMPRESSIONS.items() if suffix and lower.endswith(suffix)), "none")
    if options.setdefault("compression", named) != named:
        wanted = rows.COMPRESSIONS[options["compression"]]
        bare = path[: len(path) - len(rows.COMPRESSIONS[named])]
        raise ConfigError(
            f"compression = {options['compression']!r}: the name of {path} says {named}; name the file {bare}{wanted}"
        )


def _check_level(options: Mapping[str, Any]) -> None:
    level, codec = options.get("compression_level"), options.get("compression", "snappy")
    if level is None:
        return
    if codec == "none" or not pa.Codec.supports_compression_level(codec):
        raise ConfigError(
            f"compression_level = {level}: {codec} has no levels; give compression='zstd', for instance"
        )
    least, most = pa.Codec.minimum_compression_level(codec), pa.Codec.maximum_compression_level(codec)
    if not least <= level <= most:
        raise ConfigError(f"compression_level = {level}: the levels of {codec} are {least} to {most}")


def check_sink(spec: SinkSpec, schema: pa.Schema) -> None:
    """Check, before anything is computed, that rows of `schema` can be written as `spec` says.

    Raises:
        SinkError: A column that doesn't exist, or whose type the format can't hold; says which and why.
    """
    missing = [name for name in spec.partition_by if name not in schema.names]
    if missing:
        raise SinkError(
            f"partition_by: there is no column {missing[0]!r}{_close(missing[0], schema.names)}; "
            f"the columns are {', '.join(schema.names)}"
        )
    twice = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if twice:
        raise SinkError(f"can't write {spec.path}: two columns are named {twice[0]!r}; rename one (AS …)")
    if "" in spec.partition_by:
        raise SinkError("partition_by: a column with no name can't name folders; rename it (AS …)")
    hidden = [name for name in spec.partition_by if name.startswith(("_", "."))]
    if hidden:
        raise SinkError(
            f"partition_by: folders named {hidden[0]}=… would be hidden, and not read back; "
            "rename the column (AS …)"
        )
    named = spec.options.get("bloom_filters", ())
    if unknown := [name for name in named if name not in schema.names or name in spec.partition_by]:
        raise SinkError(
            f"bloom_filters: the files have no column {unknown[0]!r}{_close(unknown[0], schema.names)}"
        )
    stays = [f for f in schema if f.name not in spec.partition_by]
    if not stays:
        raise SinkError(f"can't write {spec.path}: partition_by takes every column; leave one for the files")
    for field in schema:
        if (
            spec.table
            and (why := column_problem(field, partition=field.name in spec.partition_by)) is not None
        ):
            raise SinkError(
                f"can't write column {field.name!r} ({type_text(field.type)}) to a Delta table: {why}",
                column=field.name,
            )
        why = partition_problem(field) if field.name in spec.partition_by else _PROBLEMS[spec.format](field)
        if why is not None:
            raise SinkError(
                f"can't write column {field.name!r} ({type_text(field.type)}) as {spec.format}: {why}",
                column=field.name,
            )


def _format_name(wanted: str | None, path: str) -> str:
    if wanted is not None:
        name = _ALIASES.get(wanted, wanted)
        if name not in SUFFIXES:
            raise ConfigError(
                f"unknown output format {wanted!r}: "
                f"must be one of {_listed(SUFFIXES)}{_close(wanted, SUFFIXES)}"
            )
        return name
    lower = path.lower()
    for name, suffixes in SUFFIXES.items():
        if lower.endswith(suffixes):
            return name
    suffix = os.path.splitext(lower)[1]
    if suffix and not lower.endswith("/"):
        every = tuple(s for suffixes in SUFFIXES.values() for s in suffixes)
        raise ConfigError(
            f"can't tell the output format of {path} by {suffix!r}{_close(suffix, every)}; "
            f"give one of {_listed(SUFFIXES)}, or end the path in one of {', '.join(every)}"
        )
    return "parquet"


def _option(name: str, known: Mapping[str, Callable[[Any], Any]], key: str, value: Any) -> Any:
    if key not in known:
        which = f"its options are {_listed(known)}" if known else "it has none"
        raise ConfigError(
            f"unknown option {key!r} of output format {name}{_close(key, known)}; {which}", code="MMF-CFG-005"
        )
    try:
        return known[key](value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"output option {key} = {value!r}: {error}") from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _close(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {found[0]!r}?)" if found else ""

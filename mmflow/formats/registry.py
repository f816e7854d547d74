"""Registry of formats by name, through which sessions and workers open them."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, SupportsIndex

import pyarrow as pa

from mmflow.config import parse_size
from mmflow.errors import ConfigError, SourceError
from mmflow.formats.base import Format
from mmflow.formats.csv.options import STRUCTURE, structure_option
from mmflow.formats.csv.styles import STYLE_OPTIONS, style_option
from mmflow.formats.encodings.encoding import find_encoding
from mmflow.formats.schemas.file_columns import COLUMN_OPTIONS, UNION, ColumnOptions
from mmflow.formats.schemas.schema import parse_schema
from mmflow.lazy import difflib
from mmflow.storage.url import may_be_member

__all__ = ["FORMATS", "format_name", "from_spec", "open_format", "proposing", "with_dialect"]

#: Formats that are read from members of archives, which may be compressed.
_IN_ARCHIVES = {"csv", "ndjson", "json", "text", "fwf"}
_COLUMNS = set(COLUMN_OPTIONS)
_RECORD = {"on_bad_record", "validate"} | _COLUMNS
#: Options of each format beside `schema`.
FORMATS: dict[str, set[str]] = {
    "csv": {"max_record", "delimiter", "dialect", "quote", "escape", "exact", "encoding", "schema_overrides"}
    | STRUCTURE
    | STYLE_OPTIONS
    | _RECORD,
    "json": {"json_path", "on_new_field", "schema_overrides", "exact"} | _RECORD,
    "ndjson": {"max_record", "on_new_field", "schema_overrides", "exact", "encoding"} | _RECORD,
    "fwf": {
        "max_record",
        "widths",
        "colspecs",
        "names",
        "header",
        "skip_rows",
        "ragged",
        "gaps",
        "null",
        "exact",
        "encoding",
    }
    | (_RECORD - _COLUMNS),
    "text": {"max_record", "pattern", "null", "exact", "on_new_field", "encoding"} | (_RECORD - _COLUMNS),
    "records": {
        "layout",
        "dtype",
        "record_size",
        "header_bytes",
        "footer_bytes",
        "record_length",
        "delimiter",
    }
    | _RECORD,
    "arrow_ipc": {"schema_overrides"} | _COLUMNS,
    "avro": {"schema_overrides"} | _COLUMNS,
    "excel": {"sheet", "header", "schema_overrides"} | _COLUMNS,
    "npy": {"array", "schema_overrides"} | _COLUMNS,
    "orc": {"schema_overrides"} | _COLUMNS,
    "parquet": {"schema_overrides"} | _COLUMNS,
}
#: Formats of whole groups of rows, whose spec holds the schema that was found.
_GROUPS = {"arrow_ipc": "ArrowIpcFormat", "avro": "AvroFormat", "excel": "ExcelFormat", "npy": "NpyFormat",
           "orc": "OrcFormat", "parquet": "ParquetFormat"}  # fmt: skip
_ALIASES = {"arrow": "arrow_ipc", "ipc": "arrow_ipc", "feather": "arrow_ipc", "jsonl": "ndjson",
            "tsv": "csv", "log": "text", "binary": "records", "xlsx": "excel",
            "npz": "npy"}  # fmt: skip
_CHOICES = COLUMN_OPTIONS | {
    "on_bad_record": ("error", "null", "skip", "quarantine"),
    "validate": ("projected", "all"),
    "on_new_field": ("error", "ignore", "json"),
    "dialect": ("auto",),
}
#: Bytes that columns of text can point at.
_LONGEST = (2 << 30) - 1
_ESCAPES = {"\\t": "\t", "tab": "\t", "\\\\": "\\"}


def format_name(name: str) -> str:
    """Return the canonical name of a format.

    Raises:
        ConfigError: There is no such format.
    """
    found = _ALIASES.get(name, name)
    if found not in FORMATS:
        known = [*FORMATS, *_ALIASES]
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"formats are {', '.join(FORMATS)}"
        raise ConfigError(f"unknown format {name!r}; {hint}")
    return found


def open_format(name: str, paths: Sequence[str], schema: Any = None, **options: Any) -> Format:
    """Open a format, bound to its options and schema, for files `paths`.

    Args:
        name: csv, json, ndjson, text, records, arrow_ipc, npy or parquet (or an alias: arrow, jsonl, ...).
        paths: Files; the first is sampled where the schema is not given.
        schema: Schema in a form that `parse_schema` reads; "union": the columns of all files; None: it is inferred.
        options: Options by name; texts of the command line are parsed.

    Raises:
        ConfigError: An unknown format, option or type, or a value that does not fit.
        SourceError: The sampled file can't be read, or is not of this format.
    """
    found = format_name(name)
    if found not in _IN_ARCHIVES and may_be_member(paths[0]) and not os.path.lexists(paths[0]):
        raise SourceError(
            f"can't read {paths[0]}: it is in an archive, and {found} is not read from one; unpack it, and read that",
            path=paths[0],
        )
    bound = with_dialect(name, paths, options)[0]
    given = {key: _option(found, key, value) for key, value in bound.items() if value is not None}
    if name == "tsv":
        given.setdefault("delimiter", "\t")
    union = isinstance(schema, str) and schema.strip() == UNION
    if union and found == "text":
        raise ConfigError(
            "schema='union' is not for text, whose columns are the line, or the groups of a pattern"
        )
    given["columns"] = ColumnOptions.taken(given, union=union)
    if schema is not None and not union and found in ("records", "npy"):
        raise ConfigError(f"format {found} has the schema that its layout gives; leave schema= out")
    parsed = None if schema is None or union else parse_schema(schema)
    return _opener(found)(paths, given, parsed)


def with_dialect(name: str, paths: Sequence[str], options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return options in which `dialect="auto"` is replaced by those that the first file's contents suggest, and a note.

    The note says what was found and how sure that is; it is empty where the option is not given.

    Raises:
        ConfigError: An option that the format does not have, or a value that does not fit.
        SourceError: The file can't be read, or leaves it open how.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if "dialect" not in given:
        return given, ""
    found = format_name(name)
    parsed = {key: _option(found, key, value) for key, value in given.items()}
    del parsed["dialect"]
    if name == "tsv":
        parsed.setdefault("delimiter", "\t")
    if not paths:
        return parsed, ""
    from mmflow.formats.sniffing.files import bind_dialect  # noqa: PLC0415  (slow)

    sniffed = bind_dialect(paths[0], FORMATS[found], parsed)
    return sniffed.options, sniffed.note


def proposing(error: SourceError, name: str, options: Mapping[str, Any]) -> SourceError:
    """Return an error of opening files, with the options that a CSV file's contents suggest, if they are others."""
    found = format_name(name)
    if found != "csv" or type(error) is not SourceError or "dialect" in options:
        return error
    given = {k: _option(found, k, v) for k, v in options.items() if k in FORMATS[found] and v is not None}
    from mmflow.formats.sniffing.files import with_proposal  # noqa: PLC0415  (slow)

    made = with_proposal(error, given, FORMATS[found])
    return made if isinstance(made, SourceError) else error


def _opener(name: str) -> Callable[[Sequence[str], Mapping[str, Any], pa.Schema | None], Format]:
    opener: Callable[[Sequence[str], Mapping[str, Any], pa.Schema | None], Format]
    opener = getattr(_module(name), f"open_{name}")
    return opener


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"mmflow.formats.{name}.format")


def _option(name: str, key: str, value: Any) -> Any:
    if key not in FORMATS[name]:
        known = sorted({*FORMATS[name], "schema", "format", "hive", "hive_types"})
        close = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"its options are {', '.join(known)}"
        raise ConfigError(f"format {name} has no option {key!r}; {hint}", code="MMF-CFG-005")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise ConfigError(f"{key} = {value!r}: must be one of {', '.join(_CHOICES[key])}")
    if key in ("widths", "colspecs"):
        from mmflow.formats.fwf.options import positions_option  # noqa: PLC0415  (slow)

        return positions_option(key, value)
    if key == "gaps":
        return _boolean(key, value)
    if name == "fwf" and key == "ragged" and value not in ("error", "null"):
        raise ConfigError(f"ragged = {value!r}: must be error or null")
    if key in STRUCTURE and name != "excel":
        return structure_option(key, value)
    if key in ("exact", "header"):
        return _boolean(key, value)
    if key in STYLE_OPTIONS:
        return style_option(key, value)
    if key == "schema_overrides":
        return parse_schema(value)
    if key == "max_record":
        return _max_record(value)
    if key == "encoding":
        return find_encoding(str(value)).name
    if key in ("record_size", "header_bytes", "footer_bytes"):
        return _number(key, value)
    if key == "layout" and isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ConfigError(f"layout is not JSON: {error}") from error
    if name == "records" and key in ("delimiter", "record_length"):
        return value
    if key in ("delimiter", "quote", "escape"):
        return _ESCAPES.get(value, value)
    return value


def _boolean(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise ConfigError(f"{key} = {value!r}: must be true or false")


def _max_record(value: Any) -> int:
    """Return the bytes of the longest record, which may be written as `256 MiB`.

    Raises:
        ConfigError: They are none, or more than columns of text hold.
    """
    try:
        size = parse_size(value)
    except (TypeError, ValueError):
        size = 0
    if not 0 < size <= _LONGEST:
        raise ConfigError(f"max_record = {value!r}: must be a size such as '256 MiB', and less than 2 GiB")
    return size


def _number(key: str, value: Any) -> int:
    whole = isinstance(value, str | SupportsIndex) and not isinstance(value, bool)
    try:
        number = int(value) if whole else -1
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise ConfigError(f"{key} = {value!r}: must be a whole number of bytes")
    return number


def from_spec(spec: Mapping[str, Any], paths: Sequence[str] = ()) -> Format:
    """Return the format that gave a `spec()`.

    Raises:
        ConfigError: It is not such a spec.
    """
    options = dict(spec)
    name = options.pop("format")
    if name == "json":
        return _module(name).of_spec(options)  # type: ignore[no-any-return]  # a module found by name
    if FORMATS[name] >= _COLUMNS:
        options.setdefault("extra_columns", "error")
    if name in _GROUPS:
        asked = ColumnOptions.taken(options)
        made: Format = getattr(_module(name), _GROUPS[name])(
            columns=asked.declared(options["schema"]), **options
        )
        return made
    return open_format(name, paths, **options)

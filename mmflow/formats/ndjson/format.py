"""Newline-delimited JSON: one object a line.

With an inferred schema, a field that it does not know is a bad record, unless `on_new_field` says otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Any, Literal

import pyarrow as pa

from mmflow.errors import ConfigError, SourceError
from mmflow.formats.base import BadRecordPolicy, Comparison, checks_all
from mmflow.formats.compression import file_compression, read_first_bytes
from mmflow.formats.decoding.decoder import RecordDecoder
from mmflow.formats.decoding.reader import MAX_RECORD
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.formats.encodings.encoding import UTF8, Encoding, find_encoding
from mmflow.formats.encodings.files import file_encoding
from mmflow.formats.last_results import LastResults
from mmflow.formats.ndjson.inference import infer_schema
from mmflow.formats.ndjson.kernel import ndjson_decoder
from mmflow.formats.ndjson.values import EXTRA, parse
from mmflow.formats.schemas.arrow_types import declared_text
from mmflow.formats.schemas.encodings import BOM, check_text
from mmflow.formats.schemas.file_columns import ColumnOptions, merge_schemas, read_each
from mmflow.formats.schemas.json_type import keep_json, plain_type
from mmflow.formats.schemas.known import found_once
from mmflow.formats.schemas.overrides import with_overrides
from mmflow.formats.schemas.sampling import MOST, sample_file
from mmflow.formats.schemas.schema import canonical_schema
from mmflow.formats.schemas.text_schemas import empty_error, piece_of, samples_of
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import FileIdentity, MappedFile
from mmflow.mapping.access_policy import SMALL

__all__ = [
    "LineFormat",
    "NdjsonFormat",
    "OnNewField",
    "bind_fields",
    "check_ndjson",
    "infer_fields",
    "open_ndjson",
    "parse_records",
]

OnNewField = Literal["error", "ignore", "json"]
#: Bytes of a piece that is looked at to know NDJSON from other formats.
_PROBED = 4 << 10

#: Bytes of the byte order marks of files, which all tasks of a file ask for.
_marks: LastResults[tuple[str, FileIdentity], int] = LastResults(4096)


def _mark(file: MappedFile) -> int:
    return len(BOM) if read_first_bytes(file, len(BOM)) == BOM else 0


@dataclass(frozen=True, slots=True)
class LineFormat(ScannedFormat):
    """Format whose records are objects of JSON, decoded as lines.

    Attributes:
        fields: Fields of records; the type `json` marks those that are read as text of JSON.
        on_new_field: What is done with a field that the schema lacks: the record is bad, it is left out, or kept as
            JSON in the column `_extra`, where values go, too, that are not of their type.
        check_all: Fit all fields, whatever a query reads.
        exact: A whole number that a float would round is a bad value.
        schema: Columns, as plans see them.
        encoding: Encoding of the files.
    """

    fields: pa.Schema
    on_bad_record: BadRecordPolicy = "error"
    on_new_field: OnNewField = "ignore"
    check_all: bool = False
    exact: bool = False
    encoding: Encoding = UTF8
    name: str = ""
    schema: pa.Schema = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        columns = [pa.field(f.name, plain_type(f.type)) for f in self.fields]
        if self.on_new_field == "json":
            columns.append(pa.field(EXTRA, pa.string_view()))
        object.__setattr__(self, "schema", pa.schema(columns))

    def line_decoder(self, columns: tuple[str, ...], prune: Sequence[Comparison] = ()) -> RecordDecoder:
        """Return a decoder of lines."""
        return ndjson_decoder(
            columns, self.fields, self.on_bad_record,
            closed=self.on_new_field == "error", extra=self.on_new_field == "json", check_all=self.check_all,
            exact=self.exact, prune=prune,
        )  # fmt: skip

    def utf8_decoder(
        self, file: MappedFile, columns: tuple[str, ...], prune: Sequence[Comparison] = ()
    ) -> RecordDecoder:
        del file
        return self.line_decoder(columns, prune)

    def begins(self, file: MappedFile) -> int:
        if self.encoding.kind != "utf-8":
            return file_encoding(file, self.encoding).mark
        if file.once:
            return _mark(file)
        return _marks.get((file.path, file.identity), lambda: _mark(file))

    @property
    def line_is_record(self) -> bool:
        return self.encoding.ends_lines_alone

    def boundaries(self) -> tuple[object, ...]:
        return (self.name, self.encoding.name)

    def spec(self) -> dict[str, Any]:
        return {
            "format": self.name,
            "schema": self.fields,
            "on_bad_record": self.on_bad_record,
            "on_new_field": self.on_new_field,
            "validate": "all" if self.check_all else "projected",
            "exact": self.exact,
        }


@dataclass(frozen=True, slots=True)
class NdjsonFormat(LineFormat):
    """NDJSON with its options bound. See `formats.Format`."""

    name: str = "ndjson"
    max_record: int = MAX_RECORD

    def likeness(self, file: MappedFile) -> object:
        del file
        return () if self.encoding.kind == "utf-8" else None  # decoders of others have a state

    def shared_head(self, file: MappedFile) -> bytes | None:
        if self.encoding.kind != "utf-8" or self.on_bad_record != "error" or self.max_record < SMALL:
            return None
        if file_compression(file) is not None:
            return None
        return BOM if self.begins(file) else b""

    def spec(self) -> dict[str, Any]:
        return {**LineFormat.spec(self), "encoding": self.encoding.name, "max_record": self.max_record}


def bind_fields(
    options: Mapping[str, Any],
    schema: pa.Schema | None,
    what: str,
    infer: Callable[[ColumnOptions], pa.Schema],
) -> dict[str, Any]:
    """Return the arguments of a `LineFormat` for options and a schema.

    Args:
        options: Options.
        schema: Schema as it was declared; None: it is inferred.
        what: Name of the format.
        infer: Infers the schema of samples.

    Raises:
        ConfigError: A type can't be read from JSON, or an override is of a field that there is not.
        SourceError: A sample can't be read.
    """
    asked: ColumnOptions = options.get("columns", ColumnOptions())
    if asked.missing == "error":
        raise ConfigError(
            f"missing_columns='error' is not for {what}, whose records may leave fields out: they are null; leave it "
            "out"
        )
    inferred = schema is None
    given = infer(asked) if schema is None else schema
    given = with_overrides(given, options.get("schema_overrides"))
    fields = _typed(given, declared_text(given, what))
    if not inferred and asked.merges:
        found = infer(asked)
        fields, _ = asked.kept(asked.declared(fields), fields, _typed(found, canonical_schema(found)))
    new = {"": "error" if inferred else "ignore", "keep": "error"}.get(asked.extra, asked.extra)
    on_new_field = options.get("on_new_field", new)
    if on_new_field == "json" and EXTRA in fields.names:
        raise ConfigError(
            f"on_new_field = 'json' makes a column {EXTRA!r}, and records have a field of that name; "
            "set on_new_field to error or ignore"
        )
    return {
        "fields": fields,
        "on_bad_record": options.get("on_bad_record", "error"),
        "on_new_field": on_new_field,
        "check_all": checks_all(options),
        "exact": options.get("exact", inferred),
    }


def _typed(given: pa.Schema, made: pa.Schema) -> pa.Schema:
    """Return a schema that was made of a given one, with the type `json` where that has it."""
    return pa.schema([pa.field(m.name, keep_json(g.type, m.type)) for g, m in zip(given, made, strict=True)])


def open_ndjson(paths: Sequence[str], options: Mapping[str, Any], schema: pa.Schema | None) -> NdjsonFormat:
    """Bind options, and find the schema where it is not declared.

    Raises:
        SourceError: The sample is empty, is not NDJSON, or holds fields that no one type fits.
        ConfigError: A type can't be read from JSON.
    """
    overrides = options.get("schema_overrides")
    encoding = find_encoding(options.get("encoding", "utf-8"))

    def infer(asked: ColumnOptions) -> pa.Schema:
        return infer_fields(
            paths, asked, overrides, partial(_records, encoding=encoding), ("ndjson", encoding.name)
        )

    return NdjsonFormat(
        **bind_fields(options, schema, "NDJSON", infer),
        encoding=encoding,
        max_record=options.get("max_record", MAX_RECORD),
    )


def infer_fields(
    paths: Sequence[str],
    asked: ColumnOptions,
    overrides: pa.Schema | None,
    read: Callable[[str, int], list[dict[str, Any]]],
    what: Hashable,
) -> pa.Schema:
    """Infer fields from samples of the files; those of `overrides` are of any type.

    Args:
        paths: Paths of the files.
        asked: Which of them are looked at.
        overrides: Fields whose types are known.
        read: Returns the records of a sample of a file.
        what: All that these depend on beside the file.

    Raises:
        SourceError: A file is not of the format, all are empty, or a field has values that no one type holds.
    """
    sampled = samples_of(paths, asked)
    piece = piece_of(len(sampled))
    if len(sampled) > 1:
        return _infer_of(sampled, piece, overrides, read)
    typed = () if overrides is None else tuple(overrides.names)
    return found_once((what, typed, piece), sampled[0], lambda: _infer_of(sampled, piece, overrides, read))


def _infer_of(
    sampled: Sequence[str],
    piece: int,
    overrides: pa.Schema | None,
    read: Callable[[str, int], list[dict[str, Any]]],
) -> pa.Schema:
    records = read_each(sampled, lambda path: read(path, piece))
    if overrides is not None:
        given = dict.fromkeys(overrides.names)
        records = [[record | {k: None for k in given if k in record} for record in each] for each in records]
    if not any(records):
        raise empty_error(sampled[0], "fields")
    if len(sampled) == 1:
        return infer_schema(records[0], sampled[0])
    try:
        return infer_schema(itertools.chain.from_iterable(records), sampled[0])
    except SourceError as error:
        for path, each in zip(sampled, records, strict=True):
            infer_schema(each, path)  # of itself, that is
        schemas = [(path, infer_schema(each, path)) for path, each in zip(sampled, records, strict=True)]
        merge_schemas(schemas, _advice)
        raise error from None


def _advice(column: str) -> str:
    del column
    return "leave it out by naming the others in schema=, or read these files apart"


def _records(path: str, piece: int, encoding: Encoding) -> list[dict[str, Any]]:
    """Return the records of a sample of a file.

    Raises:
        SourceError: It is no NDJSON.
    """
    sample = sample_file(path, piece, enough=_holds_line, encoding=encoding)
    check_text(path, sample.start)
    if not sample.whole and not _holds_line(sample.start):
        raise SourceError(
            f"{path}: its first record is longer than {MOST:,} bytes, which is the most", path=path
        )
    pieces = (sample.start.removeprefix(BOM), *sample.others)
    lines = (line for piece in pieces for line in piece.split(b"\n") if line.strip(b" \t\r\0"))
    return parse_records(path, lines, "NDJSON (one object a line)")


def parse_records(path: str, lines: Iterable[bytes], what: str) -> list[dict[str, Any]]:
    """Parse the records of a sample; those that are no objects are left out, if there are others.

    Raises:
        SourceError: There are no others.
    """
    records = []
    failure: str | None = None
    for line in lines:
        try:
            records.append(parse(line.strip(b"\0").decode()))
        except RecursionError:
            failure = failure or "its brackets are nested too deep, some 900 are the most"
        except ValueError as error:
            failure = failure or str(error)
    if not records and failure is not None:
        raise SourceError(f"{path} does not look like {what}: {failure}", path=path)
    return records


def check_ndjson(path: str, encoding: Encoding) -> None:
    """Check that a file without a record, or one of whose first records is JSON, is NDJSON.

    Raises:
        SourceError: It is something else.
    """
    _records(path, _PROBED, encoding)


def _holds_line(start: bytes) -> bool:
    """Return whether the first bytes of a file hold a whole line that is not blank."""
    return b"\n" in start.lstrip(b" \t\r\n\0")

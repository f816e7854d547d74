"""Text whose lines a pattern, or the name of a log, splits into typed columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pyarrow as pa

from mmflow.errors import ConfigError, SourceError
from mmflow.formats.base import BadRecordPolicy, Comparison, checks_all
from mmflow.formats.compression import read_first_bytes
from mmflow.formats.decoding.decoder import RecordDecoder
from mmflow.formats.decoding.reader import MAX_RECORD
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.formats.encodings.encoding import UTF8, Encoding, find_encoding
from mmflow.formats.encodings.files import file_encoding
from mmflow.formats.ndjson.inference import infer_schema
from mmflow.formats.ndjson.kernel import ndjson_decoder
from mmflow.formats.ndjson.values import parse
from mmflow.formats.schemas.arrow_types import declared_text
from mmflow.formats.schemas.encodings import BOM
from mmflow.formats.schemas.json_type import holds_json
from mmflow.formats.schemas.schema import canonical_schema
from mmflow.formats.text.conversion import check_field_types
from mmflow.formats.text.fields import FieldsDecoder, FieldTypes
from mmflow.formats.text.json_lines import PREFIX, JsonLinesDecoder, split_json
from mmflow.formats.text.lines import line_decoder
from mmflow.formats.text.logfmt import LogfmtSplitter
from mmflow.formats.text.patterns import NAMED, group_names, read_pattern
from mmflow.formats.text.sampling import infer_fields, sampled_lines
from mmflow.formats.text.splitting import RegexSplitter, Splitter
from mmflow.formats.text.w3c import w3c_splitter
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.remote.opening import open_file

__all__ = ["FieldsFormat", "open_fields"]

_TIME_OF_W3C = pa.time32("s")


@dataclass(frozen=True, slots=True)
class FieldsFormat(ScannedFormat):
    """Format of lines that a pattern, or the name of a log, splits into fields.

    Attributes:
        schema: Columns that can be read.
        pattern: Pattern as it was given.
        nulls: Texts that mean null.
        exact: Text that its value could not be written as again is a bad value.
        closed: Lines of logfmt, and JSON in text, with other fields are bad records.
        encoding: Encoding of the files.
    """

    schema: pa.Schema
    pattern: str
    nulls: tuple[str, ...] = ("",)
    on_bad_record: BadRecordPolicy = "error"
    check_all: bool = False
    exact: bool = False
    closed: bool = False
    encoding: Encoding = UTF8
    name: str = "text"
    max_record: int = MAX_RECORD

    def utf8_decoder(
        self, file: MappedFile, columns: tuple[str, ...], prune: Sequence[Comparison] = ()
    ) -> RecordDecoder:
        if self.pattern == "json":
            return self._json_decoder(columns)
        types = FieldTypes(self.schema, self.nulls, self.exact)
        return FieldsDecoder(
            columns, self.splitter(file), types, self.on_bad_record, line_decoder,
            check_all=self.check_all, prune=prune,
        )  # fmt: skip

    def splitter(self, file: MappedFile) -> Splitter:
        """Return what splits the lines of a file.

        Raises:
            SourceError: It is no W3C log, or lacks a column of the schema.
        """
        if self.pattern == "logfmt":
            return LogfmtSplitter(tuple(self.schema.names), self.closed)
        if self.pattern != "w3c":
            return _regex_splitter(self.pattern)
        made = w3c_splitter(file, self.encoding)
        missing = next((n for n in self.schema.names if n not in made.names), None)
        if missing is not None:
            raise SourceError(
                f"{file.path}: its line of fields has no {missing!r}; it has {', '.join(made.names)}",
                path=file.path,
            )
        return made

    def _json_decoder(self, columns: tuple[str, ...]) -> RecordDecoder:
        objects = pa.schema([f for f in self.schema if f.name != PREFIX])
        reader = ndjson_decoder(
            tuple(c for c in columns if c != PREFIX), objects, self.on_bad_record,
            closed=self.closed, check_all=self.check_all, exact=self.exact, prune=(),
        )  # fmt: skip
        return JsonLinesDecoder(columns, self.on_bad_record, line_decoder(()), reader)

    def check(self, file: MappedFile) -> None:
        if self.pattern == "w3c":
            self.splitter(file)

    def begins(self, file: MappedFile) -> int:
        if self.encoding.kind != "utf-8":
            return file_encoding(file, self.encoding).mark
        return len(BOM) if read_first_bytes(file, len(BOM)) == BOM else 0

    @property
    def line_is_record(self) -> bool:
        return self.encoding.ends_lines_alone

    def boundaries(self) -> tuple[object, ...]:
        return (self.name, self.pattern, self.encoding.name)

    def spec(self) -> dict[str, Any]:
        return {
            "format": "text",
            "schema": self.schema,
            "pattern": self.pattern,
            "null": list(self.nulls),
            "exact": self.exact,
            "on_new_field": "error" if self.closed else "ignore",
            "on_bad_record": self.on_bad_record,
            "max_record": self.max_record,
            "validate": "all" if self.check_all else "projected",
            "encoding": self.encoding.name,
        }


@cache
def _regex_splitter(pattern: str) -> RegexSplitter:
    named = NAMED.get(pattern)
    if named is not None:
        return RegexSplitter(named.text, {n: n for n in group_names(named.text)}, named.title)
    read = read_pattern(pattern)
    return RegexSplitter(read, {n: n for n in group_names(read)})


def open_fields(
    paths: Sequence[str], pattern: str, options: Mapping[str, Any], schema: pa.Schema | None
) -> FieldsFormat:
    """Bind options, and find the columns and types where they are not declared or known by the name of the log.

    Raises:
        ConfigError: A pattern that is none, a column of the schema without a group, or a type that text can't be read
            as.
        SourceError: The sampled file can't be read, or no line of it is of the form.
    """
    named = NAMED.get(pattern)
    varied = pattern in ("logfmt", "json")
    if "on_new_field" in options and not varied:
        raise ConfigError(f"on_new_field is for pattern='logfmt' and 'json', not for {pattern!r}")
    if isinstance(options.get("null"), Mapping):
        raise ConfigError("null by column is for csv; of text it is one text, or a list of texts")
    if pattern == "json" and options.get("null"):
        raise ConfigError("null is not for pattern='json': its values are those of JSON")
    nulls = named.nulls if named is not None else ("", "-") if pattern == "w3c" else ("",)
    known = () if varied or pattern == "w3c" else _regex_splitter(pattern).names
    if options.get("on_new_field") == "json":
        raise ConfigError("on_new_field = 'json' is for files of JSON; fields of logs are refused or ignored")
    closed = options.get("on_new_field", "error" if schema is None else "ignore") == "error"
    made = FieldsFormat(
        pa.schema([]) if schema is None else declared_text(schema, "text"),
        pattern,
        tuple(options.get("null", nulls)),
        options.get("on_bad_record", "error"),
        check_all=checks_all(options),
        exact=options.get("exact", schema is None and named is None),
        max_record=options.get("max_record", MAX_RECORD),
        closed=varied and closed,
        encoding=find_encoding(options.get("encoding", "utf-8")),
    )
    if schema is not None:
        lacking = next((n for n in schema.names if known and n not in known), None)
        if lacking is not None:
            raise ConfigError(f"schema: pattern has no group {lacking!r}; its groups are {', '.join(known)}")
        if pattern != "json":
            check_field_types(made.schema)
        return made
    if named is not None:
        found = pa.schema([(n, named.types.get(n, pa.string_view())) for n in known])
    elif pattern == "json":
        found = _infer_json(paths[0], made.encoding)
    else:
        with open_file(paths[0]) as file:
            splitter = LogfmtSplitter((), closed=False) if pattern == "logfmt" else made.splitter(file)
        lines = sampled_lines(paths[0], encoding=made.encoding)
        found = infer_fields(paths[0], lines, splitter, made.nulls)
        if pattern == "w3c":
            found = pa.schema([(f.name, _TIME_OF_W3C if f.name == "time" else f.type) for f in found])
    return _with_schema(made, canonical_schema(found))


def _with_schema(form: FieldsFormat, schema: pa.Schema) -> FieldsFormat:
    return replace(form, schema=schema)


def _infer_json(path: str, encoding: Encoding) -> pa.Schema:
    records = []
    for lines in sampled_lines(path, encoding=encoding):
        for text in split_json(lines).field("json").to_pylist():
            try:
                records.append(parse(text or ""))
            except (ValueError, RecursionError):
                continue
    if not records:
        raise SourceError(f"{path}: no line of its sample ends with a JSON object", path=path)
    found = infer_schema(records, path)
    if PREFIX in found.names:
        raise SourceError(
            f"{path}: its objects have a field {PREFIX!r}, the name of the column for what stands before them; "
            "declare the other fields with schema=",
            path=path,
        )
    mixed = next((f.name for f in found if holds_json(f.type)), None)
    if mixed is not None:
        raise SourceError(
            f"{path}: field {mixed!r} holds values of several kinds; declare the other fields with schema=",
            path=path,
        )
    return pa.schema([pa.field(PREFIX, pa.string()), *found])

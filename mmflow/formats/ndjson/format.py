"""Newline-delimited JSON: one object a line.

With an inferred schema, a field that it does not know is a bad record.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mmflow.errors import ConfigError, SourceError
from mmflow.formats.base import BadRecordPolicy, Comparison, checks_all
from mmflow.formats.compression import read_first_bytes
from mmflow.formats.decoding.decoder import RecordDecoder
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.formats.ndjson.inference import infer_schema
from mmflow.formats.ndjson.kernel import ndjson_decoder
from mmflow.formats.ndjson.values import parse
from mmflow.formats.schemas.arrow_types import declared_text
from mmflow.formats.schemas.encodings import BOM, check_text
from mmflow.formats.schemas.file_columns import ColumnOptions, merge_schemas, read_each
from mmflow.formats.schemas.overrides import with_overrides
from mmflow.formats.schemas.sampling import MOST, sample_file
from mmflow.formats.schemas.schema import canonical_schema
from mmflow.formats.schemas.text_schemas import empty_error, piece_of, samples_of
from mmflow.mapping import MappedFile

__all__ = ["NdjsonFormat", "open_ndjson"]


@dataclass(frozen=True, slots=True)
class NdjsonFormat(ScannedFormat):
    """NDJSON with its options bound. See `formats.Format`.

    Attributes:
        closed: The schema was inferred: unknown fields are bad records.
        check_all: Fit all fields, whatever a query reads.
        exact: A whole number that a float would round is a bad value.
    """

    schema: pa.Schema
    on_bad_record: BadRecordPolicy = "error"
    closed: bool = False
    check_all: bool = False
    exact: bool = False
    name: str = "ndjson"

    def decoder(
        self, file: MappedFile, columns: tuple[str, ...], prune: Sequence[Comparison] = ()
    ) -> RecordDecoder:
        del file
        return ndjson_decoder(
            columns, self.schema, self.on_bad_record,
            closed=self.closed, check_all=self.check_all, exact=self.exact, prune=prune,
        )  # fmt: skip

    def begins(self, file: MappedFile) -> int:
        return len(BOM) if read_first_bytes(file, len(BOM)) == BOM else 0

    def spec(self) -> dict[str, Any]:
        return {
            "format": "ndjson",
            "schema": self.schema,
            "on_bad_record": self.on_bad_record,
            "unknown_fields": "error" if self.closed else "ignore",
            "validate": "all" if self.check_all else "projected",
            "exact": self.exact,
        }


def open_ndjson(paths: Sequence[str], options: Mapping[str, Any], schema: pa.Schema | None) -> NdjsonFormat:
    """Bind options, and find the schema where it is not declared.

    Raises:
        SourceError: The sample is empty, is not NDJSON, or holds fields that no one type fits.
    """
    asked: ColumnOptions = options.get("columns", ColumnOptions())
    inferred = schema is None
    if asked.missing == "error":
        raise ConfigError(
            "missing_columns='error' is not for NDJSON, whose records may leave fields out: they are null; leave it out"
        )
    overrides = options.get("schema_overrides")
    overrides = None if overrides is None else declared_text(overrides, "NDJSON")
    if schema is None:
        found = with_overrides(canonical_schema(_infer_schema(paths, asked, overrides)), overrides)
    else:
        found = declared_text(with_overrides(schema, overrides), "NDJSON")
        if asked.merges:
            inside = canonical_schema(_infer_schema(paths, asked, overrides))
            found, _ = asked.kept(asked.declared(found), found, inside)
    fields = {"": "error" if inferred else "ignore", "keep": "error"}.get(asked.extra, asked.extra)
    unknown = options.get("unknown_fields", fields)
    return NdjsonFormat(
        found,
        on_bad_record=options.get("on_bad_record", "error"),
        closed=unknown == "error",
        check_all=checks_all(options),
        exact=options.get("exact", inferred),
    )


def _infer_schema(paths: Sequence[str], asked: ColumnOptions, overrides: pa.Schema | None) -> pa.Schema:
    """Infer fields from samples of the files; those of `overrides` are of any type.

    Raises:
        SourceError: A file is no NDJSON, all are empty, or a field has values that no one type holds.
    """
    sampled = samples_of(paths, asked)
    piece = piece_of(len(sampled))
    records = read_each(sampled, lambda path: _records(path, piece))
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


def _records(path: str, piece: int) -> list[dict[str, Any]]:
    """Return the records of a sample of a file.

    Raises:
        SourceError: It is no NDJSON.
    """
    sample = sample_file(path, piece, enough=_holds_line)
    check_text(path, sample.start)
    if not sample.whole and not _holds_line(sample.start):
        raise SourceError(
            f"{path}: its first record is longer than {MOST:,} bytes, which is the most", path=path
        )
    records = []
    failure: str | None = None
    for part in (sample.start.removeprefix(BOM), *sample.others):
        for line in part.split(b"\n"):
            if not line.strip(b" \t\r\0"):
                continue
            try:
                records.append(parse(line.strip(b"\0").decode()))
            except RecursionError:
                failure = failure or "its brackets are nested too deep, some 900 are the most"
            except ValueError as error:
                failure = failure or str(error)
    if not records and failure is not None:
        raise SourceError(f"{path} does not look like NDJSON (one object a line): {failure}", path=path)
    return records


def _holds_line(start: bytes) -> bool:
    """Return whether the first bytes of a file hold a whole line that is not blank."""
    return b"\n" in start.lstrip(b" \t\r\n\0")

"""Newline-delimited JSON: one object a line.

The reference decoder hands whole pieces to pyarrow.json, and goes record by record with Python's json
where pyarrow fails, or where it is known to be lax. Late fields and late types are never dropped in silence: with an
inferred schema, a field that it does not know is a bad record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from mmflow.errors import SourceError
from mmflow.formats.base import BadRecordPolicy, Scan, ScanRequest
from mmflow.formats.compressed import CompressedScan, compression_of
from mmflow.formats.decoder import BadValue, Decoded
from mmflow.formats.ndjson_values import Misfit, fitted, infer, parse
from mmflow.formats.reader import RecordScan
from mmflow.formats.sampling import Sample, sample_file
from mmflow.formats.schema import canonical_schema
from mmflow.formats.text import TextDecoder
from mmflow.mapping import MappedFile
from mmflow.shards import Shard

__all__ = ["NdjsonDecoder", "NdjsonFormat", "open_ndjson"]

# What pyarrow.json lets pass and RFC 8259 does not (or reads otherwise): control characters in text, NaN and Infinity.
_LAX = re.compile(rb"[\x00-\x08\x09\x0b\x0c\x0e-\x1f]|NaN|Inf")
_BOM = b"\xef\xbb\xbf"


class NdjsonDecoder:
    """A `RecordDecoder` for NDJSON.

    Args:
        columns: Wanted fields of the top level.
        schema: All fields.
        policy: For bad records.
        closed: A field that is not in the schema makes a record bad.
        check_all: Fit every field to its type, whatever is wanted.
    """

    skips_nuls = True

    def __init__(
        self,
        columns: tuple[str, ...],
        schema: pa.Schema,
        policy: BadRecordPolicy,
        *,
        closed: bool,
        check_all: bool = False,
    ) -> None:
        self.columns = columns
        self._schema = schema
        self._policy = policy
        self._closed = closed
        read = schema.names if check_all else [n for n in schema.names if n in columns]
        self._read = pa.schema([schema.field(n) for n in read])
        # pyarrow takes a field that is not asked for as unexpected: closed schemas need all names.
        self._block_schema = schema if closed else self._read
        self._lines = TextDecoder(("line",), "null")

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        """See `RecordDecoder.decode`."""
        lines = self._lines.decode(data, stop, final=final, located=True)
        assert lines.offsets is not None
        assert lines.line_numbers is not None
        raw = data.slice(0, lines.consumed).to_pybytes()
        texts = lines.batch.column(0)
        blank = _blank(texts)
        numbers = np.flatnonzero(~blank)
        offsets, line_numbers = lines.offsets[numbers], lines.line_numbers[numbers]
        arrays = None if lines.bad else self._block(raw, len(numbers))
        bad: list[BadValue] = []
        kept = np.arange(len(numbers))
        if arrays is None:
            kept, arrays, bad = self._one_by_one(data, raw, offsets, line_numbers)
        made = [arrays[c] for c in self.columns]
        if made:
            batch = pa.RecordBatch.from_arrays(made, names=list(self.columns))
        else:
            batch = pa.RecordBatch.from_arrays([pa.nulls(len(kept))], names=["rows"]).select([])
        decoded = Decoded(batch, lines.consumed, len(numbers), lines.lines, bad=bad)
        if located:
            decoded.offsets, decoded.line_numbers = offsets[kept], line_numbers[kept]
        return decoded

    def _block(self, raw: bytes, records: int) -> dict[str, pa.Array] | None:
        """All records at once; None where that can't be trusted."""
        if not records:
            return {f.name: pa.nulls(0, f.type) for f in self._read}
        if _LAX.search(raw):
            return None
        try:
            table = pajson.read_json(
                pa.BufferReader(raw),
                read_options=pajson.ReadOptions(use_threads=False, block_size=len(raw) + 1),
                parse_options=pajson.ParseOptions(
                    explicit_schema=self._block_schema,
                    unexpected_field_behavior="error" if self._closed else "ignore",
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
        if table.num_rows != records:  # an object over several lines, or several on one
            return None
        return {f.name: pa.concat_arrays(table[f.name].chunks).cast(f.type) for f in self._read}

    def _one_by_one(
        self, data: pa.Buffer, raw: bytes, offsets: np.ndarray, line_numbers: np.ndarray
    ) -> tuple[np.ndarray, dict[str, pa.Array], list[BadValue]]:
        kept: list[int] = []
        columns: dict[str, list[Any]] = {n: [] for n in self._read.names}
        bad: list[BadValue] = []
        for index, offset in enumerate(offsets.tolist()):
            end = raw.find(b"\n", offset)
            text = raw[offset : end if end >= 0 else len(raw)].rstrip(b"\r")
            row, wrong = self._record(text)
            if wrong is not None:
                null = self._policy == "null"
                bad.append(
                    BadValue(
                        offset,
                        len(text),
                        index,
                        int(line_numbers[index]),
                        wrong.column or None,
                        None if wrong.value is None else str(wrong.value),
                        wrong.reason,
                        not null,
                    )
                )
                if self._policy == "error":
                    break
                if not null:
                    continue
            kept.append(index)
            for name, values in columns.items():
                values.append(row.get(name))
        arrays = {f.name: pa.array(columns[f.name], f.type) for f in self._read}
        return np.array(kept, np.int64), arrays, bad

    def _record(self, text: bytes) -> tuple[dict[str, Any], Misfit | None]:
        """Fitted values of a record, and the first thing that is wrong with it."""
        try:
            record = parse(text.decode())
        except (ValueError, RecursionError) as error:
            return {}, Misfit("", None, f"not a JSON object: {error}")
        first: Misfit | None = None
        if self._closed:
            unknown = [k for k in record if k not in self._schema.names]
            if unknown:
                reason = (
                    "a field that the inferred schema does not know; declare it with schema=, "
                    "or set unknown_fields=ignore"
                )
                first = Misfit(unknown[0], record[unknown[0]], reason)
        row = {}
        for f in self._read:
            try:
                row[f.name] = fitted(record.get(f.name), f.type, f.name)
            except Misfit as error:
                row[f.name] = None
                first = first or error
        return row, first


def _blank(texts: pa.Array) -> np.ndarray:
    """Which lines hold nothing but white space."""
    trimmed = pc.utf8_trim(texts.cast(pa.binary()).cast(pa.string(), safe=False), " \t\r")
    return np.asarray(pc.equal(pc.binary_length(trimmed), 0).fill_null(False))


@dataclass(frozen=True, slots=True)
class NdjsonFormat:
    """NDJSON with its options bound. See `formats.Format`.

    Attributes:
        closed: The schema was inferred: unknown fields are bad records.
        check_all: Fit all fields, whatever a query reads.
    """

    schema: pa.Schema
    on_bad_record: BadRecordPolicy = "error"
    closed: bool = False
    check_all: bool = False
    splittable: bool = True
    name: str = "ndjson"
    record_oriented: bool = True
    skips_holes: bool = True

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        """Read the records that `shard` owns. See `Format.scan`."""
        decoder = NdjsonDecoder(
            tuple(c for c in request.columns if c in self.schema.names),
            self.schema,
            self.on_bad_record,
            closed=self.closed,
            check_all=self.check_all,
        )
        if compression_of(file.path):
            return CompressedScan(file, shard, request, decoder, self.on_bad_record, 0)
        bom = file.window(0, len(_BOM)).buffer.to_pybytes() == _BOM
        return RecordScan(file, shard, request, decoder, self.on_bad_record, len(_BOM) if bom else 0)

    def spec(self) -> dict[str, Any]:
        """See `Format.spec`."""
        return {
            "format": "ndjson",
            "schema": self.schema,
            "on_bad_record": self.on_bad_record,
            "unknown_fields": "error" if self.closed else "ignore",
            "validate": "all" if self.check_all else "projected",
        }


def open_ndjson(paths: Sequence[str], options: Mapping[str, Any], schema: pa.Schema | None) -> NdjsonFormat:
    """Bind options, and find the schema where it is not declared.

    Raises:
        SourceError: The sample is empty, is not NDJSON, or holds fields that no one type fits.
    """
    inferred = schema is None
    if schema is None:
        schema = _inferred(paths[0], sample_file(paths[0]))
    unknown = options.get("unknown_fields", "error" if inferred else "ignore")
    return NdjsonFormat(
        canonical_schema(schema),
        on_bad_record=options.get("on_bad_record", "error"),
        closed=unknown == "error",
        check_all=options.get("validate", "projected") == "all",
        splittable=not any(compression_of(p) for p in paths),
    )


def _inferred(path: str, sample: Sample) -> pa.Schema:
    records = []
    failure: ValueError | None = None
    for piece in (sample.start.removeprefix(_BOM), *sample.others):
        for line in piece.split(b"\n"):
            if not line.strip(b" \t\r\0"):
                continue
            try:
                records.append(parse(line.strip(b"\0").decode()))
            except ValueError as error:
                failure = failure or error
    if not records and failure is not None:
        raise SourceError(f"{path} does not look like NDJSON (one object a line): {failure}", path=path)
    if not records:
        raise SourceError(
            f"{path} is empty, so its fields are unknown; give schema=name:type,... if that is all right",
            path=path,
        )
    return infer(records, path)

"""CSV and its relatives: the format, its options, and how its schema is found."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from mmflow.errors import ConfigError, SourceError
from mmflow.formats.base import VIRTUAL_COLUMNS, BadRecordPolicy, Comparison, Scan, ScanRequest, checks_all
from mmflow.formats.compressed import CompressedScan, compression_of, decompressing
from mmflow.formats.csv_decoder import CsvDecoder, CsvTypes, check_types
from mmflow.formats.csv_native import csv_decoder
from mmflow.formats.csv_structure import Dialect, parse_record
from mmflow.formats.decoder import RecordDecoder
from mmflow.formats.groups import check_columns
from mmflow.formats.reader import RecordScan
from mmflow.formats.sampling import Sample, sample_file
from mmflow.formats.schema import canonical_schema
from mmflow.mapping import FileIdentity, MappedFile
from mmflow.shards import Shard

__all__ = ["CsvFormat", "open_csv"]

_BOM = b"\xef\xbb\xbf"
_HEADER_BYTES = 1 << 20
# Tried in this order: the first that reads every sampled value of a column is its type.
_GUESSES = (pa.int64(), pa.float64(), pa.bool_(), pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC"))


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """CSV with its options bound. See `formats.Format`.

    Attributes:
        schema: Declared or inferred; by name where the file has a header, else by position.
        dialect: Delimiter, quote, escape.
        header: The first record names the columns.
        nulls: Unquoted texts that mean null.
        on_bad_record: Policy.
        check_all: Convert all columns, so that a bad value is found whatever a query reads.
        origin: File that the schema was inferred from; empty: it was declared.
    """

    schema: pa.Schema
    dialect: Dialect
    header: bool = True
    nulls: tuple[str, ...] = ("",)
    on_bad_record: BadRecordPolicy = "error"
    check_all: bool = False
    origin: str = field(default="", compare=False)
    splittable: bool = True
    name: str = "csv"
    record_oriented: bool = True
    skips_holes: bool = True

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        """Read the records that `shard` owns. See `Format.scan`."""
        wanted = tuple(c for c in request.columns if c in self.schema.names or c not in VIRTUAL_COLUMNS)
        decoder = self.decoder(file, wanted, request.prune)
        begins = self.begins(file)
        if compression_of(file.path):
            return CompressedScan(file, shard, request, decoder, self.on_bad_record, begins)
        return RecordScan(file, shard, request, decoder, self.on_bad_record, begins)

    def decoder(
        self, file: MappedFile, columns: tuple[str, ...], prune: Sequence[Comparison] = ()
    ) -> RecordDecoder:
        """See `ScannedFormat.decoder`."""
        types = CsvTypes(self.layout(file)[0], {f.name: f.type for f in self.schema}, self.nulls)
        return csv_decoder(
            columns, types, self.dialect, self.on_bad_record, check_all=self.check_all, prune=prune
        )

    def begins(self, file: MappedFile) -> int:
        """See `ScannedFormat.begins`."""
        return self.layout(file)[1]

    @property
    def line_is_record(self) -> bool:
        """See `ScannedFormat.line_is_record`."""
        return self.dialect.quote is None and self.dialect.escape is None

    def boundaries(self) -> tuple[object, ...]:
        """See `ScannedFormat.boundaries`."""
        return (self.name, self.dialect.delimiter, self.dialect.quote, self.dialect.escape, self.header)

    def layout(self, file: MappedFile) -> tuple[tuple[str, ...], int]:
        """Names of a file's columns in order, and where its first record begins.

        Raises:
            SourceError: The header lacks a column of the schema.
        """
        names, begins = _layout(file, self.dialect, self.header)
        if not self.header:
            return tuple(self.schema.names), begins
        if names and file.path != self.origin:
            check_columns(file.path, names, self.schema.names, self.origin)
        there = set(names)
        missing = [n for n in self.schema.names if n not in there]
        if missing and names:
            raise _missing(file.path, missing, names, self.dialect)
        return names, begins

    def check(self, file: MappedFile) -> None:
        """See `Format.check`."""
        self.layout(file)

    def spec(self) -> dict[str, Any]:
        """See `Format.spec`."""
        return {
            "format": "csv",
            "schema": self.schema,
            "delimiter": self.dialect.delimiter.decode("latin-1"),
            "quote": self.dialect.quote.decode("latin-1") if self.dialect.quote else "",
            "escape": self.dialect.escape.decode("latin-1") if self.dialect.escape else "",
            "header": self.header,
            "null": list(self.nulls),
            "on_bad_record": self.on_bad_record,
            "validate": "all" if self.check_all else "projected",
        }


#: Layouts of files that were read lately, by what they depend on: each task of a file asks for it.
_layouts: dict[tuple[str, FileIdentity, Dialect, bool], tuple[tuple[str, ...], int]] = {}
_MOST_LAYOUTS = 256


def _layout(file: MappedFile, dialect: Dialect, header: bool) -> tuple[tuple[str, ...], int]:
    """Names in the header, if there is one, and where the first record begins."""
    key = (file.path, file.identity, dialect, header)
    known = _layouts.get(key)
    if known is None:
        start = head_of(file)
        known = header_of(start, dialect) if header else ((), len(_BOM) if start.startswith(_BOM) else 0)
        file.check_unchanged()  # what is kept is of that file, not of one that took its place
        if len(_layouts) >= _MOST_LAYOUTS:
            _layouts.clear()
        _layouts[key] = known
    return known


def head_of(file: MappedFile) -> bytes:
    """The first bytes of a file's contents; enough for any header.

    Raises:
        SourceError: It is compressed and damaged.
    """
    if compression_of(file.path):
        with decompressing(file) as stream:
            return bytes(stream.read(_HEADER_BYTES))
    return bytes(file.window(0, _HEADER_BYTES).buffer.to_pybytes())


def header_of(start: bytes, dialect: Dialect) -> tuple[tuple[str, ...], int]:
    """Column names from a file's first bytes, and where the first record begins; no names in an empty file."""
    position = len(_BOM) if start.startswith(_BOM) else 0
    while position < len(start):
        found = parse_record(start, position, dialect, final=True)
        assert found is not None
        end = min(found[0], len(start))
        if start[position:end].strip(b"\r\0"):
            return tuple(_fields(start[position:end].rstrip(b"\r"), dialect)), min(end + 1, len(start))
        position = end + 1
    return (), len(start)


def _fields(record: bytes, dialect: Dialect) -> list[str]:
    """Texts of a record's fields."""
    names = [str(i) for i in range(int(parse_record(record, 0, dialect, final=True)[1]))]  # type: ignore[index]
    types = {n: pa.string() for n in names}
    decoder = CsvDecoder(tuple(names), CsvTypes(tuple(names), types, ()), dialect, "null")
    batch = decoder.decode(pa.py_buffer(record + b"\n"), len(record) + 1, final=True, located=False).batch
    return [str(column[0].as_py()) for column in batch.columns] if batch.num_rows else names


def _missing(path: str, missing: Sequence[str], names: Sequence[str], dialect: Dialect) -> SourceError:
    listed = ", ".join(map(repr, names[:20]))
    message = f"{path}: its header has no column {missing[0]!r}; it has {listed}"
    close = difflib.get_close_matches(missing[0], names, 1)
    used = dialect.delimiter.decode("latin-1")
    other = next((d for d in ",;\t|" if d != used and d in names[0]), None) if len(names) == 1 else None
    if other is not None:
        message += f"\n  it looks delimited by {other!r}, not by {used!r}: set delimiter={other!r}"
    elif close:
        message += f"\n  did you mean {close[0]!r}?"
    else:
        message += "\n  set header=false if the first line is data"
    return SourceError(message, path=path)


def open_csv(paths: Sequence[str], options: Mapping[str, Any], schema: pa.Schema | None) -> CsvFormat:
    """Bind options, and find the schema where it is not declared.

    Args:
        paths: Files of the source; the first is sampled.
        options: `delimiter header quote escape null on_bad_record validate`, parsed.
        schema: Declared, or None.

    Raises:
        SourceError: The sampled file is empty, or can't be read.
        ConfigError: A type that CSV can't be read as.
    """
    compressed = any(compression_of(p) for p in paths)
    dialect = Dialect(
        _byte("delimiter", options.get("delimiter", ",")) or b",",
        _byte("quote", options.get("quote", '"')),
        _byte("escape", options.get("escape", "")),
    )
    made = CsvFormat(
        schema=pa.schema([]),
        dialect=dialect,
        header=options.get("header", True),
        nulls=tuple(options.get("null", ("",))),
        on_bad_record=options.get("on_bad_record", "error"),
        check_all=checks_all(options),
        splittable=not compressed,
    )
    if schema is None:
        schema = _inferred(paths[0], sample_file(paths[0]), made)
        made = replace(made, origin=paths[0])
    schema = canonical_schema(schema)
    check_types({f.name: f.type for f in schema})
    return replace(made, schema=schema)


def _byte(key: str, text: str) -> bytes | None:
    if not text:
        return None
    raw = text.encode()
    if len(raw) != 1 or raw in (b"\n", b"\r", b"\0"):
        raise ConfigError(f"{key} = {text!r}: must be one ASCII character, and not a line break")
    return raw


def _inferred(path: str, sample: Sample, form: CsvFormat) -> pa.Schema:
    """Types that read every value of the sample."""
    start = sample.start.removeprefix(_BOM)
    if not start.strip(b"\r\n\0"):
        raise SourceError(
            f"{path} is empty, so its columns are unknown; give schema=name:type,... if that is all right",
            path=path,
        )
    if form.header:
        names, begins = header_of(start, form.dialect)
    else:
        found = parse_record(start, 0, form.dialect, final=True)
        assert found is not None
        names, begins = tuple(f"f{i}" for i in range(found[1])), 0
    names = _unique(names)
    texts = CsvTypes(names, {n: pa.string() for n in names}, form.nulls)
    decoder = CsvDecoder(names, texts, form.dialect, "skip")
    columns: dict[str, list[pa.Array]] = {n: [] for n in names}
    for piece in (start[begins:], *sample.others):
        if piece:
            batch = decoder.decode(pa.py_buffer(piece), len(piece), final=True, located=False).batch
            for name, column in zip(names, batch.columns, strict=True):
                columns[name].append(column)
    return pa.schema([pa.field(n, _guess(columns[n], form.nulls)) for n in names])


def _guess(pieces: list[pa.Array], nulls: tuple[str, ...]) -> pa.DataType:
    texts = pa.chunked_array(pieces, pa.string()).drop_null().combine_chunks() if pieces else pa.nulls(0)
    if not len(texts):
        return pa.string()
    types = CsvTypes(("v",), {}, nulls)
    # One value a line, quoted: the decoder itself judges what it can read.
    quoted = b"".join(b'"' + t.as_py().encode().replace(b'"', b'""') + b'"\n' for t in texts)
    for kind in _GUESSES:
        decoder = CsvDecoder(("v",), replace(types, types={"v": kind}), Dialect(), "error")
        decoded = decoder.decode(pa.py_buffer(quoted), len(quoted), final=True, located=False)
        if not decoded.bad:
            return kind
    return pa.string()


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Names with later ones of the same name numbered: a, a_2, a_3."""
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return tuple(made)

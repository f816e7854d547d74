"""CSV and its relatives: the format, its options, and the inference of its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from typing import Any

import pyarrow as pa

from mmflow.errors import ConfigError, SourceError
from mmflow.formats.base import BadRecordPolicy, Comparison, checks_all
from mmflow.formats.compression import file_compression, read_first_bytes
from mmflow.formats.csv.decoder import CsvTypes, check_types
from mmflow.formats.csv.frame import Frame
from mmflow.formats.csv.header import (
    Header,
    delimiter_line,
    first_record,
    holds_records,
    read_header,
    seen_dialect,
    unique_names,
)
from mmflow.formats.csv.kernel import csv_decoder
from mmflow.formats.csv.options import check_dialect, delimiter_bytes, delimiter_of_name
from mmflow.formats.csv.sampled_columns import infer_columns
from mmflow.formats.csv.structure import Dialect
from mmflow.formats.csv.styles import ValueStyles
from mmflow.formats.decoding.decoder import RecordDecoder
from mmflow.formats.decoding.lines import footer_begin, last_lines
from mmflow.formats.decoding.reader import MAX_RECORD
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.formats.encodings.encoding import UTF8, Encoding, find_encoding
from mmflow.formats.encodings.files import (
    FileEncoding,
    FirstText,
    file_encoding,
    first_text,
    translated_start,
)
from mmflow.formats.schemas.arrow_types import declared_text
from mmflow.formats.schemas.file_columns import DECLARED, FileColumns
from mmflow.formats.schemas.known import found_once
from mmflow.formats.schemas.overrides import overriding, with_overrides
from mmflow.formats.schemas.sampling import MOST, Sample, sample_file
from mmflow.formats.schemas.text_schemas import text_source
from mmflow.lazy import difflib
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.mapping import FileIdentity, MappedFile
from mmflow.mapping.access_policy import SMALL
from mmflow.remote.opening import open_file

__all__ = ["CsvFormat", "open_csv"]

_HEADER_BYTES = 1 << 20
#: Bytes of a stream, for which one has to wait.
_STREAM_HEADER_BYTES = 1 << 12
_PROBE_BYTES = 4096
#: Name of the column of surplus fields: `extra`, or with a number where the file has a column of that name.
_EXTRA = lazy_regex(r"extra(_\d+)?")
_FRAME = Frame()
_LINE_BYTES = 16  # that hold a line which names the delimiter


@dataclass(frozen=True, slots=True)
class CsvFormat(ScannedFormat):
    """CSV with its options bound. See `formats.Format`.

    Attributes:
        schema: Declared or inferred; by name where the file has a header, else by position.
        dialect: Delimiter, quote, escape.
        frame: Lines that are no records.
        styles: Spelling of values.
        on_bad_record: Policy.
        check_all: Convert all columns, so that a bad value is found whatever a query reads.
        columns: How the columns of a file may differ from the schema.
        exact: Text that its value could not be written as again is a bad value (`schemas.inference.misreads`).
        encoding: Encoding of the files.
        own: Names of the columns of the files in `schema`. Once, as `extra`, since each task asks for them.
        extra: Column of surplus fields, which is none of the files'; None: there is none.
    """

    schema: pa.Schema
    dialect: Dialect
    frame: Frame = _FRAME
    styles: ValueStyles = field(default_factory=ValueStyles)
    on_bad_record: BadRecordPolicy = "error"
    check_all: bool = False
    columns: FileColumns = DECLARED
    exact: bool = False
    encoding: Encoding = UTF8
    name: str = "csv"
    max_record: int = MAX_RECORD
    own: tuple[str, ...] = field(init=False, compare=False, repr=False)
    extra: str | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        extra = _extra_column(self.schema) if self.dialect.ragged == "extra" else None
        object.__setattr__(self, "extra", extra)
        object.__setattr__(self, "own", tuple(n for n in self.schema.names if n != extra))

    def utf8_decoder(
        self, file: MappedFile, columns: tuple[str, ...], prune: Sequence[Comparison] = ()
    ) -> RecordDecoder:
        styles = self.styles
        found = self.layout(file)
        names, lacks = found.names, self.lacks(file)
        # Of 20,000 columns, two are soon asked for.
        read = self.schema.names if self.check_all else dict.fromkeys((*columns, *(c.column for c in prune)))
        numbers = {name: self.schema.get_field_index(name) for name in read if name not in lacks}
        kinds = {name: self.schema.field(number).type for name, number in numbers.items() if number >= 0}
        dialect = replace(
            self.dialect, trailing=found.trailing, returns=self.dialect.returns or found.returns
        )
        types = CsvTypes(names, kinds, styles.null, self.exact, styles.quoted_null, styles.columns(kinds))
        return csv_decoder(
            columns,
            types,
            dialect,
            self.on_bad_record,
            check_all=self.check_all,
            prune=prune,
            extra=self.extra,
        )

    def likeness(self, file: MappedFile) -> object:
        if self.encoding.kind != "utf-8":  # decoders of others have a state
            return None
        found = self.layout(file)
        return found.names, found.trailing, found.returns, self.lacks(file)

    def shared_head(self, file: MappedFile) -> bytes | None:
        dialect = self.dialect
        plain = dialect.plain and dialect.escape is None and not self.frame.skip_footer
        if (
            not plain
            or self.encoding.kind != "utf-8"
            or self.on_bad_record != "error"
            or self.max_record < SMALL
        ):
            return None
        found = self.layout(file)
        if found.trailing or found.returns or file_compression(file) is not None:
            return None
        head: bytes = file.window(0, found.begins).buffer.to_pybytes()
        return head if head.endswith(b"\n") or not head else None

    def _seen(self, file: MappedFile) -> _Seen:
        seen = file.seen
        if not isinstance(seen, _Seen) or seen.form is not self:
            seen = file.seen = _Seen(self, _layout(file, self.dialect, self.frame, self.encoding))
        return seen

    def returns_end_lines(self, file: MappedFile) -> bool:
        return self.dialect.returns or self._seen(file).header.returns

    def begins(self, file: MappedFile) -> int:
        return self.layout(file).begins

    def ends(self, file: MappedFile) -> int:
        if not self.frame.skip_footer:
            return file.size
        encoding = file_encoding(file, self.encoding).encoding
        returns = self.returns_end_lines(file)
        return footer_begin(file, self.frame.skip_footer, self.begins(file), encoding, returns=returns)

    @property
    def footer_lines(self) -> int:
        return self.frame.skip_footer

    @property
    def line_is_record(self) -> bool:
        dialect = self.dialect
        plain = dialect.plain and dialect.quote is None and dialect.escape is None
        return plain and self.encoding.ends_lines_alone and not self.frame.skip_footer

    def boundaries(self) -> tuple[object, ...]:
        return (self.name, self.dialect, self.frame, self.encoding.name)

    def layout(self, file: MappedFile) -> Header:
        """Return the names of a file's columns in order, and where its first record begins.

        Raises:
            SourceError: The header can't be read, or lacks a column of the schema.
        """
        seen = self._seen(file)
        if seen.layout is None:
            seen.layout = self._fitted(file, seen.header)
        return seen.layout

    def _fitted(self, file: MappedFile, found: Header) -> Header:
        own = self.own
        if found.names == own:
            return found
        if not self.frame.header and not self.frame.names:
            return replace(found, names=own)
        if found.names and file.path != self.columns.origin:
            self.columns.check(file.path, found.names, own)
        if self.columns.missing == "null":
            return found
        known = set(found.names)
        missing = [n for n in own if n not in known]
        if missing and found.names:
            raise _missing_column(file.path, missing, found.names, self.dialect)
        return found

    def check(self, file: MappedFile) -> None:
        self.layout(file)

    def lacks(self, file: MappedFile) -> frozenset[str]:
        if not self.frame.header and not self.frame.names:
            return frozenset()
        seen = self._seen(file)
        if seen.lacks is None:
            names = seen.header.names  # no header, so no records
            seen.lacks = self.columns.lacking(names, self.own) if names else frozenset(self.schema.names)
        return seen.lacks

    def spec(self) -> dict[str, Any]:
        return {
            "format": "csv",
            "schema": self.schema,
            "delimiter": self.dialect.delimiter.decode("latin-1"),
            "quote": self.dialect.quote.decode("latin-1") if self.dialect.quote else "",
            "escape": self.dialect.escape.decode("latin-1") if self.dialect.escape else "",
            "comment": self.dialect.comment.decode(),
            "trim": self.dialect.trim,
            "ragged": self.dialect.ragged,
            "lenient": self.dialect.lenient,
            "line_end": "any" if self.dialect.returns else "auto",
            "header": list(self.frame.header),
            "names": list(self.frame.names) or None,
            "skip_rows": self.frame.skip_rows,
            "skip_footer": self.frame.skip_footer,
            **self.styles.spec(),
            "on_bad_record": self.on_bad_record,
            "max_record": self.max_record,
            "validate": "all" if self.check_all else "projected",
            "exact": self.exact,
            **self.columns.spec(),
            "encoding": self.encoding.name,
        }


def _extra_column(schema: pa.Schema) -> str | None:
    lists = (f.name for f in schema if pa.types.is_list(f.type) and _EXTRA.fullmatch(f.name))
    return next(lists, None)


@dataclass(slots=True)
class _Seen:
    """Findings about an open file: its header, and how that fits the format."""

    form: CsvFormat
    header: Header
    layout: Header | None = None
    lacks: frozenset[str] | None = None


#: Layouts of files that were read lately, by what they depend on: each task of a file asks for it.
_layouts: dict[tuple[str, FileIdentity, Dialect, Frame, str], Header] = {}
_MOST_LAYOUTS = 256


def _layout(file: MappedFile, dialect: Dialect, frame: Frame, encoding: Encoding) -> Header:
    """Return the names in the header, if there is one, and where the first record begins."""
    key = (file.path, file.identity, dialect, frame, encoding.name)
    known = _layouts.get(key)
    if known is None:
        head = _head(file, dialect, frame, encoding)
        known = read_header(file.path, head.text, dialect, frame, head)
        known = replace(known, begins=head.raw_offset(known.begins))
        if not file.whole:
            file.check_unchanged()  # what is kept is of that file, not of one that took its place
        if len(_layouts) >= _MOST_LAYOUTS:
            _layouts.clear()
        _layouts[key] = known
    return known


def _head(file: MappedFile, dialect: Dialect, frame: Frame, encoding: Encoding) -> FirstText:
    """Return the first bytes of a file's contents, all that precedes its first record among them.

    Raises:
        SourceError: It is compressed and damaged, or its header does not end.
    """
    plain = not frame.header and not frame.skip_rows
    header = _STREAM_HEADER_BYTES if file.once else _HEADER_BYTES
    size, needed = _PROBE_BYTES if plain else header, max(frame.header, default=0)
    while True:
        start = first_text(file, size, encoding)
        if start.ended or holds_records(start.text, dialect, needed, frame):
            return start
        if size == MOST:
            raise SourceError(
                f"{file.path}: its header is longer than {MOST:,} bytes; a quote that is never closed?\n"
                "  set quote= to what quotes fields, or to nothing",
                path=file.path,
            )
        size = min(4 * size, MOST)


def _missing_column(path: str, missing: Sequence[str], names: Sequence[str], dialect: Dialect) -> SourceError:
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
    return SourceError(message, path=path, code="MMF-SRC-005")


def open_csv(paths: Sequence[str], options: Mapping[str, Any], schema: pa.Schema | None) -> CsvFormat:
    """Bind options, and find the schema where it is not declared.

    Args:
        paths: Files of the source; the first is sampled, or several (`ColumnOptions`).
        options: Those of the registry, parsed.
        schema: Declared, or None.

    Raises:
        SourceError: The sampled file is empty, or can't be read.
        ConfigError: A type that CSV can't be read as.
    """
    dialect = Dialect(
        _delimiter(options, paths),
        _byte("quote", options.get("quote", '"')),
        _byte("escape", options.get("escape", "")),
        options.get("comment", b""),
        options.get("trim", False),
        options.get("ragged", "error"),
        options.get("lenient", False),
        options.get("line_end", "auto") == "any",
    )
    check_dialect(dialect)
    made = CsvFormat(
        schema=pa.schema([]),
        dialect=dialect,
        frame=Frame(
            options.get("header", (1,)),
            options.get("names", ()),
            options.get("skip_rows", 0),
            options.get("skip_footer", 0),
        ),
        styles=ValueStyles.of(options),
        on_bad_record=options.get("on_bad_record", "error"),
        check_all=checks_all(options),
        exact=options.get("exact", schema is None),
        encoding=find_encoding(options.get("encoding", "utf-8")),
        max_record=options.get("max_record", MAX_RECORD),
    )
    declared = frozenset(() if schema is None else schema.names)
    formatted: set[str] = set()
    overrides = options.get("schema_overrides")
    overrides = None if overrides is None else declared_text(overrides, "CSV")
    if schema is not None:
        schema = with_overrides(schema, overrides)

    def infer(path: str, piece: int) -> pa.Schema:
        found, spelled = found_once((made, piece), path, partial(_infer_schema, made, path, piece))
        formatted.update(spelled)
        return found

    schema, columns = text_source(paths, "CSV", schema, overriding(infer, overrides), options)
    with_overrides(schema, overrides)
    kinds = {f.name: f.type for f in schema}
    check_types(kinds)
    made.styles.check(kinds)
    styles = made.styles
    if declared != kinds.keys():
        spelled = sorted(declared | formatted & kinds.keys())
        dates = [n for n in spelled if pa.types.is_date(kinds[n])]
        styles = styles.resolved(dates, [n for n in spelled if n not in dates])
    return replace(made, schema=schema, columns=columns, styles=styles)


def _delimiter(options: Mapping[str, Any], paths: Sequence[str]) -> bytes:
    """Return the delimiter of files: the option, or what the first line of the first one says, or its name."""
    given: str | None = options.get("delimiter")
    if given is None:
        with open_file(paths[0], io="pread", access="random") as file:
            start = read_first_bytes(file, _LINE_BYTES)
        named = None if options.get("skip_rows") else delimiter_line(start)
        given = delimiter_of_name(paths[0]) if named is None else named[0]
    return delimiter_bytes(given)


def _byte(key: str, text: str) -> bytes | None:
    if not text:
        return None
    raw = text.encode()
    if len(raw) != 1 or raw in (b"\n", b"\r", b"\0"):
        raise ConfigError(f"{key} = {text!r}: must be one ASCII character, and not a line break")
    return raw


def _infer_schema(form: CsvFormat, path: str, piece: int) -> tuple[pa.Schema, frozenset[str]]:
    """Infer types that hold every value of a sample of pieces of so many bytes; null where there is no value.

    Returns:
        The columns, and the names of those that are spelled by the formats of dates and times.

    Raises:
        SourceError: Its header can't be read, or it is no text.
    """
    frame = form.frame
    needed = max(frame.header, default=0) + 1
    sample = sample_file(
        path,
        piece,
        enough=lambda start: holds_records(start, form.dialect, needed, frame),
        encoding=form.encoding,
    )
    returns = seen_dialect(sample.start, form.dialect).returns
    start, others = _without_footer(sample, frame.skip_footer, returns=returns)
    if form.encoding.kind != "utf-8":  # errors say where in the file, which the sample knows no more
        with open_file(path, io="pread", access="random") as file:
            _layout(file, form.dialect, frame, form.encoding)
    source = translated_start(start, FileEncoding(UTF8), ended=sample.whole)
    header = read_header(path, start, form.dialect, frame, source)
    dialect = replace(form.dialect, trailing=header.trailing, returns=header.returns)
    if dialect.returns and not sample.whole:
        start = start[: max(start.rfind(b"\r"), start.rfind(b"\n")) + 1]
    if not frame.header and not frame.names:
        first = first_record(start, dialect, header.begins)
        header = Header((), 0) if first is None else Header(numbered_names(len(first.fields)), first.begin)
    names = header.names
    if not names:
        return pa.schema([]), frozenset()
    found = infer_columns(names, (start[header.begins :], *others), dialect, form.styles)
    formatted = frozenset(name for name, column in zip(names, found, strict=True) if column.formatted)
    schema = pa.schema([(name, column.kind) for name, column in zip(names, found, strict=True)])
    if dialect.ragged == "extra":
        schema = schema.append(pa.field(unique_names([*names, "extra"])[-1], pa.list_(pa.string())))
    return schema, formatted


def _without_footer(sample: Sample, count: int, *, returns: bool) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the pieces of a sample without the last lines of the file, where they hold its end."""
    if not count:
        return sample.start, sample.others
    if sample.whole:
        return sample.start[: last_lines(sample.start, count, returns=returns) or 0], ()
    # A piece of the end need not hold more lines than the footer has.
    return sample.start, tuple(p[: last_lines(p, count, returns=returns) or 0] for p in sample.others)


def numbered_names(count: int) -> tuple[str, ...]:
    """Return names for columns of files without a header: f0, f1 and so on."""
    return tuple(f"f{i}" for i in range(count))

"""Text of fixed width: the format, its options, and the inference of positions and types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from mmflow.errors import ConfigError, SourceError
from mmflow.formats.base import BadRecordPolicy, Comparison, checks_all
from mmflow.formats.csv.header import unique_names
from mmflow.formats.decoding.decoder import RecordDecoder
from mmflow.formats.decoding.reader import MAX_RECORD
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.formats.encodings.encoding import UTF8, Encoding, find_encoding
from mmflow.formats.encodings.files import first_text
from mmflow.formats.fwf.options import END
from mmflow.formats.fwf.splitting import FixedSplitter, infer_spans
from mmflow.formats.schemas.arrow_types import declared_text
from mmflow.formats.schemas.encodings import BOM, check_text
from mmflow.formats.schemas.schema import canonical_schema
from mmflow.formats.text.conversion import check_field_types
from mmflow.formats.text.fields import FieldsDecoder, FieldTypes
from mmflow.formats.text.lines import line_decoder
from mmflow.formats.text.sampling import infer_fields, sampled_lines
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.remote.opening import open_file

__all__ = ["FwfFormat", "open_fwf"]

_HEAD = 1 << 20


@dataclass(frozen=True, slots=True)
class FwfFormat(ScannedFormat):
    """Format of lines whose columns have the same positions.

    Attributes:
        schema: Columns that can be read.
        splitter: Cuts lines.
        header: The first line that is not blank names the columns.
        skip_rows: Lines before it.
        nulls: Texts that mean null.
        exact: Text that its value could not be written as again is a bad value.
        encoding: Encoding of the files.
    """

    schema: pa.Schema
    splitter: FixedSplitter
    header: bool = False
    skip_rows: int = 0
    nulls: tuple[str, ...] = ("",)
    on_bad_record: BadRecordPolicy = "error"
    check_all: bool = False
    exact: bool = False
    encoding: Encoding = UTF8
    name: str = "fwf"
    max_record: int = MAX_RECORD

    def utf8_decoder(
        self, file: MappedFile, columns: tuple[str, ...], prune: Sequence[Comparison] = ()
    ) -> RecordDecoder:
        self.check(file)
        types = FieldTypes(self.schema, self.nulls, self.exact)
        return FieldsDecoder(
            columns,
            self.splitter,
            types,
            self.on_bad_record,
            line_decoder,
            check_all=self.check_all,
            prune=prune,
        )

    def check(self, file: MappedFile) -> None:
        """Check that the header names the columns of the first file.

        Raises:
            SourceError: It names others.
        """
        found, *_ = _head(file, self.header, self.skip_rows, self.encoding)
        if self.header and found and (names := _names(found, self.splitter.spans)) != self.splitter.names:
            raise SourceError(
                f"{file.path}: its header has the columns {', '.join(names)}, and the source has "
                f"{', '.join(self.splitter.names)}; set header=false and names= if that is all right",
                path=file.path,
            )

    def begins(self, file: MappedFile) -> int:
        return _head(file, self.header, self.skip_rows, self.encoding)[2]

    def boundaries(self) -> tuple[object, ...]:
        return (self.name, self.splitter, self.header, self.skip_rows, self.encoding.name)

    @property
    def line_is_record(self) -> bool:
        return self.encoding.ends_lines_alone

    def spec(self) -> dict[str, Any]:
        return {
            "format": "fwf",
            "schema": self.schema,
            "colspecs": [list(span) for span in self.splitter.spans],
            "names": list(self.splitter.names),
            "header": self.header,
            "skip_rows": self.skip_rows,
            "ragged": "null" if self.splitter.short else "error",
            "gaps": self.splitter.gaps,
            "null": list(self.nulls),
            "exact": self.exact,
            "on_bad_record": self.on_bad_record,
            "max_record": self.max_record,
            "validate": "all" if self.check_all else "projected",
            "encoding": self.encoding.name,
        }


def open_fwf(paths: Sequence[str], options: Mapping[str, Any], schema: pa.Schema | None) -> FwfFormat:
    """Bind options, and find positions, names and types where they are not declared.

    Raises:
        ConfigError: Options that don't fit each other, or a type that text can't be read as.
        SourceError: The sampled file can't be read, or is empty.
    """
    if "widths" in options and "colspecs" in options:
        raise ConfigError("widths and colspecs both say where columns are; leave one of them out")
    if isinstance(options.get("null"), Mapping):
        raise ConfigError("null by column is for csv; of text it is one text, or a list of texts")
    rows = options.get("header", () if "names" in options else (1,))
    if rows not in ((), (1,)):
        raise ConfigError(
            "header of text of fixed width is true or false; skip_rows leaves out lines before it"
        )
    header, skip_rows = rows == (1,), options.get("skip_rows", 0)
    spans, names = options.get("colspecs"), options.get("names")
    if "widths" in options:
        ends = [sum(options["widths"][: i + 1]) for i in range(len(options["widths"]))]
        spans = tuple(zip([0, *ends[:-1]], ends, strict=True))
    encoding = find_encoding(options.get("encoding", "utf-8"))
    head, lines = "", None
    if spans is None or (names is None and header) or schema is None:
        head, lines = _sample(paths[0], header, skip_rows, encoding)
    inferred = spans is None
    if spans is None:
        assert lines is not None
        texts = [text for piece in lines for text in piece.to_pylist() if text.strip()]
        spans = infer_spans([head, *texts] if head else texts)
        if not spans:
            raise SourceError(
                f"{paths[0]} is empty, so the positions of its columns are unknown; give widths= or colspecs=",
                path=paths[0],
            )
    if names is None:
        names = _names(head, spans) if header else tuple(f"f{i}" for i in range(len(spans)))
    if len(names) != len(spans):
        raise ConfigError(
            f"names has {len(names)} names, and there are {len(spans)} columns at {_listed(spans)}"
        )
    splitter = FixedSplitter(
        tuple(names), tuple(spans), options.get("ragged") == "null", bool(options.get("gaps", inferred))
    )
    made = FwfFormat(
        pa.schema([]) if schema is None else declared_text(schema, "text"),
        splitter,
        header and "names" not in options,
        skip_rows + (header and "names" in options),
        tuple(options.get("null", ("",))),
        options.get("on_bad_record", "error"),
        check_all=checks_all(options),
        exact=options.get("exact", schema is None),
        encoding=encoding,
        max_record=options.get("max_record", MAX_RECORD),
    )
    if schema is None:
        assert lines is not None
        return replace(made, schema=canonical_schema(infer_fields(paths[0], lines, splitter, made.nulls)))
    lacking = next((n for n in schema.names if n not in splitter.names), None)
    if lacking is not None:
        raise ConfigError(
            f"schema: there is no column {lacking!r}; the columns are {', '.join(splitter.names)}"
        )
    check_field_types(made.schema)
    return made


def _listed(spans: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"[{begin}, {'end' if end == END else end}]" for begin, end in spans)


def _names(head: str, spans: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    return unique_names([head[begin:end].strip() for begin, end in spans])


def _sample(path: str, header: bool, skip_rows: int, encoding: Encoding) -> tuple[str, list[pa.Array]]:
    """Return the header, and the lines of a sample behind it."""
    with open_file(path) as file:
        head, begins, _ = _head(file, header, skip_rows, encoding)
    return head, sampled_lines(path, begins, encoding)


def _head(file: MappedFile, header: bool, skip_rows: int, encoding: Encoding) -> tuple[str, int, int]:
    """Return the line that names the columns, and where the first record begins: in UTF-8, and in the file.

    Raises:
        SourceError: The lines before the records are too long, or no text.
    """
    first = first_text(file, _HEAD, encoding)
    start, whole = first.text, first.ended
    at = len(BOM) if start.startswith(BOM) else 0
    if not header and not skip_rows:
        return "", at, first.raw_offset(at)
    check_text(file.path, start)
    left, line = skip_rows, b""
    while left or (header and not line.strip()):
        end = start.find(b"\n", at)
        if end < 0 and not whole:
            raise SourceError(
                f"{file.path}: its header is longer than {_HEAD:,} bytes; set header=false or skip_rows",
                path=file.path,
            )
        line = start[at:] if end < 0 else start[at:end]
        at = len(start) if end < 0 else end + 1
        if left:
            left, line = left - 1, b""
        if end < 0:
            break
    return line.decode("utf-8").rstrip("\r") if header else "", at, first.raw_offset(at)

"""Text: one column `line`, a view into the mapping, without a copy; or with a pattern its fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmflow.errors import ConfigError
from mmflow.formats.base import BadRecordPolicy, Comparison, Scan, ScanRequest
from mmflow.formats.decoding.decoder import RecordDecoder
from mmflow.formats.decoding.reader import MAX_RECORD
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.formats.encodings.encoding import UTF8, Encoding, find_encoding
from mmflow.formats.encodings.files import file_encoding
from mmflow.formats.schemas.encodings import check_not_wide
from mmflow.formats.schemas.sampling import sample_file
from mmflow.formats.text.fields_format import FieldsFormat, open_fields
from mmflow.formats.text.kernel import text_decoder
from mmflow.formats.text.lines import TextDecoder
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.mapping.streams import stream_at
from mmflow.shards import Shard

__all__ = ["TextFormat", "open_text"]

_PROBED = 256

_SCHEMA = pa.schema([("line", pa.string_view())])


@dataclass(frozen=True, slots=True)
class TextFormat(ScannedFormat):
    """Format of text lines."""

    on_bad_record: BadRecordPolicy = "error"
    encoding: Encoding = UTF8
    name: str = "text"
    max_record: int = MAX_RECORD
    schema: pa.Schema = _SCHEMA

    def utf8_decoder(
        self, file: MappedFile, columns: tuple[str, ...], prune: Sequence[Comparison] = ()
    ) -> RecordDecoder:
        del file
        return text_decoder(TextDecoder(columns, self.on_bad_record), prune)

    def likeness(self, file: MappedFile) -> object:
        del file
        return () if self.encoding.kind == "utf-8" else None  # decoders of others have a state

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        if file.once and shard.begin == 0 and self.encoding.kind == "utf-8":
            # Planning can't look: a stream may stay silent for hours behind its first line.
            check_not_wide(file.path, file.window(0, min(_PROBED, shard.end)).buffer.to_pybytes())
        return ScannedFormat.scan(self, file, shard, request)

    def begins(self, file: MappedFile) -> int:
        return file_encoding(file, self.encoding).mark

    @property
    def line_is_record(self) -> bool:
        return self.encoding.ends_lines_alone

    def boundaries(self) -> tuple[object, ...]:
        return (self.name, self.encoding.name)

    def spec(self) -> dict[str, Any]:
        return {
            "format": "text",
            "on_bad_record": self.on_bad_record,
            "encoding": self.encoding.name,
            "max_record": self.max_record,
        }


def open_text(
    paths: Sequence[str], options: Mapping[str, Any], schema: pa.Schema | None
) -> TextFormat | FieldsFormat:
    """Bind options. Without a pattern, text has one column.

    Raises:
        ConfigError: A pattern that is none; or options of patterns without one.
        SourceError: The sampled file can't be read, is of another encoding, or no line of it is of the form.
    """
    pattern = options.get("pattern")
    if pattern is not None:
        return open_fields(paths, pattern, options, schema)
    if schema is not None:
        raise ConfigError("text without pattern= has one column, line; leave schema= out, or give a pattern")
    for option in ("null", "exact", "on_new_field", "validate"):
        if option in options:
            raise ConfigError(f"{option} is for text with pattern=; without it, the one column is line")
    encoding = find_encoding(options.get("encoding", "utf-8"))
    # A stream may stay silent for hours behind its first line.
    if paths and encoding.kind == "utf-8" and stream_at(paths[0]) is None:
        check_not_wide(paths[0], sample_file(paths[0], _PROBED).start)
    return TextFormat(
        options.get("on_bad_record", "error"), encoding, max_record=options.get("max_record", MAX_RECORD)
    )

"""JSON documents: a list of records, records one after the other (also in several lines), or records at a path.

    json_path     document                     records
    (none)        [{...}, {...}]               items of lists
    (none)        {...} {...}                  documents
    $.data[*]     {"meta": 1, "data": [...]}   items of the list `data`

A record is decoded by the decoder of NDJSON, once a walk over the document has found it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.base import Comparison, Scan, ScanRequest
from mmflow.formats.compression import file_compression, read_first_bytes
from mmflow.formats.decoding.decoder import RecordDecoder
from mmflow.formats.decoding.scan import StreamScan
from mmflow.formats.json.decoder import JsonDecoder
from mmflow.formats.json.path import Step, auto_steps, parse_path
from mmflow.formats.json.sampling import sample_records
from mmflow.formats.json.scan import DocumentScan, RecordFinder
from mmflow.formats.json.walk import START, Cursor, KernelWalker, record_cursor
from mmflow.formats.ndjson.format import LineFormat, bind_fields, infer_fields, parse_records
from mmflow.formats.schemas.encodings import BOM
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.remote.opening import open_file
from mmflow.remote.options import RemoteOptions
from mmflow.shards import FileEntry, Shard

__all__ = ["JsonFormat", "of_spec", "open_json"]

_PROBED = 1 << 12


@dataclass(frozen=True, slots=True)
class JsonFormat(LineFormat):
    """JSON documents with their options bound. See `formats.Format`.

    Attributes:
        json_path: Path of the records; empty: items of lists, or documents, as each file begins.
        mark: Bytes that records begin with, as text of Latin-1; empty: unknown.
    """

    json_path: str = ""
    mark: str = ""
    name: str = "json"
    skips_holes: bool = False

    @property
    def line_is_record(self) -> bool:
        return False

    @property
    def finds_records(self) -> bool:
        return bool(self.mark)

    def boundaries(self) -> tuple[object, ...]:
        return (self.name, self.json_path)

    def spec(self) -> dict[str, Any]:
        return {**LineFormat.spec(self), "json_path": self.json_path, "mark": self.mark}

    def utf8_decoder(
        self, file: MappedFile, columns: tuple[str, ...], prune: Sequence[Comparison] = ()
    ) -> RecordDecoder:
        return self._decoder(self._steps(file), columns, prune)

    def _decoder(
        self,
        steps: tuple[Step, ...],
        columns: tuple[str, ...],
        prune: Sequence[Comparison],
        cursor: Cursor | None = None,
    ) -> JsonDecoder:
        lines = self.line_decoder(columns, prune)
        return JsonDecoder(
            steps, KernelWalker(steps), lines, strict=self.on_bad_record == "error", cursor=cursor
        )

    def _steps(self, file: MappedFile) -> tuple[Step, ...]:
        if self.json_path:
            return parse_path(self.json_path)
        size = _PROBED
        start = read_first_bytes(file, size)
        while len(start) == size and not start.removeprefix(BOM).strip(b" \t\r\n"):
            size *= 16
            start = read_first_bytes(file, size)
        return auto_steps(start)

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        own = set(self.schema.names)
        columns = tuple(c for c in request.columns if c in own)
        steps, begins = self._steps(file), self.begins(file)
        if file_compression(file) is not None:
            decoder = self._decoder(steps, columns, request.prune, START)
            return StreamScan(file, shard, request, decoder, self.on_bad_record, begins)
        decoder = self._decoder(steps, columns, request.prune, record_cursor(len(steps)))
        finder = RecordFinder(file, steps, KernelWalker(steps), begins, min(request.window_bytes, 1 << 20))
        mark = self.mark.encode("latin-1")
        return DocumentScan(file, shard, request, decoder, self.on_bad_record, finder, mark)

    def locate(self, entry: FileEntry, shards: Iterator[Shard], remote: RemoteOptions) -> Iterator[Shard]:
        """Give shards their first records, in one pass over the file, where no mark finds these.

        The pass is as far as the shards that were taken, so that the first ones are read meanwhile.

        Raises:
            SourceError: The file can't be read.
            SourceChangedError: It is not the file that `entry` was made of.
        """
        first = next(shards, None)
        if first is None:
            return
        yield first
        second = next(shards, None)
        if second is None:
            return
        if self.mark:
            yield second
            yield from shards
            return
        with open_file(
            entry.path, expected=entry.identity, remote_options=replace(remote, storage=entry.storage)
        ) as file:
            steps = self._steps(file)
            finder = RecordFinder(file, steps, KernelWalker(steps), self.begins(file))
            for shard in itertools.chain((second,), shards):
                start = finder.find(shard.begin)
                # Behind what is broken nothing is known, and nothing is read.
                yield shard if finder.broken is not None else replace(shard, known_start=start)


def of_spec(spec: Mapping[str, Any]) -> JsonFormat:
    """Return the format of a `spec()`, without its name."""
    options = dict(spec)
    fields, validate = options.pop("schema"), options.pop("validate")
    return JsonFormat(fields, check_all=validate == "all", **options)


def open_json(paths: Sequence[str], options: Mapping[str, Any], schema: pa.Schema | None) -> JsonFormat:
    """Bind options; find the schema where it is not declared, and what records begin with.

    Raises:
        ConfigError: `json_path` is no path.
        SourceError: The sample has no records, is not JSON, or holds fields that no one type fits.
    """
    text = options.get("json_path", "")
    steps = parse_path(text) if text else None

    def records(path: str, piece: int) -> list[dict[str, Any]]:
        return parse_records(path, sample_records(path, steps, piece).records, "JSON")

    overrides = options.get("schema_overrides")
    bound = bind_fields(
        options, schema, "JSON", lambda asked: infer_fields(paths, asked, overrides, records, ("json", steps))
    )
    mark = b""
    with suppress(SourceError):  # of what can't be read the error comes in its place
        mark = sample_records(paths[0], steps).mark
    return JsonFormat(**bound, json_path=text, mark=mark.decode("latin-1"))

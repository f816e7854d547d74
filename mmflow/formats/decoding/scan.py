"""Scans of formats whose records are found by decoding, of plain and of compressed files.

A compressed file is one shard, decompressed as a stream through the same decoders, unless its contents can be read
from any place (`contents_entry`). Offsets then count decompressed bytes. A file of an encoding with a state is a
stream, too. Memory: a few texts (`decoding.ahead`), or one record that is longer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mmflow.formats.base import BadRecordPolicy, Comparison, Format, Scan, ScanRequest
from mmflow.formats.compression import Contents, file_compression, is_known_plain, open_decompressed
from mmflow.formats.decoding.decoder import RecordDecoder
from mmflow.formats.decoding.kernel_types import KernelDecoder
from mmflow.formats.decoding.lines import last_lines
from mmflow.formats.decoding.reader import RecordScan
from mmflow.formats.encodings.encoding import Encoding
from mmflow.formats.encodings.files import file_encoding
from mmflow.mapping import MappedFile, as_arrow_file
from mmflow.remote.opening import open_file
from mmflow.remote.options import RemoteOptions
from mmflow.shards import FileEntry, Shard
from mmflow.storage.url import is_url

if TYPE_CHECKING:
    from mmflow.formats.inflating import Text

__all__ = [
    "ScannedFormat",
    "contents_entry",
    "is_compressed_text",
    "is_splittable",
    "located_shards",
    "look_at_head",
]

#: Formats whose records are found from where a block begins.
_STREAMED = ("csv", "ndjson", "text", "fwf")
#: Bytes of compressed files that are too short to be worth several tasks.
_SMALL = 1 << 20

_PIECE = 4 << 20


class ScannedFormat(ABC):
    """Format whose records are found by decoding the bytes before them: csv, ndjson, text (`formats.Format`).

    Attributes:
        max_record: Bytes of the longest record.
    """

    name: str
    schema: pa.Schema
    on_bad_record: BadRecordPolicy
    max_record: int
    record_oriented = True
    one_nan = True
    splittable = True
    skips_holes = True
    encoding: Encoding

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        """Read the records that `shard` owns. Takes and raises what `Format.scan` does."""
        decoder = self.decoder_of(file, request)
        begins, encoding = self.begins(file), file_encoding(file, self.encoding).encoding
        whole = shard.begin == 0 and shard.end == file.size  # streams are never cut
        if whole and (encoding.stateful or file_compression(file) is not None):
            stream = StreamScan(
                file, shard, request, decoder, self.on_bad_record, begins, self.max_record, encoding=encoding
            )
            stream.footer_lines = self.footer_lines
            stream.returns = self.returns_end_lines(file)
            return stream
        made = RecordScan(
            file, shard, request, decoder, self.on_bad_record, begins, self.max_record, encoding=encoding
        )
        made.ends = self.ends(file)
        made.returns = self.returns_end_lines(file)
        return made

    def decoder_of(self, file: MappedFile, request: ScanRequest) -> RecordDecoder:
        """Return a decoder for a request, which a file of the same columns before this one may have had."""
        likeness = self.likeness(file)
        # Conditions of a request are the same for all of its files that are alike.
        key = None if likeness is None else (request.columns, likeness)
        known: RecordDecoder | None = None if key is None else request.decoders.get(key)
        if known is not None:
            return known
        own = tuple(c for c in request.columns if self.schema.get_field_index(c) >= 0)
        decoder = self.decoder(file, own, request.prune)
        if key is not None and isinstance(decoder, KernelDecoder):
            request.decoders[key] = decoder
        return decoder

    def likeness(self, file: MappedFile) -> object:
        """Return what a decoder depends on of a file: files for which it is equal share decoders. None: unknown."""
        del file
        return None

    def shared_head(self, file: MappedFile) -> bytes | None:
        """Return the bytes before the first record of a small file; a file that begins so, too, is decoded as it is.

        None where that depends on more of a file, or on what bad records are.
        """
        del file
        return None

    def decoder(
        self, file: MappedFile, columns: tuple[str, ...], prune: Sequence[Comparison] = ()
    ) -> RecordDecoder:
        """Return a decoder for columns of a file, without virtual ones; for one thread.

        Raises:
            SourceError: The file can't be read, lacks a column, or is of another encoding.
        """
        made = self.utf8_decoder(file, columns, prune)
        encoding = file_encoding(file, self.encoding).encoding
        from mmflow.formats.encodings.decoder import TranslatingDecoder  # noqa: PLC0415  (slow)

        return made if encoding.kind == "utf-8" else TranslatingDecoder(made, encoding, self.on_bad_record)

    @abstractmethod
    def utf8_decoder(
        self, file: MappedFile, columns: tuple[str, ...], prune: Sequence[Comparison] = ()
    ) -> RecordDecoder:
        """Return a decoder for columns of a file, from its text in UTF-8; as `decoder`."""

    @abstractmethod
    def begins(self, file: MappedFile) -> int:
        """Return the offset of the first byte behind the file's header."""

    def ends(self, file: MappedFile) -> int:
        """Return the offset behind the last record of an uncompressed file: its size, or where its footer begins."""
        return file.size

    def returns_end_lines(self, file: MappedFile) -> bool:
        """Return whether carriage returns without a line feed end lines of a file."""
        del file
        return False

    @property
    def footer_lines(self) -> int:
        """Number of physical lines at the end of a file that are no records."""
        return 0

    @property
    def line_is_record(self) -> bool:
        """True if every line break ends a record, so that a record boundary can be found from anywhere."""
        return True

    def boundaries(self) -> tuple[object, ...]:
        """Return the options that decide where records begin, without the policy for bad ones."""
        return (self.name,)

    @property
    def finds_records(self) -> bool:
        """True if a record boundary can be looked for in any part of a file, though perhaps a wrong one is found."""
        return True

    def locate(self, entry: FileEntry, shards: Iterator[Shard], remote: RemoteOptions) -> Iterator[Shard]:
        """Give shards of a file their first records, if these can't be looked for in the shards themselves."""
        del entry, remote
        return shards

    def check(self, file: MappedFile) -> None:
        """Accept any file: its columns are not in one place, or always the same."""
        del file

    def lacks(self, file: MappedFile) -> frozenset[str]:
        """Return no columns: a record that lacks one says so itself."""
        del file
        return frozenset()

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Return the format as plain data (`Format.spec`)."""


def is_splittable(form: Format, entry: FileEntry, shard_size: int, remote_options: RemoteOptions) -> bool:
    """Return whether a file may be several shards.

    Only one that would be several is looked at, so that small files cost nothing here.

    Args:
        form: Its format.
        entry: The file.
        shard_size: Size of a shard, in bytes.
        remote_options: Options of remote files; `entry` has their storage options.

    Raises:
        SourceError: It can't be looked at.
        SourceChangedError: It is not the file that `entry` was made of.
    """
    if isinstance(form, ScannedFormat) and form.encoding.stateful:
        return False
    if not isinstance(form, ScannedFormat) or entry.identity.size <= shard_size:
        return form.splittable
    with open_file(
        entry.path, expected=entry.identity, remote_options=replace(remote_options, storage=entry.storage)
    ) as file:
        return file_compression(file) is None


def contents_entry(
    form: Format, entry: FileEntry, cache: RemoteOptions, least: int = 0, *, here: bool = True
) -> FileEntry:
    """Return a compressed file that can be read from any place as its contents, any other as it is.

    Args:
        form: Its format.
        entry: The file.
        cache: Settings of the cache, which may have its checkpoints.
        least: Bytes of a file that is not looked at.
        here: Whether this process reads it, soon; else checkpoints that are known here are of no use.

    Raises:
        SourceError: It can't be looked at.
        SourceChangedError: It is not the file that `entry` was made of.
    """
    identity = entry.identity
    if (
        not (isinstance(form, ScannedFormat) and form.splittable)
        or form.encoding.stateful
        or identity.size <= least
        or identity.tag  # a member of an archive, or a stream
        or is_url(entry.path)
        or is_known_plain(entry.path, identity)
    ):
        return entry
    with MappedFile.open(entry.path, expected=identity) as file:
        if file_compression(file) is None:
            return entry
    from mmflow.mapping.sections import find_sections  # noqa: PLC0415  (most files are plain)

    found = find_sections(entry.path, identity)
    if found is None and here:
        from mmflow.formats.checkpoints import known_checkpoints  # noqa: PLC0415  (most files are plain)

        found = known_checkpoints(entry.path, identity, cache)
    return entry if found is None else replace(entry, identity=identity.of_contents(found.size))


def is_compressed_text(form: Format, entry: FileEntry) -> bool:
    """Return whether a local file is compressed text whose records all workers may decode, as of a stream.

    Not where its end is no record, nor where a line break is no single byte.

    Raises:
        SourceError: It can't be looked at.
        SourceChangedError: It is not the file that `entry` was made of.
    """
    if (
        not isinstance(form, ScannedFormat)
        or form.name not in _STREAMED
        or form.footer_lines
        or form.encoding.kind != "utf-8"
        or entry.identity.size < _SMALL
        or is_url(entry.path)
        or entry.identity.is_contents
    ):
        return False
    with open_file(entry.path, expected=entry.identity) as file:
        return type(file) is MappedFile and file_compression(file) is not None


def look_at_head(form: Format, file: MappedFile) -> None:
    """Look at all that scans look at before the records: a stream keeps it.

    Raises:
        SourceError: It can't be read.
    """
    assert isinstance(form, ScannedFormat)
    file_encoding(file, form.encoding)
    form.begins(file)
    form.lacks(file)
    form.likeness(file)
    form.returns_end_lines(file)


def located_shards(
    form: Format, entry: FileEntry, shards: Iterator[Shard], remote_options: RemoteOptions
) -> Iterator[Shard]:
    """Return the shards of a file, with their first records where only a pass over the file finds these."""
    return form.locate(entry, shards, remote_options) if isinstance(form, ScannedFormat) else shards


@contextmanager
def _open_contents(file: MappedFile) -> Iterator[Contents]:
    """Open a file's contents as a stream, decompressed where they are compressed."""
    if file_compression(file) is None:
        yield as_arrow_file(file, ahead=file.size)
        return
    with open_decompressed(file, file.size) as stream:
        yield stream


class StreamScan(RecordScan):
    """Scan of a whole file that is compressed, or whose encoding has a state. Its one shard is all of the file.

    Attributes:
        footer_lines: Last lines, which are held back until the end is known.
    """

    footer_lines = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        from mmflow.formats.decoding.ahead import read_ahead  # noqa: PLC0415  (most files are plain)

        # The chain counts bytes of the file itself, of which this shard has all; nobody can go on in their middle.
        self.report.next = self._file.size
        with _open_contents(self._file) as contents:
            texts = read_ahead(contents, self._request.window_bytes)
            try:
                yield from self._batches(texts)
            finally:
                texts.close()

    def _batches(self, texts: Iterator[Text]) -> Iterator[pa.RecordBatch]:
        """Decode texts, and keep of each one what the next one completes."""
        report = self.report
        held = self._behind_head(texts)
        base, final = self._begins, False
        tried = 0  # bytes that did not hold the record at `base`
        while not final:
            more = self._more(texts, held, tried)
            final = more is None
            held = held if more is None else more
            size = self._without_footer(held)
            if not size and not final:  # at the end, a decoder may miss what has not come
                continue
            done = 0
            while True:
                piece = held.slice(done, size - done)
                end = self._rows.end
                if end is not None and (taken := self._rows.aggregate(end, piece, size - done, final=final)):
                    batch, consumed = end.empty, taken
                else:
                    # A decoder may end before its piece does: at what the kernel leaves to the reference.
                    batch, consumed = self._rows.decode(piece, base + done, size - done, final=final)
                done += consumed
                if batch is not None:
                    yield batch
                if report.error is not None:
                    return
                if not consumed or done == size:
                    break
            if not done and held.size >= self._max_record + _PIECE and not final:
                self._rows.too_long(held, base, self._max_record)
                return
            base, tried = base + done, 0 if done else held.size
            held = held.slice(done)
        report.bytes_read = self._file.size

    def _more(self, texts: Iterator[Text], held: pa.Buffer, tried: int) -> pa.Buffer | None:
        """Return `held` and the text behind it, and as much more as was tried in vain; None at the end."""
        text = next(texts, None)
        if text is None or not tried:
            return None if text is None else text.behind(held)
        # A long record is not copied for each text.
        parts, length = [held, text.buffer], text.size
        enough = min(tried, self._max_record + _PIECE - tried)
        while length < enough and (text := next(texts, None)) is not None:
            parts.append(text.buffer)
            length += text.size
        return pa.py_buffer(b"".join(map(memoryview, parts)))

    def _behind_head(self, texts: Iterator[Text]) -> pa.Buffer:
        """Return what follows the header in the texts that hold it, whose lines are counted."""
        held = pa.py_buffer(b"")
        while held.size < self._begins and (text := next(texts, None)) is not None:
            held = text.behind(held)
        head = held.slice(0, min(self._begins, held.size))
        self.report.lines += len(self._line_ends(np.frombuffer(head, np.uint8)))
        from mmflow.formats.encodings.decoder import TranslatingDecoder  # noqa: PLC0415  (slow)

        if isinstance(self._rows.decoder, TranslatingDecoder):
            self._rows.decoder.begin_behind(head.to_pybytes())
        return held.slice(head.size)

    def _without_footer(self, text: pa.Buffer) -> int:
        """Return how many bytes certainly precede the footer."""
        if not self.footer_lines:
            return int(text.size)
        return last_lines(text.to_pybytes(), self.footer_lines, self._encoding, returns=self.returns) or 0

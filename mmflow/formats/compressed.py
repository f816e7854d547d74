"""Compressed text: one shard per file, decompressed as a stream through the same decoders.

Offsets count decompressed bytes. Memory: one piece, or one record where that is longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.base import BadRecordPolicy, ScanReport, ScanRequest
from mmflow.formats.decoder import RecordDecoder
from mmflow.formats.reader import MAX_RECORD, RowMaker
from mmflow.mapping import MappedFile, as_arrow_file
from mmflow.remote.opening import open_file
from mmflow.remote.url import file_name
from mmflow.shards import Shard

__all__ = ["COMPRESSIONS", "CompressedScan", "compression_of", "decompressed", "decompressing", "first_bytes"]

#: Suffix to pyarrow's name of the codec.
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_PIECE = 4 << 20


def compression_of(path: str) -> str | None:
    """The suffix that says a file is compressed, None if none does."""
    return next((suffix for suffix in COMPRESSIONS if file_name(path).endswith(suffix)), None)


@contextmanager
def decompressing(file: MappedFile, ahead: int = 0) -> Iterator[pa.NativeFile]:
    """An open compressed file as a stream of its contents; a remote one is read ahead up to byte `ahead`.

    Raises:
        SourceError: It is not what its suffix says.
    """
    suffix = compression_of(file.path)
    assert suffix is not None
    try:
        with pa.CompressedInputStream(as_arrow_file(file, ahead=ahead), COMPRESSIONS[suffix]) as stream:
            yield stream
    except (pa.ArrowInvalid, EOFError) as error:
        raise _damaged(file.path, error) from error
    except OSError as error:
        raise _damaged(file.path, error) from error


@contextmanager
def decompressed(path: str) -> Iterator[pa.NativeFile]:
    """A compressed file as a stream of its contents.

    Raises:
        SourceError: It can't be read, or is not what its suffix says.
    """
    with open_file(path) as file, decompressing(file) as stream:
        yield stream


def first_bytes(file: MappedFile, size: int) -> bytes:
    """Return the first bytes of a file's contents, decompressed where it is compressed.

    Raises:
        SourceError: It is compressed and damaged.
    """
    if compression_of(file.path):
        with decompressing(file) as stream:
            return bytes(stream.read(size))
    return bytes(file.window(0, size).buffer.to_pybytes())


def _damaged(path: str, error: BaseException) -> SourceError:
    return SourceError(
        f"can't decompress {path}: {error}; the file is damaged, cut short, or not what its suffix says",
        path=path,
    )


class CompressedScan:
    """The scan of a whole compressed file. See `formats.Scan`.

    Args:
        file: Open.
        shard: All of it.
        request: Columns and limits.
        decoder: As for `RecordScan`.
        policy: For bad records.
        header_end: Finds the end of the header in the file's first bytes.
    """

    def __init__(
        self,
        file: MappedFile,
        shard: Shard,
        request: ScanRequest,
        decoder: RecordDecoder,
        policy: BadRecordPolicy,
        begins: int,
        max_record: int = MAX_RECORD,
    ) -> None:
        self._file = file
        self._shard = shard
        self._rows = RowMaker(file.path, request, decoder, policy)
        self._begins = begins
        self._max_record = max_record

    @property
    def report(self) -> ScanReport:
        return self._rows.report

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        report = self.report
        with decompressing(self._file, self._file.size) as stream:
            head = stream.read(self._begins)
            report.lines += head.count(b"\n")
            base, held, final = self._begins, b"", False
            while not final:
                more = stream.read(max(_PIECE, len(held)))
                final = not more
                held += more
                if len(held) > self._max_record + _PIECE:
                    self._rows.too_long(pa.py_buffer(held), base, self._max_record)
                    return
                batch, consumed = self._rows.decode(pa.py_buffer(held), base, len(held), final=final)
                if batch is not None:
                    yield batch
                if report.error is not None:
                    return
                base += consumed
                held = held[consumed:]
            report.bytes_read = self._file.size
            # The chain counts bytes of the file itself, of which this shard has all.
            report.next = self._file.size

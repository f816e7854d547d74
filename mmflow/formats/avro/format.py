"""Avro object container files, decoded by fastavro.

Blocks of a file end with its marker, 16 random bytes. So a shard finds its first block by looking for the marker: a
block belongs to the shard that holds its first byte.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, cast

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.avro.types import Converter, arrow_column
from mmflow.formats.library_format import LibraryFormat, TableReader, missing_library
from mmflow.formats.row_groups import group_source, make_batch
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile, as_arrow_file
from mmflow.shards import Shard

__all__ = ["AvroFormat", "open_avro"]

_KIND = "Avro"
_MAGIC = b"Obj\x01"
_MARKER_BYTES = 16
_LOOKED_AT = 1 << 20
_BATCH_ROWS = 16 << 10
#: Rows of a block, at most, in a row's number.
_ROW_BITS = 22


@dataclass(frozen=True, slots=True)
class AvroFormat(LibraryFormat):
    """Avro files of one schema."""

    name: str = "avro"
    kind: ClassVar[str] = _KIND

    def open_reader(self, file: MappedFile) -> TableReader:
        return _AvroReader(file)


def open_avro(
    paths: Sequence[str], options: Mapping[str, Any] = MappingProxyType({}), schema: Any = None
) -> AvroFormat:
    """Open Avro files as one source.

    Args:
        paths: Paths in reading order. The schema is that of the first; columns of others are found by name.
        options: `columns`: how those of the files may differ.
        schema: Declared columns, by name; types may be wider than the files'.

    Raises:
        SourceError: Missing, empty, damaged, not Avro, of no record, or of types that Arrow lacks.
        ConfigError: `schema` is no schema, or fastavro is not installed.
    """
    found, columns = group_source(paths, _KIND, schema, lambda file: _AvroReader(file).schema, options)
    return AvroFormat(found, columns=columns)


class _AvroReader:
    def __init__(self, file: MappedFile) -> None:
        try:
            import fastavro  # noqa: PLC0415  (an extra)
        except ImportError:
            raise missing_library(file.path, "an Avro file", "fastavro", "avro") from None
        self._file, self._open = file, fastavro.block_reader
        if file.window(0, len(_MAGIC)).buffer.to_pybytes() != _MAGIC:
            raise SourceError(f"can't read {file.path}: it is no Avro file", path=file.path)
        named: dict[str, Any] = {}
        with self._translated():
            source = as_arrow_file(file)
            reader = fastavro.block_reader(source)
            self._begins = int(source.tell())
            self._marker = bytes(reader._header["sync"])
            written = fastavro.parse_schema(reader.writer_schema, named_schemas=named)
        if not isinstance(written, dict) or written.get("type") not in ("record", "error"):
            raise SourceError(
                f"can't read {file.path}: its values are no records, so they have no columns", path=file.path
            )
        made = {f["name"]: arrow_column(f["type"], named, file.path, f["name"]) for f in written["fields"]}
        self.schema = pa.schema([(name, kind) for name, (kind, _) in made.items()])
        self._converters: dict[str, Converter] = {name: convert for name, (_, convert) in made.items()}

    def owned(self, shard: Shard) -> tuple[int, int]:
        """Return where the shard's first block begins, and the next shard's, in bytes from the first block's begin."""
        return self._block(shard.begin) - self._begins, self._block(shard.end) - self._begins

    def _block(self, offset: int) -> int:
        """Return where the first block from `offset` on begins; without one, the file's size."""
        size = int(self._file.size)
        if offset <= self._begins:
            return self._begins
        at = max(self._begins, offset) - _MARKER_BYTES
        while at < size:
            looked = self._file.window(at, min(_LOOKED_AT, size - at)).buffer.to_pybytes()
            found = looked.find(self._marker)
            if found >= 0:
                return at + int(found) + _MARKER_BYTES
            at += max(1, len(looked) - _MARKER_BYTES + 1)
        return size

    def read(
        self, first: int, behind: int, columns: Sequence[int]
    ) -> Iterator[tuple[int, pa.RecordBatch, int]]:
        if first >= behind:
            return
        names = [self.schema.names[n] for n in columns]
        with self._translated():
            # fastavro wants the header before the blocks.
            begins = self._begins
            source = io.BufferedReader(_Spliced(self._file, begins, begins + first, begins + behind))
            for block in self._open(source):
                offset, nbytes = first + int(block.offset) - begins, int(block.size)
                records = iter(block)
                for start in itertools.count(0, _BATCH_ROWS):
                    some = cast("list[dict[str, Any]]", list(itertools.islice(records, _BATCH_ROWS)))
                    if not some:
                        break
                    arrays = [self._array(name, some) for name in names]
                    yield (offset << _ROW_BITS) + start, make_batch(arrays, names, len(some)), nbytes
                    nbytes = 0

    def _array(self, name: str, records: Sequence[Mapping[str, Any]]) -> pa.Array:
        convert = self._converters[name]
        values = [record[name] for record in records]
        if convert is not None:
            values = [None if value is None else convert(value) for value in values]
        return pa.array(values, self.schema.field(name).type)

    def _translated(self) -> Any:
        return _Translated(self._file.path)


class _Translated:
    """Context that turns errors of fastavro over damaged bytes into a SourceError."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, SourceError | GeneratorExit) or not isinstance(error, Exception):
            return
        # Of many kinds: struct.error, zlib.error, KeyError, EOFError, SchemaParseException ...
        missing = "is not installed" in str(error) or "need to install" in str(error)
        advice = "install that" if missing else "it is damaged, or no Avro file: restore it or write it again"
        raise SourceError(
            f"can't read {self._path}: {type(error).__name__}: {error}; {advice}", path=self._path
        ) from error


class _Spliced(io.RawIOBase):
    """Bytes `[0, header)` of a file, and then bytes `[first, behind)`."""

    def __init__(self, file: MappedFile, header: int, first: int, behind: int) -> None:
        self._parts = [(0, header), (first, behind)]
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Return the position: fastavro asks for it, and moves nowhere else."""
        if (offset, whence) != (0, io.SEEK_CUR):
            raise io.UnsupportedOperation
        return self._at

    def readinto(self, into: Any) -> int:
        while self._parts:
            begin, end = self._parts[0]
            if begin < end:
                data = self._file.window(begin, min(end - begin, len(into))).buffer
                count = int(min(data.size, len(into), end - begin))
                into[:count] = memoryview(data).cast("B")[:count]
                self._parts[0] = begin + count, end
                self._at += count
                return count
            del self._parts[0]
        return 0

"""Parquet, row group by row group, by pyarrow.

A row group begins at the first page of its column chunks, and belongs to the shard that holds that byte.
Only the wanted columns are read; row groups that can't hold a wanted row, by their statistics, are not read
at all. Timestamps of the old INT96 kind are read as microseconds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmflow.errors import SourceError
from mmflow.formats.base import Scan, ScanReport, ScanRequest
from mmflow.formats.groups import (
    batch_of,
    check_columns,
    declared_schema,
    first_file,
    fit,
    group_row,
    group_schema,
    owned,
    reading,
    sliced,
)
from mmflow.formats.prune import bounds_of, may_match
from mmflow.mapping import FileIdentity, MappedFile, as_arrow_file
from mmflow.remote.opening import open_file
from mmflow.shards import Shard

__all__ = [
    "Footer",
    "ParquetFormat",
    "column_number",
    "footer_of",
    "from_spec",
    "open_parquet",
    "open_parquet_file",
]

_KIND = "Parquet"
_FOOTERS = 16


@dataclass(frozen=True, slots=True)
class ParquetFormat:
    """Parquet files of one schema. See `formats.Format`.

    Attributes:
        schema: All columns.
        origin: File that the schema is of; empty: it was declared.
    """

    schema: pa.Schema
    origin: str = field(default="", compare=False)
    name: str = "parquet"
    record_oriented: bool = False
    one_nan: bool = False
    splittable: bool = True
    skips_holes: bool = False

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        """Read the row groups that `shard` owns. See `Format.scan`."""
        return _ParquetScan(self, file, shard, request)

    def check(self, file: MappedFile) -> None:
        """See `Format.check`."""
        check_columns(file.path, footer_of(file).schema.names, self.schema.names, self.origin)

    def spec(self) -> dict[str, Any]:
        """See `Format.spec`."""
        return {"format": "parquet", "schema": self.schema}


def from_spec(spec: Mapping[str, Any]) -> ParquetFormat:
    """The format that gave a `spec()`."""
    return ParquetFormat(spec["schema"])


def open_parquet(
    paths: Sequence[str], options: Mapping[str, Any] = MappingProxyType({}), schema: Any = None
) -> ParquetFormat:
    """Parquet files as one source.

    Args:
        paths: In reading order. The first one's schema is taken; columns of others are found by name.
        options: None are known.
        schema: Declared columns, by name; types may be wider than the files'.

    Raises:
        SourceError: Missing, empty, damaged, not Parquet, or with columns that can't be computed with.
        ConfigError: `schema` is no schema.
    """
    del options
    path = first_file(paths, _KIND)
    if schema is not None:
        return ParquetFormat(declared_schema(schema))
    with open_file(path) as file:
        found = footer_of(file).schema
    return ParquetFormat(group_schema(found, path), path)


# ---- footers ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Footer:
    """Metadata of a file: `starts` of its row groups, `leaves[i]` the Parquet columns of Arrow column i."""

    metadata: Any
    schema: pa.Schema
    starts: tuple[int, ...]
    leaves: tuple[range, ...]


# Every shard of a file needs its footer, which may have megabytes: the last few are kept.
_cache: OrderedDict[tuple[str, FileIdentity], Footer] = OrderedDict()
_lock = threading.Lock()


def footer_of(file: MappedFile) -> Footer:
    """The footer of an open file; the last few are kept."""
    key = (file.path, file.identity)
    with _lock:
        found = _cache.get(key)
        if found is not None:
            _cache.move_to_end(key)
            return found
    with reading(file.path, _KIND):
        made = _read_footer(file)
    with _lock:
        _cache[key] = made
        while len(_cache) > _FOOTERS:
            _cache.popitem(last=False)
    return made


def _read_footer(file: MappedFile) -> Footer:
    reader = open_parquet_file(file, None)
    metadata, schema = reader.metadata, reader.schema_arrow
    begins = (_group_start(metadata.row_group(i)) for i in range(metadata.num_row_groups))
    # Ascending, and inside the file, whatever a writer claims: ownership depends on it.
    starts = tuple(accumulate((min(b, file.size - 1) for b in begins), max))
    counts = [_leaves(field.type) for field in schema]
    ends = list(accumulate(counts))
    if (ends[-1] if ends else 0) != metadata.num_columns:
        raise SourceError(
            f"can't read {file.path}: its {metadata.num_columns} column chunks don't match its columns "
            f"{schema.names}; write it again with another program",
            path=file.path,
        )
    leaves = tuple(range(end - count, end) for end, count in zip(ends, counts, strict=True))
    return Footer(metadata, schema, starts, leaves)


def open_parquet_file(file: MappedFile, metadata: Any) -> Any:
    """pyarrow's reader of a file, by what its footer says."""
    return pq.ParquetFile(
        as_arrow_file(file),
        metadata=metadata,
        pre_buffer=False,  # windows are the buffers
        page_checksum_verification=True,
        coerce_int96_timestamp_unit="us",  # ns would overflow silently beyond the year 2262
        arrow_extensions_enabled=False,
    )


def _group_start(group: Any) -> int:
    starts = []
    for i in range(group.num_columns):
        chunk = group.column(i)
        # Some writers say 0 for "no dictionary page"; byte 0 is the magic number.
        offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
        starts.append(min((o for o in offsets if o), default=0))
    return min(starts, default=0)


def _leaves(kind: pa.DataType) -> int:
    """Parquet columns of an Arrow type."""
    if pa.types.is_nested(kind) and not pa.types.is_dictionary(kind):
        return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields))
    return 1


# ---- scans --------------------------------------------------------------------------------------


class _ParquetScan:
    """The row groups of one shard."""

    def __init__(self, form: ParquetFormat, file: MappedFile, shard: Shard, request: ScanRequest) -> None:
        self._form, self._file, self._shard, self._request = form, file, shard, request
        self.report = ScanReport()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        file, report = self._file, self.report
        footer = footer_of(file)
        self._form.check(file)
        report.first, report.next = owned(footer.starts, self._shard, file.size)
        numbers = [column_number(file.path, footer, name) for name in self._request.columns]
        leaves = [leaf for n in sorted(numbers) for leaf in footer.leaves[n]]
        groups = []
        for number in range(report.first, report.next):
            group = footer.metadata.row_group(number)
            report.records += group.num_rows
            if self._wanted(footer, group):
                groups.append(number)
            else:
                report.pruned += 1
        reader = open_parquet_file(file, footer.metadata).reader if groups and leaves else None
        for place, number in enumerate(groups):
            rows = footer.metadata.row_group(number).num_rows
            if reader is None:
                yield from sliced(batch_of([], [], rows), self._request.batch_rows, report, group_row(number))
                continue
            parts = self._parts(footer, number, leaves)
            file.prepare(parts)
            group = footer.metadata.row_group(number)
            report.bytes_read += sum(group.column(leaf).total_compressed_size for leaf in leaves)
            if place + 1 < len(groups):
                file.prefetch_parts(self._parts(footer, groups[place + 1], leaves))
            yield from self._group(reader, number, leaves, rows)
            begin = min(offset for offset, _ in parts)
            file.drop_behind(begin, max(offset + length for offset, length in parts) - begin)

    def _group(self, reader: Any, number: int, leaves: list[int], rows: int) -> Iterator[pa.RecordBatch]:
        path, schema = self._file.path, self._form.schema
        seen = 0
        with reading(path, _KIND):
            for batch in reader.iter_batches(
                self._request.batch_rows, row_groups=[number], column_indices=leaves, use_threads=False
            ):
                batch.validate(full=True)  # text must be UTF-8: what computes with it trusts that
                columns = {
                    name: fit(batch.column(name), schema.field(name).type, path, name)
                    for name in batch.schema.names
                }
                self.report.row = group_row(number, seen)
                seen += batch.num_rows
                names = self._request.columns
                yield batch_of([columns[name] for name in names], names, batch.num_rows)
        if seen != rows:
            raise SourceError(
                f"can't read {path}: row group {number:,} should have {rows:,} rows, and has {seen:,}; "
                "the file is damaged, restore it or write it again",
                path=path,
            )

    def _parts(self, footer: Footer, number: int, leaves: list[int]) -> list[tuple[int, int]]:
        """Where in the file the wanted columns of a row group lie: offsets, lengths."""
        group = footer.metadata.row_group(number)
        chunks = [group.column(leaf) for leaf in leaves]
        return [(c.dictionary_page_offset or c.data_page_offset, c.total_compressed_size) for c in chunks]

    def _wanted(self, footer: Footer, group: Any) -> bool:
        """May the row group hold a row that satisfies all conjuncts?"""
        for comparison in self._request.prune:
            name = comparison.column
            if footer.schema.names.count(name) == 1:
                number = footer.schema.names.index(name)
                kind = footer.schema.field(number).type
                if pa.types.is_nested(kind):
                    continue
                bounds = bounds_of(group.column(footer.leaves[number][0]), kind, group.num_rows)
            else:
                continue
            if not may_match(comparison, bounds):
                return False
        return True


def column_number(path: str, footer: Footer, name: str) -> int:
    """The Arrow column of a name.

    Raises:
        SourceError: The file has none, or several.
    """
    count = footer.schema.names.count(name)
    if count == 1:
        return int(footer.schema.names.index(name))
    has = "several columns" if count else "no column"
    raise SourceError(
        f"{path}: has {has} {name!r}, which the source's schema names; "
        f"its columns are {', '.join(footer.schema.names)}",
        path=path,
        column=name,
    )

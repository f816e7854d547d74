"""Parquet, row group by row group, by pyarrow.

A row group begins at the first page of its column chunks, and belongs to the shard that holds that byte.
Only the wanted columns are read; row groups that can't hold a wanted row, by their statistics, are not read
at all. Timestamps of the old INT96 kind are microseconds,
or nanoseconds where the schema says so: exact, or an error (`int96.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmflow.errors import SourceError
from mmflow.formats.base import Scan, ScanReport, ScanRequest
from mmflow.formats.last_results import LastResults
from mmflow.formats.parquet.footer import FileLayout, FooterError, Group, read_layout
from mmflow.formats.parquet.int96 import Int96Error, RowReader, join_int96
from mmflow.formats.parquet.statistics import bounds_of, may_match
from mmflow.formats.row_groups import (
    GroupFormat,
    check_names,
    check_values,
    group_row,
    group_source,
    make_batch,
    owned_groups,
    slice_batch,
    translate_read_errors,
)
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import FileIdentity, MappedFile, as_arrow_file
from mmflow.shards import Shard

__all__ = [
    "Footer",
    "GroupReader",
    "ParquetFormat",
    "column_number",
    "open_parquet",
    "open_parquet_file",
    "read_footer",
    "wanted_ranges",
]

_KIND = "Parquet"
_FOOTERS = 16


@dataclass(frozen=True, slots=True)
class ParquetFormat(GroupFormat):
    """Parquet files of one schema."""

    name: str = "parquet"

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        """Read the row groups that `shard` owns. Takes and raises what `Format.scan` does."""
        return _ParquetScan(self, file, shard, request)

    def check(self, file: MappedFile) -> None:
        self.columns.check(file.path, read_footer(file).schema.names, self.schema.names)

    def lacks(self, file: MappedFile) -> frozenset[str]:
        return self.columns.lacking(read_footer(file).schema.names, self.schema.names)


def open_parquet(
    paths: Sequence[str], options: Mapping[str, Any] = MappingProxyType({}), schema: Any = None
) -> ParquetFormat:
    """Open Parquet files as one source.

    Args:
        paths: Paths in reading order. The schema is that of the first; columns of others are found by name.
        options: `columns`: how those of the files may differ.
        schema: Declared columns, by name; types may be wider than the files'.

    Raises:
        SourceError: Missing, empty, damaged, not Parquet, or with columns that can't be computed with.
        ConfigError: `schema` is no schema.
    """
    found, columns = group_source(paths, _KIND, schema, lambda file: read_footer(file).schema, options)
    return ParquetFormat(found, columns=columns)


# ---- footers ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Footer:
    """Metadata of a file: `starts` of its row groups, `leaves[i]` the Parquet columns of Arrow column i.

    pyarrow's `metadata` is for its own reader: looking at row groups or statistics by it can end the process
    (`parquet_footer.py`).
    """

    metadata: Any
    layout: FileLayout
    schema: pa.Schema
    starts: tuple[int, ...]
    leaves: tuple[range, ...]


# Every shard of a file needs its footer, which may have megabytes: the last few are kept.
_footers: LastResults[tuple[str, FileIdentity], Footer] = LastResults(_FOOTERS)


def read_footer(file: MappedFile) -> Footer:
    """Return the footer of an open file; the last few are kept."""

    def read() -> Footer:
        with translate_read_errors(file.path, _KIND):
            return _read_footer(file)

    return _footers.get((file.path, file.identity), read)


def _read_footer(file: MappedFile) -> Footer:
    layout = _read_layout(file)
    reader = open_parquet_file(file, None)
    metadata, schema = reader.metadata, reader.schema_arrow
    check_names(schema)
    widths = {len(group.chunks) for group in layout.groups}
    if metadata.num_row_groups != len(layout.groups) or widths - {metadata.num_columns}:
        raise pa.ArrowInvalid("a row group has not as many column chunks as the schema has columns")
    begins = (min((c.begin for c in group.chunks if c.begin > 0), default=0) for group in layout.groups)
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
    return Footer(metadata, layout, schema, starts, leaves)


def _read_layout(file: MappedFile) -> FileLayout:
    """Read the footer. Raises pa.ArrowInvalid where it is damaged."""
    end = file.window(max(0, file.size - 8), min(8, file.size)).buffer.to_pybytes()
    if end.endswith(b"PARE"):
        raise SourceError(
            f"can't read {file.path}: its footer is encrypted, and mmflow has no keys; decrypt it first",
            path=file.path,
        )
    size = int.from_bytes(end[:4], "little")
    if not end.endswith(b"PAR1") or not 0 < size <= file.size - 12:
        raise pa.ArrowInvalid("it does not end in a footer")
    try:
        return read_layout(file.window(file.size - 8 - size, size).buffer.to_pybytes())
    except FooterError as error:
        raise pa.ArrowInvalid(f"its footer is damaged: {error}") from error


def open_parquet_file(file: MappedFile, metadata: Any, int96: str = "us") -> Any:
    """Open pyarrow's reader of a file with its footer; timestamps of the INT96 kind are in the unit `int96`."""
    return pq.ParquetFile(
        as_arrow_file(file),
        metadata=metadata,
        pre_buffer=False,  # windows are the buffers
        page_checksum_verification=True,
        coerce_int96_timestamp_unit=int96,
        arrow_extensions_enabled=False,
    )


class GroupReader:
    """Reads columns of row groups; INT96 without loss.

    Args:
        file: The file.
        footer: Its footer.
        leaves: Parquet columns to read, ascending.
        schema: Schema of the source, which has the units of INT96.
    """

    def __init__(self, file: MappedFile, footer: Footer, leaves: Sequence[int], schema: pa.Schema) -> None:
        self._path, self._leaves, self._schema = file.path, list(leaves), schema
        described = footer.metadata.schema
        old = {leaf for leaf in leaves if described.column(leaf).physical_type == "INT96"}
        columns = [r for r in footer.leaves if not old.isdisjoint(r)]
        self._old = [leaf for r in columns for leaf in r if leaf in self._leaves]
        self._reader = open_parquet_file(file, footer.metadata, "ns" if old else "us").reader
        self._seconds = open_parquet_file(file, footer.metadata, "s").reader if old else None

    def batches(self, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a row group, at most `rows` at once.

        Raises:
            pa.ArrowInvalid: It is damaged.
            SourceError: A timestamp does not fit its unit.
        """
        batches = self._reader.iter_batches(
            rows, row_groups=[group], column_indices=self._leaves, use_threads=False
        )
        if self._seconds is None:
            yield from batches
            return
        others = RowReader(
            self._seconds.iter_batches(rows, row_groups=[group], column_indices=self._old, use_threads=False)
        )
        for batch in batches:
            seconds = others.take(batch.num_rows)
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            for name, column in zip(seconds.schema.names, seconds.columns, strict=True):
                try:
                    columns[name] = join_int96(columns[name], column, self._schema.field(name).type)
                except Int96Error as error:
                    raise SourceError(
                        f"can't read {self._path}: column {name!r}: an INT96 timestamp {error}",
                        path=self._path,
                        column=name,
                    ) from error
            yield make_batch(list(columns.values()), list(columns), batch.num_rows)


def _leaves(kind: pa.DataType) -> int:
    """Return the Parquet columns of an Arrow type."""
    if pa.types.is_nested(kind) and not pa.types.is_dictionary(kind):
        return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields))
    return 1


# ---- scans --------------------------------------------------------------------------------------


class _ParquetScan:
    """Scan of the row groups of one shard."""

    def __init__(self, form: ParquetFormat, file: MappedFile, shard: Shard, request: ScanRequest) -> None:
        self._form, self._file, self._shard, self._request = form, file, shard, request
        self.report = ScanReport()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        file, report = self._file, self.report
        footer = read_footer(file)
        self._form.check(file)
        report.first, report.next = owned_groups(footer.starts, self._shard, file.size)
        numbers = [column_number(file.path, footer, name) for name in self._request.columns]
        leaves = [leaf for n in sorted(numbers) for leaf in footer.leaves[n]]
        groups = []
        for number in range(report.first, report.next):
            group = footer.layout.groups[number]
            report.records += group.rows
            if self._wanted(footer, group):
                groups.append(number)
            else:
                report.pruned += 1
        reader = GroupReader(file, footer, leaves, self._form.schema) if groups and leaves else None
        for place, number in enumerate(groups):
            rows = footer.layout.groups[number].rows
            if reader is None:
                yield from slice_batch(
                    make_batch([], [], rows), self._request.batch_rows, report, group_row(number)
                )
                continue
            parts = wanted_ranges(file, footer, number, leaves)
            file.fetch(parts)
            report.bytes_read += sum(length for _, length in parts)
            if place + 1 < len(groups):
                file.prefetch_parts(wanted_ranges(file, footer, groups[place + 1], leaves))
            yield from self._group(reader, number, rows)
            begin = min(offset for offset, _ in parts)
            file.evict_behind(begin, max(offset + length for offset, length in parts) - begin)

    def _group(self, reader: GroupReader, number: int, rows: int) -> Iterator[pa.RecordBatch]:
        path = self._file.path
        seen = 0
        with translate_read_errors(path, _KIND):
            for batch in reader.batches(number, self._request.batch_rows):
                check_values(batch, path)
                columns = {
                    name: self._form.convert(batch.column(name), path, name) for name in batch.schema.names
                }
                self.report.row = group_row(number, seen)
                seen += batch.num_rows
                names = self._request.columns
                yield make_batch([columns[name] for name in names], names, batch.num_rows)
        if seen != rows:
            raise SourceError(
                f"can't read {path}: row group {number:,} should have {rows:,} rows, and has {seen:,}; "
                "the file is damaged, restore it or write it again",
                path=path,
            )

    def _wanted(self, footer: Footer, group: Group) -> bool:
        """Return whether the row group may hold a row that satisfies all conjuncts."""
        for comparison in self._request.prune:
            name = comparison.column
            numbers = footer.schema.get_all_field_indices(name)
            if len(numbers) == 1:
                number = numbers[0]
                kind = footer.schema.field(number).type
                if pa.types.is_nested(kind):
                    continue
                leaf, ordered = footer.leaves[number][0], footer.layout.ordered
                bounds = bounds_of(
                    group.chunks[leaf], kind, group.rows, ordered=any(ordered[leaf : leaf + 1])
                )
            else:
                continue
            if not may_match(comparison, bounds):
                return False
        return True


def wanted_ranges(
    file: MappedFile, footer: Footer, number: int, leaves: Sequence[int]
) -> list[tuple[int, int]]:
    """Return where in the file the wanted columns of a row group lie: offsets, lengths.

    Raises:
        SourceError: One is encrypted, lies in another file, or nowhere.
    """
    parts = []
    for leaf in leaves:
        chunk = footer.layout.groups[number].chunks[leaf]
        why = ""
        if chunk.encrypted:
            why = "is encrypted, and mmflow has no keys; other columns can be read"
        elif chunk.elsewhere:
            why = "lies in another file; read that one"
        elif chunk.physical < 0 or chunk.begin < 0 or chunk.size < 0 or chunk.begin + chunk.size > file.size:
            why = "does not lie in the file; it is damaged, restore it or write it again"
        if why:
            column = next(n for n, r in zip(footer.schema.names, footer.leaves, strict=True) if leaf in r)
            raise SourceError(
                f"can't read {file.path}: column {column!r} {why}", path=file.path, column=column
            )
        parts.append((chunk.begin, chunk.size))
    return parts


def column_number(path: str, footer: Footer, name: str) -> int:
    """Return the number of the Arrow column of a name.

    Raises:
        SourceError: The file has none, or several.
    """
    numbers = footer.schema.get_all_field_indices(name)
    if len(numbers) == 1:
        return int(numbers[0])
    has = "several columns" if numbers else "no column"
    raise SourceError(
        f"{path}: has {has} {name!r}, which the source's schema names; "
        f"its columns are {', '.join(footer.schema.names)}",
        path=path,
        column=name,
        code="MMF-SRC-005",
    )

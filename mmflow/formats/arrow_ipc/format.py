"""Arrow IPC (and Feather v2): files batch by batch, streams as one shard.

An uncompressed file is not decoded at all: its columns are views into the mapping. Every batch is
validated before it is handed on: DataFusion trusts what it gets, and a damaged batch would kill the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.base import Scan, ScanReport, ScanRequest
from mmflow.formats.decoding.views_kernel import text_views
from mmflow.formats.row_groups import (
    GroupFormat,
    check_names,
    check_values,
    group_row,
    group_schema,
    group_source,
    make_batch,
    owned_evenly,
    slice_batch,
    translate_read_errors,
)
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile, as_arrow_file
from mmflow.remote.opening import open_file
from mmflow.shards import Shard

__all__ = ["ArrowIpcFormat", "open_arrow_ipc", "open_ipc", "wanted_numbers"]

_KIND = "Arrow IPC"
_FILE_MAGIC = b"ARROW1"
_FILE_STREAM = 8  # offset of the first message of a file
_FEATHER_V1 = b"FEA1"


@dataclass(frozen=True, slots=True)
class ArrowIpcFormat(GroupFormat):
    """Arrow IPC files or streams of one schema. Streams are not splittable: they are read from their start."""

    name: str = "arrow_ipc"

    def scan(self, file: MappedFile, shard: Shard, request: ScanRequest) -> Scan:
        """Read the record batches that `shard` owns. Takes and raises what `Format.scan` does."""
        return _IpcScan(self, file, shard, request)

    def check(self, file: MappedFile) -> None:
        self.check_names(file.path, open_ipc(file, None).schema.names)

    def check_names(self, path: str, names: Sequence[str]) -> None:
        """Check a file whose columns are known."""
        self.columns.check(path, names, self.schema.names)

    def lacks(self, file: MappedFile) -> frozenset[str]:
        if self.columns.missing == "error":
            return frozenset()
        return self.columns.lacking(open_ipc(file, None).schema.names, self.schema.names)


def open_arrow_ipc(
    paths: Sequence[str], options: Mapping[str, Any] = MappingProxyType({}), schema: Any = None
) -> ArrowIpcFormat:
    """Open Arrow IPC files or streams as one source.

    Args:
        paths: Paths in reading order. The schema is that of the first; columns of others are found by name.
        options: `columns`: how those of the files may differ.
        schema: Declared columns, by name; types may be wider than the files'.

    Raises:
        SourceError: Missing, empty, damaged, not Arrow IPC, or with columns that can't be computed with.
        ConfigError: `schema` is no schema.
    """
    found, columns = group_source(paths, _KIND, schema, lambda file: open_ipc(file, None).schema, options)
    # One shard per file is right for both kinds, so any stream among the files makes them all that.
    splittable = all(_begins(path) == _FILE_MAGIC for path in paths)
    return ArrowIpcFormat(found, splittable, columns)


def _begins(path: str) -> bytes:
    with open_file(path) as file:
        return bytes(file.window(0, len(_FILE_MAGIC)).buffer)


def _aliases(batch: pa.RecordBatch) -> bool:
    """Return whether no byte of the batch is a copy."""
    return not any(b is not None and b.is_mutable for c in batch.columns for b in c.buffers())


def _validated(batch: pa.RecordBatch, path: str) -> pa.RecordBatch:
    """Return the batch, with plain text as views where a kernel knows it to be valid.

    Raises:
        pa.ArrowInvalid: It is damaged.
        SourceError: See `check_values`.
    """
    whole = all(len(column) == batch.num_rows for column in batch.columns)
    views = [text_views(column) if whole else None for column in batch.columns]
    if all(view is None for view in views):
        check_values(batch, path)
        return batch
    pairs = list(zip(batch.columns, views, strict=True))
    try:
        for column, view in pairs:
            if view is None:
                column.validate(full=True)
    except pa.ArrowInvalid:
        check_values(batch, path)  # which says the column too
        raise
    return pa.RecordBatch.from_arrays([c if v is None else v for c, v in pairs], names=batch.schema.names)


def open_ipc(
    file: MappedFile,
    fields: list[int] | None,
    *,
    populate: bool = True,
    ahead: int = 0,
    source: pa.NativeFile | None = None,
) -> Any:
    """Open a reader of a file or a stream. `fields` are the columns that it decodes; None means all.

    `source`: what that gave, if the caller needs it.

    Raises:
        SourceError: Damaged, or another format.
    """
    start = file.window(0, len(_FILE_MAGIC)).buffer.to_pybytes()
    if start.startswith(_FEATHER_V1):
        raise SourceError(
            f"can't read {file.path}: it is Feather of version 1; write it again as version 2 "
            "(pyarrow.feather.write_feather(table, path))",
            path=file.path,
        )
    options = pa.ipc.IpcReadOptions(
        # arrow-rs panics on values that are not aligned to their size.
        ensure_alignment=pa.ipc.Alignment.DataTypeSpecific,
        use_threads=False,
        included_fields=fields,
    )
    # A file is a stream between marks, which serves where its footer has not come yet.
    opening = pa.ipc.open_file if start == _FILE_MAGIC and not file.once else pa.ipc.open_stream
    with translate_read_errors(file.path, _KIND):
        made = as_arrow_file(file, populate=populate, ahead=ahead) if source is None else source
        if start == _FILE_MAGIC and file.once:
            made.seek(_FILE_STREAM)
        reader = opening(made, options=options)
        check_names(reader.schema)
    return reader


class _IpcScan:
    """Scan of the record batches of one shard."""

    def __init__(self, form: ArrowIpcFormat, file: MappedFile, shard: Shard, request: ScanRequest) -> None:
        self._form, self._file, self._shard, self._request = form, file, shard, request
        self.report = ScanReport()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        report, path = self.report, self._file.path
        schema = open_ipc(self._file, None).schema
        self._form.check_names(path, schema.names)
        # Without columns the first is decoded: for its number of rows.
        numbers = wanted_numbers(schema, path, self._request.columns) or [0][: len(schema)]
        with translate_read_errors(path, _KIND):
            some = sorted(set(numbers)) if 0 < len(set(numbers)) < len(schema) else None
            names = [schema.names[n] for n in some or range(len(schema))]
            for number, batch in enumerate(self._batches(some)):
                wanted = batch if some is None else batch.select(names)
                valid = _validated(wanted, path)
                report.records += batch.num_rows
                report.bytes_read += wanted.get_total_buffer_size()
                first = group_row(report.first + number)
                yield from slice_batch(self._fitted(valid), self._request.batch_rows, report, first)

    def _batches(self, some: list[int] | None) -> Iterator[pa.RecordBatch]:
        """Yield the shard's batches, with at least the columns numbered `some`."""
        report = self.report
        # Of a remote file just the wanted columns are read; all of them in order, so that the rest is on its way.
        fields, ahead = (some, 0 if some else self._shard.end) if self._file.fetches else (None, 0)
        reader = open_ipc(self._file, fields, populate=some is None, ahead=ahead)
        if isinstance(reader, pa.RecordBatchFileReader):
            count = reader.num_record_batches
            report.first, report.next = owned_evenly(count, self._shard, self._file.size)
            for number in range(report.first, report.next):
                batch = reader.get_batch(number)
                if number == report.first and some is not None and fields is None and not _aliases(batch):
                    # Compressed, or read instead of mapped: just the wanted columns then. Where batches alias the
                    # mapping the others cost nothing, while pyarrow 26, given a list of columns, copies them.
                    reader = open_ipc(self._file, some)
                    batch = reader.get_batch(number)
                yield batch
            return
        source = as_arrow_file(self._file, populate=some is None, ahead=ahead)
        for batch in open_ipc(self._file, some, source=source):
            report.next += 1
            yield batch
        position = source.tell()
        follows = self._file.window(position, 1).length > 0
        if follows and self._file.window(0, len(_FILE_MAGIC)).buffer.to_pybytes() != _FILE_MAGIC:
            left = self._file.size - position
            raise SourceError(
                f"can't read {self._file.path}: {left:,} bytes follow the end of its stream; does it hold several "
                "streams? Write each to a file of its own",
                path=self._file.path,
            )

    def _fitted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        path, names = self._file.path, self._request.columns
        return make_batch(
            [self._form.convert(batch.column(n), path, n) for n in names], names, batch.num_rows
        )


def wanted_numbers(schema: pa.Schema, path: str, columns: Sequence[str]) -> list[int]:
    """Return the numbers of columns in a file's schema.

    Raises:
        SourceError: One is missing, or the file has types that can't be computed with.
    """
    group_schema(schema, path)
    known = {name: number for number, name in enumerate(schema.names)}
    for name in columns:
        if name not in known:
            raise SourceError(
                f"{path}: has no column {name!r}, which the source's schema names; "
                f"its columns are {', '.join(schema.names)}",
                path=path,
                column=name,
                code="MMF-SRC-005",
            )
    return [known[name] for name in columns]

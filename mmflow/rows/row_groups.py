"""Rows of Parquet and Arrow IPC files: only the row groups and batches that hold requested rows are read.

Parquet's footer says how many rows each row group has; a group is decoded up to its last requested row. In IPC files,
the headers of the batches say it (`ipc_rows`); batches that alias the mapping are not decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.arrow_ipc.format import ArrowIpcFormat, open_ipc, wanted_numbers
from mmflow.formats.decoding.compact import has_views, without_views
from mmflow.formats.parquet.format import (
    GroupReader,
    ParquetFormat,
    column_number,
    read_footer,
    wanted_ranges,
)
from mmflow.formats.row_groups import check_values, make_batch, translate_read_errors
from mmflow.formats.schemas.arrow_types import public_batch
from mmflow.lazy import array_types as npt
from mmflow.mapping import MappedFile
from mmflow.rows.base import Job, take_values
from mmflow.rows.batch_lengths import batch_rows

__all__ = ["IpcRows", "ParquetRows"]

I64 = npt.NDArray[np.int64]

_BATCH_ROWS = 64 << 10
#: Batches of an IPC file that one job reads.
_BATCHES = 16


def _groups(ends: I64, numbers: I64) -> Iterator[tuple[int, I64]]:
    """Yield the groups that hold requested rows, and those rows, numbered from the group's first.

    >>> [(g, rows.tolist()) for g, rows in _groups(np.array([3, 3, 9]), np.array([0, 2, 8]))]
    [(0, [0, 2]), (2, [5])]
    """
    groups = np.searchsorted(ends, numbers, side="right")
    every, first = np.unique(groups, return_index=True)
    bounds = [*first.tolist(), len(numbers)]
    for position, group in enumerate(every.tolist()):
        before = int(ends[group - 1]) if group else 0
        yield group, numbers[bounds[position] : bounds[position + 1]] - before


class ParquetRows:
    """Rows of a Parquet file."""

    def __init__(self, file: MappedFile, form: ParquetFormat, columns: tuple[str, ...]) -> None:
        self._file, self._form, self._columns = file, form, columns
        footer = self._footer = read_footer(file)
        counts = [group.rows for group in footer.layout.groups]
        self._ends = np.cumsum(np.array(counts, np.int64))
        numbers = [column_number(file.path, footer, c) for c in columns]
        self._leaves = [leaf for n in sorted(numbers) for leaf in footer.leaves[n]]

    def count(self, upto: int) -> int:
        del upto
        return int(self._ends[-1]) if len(self._ends) else 0

    def jobs(self, numbers: I64) -> Iterator[Job]:
        for group, rows in _groups(self._ends, numbers):
            yield partial(self._read, group, rows)

    def _read(self, group: int, rows: I64) -> list[pa.RecordBatch]:
        path, form = self._file.path, self._form
        if not self._leaves:
            return [make_batch([], [], len(rows))]
        found: list[pa.RecordBatch] = []
        before = taken = 0
        wanted_ranges(self._file, self._footer, group, self._leaves)  # can they be read?
        with translate_read_errors(path, "Parquet"):
            reader = GroupReader(self._file, self._footer, self._leaves, form.schema)
            for batch in reader.batches(group, _BATCH_ROWS):
                here = rows[taken : int(np.searchsorted(rows, before + batch.num_rows))] - before
                if len(here):
                    batch.validate()  # what takes from it trusts its offsets
                    picked = self._take_rows(batch, here)
                    check_values(picked, path)
                    names = self._columns
                    arrays = [form.convert(picked.column(n), path, n) for n in names]
                    found.append(public_batch(make_batch(arrays, names, len(here))))
                before += batch.num_rows
                taken += len(here)
                if taken == len(rows):
                    break
        if taken < len(rows):
            raise SourceError(
                f"can't read {path}: row group {group:,} has {before:,} rows, and fewer than its footer says; "
                "the file is damaged, restore it or write it again",
                path=path,
            )
        return found

    def _take_rows(self, batch: pa.RecordBatch, positions: I64) -> pa.RecordBatch:
        """Return rows of a batch. pyarrow 26 can't take from views: those columns are checked and rewritten whole."""
        views = [n for n in batch.schema.names if has_views(batch.schema.field(n).type)]
        if not views:
            return batch.take(pa.array(positions))
        check_values(batch.select(views), self._file.path)
        columns = [
            without_views(c) if n in views else c
            for n, c in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, names=batch.schema.names).take(pa.array(positions))


class IpcRows:
    """Rows of an Arrow IPC file (not of a stream)."""

    def __init__(self, file: MappedFile, form: ArrowIpcFormat, columns: tuple[str, ...]) -> None:
        self._file, self._form, self._columns = file, form, columns
        schema = open_ipc(file, None).schema
        self._numbers = wanted_numbers(schema, file.path, columns)
        self._width = len(schema)
        self._ends = np.cumsum(batch_rows(file))

    def count(self, upto: int) -> int:
        del upto
        return int(self._ends[-1]) if len(self._ends) else 0

    def jobs(self, numbers: I64) -> Iterator[Job]:
        some: list[tuple[int, I64]] = []
        for each in _groups(self._ends, numbers):
            some.append(each)
            if len(some) == _BATCHES:
                yield partial(self._read, some)
                some = []
        if some:
            yield partial(self._read, some)

    def _read(self, wanted: list[tuple[int, I64]]) -> list[pa.RecordBatch]:
        fields = sorted(set(self._numbers))
        some = fields if 0 < len(fields) < self._width else None
        read = self._reader(wanted[0][0], some)
        picked = []
        for number, rows in wanted:
            with translate_read_errors(self._file.path, "Arrow IPC"):
                batch = read(number)
            picked.append(self._take_rows(batch, number, rows))
        return picked

    def _reader(self, first: int, some: list[int] | None) -> Callable[[int], pa.RecordBatch]:
        """Return a function that reads a batch by its number, with the columns numbered `some` at least."""
        reader = open_ipc(self._file, None, populate=False)
        if some is not None:
            with translate_read_errors(self._file.path, "Arrow IPC"):
                batch = reader.get_batch(first)
            if any(b is not None and b.is_mutable for c in batch.columns for b in c.buffers()):
                # Compressed, or read instead of mapped: just these then. See `formats.arrow_ipc.format`.
                reader = open_ipc(self._file, some, populate=False)
        return reader.get_batch  # type: ignore[no-any-return]  # pyarrow has no types

    def _take_rows(self, batch: pa.RecordBatch, number: int, rows: I64) -> pa.RecordBatch:
        path = self._file.path
        counted = int(self._ends[number] - (self._ends[number - 1] if number else 0))
        if batch.num_rows != counted:
            raise SourceError(
                f"can't read {path}: batch {number:,} has {batch.num_rows:,} rows, its header says {counted:,}; "
                "the file is damaged, restore it or write it again",
                path=path,
            )
        low, high = int(rows[0]), int(rows[-1]) + 1
        positions, arrays = rows - low, []
        with translate_read_errors(path, "Arrow IPC"):
            for name in self._columns:
                column = batch.column(name).slice(low, high - low)
                check_values(make_batch([column], [name], len(column)), path)
                if _supports_take(column.type):
                    taken = self._form.convert(column.take(pa.array(positions)), path, name)
                    arrays.append(without_views(taken))
                else:
                    arrays.append(take_values(self._form.convert(column, path, name), positions))
        return make_batch(arrays, self._columns, len(rows))


def _supports_take(kind: pa.DataType) -> bool:
    """Return whether pyarrow can take from this type as it is."""
    plain = pa.types.is_run_end_encoded(kind) or isinstance(kind, pa.BaseExtensionType) or has_views(kind)
    return not plain and not pa.types.is_nested(kind)

"""Rows of Parquet and Arrow IPC files: only the row groups and batches that hold wanted rows are read.

Parquet says in its footer how many rows each row group has; a group is decoded up to its last wanted row. Of IPC
files only the headers of the batches are read for that (`ipc_rows`); batches that alias the mapping are not decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmflow.access.ipc_rows import batch_rows
from mmflow.access.rows import Job, chosen
from mmflow.errors import SourceError
from mmflow.exec.compact import has_views, owned
from mmflow.formats.arrow_ipc import ArrowIpcFormat, open_ipc, wanted_numbers
from mmflow.formats.carried import public_batch
from mmflow.formats.groups import batch_of, check_values, fit, reading
from mmflow.formats.parquet import GroupReader, ParquetFormat, column_number, footer_of, parts_of
from mmflow.mapping import MappedFile

__all__ = ["IpcRows", "ParquetRows"]

I64 = npt.NDArray[np.int64]

_BATCH_ROWS = 64 << 10
#: Batches of an IPC file that one job reads.
_BATCHES = 16


def _groups(ends: I64, numbers: I64) -> Iterator[tuple[int, I64]]:
    """Groups that hold wanted rows, and these, counted from the group's first.

    >>> [(g, rows.tolist()) for g, rows in _groups(np.array([3, 3, 9]), np.array([0, 2, 8]))]
    [(0, [0, 2]), (2, [5])]
    """
    groups = np.searchsorted(ends, numbers, side="right")
    every, first = np.unique(groups, return_index=True)
    bounds = [*first.tolist(), len(numbers)]
    for place, group in enumerate(every.tolist()):
        before = int(ends[group - 1]) if group else 0
        yield group, numbers[bounds[place] : bounds[place + 1]] - before


class ParquetRows:
    """Rows of a Parquet file. See `FileRows`."""

    def __init__(self, file: MappedFile, form: ParquetFormat, columns: tuple[str, ...]) -> None:
        self._file, self._form, self._columns = file, form, columns
        footer = self._footer = footer_of(file)
        counts = [group.rows for group in footer.layout.groups]
        self._ends = np.cumsum(np.array(counts, np.int64))
        numbers = [column_number(file.path, footer, c) for c in columns]
        self._leaves = [leaf for n in sorted(numbers) for leaf in footer.leaves[n]]

    def count(self, upto: int) -> int:
        """See `FileRows.count`."""
        del upto
        return int(self._ends[-1]) if len(self._ends) else 0

    def jobs(self, numbers: I64) -> Iterator[Job]:
        """See `FileRows.jobs`."""
        for group, rows in _groups(self._ends, numbers):
            yield partial(self._read, group, rows)

    def _read(self, group: int, rows: I64) -> list[pa.RecordBatch]:
        path, form = self._file.path, self._form
        if not self._leaves:
            return [batch_of([], [], len(rows))]
        found: list[pa.RecordBatch] = []
        before = taken = 0
        parts_of(self._file, self._footer, group, self._leaves)  # can they be read?
        with reading(path, "Parquet"):
            reader = GroupReader(self._file, self._footer, self._leaves, form.schema)
            for batch in reader.batches(group, _BATCH_ROWS):
                here = rows[taken : int(np.searchsorted(rows, before + batch.num_rows))] - before
                if len(here):
                    batch.validate()  # what takes from it trusts its offsets
                    picked = self._picked(batch, here)
                    check_values(picked, path)
                    names = self._columns
                    arrays = [fit(picked.column(n), form.schema.field(n).type, path, n) for n in names]
                    found.append(public_batch(batch_of(arrays, names, len(here))))
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

    def _picked(self, batch: pa.RecordBatch, places: I64) -> pa.RecordBatch:
        """Return rows of a batch. pyarrow 26 can't take from views: those columns are judged and rewritten whole."""
        views = [n for n in batch.schema.names if has_views(batch.schema.field(n).type)]
        if not views:
            return batch.take(pa.array(places))
        check_values(batch.select(views), self._file.path)
        columns = [
            owned(c) if n in views else c for n, c in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, names=batch.schema.names).take(pa.array(places))


class IpcRows:
    """Rows of an Arrow IPC file, not of a stream. See `FileRows`."""

    def __init__(self, file: MappedFile, form: ArrowIpcFormat, columns: tuple[str, ...]) -> None:
        self._file, self._form, self._columns = file, form, columns
        schema = open_ipc(file, None).schema
        self._numbers = wanted_numbers(schema, file.path, columns)
        self._width = len(schema)
        self._ends = np.cumsum(batch_rows(file))

    def count(self, upto: int) -> int:
        """See `FileRows.count`."""
        del upto
        return int(self._ends[-1]) if len(self._ends) else 0

    def jobs(self, numbers: I64) -> Iterator[Job]:
        """See `FileRows.jobs`."""
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
            with reading(self._file.path, "Arrow IPC"):
                batch = read(number)
            picked.append(self._picked(batch, number, rows))
        return picked

    def _reader(self, first: int, some: list[int] | None) -> Callable[[int], pa.RecordBatch]:
        """Reads batches, with the columns numbered `some` at least."""
        reader = open_ipc(self._file, None, populate=False)
        if some is not None:
            with reading(self._file.path, "Arrow IPC"):
                batch = reader.get_batch(first)
            if any(b is not None and b.is_mutable for c in batch.columns for b in c.buffers()):
                # Compressed, or read instead of mapped: just these then. See `formats.arrow_ipc`.
                reader = open_ipc(self._file, some, populate=False)
        return reader.get_batch  # type: ignore[no-any-return]

    def _picked(self, batch: pa.RecordBatch, number: int, rows: I64) -> pa.RecordBatch:
        path = self._file.path
        counted = int(self._ends[number] - (self._ends[number - 1] if number else 0))
        if batch.num_rows != counted:
            raise SourceError(
                f"can't read {path}: batch {number:,} has {batch.num_rows:,} rows, its header says {counted:,}; "
                "the file is damaged, restore it or write it again",
                path=path,
            )
        low, high = int(rows[0]), int(rows[-1]) + 1
        places, arrays = rows - low, []
        with reading(path, "Arrow IPC"):
            for name in self._columns:
                column = batch.column(name).slice(low, high - low)
                check_values(batch_of([column], [name], len(column)), path)
                wanted = self._form.schema.field(name).type
                if _takes(column.type):
                    arrays.append(owned(fit(column.take(pa.array(places)), wanted, path, name)))
                else:
                    arrays.append(chosen(fit(column, wanted, path, name), places))
        return batch_of(arrays, self._columns, len(rows))


def _takes(kind: pa.DataType) -> bool:
    """Can pyarrow take from this type as it is?"""
    plain = pa.types.is_run_end_encoded(kind) or isinstance(kind, pa.BaseExtensionType) or has_views(kind)
    return not plain and not pa.types.is_nested(kind)

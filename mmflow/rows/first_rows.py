"""First rows of a source for a preview: a few hundred KiB are read, of Parquet a page of each column, however large the
files are.

Invariant: nothing is read ahead, and nothing is kept (no row index).
"""

from __future__ import annotations

from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq

from mmflow.config import Settings
from mmflow.formats import ScanRequest
from mmflow.formats.decoding.scan import ScannedFormat, contents_entry
from mmflow.formats.npy.format import NpyFormat
from mmflow.formats.parquet.format import ParquetFormat
from mmflow.formats.row_groups import make_batch
from mmflow.mapping import MappedFile
from mmflow.remote.opening import open_file
from mmflow.rows.selection import Selection
from mmflow.rows.source import random_access_problem
from mmflow.rows.take import slice_rows
from mmflow.shards import Shard, identify_files
from mmflow.storage.url import is_url

__all__ = ["first_rows"]

_BYTES = 256 << 10
#: Bytes that are read at a time of a column of a Parquet file.
_PARQUET_BUFFER = 16 << 10
#: Largest file of a format of whole groups that is read as any other; a group may be as large as the file.
_SMALL = 1 << 20


def first_rows(selection: Selection, count: int, settings: Settings) -> pa.Table | None:
    """Return up to `count` rows from the beginning of the first file; None where that would read too much.

    Raises:
        MmflowError: The file can't be read, or one of these rows is bad.
    """
    source = selection.source
    if not source.files or any(map(is_url, source.files[:1])):
        return None
    if random_access_problem(selection, settings.remote_options) is not None:  # compressed, or a stream
        return None
    path, form = source.files[0], source.format
    if isinstance(form, ParquetFormat):
        with closing(MappedFile.open(path, io="pread")) as file:
            form.check(file)
            columns = selection.columns_in(file)
        batches = _parquet_rows(path, form, columns, count)
        return selection.table(selection.complete(path, batches))
    (entry,) = identify_files([path])
    with closing(
        open_file(path, io="pread", expected=contents_entry(form, entry, settings.remote_options).identity)
    ) as file:
        if isinstance(form, ScannedFormat):
            form.check(file)
            batches = _records(file, form, selection.columns_in(file), count)
            return selection.table(selection.complete(path, batches))
        if file.size > _SMALL and not isinstance(form, NpyFormat):
            return None
    return slice_rows(selection, None, count, settings)


def _records(
    file: MappedFile, form: ScannedFormat, columns: tuple[str, ...], count: int
) -> list[pa.RecordBatch]:
    shard = Shard(0, 0, min(file.size, _BYTES), fresh=True)
    request = ScanRequest(columns, window_bytes=_BYTES, batch_rows=count, piece_bytes=_BYTES)
    found: list[pa.RecordBatch] = []
    scan = form.scan(file, shard, request)
    for batch in scan:
        found.append(batch.slice(0, count))
        count -= found[-1].num_rows
        if count == 0:
            break
    if scan.report.error is not None and count:
        raise scan.report.error
    return found


def _parquet_rows(
    path: str, form: ParquetFormat, columns: tuple[str, ...], count: int
) -> list[pa.RecordBatch]:
    """Return rows of the first row group, from the first pages of each column: other readers take whole columns."""
    with pq.ParquetFile(path, buffer_size=_PARQUET_BUFFER, pre_buffer=False) as file:
        batch = (
            next(file.iter_batches(count, row_groups=[0], columns=list(columns)), None)
            if file.num_row_groups
            else None
        )
    if batch is None:
        return []
    arrays = [form.convert(batch.column(name), path, name) for name in columns]
    return [make_batch(arrays, columns, batch.num_rows)]

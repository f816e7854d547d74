"""Last rows, read from the end: possible where every line break ends a record (text, NDJSON, CSV without quotes).

Bytes before the end are read, twice as many each time, until they hold enough rows. Other files need the record index.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.scan import ScannedFormat, contents_entry
from mmflow.formats.row_groups import make_batch
from mmflow.lazy import array_types as npt
from mmflow.mapping import Io, MappedFile
from mmflow.mapping.ranges import read_ranges
from mmflow.remote.opening import open_file
from mmflow.remote.options import RemoteOptions
from mmflow.rows.base import BadRecordFoundError, add_virtual_columns, take_values
from mmflow.rows.indexed import decode_all
from mmflow.rows.selection import Selection
from mmflow.shards import identify_files

__all__ = ["last_rows"]

I64 = npt.NDArray[np.int64]

_FIRST_BYTES = 64 << 10
_MAX_BYTES = 64 << 20
_NEWLINE = 10


def last_rows(
    selection: Selection, count: int, io: Io, remote_options: RemoteOptions
) -> list[pa.RecordBatch] | None:
    """Return the last `count` rows of all files (or all rows), in order; None where they can't be found from the
    end.

    Also None where a bad record is met and the policy is `error`: only the index tells its number, and whether it was
    requested.

    Raises:
        SourceError: A file can't be read.
        SourceChangedError: It changed meanwhile.
    """
    source, columns = selection.source, selection.file_columns
    form = source.format
    if not isinstance(form, ScannedFormat) or not form.line_is_record:
        return None
    if "_line" in columns and "_line" not in form.schema.names:
        return None  # line numbers need a count from the start
    batches: list[pa.RecordBatch] = []
    for path in reversed(source.files):
        (entry,) = identify_files([path], source.storage)
        entry = contents_entry(form, entry, remote_options)
        how = replace(remote_options, storage=source.storage)
        with open_file(path, io=io, access="random", expected=entry.identity, remote_options=how) as file:
            form.check(file)
            batch = _last_file_rows(file, form, selection.columns_in(file), count)
            file.check_unchanged()
        if batch is None:
            return None
        batches[:0] = selection.complete(path, [batch])
        count -= batch.num_rows
        if count <= 0:
            break
    return batches


def _last_file_rows(
    file: MappedFile, form: ScannedFormat, columns: tuple[str, ...], count: int
) -> pa.RecordBatch | None:
    """Return the last rows of one file; None if they take too many bytes, or a bad record was met."""
    refused = (lambda _: BadRecordFoundError()) if form.on_bad_record == "error" else None
    own = set(form.schema.names)
    decoded = tuple(c for c in columns if c in own)
    begins, length = form.begins(file), _FIRST_BYTES
    while True:
        base, data = _suffix(file, begins, length)
        if data is not None:
            try:
                found = decode_all(form.decoder(file, decoded), data, final=True, refused=refused)
            except BadRecordFoundError:
                return None
            if len(found.offsets) >= count or base <= begins:
                break
        if length >= _MAX_BYTES:
            return None
        length *= 2
    positions = np.arange(max(0, len(found.offsets) - count), len(found.offsets))
    arrays = [take_values(column, positions) for column in found.batch.columns]
    read = make_batch(arrays, decoded, len(positions))
    return add_virtual_columns(columns, read, file.path, found.offsets[positions] + base, None)


def _suffix(file: MappedFile, begins: int, length: int) -> tuple[int, pa.Buffer | None]:
    """Return the offset and bytes of the records that begin in the last bytes of a file; None: no record begins
    there.
    """
    base = max(begins, file.size - length)
    if base <= begins:
        return begins, read_ranges(file, np.array([begins]), np.array([max(begins, file.size)]))
    data = read_ranges(file, np.array([base - 1]), np.array([file.size]))
    breaks = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
    if not len(breaks):
        return base, None
    return base + int(breaks[0]), data.slice(int(breaks[0]) + 1)

"""The last rows, found from the end: where a line break always ends a record, in text, NDJSON, and CSV without quotes.

Bytes before the end are read, twice as many each time, until they hold enough rows. Elsewhere the record index must
say where rows begin.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmflow.access.rows import MetError, chosen, with_virtual
from mmflow.access.scanned import decode_all
from mmflow.access.source import Selection
from mmflow.formats.decoder import ScannedFormat
from mmflow.formats.groups import batch_of
from mmflow.mapping import Io, MappedFile
from mmflow.mapping.ranges import read_ranges
from mmflow.remote.opening import open_file
from mmflow.remote.reach import Reach
from mmflow.shards import entries

__all__ = ["last_rows"]

I64 = npt.NDArray[np.int64]

_FIRST_BYTES = 64 << 10
_MOST_BYTES = 64 << 20
_NEWLINE = 10


def last_rows(selection: Selection, count: int, io: Io, reach: Reach) -> list[pa.RecordBatch] | None:
    """The last `count` rows of all files, or all there are, in order; None where they can't be found from the end.

    That is so, too, where a bad record is met and the policy is `error`: by the index it can be said which, and
    whether it was asked for.

    Raises:
        SourceError: A file can't be read.
        SourceChangedError: It changed meanwhile.
    """
    source, columns = selection.source, selection.inside
    form = source.format
    if not isinstance(form, ScannedFormat) or not form.line_is_record:
        return None
    if "_line" in columns and "_line" not in form.schema.names:
        return None  # which only counting tells
    batches: list[pa.RecordBatch] = []
    for path in reversed(source.files):
        (entry,) = entries([path], source.storage)
        how = replace(reach, storage=source.storage)
        with open_file(path, io=io, access="random", expected=entry.identity, reach=how) as file:
            form.check(file)
            batch = _last_of(file, form, columns, count)
            file.check_unchanged()
        if batch is None:
            return None
        batches[:0] = selection.whole(path, [batch])
        count -= batch.num_rows
        if count <= 0:
            break
    return batches


def _last_of(
    file: MappedFile, form: ScannedFormat, columns: tuple[str, ...], count: int
) -> pa.RecordBatch | None:
    """The last rows of one file; None if they take too many bytes, or a bad record was met."""
    refused = (lambda _: MetError()) if form.on_bad_record == "error" else None
    own = set(form.schema.names)
    decoded = tuple(c for c in columns if c in own)
    begins, length = form.begins(file), _FIRST_BYTES
    while True:
        base, data = _suffix(file, begins, length)
        if data is not None:
            try:
                found = decode_all(form.decoder(file, decoded), data, final=True, refused=refused)
            except MetError:
                return None
            if len(found.offsets) >= count or base <= begins:
                break
        if length >= _MOST_BYTES:
            return None
        length *= 2
    places = np.arange(max(0, len(found.offsets) - count), len(found.offsets))
    arrays = [chosen(column, places) for column in found.batch.columns]
    read = batch_of(arrays, decoded, len(places))
    return with_virtual(columns, read, file.path, found.offsets[places] + base, None)


def _suffix(file: MappedFile, begins: int, length: int) -> tuple[int, pa.Buffer | None]:
    """The records that begin in the last bytes of a file, and their offset; None: no record begins there."""
    base = max(begins, file.size - length)
    if base <= begins:
        return begins, read_ranges(file, np.array([begins]), np.array([max(begins, file.size)]))
    data = read_ranges(file, np.array([base - 1]), np.array([file.size]))
    breaks = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
    if not len(breaks):
        return base, None
    return base + int(breaks[0]), data.slice(int(breaks[0]) + 1)

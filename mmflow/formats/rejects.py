"""Rejected records as rows: as a task reports them, by their places in its shards, and as quarantine keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from mmflow.errors import plain_text
from mmflow.formats.base import Reject
from mmflow.formats.decoding.fixed_width import null_places, numpy_values

__all__ = ["REPORTED", "SCHEMA", "locate_rejects", "rejects_batch"]

#: Schema of quarantine: `record` counts from 0 and `line` from 1, both over the whole file, as in `BadRecordError`;
#: `line` is null where the format has no lines.
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("byte_offset", pa.int64()),
        ("record", pa.int64()),
        ("line", pa.int64()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.binary()),
    ]
)
#: Schema of a task's report: `record` and `line` count from the shard's first record, whose offset is `shard_first`.
REPORTED = SCHEMA.insert(2, pa.field("shard_first", pa.int64()))


def rejects_batch(path: str, first: int, rejects: Iterable[Reject]) -> pa.RecordBatch:
    """Return the rejects of one shard as rows of `REPORTED`."""
    rows = [
        {
            "path": plain_text(path),
            "byte_offset": r.byte_offset,
            "shard_first": first,
            "record": r.record,
            "line": r.line,
            "column": r.column,
            "reason": r.reason,
            "raw": r.raw,
        }
        for r in rejects
    ]
    return pa.RecordBatch.from_pylist(rows, schema=REPORTED)


def locate_rejects(
    batches: Iterable[pa.RecordBatch], before: Mapping[tuple[str, int], tuple[int, int]]
) -> list[pa.RecordBatch]:
    """Return rows of `REPORTED` as rows of `SCHEMA`.

    Args:
        batches: Rejects of one task.
        before: Records and lines before each of its shards (`totals.Quarantined.before`).
    """
    made = []
    for batch in batches:
        shards = zip(batch.column("path").to_pylist(), batch.column("shard_first").to_pylist(), strict=True)
        shifts = np.array([before[shard] for shard in shards], np.int64).reshape(-1, 2)
        record = numpy_values(batch.column("record")) + shifts[:, 0]
        lines = batch.column("line")
        line = numpy_values(lines) + shifts[:, 1] + 1
        columns = {"record": pa.array(record), "line": pa.array(line, mask=null_places(lines))}
        made.append(
            pa.RecordBatch.from_arrays([columns.get(n, batch.column(n)) for n in SCHEMA.names], schema=SCHEMA)
        )
    return made

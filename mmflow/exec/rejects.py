"""Bad records that were set aside, as rows: what quarantine keeps."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from mmflow.errors import plain_text
from mmflow.formats import Reject

__all__ = ["SCHEMA", "rejects_batch"]

#: `record` and `line` count from the shard's first record; `shard_first` is that record's byte offset, by
#: which the driver makes them global.
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("byte_offset", pa.int64()),
        ("shard_first", pa.int64()),
        ("record", pa.int64()),
        ("line", pa.int64()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.binary()),
    ]
)


def rejects_batch(path: str, first: int, rejects: Iterable[Reject]) -> pa.RecordBatch:
    """Rejects of one shard as rows of `SCHEMA`."""
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
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)

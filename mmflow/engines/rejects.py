"""Bad records that were set aside, with their places in the whole file instead of in their shard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from mmflow.formats.fixed_width import numpy_values

__all__ = ["SCHEMA", "located"]

#: `record` counts from 0 and `line` from 1, both over the whole file, as in `BadRecordError`.
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


def located(
    batches: Iterable[pa.RecordBatch], before: Mapping[tuple[str, int], tuple[int, int]]
) -> list[pa.RecordBatch]:
    """Rejects as tasks report them (`exec.rejects.SCHEMA`) as rows of `SCHEMA`.

    Args:
        batches: Of one task.
        before: Records and lines before each of its shards (`totals.Quarantined.before`).
    """
    made = []
    for batch in batches:
        shards = zip(batch.column("path").to_pylist(), batch.column("shard_first").to_pylist(), strict=True)
        shifts = np.array([before[shard] for shard in shards], np.int64).reshape(-1, 2)
        record = numpy_values(batch.column("record")) + shifts[:, 0]
        line = numpy_values(batch.column("line")) + shifts[:, 1] + 1
        columns = {"record": pa.array(record), "line": pa.array(line)}
        made.append(
            pa.RecordBatch.from_arrays([columns.get(n, batch.column(n)) for n in SCHEMA.names], schema=SCHEMA)
        )
    return made

"""Parquet on a stream, such as standard output in a pipe.

Invariant: the footer is written only once all rows are: if something is raised, no reader takes a part for the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import pyarrow as pa

from mmflow.sinks.writers.columnar import parquet_writer

__all__ = ["write_parquet_stream"]


class _Unsought:
    """Stream that counts its bytes, since a pipe can't say where it is. `ended`: what comes is dropped."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._written = 0
        self.ended = False

    def write(self, data: bytes) -> int:
        if not self.ended:
            self._stream.write(data)
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        if not self.ended:
            self._stream.flush()

    def close(self) -> None:
        """Leave the stream open: it is not ours."""


def write_parquet_stream(batches: Iterable[pa.RecordBatch], schema: pa.Schema, stream: BinaryIO) -> int:
    """Write rows as one Parquet file, and return their number."""
    unsought = _Unsought(stream)
    writer = parquet_writer(pa.PythonFile(unsought, mode="w"), schema, {})
    rows = 0
    try:
        for batch in batches:
            writer.write(batch)
            rows += batch.num_rows
        writer.close()
    except BaseException:
        unsought.ended = True  # pyarrow writes a footer where a writer is freed
        writer.discard()
        raise
    return rows

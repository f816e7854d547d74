"""Sizes of values, scans and partitions, as far as they are known without reading data.

Used to choose between plans that give the same rows; a wrong estimate costs time, never correctness.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import pyarrow as pa

from mmflow.errors import MmflowError
from mmflow.formats.compression import compression_suffix
from mmflow.mapping import FileIdentity
from mmflow.mapping.streams import stream_at
from mmflow.plan.pipeline import Estimate
from mmflow.plan.stages import Source
from mmflow.remote.opening import known_size
from mmflow.storage.url import is_url, may_be_member

__all__ = ["exchange_partitions", "partition_bytes", "scan_estimate", "width_of"]

# Decoded bytes for a byte of file: text becomes 16-byte views and wide numbers, Parquet is compressed.
_EXPANSION = {"parquet": 4.0, "csv": 1.5, "json": 1.0, "ndjson": 1.0}
_PARTITION_BYTES = 64 << 20
# Of an exchange with several. Three large ones would leave one of two cores idle for a third of the time, and what is
# grouped or sorted in a task no place in caches. Readers take neighbours together where they are small.
_LEAST_PARTITIONS = 16
_MOST_PARTITIONS = 4096
#: Size that a stream is taken to have: people pipe what is large.
_STREAM_BYTES = 1 << 30


def width_of(data_type: pa.DataType) -> int:
    """Return the bytes of one value: 32 for text and nested values."""
    try:
        return max(1, int(data_type.bit_width) // 8)
    except ValueError:
        return 32


@lru_cache(maxsize=256)
def _total_bytes(files: tuple[str, ...]) -> int:
    total = 0
    for path in files:
        try:
            total += _size(path)
        except MmflowError:
            continue  # the scan itself will say what is wrong with the file
    return total


def _size(path: str) -> int:
    if stream_at(path) is not None:
        return _STREAM_BYTES
    return known_size(path) if is_url(path) else FileIdentity.of(path).size


def scan_estimate(source: Source, columns: Sequence[str]) -> Estimate:
    """Return an upper bound of the rows and bytes of a scan of some columns."""
    widths = {f.name: width_of(f.type) for f in source.schema}
    whole = sum(widths.values()) or 1
    read = sum(widths.get(c, 16) for c in columns)
    share = min(1.0, read / whole)
    packed = source.files and (compression_suffix(source.files[0]) or may_be_member(source.files[0]))
    compressed = 4.0 if packed else 1.0
    expansion = _EXPANSION.get(source.format.name, 1.0) * compressed
    return Estimate(None, int(_total_bytes(source.files) * share * expansion))


def partition_bytes(memory: int, workers: int) -> int:
    """Return the bytes for one partition of an exchange, which a task sorts or hashes in its share of memory."""
    return max(1 << 20, min(_PARTITION_BYTES, memory // workers // 12))


def exchange_partitions(nbytes: int, each: int, forced: int | None) -> int:
    """Return the number of partitions of at most about `each` bytes for an exchange of about `nbytes`."""
    if forced is not None:
        return forced
    return 1 if nbytes <= each else max(_LEAST_PARTITIONS, min(_MOST_PARTITIONS, -(-nbytes // each)))

"""Range partitions for sorts: samples, boundaries, and the range of each row.

Order is DataFusion's: -0.0 before 0.0 is not distinguished here (both fall in one range), NaN is the greatest
number, nulls first or last as the key says. Rows equal on all keys always fall in the same range.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.compact import rename_columns, without_views
from mmflow.formats.decoding.fixed_width import null_places, numpy_values
from mmflow.lazy import array_types as npt
from mmflow.lazy import compute as pc
from mmflow.plan.stages import SortKey
from mmflow.worker.hashing import mix
from mmflow.worker.partition import Places, place

__all__ = ["Sampler", "boundaries", "place_by_range"]

_I64 = npt.NDArray[np.int64]

WEIGHT = "weight"
_SAMPLES = 1024
_LEAST, _MOST = np.int64(-(2**63)), np.int64(2**63 - 1)


def _key_columns(batch: pa.RecordBatch, keys: Sequence[SortKey]) -> list[pa.Array]:
    return [without_views(batch.column(k.column)) for k in keys]


def _chosen(blocks: _I64, level: int) -> _I64:
    """Return one row of each block of 2**level rows, shape (blocks,). The bits of a hash choose between halves."""
    for half in range(level, 0, -1):
        blocks = _half(blocks, half)
    return blocks


def _half(blocks: _I64, level: int) -> _I64:
    """Return the half of each block of 2**level rows that holds its row, numbered among blocks of half the size."""
    with np.errstate(over="ignore"):  # products of the mixer are taken modulo 2**64
        tossed = mix(mix(blocks.view(np.uint64)) + np.uint64(level)) & np.uint64(1)
    return 2 * blocks + tossed.view(np.int64)


class Sampler:
    """Bounded, even, deterministic sample of sort keys: one row of every n, where n doubles as rows come.

    A hash chooses the one of n: every n-th row would be a bad sample of keys with a period of n rows.
    """

    def __init__(self, keys: Sequence[SortKey]) -> None:
        self._keys = keys
        self._level = 0  # a sampled row stands for 2**level
        self._rows = 0
        self._kept: list[tuple[_I64, pa.RecordBatch]] = []  # numbers of blocks, their rows

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows of a batch to the sample."""
        begin, end, level = self._rows, self._rows + batch.num_rows, self._level
        self._rows = end
        blocks = np.arange(begin >> level, ((end - 1) >> level) + 1)
        rows = _chosen(blocks, level)
        here = (rows >= begin) & (rows < end)
        if here.any():
            picked = pa.array(rows[here] - begin)
            columns = [c.take(picked) for c in _key_columns(batch, self._keys)]
            sample = pa.RecordBatch.from_arrays(columns, names=[f"k{i}" for i in range(len(columns))])
            self._kept.append((blocks[here], sample))
        while sum(s.num_rows for _, s in self._kept) > 2 * _SAMPLES:
            self._thin()

    def _thin(self) -> None:
        self._level += 1
        kept = []
        for blocks, sample in self._kept:
            chosen = np.flatnonzero(_half(blocks >> 1, self._level) == blocks)
            if len(chosen):
                kept.append((blocks[chosen] >> 1, sample.take(pa.array(chosen))))
        self._kept = kept

    def sample(self) -> pa.RecordBatch | None:
        """Return the sampled keys and, last, the weight of each in rows; None without rows."""
        if not self._kept:
            return None
        table = pa.Table.from_batches([s for _, s in self._kept]).combine_chunks()
        batch = table.to_batches()[0]
        weight = pa.array(np.full(batch.num_rows, float(1 << self._level)))
        return pa.RecordBatch.from_arrays([*batch.columns, weight], names=[*batch.schema.names, WEIGHT])


def _codes(columns: Sequence[pa.Array], keys: Sequence[SortKey]) -> npt.NDArray[np.int64]:
    """Return integers that order rows as the keys do, equal for equal keys."""
    codes = np.zeros(len(columns[0]), np.int64)
    for column, key in zip(columns, keys, strict=True):
        if pa.types.is_null(column.type):
            continue
        order = "descending" if key.descending else "ascending"
        placement = "at_start" if key.nulls_first else "at_end"
        rank = pc.rank(_total_order(column), sort_keys=[("", order, placement)], tiebreaker="dense")
        ranks = numpy_values(rank).astype(np.int64)
        # Dense again after each key, so that the product of two ranks never overflows.
        _, codes = np.unique(codes * (int(ranks.max(initial=0)) + 1) + ranks, return_inverse=True)
    return codes


def _total_order(column: pa.Array) -> pa.Array:
    """Return floats as integers in total order, since pyarrow would rank NaN beside nulls."""
    if not pa.types.is_floating(column.type):
        return column
    values = numpy_values(column.cast(pa.float64()).fill_null(0.0)) + 0.0
    values[np.isnan(values)] = np.nan
    bits = values.view(np.int64)
    ordered = np.where(bits < 0, bits ^ np.int64(0x7FFFFFFFFFFFFFFF), bits)
    return pa.array(ordered, mask=null_places(column))


def boundaries(samples: Sequence[pa.RecordBatch], keys: Sequence[SortKey], parts: int) -> pa.RecordBatch:
    """Return rows at which to cut into ranges of about equally many rows.

    Args:
        samples: Samples of the tasks, from `Sampler`.
        keys: Sort keys.
        parts: Number of ranges; fewer result if keys repeat.

    Returns:
        At most `parts - 1` rows of key columns, in order, all different. A row belongs to the range
        after the last boundary that is not greater than it.
    """
    # Branches of a union may name their columns differently.
    some = [rename_columns(s, samples[0].schema) for s in samples if s.num_rows]
    table = pa.Table.from_batches(some).combine_chunks()
    batch = table.to_batches()[0]
    key_batch = batch.select(list(range(len(keys))))
    if parts < 2:
        return key_batch.slice(0, 0)
    codes = _codes(key_batch.columns, keys)
    weights = numpy_values(batch.column(len(keys)))
    order = np.argsort(codes, kind="stable")
    reached = np.cumsum(weights[order])
    wanted = reached[-1] * np.arange(1, parts) / parts
    cuts = order[np.minimum(np.searchsorted(reached, wanted, side="right"), len(order) - 1)]
    _, first = np.unique(codes[cuts], return_index=True)
    cuts = cuts[np.sort(first)]
    cuts = cuts[codes[cuts] > codes.min()]  # a cut at the least key would leave an empty first range
    return key_batch.take(pa.array(cuts))


def place_by_range(batch: pa.RecordBatch, keys: Sequence[SortKey], cuts: pa.RecordBatch) -> Places:
    """Return the rows of each range, in their order."""
    columns = _key_columns(batch, keys)
    chosen = np.zeros(batch.num_rows, np.int64)
    if cuts.num_rows:
        codes, bounds = _coarse(columns[0], keys[0]), _coarse(cuts.column(0), keys[0])
        if codes is None or bounds is None:
            chosen = _ranges(columns, keys, cuts)
        else:
            chosen = np.searchsorted(bounds, codes, side="right")
            # Of rows that may be equal to a boundary in the first key, the whole keys decide.
            rows = np.flatnonzero((chosen > 0) & (bounds[np.maximum(chosen, 1) - 1] == codes))
            if len(rows):
                chosen[rows] = _ranges([c.take(pa.array(rows)) for c in columns], keys, cuts)
    return place(chosen, cuts.num_rows + 1)


def _ranges(columns: Sequence[pa.Array], keys: Sequence[SortKey], cuts: pa.RecordBatch) -> _I64:
    """Return the range of each row by comparison of all keys, for any type."""
    joined = [pa.concat_arrays([cut, column]) for cut, column in zip(cuts.columns, columns, strict=True)]
    codes = _codes(joined, keys)
    return np.searchsorted(codes[: cuts.num_rows], codes[cuts.num_rows :], side="right").astype(np.int64)


def _coarse(column: pa.Array, key: SortKey) -> _I64 | None:
    """Return integers in the order of a key, of which some are equal where the values differ; None: of other types."""
    types, kind = pa.types, column.type
    if types.is_floating(kind):
        codes = numpy_values(_total_order(column))
    elif types.is_decimal128(kind):
        halves = np.frombuffer(column.buffers()[1] or b"", np.int64)[2 * column.offset :][: 2 * len(column)]
        low, high = halves[::2], halves[1::2]
        codes = np.where(high == low >> 63, low, np.where(high < 0, _LEAST, _MOST))
    elif types.is_uint64(kind):
        codes = (numpy_values(column) ^ np.uint64(1 << 63)).view(np.int64)
    elif types.is_integer(kind) or types.is_boolean(kind) or types.is_date(kind) or types.is_time(kind):
        codes = numpy_values(column).astype(np.int64)
    elif types.is_timestamp(kind) or types.is_duration(kind):
        codes = numpy_values(column).view(np.int64)
    else:
        return None
    if key.descending:
        codes = ~codes
    if column.null_count:
        codes = np.where(null_places(column), _LEAST if key.nulls_first else _MOST, codes)
    return codes

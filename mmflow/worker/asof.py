"""Joins of rows with the nearest earlier or later row of another table, over all rows of a partition.

rows of both tables, by (group, time, table, arrival)      x: other table, o: this one
backward    x x o o x o     each o gets the last x before it, in its group
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.fixed_width import null_places, numpy_values
from mmflow.lazy import array_types as npt
from mmflow.lazy import compute as pc

__all__ = ["Asof"]

_I64 = npt.NDArray[np.int64]
#: Numbers of any type.
_Numbers = npt.NDArray[np.generic]
_Distances = npt.NDArray[np.float64] | npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Asof:
    """Function over the batches of both tables, whose rows of one group are in one partition.

    Attributes:
        groups: Columns of the group.
        time: Column that is compared.
        other: Column that says which rows are those of the other table.
        own, others: Columns of the result that come from this table, and from the other one.
        strategy: backward, forward or nearest.
        tolerance: Most difference of the times, in the unit of their values; None: any.
        schema: Schema of the batches.
    """

    groups: tuple[str, ...]
    time: str
    other: str
    own: tuple[str, ...]
    others: tuple[str, ...]
    strategy: str
    tolerance: float | None
    schema: pa.Schema

    def __call__(self, batches: Iterator[pa.RecordBatch], first: int) -> Iterator[pa.RecordBatch]:
        del first
        table = pa.Table.from_batches(list(batches), self.schema).combine_chunks()
        if not table.num_rows:
            return
        other = numpy_values(_whole(table, self.other))
        time = _whole(table, self.time)
        values = numpy_values(time)
        if values.dtype.kind in "mM":
            values = values.view(np.int64)
        codes, known = _codes(table, self.groups)
        usable = known & ~null_places(time)
        if values.dtype.kind == "f":
            usable &= ~np.isnan(values)
        match self.strategy:
            case "nearest":
                before = self._matches(codes, values, other, usable, forward=False)
                after = self._matches(codes, values, other, usable, forward=True)
                nearer = _distance(values, after) <= _distance(values, before)
                matched = np.where((after >= 0) & ((before < 0) | nearer), after, before)
            case strategy:
                matched = self._matches(codes, values, other, usable, forward=strategy == "forward")
        if self.tolerance is not None:
            matched = np.where(_distance(values, matched) <= self.tolerance, matched, -1)
        rows = np.flatnonzero(~other)
        taken = table.select(self.own).take(pa.array(rows))
        found = matched[rows]
        given = table.select(self.others).take(pa.array(found, mask=found < 0))
        columns = [*taken.columns, *given.columns]
        yield from pa.Table.from_arrays(columns, names=[*self.own, *self.others]).to_batches()

    def _matches(
        self,
        codes: _I64,
        values: _Numbers,
        other: npt.NDArray[np.bool_],
        usable: npt.NDArray[np.bool_],
        *,
        forward: bool,
    ) -> _I64:
        """Return for each row the row of the other table that it matches; -1: there is none."""
        # At equal times, rows of the other table stand where those of this one look.
        order = np.lexsort((other if forward else ~other, values, codes))
        if forward:
            order = order[::-1]
        places = np.where((other & usable)[order], np.arange(len(order)), -1)
        last = np.maximum.accumulate(places)
        same = (last >= 0) & (codes[order][last] == codes[order]) & usable[order]
        made = np.empty(len(order), np.int64)
        made[order] = np.where(same, order[last], -1)
        return made


def _whole(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _codes(table: pa.Table, names: Sequence[str]) -> tuple[_I64, npt.NDArray[np.bool_]]:
    """Return a number for each group, and whether no column of it is null."""
    codes, known = np.zeros(table.num_rows, np.int64), np.ones(table.num_rows, np.bool_)
    for name in names:
        column = _whole(table, name)
        encoded = pc.dictionary_encode(column, null_encoding="encode")
        codes = codes * max(1, len(encoded.dictionary)) + numpy_values(encoded.indices)
        codes = np.unique(codes, return_inverse=True)[1]
        known &= ~null_places(column)
    return codes, known


def _distance(values: _Numbers, matched: _I64) -> _Distances:
    """Return the difference of each row to its match; it is undefined where there is none."""
    near = values[np.maximum(matched, 0)]
    least, most = np.minimum(values, near), np.maximum(values, near)
    if values.dtype.kind != "f":  # modulo 2**64, so that it can't overflow
        least, most = least.astype(np.uint64), most.astype(np.uint64)
    found: _Distances = most - least
    return found

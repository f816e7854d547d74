"""Summaries of columns: what SUMMARIZE shows, computed of parts of the rows and merged.

    batches of a task --> ColumnSummary of each column --> one row  --+
    batches of a task --> ...                          --> one row  --+--> merged --> a row for each column

count, min, max, mean and the sum of squared differences are exact (Chan, Golub and LeVeque, 1979, "Updating formulae
and a pairwise algorithm"). Distinct values are counted by the least hashes (Bar-Yossef et al., 2002, "Counting distinct
elements in a data stream"): exactly up to `_HASHES` of them, beyond with a standard error of 1.6%. Quantiles are exact
up to `_DISTINCT` distinct values, beyond those of a t-digest (Dunning and Ertl, 2019).

Invariant: merging the summaries of parts gives that of the whole, but for the rounding of floats and of the digest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.lazy import array_types as npt
from mmflow.lazy import compute as pc
from mmflow.lazy.dataclasses import dataclass
from mmflow.worker.partition import hash_rows

__all__ = ["ColumnSummary", "merge_summaries", "summaries_schema", "summarize_columns"]

_F64 = npt.NDArray[np.float64]
_U64 = npt.NDArray[np.uint64]

_HASHES = 4096
_DISTINCT = 1024
#: Centroids of a digest at most; the middle ones hold 0.16% of the values each.
_CENTROIDS = 1000
#: Values that wait for the next digest: of a column, and of all columns of a task.
_WAITING, _ALL_WAITING = 1 << 16, 1 << 22


def is_number(kind: pa.DataType) -> bool:
    """Return whether columns of a type have a mean and quantiles."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_ordered(kind: pa.DataType) -> bool:
    """Return whether columns of a type have a least and a greatest value, and a number of distinct ones."""
    time = pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_timestamp(kind)
    return bool(is_number(kind) or time or pa.types.is_boolean(kind) or pa.types.is_string(kind))


@dataclass(slots=True)
class _Quantiles:
    """Quantiles of numbers: values with their counts while those are few, else centroids.

    Attributes:
        limit: Number of values that wait to be sorted in.
        values: Distinct values, or means of neighbours, which ascend; NaN is the greatest.
        weights: Number of values that each stands for.
        exact: Whether `values` are the distinct values.
    """

    limit: int = _WAITING
    values: _F64 = field(default_factory=lambda: np.zeros(0))
    weights: _F64 = field(default_factory=lambda: np.zeros(0))
    exact: bool = True
    _waiting: list[_F64] = field(default_factory=list)
    _waits: int = 0

    def add(self, values: _F64) -> None:
        self._waiting.append(values)
        self._waits += len(values)
        if self._waits >= self.limit:
            self.settle()

    def settle(self) -> None:
        """Sort in the values that wait."""
        if self._waits:
            values = np.sort(np.concatenate(self._waiting))
            self._waiting, self._waits = [], 0
            made = _compressed(values, np.ones(len(values)))
            self.merge(*made)

    def merge(self, values: _F64, weights: _F64, exact: bool) -> None:
        order = np.argsort(merged := np.concatenate([self.values, values]), kind="stable")
        joined = np.concatenate([self.weights, weights])[order]
        self.values, self.weights, distinct = _compressed(merged[order], joined)
        self.exact = self.exact and exact and distinct

    def at(self, share: float) -> float | None:
        """Return the value below which a share of the values lies, between its two neighbours."""
        self.settle()
        if not len(self.values):
            return None
        if np.isinf(self.values).any() or np.isnan(self.values).any():
            return float(
                self.values[
                    min(
                        np.searchsorted(np.cumsum(self.weights), share * self.weights.sum()),
                        len(self.values) - 1,
                    )
                ]
            )
        if self.exact:
            ends = np.cumsum(self.weights)
            place = share * (ends[-1] - 1)
            below, above = np.searchsorted(ends, [np.floor(place), np.ceil(place)], side="right")
            part = place - np.floor(place)
            return float(self.values[below] * (1 - part) + self.values[above] * part)
        middles = np.cumsum(self.weights) - self.weights / 2
        return float(np.interp(share * self.weights.sum(), middles, self.values))


def _compressed(values: _F64, weights: _F64) -> tuple[_F64, _F64, bool]:
    """Return the distinct values with their weights, or centroids if those are too many; and whether it is the former.

    Args:
        values: Values, which ascend.
        weights: Weight of each.
    """
    starts = (
        np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
        if len(values)
        else np.zeros(0, int)
    )
    nans = np.count_nonzero(np.isnan(values[-1:])) and np.count_nonzero(np.isnan(values))
    starts = starts[: len(starts) - nans + 1] if nans else starts  # all NaN are one value
    if len(starts) <= _DISTINCT:
        return values[starts], np.add.reduceat(weights, starts) if len(starts) else weights, True
    middles = (np.cumsum(weights) - weights / 2) / weights.sum()
    buckets = np.floor(_CENTROIDS * (np.arcsin(2 * middles - 1) / np.pi + 0.5))
    starts = np.flatnonzero(np.diff(buckets, prepend=-1))
    sums = np.add.reduceat(weights, starts)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.add.reduceat(values * weights, starts) / sums, sums, False


@dataclass(slots=True)
class ColumnSummary:
    """Summary of some values of a column.

    Attributes:
        type: Type of the column, a public one.
        rows: Number of its values, nulls among them.
        present: Number of values that are not null.
        extremes: The least and the greatest value; scalars of `type`.
        mean: Mean of the values.
        squares: Sum of the squared differences from the mean.
        hashes: Least hashes of the values, which ascend.
        quantiles: Quantiles of the values.
    """

    type: pa.DataType
    rows: int = 0
    present: int = 0
    extremes: list[pa.Scalar] = field(default_factory=list)
    mean: float = 0.0
    squares: float = 0.0
    hashes: _U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    quantiles: _Quantiles = field(default_factory=_Quantiles)

    def add(self, array: pa.Array) -> None:
        """Add values."""
        self.rows += len(array)
        if array.null_count:
            array = array.drop_null()
        if not len(array) or not is_ordered(self.type):
            self.present += len(array)
            return
        self._add_hashes(hash_rows([array]))
        if not is_number(self.type):
            self._add_extremes(array)
            self.present += len(array)
            return
        numbers = numpy_values(
            array if pa.types.is_float64(array.type) else array.cast(pa.float64(), safe=False)
        )
        if pa.types.is_floating(self.type) and np.isnan(numbers).any():
            least = np.fmin.reduce(numbers)
            self._add_extremes(pa.array([least, np.nan], pa.float64()).cast(self.type))
        else:
            self._add_extremes(array)
        with np.errstate(all="ignore"):
            mean = float(numbers.mean())
            self._add_moments(len(numbers), mean, float(np.square(numbers - mean).sum()))
        self.quantiles.add(numbers)

    def _add_extremes(self, array: pa.Array) -> None:
        found = pc.min_max(array)
        more = [found["min"], found["max"]]
        if pa.types.is_floating(self.type) and np.isnan(array[-1].as_py()):
            more[1] = array[-1]
            more[0] = more[0] if more[0].is_valid else more[1]
        if self.extremes:
            more = [_best(min, self.extremes[0], more[0]), _best(max, self.extremes[1], more[1])]
        self.extremes = more

    def _add_moments(self, count: int, mean: float, squares: float) -> None:
        total = self.present + count
        difference = mean - self.mean
        with np.errstate(all="ignore"):
            self.squares += squares + difference * difference * self.present * count / total
            # An infinite mean stays so; two opposite ones are NaN.
            self.mean += difference * count / total if np.isfinite(difference) else mean
        self.present = total

    def _add_hashes(self, hashes: _U64) -> None:
        if len(self.hashes) >= _HASHES:
            hashes = hashes[hashes < self.hashes[-1]]
        found = numpy_values(pc.unique(pa.array(hashes)))
        self.hashes = np.unique(np.concatenate([self.hashes, found]))[:_HASHES]

    def merge(self, other: ColumnSummary) -> None:
        """Add the values of another summary of the column."""
        self.rows += other.rows
        if not is_ordered(self.type) or not other.present:
            self.present += other.present
            return
        self._add_hashes(other.hashes)
        if other.extremes:
            mine = self.extremes or other.extremes
            self.extremes = [_best(min, mine[0], other.extremes[0]), _best(max, mine[1], other.extremes[1])]
        if is_number(self.type):
            self._add_moments(other.present, other.mean, other.squares)
            self.quantiles.merge(other.quantiles.values, other.quantiles.weights, other.quantiles.exact)
        else:
            self.present += other.present

    @property
    def distinct(self) -> int:
        """Number of distinct values, estimated beyond 4,096."""
        if len(self.hashes) < _HASHES:
            return len(self.hashes)
        return round((_HASHES - 1) * 2.0**64 / float(self.hashes[-1]))

    @property
    def deviation(self) -> float | None:
        """Standard deviation of a sample; None: there are less than two values."""
        return float(np.sqrt(self.squares / (self.present - 1))) if self.present > 1 else None

    def to_arrays(self) -> list[pa.Array]:
        """Return the summary as columns of one row, of `_fields`."""
        self.quantiles.settle()
        least, greatest = self.extremes or [pa.scalar(None, self.type)] * 2
        listed = [
            pa.array([array.tolist()], pa.list_(kind))
            for array, kind in (
                (self.hashes.view(np.int64), pa.int64()),
                (self.quantiles.values, pa.float64()),
                (self.quantiles.weights, pa.float64()),
            )
        ]
        made = [pa.array([self.rows]), pa.array([self.present])]
        if is_ordered(self.type):
            made += [pa.array([least], self.type), pa.array([greatest], self.type), listed[0]]
        if is_number(self.type):
            made += [
                pa.array([self.mean]),
                pa.array([self.squares]),
                *listed[1:],
                pa.array([self.quantiles.exact]),
            ]
        return made

    @classmethod
    def from_row(cls, kind: pa.DataType, row: Sequence[pa.Scalar]) -> ColumnSummary:
        """Return the summary of a row of `to_arrays`."""
        made = cls(kind, row[0].as_py(), row[1].as_py())
        if is_ordered(kind):
            made.extremes = [row[2], row[3]] if row[2].is_valid else []
            made.hashes = numpy_values(row[4].values).view(np.uint64)
        if is_number(kind):
            made.mean, made.squares = row[5].as_py(), row[6].as_py()
            values, weights = numpy_values(row[7].values), numpy_values(row[8].values)
            made.quantiles = _Quantiles(values=values, weights=weights, exact=row[9].as_py())
        return made


def _best(choose: Any, left: pa.Scalar, right: pa.Scalar) -> pa.Scalar:
    """Return the lesser or the greater scalar. NaN is the greatest."""

    def key(scalar: pa.Scalar) -> Any:
        value = scalar.value if pa.types.is_temporal(scalar.type) else scalar.as_py()
        # Text is ordered by its bytes.
        if isinstance(value, str):
            return value.encode(errors="surrogatepass")
        return (value != value, 0.0 if value != value else value)

    return choose(left, right, key=key)


def _fields(number: int, kind: pa.DataType) -> list[pa.Field]:
    fields = {"rows": pa.int64(), "present": pa.int64()}
    if is_ordered(kind):
        fields |= {"min": kind, "max": kind, "hashes": pa.list_(pa.int64())}
    if is_number(kind):
        fields |= {"mean": pa.float64(), "squares": pa.float64()}
        fields |= {"values": pa.list_(pa.float64()), "weights": pa.list_(pa.float64()), "exact": pa.bool_()}
    return [pa.field(f"{name}_{number}", found) for name, found in fields.items()]


def summaries_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of `summarize_columns` of rows of a schema, of public types."""
    return pa.schema([f for number, column in enumerate(schema) for f in _fields(number, column.type)])


def summarize_columns(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], first: int
) -> Iterator[pa.RecordBatch]:
    """Make one row of summaries of all columns."""
    del first
    limit = max(1 << 12, min(_WAITING, _ALL_WAITING // max(1, len(schema))))
    found = [ColumnSummary(column.type, quantiles=_Quantiles(limit)) for column in schema]
    for batch in batches:
        for summary, array in zip(found, batch.columns, strict=True):
            summary.add(array)
    arrays = [array for summary in found for array in summary.to_arrays()]
    yield pa.RecordBatch.from_arrays(arrays, schema=summaries_schema(schema))


#: Columns of the rows that `merge_summaries` makes, which are those of DuckDB's SUMMARIZE.
SUMMARY = pa.schema(
    {
        "column_name": pa.string(), "column_type": pa.string(), "min": pa.string(), "max": pa.string(),
        "approx_unique": pa.int64(), "avg": pa.float64(), "std": pa.float64(), "q25": pa.float64(),
        "q50": pa.float64(), "q75": pa.float64(), "count": pa.int64(), "null_percentage": pa.float64(),
    }
)  # fmt: skip


def merge_summaries(
    schema: pa.Schema, types: Sequence[str], batches: Iterator[pa.RecordBatch], first: int
) -> Iterator[pa.RecordBatch]:
    """Make a row for each column of all rows of `summarize_columns`.

    Args:
        schema: Schema of the rows that were summarized.
        types: Names of its types.
        batches: Rows of summaries.
        first: Number of the first row.
    """
    del first
    found = [ColumnSummary(column.type) for column in schema]
    for batch in batches:
        for place in range(batch.num_rows):
            row = iter([column[place] for column in batch.columns])
            for number, summary in enumerate(found):
                fields = _fields(number, summary.type)
                summary.merge(ColumnSummary.from_row(summary.type, [next(row) for _ in fields]))
    rows = [
        _shown(column.name, kind, summary) for column, kind, summary in zip(schema, types, found, strict=True)
    ]
    yield pa.RecordBatch.from_pylist(rows, SUMMARY)


def _shown(name: str, kind: str, summary: ColumnSummary) -> dict[str, Any]:
    nulls = summary.rows - summary.present
    row: dict[str, Any] = {
        "column_name": name,
        "column_type": kind,
        "count": summary.rows,
        "null_percentage": round(100 * nulls / summary.rows, 2) if summary.rows else None,
    }
    if is_ordered(summary.type):
        least, greatest = (_text(e) for e in summary.extremes) if summary.extremes else (None, None)
        row |= {"min": least, "max": greatest, "approx_unique": summary.distinct}
    if is_number(summary.type) and summary.present:
        shares = {"q25": 0.25, "q50": 0.5, "q75": 0.75}
        row |= {n: summary.quantiles.at(share) for n, share in shares.items()}
        row |= {"avg": summary.mean, "std": summary.deviation}
    return row


def _text(scalar: pa.Scalar) -> str:
    """Return a value as text, as DuckDB's cast does."""
    kind, value = scalar.type, scalar.as_py() if not pa.types.is_temporal(scalar.type) else None
    if pa.types.is_temporal(kind):
        text = str(pa.array([scalar], kind).cast(pa.string())[0].as_py())
        head, dot, tail = text.partition(".")
        digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
        fraction = digits.rstrip("0")
        return head + (dot + fraction if fraction else "") + tail[len(digits) :]
    if pa.types.is_boolean(kind):
        return str(value).lower()
    if pa.types.is_decimal(kind):
        return format(value, "f")
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        return str(np.float32(value))
    return str(value)

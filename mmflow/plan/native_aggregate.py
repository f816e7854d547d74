"""Aggregations that the native aggregator computes: their measures, and the types of their states and results.

    rows --> AggregateStep("partial") --> keys, states --> exchange --> AggregateStep("final") --> keys, results

A state holds all that a function needs of the rows so far, so states may be merged in any order. That of a sum of
floats is the exact sum (`kernels/aggregate/exact_sum.h`): its result is rounded once, correctly, and has the same bits
however the rows were cut. Types of results are DataFusion's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pyarrow as pa
import pyarrow.types as types

from mmflow.lazy.dataclasses import dataclass

__all__ = [
    "FUNCTIONS",
    "MOMENTS",
    "SUMS",
    "AggregateStep",
    "Measure",
    "distinct_states",
    "is_known",
    "result_type",
    "state_type",
]

#: Functions by their number in the kernel.
FUNCTIONS = (
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "bit_and",
    "bit_or",
    "bit_xor",
    "var",
    "var_pop",
    "stddev",
    "stddev_pop",
)
#: Functions that add up their argument.
SUMS = frozenset({"sum", "avg"})
#: Functions of the sums of floats and of their squares.
MOMENTS = frozenset({"var", "var_pop", "stddev", "stddev_pop"})


@dataclass(frozen=True, slots=True)
class Measure:
    """Function of an aggregation.

    Attributes:
        function: One of `FUNCTIONS`.
        column: Column of its argument; None: rows are counted.
        filter: Boolean column that is true for the rows that count; None: all do.
    """

    function: str
    column: int | None = None
    filter: int | None = None

    @property
    def state(self) -> tuple[str, int | None, int | None]:
        """Key of its state. Measures of one key share their state."""
        shared = "var" if self.function in MOMENTS else "sum" if self.function in SUMS else self.function
        return (shared, self.column, self.filter)


@dataclass(frozen=True, slots=True)
class AggregateStep:
    """Aggregation by the native aggregator.

    Attributes:
        keys: Columns of the rows by which they are grouped; none: all rows are one group.
        measures: Measures.
        phase: partial: rows to states, of any part of the rows (memory is bounded: a group may come several times);
            final: states to results; whole: rows to results.
        rows: Names and types of the rows.
        states: Names and types of keys and distinct states.
        results: Names and types of keys and measures.
        total: Last key of a group that is there whatever the rows, whose other keys are null; None: there is none.
    """

    keys: tuple[int, ...]
    measures: tuple[Measure, ...]
    phase: Literal["partial", "final", "whole"]
    rows: pa.Schema
    states: pa.Schema
    results: pa.Schema
    total: int | None = None

    @property
    def schema(self) -> pa.Schema:
        """Names and types of what the step gives."""
        return self.states if self.phase == "partial" else self.results

    def named(self, schema: pa.Schema) -> AggregateStep:
        """Return the step with the names of a schema for the columns that it gives, whose types are the same."""
        return replace(self, states=schema) if self.phase == "partial" else replace(self, results=schema)

    @property
    def streaming(self) -> bool:
        """True if its output for parts of its input, one after the other, is a right output."""
        return self.phase == "partial"

    @property
    def sums_floats(self) -> bool:
        """True if it adds up floats, exactly."""
        return any(
            m.function in SUMS | MOMENTS
            and m.column is not None
            and types.is_floating(self.rows.field(m.column).type)
            for m in self.measures
        )


def is_known(kind: pa.DataType) -> bool:
    """Return whether the aggregator knows a type, as that of a key, of min and max."""
    return (
        types.is_boolean(kind)
        or types.is_integer(kind)
        or types.is_float32(kind)
        or types.is_float64(kind)
        or types.is_decimal128(kind)
        or types.is_date(kind)
        or types.is_time(kind)
        or types.is_timestamp(kind)
        or types.is_duration(kind)
        or _is_text(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            types.is_string,
            types.is_large_string,
            types.is_string_view,
            types.is_binary,
            types.is_large_binary,
            types.is_binary_view,
        )
    )


def result_type(function: str, kind: pa.DataType | None) -> pa.DataType | None:
    """Return the type of a function of a column of `kind`, as in DataFusion; None: it is not known."""
    if function == "count":
        return pa.int64()
    if kind is None or not is_known(kind):
        return None
    if function in ("min", "max"):
        return kind
    if function in ("bool_and", "bool_or"):
        return kind if types.is_boolean(kind) else None
    if function in ("bit_and", "bit_or", "bit_xor"):
        return kind if types.is_integer(kind) else None
    if function in MOMENTS:
        return kind if types.is_float64(kind) else None
    if types.is_duration(kind):
        return kind
    mean = function == "avg"
    if types.is_decimal(kind):
        more = 4 if mean else 10
        return pa.decimal128(min(38, kind.precision + more), min(38, kind.scale + 4) if mean else kind.scale)
    if types.is_floating(kind) or (mean and types.is_integer(kind)):
        return pa.float64()
    if types.is_integer(kind):
        return pa.int64() if types.is_signed_integer(kind) else pa.uint64()
    return None


def state_type(function: str, kind: pa.DataType | None) -> pa.DataType:
    """Return the type of the state of a function of a column of `kind`."""
    if function == "count" or kind is None:
        return pa.int64()
    if function in MOMENTS:
        return pa.binary()
    if function in SUMS:
        return pa.binary() if types.is_floating(kind) else pa.binary(32)
    return kind


def distinct_states(measures: tuple[Measure, ...]) -> list[Measure]:
    """Return the first measure of each distinct state, in the order of the states."""
    first: dict[tuple[str, int | None, int | None], Measure] = {}
    for measure in measures:
        first.setdefault(measure.state, measure)
    return list(first.values())

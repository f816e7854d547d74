"""Aggregates that DataFusion computes wrongly, as others that it computes rightly, and their values from those.

A sum of 64-bit integers is two sums, of their upper and their lower 32 bits, which no 2^31 rows of a task overflow:

    sum(x)  ->  sum(x >> 32) AS h, sum(x & 4294967295) AS l  ->  checked(decimal(h) * 4294967296 + decimal(l))

That costs 2 ns a row; a sum of decimals would cost 16. Partial sums are merged as decimals (`aggregates.py`). Durations
are summed as integers, decimals of more than 28 digits as decimal256. The min and max of groups of floats are those of
integers in their order (`plan/functions/float_codes.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from substrait.algebra_pb2 import AggregateFunction, AggregateRel, Expression, Rel

from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.errors import RefusedError
from mmflow.plan.functions.float_codes import FloatCode
from mmflow.plan.rewrites.checked_arithmetic import MOST_SUM_DIGITS, WIDE, cast, is_narrow, restore_sum_type
from mmflow.plan.rewrites.decimal_ranges import DecimalRanges
from mmflow.plan.rewrites.expression_types import kind_of
from mmflow.plan.stages import Function
from mmflow.plan.substrait import RelationBuilder, field, int_literal

__all__ = ["Measures"]

_LOWER = 1 << 32
_Column = tuple[Expression, pa.DataType]


@dataclass(frozen=True, slots=True)
class _Restored:
    """Recipe of one measure from the columns that replace it.

    Attributes:
        sums: Numbers of those columns that are sums of integers, to be merged wide.
        value: Returns the measure from the columns.
    """

    sums: tuple[bool, ...]
    value: Callable[[list[_Column]], Expression]


class Measures:
    """Aggregation that DataFusion computes rightly, and the expressions of the query's measures over it.

    Args:
        rel: The aggregation of the query.
        schema: Its input's columns.
        rels: Function space of the query.
        use: Declares a function to the query and its workers, and returns its anchor.
        ranges: Largest values of expressions over its input.

    Attributes:
        rel: The aggregation to run.
        changed: Some measures are computed from other columns.
    """

    def __init__(
        self,
        rel: Rel,
        schema: pa.Schema,
        rels: RelationBuilder,
        use: Callable[[Function], int],
        ranges: DecimalRanges,
    ) -> None:
        self._rels = rels
        self._ranges = ranges
        self._use = use
        self._keys = len(rel.aggregate.grouping_expressions)
        self._restored: list[_Restored] = []
        self.changed = False
        names = rels.names
        self.rel = Rel()
        self.rel.CopyFrom(rel)
        del self.rel.aggregate.measures[:]
        for measure in rel.aggregate.measures:
            made = self._stand_in(measure, names.get(measure.measure.function_reference, ""), schema)
            self.changed |= made is not None
            if made is None:
                self.rel.aggregate.measures.append(measure)
            self._restored.append(made or _Restored((False,), lambda columns: columns[0][0]))

    def _stand_in(self, measure: AggregateRel.Measure, name: str, schema: pa.Schema) -> _Restored | None:
        """Add the columns that replace a measure; return None if the measure stays."""
        if name not in ("sum", "avg", "min", "max") or not measure.measure.arguments:
            return None
        argument = measure.measure.arguments[0].value
        kind = kind_of(argument, schema)
        if kind is None:
            return None
        if name in ("min", "max"):
            return (
                self._extreme(measure, argument, kind) if pa.types.is_floating(kind) and self._keys else None
            )
        if kind == pa.month_day_nano_interval():
            raise RefusedError(
                f"{name} of intervals may overflow unseen: subtract timestamps, or cast to a duration"
            )
        if pa.types.is_duration(kind):
            return self._sum(
                measure, cast(argument, pa.int64(), self._rels), kind, schema, mean=name == "avg"
            )
        if name == "sum" and (pa.types.is_integer(kind) or pa.types.is_decimal128(kind)):
            return self._sum(measure, argument, kind, schema)
        return None

    def _extreme(self, measure: AggregateRel.Measure, argument: Expression, kind: pa.DataType) -> _Restored:
        double, code = pa.float64(), Expression()
        code.scalar_function.function_reference = self._use(FloatCode(back=False))
        wide = argument if kind == double else cast(argument, double, self._rels)
        code.scalar_function.arguments.add().value.CopyFrom(wide)
        code.scalar_function.output_type.CopyFrom(self._rels.types_of([pa.int64()])[0])
        self._add(measure, None, code)

        def value(columns: list[_Column]) -> Expression:
            made = Expression()
            made.scalar_function.function_reference = self._use(FloatCode(back=True))
            made.scalar_function.arguments.add().value.CopyFrom(columns[0][0])
            made.scalar_function.output_type.CopyFrom(self._rels.types_of([double])[0])
            return made if kind == double else cast(made, kind, self._rels)

        return _Restored((False,), value)

    def _sum(
        self,
        measure: AggregateRel.Measure,
        argument: Expression,
        kind: pa.DataType,
        schema: pa.Schema,
        *,
        mean: bool = False,
    ) -> _Restored | None:
        distinct = measure.measure.invocation == AggregateFunction.AGGREGATION_INVOCATION_DISTINCT
        if pa.types.is_decimal(kind):
            if kind.precision <= MOST_SUM_DIGITS or self._has_few_digits(argument, kind.scale):
                return None
            parts = [cast(argument, pa.decimal256(76, kind.scale), self._rels)]
        elif distinct:
            parts = [cast(argument, WIDE, self._rels)]
        elif is_narrow(argument, schema):
            parts = [argument]
        else:
            parts = self._halves(argument, unsigned=pa.types.is_unsigned_integer(kind))
        for part in parts:
            self._add(measure, "sum", part)
        if mean:
            self._add(measure, "count", argument)

        def value(columns: list[_Column]) -> Expression:
            total = self._total(columns[: len(parts)])
            if mean:
                total = self._quotient(total, columns[-1][0])
            return restore_sum_type(total, kind, self._rels, self._use)

        return _Restored((True,) * len(parts) + (False,) * mean, value)

    def _has_few_digits(self, argument: Expression, scale: int) -> bool:
        """Return whether all values of a decimal have so few digits that their sum does not wrap."""
        largest = self._ranges.largest(argument)
        return largest is not None and largest * 10**scale < 10**MOST_SUM_DIGITS

    def _add(self, measure: AggregateRel.Measure, name: str | None, argument: Expression) -> None:
        made = self.rel.aggregate.measures.add()
        made.CopyFrom(measure)
        if name is not None:
            made.measure.function_reference = self._rels.anchors[name]
        made.measure.arguments[0].value.CopyFrom(argument)
        made.measure.ClearField("output_type")

    def _halves(self, argument: Expression, *, unsigned: bool) -> list[Expression]:
        type_ = self._rels.types_of([pa.uint64() if unsigned else pa.int64()])[0]

        def constant(value: int) -> Expression:
            made = int_literal(value)
            made.literal.type_variation_reference = 1 if unsigned else 0
            return made

        return [
            self._rels.call("bitwise_shift_right", argument, constant(32), returns=type_),
            self._rels.call("bitwise_and", argument, constant(_LOWER - 1), returns=type_),
        ]

    def _total(self, columns: list[_Column]) -> Expression:
        wide = [c if pa.types.is_decimal(t) else cast(c, WIDE, self._rels) for c, t in columns]
        if len(wide) == 1:
            return wide[0]
        type_ = self._rels.types_of([WIDE])[0]
        upper = self._rels.call(
            "multiply", wide[0], cast(int_literal(_LOWER), WIDE, self._rels), returns=type_
        )
        return self._rels.call("add", upper, wide[1], returns=type_)

    def _quotient(self, total: Expression, count: Expression) -> Expression:
        """Divide towards zero, as DataFusion's avg of durations does: decimals round, so the remainder goes first."""
        digits = pa.decimal128(20, 0)
        number = self._rels.call(
            "nullif", cast(count, digits, self._rels), cast(int_literal(0), digits, self._rels)
        )
        exact = self._rels.call("subtract", total, self._rels.call("modulus", total, number))
        return cast(self._rels.call("divide", exact, number), WIDE, self._rels)

    def declared(self, schema: pa.Schema) -> pa.Schema:
        """Return the types of the merged aggregation: those in `schema`, except that sums of integers are wide."""
        sums = [s for one in self._restored for s in one.sums]
        fields = list(schema)
        for column, is_sum in enumerate(sums, len(fields) - len(sums)):
            if is_sum and pa.types.is_integer(fields[column].type):
                fields[column] = fields[column].with_type(WIDE)
        return pa.schema(fields)

    def restored(self, types: list[pa.DataType]) -> list[Expression]:
        """Return the expressions of the query's keys and measures over columns of `types`."""
        # Between keys and measures, DataFusion puts a column of its own where there are several grouping sets.
        at = len(types) - sum(len(one.sums) for one in self._restored)
        made = [field(i) for i in range(at)]
        for one in self._restored:
            end = at + len(one.sums)
            made.append(one.value([(field(i), types[i]) for i in range(at, end)]))
            at = end
        return made

"""One order of floats: all NaN are equal and above +inf, and -0 = 0.

DataFusion 55 orders floats by their bits (IEEE 754's totalOrder): a NaN with the sign bit, which x86 gives for 0.0 / 0,
is below -inf, and two NaN are equal only where their bits are. Its comparisons take -0 for 0; its CASE x WHEN, long IN
lists, nullif, DISTINCT in aggregates, windows, min, max and sorts do not. So floats that are compared are first made to
have one NaN, and keys one zero, too:

    nanvl(x, NaN)          where a comparison is; 0.5 ns a row
    nanvl(x + 0.0, NaN)    keys of sorts, groups, joins, windows

Values that merely pass through keep their bits. Columns of a text source hold one NaN only (`Pipeline.one_nan`), and
need none of this in comparisons.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import pyarrow as pa
from substrait.algebra_pb2 import Expression

from mmflow.plan.functions.nested_floats import NestedFloats, holds_floats
from mmflow.plan.rewrites.expression_types import kind_of
from mmflow.plan.stages import Function
from mmflow.plan.substrait import RelationBuilder, field, field_index

__all__ = ["FloatOrder"]

_COMPARISONS = frozenset(
    {"equal", "not_equal", "lt", "lte", "gt", "gte", "is_distinct_from", "is_not_distinct_from"}
)
_EQUALITIES = frozenset({"equal", "not_equal", "is_distinct_from", "is_not_distinct_from"})
#: Scalar functions that compare their arguments.
_COMPARING = frozenset({"nullif", "greatest", "least"})
#: Aggregates that don't compare their arguments.
_ADDING = frozenset(
    [
        "sum",
        "avg",
        "count",
        "first_value",
        "last_value",
        "nth_value",
        "array_agg",
        "stddev",
        "stddev_pop",
        "var_samp",
        "var_pop",
        "var_sample",
        "corr",
        "covar_samp",
        "covar_pop",
        "string_agg",
        "bit_and",
        "bit_or",
        "bit_xor",
        "bool_and",
        "bool_or",
        "grouping",
        "row_number",
        "rank",
        "dense_rank",
        "percent_rank",
        "cume_dist",
        "ntile",
        "lag",
        "lead",
        "regr_slope",
        "regr_intercept",
        "regr_count",
        "regr_r2",
        "regr_avgx",
        "regr_avgy",
        "regr_sxx",
        "regr_syy",
        "regr_sxy",
    ]
)
_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8 << 48))[0]


class FloatOrder:
    """Rewriter that makes floats comparable in expressions over columns of one relation.

    Args:
        rels: Function space of the query.
        schema: Columns.
        one_nan: Columns that hold one kind of NaN only.
        use: Declares a function to the query and its workers, and returns its anchor.
    """

    def __init__(
        self,
        rels: RelationBuilder,
        schema: pa.Schema,
        one_nan: frozenset[int],
        use: Callable[[Function], int],
    ) -> None:
        self._rels = rels
        self._use = use
        self._names = rels.names
        self.schema = schema
        self._one_nan = one_nan

    def adds(self, name: str) -> bool:
        """Return whether an aggregate or window function does not depend on the order of its arguments."""
        return name in _ADDING

    def compare(self, e: Expression, *, join: bool = False) -> None:
        """Rewrite the comparison in one expression in place, after those in it.

        Args:
            join: Its equalities are keys of a join.
        """
        match e.WhichOneof("rex_type"):
            case "literal":
                _one_nan_literal(e.literal)
            case "scalar_function":
                name = self._names.get(e.scalar_function.function_reference, "")
                operands = [a.value for a in e.scalar_function.arguments]
                if name in _COMPARING:
                    for operand in operands:
                        operand.CopyFrom(self.key(operand))
                elif name in _COMPARISONS:
                    self._operands(operands, equality=name in _EQUALITIES, join=join)
            case "singular_or_list":
                self._list(e.singular_or_list)
            case "if_then":
                first = e.if_then.ifs[0]
                if not first.HasField("then") and self._is_float(getattr(first, "if")):
                    # CASE x WHEN: DataFusion's Substrait has x as a condition without a result.
                    for clause in e.if_then.ifs:
                        compared = getattr(clause, "if")
                        compared.CopyFrom(self.key(compared))

    def _operands(self, operands: list[Expression], *, equality: bool, join: bool) -> None:
        literals = [o for o in operands if o.WhichOneof("rex_type") == "literal"]
        if equality and literals and not any(_is_nan(o) for o in literals):
            return  # no NaN equals them, whatever its bits
        for operand in operands:
            operand.CopyFrom(self.key(operand) if join else self.comparable(operand))

    def _list(self, listed: Expression.SingularOrList) -> None:
        if not self._is_float(listed.value):
            return
        for option in listed.options:
            option.CopyFrom(self.key(option))
        plain = all(
            o.WhichOneof("rex_type") == "literal" and not _has_equal_literals(o) for o in listed.options
        )
        if not plain:
            listed.value.CopyFrom(self.key(listed.value))

    def _is_float(self, e: Expression) -> bool:
        kind = kind_of(e, self.schema)
        return kind is not None and pa.types.is_floating(kind)

    def comparable(self, e: Expression) -> Expression:
        """Return the expression with one kind of NaN, itself if it is no float or has only one kind."""
        if not self._is_float(e):
            return self._nested(e)
        return e if self.has_one_nan(e) else self._call("nanvl", e, self._constant(_NAN, e))

    def key(self, e: Expression, *, last: bool = False) -> Expression:
        """Return the expression with one kind of NaN and of zero.

        Args:
            last: It is the last key of a sort, by which -0 may come before 0.
        """
        if not self._is_float(e):
            return self._nested(e)
        if e.WhichOneof("rex_type") == "literal":
            made = Expression()
            made.CopyFrom(e)
            _one_zero_literal(made.literal)
            return made
        if self._is_key(e) or (last and self.has_one_nan(e)):
            return e
        one_zero = self._call("add", e, self._constant(0.0, e))
        return one_zero if self.has_one_nan(e) else self._call("nanvl", one_zero, self._constant(_NAN, e))

    def _nested(self, e: Expression) -> Expression:
        """Return a column of lists or structs with one kind of NaN and of zero in them, and others unchanged."""
        index = field_index(e)
        if index is None or not holds_floats(self.schema.field(index).type):
            return e
        made = Expression()
        made.scalar_function.function_reference = self._use(NestedFloats(self.schema.field(index).type))
        made.scalar_function.arguments.add().value.CopyFrom(e)
        made.scalar_function.output_type.CopyFrom(self._rels.types_of([self.schema.field(index).type])[0])
        return made

    def keys(self) -> list[Expression] | None:
        """Return all columns with one kind of NaN and of zero; None where no column is of floats."""
        columns = [field(i) for i in range(len(self.schema))]
        keys = [self.key(c) for c in columns]
        return keys if keys != columns else None

    def has_one_nan(self, e: Expression) -> bool:
        """Return whether all NaN values of an expression are the same."""
        match e.WhichOneof("rex_type"):
            case "literal":
                return True
            case "selection":
                return field_index(e) in self._one_nan
            case "cast":
                kind = kind_of(e.cast.input, self.schema)
                if kind is not None and not pa.types.is_floating(kind):
                    return True  # of whole numbers and decimals, which have none
                return kind is not None and self.has_one_nan(e.cast.input)
            case "scalar_function":
                name = self._names.get(e.scalar_function.function_reference, "")
                arguments = [a.value for a in e.scalar_function.arguments]
                if name == "nanvl":
                    return _is_nan(arguments[1])
                # x + 0.0 keeps the NaN that x is
                return name == "add" and _is_zero(arguments[1]) and self.has_one_nan(arguments[0])
        return False

    def _is_key(self, e: Expression) -> bool:
        """Return whether an expression is a result of `key`."""
        if e.WhichOneof("rex_type") != "scalar_function":
            return False
        name = self._names.get(e.scalar_function.function_reference, "")
        arguments = [a.value for a in e.scalar_function.arguments]
        if name == "nanvl":
            return _is_nan(arguments[1]) and (
                self._is_key(arguments[0]) or _adds_zero(arguments[0], self._names)
            )
        return _adds_zero(e, self._names) and self.has_one_nan(e)

    def _call(self, name: str, *arguments: Expression) -> Expression:
        kind = kind_of(arguments[0], self.schema)
        return self._rels.call(name, *arguments, returns=self._rels.types_of([kind])[0])

    def _constant(self, value: float, like: Expression) -> Expression:
        made = Expression()
        kind = kind_of(like, self.schema)
        if kind == pa.float32():
            made.literal.fp32 = value
            return made
        made.literal.fp64 = value
        if kind == pa.float64():
            return made
        half = Expression()
        half.cast.input.CopyFrom(made)
        half.cast.type.CopyFrom(self._rels.types_of([kind])[0])
        half.cast.failure_behavior = Expression.Cast.FAILURE_BEHAVIOR_THROW_EXCEPTION
        return half


def _value(e: Expression) -> float | None:
    while e.WhichOneof("rex_type") == "cast":
        e = e.cast.input
    name = e.literal.WhichOneof("literal_type") if e.WhichOneof("rex_type") == "literal" else None
    return float(getattr(e.literal, name)) if name in ("fp32", "fp64") else None


def _is_nan(e: Expression) -> bool:
    value = _value(e)
    return value is not None and math.isnan(value)


def _is_zero(e: Expression) -> bool:
    value = _value(e)
    return value == 0 and math.copysign(1, value) > 0


def _has_equal_literals(e: Expression) -> bool:
    """Return whether a literal has equals with other bits, or may have (nested types)."""
    value = _value(e)
    return value is None or value == 0 or math.isnan(value)


def _adds_zero(e: Expression, names: dict[int, str]) -> bool:
    if e.WhichOneof("rex_type") != "scalar_function":
        return False
    function = e.scalar_function
    return names.get(function.function_reference) == "add" and _is_zero(function.arguments[1].value)


def _one_nan_literal(literal: Expression.Literal) -> None:
    name = literal.WhichOneof("literal_type")
    if name in ("fp32", "fp64") and math.isnan(getattr(literal, name)):
        setattr(literal, name, _NAN)


def _one_zero_literal(literal: Expression.Literal) -> None:
    name = literal.WhichOneof("literal_type")
    if name in ("fp32", "fp64") and getattr(literal, name) == 0:
        setattr(literal, name, 0.0)

"""Largest values of decimal expressions, by the statistics of the files that they read.

DataFusion 55 types `price * (1 - discount) * (1 + tax)` as a decimal of 38 digits, whose sum might wrap, though the
values of a file have far fewer. A sum of what has at most `MOST_SUM_DIGITS` digits needs no wider type.

Invariant: no value of an expression is larger than what is returned for it; None: nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from substrait.algebra_pb2 import Expression, Rel

from mmflow.plan.substrait import (
    ONE_SIDED,
    TWO_SIDED,
    field_index,
    inputs_of,
    join_type,
    kind,
    table_name,
    width_of_relation,
)

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = ["DecimalRanges"]

_INTEGERS = frozenset({"i8", "i16", "i32", "i64"})


class DecimalRanges:
    """Largest absolute values of expressions over a relation.

    Args:
        rel: The relation.
        names: Function names by anchor.
        tables: Largest absolute values of the columns of its tables, by name; None: not known.
    """

    def __init__(
        self, rel: Rel, names: Mapping[int, str], tables: Mapping[str, Sequence[Fraction | None]]
    ) -> None:
        self._rel = rel
        self._names = names
        self._tables = tables

    def largest(self, e: Expression) -> Fraction | None:
        """Return an upper bound of the absolute values of an expression."""
        return self._largest(e, self._rel) if self._tables else None

    def _largest(self, e: Expression, rel: Rel) -> Fraction | None:
        match e.WhichOneof("rex_type"):
            case "selection":
                index = field_index(e)
                return None if index is None else self._column(index, rel)
            case "literal":
                return _literal(e.literal)
            case "cast":
                return self._cast(e, rel)
            case "if_then":
                parts = [i.then for i in e.if_then.ifs] + [getattr(e.if_then, "else")]
                values = [self._largest(part, rel) for part in parts]
                known = [v for v in values if v is not None]
                return max(known) if len(known) == len(values) else None
            case "scalar_function":
                return self._call(e.scalar_function, rel)
        return None

    def _cast(self, e: Expression, rel: Rel) -> Fraction | None:
        if e.cast.type.WhichOneof("kind") != "decimal":
            return None
        inner = self._largest(e.cast.input, rel)
        return None if inner is None else inner + _unit(e.cast.type.decimal.scale)

    def _call(self, call: Expression.ScalarFunction, rel: Rel) -> Fraction | None:
        name = self._names.get(call.function_reference)
        if name not in ("add", "subtract", "multiply"):
            return None
        one, other = (self._largest(a.value, rel) for a in call.arguments)
        if one is None or other is None:
            return None
        # A product may be rounded to fewer places than its factors have together.
        return one * other + 1 if name == "multiply" else one + other

    def _column(self, index: int, rel: Rel) -> Fraction | None:
        """Return the bound of a column of a relation."""
        name = kind(rel)
        body = getattr(rel, name)
        mapping = body.common.emit.output_mapping if body.common.HasField("emit") else None
        if mapping is not None:
            index = mapping[index]
        match name:
            case "read":
                known = self._tables.get(table_name(rel) or "")
                return None if known is None or body.HasField("projection") else known[index]
            case "filter" | "sort" | "fetch":
                return self._column(index, body.input)
            case "project":
                width = width_of_relation(body.input)
                if width is None:
                    return None
                if index < width:
                    return self._column(index, body.input)
                return self._largest(body.expressions[index - width], body.input)
            case "join" | "cross":
                return self._joined(index, rel)
        return None

    def _joined(self, index: int, rel: Rel) -> Fraction | None:
        left, right = inputs_of(rel)
        how = join_type(rel)
        if how in ONE_SIDED:
            return self._column(index, (left, right)[ONE_SIDED[how]])
        width = width_of_relation(left)
        if how not in TWO_SIDED or width is None:
            return None
        return self._column(index, left) if index < width else self._column(index - width, right)


def _unit(scale: int) -> Fraction:
    from fractions import Fraction  # noqa: PLC0415  (slow: only Parquet needs it)

    return Fraction(1, 10**scale)


def _literal(literal: Expression.Literal) -> Fraction | None:
    from fractions import Fraction  # noqa: PLC0415  (slow: only Parquet needs it)

    name = str(literal.WhichOneof("literal_type"))
    if name == "decimal":
        unscaled = int.from_bytes(literal.decimal.value, "little", signed=True)
        return abs(unscaled) * _unit(literal.decimal.scale)
    if name in _INTEGERS and not literal.type_variation_reference:
        return Fraction(abs(getattr(literal, name)))
    return Fraction(0) if name == "null" else None

"""Comparisons: operands must be of one family of types, so that nothing is compared in another form than its own.

DataFusion 55 compares a number with text as text ("10" < "9"), and numbers with dates.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as types
from datafusion import functions as F  # noqa: N812

from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Raw
from mmflow.api.expressions.tree.scope import Resolved, shown_type
from mmflow.errors import PlanError
from mmflow.formats.schemas.schema import type_text

__all__ = ["comparison", "family", "in_list", "matched", "number", "same_family"]


def family(kind: pa.DataType) -> str:
    """Return the family of a type; values of one family compare without loss of meaning."""
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return "bytes"
    if types.is_fixed_size_binary(kind):
        return "bytes"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "zoned time" if types.is_timestamp(kind) and kind.tz is not None else "time"
    if types.is_null(kind):
        return "null"
    return type_text(kind).partition("<")[0].partition("[")[0]


def matched(caller: str, left: Resolved, right: Resolved, *, compare: bool = True) -> tuple[Raw, Raw]:
    """Return both operands in one family; text that is a literal becomes a date or time where it is compared with one.

    Args:
        caller: Operator or function, as messages name it: `operator >`, `is_in()`.
        left: First operand.
        right: Second operand.
        compare: Whether they are compared; else they become values of one column.

    Raises:
        PlanError: They are of different families.
    """
    families = family(left.type), family(right.type)
    if "null" in families or families[0] == families[1]:
        return left.raw, right.raw
    for one, other, mirrored in ((left, right, False), (right, left, True)):
        if one.value is not None and family(one.type) == "text" and family(other.type) in _PARSED:
            made = literal(_parsed(one.value, other))
            return (made, other.raw) if not mirrored else (other.raw, made)
    advice = "cast one of them"
    for one, other in ((left, right), (right, left)):
        if one.value is not None:
            advice = f"give a value of type {shown_type(other.type)}, or cast the other"
    if compare:
        raise PlanError(f"{caller} can't compare {left.shown()} with {right.shown()}; {advice}")
    raise PlanError(f"{caller} can't put {left.shown()} and {right.shown()} into one column; {advice}")


_PARSED = {"time", "zoned time"}


def _parsed(value: pa.Scalar, other: Resolved) -> pa.Scalar:
    try:
        return pa.scalar(value.as_py(), pa.string()).cast(other.type)
    except pa.ArrowException as error:
        raise PlanError(
            f"{value.as_py()!r} is no {shown_type(other.type)}, which {other.shown()} is compared with"
        ) from error


def comparison(symbol: str, caller: str | None = None) -> Callable[[Resolved, Resolved], Raw]:
    """Return the build function of a comparison; `caller`: the function that messages name instead of the operator."""
    compare = _COMPARE[symbol]

    def build(left: Resolved, right: Resolved) -> Raw:
        made: Raw = compare(*matched(caller or f"operator {symbol}", left, right))
        return made

    return build


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def in_list(value: Resolved, *options: Resolved) -> Raw:
    """Build `value IN (options)`: null for null; a null among the options matches nothing."""
    given = [matched("is_in()", value, o)[1] for o in options if family(o.type) != "null"]
    if not given:
        return F.nullif(F.nvl(F.nullif(value.raw.is_null(), literal(False)), literal(False)), literal(True))
    return F.in_list(value.raw, given)


def number(operation: str, operand: Resolved, *, truth: bool = False) -> Raw:
    """Return an operand that is a number; `truth`: truth values count as 1 and 0.

    Raises:
        PlanError: It is none.
    """
    if truth and types.is_boolean(operand.type):
        return operand.raw.cast(pa.int64())
    if family(operand.type) not in ("number", "null"):
        raise PlanError(f"{operation}() takes numbers, but not {operand.shown()}; cast it")
    return operand.raw


def same_family(operation: str, operands: Sequence[Resolved]) -> list[Raw]:
    """Return alternatives for one column, which must be of one family; text literals among times become times.

    Raises:
        PlanError: They are not.
    """
    typed = [o for o in operands if family(o.type) != "null"]
    first = next((o for o in typed if o.value is None), typed[0] if typed else None)
    return [
        o.raw if first is None else matched(f"{operation}()", first, o, compare=False)[1] for o in operands
    ]

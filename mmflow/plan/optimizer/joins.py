"""Facts about joins: equality keys, and which side may be copied to every task."""

from __future__ import annotations

from collections.abc import Iterator

from substrait.algebra_pb2 import Expression, Rel

from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.substrait import join_type, kind, references, shifted

__all__ = ["Keys", "broadcastable", "equalities", "join_title"]

_EQUAL = ("equal", "is_not_distinct_from")
_EITHER = {"INNER"}
_RIGHT = {"LEFT", "LEFT_SEMI", "LEFT_ANTI", "LEFT_MARK", "LEFT_SINGLE"}
_LEFT = {"RIGHT", "RIGHT_SEMI", "RIGHT_ANTI", "RIGHT_MARK", "RIGHT_SINGLE"}


@dataclass(frozen=True, slots=True)
class Keys:
    """Equality keys of a join, those of each side in terms of its own columns."""

    left: tuple[Expression, ...]
    right: tuple[Expression, ...]
    exact: bool  # the keys are the whole condition


def join_title(rel: Rel) -> str:
    """Return the title for explain: inner join, left anti join, ..."""
    return join_type(rel).replace("_", " ").replace("OUTER", "FULL").lower() + " join"


def broadcastable(rel: Rel) -> tuple[bool, bool]:
    """Return whether the left, and whether the right side may go whole to tasks that hold parts of the other.

    No row of that side may be output without a partner, or else each task would output it.
    """
    name = join_type(rel)
    return name in _EITHER or name in _LEFT, name in _EITHER or name in _RIGHT


def _conjuncts(expression: Expression, names: dict[int, str]) -> Iterator[Expression]:
    if expression.WhichOneof("rex_type") == "scalar_function":
        function = expression.scalar_function
        if names.get(function.function_reference) == "and":
            for argument in function.arguments:
                yield from _conjuncts(argument.value, names)
            return
    yield expression


def equalities(rel: Rel, left_width: int, names: dict[int, str], *, nulls: bool = True) -> Keys:
    """Return the keys that are equal in all rows that match (nulls are equal to nulls).

    Args:
        rel: A join or cross relation.
        left_width: Columns of the left input.
        names: Function names by anchor.
        nulls: Take keys whose nulls match nulls, too.
    """
    left: list[Expression] = []
    right: list[Expression] = []
    others = 0
    if kind(rel) == "join" and rel.join.HasField("expression"):
        for conjunct in _conjuncts(rel.join.expression, names):
            pair = _equality(conjunct, left_width, names, _EQUAL if nulls else _EQUAL[:1])
            if pair is None:
                others += 1
            else:
                left.append(pair[0])
                right.append(pair[1])
    exact = not others and not (kind(rel) == "join" and rel.join.HasField("post_join_filter"))
    return Keys(tuple(left), tuple(right), exact)


def _equality(
    expression: Expression, left_width: int, names: dict[int, str], equal: tuple[str, ...]
) -> tuple[Expression, Expression] | None:
    if expression.WhichOneof("rex_type") != "scalar_function":
        return None
    function = expression.scalar_function
    if names.get(function.function_reference) not in equal:
        return None
    first, second = (a.value for a in function.arguments)
    first_columns, second_columns = references(first), references(second)
    if not first_columns or not second_columns:
        return None
    if max(first_columns) < left_width <= min(second_columns):
        return first, shifted(second, -left_width)
    if max(second_columns) < left_width <= min(first_columns):
        return second, shifted(first, -left_width)
    return None

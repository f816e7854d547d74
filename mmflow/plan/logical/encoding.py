"""Encoding of a logical plan as Substrait, with nothing lost.

What DataFusion 55 can't encode is an error of its own. What it encodes wrongly, without a word, is found here by the
logical plan, and put back (`zones.py`; `nullaware.py` while joins are planned), or is an error as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from datafusion import LogicalPlan, SessionContext
from datafusion.substrait import Producer
from google.protobuf.message import Message
from substrait.algebra_pb2 import AggregateFunction, Expression, ReadRel
from substrait.plan_pb2 import Plan as SubstraitPlan
from substrait.type_pb2 import NamedStruct, Type

from mmflow.errors import PlanError
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.errors import explain_datafusion_error, is_datafusion_error
from mmflow.plan.logical.nodes import calls_beyond_substrait
from mmflow.plan.logical.zones import holds_zone, with_zones
from mmflow.plan.substrait import declared_functions, function_names, int_literal, messages

__all__ = ["Encoded", "UnsupportedBySubstraitError", "encode"]


class UnsupportedBySubstraitError(PlanError):
    """Plan that Substrait can't carry. It runs as SQL in one task instead."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Plan as Substrait.

    Attributes:
        plan: The plan.
        has_subqueries: An expression of it holds a subquery.
        has_windows: An expression of it is a window function.
        tables: Names of the tables that it reads.
    """

    plan: SubstraitPlan
    has_subqueries: bool
    has_windows: bool
    tables: frozenset[str]


def encode(
    plan: LogicalPlan,
    context: SessionContext,
    context_of: Callable[[Iterable[str]], SessionContext],
) -> Encoded:
    """Return an optimized logical plan as Substrait.

    Args:
        plan: The plan.
        context: Context of the plan.
        context_of: Returns a context that has tables of these names.

    Raises:
        UnsupportedBySubstraitError: Its Substrait form would be another plan, or there is none.
    """
    dropped = calls_beyond_substrait(plan)
    if dropped is not None:
        raise UnsupportedBySubstraitError(f"a plan can't carry {dropped}")
    try:
        encoded = Producer.to_substrait_plan(plan, context).encode()
    except BaseException as error:
        if not is_datafusion_error(error):
            raise
        raise UnsupportedBySubstraitError(
            f"a plan can't carry this query: {explain_datafusion_error(error)}"
        ) from error
    made = SubstraitPlan()
    made.ParseFromString(encoded)
    parts = _Parts(made)
    _leave_out_null_branches(parts.choices)
    if _may_drop_unseen(made, parts.subqueries):
        raise UnsupportedBySubstraitError("a plan may not carry an option of a call within a subquery")
    if any(literal.WhichOneof("literal_type") == "struct" for literal in parts.literals):
        raise UnsupportedBySubstraitError("a plan can't carry the fields of a struct that is a literal")
    if any(_is_null_of_structs(literal) for literal in parts.literals):
        raise UnsupportedBySubstraitError("a plan can't carry the fields of a struct that is NULL")
    if any(f.name == "arrow_field" for f in declared_functions(made)):
        raise UnsupportedBySubstraitError("a plan can't carry names of columns, which arrow_field() gives")
    _set_bases(made)
    _set_current_rows(parts.windows)
    zoned = with_zones(made, plan, context, context_of) if parts.has_zones else made
    if zoned is None:
        raise UnsupportedBySubstraitError("a plan can't carry a time zone")
    tables = frozenset(t.names[-1] for t in parts.tables)
    return Encoded(zoned, bool(parts.subqueries), bool(parts.windows), tables)


class _Parts:
    """Parts of a plan that matter here, found in one walk."""

    def __init__(self, encoded: SubstraitPlan) -> None:
        self.subqueries: list[Expression.Subquery] = []
        self.literals: list[Expression.Literal] = []
        self.windows: list[Expression.WindowFunction] = []
        self.choices: list[Expression.IfThen] = []
        self.tables: list[ReadRel.NamedTable] = []
        self._casts: list[Expression.Cast] = []
        lists: dict[type[Message], list[Message]] = {
            Expression.Subquery: self.subqueries,
            Expression.Literal: self.literals,
            Expression.WindowFunction: self.windows,
            Expression.IfThen: self.choices,
            Expression.Cast: self._casts,
            ReadRel.NamedTable: self.tables,
        }
        for message in messages(encoded.relations[0], _is_plain):
            found = lists.get(type(message))
            if found is not None:
                found.append(message)

    @property
    def has_zones(self) -> bool:
        """True if a cast or literal has a time zone."""
        return any(map(holds_zone, (*self.literals, *(cast.type for cast in self._casts))))


def _is_null_of_structs(literal: Expression.Literal) -> bool:
    """Return whether a literal is a NULL whose type has structs: DataFusion 55 reads their fields as c0, c1, …"""
    return literal.WhichOneof("literal_type") == "null" and any(
        isinstance(part, Type.Struct) for part in messages(literal.null)
    )


def _leave_out_null_branches(choices: Iterable[Expression.IfThen]) -> None:
    """Leave out ELSE NULL where that is a struct: CASE without ELSE is the same."""
    for choice in choices:
        literal = getattr(choice, "else").literal
        if _is_null_of_structs(literal):
            literal.Clear()  # it was found by a walk already
            choice.ClearField("else")


def _set_bases(encoded: SubstraitPlan) -> None:
    """Write log(10, x) for log(x): DataFusion 55 writes logb(x), and reads logb only with a base."""
    logs = {f.function_anchor for f in declared_functions(encoded) if f.name == "logb"}
    for message in messages(encoded.relations[0]) if logs else ():
        called = message.function_reference if isinstance(message, Expression.ScalarFunction) else None
        if called in logs and len(message.arguments) == 1:
            message.arguments.add().value.CopyFrom(int_literal(10))


def _set_current_rows(windows: Iterable[Expression.WindowFunction]) -> None:
    """Write CURRENT ROW for 0 rows before or behind: DataFusion 55 writes them, and reads 1 at least."""
    for window in windows:
        for bound in (window.lower_bound, window.upper_bound):
            side = bound.WhichOneof("kind")
            if side in ("preceding", "following") and getattr(bound, side).offset == 0:
                bound.current_row.SetInParent()


#: Aggregates that know no IGNORE NULLS: they leave nulls out by themselves, or count rows.
_NULLS_LEFT_OUT = {
    *("sum", "count", "min", "max", "avg", "median", "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor"),
    *("stddev", "stddev_pop", "var", "var_pop", "approx_distinct", "approx_median"),
}  # fmt: skip


def _may_drop_unseen(encoded: SubstraitPlan, subqueries: Iterable[Expression.Subquery]) -> bool:
    """Return whether a subquery within an expression has a call whose options Substrait may have dropped.

    DataFusion's Python classes don't show the plan of a subquery.
    """
    names = function_names(encoded)
    for subquery in subqueries:
        for inner in messages(subquery, _is_plain):
            if isinstance(inner, Expression.WindowFunction):
                return True
            if (
                isinstance(inner, AggregateFunction)
                and names[inner.function_reference] not in _NULLS_LEFT_OUT
            ):
                return True
    return False


def _is_plain(message: Message) -> bool:
    """Return whether a message holds no subquery for sure: there are many columns and types."""
    return isinstance(message, NamedStruct | Type) or (
        isinstance(message, Expression) and message.HasField("selection")
    )

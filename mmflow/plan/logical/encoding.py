"""Encoding of a logical plan as Substrait, with nothing lost.

What DataFusion 55 can't encode is an error of its own. What it encodes wrongly, without a word, is found here by the
logical plan, and put back (`zones.py`; `nullaware.py` while joins are planned), or is an error as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from datafusion import LogicalPlan, SessionContext
from datafusion.substrait import Producer
from google.protobuf.message import Message
from substrait.algebra_pb2 import AggregateFunction, Expression
from substrait.extensions.extensions_pb2 import SimpleExtensionDeclaration
from substrait.plan_pb2 import Plan as SubstraitPlan
from substrait.type_pb2 import NamedStruct, Type

from mmflow.errors import PlanError
from mmflow.plan.errors import explain_datafusion_error, is_datafusion_error
from mmflow.plan.logical.nodes import calls_beyond_substrait
from mmflow.plan.logical.zones import with_zones
from mmflow.plan.substrait import int_literal, messages

__all__ = ["UnsupportedBySubstraitError", "encode"]


class UnsupportedBySubstraitError(PlanError):
    """Plan that Substrait can't carry. It runs as SQL in one task instead."""


def encode(
    plan: LogicalPlan,
    context: SessionContext,
    context_of: Callable[[Iterable[str]], SessionContext],
) -> SubstraitPlan:
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
    if _may_drop_unseen(made):
        raise UnsupportedBySubstraitError("a plan may not carry an option of a call within a subquery")
    if _has_struct_literal(made):
        raise UnsupportedBySubstraitError("a plan can't carry the fields of a struct that is a literal")
    if any(f.name == "arrow_field" for f in _declared(made)):
        raise UnsupportedBySubstraitError("a plan can't carry names of columns, which arrow_field() gives")
    zoned = with_zones(_with_current_rows(_with_bases(made)), plan, context, context_of)
    if zoned is None:
        raise UnsupportedBySubstraitError("a plan can't carry a time zone")
    return zoned


def _with_bases(encoded: SubstraitPlan) -> SubstraitPlan:
    """Return the plan with log(10, x) for log(x): DataFusion 55 writes logb(x), and reads logb only with a base."""
    logs = {f.function_anchor for f in _declared(encoded) if f.name == "logb"}
    for message in messages(encoded.relations[0]) if logs else ():
        called = message.function_reference if isinstance(message, Expression.ScalarFunction) else None
        if called in logs and len(message.arguments) == 1:
            message.arguments.add().value.CopyFrom(int_literal(10))
    return encoded


def _with_current_rows(encoded: SubstraitPlan) -> SubstraitPlan:
    """Return the plan with CURRENT ROW for 0 rows before or behind: DataFusion 55 writes them, and reads 1 at least."""
    for message in messages(encoded.relations[0], _is_plain):
        if isinstance(message, Expression.WindowFunction):
            for bound in (message.lower_bound, message.upper_bound):
                side = bound.WhichOneof("kind")
                if side in ("preceding", "following") and getattr(bound, side).offset == 0:
                    bound.current_row.SetInParent()
    return encoded


def _declared(encoded: SubstraitPlan) -> list[SimpleExtensionDeclaration.ExtensionFunction]:
    return [e.extension_function for e in encoded.extensions]


#: Aggregates that know no IGNORE NULLS: they leave nulls out by themselves, or count rows.
_NULLS_LEFT_OUT = {
    *("sum", "count", "min", "max", "avg", "median", "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor"),
    *("stddev", "stddev_pop", "var", "var_pop", "approx_distinct", "approx_median"),
}  # fmt: skip


def _may_drop_unseen(encoded: SubstraitPlan) -> bool:
    """Return whether a subquery within an expression has a call whose options Substrait may have dropped.

    DataFusion's Python classes don't show the plan of a subquery.
    """
    names = {f.function_anchor: f.name for f in _declared(encoded)}
    for message in messages(encoded.relations[0], _is_plain):
        if not isinstance(message, Expression.Subquery):
            continue
        for inner in messages(message, _is_plain):
            if isinstance(inner, Expression.WindowFunction):
                return True
            if (
                isinstance(inner, AggregateFunction)
                and names[inner.function_reference] not in _NULLS_LEFT_OUT
            ):
                return True
    return False


def _has_struct_literal(encoded: SubstraitPlan) -> bool:
    literals = (m for m in messages(encoded.relations[0], _is_plain) if isinstance(m, Expression.Literal))
    return any(m.WhichOneof("literal_type") == "struct" for m in literals)


def _is_plain(message: Message) -> bool:
    """Return whether a message holds no subquery for sure: there are many columns and types."""
    return isinstance(message, NamedStruct | Type) or (
        isinstance(message, Expression) and message.HasField("selection")
    )

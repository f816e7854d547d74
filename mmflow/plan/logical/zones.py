"""Time zones, which Substrait forgets: put back into a plan's Substrait form by calls of `arrow_cast`.

Substrait's precision_timestamp_tz has no zone, and DataFusion 55 decodes all of them as UTC. The zones are those of the
logical plan, by the types of its expressions: its casts and literals with a zone, in order, are those of its
Substrait form, or nothing is put back.

Invariant: `with_zones` gives a plan that decodes to the same zones at the same places, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from datafusion import Expr, LogicalPlan, SessionContext
from datafusion.substrait import Consumer, Serde
from google.protobuf.message import Message
from substrait.algebra_pb2 import AggregateRel, Expression, ReadRel, Rel
from substrait.plan_pb2 import Plan as SubstraitPlan
from substrait.type_pb2 import Type

from mmflow.plan.errors import is_datafusion_error
from mmflow.plan.logical.nodes import expressions, parts
from mmflow.plan.substrait import add_functions, inputs_of, kind, messages

__all__ = ["holds_zone", "type_of", "with_zones"]

_UTC = "UTC"  # what a zone is decoded as
_CAST, _TRY_CAST = "arrow_cast", "arrow_try_cast"
_UNITS = {0: "s", 3: "ms", 6: "us", 9: "ns"}


def with_zones(
    encoded: SubstraitPlan,
    plan: LogicalPlan,
    context: SessionContext,
    context_of: Callable[[Iterable[str]], SessionContext],
) -> SubstraitPlan | None:
    """Return the Substrait form with the zones of its logical plan; None where they are not known.

    Args:
        encoded: The plan as DataFusion encodes it.
        plan: The logical plan.
        context: Context of the plan.
        context_of: Returns a context that has tables of these names.
    """
    if not any(True for _ in _slots(_root(encoded))):
        return encoded
    wanted = _zoned_types(plan, context)
    made, anchors = add_functions(encoded, (_CAST, _TRY_CAST))
    _forget_old_groupings(made)
    slots = list(_slots(_root(made)))
    if wanted is None or len(wanted) != len(slots):
        return None
    if all(type_ == pa.timestamp(type_.unit, _UTC) for type_ in wanted):
        return encoded
    # From the last on, so that what is within a cast is put back before the cast is replaced.
    for slot, type_ in zip(reversed(slots), reversed(wanted), strict=True):
        if type_.tz != _UTC and not _put_back(slot, type_, anchors):
            return None
    names = [m.names[-1] for m in messages(_root(made)) if isinstance(m, ReadRel.NamedTable)]
    context = context_of(names)
    decoded = Consumer.from_substrait_plan(context, Serde.deserialize_bytes(made.SerializeToString()))
    return made if _zoned_types(decoded, context) == wanted else None


def _root(plan: SubstraitPlan) -> Rel:
    relation = plan.relations[0]
    return relation.root.input if relation.HasField("root") else relation.rel


def _forget_old_groupings(plan: SubstraitPlan) -> None:
    """Drop the keys of aggregates in their deprecated place, which DataFusion 55 writes too, and would read first.

    The place is a field that substrait's messages don't know any more, so that the keys can't be changed there.
    """
    for message in messages(_root(plan)):
        if isinstance(message, AggregateRel.Grouping):
            message.DiscardUnknownFields()


# ---- the Substrait form --------------------------------------------------------------------------------------


def _slots(rel: Rel) -> Iterator[Expression]:
    """Yield casts to types with a zone, and literals of such types, in the order of `_zoned_types`."""
    body = getattr(rel, kind(rel))
    own = [(d, value) for d, value in body.ListFields() if d.name not in _NOT_EXPRESSIONS]
    # DataFusion lists the keys of an aggregate before its calls.
    own.sort(key=lambda item: item[0].name != "grouping_expressions")
    for descriptor, value in own:
        if descriptor.message_type is not None:
            for part in value if descriptor.is_repeated else (value,):
                yield from _slots_within(part)
    for child in inputs_of(rel):
        yield from _slots(child)


_NOT_EXPRESSIONS = {"common", "base_schema", "input", "left", "right", "inputs"}


def _slots_within(message: Message) -> Iterator[Expression]:
    if isinstance(message, Rel):  # of a subquery
        yield from _slots(message)
        return
    below: Message = message
    if isinstance(message, Expression):
        rex = message.WhichOneof("rex_type")
        if rex == "selection":  # a column: most expressions are
            return
        if rex in ("literal", "cast") and holds_zone(
            message.literal if rex == "literal" else message.cast.type
        ):
            yield message
        if rex == "literal":
            return
        below = message.cast.input if rex == "cast" else getattr(message, str(rex))
        if rex == "cast":
            yield from _slots_within(below)
            return
    for descriptor, value in below.ListFields():
        if (
            descriptor.message_type is not None
            and descriptor.message_type.full_name != Type.DESCRIPTOR.full_name
        ):
            for part in value if descriptor.is_repeated else (value,):
                yield from _slots_within(part)


def holds_zone(message: Message) -> bool:
    """Return whether a type or literal has a zone, at any depth."""
    return any(
        isinstance(part, Type | Expression.Literal) and part.HasField("precision_timestamp_tz")
        for part in messages(message)
    )


def _put_back(slot: Expression, type_: pa.TimestampType, anchors: dict[str, int]) -> bool:
    """Replace a cast or literal by one to a type with its zone; False for a literal of a form that is not known."""
    made = Expression()
    function, inner = _CAST, made.scalar_function.arguments.add().value
    if slot.WhichOneof("rex_type") == "cast":
        if slot.cast.failure_behavior == Expression.Cast.FAILURE_BEHAVIOR_RETURN_NULL:
            function = _TRY_CAST
        inner.CopyFrom(slot.cast.input)
    elif slot.literal.HasField("null"):
        inner.literal.null.i64.nullability = Type.NULLABILITY_NULLABLE
    elif _UNITS.get(slot.literal.precision_timestamp_tz.precision) == type_.unit:
        inner.literal.i64 = slot.literal.precision_timestamp_tz.value
    else:
        return False
    made.scalar_function.function_reference = anchors[function]
    made.scalar_function.arguments.add().value.literal.string = f'Timestamp({type_.unit}, "{type_.tz}")'
    slot.CopyFrom(made)
    return True


# ---- the logical plan ----------------------------------------------------------------------------------------


def _zoned_types(plan: LogicalPlan, context: SessionContext) -> list[pa.TimestampType] | None:
    """Return the types with a zone of casts and literals; None where one is nested, or is not known."""
    found: list[pa.TimestampType] = []
    for expression in expressions(plan):
        for part in parts(expression):
            name = part.variant_name()
            if name in ("Cast", "TryCast", "Literal") or (
                name == "ScalarFunction" and part.rex_call_operator() in (_CAST, _TRY_CAST)
            ):
                type_ = type_of(part, plan, context)
                if type_ is None or (pa.types.is_nested(type_) and ", tz=" in str(type_)):
                    return None
                if pa.types.is_timestamp(type_) and type_.tz is not None:
                    found.append(type_)
    for below in plan.inputs():
        inner = _zoned_types(below, context)
        if inner is None:
            return None
        found += inner
    return found


def type_of(expression: Expr, node: LogicalPlan, context: SessionContext) -> pa.DataType | None:
    """Return the type of an expression of a node, as DataFusion tells it."""
    for below in (*node.inputs(), node):
        try:
            frame = context.create_dataframe_from_logical_plan(below).select(expression.alias("_"))
            return frame.schema().field(0).type
        except BaseException as error:  # a column of the other side of a join
            if not is_datafusion_error(error):
                raise
    return None

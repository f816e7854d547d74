"""NOT IN, whose nulls Substrait forgets.

DataFusion plans `x NOT IN (SELECT y ...)` as a null-aware left anti join, and its Substrait producer
drops the null-awareness (measured with DataFusion 55: rows come out where SQL says none). The flag is read off the
logical plan instead, and the rule of SQL is put back around a plain anti join:

    no rows at all on the right: every row of the left;
    a null on the right: no row;
    else: rows of the left that don't match and are not null themselves.

The counts of the right side that decide this are one row, broadcast.
"""

from __future__ import annotations

from collections.abc import Callable

from datafusion import LogicalPlan
from substrait.algebra_pb2 import AggregateFunction, Expression, Rel

from mmflow.errors import PlanError
from mmflow.lazy.patterns import lazy_regex
from mmflow.plan.optimizer.joins import equalities
from mmflow.plan.pipeline import Branch, Pipeline
from mmflow.plan.substrait import RelationBuilder, field, inputs_of, int_literal, with_inputs

__all__ = ["NullAware", "null_aware_joins", "with_null_rule"]


class NullAware:
    """Flags of a plan's joins in pre-order, taken one by one as the joins are planned."""

    def __init__(self, flags: list[bool]) -> None:
        self.flags = flags
        self.position = 0

    def take(self) -> bool:
        """Return the flag of the next join."""
        if not any(self.flags):
            return False
        if self.position >= len(self.flags):
            raise PlanError("NOT IN (SELECT ...) in a plan of a shape not foreseen: write NOT EXISTS instead")
        self.position += 1
        return self.flags[self.position - 1]


_JOIN = lazy_regex(
    r"^\s*(Inner|Left|Right|Full|Cross|LeftSemi|LeftAnti|LeftMark|RightSemi|RightAnti|RightMark) Join:"
)


def null_aware_joins(plan: LogicalPlan) -> NullAware:
    """Return whether each join is null-aware, in pre-order. Subqueries of a node come before its inputs."""
    text = str(plan.display_indent())
    if " null_aware" not in text:
        return NullAware([])
    lines = text.splitlines()
    return NullAware([line.endswith(" null_aware") for line in lines if _JOIN.match(line)])


def with_null_rule(
    rel: Rel,
    left: Pipeline,
    anti: Pipeline,
    rels: RelationBuilder,
    build: Callable[[Rel], Pipeline],
    broadcast_into: Callable[[Pipeline, Pipeline], tuple[list[Branch], list[Rel]]],
) -> Pipeline:
    """Add SQL's rule for NOT IN around a plain anti join.

    Args:
        rel: The join relation.
        left: Its left input (for its width).
        anti: The join planned without the rule.
        rels: Function space.
        build: Plans the counts of the right side.
        broadcast_into: Gives every task of `anti` those counts.

    Raises:
        PlanError: The join has other conditions than one equality.
    """
    names = rels.names
    keys = equalities(rel, left.width, names)
    if len(keys.left) != 1 or not keys.exact:
        raise PlanError("NOT IN (SELECT ...) that depends on the outer query: write NOT EXISTS instead")
    counts = build(_counts(inputs_of(rel)[1], keys.right[0], rels))
    branches, reads = broadcast_into(anti, counts)
    made = []
    for branch, read in zip(branches, reads, strict=True):
        crossed = Rel()
        crossed.cross.left.CopyFrom(branch.rel)
        crossed.cross.right.CopyFrom(read)
        rows, present = field(left.width), field(left.width + 1)
        empty = rels.call("equal", rows, int_literal(0))
        complete = rels.call("equal", rows, present)
        known = rels.call("is_not_null", keys.left[0])
        kept = Rel()
        kept.filter.input.CopyFrom(crossed)
        kept.filter.condition.CopyFrom(rels.call("or", empty, rels.call("and", complete, known)))
        columns = [field(i) for i in range(left.width)]
        made.append(branch.extend(rels.project(kept, columns, width=left.width + 2), "not in"))
    return Pipeline(tuple(made), anti.schema, anti.estimate)


def _counts(right: Rel, key: Expression, rels: RelationBuilder) -> Rel:
    """Return a relation with count(*) and count(key) of the right side."""
    shell = Rel()
    shell.aggregate.groupings.add()
    for argument in (int_literal(1), key):
        function = shell.aggregate.measures.add().measure
        function.function_reference = rels.anchors["count"]
        function.invocation = AggregateFunction.AGGREGATION_INVOCATION_ALL
        function.arguments.add().value.CopyFrom(argument)
    return with_inputs(shell, right)

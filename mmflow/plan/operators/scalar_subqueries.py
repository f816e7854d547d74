"""Uncorrelated scalar subqueries: each is one row, broadcast as a further column."""

from __future__ import annotations

import pyarrow as pa
from substrait.algebra_pb2 import Expression, JoinRel, Rel

from mmflow.errors import PlanError
from mmflow.formats.schemas.schema import public_schema
from mmflow.plan.operators.context import PlanContext
from mmflow.plan.operators.exchanges import broadcast_into, gather, run_steps, select_columns
from mmflow.plan.operators.native_aggregates import keys_of
from mmflow.plan.pipeline import Estimate, Pipeline
from mmflow.plan.stages import MapStep
from mmflow.plan.substrait import (
    field,
    has_window,
    inputs_of,
    int_literal,
    kind,
    messages,
    read_of,
    subqueries,
    with_inputs,
)

__all__ = ["check_one_row", "plan_with_scalars"]


def plan_with_scalars(context: PlanContext, rel: Rel) -> Pipeline:
    """Plan a relation with uncorrelated scalar subqueries: each is one row, broadcast as a further column."""
    if len(inputs_of(rel)) != 1:
        raise PlanError("a subquery in a join's condition: write it as a join, or compute it first")
    # The logical plan lists subqueries before inputs: `null_aware` is taken in that order.
    scalars = [_plan_scalar(context, e) for e in subqueries(rel)]
    child = context.plan_relation(inputs_of(rel)[0])
    wide = child
    always = Expression()
    always.literal.boolean = True
    for scalar in scalars:
        branches, reads = broadcast_into(context, wide, scalar)
        joined = []
        for branch, read in zip(branches, reads, strict=True):
            join = Rel()
            join.join.left.CopyFrom(branch.rel)
            join.join.right.CopyFrom(read)
            join.join.type = JoinRel.JOIN_TYPE_LEFT
            join.join.expression.CopyFrom(always)
            joined.append(branch.extend(join, "with scalar subquery"))
        wide = Pipeline(tuple(joined), context.rels.schema(joined[0].rel), wide.estimate)
    name = context.rels.name()
    context.planned[name] = wide
    made = with_inputs(rel, read_of(name))
    for index, expression in enumerate(subqueries(made)):
        expression.CopyFrom(field(child.width + index))
    if kind(made) == "project":
        emit = made.project.common.emit.output_mapping
        moved = [i if i < child.width else i + len(scalars) for i in emit]
        del emit[:]
        emit.extend(moved)
    done = context.plan_relation(made)
    if kind(made) in ("filter", "sort", "fetch"):
        done = select_columns(context, done, list(range(child.width)))
    return done


def _plan_scalar(context: PlanContext, expression: Expression) -> Pipeline:
    """Return a pipeline of one row and one column: the subquery's value, null if it has no row."""
    subquery = expression.subquery
    if subquery.WhichOneof("subquery_type") != "scalar":
        raise PlanError("a subquery that DataFusion could not turn into a join: write it as a join")
    rel = subquery.scalar.input
    if any(isinstance(m, Expression.FieldReference) and m.HasField("outer_reference") for m in messages(rel)):
        raise PlanError(
            "a correlated subquery that DataFusion could not turn into a join: write it as a join"
        )
    made = gather(context, context.plan_relation(rel), "scalar subquery")
    if _has_one_row(rel):
        return made
    return _count_rows(context, made)


def _count_rows(context: PlanContext, pipeline: Pipeline) -> Pipeline:
    """Return a pipeline of one row over a subquery with none or several rows. Several are an error of the query."""
    branch = pipeline.branches[0]
    shell = Rel()
    shell.aggregate.groupings.add()
    for name, argument in (("first_value", field(0)), ("count", int_literal(1))):
        function = shell.aggregate.measures.add().measure
        function.function_reference = context.rels.anchors[name]
        function.invocation = function.AGGREGATION_INVOCATION_ALL
        function.arguments.add().value.CopyFrom(argument)
    rel = with_inputs(shell, branch.rel)
    counted = pa.schema([("value", pipeline.schema.types[0]), ("rows", pa.int64())])
    made = Pipeline((branch.extend(rel, "at most one row", streaming=False),), counted, Estimate(1, 64))
    step = MapStep(check_one_row, public_schema(counted), counted)
    return select_columns(context, run_steps(context, made, (step,), counted, ""), [0])


def check_one_row(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Check the row count beside the value of a scalar subquery.

    Raises:
        PlanError: The subquery returned several rows.
    """
    rows = batch.column(1)[0].as_py()
    if rows > 1:
        raise PlanError(
            f"a scalar subquery returned {rows:,} rows; it may return one at most: add LIMIT 1 or aggregate"
        )
    return batch


def _has_one_row(rel: Rel) -> bool:
    """Return whether a relation has exactly one row, whatever the data."""
    while kind(rel) == "project" and not has_window(rel):
        rel = rel.project.input
    return kind(rel) == "aggregate" and keys_of(rel.aggregate) == []

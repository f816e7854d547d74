"""Aggregates: split into a partial and a final one, or computed after an exchange of all rows.

`sum count min max avg` and friends of numbers, times and text are native (`native_aggregates.py`). Of other types, or
beside such, they run in DataFusion on each piece of the input, then once more on the output of the pieces: avg travels
as a sum and a count. Other aggregates can't be merged; their rows are exchanged by key first. The split gives
DataFusion's own values and types: what widened on the way is cast back.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from substrait.algebra_pb2 import AggregateFunction, AggregationPhase, Rel

from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.operators.context import PlanContext
from mmflow.plan.operators.exchanges import exchange_by_key, gather
from mmflow.plan.operators.native_aggregates import (
    IDEMPOTENT,
    keys_of,
    plan_native_aggregate,
)
from mmflow.plan.operators.whole import check_no_float_sums, decimal_ranges
from mmflow.plan.pipeline import Branch, Estimate, Pipeline
from mmflow.plan.rewrites.checked_arithmetic import WIDE, cast
from mmflow.plan.rewrites.measures import Measures
from mmflow.plan.stages import Broadcast
from mmflow.plan.substrait import RelationBuilder, field, with_inputs

__all__ = ["plan_aggregate"]

# Function that merges partial results of each aggregate. avg is split into two.
_MERGE = {
    "sum": "sum",
    "count": "sum",
    "min": "min",
    "max": "max",
    "bool_and": "bool_and",
    "bool_or": "bool_or",
    "bit_and": "bit_and",
    "bit_or": "bit_or",
    "bit_xor": "bit_xor",
}


@dataclass(frozen=True, slots=True)
class _Split:
    """Partial aggregation over the input's layout, and the final one over a table of its output."""

    partial: Rel
    partial_schema: pa.Schema
    keys: int
    final: Rel
    table: tuple[str, pa.Schema]


def plan_aggregate(context: PlanContext, rel: Rel) -> Pipeline:
    child = context.plan_relation(rel.aggregate.input)
    native = plan_native_aggregate(context, rel, child)
    if native is not None:
        return native
    exact, ranges = context.exact.aggregate(rel, child), decimal_ranges(context, child)
    measures = Measures(exact, child.schema, context.rels, context.use_function, ranges)
    made = _aggregate(context, measures, child)
    if not measures.changed:
        return made
    restored = measures.restored(made.schema.types)
    (branch,) = made.branches
    branch = branch.extend(context.rels.project(branch.rel, restored, width=made.width), "")
    return replace(made, branches=(branch,), schema=context.rels.schema(branch.rel))


def _aggregate(context: PlanContext, measures: Measures, child: Pipeline) -> Pipeline:
    """Plan an aggregation. Its sums are wide if it is merged from partial ones."""
    rel = measures.rel
    keys = keys_of(rel.aggregate)
    title = "aggregate" if len(rel.aggregate.measures) else "distinct"
    whole = with_inputs(rel, child.branches[0].rel)
    schema = context.rels.schema(whole)
    check_no_float_sums(context, rel, schema)
    estimate = child.estimate if keys else Estimate(1, 1024)
    one_nan = frozenset(range(len(keys))) if keys is not None else frozenset[int]()
    if not child.single:
        wide = measures.declared(schema)
        divided = _split(rel, child.branches[0].rel, context.rels, wide)
        if divided is not None:
            others = [_split(rel, b.rel, context.rels, wide) for b in child.branches[1:]]
            parts = [divided, *filter(None, others)]
            return replace(_merge_partial(context, parts, child, wide, estimate, title), one_nan=one_nan)
        reason = "aggregate that can't be merged"
        child = exchange_by_key(context, child, keys, reason) if keys else gather(context, child, reason)
    branch = child.branches[0]
    made = branch.extend(with_inputs(rel, branch.rel), title, streaming=False, by_key=True)
    return Pipeline((made,), schema, estimate, one_nan)


def _merge_partial(
    context: PlanContext,
    parts: list[_Split],
    child: Pipeline,
    schema: pa.Schema,
    estimate: Estimate,
    title: str,
) -> Pipeline:
    """Plan a partial aggregation where the rows are, one part a branch, an exchange by key, and a final aggregation."""
    partial = Pipeline(
        tuple(b.extend(d.partial, f"partial {title}") for b, d in zip(child.branches, parts, strict=True)),
        parts[0].partial_schema,
        estimate,
    )
    partitions = context.count_partitions(estimate.nbytes) if parts[0].keys else 1
    output = context.hashed(tuple(range(parts[0].keys)), partitions) if partitions > 1 else Broadcast()
    stages = context.builder.close(partial, output)
    mode = "partition" if partitions > 1 else "all"
    source, _, _ = context.builder.read(stages, mode, partial.schema)
    name, stored = parts[0].table
    branch = Branch(
        (replace(source, name=name),),
        ((name, stored),),
        parts[0].final,
        trivial=False,
        streaming=False,
        split=((name, tuple(range(parts[0].keys))),) if parts[0].keys else (),
        title=(f"final {title}",),
    )
    return Pipeline((branch,), schema, estimate)


def _mergeable(function: AggregateFunction, name: str) -> bool:
    distinct = function.invocation == AggregateFunction.AGGREGATION_INVOCATION_DISTINCT
    if function.sorts or (distinct and name not in IDEMPOTENT):
        return False
    return name == "avg" or name in _MERGE


def _split(rel: Rel, child: Rel, rels: RelationBuilder, declared: pa.Schema) -> _Split | None:
    """Split an aggregation whose input is `child`.

    Args:
        rel: The aggregate relation.
        child: Its input.
        rels: Function space of the query.
        declared: Types of the whole aggregation.

    Returns:
        Both parts; None if a measure can't be merged, or there are several grouping sets.
    """
    aggregate = rel.aggregate
    keys = keys_of(aggregate)
    if keys is None:
        return None
    names = rels.names
    partial = Rel()
    body = partial.aggregate
    body.input.CopyFrom(child)
    body.groupings.extend(aggregate.groupings)
    body.grouping_expressions.extend(keys)
    merges: list[tuple[str, ...]] = []  # by measure: functions that merge its partial columns
    for measure in aggregate.measures:
        name = names[measure.measure.function_reference]
        if not _mergeable(measure.measure, name):
            return None
        parts = ("sum", "count") if name == "avg" else (name,)
        merges.append(("sum", "sum") if name == "avg" else (_MERGE[name],))
        for part in parts:
            made = body.measures.add()
            made.CopyFrom(measure)
            made.measure.function_reference = rels.anchors[part]
            made.measure.invocation = AggregateFunction.AGGREGATION_INVOCATION_ALL
            made.measure.phase = AggregationPhase.AGGREGATION_PHASE_UNSPECIFIED
            made.measure.ClearField("output_type")
    partial_schema = rels.schema(partial)
    for name_index, merge in zip(_columns(merges, len(keys)), merges, strict=True):
        sum_type = partial_schema.field(name_index[0]).type
        if len(merge) == 2 and not (pa.types.is_decimal(sum_type) or pa.types.is_floating(sum_type)):
            return None  # an average of integers or intervals that DataFusion didn't cast to float
    table_name = rels.name()
    table, stored = rels.table(table_name, partial_schema.types)
    final = _final(table, partial_schema, len(keys), merges, rels, declared)
    return _Split(partial, partial_schema, len(keys), final, (table_name, stored))


def _columns(merges: list[tuple[str, ...]], first: int) -> list[tuple[int, ...]]:
    found = []
    for merge in merges:
        found.append(tuple(range(first, first + len(merge))))
        first += len(merge)
    return found


def _final(
    table: Rel,
    partial: pa.Schema,
    keys: int,
    merges: list[tuple[str, ...]],
    rels: RelationBuilder,
    declared: pa.Schema,
) -> Rel:
    merged = Rel()
    body = merged.aggregate
    body.input.CopyFrom(table)
    grouping = body.groupings.add()
    grouping.expression_references.extend(range(keys))
    body.grouping_expressions.extend(field(i) for i in range(keys))
    column = keys
    for index, merge in enumerate(merges):
        # Sums of whole numbers that are to come out wide are added up wide.
        wide = declared.field(keys + index).type == WIDE and pa.types.is_integer(partial.field(column).type)
        for name in merge:
            function = body.measures.add().measure
            function.function_reference = rels.anchors[name]
            function.invocation = AggregateFunction.AGGREGATION_INVOCATION_ALL
            value = cast(field(column), WIDE, rels) if wide else field(column)
            function.arguments.add().value.CopyFrom(value)
            column += 1
    types = rels.schema(merged).types
    expressions = [field(i) for i in range(keys)]
    for index, (columns, merge) in enumerate(zip(_columns(merges, keys), merges, strict=True)):
        wanted = declared.field(keys + index).type
        value, value_type = field(columns[0]), types[columns[0]]
        if len(merge) == 2:
            # DataFusion divides decimals by a count as decimal(20, 0), truncating at scale + 4: as its avg does.
            divisor = pa.decimal128(20, 0) if pa.types.is_decimal(value_type) else pa.float64()
            count = cast(field(columns[1]), divisor, rels)
            value, value_type = rels.call("divide", value, count), None
        expressions.append(value if value_type == wanted else cast(value, wanted, rels))
    if partial.types == declared.types and types == declared.types:
        return merged
    return rels.project(merged, expressions, width=len(types))

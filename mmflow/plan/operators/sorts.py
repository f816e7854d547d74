"""Sorts by range exchange, limits and offsets."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from substrait.algebra_pb2 import Expression, Rel, SortField

from mmflow.errors import PlanError
from mmflow.plan.native_aggregate import is_known
from mmflow.plan.operators.context import PlanContext
from mmflow.plan.operators.exchanges import append_keys, gather, run_steps, select_columns
from mmflow.plan.optimizer.estimates import width_of
from mmflow.plan.pipeline import Estimate, Pipeline
from mmflow.plan.stages import Broadcast, Forward, FragmentStep, Range, SortKey, SortStep
from mmflow.plan.substrait import field_index, int_literal, kind, subqueries, with_inputs

__all__ = ["plan_fetch", "plan_sort", "row_order", "sort_key"]


_MOST_RANGES = 4096
_DIRECTIONS = {1: (False, True), 2: (False, False), 3: (True, True), 4: (True, False)}


def plan_sort(context: PlanContext, rel: Rel) -> Pipeline:
    child = context.plan_relation(rel.sort.input)
    rel = context.exact.sort(rel, child)
    if child.single or child.estimate.nbytes <= context.settings.broadcast:
        made = _sort_task(context, rel, *_with_keys(context, rel, gather(context, child, "sort")))
        return select_columns(context, made, list(range(child.width)))
    wide, keys = _with_keys(context, rel, child)
    if any(pa.types.is_nested(wide.schema.field(k.column).type) for k in keys):
        return _add_sort(rel, gather(context, child, "sort by a nested column"))
    sampled = context.builder.close(wide, Forward(sample=keys), title="sample for sort")
    ranged = context.builder.reopen(sampled, "forward", wide)
    partitions = context.settings.partitions or _MOST_RANGES
    target = 1 if context.settings.partitions else context.partition_bytes
    stages = context.builder.close(ranged, Range(keys, partitions, target), title="range exchange")
    made = _sort_task(context, rel, context.builder.reopen(stages, "partition", wide), keys)
    return select_columns(context, made, list(range(child.width)))


def _with_keys(context: PlanContext, rel: Rel, child: Pipeline) -> tuple[Pipeline, tuple[SortKey, ...]]:
    """Return the pipeline with a column for each key of a sort, and these keys."""
    wide, indexes = append_keys(context, child, [s.expr for s in rel.sort.sorts])
    return wide, tuple(sort_key(s, i) for s, i in zip(rel.sort.sorts, indexes, strict=True))


def _sort_task(context: PlanContext, rel: Rel, wide: Pipeline, keys: tuple[SortKey, ...]) -> Pipeline:
    """Return the pipeline with the rows of each task sorted, by the kernel where it knows the types of the keys."""
    if context.whole or not all(is_known(wide.schema.field(k.column).type) for k in keys):
        return _add_sort(rel, wide)
    name = context.rels.name()
    read, stored = context.rels.table(name, wide.schema.types)
    plan = context.rels.plan(with_inputs(rel, read))
    step = SortStep(keys, FragmentStep(plan, ((name, stored),), wide.schema, streaming=False))
    return replace(run_steps(context, wide, (step,), wide.schema, "sort"), one_nan=wide.one_nan)


def plan_fetch(context: PlanContext, rel: Rel) -> Pipeline:
    offset = _row_count(rel.fetch.offset_expr) if rel.fetch.HasField("offset_expr") else 0
    count = _row_count(rel.fetch.count_expr) if rel.fetch.HasField("count_expr") else -1
    below = rel.fetch.input
    if count < 0:
        child = gather(context, context.plan_relation(below), "offset")
        branch = child.branches[0].extend(with_inputs(rel, child.branches[0].rel), "offset", streaming=False)
        return replace(child, branches=(branch,))
    top = Rel()
    top.fetch.count_expr.CopyFrom(int_literal(offset + count))
    sort = below if kind(below) == "sort" else None
    child = context.plan_relation(below.sort.input if sort is not None else below)
    if sort is not None:
        sort = context.exact.sort(sort, child)
    row = sum(map(width_of, child.schema.types))
    estimate = Estimate(offset + count, min(child.estimate.nbytes, (offset + count) * row))
    if not child.single:
        if sort is None:
            # The stage's own limit ends each task after so many rows, at no cost.
            pieces = [replace(b, title=(*b.title, f"limit {offset + count}")) for b in child.branches]
        else:
            pieces = [
                b.extend(with_inputs(top, with_inputs(sort, b.rel)), f"top {offset + count}")
                for b in child.branches
            ]
        pruned = Pipeline(tuple(pieces), child.schema, estimate, child.one_nan)
        limit = offset + count if sort is None else None
        stages = context.builder.close(pruned, Broadcast(), limit=limit)
        child = context.builder.reopen(stages, "all", pruned)
    if sort is not None:
        child = _add_sort(sort, child)
    branch = child.branches[0]
    title = f"limit {count}" + (f" offset {offset}" if offset else "")
    made = branch.extend(with_inputs(rel, branch.rel), title, streaming=False)
    return Pipeline((made,), child.schema, estimate, child.one_nan)


def _add_sort(rel: Rel, pipeline: Pipeline) -> Pipeline:
    branch = pipeline.branches[0]
    made = branch.extend(with_inputs(rel, branch.rel), "sort", streaming=False)
    return replace(pipeline, branches=(made,))


def _row_count(expression: Expression) -> int:
    """Return the value of a LIMIT or OFFSET."""
    if (
        expression.WhichOneof("rex_type") != "literal"
        or expression.literal.WhichOneof("literal_type") != "i64"
    ):
        raise PlanError("LIMIT and OFFSET must be numbers")
    return int(expression.literal.i64)


def sort_key(sort: SortField, column: int) -> SortKey:
    """Return a column with the direction of a key."""
    descending, nulls_first = _DIRECTIONS[int(sort.direction)]
    return SortKey(column, descending, nulls_first)


def row_order(rel: Rel) -> tuple[SortKey, ...]:
    """Return the columns that the rows of each task of a relation are sorted by; empty: it does not say."""
    if subqueries(rel):
        return ()
    match kind(rel):
        case "sort":
            indexes = [field_index(s.expr) for s in rel.sort.sorts]
            known = indexes.index(None) if None in indexes else len(indexes)
            pairs = zip(rel.sort.sorts, indexes[:known], strict=False)
            return tuple(sort_key(s, i) for s, i in pairs if i is not None)
        case "fetch":
            return row_order(rel.fetch.input)
        case "filter":
            return row_order(rel.filter.input)
        case "project":
            return _projected_order(rel)
        case _:
            return ()


def _projected_order(rel: Rel) -> tuple[SortKey, ...]:
    """Return the order below a projection, as far as it keeps the columns."""
    columns = [field_index(e) for e in rel.project.expressions]
    mapping = list(rel.project.common.emit.output_mapping)
    # The result is the expressions alone, which stand behind the columns of the input.
    if not mapping or mapping != list(range(mapping[0], mapping[0] + len(columns))):
        return ()
    keys: list[SortKey] = []
    for key in row_order(rel.project.input):
        if key.column not in columns:
            break
        keys.append(replace(key, column=columns.index(key.column)))
    return tuple(keys)

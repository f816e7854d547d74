"""Filters, projections and UNION ALL, which stay in the stage of their input, and window functions."""

from __future__ import annotations

from dataclasses import replace

from substrait.algebra_pb2 import Rel

from mmflow.errors import PlanError
from mmflow.formats import Comparison
from mmflow.plan.operators.context import PlanContext
from mmflow.plan.operators.exchanges import (
    exchange_by_key,
    extend_branches,
    filter_branches,
    gather,
    keyed_after,
)
from mmflow.plan.optimizer.estimates import width_of
from mmflow.plan.optimizer.pushdown import comparisons
from mmflow.plan.pipeline import Branch, Estimate, Pipeline
from mmflow.plan.rewrites.exact import windows_in
from mmflow.plan.stages import ScanInput
from mmflow.plan.substrait import field_index, has_window, inputs_of, with_inputs

__all__ = ["plan_filter", "plan_project", "plan_union"]


def plan_filter(context: PlanContext, rel: Rel) -> Pipeline:
    child = context.plan_relation(rel.filter.input)
    found = comparisons(rel.filter.condition, child.schema, context.rels.anchors)
    if found:
        child = replace(child, branches=tuple(_prune_scan(b, found) for b in child.branches))
    return filter_branches(context, context.exact.filter(rel, child), child)


def plan_project(context: PlanContext, rel: Rel) -> Pipeline:
    if context.encoded.has_windows and has_window(rel):
        return _plan_windows(context, rel)
    child = context.plan_relation(rel.project.input)
    if _is_identity(rel, child):
        return child
    exact, one_nan = context.exact.project(rel, child)
    made = replace(
        extend_branches(context, exact, child, "project" if _computes(rel) else ""), one_nan=one_nan
    )
    share = max(1, sum(map(width_of, made.schema.types))) / max(1, sum(map(width_of, child.schema.types)))
    return replace(made, estimate=Estimate(child.estimate.rows, int(child.estimate.nbytes * min(1.0, share))))


def _plan_windows(context: PlanContext, rel: Rel) -> Pipeline:
    child = context.plan_relation(rel.project.input)
    exact, restored = context.exact.windows(rel, child)
    if not child.single:
        functions = [e.window_function for e in exact.project.expressions for e in windows_in(e)]
        partitions = [{p.SerializeToString() for p in f.partitions} for f in functions]
        common = set.intersection(*partitions)
        keys = [p for p in functions[0].partitions if p.SerializeToString() in common]
        child = exchange_by_key(context, child, keys, "window") if keys else gather(context, child, "window")
    if restored is None:
        from mmflow.plan.operators.native_windows import plan_native_windows  # noqa: PLC0415  (most queries have none)

        native = plan_native_windows(context, exact, child)
        if native is not None:
            return native
    branch = child.branches[0]
    made = branch.extend(with_inputs(exact, branch.rel), "window", streaming=False, by_key=True)
    if restored is not None:
        made = made.extend(context.rels.project(made.rel, restored, width=len(restored)), "")
    schema = context.rels.schema(made.rel)
    return Pipeline((made,), schema, child.estimate, keyed=keyed_after(exact, child))


def plan_union(context: PlanContext, rel: Rel) -> Pipeline:
    if rel.set.op != rel.set.SET_OP_UNION_ALL:
        raise PlanError(f"set operation {rel.set.op} is not planned by DataFusion as expected")
    parts = [context.plan_relation(r) for r in inputs_of(rel)]
    schema = parts[0].schema
    branches: list[Branch] = []
    for part in parts:
        if part.schema.types != schema.types:
            raise PlanError(f"UNION of different types: {schema.types} and {part.schema.types}")
        branches.extend(part.branches)
    one_nan = frozenset[int].intersection(*(p.one_nan for p in parts))
    return Pipeline(tuple(branches), schema, Estimate(None, sum(p.estimate.nbytes for p in parts)), one_nan)


def _computes(rel: Rel) -> bool:
    return any(field_index(e) is None for e in rel.project.expressions)


def _is_identity(rel: Rel, child: Pipeline) -> bool:
    """Return whether a project gives its input's columns as they are: it renames them, which is nothing here."""
    given = [*range(child.width), *map(field_index, rel.project.expressions)]
    kept = rel.project.common.emit.output_mapping or range(len(given))
    return [given[i] for i in kept] == list(range(child.width))


def _prune_scan(branch: Branch, conjuncts: tuple[Comparison, ...]) -> Branch:
    """Return the branch with conjuncts on plain columns added to its scan, if it is a bare scan still."""
    if not branch.trivial or branch.steps or not isinstance(branch.inputs[0], ScanInput):
        return branch
    scan = replace(branch.inputs[0], prune=(*branch.inputs[0].prune, *conjuncts))
    return replace(branch, inputs=(scan, *branch.inputs[1:]))

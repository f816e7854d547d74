"""Joins: broadcast of a small side, exchange of both by key, or gather of both."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pyarrow as pa
from substrait.algebra_pb2 import Rel

from mmflow.plan.operators.context import PlanContext
from mmflow.plan.operators.exchanges import append_keys, broadcast_into, names_and_types, select_columns
from mmflow.plan.optimizer.joins import broadcastable, equalities, join_title
from mmflow.plan.pipeline import Branch, Estimate, Pipeline
from mmflow.plan.rewrites.null_aware import with_null_rule
from mmflow.plan.stages import Broadcast
from mmflow.plan.substrait import ONE_SIDED, TWO_SIDED, inputs_of, join_type, kind, with_inputs

__all__ = ["plan_join"]


def plan_join(context: PlanContext, rel: Rel) -> Pipeline:
    null_aware = context.null_aware.take()
    left_rel, right_rel = inputs_of(rel)
    left = context.plan_relation(left_rel)
    mark = context.null_aware.position
    right = context.plan_relation(right_rel)
    rel = context.exact.join(rel, left, right)
    if null_aware:
        end = context.null_aware.position
        return with_null_rule(
            with_inputs(rel, left_rel, right_rel),
            left,
            _join_sides(context, rel, left, right),
            context.rels,
            lambda stats: _plan_again(context, stats, mark, end),
            partial(broadcast_into, context),
        )
    made = _join_sides(context, rel, left, right)
    if made.width == left.width + right.width:
        both = left.one_nan | {left.width + i for i in right.one_nan}
        return replace(made, one_nan=both)
    return replace(made, one_nan=left.one_nan) if made.width == left.width else made


def _plan_again(context: PlanContext, rel: Rel, mark: int, end: int) -> Pipeline:
    """Plan a relation that holds joins which were planned already."""
    context.null_aware.position = mark
    made = context.plan_relation(rel)
    context.null_aware.position = end
    return made


def _join_sides(context: PlanContext, rel: Rel, left: Pipeline, right: Pipeline) -> Pipeline:
    title = join_title(rel)
    if context.whole and _in_one_task(left) and _in_one_task(right):
        return _join_in_one_task(context, rel, left, right, title)
    names = context.rels.names
    keys = equalities(rel, left.width, names)
    may_left, may_right = broadcastable(rel)
    nbytes = max(left.estimate.nbytes, right.estimate.nbytes)
    limit = context.settings.broadcast
    small_left = may_left and (left.single or left.estimate.nbytes <= limit)
    small_right = may_right and (right.single or right.estimate.nbytes <= limit)
    if small_left and small_right:
        small_left = left.estimate.nbytes < right.estimate.nbytes
        small_right = not small_left
    if not keys.left and not (small_left or small_right):
        # No equality: the smaller side must go everywhere, whatever its size.
        small_right = may_right and (not may_left or right.estimate.nbytes <= left.estimate.nbytes)
        small_left = may_left and not small_right
    if small_right or small_left:
        big, small = (left, right) if small_right else (right, left)
        return _join_broadcast(context, rel, big, small, small_right, f"broadcast {title}", nbytes)
    if keys.left and not (left.single and right.single):
        wide_left, left_keys = append_keys(context, left, list(keys.left))
        wide_right, right_keys = append_keys(context, right, list(keys.right))
        if _hash_alike(wide_left.schema, left_keys, wide_right.schema, right_keys):
            partitions = context.count_partitions(left.estimate.nbytes + right.estimate.nbytes)
            output = context.hashed(left_keys, partitions), context.hashed(right_keys, partitions)
            sides = [
                (p, context.builder.close(p, o, title=f"exchange by key for {title}"), "partition")
                for p, o in zip((wide_left, wide_right), output, strict=True)
            ]
            return _join_exchanged(
                context, rel, sides, (left.width, right.width), title, nbytes, (left_keys, right_keys)
            )
    sides = [
        (p, context.builder.close(p, Broadcast(), title=f"gather for {title}"), "all") for p in (left, right)
    ]
    return _join_exchanged(context, rel, sides, (left.width, right.width), title, nbytes)


def _in_one_task(side: Pipeline) -> bool:
    return side.single and not side.branches[0].steps


def _join_in_one_task(
    context: PlanContext, rel: Rel, left: Pipeline, right: Pipeline, title: str
) -> Pipeline:
    """Plan a join in the fragment that both sides are then part of."""
    (one,), (other,) = left.branches, right.branches
    joined = with_inputs(rel, one.rel, other.rel)
    branch = Branch(
        (*one.inputs, *other.inputs),
        (*one.tables, *other.tables),
        joined,
        trivial=False,
        streaming=False,
        title=(*one.title, *other.title, title),
        notes=(*one.notes, *other.notes),
    )
    nbytes = max(left.estimate.nbytes, right.estimate.nbytes)
    return _joined(context, rel, (left, right), (branch,), nbytes)


def _joined(
    context: PlanContext,
    rel: Rel,
    sides: tuple[Pipeline, Pipeline],
    branches: tuple[Branch, ...],
    nbytes: int,
) -> Pipeline:
    """Return the pipeline of branches that join these sides."""
    how, (left, right) = join_type(rel), map(names_and_types, sides)
    fields: list[pa.Field] = []
    if left is not None and right is not None and not getattr(rel, kind(rel)).common.HasField("emit"):
        if how in ONE_SIDED:
            fields = list((left, right)[ONE_SIDED[how]])
        elif how in TWO_SIDED:
            fields = [*left, *right]
    if not fields or len({f.name for f in fields}) < len(fields):
        return Pipeline(branches, context.rels.schema(branches[0].rel), Estimate(None, nbytes))
    branches = tuple(replace(b, unseen=True) for b in branches)
    return Pipeline(branches, pa.schema(fields), Estimate(None, nbytes))


def _join_exchanged(
    context: PlanContext,
    rel: Rel,
    sides: list[tuple[Pipeline, tuple[int, ...], str]],
    widths: tuple[int, int],
    title: str,
    nbytes: int,
    keys: tuple[tuple[int, ...], ...] = (),
) -> Pipeline:
    """Plan a join in tasks that read both sides from exchanges by `keys`."""
    opened = [
        select_columns(context, context.builder.reopen(stages, mode, p), list(range(width)))
        for (p, stages, mode), width in zip(sides, widths, strict=True)
    ]
    (one,), (other,) = (p.branches for p in opened)
    branch = Branch(
        (*one.inputs, *other.inputs),
        (*one.tables, *other.tables),
        with_inputs(rel, one.rel, other.rel),
        trivial=False,
        streaming=False,
        split=tuple((b.tables[0][0], k) for b, k in zip((one, other), keys, strict=False)),
        title=(title,),
    )
    return _joined(context, rel, (opened[0], opened[1]), (branch,), nbytes)


def _join_broadcast(
    context: PlanContext, rel: Rel, big: Pipeline, small: Pipeline, right: bool, title: str, nbytes: int
) -> Pipeline:
    branches, reads = broadcast_into(context, big, small)
    made = [
        b.extend(with_inputs(rel, b.rel, r) if right else with_inputs(rel, r, b.rel), title)
        for b, r in zip(branches, reads, strict=True)
    ]
    read = replace(small, branches=(Branch((), branches[0].tables[-1:], reads[0]),))
    return _joined(context, rel, (big, read) if right else (read, big), tuple(made), nbytes)


def _hash_alike(
    left: pa.Schema, left_keys: tuple[int, ...], right: pa.Schema, right_keys: tuple[int, ...]
) -> bool:
    """Return whether equal keys hash alike on both sides. Text does, whatever its layout."""

    def family(t: pa.DataType) -> str:
        text = pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t)
        return "text" if text else str(t)

    return [family(left.field(i).type) for i in left_keys] == [
        family(right.field(i).type) for i in right_keys
    ]

"""Pipelines with other columns, steps or places of their rows: projections, exchanges, gathers, broadcasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
from substrait.algebra_pb2 import Expression, Rel

from mmflow.plan.operators.context import PlanContext
from mmflow.plan.pipeline import Branch, Pipeline
from mmflow.plan.stages import Broadcast, Step
from mmflow.plan.substrait import field, field_index, with_inputs

__all__ = [
    "append_keys",
    "broadcast_into",
    "close_relation",
    "exchange_by_key",
    "extend_branches",
    "filter_branches",
    "gather",
    "keyed_after",
    "names_and_types",
    "run_steps",
    "select_columns",
]


def select_columns(context: PlanContext, pipeline: Pipeline, columns: list[int]) -> Pipeline:
    """Return the pipeline with these of its columns."""
    if columns == list(range(pipeline.width)):
        return pipeline
    schema = pa.schema([pipeline.schema.field(i) for i in columns])
    branches = tuple(
        b.extend(context.rels.project(b.rel, [field(i) for i in columns], width=pipeline.width), "")
        for b in pipeline.branches
    )
    one_nan = frozenset(n for n, i in enumerate(columns) if i in pipeline.one_nan)
    return Pipeline(branches, schema, pipeline.estimate, one_nan, _moved(pipeline.keyed, columns))


def extend_branches(context: PlanContext, rel: Rel, child: Pipeline, title: str) -> Pipeline:
    """Return the pipeline with a project on top of each branch."""
    branches = tuple(b.extend(with_inputs(rel, b.rel), title) for b in child.branches)
    given = _columns(rel, child.width)
    keyed = _moved(child.keyed, given)
    columns = None if None in given else [i for i in given if i is not None]
    known = None if columns is None else names_and_types(child)
    if columns is None or known is None or len({*columns}) < len(columns):
        return Pipeline(branches, context.rels.schema(branches[0].rel), child.estimate, keyed=keyed)
    branches = tuple(replace(b, unseen=True) for b in branches)
    return Pipeline(branches, pa.schema([known.field(i) for i in columns]), child.estimate, keyed=keyed)


def _columns(rel: Rel, width: int) -> list[int | None]:
    """Return the columns of the input that a project gives; None: it computes one."""
    given = [*range(width), *map(field_index, rel.project.expressions)]
    return [given[i] for i in rel.project.common.emit.output_mapping or range(len(given))]


def keyed_after(rel: Rel, child: Pipeline) -> frozenset[int]:
    """Return the columns of a project that its rows are exchanged by (`Pipeline.keyed`)."""
    return _moved(child.keyed, _columns(rel, child.width))


def _moved(keyed: frozenset[int], columns: Sequence[int | None]) -> frozenset[int]:
    """Return where columns are among others; empty: one of them is not there."""
    return frozenset(columns.index(i) for i in keyed) if keyed <= set(columns) else frozenset()


def names_and_types(pipeline: Pipeline) -> pa.Schema | None:
    """Return the columns of a pipeline as relations over it have them; None: only DataFusion can say.

    A relation has the names of tables. DataFusion 55 reads no float16 and no nulls from Substrait: such a query runs as
    SQL.
    """
    types = pa.types
    if any(types.is_nested(t) or types.is_float16(t) or types.is_null(t) for t in pipeline.schema.types):
        return None
    first = pipeline.branches[0]
    names = first.tables[0][1].names if first.trivial and pipeline.width else pipeline.schema.names
    if len({*names}) < len(names):
        return None
    return pa.schema([pa.field(n, t) for n, t in zip(names, pipeline.schema.types, strict=True)])


def filter_branches(context: PlanContext, rel: Rel, child: Pipeline) -> Pipeline:
    """Return the pipeline with a filter on top of each branch. It keeps the columns, whose names the relation gives."""
    branches = tuple(b.extend(with_inputs(rel, b.rel), "filter") for b in child.branches)
    branches = tuple(replace(b, unseen=True) for b in branches)
    if rel.filter.common.HasField("emit"):
        return Pipeline(branches, context.rels.schema(branches[0].rel), child.estimate)
    known = names_and_types(child)
    if known is None:
        return replace(child, branches=branches, schema=context.rels.schema(branches[0].rel))
    return replace(child, branches=branches, schema=known)


def run_steps(
    context: PlanContext, pipeline: Pipeline, steps: tuple[Step, ...], schema: pa.Schema, title: str
) -> Pipeline:
    """Close the open relation of each branch as steps, run `steps`, and open a read over their output."""
    branches = []
    for branch in pipeline.branches:
        name = context.rels.name()
        rel, stored = context.rels.table(name, schema.types)
        closed = (*context.builder.steps(branch, pipeline.schema), *steps)
        branches.append(
            replace(
                branch,
                steps=closed,
                tables=((name, stored),),
                rel=rel,
                trivial=True,
                split=(),
                title=(*branch.title, title) if title else branch.title,
            )
        )
    return Pipeline(tuple(branches), schema, pipeline.estimate)


def close_relation(context: PlanContext, pipeline: Pipeline) -> Pipeline:
    """Return the pipeline with the open relation of each branch closed, and a bare read over its output."""
    return replace(run_steps(context, pipeline, (), pipeline.schema, ""), one_nan=pipeline.one_nan)


def gather(context: PlanContext, pipeline: Pipeline, why: str) -> Pipeline:
    """Return the pipeline gathered into one task, itself if it is in one already."""
    if pipeline.single:
        return pipeline
    stages = context.builder.close(pipeline, Broadcast(), title=f"gather for {why}")
    return context.builder.reopen(stages, "all", pipeline)


def append_keys(
    context: PlanContext, pipeline: Pipeline, keys: list[Expression]
) -> tuple[Pipeline, tuple[int, ...]]:
    """Return the pipeline with a column for each key, and its number. Computed keys are appended."""
    indexes: list[int] = []
    extra: list[Expression] = []
    for key in keys:
        plain = field_index(key)
        if plain is None:
            plain = pipeline.width + len(extra)
            extra.append(key)
        indexes.append(plain)
    if extra:
        branches = tuple(
            b.extend(context.rels.project(b.rel, extra, width=pipeline.width, keep=True), "")
            for b in pipeline.branches
        )
        order = context.exact.order(pipeline)
        one_nan = {pipeline.width + n for n, e in enumerate(extra) if order.has_one_nan(e)}
        pipeline = Pipeline(
            branches, context.rels.schema(branches[0].rel), pipeline.estimate, pipeline.one_nan | one_nan
        )
    return pipeline, tuple(indexes)


def exchange_by_key(context: PlanContext, pipeline: Pipeline, keys: list[Expression], why: str) -> Pipeline:
    """Return the pipeline exchanged so that rows with equal keys are in one task, if they are not. The layout stays."""
    if pipeline.keyed and pipeline.keyed <= set(map(field_index, keys)):
        return pipeline
    width = pipeline.width
    partitions = context.count_partitions(pipeline.estimate.nbytes)
    if partitions == 1:
        return gather(context, pipeline, why)
    wide, indexes = append_keys(context, pipeline, keys)
    output = context.hashed(indexes, partitions)
    stages = context.builder.close(wide, output, title=f"exchange by key for {why}")
    opened = context.builder.reopen(stages, "partition", wide)
    (branch,) = opened.branches
    split = ((branch.tables[0][0], indexes),)
    exchanged = replace(opened, branches=(replace(branch, split=split),), keyed=frozenset(indexes))
    return select_columns(context, exchanged, list(range(width)))


def broadcast_into(context: PlanContext, big: Pipeline, small: Pipeline) -> tuple[list[Branch], list[Rel]]:
    """Close `small` as a broadcast, and give each branch of `big` an input that reads it."""
    stages = context.builder.close(small, Broadcast(), title="broadcast")
    branches, reads = [], []
    for branch in big.branches:
        source, table, read = context.builder.read(stages, "all", small.schema)
        branches.append(
            replace(
                branch,
                inputs=(*branch.inputs, source),
                tables=(*branch.tables, table),
                streaming=branch.streaming and bool(branch.inputs),
            )
        )
        reads.append(read)
    return branches, reads

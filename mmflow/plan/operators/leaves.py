"""Leaves of a plan: scans, tables, Python functions, repartitions, and SQL that runs whole."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from substrait.algebra_pb2 import Rel

from mmflow.errors import PlanError
from mmflow.formats.schemas.arrow_types import check_wanted
from mmflow.formats.schemas.schema import public_schema
from mmflow.plan.catalog import MapLeaf, RepartitionLeaf, SourceLeaf, SqlLeaf, StreamLeaf, TableLeaf
from mmflow.plan.logical.moving_sql import moving_functions
from mmflow.plan.operators.context import PlanContext
from mmflow.plan.operators.exchanges import gather, run_steps, select_columns
from mmflow.plan.optimizer.estimates import scan_estimate, width_of
from mmflow.plan.pipeline import Branch, Estimate, Pipeline
from mmflow.plan.stages import Broadcast, Forward, Hash, MapStep, ScanInput, SqlStep, StreamStep, TableInput
from mmflow.plan.substrait import table_name, wanted_columns

__all__ = ["plan_read", "plan_sql"]


def plan_read(context: PlanContext, rel: Rel) -> Pipeline:
    name = table_name(rel)
    if name in context.planned:
        return context.planned.pop(name)
    if name is None:
        schema = context.rels.schema(rel)
        rows = len(rel.read.virtual_table.expressions)
        nbytes = rows * sum(width_of(t) for t in schema.types)
        branch = Branch((), (), rel, trivial=False, streaming=False, title=("values",))
        return Pipeline((branch,), schema, Estimate(rows, nbytes))
    leaf = context.catalog.leaf(name)
    if leaf is None:
        # A table function: range(), generate_series().
        raise PlanError(f"mmflow can't split what {name} gives")
    if rel.read.HasField("filter"):
        raise PlanError("a filter was pushed into a table scan; mmflow plans filters itself")
    schema = leaf.schema
    wanted = wanted_columns(rel, len(schema))
    check_wanted(schema.field(i) for i in wanted)
    match leaf:
        case SourceLeaf():
            made = _plan_scan(context, name, leaf, [schema.field(i) for i in wanted])
        case TableLeaf():
            made = _plan_table(context, leaf.table.select(wanted))
        case MapLeaf():
            made = select_columns(context, _plan_map(context, leaf), wanted)
        case StreamLeaf():
            made = select_columns(context, _plan_stream(context, leaf), wanted)
        case RepartitionLeaf():
            made = select_columns(context, _plan_repartition(context, leaf), wanted)
        case SqlLeaf():
            made = select_columns(context, plan_sql(context, leaf), wanted)
    if rel.read.common.HasField("emit"):
        made = select_columns(context, made, list(rel.read.common.emit.output_mapping))
    return made


def _plan_scan(context: PlanContext, leaf_name: str, leaf: SourceLeaf, fields: list[pa.Field]) -> Pipeline:
    columns, types = [f.name for f in fields], [f.type for f in fields]
    name = context.rels.name()
    rel, stored = context.rels.table(name, types)
    title = (f"scan {leaf.source.label}",)
    files = context.whole.get((leaf_name, tuple(columns)))
    if files is not None:
        source = replace(files, name=name)
        branch = Branch((source,), ((name, stored),), rel, trivial=False, streaming=False, title=title)
    else:
        scan = ScanInput(name, leaf.source, tuple(columns))
        pyarrow = leaf.source.format.name == "parquet" and context.not_whole
        notes = (f"read by pyarrow, in shards: {context.not_whole}",) if pyarrow else ()
        branch = Branch((scan,), ((name, stored),), rel, title=title, notes=notes)
    schema = pa.schema([pa.field(c, t) for c, t in zip(columns, types, strict=True)])
    one_nan = frozenset(range(len(columns))) if leaf.source.format.one_nan else frozenset[int]()
    return Pipeline((branch,), schema, scan_estimate(leaf.source, columns), one_nan)


def _plan_table(context: PlanContext, table: pa.Table) -> Pipeline:
    name = context.rels.name()
    rel, stored = context.rels.table(name, table.schema.types)
    branch = Branch((TableInput(name, table),), ((name, stored),), rel, title=("table",))
    return Pipeline((branch,), table.schema, Estimate(table.num_rows, table.nbytes))


def _plan_map(context: PlanContext, leaf: MapLeaf) -> Pipeline:
    child = context.plan_frame(leaf.child)
    given = public_schema(child.schema)
    step = MapStep(leaf.function, given, leaf.schema, leaf.batch_rows, leaf.processes, leaf.needs)
    label = getattr(leaf.function, "__name__", "function")
    return run_steps(context, child, (step,), leaf.schema, f"map {label}")


def _plan_stream(context: PlanContext, leaf: StreamLeaf) -> Pipeline:
    child = context.plan_frame(leaf.child)
    if leaf.gather:
        child = gather(context, child, leaf.title)
    given = public_schema(child.schema) if leaf.public else child.schema
    step = StreamStep(leaf.function, given, leaf.schema)
    return run_steps(context, child, (step,), leaf.schema, leaf.title)


def _plan_repartition(context: PlanContext, leaf: RepartitionLeaf) -> Pipeline:
    child = context.plan_frame(leaf.child)
    partitions = leaf.partitions or context.count_partitions(child.estimate.nbytes)
    stages = context.builder.close(child, Hash(leaf.keys, partitions), title="repartition")
    return context.builder.reopen(stages, "partition", child)


def _plan_row_wise_sql(context: PlanContext, leaf: SqlLeaf) -> Pipeline:
    """Run SQL over the rows of each task of its one table."""
    ((name, frame),) = leaf.tables
    child = _normalize_floats(context, context.plan_frame(frame))
    if any(source.name == name for branch in child.branches for source in branch.inputs):
        # A worker would take the side of a join for the table.
        child = context.builder.reopen(context.builder.close(child, Forward()), "forward", child)
    table = pa.schema([f.with_nullable(True) for f in child.schema])
    step = SqlStep(leaf.query, ((name, table),), leaf.schema, streaming=True, parameters=leaf.parameters)
    made = run_steps(context, child, (step,), leaf.schema, "unnest")
    return replace(made, estimate=Estimate(None, made.estimate.nbytes))


def plan_sql(context: PlanContext, leaf: SqlLeaf) -> Pipeline:
    """Gather every table that the query names, and run it as SQL in one task."""
    if leaf.streaming:
        return _plan_row_wise_sql(context, leaf)
    inputs, tables = [], []
    for name, frame in leaf.tables:
        child = _normalize_floats(context, context.plan_frame(frame))
        stages = context.builder.close(child, Broadcast())
        source, _, _ = context.builder.read(stages, "all", child.schema)
        inputs.append(replace(source, name=name))
        tables.append((name, pa.schema([f.with_nullable(True) for f in child.schema])))
    for function in moving_functions(leaf.query):
        context.use_function(function)
    step = SqlStep(leaf.query, tuple(tables), leaf.schema, streaming=False, parameters=leaf.parameters)
    name = context.rels.name()
    rel, stored = context.rels.table(name, leaf.schema.types)
    branch = Branch(
        tuple(inputs),
        ((name, stored),),
        rel,
        (step,),
        title=("gather, SQL",),
        notes=(f"gather: {leaf.reason}",),
    )
    return Pipeline((branch,), leaf.schema, Estimate(None, 1 << 30))


def _normalize_floats(context: PlanContext, pipeline: Pipeline) -> Pipeline:
    """Normalize floats to one kind of NaN and of zero, since the operators of SQL can't be rewritten."""
    keys = context.exact.order(pipeline).keys()
    if keys is None:
        return pipeline
    branches = tuple(
        b.extend(context.rels.project(b.rel, keys, width=pipeline.width), "") for b in pipeline.branches
    )
    return replace(pipeline, branches=branches, one_nan=frozenset(range(pipeline.width)))

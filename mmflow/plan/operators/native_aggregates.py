"""Native aggregates: rows to states where they are, an exchange of the states, states to results.

    scan t -> [filter, project] -> partial aggregate      keys, arguments and filters are plain columns
    exchange of states by key   -> final aggregate        one task without keys

The relation below gives the columns: a projection computes what is not one yet. Where all rows are in one task, one
step does the whole. Several grouping sets are one: a copy of the rows for each set, whose keys that are not of the set
are null, is grouped by all keys and the number of the set.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.types as types
from substrait.algebra_pb2 import AggregateFunction, AggregateRel, Expression, Rel, SetRel

from mmflow.plan.native_aggregate import (
    FUNCTIONS,
    SUMS,
    AggregateStep,
    Measure,
    distinct_states,
    is_known,
    result_type,
    state_type,
)
from mmflow.plan.operators.context import PlanContext
from mmflow.plan.operators.exchanges import run_steps
from mmflow.plan.pipeline import Estimate, Pipeline
from mmflow.plan.rewrites.checked_arithmetic import cast
from mmflow.plan.rewrites.expression_types import kind_of
from mmflow.plan.stages import Broadcast
from mmflow.plan.substrait import field, field_index, int_literal, with_inputs

__all__ = ["IDEMPOTENT", "keys_of", "plan_native_aggregate"]

#: Aggregates that duplicates do not change, so that DISTINCT may be dropped.
IDEMPOTENT = {"min", "max", "bool_and", "bool_or", "bit_and", "bit_or"}


def plan_native_aggregate(context: PlanContext, rel: Rel, child: Pipeline) -> Pipeline | None:
    """Return the pipeline of an aggregation; None: it has a function or a type that the aggregator does not know.

    A part that runs whole is DataFusion's, and so are its aggregations (`whole.py`).
    """
    names = context.rels.names
    known = all(names.get(m.measure.function_reference) in FUNCTIONS for m in rel.aggregate.measures)
    if context.whole or not known:
        return None
    total = None
    if len(rel.aggregate.groupings) > 1:
        expanded = _expanded(context, rel, child)
        if expanded is None:
            return None
        rel, child, total = expanded
    keys = keys_of(rel.aggregate)
    if keys is None:
        return None
    columns = _Columns(context, child)
    key_columns = tuple(columns.number(e) for e in keys)
    measures = []
    for one in rel.aggregate.measures:
        measure = _measure(one, names[one.measure.function_reference], columns)
        if measure is None:
            return None
        measures.append(measure)
    declared = context.rels.schema(with_inputs(rel, child.branches[0].rel))
    prepared, places = columns.pipeline()
    step = _step(
        prepared.schema,
        tuple(places[k] for k in key_columns),
        tuple(Measure(m.function, _moved(m.column, places), _moved(m.filter, places)) for m in measures),
        declared,
    )
    return None if step is None else _run(context, prepared, replace(step, total=total), child)


def _expanded(context: PlanContext, rel: Rel, child: Pipeline) -> tuple[Rel, Pipeline, int | None] | None:
    """Return an aggregation with one grouping set, and its input, for one with several.

    DataFusion's column between keys and measures has a bit for each key that is not of the set, that of the last key
    the lowest.

    Returns:
        The aggregation; its input; that column's value in the row of all rows, if there is one whatever the rows. None:
        it has equal sets, which DataFusion tells apart.
    """
    aggregate = rel.aggregate
    # A key comes again with each set.
    texts = [e.SerializeToString(deterministic=True) for e in aggregate.grouping_expressions]
    order = {text: n for n, text in enumerate(dict.fromkeys(texts))}
    sets = [frozenset(order[texts[i]] for i in g.expression_references) for g in aggregate.groupings]
    count = len(order)
    declared = context.rels.schema(with_inputs(rel, child.branches[0].rel)).types
    if len(set(sets)) < len(sets) or len(declared) != count + 1 + len(aggregate.measures):
        return None
    keys = [context.exact.expression(aggregate.grouping_expressions[texts.index(t)], child) for t in order]
    numbers = [sum(1 << (count - 1 - n) for n in range(count) if n not in members) for members in sets]

    def null(key: int) -> Expression:
        made = Expression()
        made.literal.null.CopyFrom(context.rels.types_of([declared[key]])[0])
        return made

    def copies(below: Rel) -> Rel:
        made = Rel()
        made.set.op = SetRel.SET_OP_UNION_ALL
        for members, number in zip(sets, numbers, strict=True):
            values = [keys[n] if n in members else null(n) for n in range(count)]
            values.append(cast(int_literal(number), declared[count], context.rels))
            made.set.inputs.append(context.rels.project(below, values, width=child.width, keep=True))
        return made

    branches = tuple(b.extend(copies(b.rel), "copies for grouping sets") for b in child.branches)
    rows = None if child.estimate.rows is None else child.estimate.rows * len(sets)
    estimate = Estimate(rows, child.estimate.nbytes * len(sets))
    schema = context.rels.schema(branches[0].rel)
    single = Rel()
    single.CopyFrom(with_inputs(rel, Rel()))
    body = single.aggregate
    del body.groupings[:], body.grouping_expressions[:]
    body.grouping_expressions.extend(field(child.width + n) for n in range(count + 1))
    body.groupings.add().expression_references.extend(range(count + 1))
    total = numbers[sets.index(frozenset())] if frozenset() in sets else None
    return single, Pipeline(branches, schema, estimate, child.one_nan), total


def _run(context: PlanContext, prepared: Pipeline, step: AggregateStep, child: Pipeline) -> Pipeline:
    estimate = child.estimate if step.keys else Estimate(1, 1024)
    title = ("aggregate" if step.measures else "distinct") + ", reproducible sum" * step.sums_floats
    if prepared.single:
        whole = replace(step, phase="whole")
        made = run_steps(context, prepared, (whole,), step.results, title)
    else:
        partial = run_steps(context, prepared, (step,), step.states, f"partial {title}")
        # Upper bound: tasks read partitions together once their sizes are known.
        partitions = context.count_partitions(estimate.nbytes) if step.keys else 1
        several = partitions > 1
        output = context.hashed(tuple(range(len(step.keys))), partitions) if several else Broadcast()
        stages = context.builder.close(partial, output)
        opened = context.builder.reopen(stages, "partition" if several else "all", partial)
        final = "final aggregate" if step.measures else "final distinct"
        made = run_steps(context, opened, (replace(step, phase="final"),), step.results, final)
    # Keys, extremes and sums have one NaN.
    return replace(made, estimate=estimate, one_nan=frozenset(range(len(step.results))))


def keys_of(aggregate: AggregateRel) -> list[Expression] | None:
    """Return the grouping expressions; None for several grouping sets."""
    if len(aggregate.groupings) > 1:
        return None
    keys = list(aggregate.grouping_expressions)
    if aggregate.groupings and list(aggregate.groupings[0].expression_references) != list(range(len(keys))):
        return None
    return keys


class _Columns:
    """Columns that an aggregation reads: those of its input, and computed ones."""

    def __init__(self, context: PlanContext, child: Pipeline) -> None:
        self._context = context
        self._child = child
        self._computed: dict[bytes, Expression] = {}
        self._used: dict[int, None] = {}

    def number(self, e: Expression) -> int:
        """Return the number of a column with the values of an expression, from the input's width on if computed."""
        made = field_index(e)
        if made is None:
            exact = self._context.exact.expression(e, self._child)
            text = exact.SerializeToString(deterministic=True)
            self._computed.setdefault(text, exact)
            made = self._child.width + list(self._computed).index(text)
        self._used[made] = None
        return made

    @property
    def schema(self) -> pa.Schema:
        """Columns of the input."""
        return self._child.schema

    def pipeline(self) -> tuple[Pipeline, dict[int, int]]:
        """Return a pipeline with the columns that are used, and the number of each in it."""
        child, rels = self._child, self._context.rels
        all_known = all(is_known(t) for t in child.schema.types)
        if not self._computed and (
            list(self._used) == list(range(child.width))
            or (all_known and all(branch.trivial for branch in child.branches))
        ):
            return child, {i: i for i in self._used}
        computed = list(self._computed.values())
        wanted = [field(i) if i < child.width else computed[i - child.width] for i in self._used]
        branches = tuple(
            b.extend(rels.project(b.rel, wanted, width=child.width), "project" if computed else "")
            for b in child.branches
        )
        used = pa.schema([child.schema.field(i) for i in self._used if i < child.width])
        schema = rels.schema(branches[0].rel) if computed else used
        made = Pipeline(branches, schema, child.estimate)
        return made, {column: place for place, column in enumerate(self._used)}


def _measure(measure: AggregateRel.Measure, name: str, columns: _Columns) -> Measure | None:
    function = measure.measure
    distinct = function.invocation == AggregateFunction.AGGREGATION_INVOCATION_DISTINCT
    if function.sorts or (distinct and name not in IDEMPOTENT):
        return None
    arguments = [a.value for a in function.arguments]
    if len(arguments) > 1 or (not arguments and name != "count"):
        return None
    column = None
    if arguments and not (name == "count" and _is_value(arguments[0])):
        column = columns.number(_bare(arguments[0], name, columns.schema))
    chosen = columns.number(measure.filter) if measure.HasField("filter") else None
    return Measure(name, column, chosen)


def _is_value(e: Expression) -> bool:
    return bool(e.WhichOneof("rex_type") == "literal" and e.literal.WhichOneof("literal_type") != "null")


def _bare(e: Expression, function: str, schema: pa.Schema) -> Expression:
    """Return the argument of a sum or average without a cast to a wider number, which changes nothing of the result."""
    if function not in SUMS or e.WhichOneof("rex_type") != "cast":
        return e
    inner, to = kind_of(e.cast.input, schema), kind_of(e, schema)
    if inner is None or to is None or not is_known(inner):
        return e
    wider = (
        (types.is_floating(inner) and to == pa.float64())
        or (function == "avg" and types.is_integer(inner) and to == pa.float64())
        or (function == "sum" and types.is_integer(inner) and to == result_type("sum", inner))
    )
    return e.cast.input if wider else e


def _moved(column: int | None, places: dict[int, int]) -> int | None:
    return None if column is None else places[column]


def _step(
    rows: pa.Schema, keys: tuple[int, ...], measures: tuple[Measure, ...], declared: pa.Schema
) -> AggregateStep | None:
    """Return the partial step; None where the aggregator does not know a type, or would give another one."""
    kinds = rows.types
    made = [kinds[k] for k in keys]
    for measure in measures:
        kind = None if measure.column is None else kinds[measure.column]
        made.append(result_type(measure.function, kind))
    read = [*keys, *(c for m in measures for c in (m.column, m.filter) if c is not None)]
    if made != declared.types or not all(is_known(kinds[c]) for c in read):
        return None
    distinct = distinct_states(measures)
    names = dict(zip(measures, declared.names[len(keys) :], strict=True))
    states = [
        pa.field(names[m], state_type(m.function, None if m.column is None else kinds[m.column]))
        for m in distinct
    ]
    results = pa.schema([pa.field(n, t) for n, t in zip(declared.names, declared.types, strict=True)])
    return AggregateStep(
        keys, measures, "partial", rows, pa.schema([*list(results)[: len(keys)], *states]), results
    )

"""Splitting an aggregation into a partial and a final one.

`sum count min max avg` and friends run on each piece of the input, then once more on what
the pieces gave: avg travels as a sum and a count. Other aggregates can't be merged; their rows are exchanged
by key first. The split gives DataFusion's own values and types: what widened on the way is cast back.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from substrait.algebra_pb2 import AggregateFunction, AggregateRel, AggregationPhase, Expression, Rel

from mmflow.plan.checked import WIDE, cast
from mmflow.plan.rels import Rels, field

__all__ = ["Split", "keys_of", "split"]

# What merges partial results of each aggregate; avg is apart.
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
# Duplicates do not change these, so DISTINCT may be dropped.
_IDEMPOTENT = {"min", "max", "bool_and", "bool_or", "bit_and", "bit_or"}


@dataclass(frozen=True, slots=True)
class Split:
    """A partial aggregation over the input's layout, and the final one over a table of its output."""

    partial: Rel
    partial_schema: pa.Schema
    keys: int
    final: Rel
    table: tuple[str, pa.Schema]


def keys_of(aggregate: AggregateRel) -> list[Expression] | None:
    """The grouping expressions; None where there are several grouping sets."""
    if len(aggregate.groupings) > 1:
        return None
    keys = list(aggregate.grouping_expressions)
    if aggregate.groupings and list(aggregate.groupings[0].expression_references) != list(range(len(keys))):
        return None
    return keys


def _mergeable(function: AggregateFunction, name: str) -> bool:
    distinct = function.invocation == AggregateFunction.AGGREGATION_INVOCATION_DISTINCT
    if function.sorts or (distinct and name not in _IDEMPOTENT):
        return False
    return name == "avg" or name in _MERGE


def split(rel: Rel, child: Rel, rels: Rels, declared: pa.Schema) -> Split | None:
    """Split an aggregation whose input is `child`.

    Args:
        rel: The aggregate relation.
        child: Its input.
        rels: Function space of the query.
        declared: Types that the whole aggregation gives.

    Returns:
        None where a measure can't be merged, or there are several grouping sets.
    """
    aggregate = rel.aggregate
    keys = keys_of(aggregate)
    if keys is None:
        return None
    names = {anchor: name for name, anchor in rels.anchors.items()}
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
    return Split(partial, partial_schema, len(keys), final, (table_name, stored))


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
    rels: Rels,
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

"""Groups that a join drops anyway are not made: a semi-join below the aggregation, by the join's own keys.

    part (brand = …) ──────────┐                     part (brand = …) ─────────────────────────┐
    lineitem ── by l_partkey ──┴ join on l_partkey   lineitem ⋉ part (brand = …) ── by l_partkey ──┴ join on l_partkey

A group whose key has no partner in the join is in none of its rows, so rows of other keys need not be grouped. The
filtered table is read twice for that, so it is done for a table that is much smaller than what is grouped. It is
sideways information passing as in "Cost-Based Optimization for Magic: Algebra and Implementation" (Seshadri and others,
1996).
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from substrait.algebra_pb2 import AggregateRel, Expression, JoinRel, Rel

from mmflow.plan.catalog import SourceLeaf
from mmflow.plan.operators.context import PlanContext
from mmflow.plan.optimizer.estimates import scan_estimate
from mmflow.plan.optimizer.joins import equalities
from mmflow.plan.optimizer.pushdown import comparisons
from mmflow.plan.substrait import (
    ONE_SIDED,
    field,
    field_index,
    inputs_of,
    join_type,
    kind,
    messages,
    table_name,
    wanted_columns,
    width_of_relation,
    with_inputs,
)

__all__ = ["with_reduced_groups"]

#: Sides of joins whose rows are in no output without a partner.
_DROPPING = {
    "INNER": (0, 1),
    "LEFT": (1,),
    "RIGHT": (0,),
    "LEFT_SEMI": (0, 1),
    "RIGHT_SEMI": (0, 1),
}
#: Bytes that are grouped for each byte that is read twice.
_LEAST_RATIO = 8
#: Comparisons that few rows pass, as far as one can say without statistics (Selinger et al., 1979).
_SELECTIVE = frozenset({"eq", "in", "contains"})
#: Functions of conditions that may be computed twice.
_SAME_EACH_TIME = frozenset(
    {
        *("equal", "not_equal", "lt", "lte", "gt", "gte", "is_null", "is_not_null", "and", "or", "not"),
        *("like", "contains", "starts_with", "ends_with", "add", "subtract", "multiply"),
    }
)


def with_reduced_groups(context: PlanContext, rel: Rel) -> Rel:
    """Return a relation whose aggregations below joins make only groups that the joins may want, where that pays.

    Args:
        context: The query's. One with a null-aware join is left as it is: those are counted in the order of the plan.
        rel: The relation, all of whose inputs are changed likewise.
    """
    if any(context.null_aware.flags) or context.encoded.has_subqueries:
        return rel
    return _reduced(context, rel)


def _reduced(context: PlanContext, rel: Rel) -> Rel:
    below = inputs_of(rel)
    made = [_reduced(context, r) for r in below]
    if any(a is not b for a, b in zip(below, made, strict=True)):
        rel = with_inputs(rel, *made)
    if kind(rel) == "join":
        for side in _DROPPING.get(join_type(rel), ()):
            changed = _side(context, rel, side)
            if changed is not None:
                made[side] = changed
                return with_inputs(rel, *made)
    return rel


def _side(context: PlanContext, rel: Rel, side: int) -> Rel | None:
    """Return a side of a join with fewer groups; None: it has no aggregation, or that would not pay."""
    inputs = inputs_of(rel)
    width = width_of_relation(inputs[0])
    if width is None:
        return None
    for mine, other in _pairs(context, rel, width, side):
        found = _aggregate_of(inputs[side], mine)
        if found is None:
            continue
        path, aggregate, key = found
        grouped = aggregate.aggregate.input
        origin = _origin(grouped, key)
        if origin is None or not _groups_as_it_joins(context, *origin):
            continue
        most = _bytes_read(context, grouped) // _LEAST_RATIO
        for table, column in _holders(context, inputs[1 - side], other):
            if _selects(context, table) and _bytes_read(context, table) <= most:
                reduced = _semi_join(context, grouped, key, table, column)
                if reduced is None:
                    continue
                made = with_inputs(aggregate, reduced)
                for above in reversed(path):
                    made = with_inputs(above, made)
                return made
    return None


def _pairs(context: PlanContext, rel: Rel, width: int, side: int) -> Iterator[tuple[int, int]]:
    """Yield the columns of a side and of the other whose equality is a condition of the join."""
    keys = equalities(rel, width, context.rels.names, nulls=False)
    for pair in zip(keys.left, keys.right, strict=True):
        mine, other = field_index(pair[side]), field_index(pair[1 - side])
        if mine is not None and other is not None:
            yield mine, other


def _aggregate_of(rel: Rel, column: int) -> tuple[list[Rel], Rel, int] | None:
    """Return the row-wise relations over an aggregation, it, and the column of its input that is its key `column`."""
    path: list[Rel] = []
    while kind(rel) in ("project", "filter"):
        below = _column_below(rel, column)
        if below is None:
            return None
        path.append(rel)
        rel, column = inputs_of(rel)[0], below
    if kind(rel) != "aggregate":
        return None
    key = _key_below(rel.aggregate, column)
    return None if key is None else (path, rel, key)


def _key_below(aggregate: AggregateRel, column: int) -> int | None:
    """Return the column of an aggregation's input that is its key number `column`, alone in each of its groups."""
    if len(aggregate.groupings) != 1 or aggregate.common.HasField("emit"):
        return None
    references = aggregate.groupings[0].expression_references
    if column >= len(references):
        return None
    return field_index(aggregate.grouping_expressions[references[column]])


def _column_below(rel: Rel, column: int) -> int | None:
    """Return the column of the input of a filter or project that is its own number `column`."""
    body = getattr(rel, kind(rel))
    if body.common.HasField("emit"):
        column = body.common.emit.output_mapping[column]
    if kind(rel) == "filter":
        return column
    width = width_of_relation(body.input)
    if width is None:
        return None
    return column if column < width else field_index(body.expressions[column - width])


def _origin(rel: Rel, column: int) -> tuple[Rel, int] | None:
    """Return the scan, and its column, that a column is; None: it is none as it stands."""
    while kind(rel) in ("project", "filter"):
        below = _column_below(rel, column)
        if below is None:
            return None
        rel, column = inputs_of(rel)[0], below
    return (rel, column) if kind(rel) == "read" and table_name(rel) is not None else None


def _groups_as_it_joins(context: PlanContext, read: Rel, column: int) -> bool:
    """Return whether values of a column are one group just if a join takes them for equal: zeros of floats are not."""
    kind_of = _schema(context, read).types[column]
    return bool(
        pa.types.is_integer(kind_of)
        or pa.types.is_date(kind_of)
        or pa.types.is_decimal(kind_of)
        or pa.types.is_string(kind_of)
        or pa.types.is_large_string(kind_of)
        or pa.types.is_string_view(kind_of)
    )


def _holders(context: PlanContext, rel: Rel, column: int) -> Iterator[tuple[Rel, int]]:
    """Yield filtered scans with a column that has all values, nulls left out, of a column of a relation."""
    match kind(rel):
        case "project" | "filter":
            if _origin(rel, column) is not None:
                yield rel, column
                return
            below = _column_below(rel, column)
            if below is not None:
                yield from _holders(context, inputs_of(rel)[0], below)
        case "join":
            if rel.join.common.HasField("emit"):
                return
            how, inputs = join_type(rel), inputs_of(rel)
            width = width_of_relation(inputs[0])
            if width is None or how not in ("INNER", "LEFT_SEMI", "RIGHT_SEMI"):
                return
            side = ONE_SIDED.get(how, int(column >= width))
            column -= width if side and how == "INNER" else 0
            yield from _holders(context, inputs[side], column)
            for mine, other in _pairs(context, rel, width, side):
                if mine == column:
                    yield from _holders(context, inputs[1 - side], other)


def _schema(context: PlanContext, read: Rel) -> pa.Schema:
    """Return the columns that a scan gives."""
    leaf = context.catalog.leaf(str(table_name(read)))
    assert leaf is not None  # the plan reads no table that the catalog does not have
    return pa.schema([leaf.schema.field(i) for i in wanted_columns(read, len(leaf.schema))])


def _selects(context: PlanContext, rel: Rel) -> bool:
    """Return whether a filtered scan has a condition that few rows pass, and gives the same rows each time."""
    names = context.rels.names
    while kind(rel) in ("project", "filter"):
        calls = (m for m in messages(rel) if isinstance(m, Expression.ScalarFunction))
        if any(names.get(call.function_reference) not in _SAME_EACH_TIME for call in calls):
            return False
        below = inputs_of(rel)[0]
        if kind(rel) == "filter" and kind(below) == "read" and table_name(below) is not None:
            found = comparisons(rel.filter.condition, _schema(context, below), context.rels.anchors)
            return any(c.op in _SELECTIVE for c in found)
        rel = below
    return False


def _bytes_read(context: PlanContext, rel: Rel) -> int:
    """Return about how many bytes the scans below a relation read."""
    name = table_name(rel)
    if name is None:
        return sum(_bytes_read(context, below) for below in inputs_of(rel))
    leaf = context.catalog.leaf(name)
    if not isinstance(leaf, SourceLeaf):
        return 0
    columns = [leaf.schema.names[i] for i in wanted_columns(rel, len(leaf.schema))]
    return scan_estimate(leaf.source, columns).nbytes


def _semi_join(context: PlanContext, grouped: Rel, key: int, table: Rel, column: int) -> Rel | None:
    """Return the rows of `grouped` whose key is a value of the table's column."""
    width, own = width_of_relation(grouped), width_of_relation(table)
    if width is None or own is None:
        return None
    made = Rel()
    made.join.left.CopyFrom(grouped)
    made.join.right.CopyFrom(context.rels.project(table, [field(column)], width=own))
    made.join.expression.CopyFrom(context.rels.call("equal", field(key), field(width)))
    made.join.type = JoinRel.JOIN_TYPE_LEFT_SEMI
    return made

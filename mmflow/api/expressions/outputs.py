"""Expressions of one verb together: the columns of a projection or an aggregation, each with a name of its own.

aggregation     keys, aggregates            one relation, where each output is an aggregate
                keys, __aggregate_0, ...    else with a projection above it: sum(a) / count(*)
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import pyarrow.types as types
from datafusion import DataFrame

from mmflow.api.expressions.expr import Expr, as_column, columns_of, lit
from mmflow.api.expressions.tree.nodes import Raw, WindowSpec, quoted_column
from mmflow.api.expressions.tree.scope import Resolved, Scope
from mmflow.errors import PlanError

__all__ = ["aggregated", "conditions", "exploded", "filtered", "listed", "named", "projected", "row_values"]


def listed(items: Iterable[Any], named: Mapping[str, Any]) -> list[Expr]:
    """Return the expressions that a verb was given: names and lists of them too, and `name=expression`.

    What is neither an expression nor text is a literal where it has a name.
    """
    return [*columns_of(items), *(_value(v).alias(n) for n, v in named.items())]


def _value(value: Any) -> Expr:
    return as_column(value) if isinstance(value, str | Expr) else lit(value)


def _resolved(scope: Scope, items: Sequence[Expr]) -> list[Resolved]:
    found = [scope.resolve(node) for item in items for node in scope.expand(item._node)]
    for one in found:
        one.type  # noqa: B018  (raises where types do not fit)
    return found


def _check_names(found: Sequence[Resolved], before: Sequence[str] = ()) -> None:
    counts = Counter([*before, *(r.name for r in found)])
    for one in found:
        if counts[one.name] > 1:
            raise one.node.error(
                f"two columns are named {one.name!r}: give one of them another name by alias()"
            )


def projected(scope: Scope, items: Sequence[Expr], *, beside_rows: bool = False) -> list[Resolved] | None:
    """Return the columns of a projection; None where they are one row of aggregates.

    An aggregate beside values of rows is that of all rows; `beside_rows`: there are such values already.

    Raises:
        PlanError: An expression does not fit the columns, or two have one name.
    """
    found = _resolved(scope, items)
    _check_names(found)
    if not scope.aggregates:
        return found
    if not beside_rows and all(r.shape != "rows" for r in found):
        return None
    return _resolved(_whole(scope), items)


def exploded(items: Sequence[Expr]) -> tuple[list[Expr], bool, bool] | None:
    """Return the lists of columns that all explode, and the options of `explode`; None: no column does.

    Raises:
        PlanError: Some columns explode and others don't, or otherwise.
    """
    lists, found = [], []
    for item in items:
        node, name = item._node, item._node.output_name
        while node.operation == "alias":
            node = node.inputs[0]
        found.append((node, node.explosion))
        if node.explosion is not None:
            several = node.inputs[0].selector is not None
            lists.append(Expr(node.inputs[0]) if several else Expr(node.inputs[0]).alias(name))
    kinds = {explosion for _, explosion in found}
    if kinds <= {None}:
        return None
    if len(kinds) > 1:
        node = next(n for n, explosion in found if explosion is not None)
        raise node.error(
            "list.explode() in select(): all columns must explode, in the same way; dataset.explode('column') keeps "
            "the other columns"
        )
    empty_as_null, keep_nulls = next(k for k in kinds if k is not None)
    return lists, empty_as_null, keep_nulls


def row_values(scope: Scope, items: Sequence[Expr], verb: str) -> list[Resolved]:
    """Return the values of keys, which each row must have by itself.

    Raises:
        PlanError: One is an aggregate or a window function, or does not fit the columns.
    """
    found = _resolved(scope, items)
    for one in found:
        if scope.aggregates or one.windowed:
            raise one.node.error(
                f"{verb}() takes values of a row, but {one.node.call} sees others too: compute it by "
                "with_columns() first"
            )
    return found


def conditions(scope: Scope, items: Sequence[Expr]) -> list[Resolved]:
    """Return the conditions of a filter. An aggregate in one of them is that of all rows.

    Raises:
        PlanError: One is no condition, or does not fit the columns.
    """
    found = _resolved(scope, items)
    if scope.aggregates:
        found = _resolved(_whole(scope), items)
    for one in found:
        if not types.is_boolean(one.type) and not types.is_null(one.type):
            raise one.node.error(
                f"filter() takes conditions, but {one.shown()} is none; compare it with something"
            )
    return found


def filtered(frame: DataFrame, found: Sequence[Resolved], columns: Sequence[str]) -> DataFrame:
    """Return the rows for which conditions hold, with these columns if a condition sees other rows.

    A window function is computed before: it sees the rows that other conditions leave out, too.
    """
    if not any(r.windowed for r in found):
        return frame.filter(*[r.raw for r in found])
    name = "__condition"
    while name in columns:
        name = f"_{name}"
    kept = [quoted_column(n) for n in columns]
    both = reduce(operator.and_, [r.raw for r in found])
    return frame.select(*kept, both.alias(name)).filter(quoted_column(name)).select(*kept)


def _whole(scope: Scope) -> Scope:
    """Return the scope in which aggregates without `over` are those of all rows."""
    return replace(scope, window=WindowSpec(whole=True), aggregates={})


def aggregated(frame: DataFrame, scope: Scope, keys: Sequence[Expr], items: Sequence[Expr]) -> DataFrame:
    """Return one row for each group: the keys, then the aggregates.

    Raises:
        PlanError: An expression is no aggregate or does not fit the columns, or two have one name.
    """
    by = row_values(scope, keys, "group_by")
    scope.keys = [r.node.column for r in by if r.node.column is not None]
    found = _resolved(scope, items)
    _check_names([*by, *found])
    for one in found:
        if one.shape == "rows":
            raise one.node.error(
                f"agg() takes aggregates, but {one.shown()} has a value for each row: say which, such as "
                f".sum(), .max() or .count()"
            )
    columns = [named(r) for r in by]
    # Without a projection above them, where each of them is an aggregate.
    plain = {str(r.raw.to_variant().name()): r for r in found if r.raw.variant_name() == "Column"}
    if len(plain) == len(found) == len(scope.aggregates):
        return frame.aggregate(columns, [scope.aggregates[n][0].alias(r.name) for n, r in plain.items()])
    calls = [raw.alias(name) for name, (raw, _) in scope.aggregates.items()]
    if not calls:
        raise PlanError("agg() takes at least one aggregate, such as mf.len()")
    made = frame.aggregate(columns, calls)
    return made.select(*[quoted_column(r.name) for r in by], *[r.raw.alias(r.name) for r in found])


def named(one: Resolved) -> Raw:
    """Return DataFusion's expression under the name of its output."""
    return one.raw if one.node.column == one.name else one.raw.alias(one.name)

"""Floats over frames that move become functions of mmflow, which subtract nothing (`plan/functions/moving.py`).

frame                                 sum, avg, var, corr, ... of floats
whole partition                       DataFusion's
ROWS                                  all rows of a partition at once
RANGE UNBOUNDED PRECEDING..CURRENT    DataFusion's, over keys whose order it can't know: where rows already come in
                                      the opposite order, DataFusion 55 runs such a frame from its other end
other RANGE frames                    frame by frame
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
from substrait.algebra_pb2 import Expression, SortField

from mmflow.plan.functions.moving import MOVING, MovingFunction
from mmflow.plan.pipeline import Pipeline
from mmflow.plan.rewrites.checked_arithmetic import cast
from mmflow.plan.rewrites.expression_types import kind_of
from mmflow.plan.stages import Function
from mmflow.plan.substrait import RelationBuilder, int_literal

__all__ = ["MovingFrames"]

_ROWS = Expression.WindowFunction.BOUNDS_TYPE_ROWS
_DESCENDING = (
    SortField.SORT_DIRECTION_DESC_NULLS_FIRST,
    SortField.SORT_DIRECTION_DESC_NULLS_LAST,
)


class MovingFrames:
    """Rewriter of the window functions of one relation.

    Args:
        rels: Function space of the query.
        use: Declares a function to the query and its workers, and returns its anchor.
    """

    def __init__(self, rels: RelationBuilder, use: Callable[[Function], int]) -> None:
        self._rels = rels
        self._use = use
        self._names = rels.names

    def rewrite(self, calls: Sequence[Expression.WindowFunction], child: Pipeline) -> None:
        """Rewrite in place the calls that add up floats over the rows of a pipeline."""
        growing = False
        for call in calls:
            name = self._names.get(call.function_reference, "")
            if name not in MOVING or not self._adds_floats(name, call, child):
                continue
            first, last = _offset(call.lower_bound), _offset(call.upper_bound)
            if first is None and last is None:
                continue
            rows = call.bounds_type == _ROWS
            if not rows and first is None and last == 0:
                growing = True
                continue
            call.function_reference = self._use(MovingFunction(name, (first, last) if rows else None))
            for argument in call.arguments:
                if kind_of(argument.value, child.schema) != pa.float64():
                    argument.value.CopyFrom(cast(argument.value, pa.float64(), self._rels))
        if growing:
            # All calls of one order stay together: each order is one sort.
            for call in calls:
                if call.sorts:
                    call.sorts[0].expr.CopyFrom(self._of_unknown_order(call.sorts[0]))

    def _adds_floats(self, name: str, call: Expression.WindowFunction, child: Pipeline) -> bool:
        if name not in ("sum", "avg"):
            return True  # moments are computed as floats, whatever they are of
        argument = call.arguments[0].value
        kind = kind_of(argument, child.schema)
        if kind is None:
            rel = self._rels.project(child.branches[0].rel, [argument], width=child.width)
            kind = self._rels.schema(rel).field(0).type
        return pa.types.is_floating(kind) or (name == "avg" and pa.types.is_integer(kind))

    def _of_unknown_order(self, sort: SortField) -> Expression:
        """Return the key of a sort as an expression that DataFusion can't compare with the order of other sorts."""
        copies = 2 if sort.direction in _DESCENDING else 1
        listed = self._rels.call("make_array", *[sort.expr] * copies)
        return self._rels.call("array_element", listed, int_literal(1))


def _offset(bound: Expression.WindowFunction.Bound) -> int | None:
    """Return the distance of a frame's bound from the current row; None: the partition has no such bound."""
    match bound.WhichOneof("kind"):
        case "preceding":
            return -int(bound.preceding.offset)
        case "following":
            return int(bound.following.offset)
        case "current_row":
            return 0
        case _:
            return None

"""Relations to run for those of a query: integers are checked (`checked.py`), floats in one order (`float_order.py`).

Each function takes a relation and the pipelines that it reads, and gives one of the same layout.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from substrait.algebra_pb2 import Expression, Rel

from mmflow.plan.errors import RefusedError
from mmflow.plan.pipeline import Pipeline
from mmflow.plan.rewrites.capture_groups import Captures
from mmflow.plan.rewrites.checked_arithmetic import Arithmetic, restore_sum_type, summed, wide_argument
from mmflow.plan.rewrites.expression_types import rewritten
from mmflow.plan.rewrites.float_order import FloatOrder
from mmflow.plan.rewrites.moving_frames import MovingFrames
from mmflow.plan.rewrites.nulls import Nulls
from mmflow.plan.stages import Function
from mmflow.plan.substrait import RelationBuilder, field, kind, messages, with_inputs

__all__ = ["Exact", "windows_in"]


class Exact:
    """Rewriter of relations into exact ones, in the function space of one query.

    Args:
        rels: The function space.
        use: Declares a function to the query and its workers, and returns its anchor.
    """

    def __init__(self, rels: RelationBuilder, use: Callable[[Function], int]) -> None:
        self._rels = rels
        self._use = use
        self._names = rels.names
        self._arithmetic = Arithmetic(rels, use)
        self._captures = Captures(rels, use)
        self._nulls = Nulls(rels)
        self._moving = MovingFrames(rels, use)

    def order(self, child: Pipeline) -> FloatOrder:
        """Return the order of floats over the columns of a pipeline."""
        return FloatOrder(self._rels, child.schema, child.one_nan, self._use)

    def _expression(self, e: Expression, order: FloatOrder, *, join: bool = False) -> Expression:
        def change(part: Expression) -> None:
            self._arithmetic.check(part, order.schema)
            order.compare(part, join=join)
            self._captures.keep(part)
            self._nulls.keep(part)

        return rewritten(e, change)

    def _key(self, e: Expression, order: FloatOrder, *, last: bool = False) -> Expression:
        return order.key(self._expression(e, order), last=last)

    def expression(self, e: Expression, child: Pipeline) -> Expression:
        """Return an exact expression over the columns of a pipeline."""
        return self._expression(e, self.order(child))

    def filter(self, rel: Rel, child: Pipeline) -> Rel:
        """Return an exact filter."""
        made = with_inputs(rel, Rel())
        made.filter.condition.CopyFrom(self._expression(rel.filter.condition, self.order(child)))
        return made

    def project(self, rel: Rel, child: Pipeline) -> tuple[Rel, frozenset[int]]:
        """Return an exact project without window functions, and its columns that hold one kind of NaN."""
        order = self.order(child)
        made = with_inputs(rel, Rel())
        del made.project.expressions[:]
        made.project.expressions.extend(self._expression(e, order) for e in rel.project.expressions)
        given = [*(field(i) for i in range(child.width)), *made.project.expressions]
        kept = rel.project.common.emit.output_mapping or range(len(given))
        return made, frozenset(n for n, i in enumerate(kept) if order.has_one_nan(given[i]))

    def aggregate(self, rel: Rel, child: Pipeline) -> Rel:
        """Return an exact aggregation, whose sums may still wrap (see `Measures`)."""
        order = self.order(child)
        made = with_inputs(rel, Rel())
        body = made.aggregate
        del body.grouping_expressions[:]
        body.grouping_expressions.extend(self._key(e, order) for e in rel.aggregate.grouping_expressions)
        for grouping in body.groupings:
            # DataFusion 55 also writes, and then prefers, the expressions in a field that newer Substrait doesn't know.
            grouping.DiscardUnknownFields()
        for measure in body.measures:
            function = measure.measure
            name = self._names.get(function.function_reference, "")
            if measure.HasField("filter"):
                measure.filter.CopyFrom(self._expression(measure.filter, order))
            distinct = function.invocation == function.AGGREGATION_INVOCATION_DISTINCT
            for argument in function.arguments:
                value = self._expression(argument.value, order)
                argument.value.CopyFrom(order.key(value) if distinct or not order.adds(name) else value)
            for sort in function.sorts:
                sort.expr.CopyFrom(self._key(sort.expr, order))
        return made

    def windows(self, rel: Rel, child: Pipeline) -> tuple[Rel, list[Expression] | None]:
        """Return an exact project of window functions, and the query's columns over it; None: it has them."""
        order = self.order(child)
        exact = with_inputs(rel, Rel())
        del exact.project.expressions[:]
        exact.project.expressions.extend(self._expression(e, order) for e in rel.project.expressions)
        totals: dict[int, pa.DataType] = {}
        calls: list[Expression.WindowFunction] = []
        for number, made in enumerate(exact.project.expressions):
            for found in windows_in(made):
                calls.append(found.window_function)
                total = self._window(found.window_function, order)
                if total is not None:
                    if found is not made:
                        raise RefusedError(
                            "a sum over a window stands inside of another expression: name it in a subquery"
                        )
                    totals[child.width + number] = total
        self._moving.rewrite(calls, child)
        if not totals:
            return exact, None
        count = child.width + len(rel.project.expressions)
        kept = list(rel.project.common.emit.output_mapping) or list(range(count))
        restored = [
            restore_sum_type(field(n), totals[i], self._rels, self._use) if i in totals else field(n)
            for n, i in enumerate(kept)
        ]
        return exact, restored

    def _window(self, window: Expression.WindowFunction, order: FloatOrder) -> pa.DataType | None:
        """Rewrite a window function in place, and return the type of its argument if its total is wide now."""
        name = self._names.get(window.function_reference, "")
        for partition in window.partitions:
            partition.CopyFrom(order.key(partition))
        for sort in window.sorts:
            sort.expr.CopyFrom(order.key(sort.expr))
        for argument in window.arguments if not order.adds(name) else ():
            argument.value.CopyFrom(order.key(argument.value))
        total = summed(window, name, order.schema)
        if total is not None:
            argument = window.arguments[0].value
            argument.CopyFrom(wide_argument(argument, total, self._rels))
        return total

    def join(self, rel: Rel, left: Pipeline, right: Pipeline) -> Rel:
        """Return an exact join."""
        if kind(rel) != "join":
            return rel
        one_nan = left.one_nan | {left.width + i for i in right.one_nan}
        order = FloatOrder(self._rels, pa.schema([*left.schema, *right.schema]), one_nan, self._use)
        made = with_inputs(rel, Rel(), Rel())
        for name in ("expression", "post_join_filter"):
            if rel.join.HasField(name):
                getattr(made.join, name).CopyFrom(self._expression(getattr(rel.join, name), order, join=True))
        return made

    def sort(self, rel: Rel, child: Pipeline) -> Rel:
        """Return an exact sort."""
        order = self.order(child)
        made = with_inputs(rel, Rel())
        for number, one in enumerate(made.sort.sorts, 1):
            one.expr.CopyFrom(self._key(one.expr, order, last=number == len(made.sort.sorts)))
        return made


def windows_in(expression: Expression) -> list[Expression]:
    """Return the window functions in an expression, itself included."""
    found = [m for m in messages(expression) if isinstance(m, Expression)]
    return [m for m in found if m.WhichOneof("rex_type") == "window_function"]

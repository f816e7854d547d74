"""Pieces of mmflow's expressions that narwhals asks for, and that `Expr` has no method for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datafusion import functions as F  # noqa: N812
from datafusion.expr import Window, WindowFrame

from mmflow.api import functions as mf_functions
from mmflow.api.expressions import Expr, as_value, call_function, coalesce, col, concat_str, lit, when
from mmflow.api.expressions.comparing import number
from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Raw, WindowSpec
from mmflow.api.expressions.tree.scope import Resolved

__all__ = ["choice", "first", "function", "literal_of", "over", "rolling", "row_number"]


def choice(condition: Expr, value: Any, otherwise: Any = None) -> Expr:
    """Return one value where a condition holds, and another one elsewhere."""
    return when(condition).then(value).otherwise(otherwise)


def over(
    expression: Expr,
    partition_by: Sequence[Expr | str] = (),
    order_by: Sequence[Expr | str] = (),
    *,
    reverse: bool = False,
) -> Expr:
    """Return an aggregate or a function of the order of rows, in narwhals' order: nulls first; `reverse`: backwards."""
    if reverse:
        return expression.over(*partition_by, order_by=order_by, descending=True)
    # mmflow has nulls last.
    keys = [k for o in order_by for k in (_key(o).is_not_null(), _key(o))]
    return expression.over(*partition_by, order_by=keys)


def _key(column: Expr | str) -> Expr:
    return col(column) if isinstance(column, str) else column


def row_number() -> Expr:
    """Return the number of each row in the order of `over`, from 1."""
    return call_function("row_number", F.row_number, (), {})


def first(expression: Expr, order_by: Sequence[str], *, last: bool) -> Expr:
    """Return the first or the last value in the order of columns, null or not."""
    # One key, as mmflow has it: a struct is ordered by its fields, in turn.
    key = call_function("order", _order_key, ([col(k) for k in order_by],), {})
    return expression.last(order_by=key) if last else expression.first(order_by=key)


def _order_key(columns: Sequence[Raw]) -> Raw:
    # Nulls first.
    fields = [f for c in columns for f in (c.is_not_null(), c)]
    return F.named_struct([(f"c{i}", f) for i, f in enumerate(fields)])


def rolling(expression: Expr, kind: str, size: int, least: int, *, center: bool, ddof: int = 1) -> Expr:
    """Return an aggregate of the rows around each one, in the order of `over`; null of fewer than `least` values."""
    after = (size - 1) // 2 if center else 0
    frame = WindowFrame("rows", size - 1 - after, after)
    aggregates: Mapping[str, Callable[[Raw], Raw]] = {
        "sum": F.sum,
        "mean": F.avg,
        "var": F.var_samp if ddof else F.var_pop,
        "std": F.stddev if ddof else F.stddev_pop,
    }

    def build(window: WindowSpec, value: Resolved) -> Raw:
        def framed(raw: Raw) -> Raw:
            by, order = [*window.partition], [*window.order]
            return raw.over(Window(partition_by=by, window_frame=frame, order_by=[*order]))

        enough = framed(F.count(value.raw)) >= literal(least)
        return F.when(enough, framed(aggregates[kind](number(f"rolling_{kind}", value)))).end()

    return expression._apply(f"rolling_{kind}", build, window="ordered")


def literal_of(expression: Expr, what: str) -> Any:
    """Return the value of a literal.

    Raises:
        NotImplementedError: It is computed for each row.
    """
    if expression._node.value is None:
        raise NotImplementedError(f"{what}: mmflow takes one value for all rows, and no expression")
    return expression._node.value.as_py()


#: What narwhals' base classes call by name.
_FUNCTIONS: Mapping[str, Callable[..., Expr]] = {
    "add": operator.add,
    "and": operator.and_,
    "divide": operator.truediv,
    "isnotnull": Expr.is_not_null,
    "isnull": Expr.is_null,
    "length": lambda text: text.str.len_chars(),
    "multiply": operator.mul,
    "starts_with": lambda text, prefix: text.str.starts_with(prefix),
    "subtract": operator.sub,
    "coalesce": coalesce,
    "concat": concat_str,
    "lit": lit,
}


def function(name: str, *arguments: Any) -> Expr:
    """Return a call of a function by the name that narwhals has for it: mmflow's own, else DataFusion's."""
    own = _FUNCTIONS.get(name)
    given = [as_value(a) for a in arguments]
    return getattr(mf_functions, name)(*given) if own is None else own(*given)

"""Choices: `when(...).then(...).otherwise(...)`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

from datafusion import functions as F  # noqa: N812

from mmflow.api.expressions.comparing import family, same_family
from mmflow.api.expressions.expr import Expr, IntoExpr, columns_of
from mmflow.api.expressions.methods.core import node_of
from mmflow.api.expressions.tree.nodes import Node, Raw
from mmflow.api.expressions.tree.place import find_place
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import PlanError
from mmflow.usercode.tracebacks import PublicApi, public

__all__ = ["Then", "When", "when"]


class When(PublicApi):
    """Condition of `mf.when`, which waits for its value."""

    def __init__(self, branches: tuple[Node, ...], condition: Node) -> None:
        self._branches = branches
        self._condition = condition

    def then(self, value: Any) -> Then:
        """Return the expression that has this value where the condition holds. Text is a literal."""
        return Then((*self._branches, node_of(value), self._condition))


class Then(Expr):
    """Value of `mf.when`; null where no condition holds, unless `otherwise` says another value."""

    __slots__ = ("_branches",)

    def __init__(self, branches: tuple[Node, ...]) -> None:
        self._branches = branches
        super().__init__(_case(branches))

    def _made(self, node: Node) -> Any:
        return Expr(node)

    def when(self, *conditions: IntoExpr) -> When:
        """Return a further condition, for rows where none of those before holds."""
        return When(self._branches, _all_of(conditions))

    def otherwise(self, value: Any) -> Expr:
        """Return the expression that has this value where no condition holds. Text is a literal."""
        return Expr(_case((*self._branches, node_of(value))))


def _all_of(conditions: Iterable[IntoExpr]) -> Node:
    found = columns_of(conditions)
    if not found:
        raise TypeError("when() takes a condition")
    return reduce(lambda a, b: a & b, found)._node


def _case(branches: tuple[Node, ...]) -> Node:
    """Return the node of values and conditions in turn, with a last value where their number is odd."""

    def build(*operands: Resolved) -> Raw:
        values, conditions = operands[::2], operands[1::2]
        for one in conditions:
            if family(one.type) not in ("bool", "null"):
                raise PlanError(f"when() takes conditions, but {one.shown()} is none")
        raws = same_family("when", values)
        made = F.when(conditions[0].raw, raws[0])
        for one, raw in zip(conditions[1:], raws[1:], strict=False):
            made = made.when(one.raw, raw)
        return made.otherwise(raws[-1]) if len(values) > len(conditions) else made.end()

    return Node("when", branches, build, find_place())


@public
def when(*conditions: IntoExpr) -> When:
    """Return the condition of a choice: `mf.when(condition).then(value).otherwise(value)`.

    Parameters
    ----------
    conditions
        Conditions that must all hold. Text names a column.

    Examples
    --------
    >>> import mmflow as mf
    >>> size = mf.when(mf.col("a") > 5).then("large").otherwise("small")
    >>> mf.from_arrow({"a": [1, 9]}).with_columns(size=size).to_arrow().to_pydict()
    {'a': [1, 9], 'size': ['small', 'large']}
    """
    return When((), _all_of(conditions))

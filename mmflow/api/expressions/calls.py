"""Calls of DataFusion's functions, and of users' own, with expressions anywhere among their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmflow.api.expressions.expr import Expr
from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Node
from mmflow.api.expressions.tree.place import find_place
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import PlanError

__all__ = ["call_function"]


def call_function(
    name: str, function: Callable[..., Any], arguments: Sequence[Any], options: Mapping[str, Any]
) -> Expr:
    """Return a call that is made once the expressions among the arguments are resolved; the rest is passed on.

    The output has the name of the first expression; a literal gives no name.
    """
    found: list[Expr] = []
    given = _collected(list(arguments), found), {n: _collected(v, found) for n, v in options.items()}

    def build(*operands: Resolved) -> Any:
        filled = _filled(given[0], operands), {n: _filled(v, operands) for n, v in given[1].items()}
        try:
            return function(*filled[0], **filled[1])
        except AttributeError as error:
            if error.name != "expr":
                raise
            raise PlanError(
                f"{name}() takes expressions: mf.lit({error.obj!r}), or mf.col for a column"
            ) from error

    nodes = tuple(e._node for e in found)
    named_by = next((i for i, n in enumerate(nodes) if n.value is None), None)
    if named_by is None:
        return Expr(Node(name, nodes, build, find_place(), name))
    return Expr(Node(name, nodes, build, find_place(), named_by=named_by))


class _Operand(int):
    """Number of an expression among the arguments."""


def _collected(value: Any, found: list[Expr]) -> Any:
    if isinstance(value, Expr):
        found.append(value)
        return _Operand(len(found) - 1)
    if isinstance(value, list | tuple):
        return [_collected(v, found) for v in value]
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        return literal(value)
    return value


def _filled(value: Any, operands: Sequence[Resolved]) -> Any:
    if isinstance(value, _Operand):
        return operands[value].raw
    return [_filled(v, operands) for v in value] if isinstance(value, list) else value

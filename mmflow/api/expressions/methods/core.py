"""Core of expressions: a node of a tree, and operators between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NoReturn, Self

from mmflow.api.expressions import arithmetic, comparing
from mmflow.api.expressions.tree.literals import literal_scalar
from mmflow.api.expressions.tree.nodes import Node, Raw, unbuilt
from mmflow.api.expressions.tree.place import find_place
from mmflow.usercode.tracebacks import PublicApi

__all__ = ["Core", "node_of"]


def node_of(value: Any) -> Node:
    """Return the node of an expression, and a literal of anything else. Raises as `literal_scalar`."""
    if isinstance(value, Core):
        return value._node
    scalar = literal_scalar(value)
    return Node("literal", (), unbuilt, find_place(), "literal", value=scalar)


class Core(PublicApi):
    """Node with operators. The methods of expressions are classes over it, one for each topic."""

    __slots__ = ("_node",)

    # Not a sequence.
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None
    __hash__ = object.__hash__

    def __init__(self, node: Node) -> None:
        self._node = node

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "an expression is neither true nor false: write & | ~ for and, or, not, with parentheses: "
            "(col('a') == 1) & (col('b') == 4)\n  instead of `1 < x < 9` write col('x').is_between(1, 9), which "
            "includes both ends, and instead of `in` col('x').is_in([1, 2])"
        )

    def __repr__(self) -> str:
        return f"<Expr {self._node.output_name!r}: {_written(self._node)}>"

    def _made(self, node: Node) -> Self:
        return type(self)(node)

    def _apply(
        self,
        operation: str,
        build: Callable[..., Raw],
        *others: Any,
        name: str | None = None,
        window: Literal["any", "ordered"] | None = None,
    ) -> Self:
        """Return a call whose first operand this is. What is no expression among the others is a literal."""
        inputs = (self._node, *map(node_of, others))
        return self._made(Node(operation, inputs, build, find_place(), name, window=window))

    def _mirrored(self, operation: str, build: Callable[..., Raw], other: Any) -> Self:
        inputs = (node_of(other), self._node)
        return self._made(Node(operation, inputs, build, find_place(), named_by=1))

    def __add__(self, other: Any) -> Self:
        return self._apply("+", arithmetic.arithmetic("+"), other)

    def __radd__(self, other: Any) -> Self:
        return self._mirrored("+", arithmetic.arithmetic("+"), other)

    def __sub__(self, other: Any) -> Self:
        return self._apply("-", arithmetic.arithmetic("-"), other)

    def __rsub__(self, other: Any) -> Self:
        return self._mirrored("-", arithmetic.arithmetic("-"), other)

    def __mul__(self, other: Any) -> Self:
        return self._apply("*", arithmetic.arithmetic("*"), other)

    def __rmul__(self, other: Any) -> Self:
        return self._mirrored("*", arithmetic.arithmetic("*"), other)

    def __truediv__(self, other: Any) -> Self:
        return self._apply("/", arithmetic.arithmetic("/"), other)

    def __rtruediv__(self, other: Any) -> Self:
        return self._mirrored("/", arithmetic.arithmetic("/"), other)

    def __floordiv__(self, other: Any) -> Self:
        return self._apply("//", arithmetic.arithmetic("//"), other)

    def __rfloordiv__(self, other: Any) -> Self:
        return self._mirrored("//", arithmetic.arithmetic("//"), other)

    def __mod__(self, other: Any) -> Self:
        return self._apply("%", arithmetic.arithmetic("%"), other)

    def __rmod__(self, other: Any) -> Self:
        return self._mirrored("%", arithmetic.arithmetic("%"), other)

    def __pow__(self, other: Any) -> Self:
        return self._apply("**", arithmetic.arithmetic("**"), other)

    def __rpow__(self, other: Any) -> Self:
        return self._mirrored("**", arithmetic.arithmetic("**"), other)

    def __and__(self, other: Any) -> Self:
        return self._apply("&", arithmetic.logic("&"), other)

    def __rand__(self, other: Any) -> Self:
        return self._mirrored("&", arithmetic.logic("&"), other)

    def __or__(self, other: Any) -> Self:
        return self._apply("|", arithmetic.logic("|"), other)

    def __ror__(self, other: Any) -> Self:
        return self._mirrored("|", arithmetic.logic("|"), other)

    def __xor__(self, other: Any) -> Self:
        return self._apply("^", arithmetic.logic("^"), other)

    def __rxor__(self, other: Any) -> Self:
        return self._mirrored("^", arithmetic.logic("^"), other)

    def __invert__(self) -> Self:
        return self._apply("~", arithmetic.inverted)

    def __neg__(self) -> Self:
        return self._apply("-", arithmetic.negated)

    def __eq__(self, other: object) -> Self:  # type: ignore[override]
        return self._apply("==", comparing.comparison("=="), _known("==", other))

    def __ne__(self, other: object) -> Self:  # type: ignore[override]
        return self._apply("!=", comparing.comparison("!="), _known("!=", other))

    def __lt__(self, other: Any) -> Self:
        return self._apply("<", comparing.comparison("<"), other)

    def __le__(self, other: Any) -> Self:
        return self._apply("<=", comparing.comparison("<="), other)

    def __gt__(self, other: Any) -> Self:
        return self._apply(">", comparing.comparison(">"), other)

    def __ge__(self, other: Any) -> Self:
        return self._apply(">=", comparing.comparison(">="), other)


def _written(node: Node) -> str:
    if node.column is not None:
        return f"col({node.column!r})"
    if node.value is not None:
        return f"{node.value.as_py()!r}"
    below = ", ".join(map(_written, node.inputs))
    return f"{node.operation}({below})" if node.inputs else node.operation


def _known(symbol: str, other: object) -> object:
    if other is None:
        raise TypeError(f"{symbol} None is null for every row: write is_null() or is_not_null()")
    return other

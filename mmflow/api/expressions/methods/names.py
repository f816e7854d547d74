"""Names of the outputs of expressions, `col("a").name`: of one column, or of each of a selection."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from mmflow.api.expressions.tree.nodes import Node
from mmflow.api.expressions.tree.place import find_place
from mmflow.usercode.tracebacks import PublicApi

if TYPE_CHECKING:
    from mmflow.api.expressions.expr import Expr

__all__ = ["NameNamespace"]


class NameNamespace(PublicApi):
    """Methods that change the names of outputs."""

    __slots__ = ("_expression",)

    _label = "name"

    def __init__(self, expression: Expr) -> None:
        self._expression = expression

    def prefix(self, prefix: str) -> Expr:
        """Return the expression with text before its name."""
        return self.map(lambda name: prefix + name)

    def suffix(self, suffix: str) -> Expr:
        """Return the expression with text behind its name.

        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"a": [1, 2], "b": [3, 4]})
        >>> ds.select(mf.selectors.integer().max().name.suffix("_max")).to_arrow().to_pydict()
        {'a_max': [2], 'b_max': [4]}
        """
        return self.map(lambda name: name + suffix)

    def replace(self, pattern: str, value: str, *, literal: bool = False) -> Expr:
        """Return the expression with every match of a pattern in its name replaced.

        Parameters
        ----------
        pattern
            Regular expression of Python.
        value
            Text instead of it.
        literal
            Whether the pattern is text as it stands.
        """
        if literal:
            return self.map(lambda name: name.replace(pattern, value))
        found = re.compile(pattern)
        return self.map(lambda name: found.sub(value, name))

    def to_lowercase(self) -> Expr:
        """Return the expression under its name in lower case."""
        return self.map(str.lower)

    def to_uppercase(self) -> Expr:
        """Return the expression under its name in upper case."""
        return self.map(str.upper)

    def map(self, function: Callable[[str], str]) -> Expr:
        """Return the expression under the name that a function makes of its name."""
        node = self._expression._node
        return self._expression._made(Node("alias", (node,), lambda e: e.raw, find_place(), rename=function))

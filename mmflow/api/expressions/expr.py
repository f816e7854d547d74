"""`mmflow.Expr`, and the functions that begin an expression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from mmflow.api.expressions.methods.core import node_of
from mmflow.api.expressions.methods.filling import FillMethods
from mmflow.api.expressions.methods.json_text import JsonNamespace
from mmflow.api.expressions.methods.lists import ListNamespace, StructNamespace
from mmflow.api.expressions.methods.names import NameNamespace
from mmflow.api.expressions.methods.text import TextNamespace
from mmflow.api.expressions.methods.times import TimeNamespace
from mmflow.api.expressions.methods.values import ValueMethods
from mmflow.api.expressions.methods.windows import nodes_of
from mmflow.api.expressions.tree.nodes import Node, column_node, outside_of_lists, unbuilt
from mmflow.api.expressions.tree.place import find_place
from mmflow.usercode.tracebacks import public

__all__ = ["Expr", "IntoExpr", "as_column", "as_value", "col", "columns_of", "element", "lit"]


class Expr(ValueMethods, FillMethods):
    """Computation over the columns of a dataset, made by `col`, `lit`, and operators and methods of expressions.

    Its output has the name of its first column.

    Raises
    ------
    PlanError
        When a dataset uses it: an unknown column, or types that do not fit, with the file and line of the call.
    ConfigError
        At once: an argument that means nothing, such as `round(-1)`.
    TypeError
        At once: a value that is no expression, or the truth of an expression, which `and`, `or` and `not` ask for.

    Examples
    --------
    >>> import mmflow as mf
    >>> ds = mf.from_arrow({"a": [7, -7], "b": ["x", None]})
    >>> ds.select(mf.col("a") // 2, half=mf.col("a") / 2, known=mf.col("b").is_not_null()).to_arrow().to_pydict()
    {'a': [3, -4], 'half': [3.5, -3.5], 'known': [True, False]}
    """

    __slots__ = ()

    @property
    def columns(self) -> set[str]:
        """Names of the columns that the expression names."""
        return {n.column for n in self._node.walk() if n.column is not None}

    @property
    def name(self) -> NameNamespace:
        """Methods that change the names of outputs."""
        return NameNamespace(self)

    @property
    def str(self) -> TextNamespace:
        """Methods of text."""
        return TextNamespace(self)

    @property
    def dt(self) -> TimeNamespace:
        """Methods of dates, timestamps and durations."""
        return TimeNamespace(self)

    @property
    def list(self) -> ListNamespace:
        """Methods of lists."""
        return ListNamespace(self)

    @property
    def json(self) -> JsonNamespace:
        """Methods of text of JSON."""
        return JsonNamespace(self)

    @property
    def struct(self) -> StructNamespace:
        """Methods of structs."""
        return StructNamespace(self)


IntoExpr: TypeAlias = Expr | str


def as_value(value: Any) -> Expr:
    """Return an expression as it is, and anything else as a literal."""
    return Expr(node_of(value))


def as_column(value: IntoExpr) -> Expr:
    """Return an expression as it is, and text as the column of that name. Raises as `nodes_of`."""
    return Expr(nodes_of([value])[0])


def columns_of(values: Iterable[Any]) -> list[Expr]:
    """Return expressions and names, and lists of them, as one list of expressions. Raises as `nodes_of`."""
    return [Expr(n) for n in nodes_of(values)]


@public
def col(name: str | Sequence[str], *more: str) -> Expr:
    """Return the column of a name, or several columns, for each of which the expression is computed.

    Parameters
    ----------
    name, more
        Exact names; case counts.

    Returns
    -------
    Expr
        Expression for `select`, `filter` and the like. A column that does not exist is a `PlanError` there.

    Raises
    ------
    TypeError
        A name is no text.

    Examples
    --------
    >>> import mmflow as mf
    >>> mf.from_arrow({"Id": [1, 2]}).filter(mf.col("Id") > 1).count()
    1
    >>> mf.from_arrow({"a": [1, 2], "b": [3, 4]}).select(mf.col("a", "b") * 2).to_arrow().to_pydict()
    {'a': [2, 4], 'b': [6, 8]}
    """
    if isinstance(name, str) and not more:
        return Expr(column_node(name))
    names = [*(name if isinstance(name, list | tuple) else [name]), *more]
    if not names or not all(isinstance(n, str) for n in names):
        raise TypeError(f"col() takes names of columns, not {names!r:.80}")
    return Expr(Node("col", (), unbuilt, find_place(), selector=lambda _: names))


def element() -> Expr:
    """Return the items of lists, for the expression of `list.eval`.

    Examples
    --------
    >>> import mmflow as mf
    >>> ds = mf.from_arrow({"l": [[1, 2], [], [5]]})
    >>> ds.select(mf.col("l").list.eval(mf.element() * 10)).to_arrow().to_pydict()
    {'l': [[10, 20], [], [50]]}
    """
    return Expr(Node("element", (), outside_of_lists, find_place(), "element"))


@public
def lit(value: Any) -> Expr:
    """Return a literal.

    Parameters
    ----------
    value
        Python scalar or pyarrow scalar. Integers beyond int64 are uint64, or decimals.

    Returns
    -------
    Expr
        Expression with this value in every row.

    Raises
    ------
    PlanError
        An integer has more than 38 digits, or the value is of no type that columns have.

    Examples
    --------
    >>> import mmflow as mf
    >>> mf.from_arrow({"a": [1]}).with_columns(b=mf.lit("x")).to_arrow().to_pydict()
    {'a': [1], 'b': ['x']}
    """
    return Expr(node_of(value))

"""Expressions of no column or of several: `length` (`mf.len`), `coalesce`, `concat_str`."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pyarrow as pa
from datafusion import functions as F  # noqa: N812

from mmflow.api.expressions.comparing import family, same_family
from mmflow.api.expressions.expr import Expr
from mmflow.api.expressions.methods.core import node_of
from mmflow.api.expressions.methods.windows import nodes_of
from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Node, Raw
from mmflow.api.expressions.tree.place import find_place
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import PlanError
from mmflow.usercode.tracebacks import public

__all__ = ["coalesce", "concat_str", "length"]


def length() -> Expr:
    """Return the number of rows: `mf.len()`.

    >>> import mmflow as mf
    >>> mf.from_arrow({"k": ["x", "y", "x"]}).group_by("k").agg(n=mf.len()).sort("k").to_arrow().to_pydict()
    {'k': ['x', 'y'], 'n': [2, 1]}
    """
    return Expr(Node("len", (), lambda: F.count(literal(1)), find_place(), "len"))


@public
def coalesce(*values: Any) -> Expr:
    """Return the first of some values that is not null. Text names a column; `mf.lit` gives a literal.

    Raises
    ------
    TypeError
        No value is given.

    Examples
    --------
    >>> import mmflow as mf
    >>> mf.from_arrow({"a": [1, None], "b": [5, 6]}).select(mf.coalesce("a", "b")).to_arrow().to_pydict()
    {'a': [1, 6]}
    """
    if not values:
        raise TypeError("coalesce() takes at least one value")
    nodes = tuple(nodes_of([v])[0] if isinstance(v, str) else node_of(v) for v in values)
    return Expr(Node("coalesce", nodes, lambda *e: F.coalesce(*same_family("coalesce", e)), find_place()))


@public
def concat_str(*values: Any, separator: str = "", ignore_nulls: bool = False) -> Expr:
    """Return values as text, one behind the other. Text names a column; `mf.lit` gives a literal.

    Parameters
    ----------
    values
        Columns, expressions, or lists of them.
    separator
        Text between them.
    ignore_nulls
        Whether null is left out; otherwise it makes the result null.

    Examples
    --------
    >>> import mmflow as mf
    >>> mf.from_arrow({"a": ["x"], "b": [5]}).select(mf.concat_str("a", "b", separator="-")).to_arrow().to_pydict()
    {'a': ['x-5']}
    """

    def build(*operands: Resolved) -> Raw:
        texts = [_as_text(o) for o in operands]
        joined = F.concat_ws(separator, *texts)
        if ignore_nulls:
            return joined
        known = reduce(lambda a, b: a & b, [t.is_not_null() for t in texts])
        return F.when(known, joined).end()

    return Expr(Node("concat_str", tuple(nodes_of(values)), build, find_place()))


def _as_text(operand: Resolved) -> Raw:
    kind = family(operand.type)
    if kind == "text":
        return operand.raw
    if kind not in ("number", "bool", "null"):
        raise PlanError(
            f"concat_str() takes text and numbers, but not {operand.shown()}; cast it, or dt.strftime()"
        )
    return operand.raw.cast(pa.string_view())

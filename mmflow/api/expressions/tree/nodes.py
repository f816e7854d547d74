"""Expressions as trees that know no dataset yet: a node for each call, with the place where it was written.

Invariant: a tree never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NoReturn, TypeAlias

import datafusion
import pyarrow as pa
from datafusion.expr import SortExpr, Window, WindowFrame

from mmflow.api.expressions.tree.place import NOWHERE, find_place
from mmflow.errors import PlanError
from mmflow.lazy import difflib
from mmflow.lazy.dataclasses import dataclass

__all__ = [
    "Node",
    "Raw",
    "Selector",
    "WindowSpec",
    "column_node",
    "missing_column",
    "outside_of_lists",
    "quoted_column",
    "unbuilt",
]

Raw: TypeAlias = datafusion.Expr
Selector: TypeAlias = Callable[[pa.Schema], list[str]]


def quoted_column(name: str) -> Raw:
    """Return DataFusion's expression for the column of exactly this name."""
    return datafusion.col('"' + name.replace('"', '""') + '"')


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """Call in a tree.

    Attributes:
        operation: Name for messages, such as `str.contains`.
        inputs: Nodes of the operands.
        build: Function of the resolved operands that returns DataFusion's expression; of a window function, a
            function of the window before them.
        place: `file:line` of the call.
        name: Name of the output. None: that of an operand.
        named_by: Number of the operand that names the output.
        rename: Function that makes the name of the output from that of the operand. None: it stays.
        column: Column that the node is. None: it computes something.
        value: Value of a literal.
        selector: Function of a schema that returns the columns that the node stands for. None: it is one.
        window: Whether `build` takes a window before the operands: `any`, or `ordered`, whose order `over` gives.
        keys: Numbers of the partition keys and of the order keys behind the first operand: the node is `over`.
        descending: Whether the order of `over` is descending.
        explosion: Whether an empty list, and whether a null, gives a row: the node is `list.explode`.
    """

    operation: str
    inputs: tuple[Node, ...]
    build: Callable[..., Any]
    place: str
    name: str | None = None
    column: str | None = None
    value: pa.Scalar | None = None
    selector: Selector | None = None
    window: Literal["any", "ordered"] | None = None
    keys: tuple[int, int] | None = None
    descending: bool = False
    explosion: tuple[bool, bool] | None = None
    named_by: int = 0
    rename: Callable[[str], str] | None = None

    @property
    def output_name(self) -> str:
        """Name of the output column."""
        node, changes = self, []
        while node.name is None and node.inputs:
            if node.rename is not None:
                changes.append(node.rename)
            node = node.inputs[node.named_by]
        name = node.operation if node.name is None else node.name
        for change in reversed(changes):
            name = change(name)
        return name

    @property
    def call(self) -> str:
        """Name of the call for messages: `sum()`, or an operator."""
        return f"{self.operation}()" if self.operation[:1].isalpha() else self.operation

    @property
    def plain_column(self) -> str | None:
        """Column that the node is, under whatever name. None: it computes something."""
        return self.inputs[0].plain_column if self.operation == "alias" else self.column

    def walk(self) -> Iterator[Node]:
        """Yield the node and those below it."""
        yield self
        for below in self.inputs:
            yield from below.walk()

    def error(self, message: str, **context: str) -> PlanError:
        """Return an error at the place of the call."""
        shown = "" if self.place == NOWHERE else f" (at {self.place})"
        return PlanError(f"{message}{shown}", place=self.place, **context)


def column_node(name: str) -> Node:
    """Return the node of the column of a name, at the place of the call."""
    return Node("col", (), unbuilt, find_place(), name, column=name)


def unbuilt(*_: Any) -> NoReturn:
    """Stand for the `build` of a node that a scope resolves itself: a column, a literal, `over`."""
    raise AssertionError("a scope resolves this node itself")


def outside_of_lists(*_: Any) -> NoReturn:
    """Stand for the `build` of `mf.element()` where no list gives items.

    Raises:
        PlanError: Always.
    """
    raise PlanError("mf.element() is an item of a list: use it in the expression of list.eval()")


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Rows that a window function sees.

    Attributes:
        partition: Keys that are equal in all of them.
        order: Keys of their order.
        whole: Whether they are all rows because no `over` says which.
    """

    partition: tuple[Raw, ...] = ()
    order: tuple[SortExpr, ...] = ()
    whole: bool = False

    def over(self, raw: Raw, *, ordered: bool = False) -> Raw:
        """Return an aggregate of all of these rows; `ordered`: in their order."""
        return self._framed(raw, WindowFrame("rows", None, None), self.order if ordered else ())

    def rows(self, raw: Raw, before: int | None) -> Raw:
        """Return an aggregate of the current row and a number of rows before it. None: of all before it."""
        return self._framed(raw, WindowFrame("rows", before, 0), self.order)

    def _framed(self, raw: Raw, frame: WindowFrame, order: Sequence[SortExpr]) -> Raw:
        return raw.over(Window(partition_by=[*self.partition], window_frame=frame, order_by=[*order]))

    def reversed(self) -> WindowSpec:
        """Return the same rows in the opposite order."""
        order = [
            key.expr().sort(ascending=not key.ascending(), nulls_first=not key.nulls_first())
            for key in self.order
        ]
        return replace(self, order=tuple(order))

    def in_order(self, raw: Raw) -> Raw:
        """Return a function that only knows the order of rows, such as `lag` and `rank`."""
        return raw.over(Window(partition_by=[*self.partition], order_by=[*self.order]))


def missing_column(name: str, known: Sequence[str], shown: Sequence[str]) -> str:
    """Return the message for a column that does not exist."""
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"no column {name!r}; {hint}the columns are {', '.join(shown)}"

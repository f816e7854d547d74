"""Resolution of trees against the columns of a dataset.

    col("a") / 2                    a tree
      Scope(...).resolve(node)      bottom up, by each node's `build`, which sees the types of its operands
    a::float64 / 2.0                DataFusion's expression, its type, its name

Invariant: what a tree means depends on the schema alone; nothing is resolved before a verb asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Literal, TypeAlias

import datafusion
import pyarrow as pa
from datafusion import DataFrame, SessionContext

from mmflow.api.expressions.tree.nodes import Node, Raw, WindowSpec, missing_column, quoted_column
from mmflow.errors import MmflowError, PlanError
from mmflow.formats.schemas.schema import public_type, type_text
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.plan.errors import explain_datafusion_error, is_datafusion_error

__all__ = ["Resolved", "Scope", "shown_type"]

#: How many values an expression has: one for each row, one for all of them, or one that no row decides.
Shape: TypeAlias = Literal["rows", "one", "literal"]

_SIGNATURE = lazy_regex(r"^\w+\(\) takes no |signature|No function matches|Cannot (coerce|infer)")


@dataclass(slots=True, eq=False)
class Resolved:
    """Node for the rows of one dataset.

    Attributes:
        raw: DataFusion's expression.
        node: Node that it was resolved from.
        inputs: Resolved operands.
        shape: How many values it has.
        windowed: Whether a window function is in it.
        value: Value of a literal.
    """

    raw: Raw
    node: Node
    scope: Scope
    inputs: tuple[Resolved, ...] = ()
    shape: Shape = "rows"
    windowed: bool = False
    value: pa.Scalar | None = None
    known: pa.DataType | None = None

    @property
    def name(self) -> str:
        """Name of the output column."""
        return self.node.output_name

    @property
    def type(self) -> pa.DataType:
        """Type of the values.

        Raises:
            PlanError: The types of the operands do not fit.
        """
        if self.known is None:
            self.known = self.scope.type_of(self)
        return self.known

    def shown(self) -> str:
        """Return the operand and its type, for messages."""
        node = self.node
        if node.column is not None:
            return f"column {node.column!r} of type {shown_type(self.type)}"
        if self.value is not None:
            return f"{self.value.as_py()!r}"
        return f"{node.call} of type {shown_type(self.type)}"


@dataclass(slots=True, eq=False)
class Scope:
    """Columns that expressions may name, and the context in which types are asked for.

    Attributes:
        schema: Columns of the dataset, and the virtual ones that were asked for.
        hidden: Further columns that may be named.
        keys: Columns that selectors do not stand for: the keys of groups.
        window: Rows that aggregates see instead of a group. None: they are collected in `aggregates`.
        aggregates: Aggregates by the names of the columns that stand for them.
        mentioned: Columns that expressions have named so far, and their types.
        element: Column that `mf.element()` stands for. None: no list gives items.
    """

    context: SessionContext
    schema: pa.Schema
    hidden: Sequence[str] = ()
    keys: Sequence[str] = ()
    window: WindowSpec | None = None
    prefix: str = "__aggregate_"
    aggregates: dict[str, tuple[Raw, pa.DataType]] = field(default_factory=dict)
    mentioned: dict[str, pa.DataType] = field(default_factory=dict)
    element: str | None = None
    _scratch: tuple[tuple[str, ...], DataFrame] | None = None

    def __post_init__(self) -> None:
        while any(n.startswith(self.prefix) for n in self.schema.names):
            self.prefix = f"_{self.prefix}"

    # ---- several columns by one expression ---------------------------------------------------------

    def expand(self, node: Node) -> list[Node]:
        """Return a node for each column that its selectors stand for.

        Raises:
            PlanError: Selectors of different numbers of columns.
        """
        found = [n for n in node.walk() if n.selector is not None]
        if not found:
            return [node]
        try:
            schema = pa.schema([f for f in self.schema if f.name not in self.keys])
            names = {id(n): n.selector(schema) for n in found if n.selector is not None}
        except PlanError as error:
            raise node.error(error.message) from error
        lengths = {len(chosen) for chosen in names.values()} - {1}
        if len(lengths) > 1:
            raise node.error(
                f"{node.operation} combines selections of {' and '.join(map(str, sorted(lengths)))} columns"
            )
        count = lengths.pop() if lengths else 1
        return [_chosen(node, names, i) for i in range(count)]

    # ---- resolution ----------------------------------------------------------------------------------

    def resolve(self, node: Node) -> Resolved:
        """Return a node for the rows of this scope.

        Raises:
            PlanError: A column does not exist, or types do not fit; with the place of the call.
        """
        if node.column is not None:
            return Resolved(quoted_column(node.column), node, self, known=self._column_type(node))
        if node.operation == "element" and self.element is not None:
            kind = self._column_type(replace(node, column=self.element))
            return Resolved(quoted_column(self.element), node, self, known=kind)
        if node.value is not None:
            return Resolved(
                datafusion.lit(node.value),
                node,
                self,
                shape="literal",
                value=node.value,
                known=node.value.type,
            )
        if node.keys is not None:
            return self._over(node)
        inputs = tuple(self.resolve(n) for n in node.inputs)
        try:
            made = self._built(node, inputs)
        except MmflowError as error:
            if "place" in error.context or not isinstance(error, PlanError):
                raise
            raise node.error(error.message) from error
        except Exception as error:
            if not is_datafusion_error(error):
                raise
            raise node.error(f"{node.call}: {explain_datafusion_error(error)}") from error
        if isinstance(made, Resolved):
            return replace(made, node=node)
        shapes = {r.shape for r in inputs}
        shape: Shape = "rows" if "rows" in shapes else "one" if "one" in shapes else "literal"
        resolved = Resolved(made, node, self, inputs, shape, any(r.windowed for r in inputs))
        if node.window is not None:
            resolved.shape, resolved.windowed = "rows", True
        elif isinstance(made, Raw) and all(made is not r.raw for r in inputs):
            self._place_aggregate(resolved)
        return resolved

    def _built(self, node: Node, inputs: tuple[Resolved, ...]) -> Any:
        if node.window is None:
            return node.build(*inputs)
        if any(r.windowed for r in inputs):
            raise node.error(
                "a window function within a window function: compute one of them by with_columns() first"
            )
        window = self.window or WindowSpec()
        if node.window == "ordered" and not window.order:
            raise node.error(
                f"{node.call} depends on the order of rows, which only a key gives: write "
                f".{node.operation}(...).over(order_by='...')"
            )
        return node.build(window, *inputs)

    def _place_aggregate(self, resolved: Resolved) -> None:
        variant = resolved.raw.variant_name()
        if variant in ("AggregateFunction", "WindowFunction") and any(r.windowed for r in resolved.inputs):
            raise resolved.node.error(
                "a window function within a window function: compute one of them by with_columns() first"
            )
        match variant:
            case "AggregateFunction" if self.window is not None:
                resolved.known = resolved.type
                resolved.raw = self.window.over(resolved.raw)
                resolved.shape, resolved.windowed = "rows", True
            case "AggregateFunction":
                if any(r.shape == "one" for r in resolved.inputs):
                    raise resolved.node.error(
                        f"{resolved.node.call} of an aggregate: aggregate once more by agg()"
                    )
                kind, raw = resolved.type, resolved.raw
                text = raw.canonical_name()
                name = next((n for n, (r, _) in self.aggregates.items() if r.canonical_name() == text), None)
                if name is None:
                    name = f"{self.prefix}{len(self.aggregates)}"
                    self.aggregates[name] = raw, kind
                resolved.raw, resolved.shape, resolved.known = quoted_column(name), "one", kind
            case "WindowFunction":
                if self.window is not None:
                    resolved.known = resolved.type
                    resolved.raw = self.window.in_order(resolved.raw)
                resolved.shape, resolved.windowed = "rows", True

    def _over(self, node: Node) -> Resolved:
        assert node.keys is not None
        partitions = node.keys[0]
        if self.window is not None and not self.window.whole:
            raise node.error("over() within over(): compute one of them by with_columns() first")
        keys = [self.resolve(n) for n in node.inputs[1:]]
        for key in keys:
            if key.windowed or key.shape == "one":
                raise key.node.error(
                    "a key of over() is computed from a row: compute it by with_columns() first"
                )
        order = tuple(k.raw.sort(ascending=not node.descending, nulls_first=False) for k in keys[partitions:])
        window = WindowSpec(tuple(k.raw for k in keys[:partitions]), order)
        inner = replace(self, window=window, aggregates={})
        made = inner.resolve(node.inputs[0])
        if not made.windowed:
            raise node.error(
                "over() needs an aggregate or a window function before it, such as .sum().over(...)"
            )
        return replace(made, node=node, scope=self)

    # ---- types -------------------------------------------------------------------------------------

    def _column_type(self, node: Node) -> pa.DataType:
        index = self.schema.get_field_index(str(node.column))
        if index < 0:
            raise node.error(
                missing_column(str(node.column), [*self.schema.names, *self.hidden], self.schema.names),
                code="MMF-PLN-002",
            )
        kind = self.schema.field(index).type
        self.mentioned[str(node.column)] = kind
        return kind

    def type_of(self, resolved: Resolved) -> pa.DataType:
        """Return the type of an expression, as DataFusion tells it.

        Raises:
            PlanError: The types of its operands do not fit.
        """
        fields = self.mentioned | {n: kind for n, (_, kind) in self.aggregates.items()}
        key = tuple(fields)
        if self._scratch is None or not set(key) <= set(self._scratch[0]):
            arrays = [pa.nulls(0, kind) for kind in fields.values()] or [pa.nulls(0)]
            batch = pa.RecordBatch.from_arrays(arrays, names=list(fields) or ["_"])
            self._scratch = key, self.context.create_dataframe([[batch]])
        try:
            return self._scratch[1].select(resolved.raw.alias("_")).schema().field(0).type
        except Exception as error:
            if not is_datafusion_error(error):
                raise
            for operand in resolved.inputs:
                operand.type  # noqa: B018  (raises where the fault is further in)
            shown = " and ".join(r.shown() for r in resolved.inputs)
            why = explain_datafusion_error(error)
            # DataFusion lists the signatures of its functions, in Rust's words.
            why = "" if _SIGNATURE.search(why) else f": {why}"
            raise resolved.node.error(
                f"{resolved.node.call} does not take {shown or 'these operands'}{why}",
                code="MMF-PLN-004",
            ) from error


def shown_type(kind: pa.DataType) -> str:
    """Return the name of a type for messages."""
    return type_text(public_type(kind))


def _chosen(node: Node, names: Mapping[int, list[str]], index: int) -> Node:
    chosen = names.get(id(node))
    if chosen is not None:
        name = chosen[index if len(chosen) > 1 else 0]
        return replace(node, column=name, name=name, selector=None)
    return replace(node, inputs=tuple(_chosen(n, names, index) for n in node.inputs))

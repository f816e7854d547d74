"""Columns and literals for expressions: DataFusion's, with names taken as they are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import datafusion
from datafusion import Expr

from mmflow.formats import VIRTUAL_COLUMNS
from mmflow.private_apis import refuse_truth_of_expressions, take_integers_beyond_int64

__all__ = ["IntoExpr", "col", "expr_of", "lit", "mentions_virtual", "plain_name"]

refuse_truth_of_expressions()
take_integers_beyond_int64()

IntoExpr = Expr | str


def col(name: str) -> Expr:
    """A column, by its exact name (case counts)."""
    return datafusion.col('"' + name.replace('"', '""') + '"')


def lit(value: Any) -> Expr:
    """Return a literal: a Python scalar or a pyarrow scalar. Integers beyond int64 are uint64, or decimals.

    Raises:
        PlanError: An integer has more than 38 digits.
    """
    return datafusion.lit(value)


def expr_of(value: IntoExpr) -> Expr:
    """An expression, or the column of that name."""
    return col(value) if isinstance(value, str) else value


def plain_name(value: IntoExpr) -> str | None:
    """The name of the column that an item is; None if it computes something."""
    if isinstance(value, str):
        return value
    return str(value.to_variant().name()) if value.variant_name() == "Column" else None


_LITERAL = re.compile(r"'(?:[^']|'')*'")


def mentions_virtual(items: Iterable[object]) -> tuple[str, ...]:
    """Virtual columns (`_file`, `_offset`, `_line`) that expressions, names or SQL mention, outside of literals."""
    text = " ".join(_LITERAL.sub("''", item if isinstance(item, str) else str(item)) for item in items)
    return tuple(name for name in VIRTUAL_COLUMNS if re.search(rf"\b{name}\b", text))

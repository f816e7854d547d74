"""Comparisons of dates with integers, which DataFusion 55 takes for days since 1970. They are refused.

`day > 2023` is true of all dates after July 1975; DuckDB and PostgreSQL refuse it, and so do expressions. The plan must
not be optimized yet: its literals are dates then.
"""

from __future__ import annotations

import pyarrow as pa
from datafusion import Expr, LogicalPlan, SessionContext

from mmflow.lazy.patterns import lazy_regex
from mmflow.plan.errors import RefusedError, explain_failed_value
from mmflow.plan.logical.nodes import expressions, nodes, parts
from mmflow.plan.logical.zones import type_of

__all__ = ["refuse_date_comparisons"]

_LITERALS = lazy_regex(r'\b(?:U?Int\d+|Utf8|Utf8View|LargeUtf8)\(("[^"]*"|-?\d+)\)')
_OPERATORS = frozenset(("=", "!=", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"))


def refuse_date_comparisons(plan: LogicalPlan, optimized: LogicalPlan, context: SessionContext) -> None:
    """Check that a query compares no date with an integer. What stands in subqueries of expressions is not seen.

    Raises:
        RefusedError: It does.
    """
    # The type of the literal, or of the cast.
    if not any("Date32" in str(p.display_indent()) for p in (plan, optimized)):
        return
    for node in nodes(plan):
        for whole in expressions(node):
            for part in parts(whole):
                if _compares(part) and _kinds(part, node, context) == {"date", "integer"}:
                    shown = explain_failed_value(_LITERALS.sub(r"\1", part.canonical_name()))
                    raise RefusedError(
                        f"{shown} compares a date with an integer: write DATE '2024-01-31', or date_part('year', x)"
                    )


def _compares(part: Expr) -> bool:
    variant = part.variant_name()
    return variant in ("InList", "Between") or (
        variant == "BinaryExpr" and part.rex_call_operator() in _OPERATORS
    )


def _kinds(comparison: Expr, node: LogicalPlan, context: SessionContext) -> set[str]:
    """Return the kinds among the operands of a comparison: date, integer, other."""
    kinds: set[str] = set()
    for side in comparison.rex_call_operands():
        kind = type_of(side, node, context)
        if kind is None or pa.types.is_null(kind):
            continue
        kinds.add("date" if pa.types.is_date32(kind) else "integer" if pa.types.is_integer(kind) else "other")
    return kinds

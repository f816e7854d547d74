"""Names of the columns of a query that gives them none.

DataFusion 55 names such a column as it prints its expression, `sum(/data/a.csv.x) + Int64(1)`, where the user wrote
`sum(x) + 1`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from datafusion.expr import Column, Projection
from datafusion.plan import LogicalPlan

from mmflow.lazy.patterns import lazy_regex

__all__ = ["shown_names"]

_LITERALS = [
    (lazy_regex(r'\b(?:Large)?Utf8(?:View)?\("((?:[^"\\]|\\.)*)"\)'), lambda m: "'" + m[1].replace("'", "''") + "'"),
    (lazy_regex(r'\b(?:Date|Time|Timestamp)\w*\("([^"]*)"(?:, \w+)?\)'), lambda m: f"'{m[1]}'"),
    (lazy_regex(r"\b(?:U?Int\d+|Float\d+|Boolean)\(([^()]*)\)"), lambda m: m[1]),
    (lazy_regex(r"\b\w+\(NULL\)"), lambda _: "NULL"),
    (lazy_regex(r"(?<![\w.])\(- ([^()]*)\)"), lambda m: f"-{m[1]}"),
    (lazy_regex(r"\bmake_array\(([^()]*)\)"), lambda m: f"[{m[1].replace(',', ', ')}]"),
    (lazy_regex(r" IN ((?:[^(),']|'(?:[^']|'')*')+(?:, (?:[^(),']|'(?:[^']|'')*')+)*)$"), lambda m: f" IN ({m[1]})"),
]  # fmt: skip
_WINDOW = lazy_regex(
    r"(?P<call>.*\))(?: PARTITION BY \[(?P<keys>.*?)\])?(?: ORDER BY \[(?P<order>.*?)\])? "
    r"(?P<frame>(?:ROWS|RANGE|GROUPS) .*)"
)
_DEFAULT_FRAMES = (
    "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
)


def shown_names(plan: LogicalPlan, names: list[str], tables: Iterable[str]) -> list[str]:
    """Return the names of a query's columns, those that DataFusion made as a user would write their expressions.

    Args:
        plan: Logical plan of the query, before it is optimized.
        names: Names of its columns.
        tables: Names of the tables that it reads.
    """
    tables = set(tables)
    variant = plan.to_variant()
    while not isinstance(variant, Projection) and plan.inputs():
        plan = plan.inputs()[0]
        variant = plan.to_variant()
    if not isinstance(variant, Projection) or len(variant.projections()) != len(names):
        return names
    qualifiers = [re.escape(f"{table}.") for table in sorted(tables, key=len, reverse=True)]
    shown = []
    for expression, name in zip(variant.projections(), names, strict=True):
        column = expression.to_variant() if expression.variant_name() == "Column" else None
        if expression.variant_name() == "Alias" or (
            isinstance(column, Column) and column.relation() in tables
        ):
            shown.append(name)  # the user's own name
            continue
        text = name
        if qualifiers:
            text = re.sub(rf"(?<![\w.\"])(?:{'|'.join(qualifiers)})(?=[\w\"])", "", name)
        for literal, written in _LITERALS:
            text = literal.sub(written, text)
        shown.append(_WINDOW.sub(_over, text))
    counts = Counter(shown)
    return [s if counts[s] == 1 else n for s, n in zip(shown, names, strict=True)]


def _over(match: re.Match[str]) -> str:
    """Return a call with its window as SQL writes it."""
    parts = []
    if match["keys"] is not None:
        parts.append(f"PARTITION BY {match['keys']}")
    if match["order"] is not None:
        parts.append(
            f"ORDER BY {match['order'].replace(' ASC NULLS LAST', '').replace(' DESC NULLS FIRST', ' DESC')}"
        )
    if match["frame"] not in _DEFAULT_FRAMES:
        parts.append(match["frame"])
    return f"{match['call']} OVER ({' '.join(parts)})"

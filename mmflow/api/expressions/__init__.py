"""Expressions over the columns of a dataset: what people write, and what it means for the types of a schema.

Names are imported when first used: queries in SQL need few of them.
"""

from typing import TYPE_CHECKING

from mmflow.lazy.packages import names_of

if TYPE_CHECKING:
    from mmflow.api.expressions.calls import call_function
    from mmflow.api.expressions.choosing import Then, When, when
    from mmflow.api.expressions.combining import coalesce, concat_str, length
    from mmflow.api.expressions.comparing import matched
    from mmflow.api.expressions.expr import (
        Expr,
        IntoExpr,
        as_column,
        as_value,
        col,
        columns_of,
        element,
        lit,
    )
    from mmflow.api.expressions.outputs import (
        aggregated,
        conditions,
        exploded,
        filtered,
        listed,
        named,
        projected,
        row_values,
    )
    from mmflow.api.expressions.tree.literals import literal
    from mmflow.api.expressions.tree.nodes import Raw, missing_column, quoted_column
    from mmflow.api.expressions.tree.scope import Resolved, Scope
else:
    __getattr__ = names_of(
        __name__,
        {
            "Expr": "expr",
            "IntoExpr": "expr",
            "Raw": "tree.nodes",
            "Resolved": "tree.scope",
            "Scope": "tree.scope",
            "Then": "choosing",
            "When": "choosing",
            "aggregated": "outputs",
            "as_column": "expr",
            "as_value": "expr",
            "call_function": "calls",
            "coalesce": "combining",
            "col": "expr",
            "columns_of": "expr",
            "concat_str": "combining",
            "conditions": "outputs",
            "element": "expr",
            "exploded": "outputs",
            "filtered": "outputs",
            "length": "combining",
            "listed": "outputs",
            "lit": "expr",
            "literal": "tree.literals",
            "matched": "comparing",
            "missing_column": "tree.nodes",
            "named": "outputs",
            "projected": "outputs",
            "quoted_column": "tree.nodes",
            "row_values": "outputs",
            "when": "choosing",
        },
    )

__all__ = [
    "Expr",
    "IntoExpr",
    "Raw",
    "Resolved",
    "Scope",
    "Then",
    "When",
    "aggregated",
    "as_column",
    "as_value",
    "call_function",
    "coalesce",
    "col",
    "columns_of",
    "concat_str",
    "conditions",
    "element",
    "exploded",
    "filtered",
    "length",
    "listed",
    "lit",
    "literal",
    "matched",
    "missing_column",
    "named",
    "projected",
    "quoted_column",
    "row_values",
    "when",
]

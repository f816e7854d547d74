"""Functions for expressions: DataFusion's, by their names (`F.avg`, `F.upper`, `F.split_part`, ...)."""

from __future__ import annotations

from typing import Any

from datafusion import Expr
from datafusion import functions as _functions

from mmflow.expressions import lit

__all__ = ["count"]


def count(*expressions: Expr, **options: Any) -> Expr:
    """Number of rows where all expressions are not null; without one, of all rows."""
    if not expressions:
        return _functions.count(lit(1), **options)
    return _functions.count(list(expressions), **options)


def __getattr__(name: str) -> Any:
    return getattr(_functions, name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_functions.__all__})

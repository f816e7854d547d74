"""Patches of libraries' classes, each with the version that made it necessary.

Invariant: a test of tests/api/test_api_private_apis.py fails once the library does better by itself, so that the
patch goes.
"""

from __future__ import annotations

from typing import NoReturn

from datafusion import Expr

__all__ = ["refuse_truth_of_expressions"]


def _refuse_truth(_: Expr) -> NoReturn:
    raise TypeError(
        "an expression is neither true nor false before it has rows, so `and`, `or`, `not`, `if`, `in` and "
        "`1 < x < 9` can't work with it; combine conditions with `&`, `|` and `~`, each in parentheses: "
        "(col('a') == 1) & (col('b') == 4), (col('x') > 1) & (col('x') < 9); "
        "col('x').between(1, 9) includes both ends, "
        "functions.in_list(col('x'), [lit(1), lit(2)]) asks for one of several values"
    )


def refuse_truth_of_expressions() -> None:
    """Make `bool(expression)`, `in expression` and iteration over an expression a TypeError.

    `Expr` of DataFusion 55 has no `__bool__`, so that `a and b` is `b`, and `1 < x < 9` is `x < 9`; its
    `__getitem__` takes any number, so that `list(expression)` never ends. DataFusion's own functions
    ask only arguments that must be no expressions for their truth.
    """
    for name, method in (("__bool__", _refuse_truth), ("__iter__", None), ("__contains__", None)):
        setattr(Expr, name, method)

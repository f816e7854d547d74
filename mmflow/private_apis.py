"""Patches of libraries' classes, each with the version that made it necessary.

Invariant: a test of tests/api/test_api_private_apis.py fails once the library does better by itself, so that the
patch goes.
"""

from __future__ import annotations

from typing import Any, NoReturn

import pyarrow as pa
from datafusion import Expr

from mmflow.errors import PlanError

__all__ = ["refuse_truth_of_expressions", "take_integers_beyond_int64"]


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


_literal_of_datafusion = Expr.literal
_UINT64_END = 1 << 64
_DECIMAL_DIGITS = 38
#: Types that pyarrow would find, too, but by way of importing pandas (see `formats.fixed_width`).
_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), bytes: pa.binary()}


def _literal(value: Any) -> Expr:
    """Return a literal; of an integer beyond int64 one of uint64, or of decimal128(38, 0).

    Raises:
        PlanError: No type holds the integer.
    """
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        if 0 <= value < _UINT64_END:
            value = pa.scalar(value, pa.uint64())
        elif abs(value) < 10**_DECIMAL_DIGITS:
            value = pa.scalar(value, pa.decimal128(_DECIMAL_DIGITS, 0))
        else:
            raise PlanError(
                f"the integer {value if abs(value) < 10**60 else 'in an expression'} has more than {_DECIMAL_DIGITS} "
                "digits, which no integer or decimal type holds; compare with a float or with text instead"
            )
    elif type(value) in _TYPES:
        value = pa.scalar(value, _TYPES[type(value)])
    return _literal_of_datafusion(value)


def take_integers_beyond_int64() -> None:
    """Make literals of Python's integers beyond int64, as in `col('u') == 2**64 - 1`.

    `Expr.literal` of DataFusion 55, which operators call for what is no expression, raises OverflowError there.
    """
    # Functions of `datafusion.functions` look it up in the class, too.
    Expr.literal = staticmethod(_literal)  # type: ignore[method-assign]  # that is the patch

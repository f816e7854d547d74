"""Python values as literals of plans."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import datafusion
import pyarrow as pa

from mmflow.errors import PlanError

__all__ = ["literal", "literal_scalar"]

_UINT64_END = 1 << 64
_DECIMAL_DIGITS = 38
#: Types that pyarrow would find, too, but by way of importing pandas (see `formats.decoding.fixed_width`).
_TYPES = {
    bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string_view(), bytes: pa.binary(),
    dt.date: pa.date32(), dt.timedelta: pa.duration("us"), type(None): pa.null(),
}  # fmt: skip


def literal_scalar(value: Any) -> pa.Scalar:
    """Return a Python value as a scalar: of uint64 or decimal128(38, 0) for an integer beyond int64.

    Raises:
        PlanError: No type holds the value.
    """
    if isinstance(value, pa.Scalar):
        return value
    kind = _TYPES.get(type(value))
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        if 0 <= value < _UINT64_END:
            kind = pa.uint64()
        elif abs(value) < 10**_DECIMAL_DIGITS:
            kind, value = pa.decimal128(_DECIMAL_DIGITS, 0), Decimal(value)
        else:
            raise PlanError(
                f"the integer {value if abs(value) < 10**60 else 'in an expression'} has more than {_DECIMAL_DIGITS} "
                "digits, which no integer or decimal type holds; compare with a float or with text instead"
            )
    try:
        return pa.scalar(value, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise PlanError(f"{type(value).__name__} {value!r:.100} is no value of a column: {error}") from error


def literal(value: Any) -> datafusion.Expr:
    """Return a value as a literal of DataFusion. Raises as `literal_scalar`."""
    return datafusion.lit(literal_scalar(value))

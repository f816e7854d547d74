"""Methods of expressions that take one row at a time: names, types, nulls, numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.types as types
from datafusion import functions as F  # noqa: N812

from mmflow.api.expressions import comparing
from mmflow.api.expressions.comparing import family, number
from mmflow.api.expressions.methods.core import Core
from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Raw
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import ConfigError, PlanError
from mmflow.formats.schemas.schema import canonical_type, parse_type

__all__ = ["ValueMethods"]


class ValueMethods(Core):
    """Names, types, nulls and numbers of a row."""

    __slots__ = ()

    # ---- names and types -----------------------------------------------------------------------------

    def alias(self, name: str) -> Self:
        """Return the expression under another name.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1]}).select((mf.col("a") + 1).alias("b")).columns
        ['b']
        """
        return self._apply("alias", lambda e: e.raw, name=name)

    def cast(self, to: str | pa.DataType | type, *, strict: bool = True) -> Self:
        """Return the values in another type.

        Parameters
        ----------
        to
            Arrow type or its name, such as `"int64"` or `"timestamp[us]"`, or a type of Python, numpy or Polars.
        strict
            Whether a value that the type can't hold fails the run; otherwise it becomes null.

        Raises
        ------
        ConfigError
            There is no such type.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": ["1", "x"]}).select(mf.col("a").cast("int64", strict=False)).to_arrow().to_pydict()
        {'a': [1, None]}
        """
        kind = canonical_type(parse_type(to))
        return self._apply("cast", lambda e: e.raw.cast(kind) if strict else e.raw.try_cast(kind))

    # ---- nulls and tests -------------------------------------------------------------------------------

    def is_null(self) -> Self:
        """Return whether values are null."""
        return self._apply("is_null", lambda e: e.raw.is_null())

    def is_not_null(self) -> Self:
        """Return whether values are not null."""
        return self._apply("is_not_null", lambda e: e.raw.is_not_null())

    def is_nan(self) -> Self:
        """Return whether numbers are NaN; null for null."""
        return self._apply("is_nan", _is_nan)

    def is_in(self, values: Iterable[Any]) -> Self:
        """Return whether values are among others. For null the answer is null, and a null in the list matches nothing.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2, 3]}).filter(mf.col("a").is_in([1, 3])).to_arrow().to_pydict()
        {'a': [1, 3]}
        """
        if isinstance(values, str | bytes | Core) or not isinstance(values, Iterable):
            raise TypeError("is_in() takes a list of values, such as is_in([1, 2])")
        return self._apply("is_in", comparing.in_list, *values)

    def is_between(
        self, low: Any, high: Any, closed: Literal["both", "left", "right", "none"] = "both"
    ) -> Self:
        """Return whether values are from `low` to `high`; `closed` says which of the two is included.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2, 3]}).filter(mf.col("a").is_between(2, 9)).count()
        2
        """
        if closed not in ("both", "left", "right", "none"):
            raise ConfigError(f"is_between(closed={closed!r}): must be both, left, right or none")
        lower, upper = (
            ">=" if closed in ("both", "left") else ">",
            "<=" if closed in ("both", "right") else "<",
        )
        above: Self = self._apply(lower, comparing.comparison(lower, "is_between()"), low)
        below: Self = self._apply(upper, comparing.comparison(upper, "is_between()"), high)
        return above & below

    def fill_nan(self, value: Any) -> Self:
        """Return the numbers, and `value` in the place of NaN: a literal, an expression, or None.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1.5, float("nan")]}).select(mf.col("a").fill_nan(0)).to_arrow().to_pydict()
        {'a': [1.5, 0.0]}
        """
        return self._apply("fill_nan", _fill_nan, value)

    # ---- numbers -------------------------------------------------------------------------------------

    def abs(self) -> Self:
        """Return numbers without their sign.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [-2, 1]}).select(mf.col("a").abs()).to_arrow().to_pydict()
        {'a': [2, 1]}
        """
        return self._apply("abs", _absolute)

    def sign(self) -> Self:
        """Return -1, 0 or 1 of a number's type, and NaN for NaN."""
        return self._apply("sign", _sign)

    def round(
        self,
        decimals: int = 0,
        mode: Literal["half_to_even", "half_away_from_zero"] = "half_to_even",
    ) -> Self:
        """Return floats rounded to a number of decimals; integers stay as they are.

        Parameters
        ----------
        decimals
            Digits behind the point, 0 at least.
        mode
            Where a half goes: to the even neighbour, or away from zero.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [0.5, 1.5, -2.567]}).select(mf.col("a").round()).to_arrow().to_pydict()
        {'a': [0.0, 2.0, -3.0]}
        """
        if isinstance(decimals, bool) or not isinstance(decimals, int) or not 0 <= decimals <= 300:
            raise ConfigError(f"round({decimals!r}): decimals are from 0 to 300")
        if mode not in ("half_to_even", "half_away_from_zero"):
            raise ConfigError(f"round(mode={mode!r}): must be half_to_even or half_away_from_zero")
        return self._apply("round", lambda e: _round(e, decimals, mode == "half_to_even"))

    def floor(self) -> Self:
        """Return the greatest whole number that is not above, in the same type."""
        return self._apply("floor", lambda e: _whole("floor", F.floor, e))

    def ceil(self) -> Self:
        """Return the least whole number that is not below, in the same type."""
        return self._apply("ceil", lambda e: _whole("ceil", F.ceil, e))

    def clip(self, lower: Any = None, upper: Any = None) -> Self:
        """Return values bounded by `lower` and `upper`, in their type. NaN stays NaN; None is no bound.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [-5, 3, 12]}).select(mf.col("a").clip(0, 10)).to_arrow().to_pydict()
        {'a': [0, 3, 10]}
        """
        return self._apply("clip", _clip, lower, upper)

    def sqrt(self) -> Self:
        """Return square roots, NaN for negative numbers."""
        return self._apply("sqrt", lambda e: _square_root(_float("sqrt", e)))

    def exp(self) -> Self:
        """Return e to the power of the values."""
        return self._apply("exp", lambda e: F.exp(_float("exp", e)))

    def log(self, base: float = math.e) -> Self:
        """Return logarithms: -inf of 0, NaN of negative numbers.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1.0, 8.0]}).select(mf.col("a").log(2)).to_arrow().to_pydict()
        {'a': [0.0, 3.0]}
        """
        if not isinstance(base, int | float) or isinstance(base, bool) or base <= 0:
            raise ConfigError(f"log({base!r}): a base is a number above 0")
        return self._apply("log", lambda e: _log(e, base))


def _is_nan(operand: Resolved) -> Raw:
    raw = number("is_nan", operand)
    if types.is_floating(operand.type):
        return F.isnan(raw)
    return F.when(raw.is_not_null(), literal(False)).end()


def _fill_nan(operand: Resolved, value: Resolved) -> Raw:
    raw = number("fill_nan", operand)
    if not types.is_floating(operand.type):
        return raw
    number("fill_nan", value)
    return F.when(F.isnan(raw), value.raw.cast(operand.type)).otherwise(raw)


def _absolute(operand: Resolved) -> Raw:
    raw = number("abs", operand)
    if types.is_signed_integer(operand.type):
        # The least integer has no absolute value: unary minus is checked, DataFusion's abs wraps.
        return F.when(raw < literal(0), literal(pa.scalar(0, operand.type)) - raw).otherwise(raw)
    return F.abs(raw)


def _sign(operand: Resolved) -> Raw:
    raw = number("sign", operand)
    if types.is_unsigned_integer(operand.type):
        return F.least(raw, literal(pa.scalar(1, operand.type)))
    zero, one, minus = (literal(_in_type(v, operand.type)) for v in (0, 1, -1))
    itself = F.isnan(raw) | (raw == zero) if types.is_floating(operand.type) else raw == zero
    return F.when(itself, raw).when(raw > zero, one).when(raw < zero, minus).end()


def _round(operand: Resolved, decimals: int, to_even: bool) -> Raw:
    raw = number("round", operand)
    if types.is_decimal(operand.type):
        if to_even:
            raise PlanError("round() of decimals goes away from zero: say mode='half_away_from_zero'")
        return F.round(raw, literal(decimals))
    if not types.is_floating(operand.type):
        return raw
    scale = literal(10.0**decimals)
    shifted = raw.cast(pa.float64()) * scale if decimals else raw.cast(pa.float64())
    away = F.round(shifted)
    rounded = away
    if to_even:
        half = F.abs(shifted - F.trunc(shifted)) == literal(0.5)
        rounded = F.when(half, F.round(shifted / literal(2.0)) * literal(2.0)).otherwise(away)
    back = rounded / scale if decimals else rounded
    # Of a number that is too large to be shifted, no digit stands behind the point.
    large = F.abs(shifted) >= literal(2.0**52)
    return F.when(large | F.isnan(raw), raw).otherwise(back.cast(operand.type))


def _whole(operation: str, function: Any, operand: Resolved) -> Raw:
    raw = number(operation, operand)
    return function(raw) if not types.is_integer(operand.type) else raw


def _clip(operand: Resolved, lower: Resolved, upper: Resolved) -> Raw:
    raw = operand.raw
    if family(operand.type) not in ("number", "time", "zoned time", "duration"):
        raise PlanError(f"clip() does not take {operand.shown()}", code="MMF-PLN-004")
    made = F.when(F.isnan(raw), raw) if types.is_floating(operand.type) else F.when(raw.is_null(), raw)
    for bound, outside in ((lower, "__lt__"), (upper, "__gt__")):
        if not types.is_null(bound.type):
            fitted = _bound(operand, bound)
            made = made.when(getattr(raw, outside)(fitted), fitted)
    return made.otherwise(raw)


def _bound(operand: Resolved, bound: Resolved) -> Raw:
    """Return a bound in the type of the values."""
    _, raw = comparing.matched("clip()", operand, bound)
    if bound.value is None or family(operand.type) != "number":
        return raw.cast(operand.type)
    try:
        return literal(_in_type(bound.value.as_py(), operand.type))
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise PlanError(f"clip(): {bound.shown()} does not fit the type of {operand.shown()}") from error


def _in_type(value: Any, kind: pa.DataType) -> pa.Scalar:
    """Return a number in another type. Raises what pyarrow does where it does not fit."""
    if types.is_decimal(kind):
        return pa.scalar(Decimal(str(value)), kind)
    made = pa.scalar(float(value) if types.is_floating(kind) else value, kind)
    if types.is_integer(kind) and made.as_py() != value:
        raise ValueError(f"{value} is no integer")
    return made


def _float(operation: str, operand: Resolved) -> Raw:
    raw = number(operation, operand)
    return raw if types.is_floating(operand.type) else raw.cast(pa.float64())


def _square_root(raw: Raw) -> Raw:
    # DataFusion 55 fails on negative numbers.
    return F.when(raw < literal(0), literal(math.nan)).otherwise(F.sqrt(raw))


def _log(operand: Resolved, base: float) -> Raw:
    made = F.ln(_float("log", operand))
    return made if base == math.e else made / literal(math.log(base))

"""Methods of expressions that put other values in the place of nulls."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal, Self, TypeAlias

import pyarrow as pa
import pyarrow.types as types
from datafusion import functions as F  # noqa: N812

from mmflow.api.expressions.comparing import family, number, same_family
from mmflow.api.expressions.methods.aggregating import AggregateMethods
from mmflow.api.expressions.methods.windows import WindowMethods
from mmflow.api.expressions.tree.called import called
from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Raw, WindowSpec
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import ConfigError, PlanError
from mmflow.plan.functions.filling import FillFunction

__all__ = ["FillMethods", "FillStrategy", "check_filling"]

FillStrategy: TypeAlias = Literal["forward", "backward", "min", "max", "mean", "zero", "one"]
_STRATEGIES = ("forward", "backward", "min", "max", "mean", "zero", "one")
#: Zero and one of types that pyarrow has no number for.
_SMALL: dict[str, tuple[Any, Any]] = {
    "bool": (False, True),
    "text": ("", None),
    "bytes": (b"", None),
    "time": (0, 1),
    "zoned time": (0, 1),
    "duration": (0, 1),
}


def check_filling(what: str, value: object, strategy: object, limit: object) -> None:
    """Check the arguments of a `fill_null`.

    Raises:
        ConfigError: They mean nothing.
    """
    if (value is None) == (strategy is None):
        raise ConfigError(f"{what}: give either a value or a strategy")
    if strategy is not None and strategy not in _STRATEGIES:
        raise ConfigError(f"{what}: strategy = {strategy!r}: must be one of {', '.join(_STRATEGIES)}")
    if limit is None:
        return
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ConfigError(f"{what}: limit = {limit!r}: must be an integer of at least 0")
    if strategy not in ("forward", "backward"):
        raise ConfigError(f"{what}: limit goes with strategy='forward' or 'backward'")


class FillMethods(AggregateMethods, WindowMethods):
    """Values in the place of nulls."""

    __slots__ = ()

    def fill_null(
        self, value: Any = None, strategy: FillStrategy | None = None, limit: int | None = None
    ) -> Self:
        """Return the values, and others in the place of nulls.

        Parameters
        ----------
        value
            Literal or expression.
        strategy
            Instead of a value: the last value before (`forward`) or the next behind (`backward`) in the order of
            `over(order_by=...)`; the least, the greatest or the mean of all values, or of those of `over(...)`; zero or
            one. The type stays: the mean of integers is cut off.
        limit
            Most nulls in a row that `forward` and `backward` fill.

        Raises
        ------
        ConfigError
            Neither a value nor a strategy is given, or both, or there is no such strategy.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"t": [1, 2, 3], "a": [1, None, 4]})
        >>> ds.select(mf.col("a").fill_null(0)).to_arrow().to_pydict()
        {'a': [1, 0, 4]}
        >>> ds.select(mf.col("a").fill_null(strategy="forward").over(order_by="t")).sort("a").to_arrow().to_pydict()
        {'a': [1, 1, 4]}
        """
        check_filling("fill_null()", value, strategy, limit)
        if strategy == "forward":
            return self.forward_fill(limit)
        if strategy == "backward":
            return self.backward_fill(limit)
        if strategy in ("zero", "one"):
            return self._apply("fill_null", lambda e: F.coalesce(e.raw, _small(e, strategy)))
        if strategy is None:
            return self._apply("fill_null", lambda *e: F.coalesce(*same_family("fill_null", e)), value)
        other = {"min": self.min, "max": self.max, "mean": self.mean}[strategy]()
        return self._apply("fill_null", lambda e, o: F.coalesce(e.raw, o.raw.cast(e.type)), other)

    def forward_fill(self, limit: int | None = None) -> Self:
        """Return the values, and in the place of null the last one before it in the order of `over`.

        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"t": [1, 2, 3, 4], "a": [None, 5, None, None]})
        >>> filled = mf.col("a").forward_fill(limit=1).over(order_by="t")
        >>> ds.with_columns(filled).sort("t").to_arrow()["a"].to_pylist()
        [None, 5, 5, None]
        """
        check_filling("forward_fill()", None, "forward", limit)
        return self._apply("forward_fill", lambda w, e: _fill(w, e, limit), window="ordered")

    def backward_fill(self, limit: int | None = None) -> Self:
        """Return the values, and in the place of null the next one behind it in the order of `over`."""
        check_filling("backward_fill()", None, "backward", limit)
        return self._apply("backward_fill", lambda w, e: _fill(w.reversed(), e, limit), window="ordered")


def _fill(window: WindowSpec, operand: Resolved, limit: int | None) -> Raw:
    return window.in_order(called(FillFunction(operand.type, limit))(operand.raw))


def _small(operand: Resolved, name: str) -> Raw:
    """Return the zero or the one of a type."""
    at, kind = ("zero", "one").index(name), operand.type
    if family(kind) not in _SMALL:
        number("fill_null", operand)
    value = _SMALL.get(family(kind), (0, 1))[at]
    if value is None:
        raise PlanError(f"fill_null(strategy={name!r}) does not take {operand.shown()}", code="MMF-PLN-004")
    if types.is_null(kind):
        return operand.raw
    if types.is_date(kind):
        value = dt.date(1970, 1, 1 + value)
    return literal(pa.scalar(value, kind))

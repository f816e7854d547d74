"""Methods of expressions that aggregate, as Polars' where SQL's differ: a sum of nothing is 0, null is a value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Self, TypeAlias

import pyarrow as pa
import pyarrow.types as types
from datafusion import functions as F  # noqa: N812

from mmflow.api.expressions.comparing import family, number
from mmflow.api.expressions.methods.core import Core
from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Raw, WindowSpec, column_node
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import ConfigError, PlanError

__all__ = ["AggregateMethods", "Interpolation"]

Interpolation: TypeAlias = Literal["linear", "nearest", "lower", "higher", "midpoint"]
_INTERPOLATIONS = ("linear", "nearest", "lower", "higher", "midpoint")


class AggregateMethods(Core):
    """One value of many rows."""

    __slots__ = ()

    def sum(self) -> Self:
        """Return the sum; 0 where there is no value. Integers that do not fit 64 bits fail the run.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2, None]}).agg(mf.col("a").sum()).to_arrow().to_pydict()
        {'a': [3]}
        """
        return self._apply("sum", _sum)._apply("sum", _zero_for_null)

    def mean(self) -> Self:
        """Return the mean of what is not null; null where there is nothing.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2, None]}).agg(mf.col("a").mean()).to_arrow().to_pydict()
        {'a': [1.5]}
        """
        return self._apply("mean", lambda e: F.avg(number("mean", e, truth=True)))

    def min(self) -> Self:
        """Return the least value; null where there is nothing."""
        return self._apply("min", lambda e: F.min(e.raw))

    def max(self) -> Self:
        """Return the greatest value; null where there is nothing. NaN is above all numbers."""
        return self._apply("max", lambda e: F.max(e.raw))

    def count(self) -> Self:
        """Return the number of values that are not null. `mf.len()` counts rows.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, None]}).agg(mf.col("a").count()).to_arrow().to_pydict()
        {'a': [1]}
        """
        return self._apply("count", lambda e: F.count(e.raw))

    def null_count(self) -> Self:
        """Return the number of nulls."""
        return self._apply("null_count", lambda e: F.count(F.when(e.raw.is_null(), literal(1)).end()))

    def n_unique(self) -> Self:
        """Return the number of different values; null is one of them.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 1, None]}).agg(mf.col("a").n_unique()).to_arrow().to_pydict()
        {'a': [2]}
        """
        nulls = self._apply("n_unique", lambda e: F.max(F.when(e.raw.is_null(), literal(1)).end()))
        values = self._apply("n_unique", lambda e: F.count(e.raw, distinct=True))
        return values._apply("n_unique", lambda n, null: n.raw + F.coalesce(null.raw, literal(0)), nulls)

    def any(self) -> Self:
        """Return whether a condition holds for any row; false where there is none. Null counts for nothing."""
        return self._apply("any", lambda e: F.bool_or(_truth("any", e)))._apply("any", _filled(False))

    def all(self) -> Self:
        """Return whether a condition holds for all rows; true where there is none. Null counts for nothing."""
        return self._apply("all", lambda e: F.bool_and(_truth("all", e)))._apply("all", _filled(True))

    def std(self, ddof: Literal[0, 1] = 1) -> Self:
        """Return the standard deviation, divided by n - `ddof`; null of fewer than `ddof` + 1 values."""
        return self._apply("std", _spread("std", ddof, F.stddev_pop, F.stddev))

    def var(self, ddof: Literal[0, 1] = 1) -> Self:
        """Return the variance, divided by n - `ddof`; null of fewer than `ddof` + 1 values."""
        return self._apply("var", _spread("var", ddof, F.var_pop, F.var_samp))

    def median(self) -> Self:
        """Return the median as a float: the mean of the two middle values of an even number."""
        return self._apply("median", lambda e: F.median(number("median", e, truth=True).cast(pa.float64())))

    def quantile(self, q: float, interpolation: Interpolation = "linear") -> Self:
        """Return a quantile as a float. It is exact, so it takes the memory of all values of a group.

        Parameters
        ----------
        q
            Number from 0 to 1: the quantile is at place q * (n - 1) of n values in order, nulls left out.
        interpolation
            Value at a place between two: `linear` by its distance from both, their `midpoint`, the `lower` or the
            `higher` of them, or the `nearest` (the higher, if both are equally near).

        Raises
        ------
        ConfigError
            `q` is not from 0 to 1, or there is no such interpolation.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"a": [1, 2, 3, 4]})
        >>> ds.agg(m=mf.col("a").quantile(0.5), l=mf.col("a").quantile(0.5, "lower")).to_arrow().to_pydict()
        {'m': [2.5], 'l': [2.0]}
        """
        if not isinstance(q, int | float) or isinstance(q, bool) or not 0 <= q <= 1:
            raise ConfigError(f"quantile({q!r}): a quantile is a number from 0 to 1")
        if interpolation not in _INTERPOLATIONS:
            raise ConfigError(
                f"quantile(interpolation={interpolation!r}): must be one of {', '.join(_INTERPOLATIONS)}"
            )
        values = self._apply("quantile", lambda e: F.array_agg(_with_one_nan(number("quantile", e))))
        return values._apply("quantile", lambda e: _interpolated(e.raw, float(q), interpolation))

    def first(self, *, order_by: Core | str | None = None, descending: bool = False) -> Self:
        """Return the first value in an order, null or not.

        Parameters
        ----------
        order_by
            Column or expression that orders the rows, nulls last. In a window, `over(order_by=...)` does.
        descending
            Whether the order is descending.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"t": [2, 1], "v": ["late", "early"]})
        >>> ds.agg(mf.col("v").first(order_by="t")).to_arrow().to_pydict()
        {'v': ['early']}
        """
        return self._at_end("first", F.first_value, order_by, descending)

    def last(self, *, order_by: Core | str | None = None, descending: bool = False) -> Self:
        """Return the last value in an order. Parameters are those of `first`."""
        return self._at_end("last", F.last_value, order_by, descending)

    def _at_end(
        self, name: str, function: Callable[..., Raw], key: Core | str | None, descending: bool
    ) -> Self:
        if key is None:
            return self._apply(name, lambda w, e: w.over(function(e.raw), ordered=True), window="ordered")

        def build(value: Resolved, order: Resolved) -> Any:
            by = order.raw.sort(ascending=not descending, nulls_first=False)
            if (window := value.scope.window) is None:
                return function(value.raw, order_by=[by])
            # DataFusion orders a window by the window.
            raw = WindowSpec(window.partition, (by,)).over(function(value.raw), ordered=True)
            return Resolved(raw, value.node, value.scope, (value, order), windowed=True)

        node = column_node(key) if isinstance(key, str) else key._node
        return self._apply(name, build, self._made(node))


def _sum(operand: Resolved) -> Raw:
    raw = operand.raw if types.is_duration(operand.type) else number("sum", operand, truth=True)
    return F.sum(raw)


def _zero_for_null(total: Resolved) -> Raw:
    return F.coalesce(total.raw, literal(pa.scalar(0, total.type)))


def _with_one_nan(raw: Raw) -> Raw:
    return F.nanvl(raw.cast(pa.float64()), literal(math.nan))


def _interpolated(values: Raw, q: float, interpolation: str) -> Raw:
    """Build a quantile of a list of floats: percentile_cont of DataFusion 55 interpolates in steps of 1e-6."""
    ordered = F.array_sort(F.array_compact(values))
    place = literal(q) * (F.array_length(ordered).cast(pa.float64()) - literal(1.0))
    below = F.floor(place)
    low, high = _item(ordered, below), _item(ordered, F.ceil(place))
    match interpolation:
        case "lower":
            return low
        case "higher":
            return high
        case "nearest":
            return _item(ordered, F.floor(place + literal(0.5)))
        case "midpoint":
            between = (low + high) / literal(2.0)
        case _:
            between = low + (high - low) * (place - below)
    return F.when(place == below, low).otherwise(between)


def _item(values: Raw, place: Raw) -> Raw:
    return F.array_element(values, place.cast(pa.int64()) + literal(1))


def _filled(value: bool) -> Callable[[Resolved], Raw]:
    return lambda e: F.coalesce(e.raw, literal(value))


def _truth(operation: str, operand: Resolved) -> Raw:
    if family(operand.type) not in ("bool", "null"):
        raise PlanError(f"{operation}() takes conditions, but {operand.shown()} is none")
    return operand.raw


def _spread(
    operation: str, ddof: object, of_all: Callable[..., Raw], of_sample: Callable[..., Raw]
) -> Callable[[Resolved], Raw]:
    if ddof not in (0, 1):
        raise ConfigError(f"{operation}(ddof={ddof!r}): must be 0 or 1")
    function = of_sample if ddof else of_all
    return lambda e: function(number(operation, e, truth=True).cast(pa.float64()))

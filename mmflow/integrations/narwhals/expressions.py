"""Expressions of narwhals as those of mmflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from narwhals._arrow.utils import narwhals_to_native_dtype
from narwhals._sql.expr import SQLExpr
from narwhals._utils import NO_DEFAULT, Implementation, not_implemented

import mmflow as mf
from mmflow.api.expressions import Expr
from mmflow.integrations.narwhals.fields import ListFields, StructFields, TextFields, TimeFields
from mmflow.integrations.narwhals.native import choice, first, over, rolling, row_number

__all__ = ["MmflowExpr"]


class MmflowExpr(SQLExpr):
    """Expression of narwhals: a function of a frame that returns mmflow's, one for each of its columns."""

    _implementation = Implementation.UNKNOWN

    def __init__(
        self,
        call: Callable[..., Any],
        window_function: Callable[..., Any] | None = None,
        *,
        evaluate_output_names: Callable[..., Any],
        alias_output_names: Callable[..., Any] | None,
        version: Any,
        implementation: Implementation = Implementation.UNKNOWN,
    ) -> None:
        self._call = call
        self._window_function = window_function
        self._evaluate_output_names = evaluate_output_names
        self._alias_output_names = alias_output_names
        self._version = version

    def __narwhals_namespace__(self) -> Any:
        from mmflow.integrations.narwhals.namespace import MmflowNamespace  # noqa: PLC0415  (it imports this module)

        return MmflowNamespace(version=self._version)

    @classmethod
    def from_column_names(cls, evaluate_column_names: Callable[..., Any], /, *, context: Any) -> Self:
        return cls(
            lambda df: [mf.col(name) for name in evaluate_column_names(df)],
            evaluate_output_names=evaluate_column_names,
            alias_output_names=None,
            version=context._version,
        )

    @classmethod
    def from_column_indices(cls, *column_indices: int, context: Any) -> Self:
        return cls(
            lambda df: [mf.col(df.columns[i]) for i in column_indices],
            evaluate_output_names=cls._eval_names_indices(column_indices),
            alias_output_names=None,
            version=context._version,
        )

    @classmethod
    def _alias_native(cls, expr: Expr, name: str, /) -> Expr:
        return expr.alias(name)

    def broadcast(self) -> Self:
        """Return the same: an aggregate beside values of rows is that of all rows in mmflow, too."""
        return self

    def _window_expression(
        self,
        expr: Expr,
        partition_by: Sequence[Expr | str] = (),
        order_by: Sequence[Expr | str] = (),
        **_: Any,
    ) -> Expr:
        return over(expr, partition_by, order_by)

    def _ordered(self, make: Callable[[Expr], Expr], *, reverse: bool = False) -> Self:
        """Return a function of the order of rows, which `over` gives."""

        def windowed(df: Any, inputs: Any) -> list[Expr]:
            return [over(make(e), inputs.partition_by, inputs.order_by, reverse=reverse) for e in self(df)]

        return self._with_window_function(windowed)

    # ---- operators -------------------------------------------------------------------------------

    def __xor__(self, other: Self) -> Self:
        return self._with_binary(lambda e, other: e ^ other, other)

    def __invert__(self) -> Self:
        return self._with_elementwise(lambda e: ~e)

    def __neg__(self) -> Self:
        return self._with_elementwise(lambda e: -e)

    def __floordiv__(self, other: Self) -> Self:
        return self._with_binary(lambda e, other: e // other, other)

    def __rfloordiv__(self, other: Self) -> Self:
        return self._with_binary(lambda e, other: other // e, other).alias("literal")

    def __mod__(self, other: Self) -> Self:
        return self._with_binary(lambda e, other: e % other, other)

    def __rmod__(self, other: Self) -> Self:
        return self._with_binary(lambda e, other: other % e, other).alias("literal")

    # ---- aggregates ------------------------------------------------------------------------------

    def all(self) -> Self:
        return self._with_callable(lambda e: e.all())

    def any(self) -> Self:
        return self._with_callable(lambda e: e.any())

    def any_value(self, *, ignore_nulls: bool) -> Self:
        """Return the least value: any will do, it is never null, and it is the same when a task runs again."""
        return self._with_callable(lambda e: e.min())

    def count(self) -> Self:
        return self._with_callable(lambda e: e.count())

    def len(self) -> Self:
        return self._with_callable(lambda _: mf.len())

    def max(self) -> Self:
        return self._with_callable(lambda e: e.max())

    def mean(self) -> Self:
        return self._with_callable(lambda e: e.mean())

    def median(self) -> Self:
        return self._with_callable(lambda e: e.median())

    def min(self) -> Self:
        return self._with_callable(lambda e: e.min())

    def n_unique(self) -> Self:
        return self._with_callable(lambda e: e.n_unique())

    def null_count(self) -> Self:
        return self._with_callable(lambda e: e.null_count())

    def quantile(self, quantile: float, interpolation: Any) -> Self:
        return self._with_callable(lambda e: e.quantile(quantile, interpolation))

    def sum(self) -> Self:
        return self._with_callable(lambda e: e.sum())

    def std(self, *, ddof: int) -> Self:
        return self._with_callable(lambda e: _spread(e, "std", ddof))

    def var(self, *, ddof: int) -> Self:
        return self._with_callable(lambda e: _spread(e, "var", ddof))

    def first(self, order_by: Sequence[str] = ()) -> Self:
        return self._at_end(order_by, last=False)

    def last(self, order_by: Sequence[str] = ()) -> Self:
        return self._at_end(order_by, last=True)

    def _at_end(self, order_by: Sequence[str], *, last: bool) -> Self:
        def of_group(expr: Expr) -> Expr:
            return first(expr, order_by, last=last)

        def windowed(df: Any, inputs: Any) -> list[Expr]:
            by = [*order_by, *inputs.order_by]
            return [over(e.last() if last else e.first(), inputs.partition_by, by) for e in self(df)]

        return self._with_callable(of_group, windowed)

    # ---- each value ------------------------------------------------------------------------------

    def abs(self) -> Self:
        return self._with_elementwise(lambda e: e.abs())

    def cast(self, dtype: Any) -> Self:
        kind = narwhals_to_native_dtype(dtype, self._version)
        return self._with_elementwise(lambda e: e.cast(kind))

    def ceil(self) -> Self:
        return self._with_elementwise(lambda e: e.ceil())

    def clip(self, lower_bound: Self, upper_bound: Self) -> Self:
        bounds = {"lower_bound": lower_bound, "upper_bound": upper_bound}
        return self._with_elementwise(
            lambda e, lower_bound, upper_bound: e.clip(lower_bound, upper_bound), bounds
        )

    def clip_lower(self, lower_bound: Self) -> Self:
        return self._with_elementwise(lambda e, bound: e.clip(bound), {"bound": lower_bound})

    def clip_upper(self, upper_bound: Self) -> Self:
        return self._with_elementwise(lambda e, bound: e.clip(None, bound), {"bound": upper_bound})

    def cos(self) -> Self:
        return self._with_elementwise(mf.functions.cos)

    def exp(self) -> Self:
        return self._with_elementwise(lambda e: e.exp())

    def fill_nan(self, value: float | None) -> Self:
        return self._with_elementwise(lambda e: e.fill_nan(value))

    def fill_null(self, value: Self | None, strategy: Any, limit: int | None) -> Self:
        if strategy == "forward":
            return self._ordered(lambda e: e.forward_fill(limit))
        if strategy == "backward":
            return self._ordered(lambda e: e.backward_fill(limit))
        return self._with_elementwise(lambda e, value: e.fill_null(value), {"value": value})

    def floor(self) -> Self:
        return self._with_elementwise(lambda e: e.floor())

    def is_finite(self) -> Self:
        # NaN is above all numbers.
        return self._with_elementwise(lambda e: e.abs() < float("inf"))

    def is_in(self, other: Sequence[Any]) -> Self:
        return self._with_elementwise(lambda e: e.is_in([*other]))

    def is_nan(self) -> Self:
        return self._with_elementwise(lambda e: e.is_nan())

    def is_null(self) -> Self:
        return self._with_elementwise(lambda e: e.is_null())

    def log(self, base: float) -> Self:
        return self._with_elementwise(lambda e: e.log(base))

    def replace_strict(
        self, default: Any, old: Sequence[Any], new: Sequence[Any], *, return_dtype: Any | None
    ) -> Self:
        if default is NO_DEFAULT:
            raise ValueError(
                "replace_strict() needs a `default` on mmflow: whether it replaces every value is known "
                "only when the plan runs"
            )

        def replaced(expr: Expr, default: Expr) -> Expr:
            pairs = [*zip(old, new, strict=True)]
            made: Expr = default
            for one, other in reversed(pairs):
                same = expr.is_null() if one is None else expr == one
                made = choice(same, other, made)
            return made

        made = self._with_elementwise(replaced, {"default": default})
        return made if return_dtype is None else made.cast(return_dtype)

    def round(self, decimals: int) -> Self:
        return self._with_elementwise(lambda e: e.round(decimals))

    def sin(self) -> Self:
        return self._with_elementwise(mf.functions.sin)

    def sqrt(self) -> Self:
        return self._with_elementwise(lambda e: e.sqrt())

    # ---- rows around each row --------------------------------------------------------------------

    def cum_count(self, *, reverse: bool) -> Self:
        return self._ordered(lambda e: e.cum_count(), reverse=reverse)

    def cum_max(self, *, reverse: bool) -> Self:
        return self._ordered(lambda e: e.cum_max(), reverse=reverse)

    def cum_min(self, *, reverse: bool) -> Self:
        return self._ordered(lambda e: e.cum_min(), reverse=reverse)

    def cum_sum(self, *, reverse: bool) -> Self:
        return self._ordered(lambda e: e.cum_sum(), reverse=reverse)

    def diff(self) -> Self:
        return self._ordered(lambda e: e.diff())

    def shift(self, n: int) -> Self:
        return self._ordered(lambda e: e.shift(n))

    def is_first_distinct(self) -> Self:
        return self._end_of_equals(reverse=False)

    def is_last_distinct(self) -> Self:
        return self._end_of_equals(reverse=True)

    def _end_of_equals(self, *, reverse: bool) -> Self:
        def windowed(df: Any, inputs: Any) -> list[Expr]:
            return [
                over(row_number(), (*inputs.partition_by, e), inputs.order_by, reverse=reverse) == 1
                for e in self(df)
            ]

        return self._with_window_function(windowed)

    def is_unique(self) -> Self:
        def windowed(df: Any, inputs: Any) -> list[Expr]:
            return [over(mf.len(), (*inputs.partition_by, e)) == 1 for e in self(df)]

        return self._with_callable(lambda e: over(mf.len(), (e,)) == 1, windowed)

    def rank(self, method: Any, *, descending: bool) -> Self:
        def of(expr: Expr, inputs: Any | None) -> Expr:
            ranked = expr.rank(method, descending=descending)
            if inputs is None:
                # Equal values have their numbers in any order, as in SQL.
                return ranked.over(order_by=expr) if method == "ordinal" else ranked
            by = inputs.order_by or ([expr] if method == "ordinal" else [])
            return over(ranked, inputs.partition_by, by)

        return self._with_callable(
            lambda e: of(e, None), lambda df, inputs: [of(e, inputs) for e in self(df)]
        )

    def rolling_sum(self, window_size: int, *, min_samples: int, center: bool) -> Self:
        return self._ordered(lambda e: rolling(e, "sum", window_size, min_samples, center=center))

    def rolling_mean(self, window_size: int, *, min_samples: int, center: bool) -> Self:
        return self._ordered(lambda e: rolling(e, "mean", window_size, min_samples, center=center))

    def rolling_var(self, window_size: int, *, min_samples: int, center: bool, ddof: int) -> Self:
        return self._rolling_spread("var", window_size, min_samples, center, ddof)

    def rolling_std(self, window_size: int, *, min_samples: int, center: bool, ddof: int) -> Self:
        return self._rolling_spread("std", window_size, min_samples, center, ddof)

    def _rolling_spread(self, kind: str, size: int, least: int, center: bool, ddof: int) -> Self:
        if ddof not in (0, 1):
            raise NotImplementedError(f"rolling_{kind}(ddof={ddof}): mmflow has ddof 0 and 1")
        return self._ordered(lambda e: rolling(e, kind, size, least, center=center, ddof=ddof))

    # ---- methods of a type -----------------------------------------------------------------------

    @property
    def str(self) -> TextFields:
        return TextFields(self)

    @property
    def dt(self) -> TimeFields:
        return TimeFields(self)

    @property
    def list(self) -> ListFields:
        return ListFields(self)

    @property
    def struct(self) -> StructFields:
        return StructFields(self)

    map = not_implemented()
    cum_prod = not_implemented()
    kurtosis = not_implemented()
    mode = not_implemented()
    skew = not_implemented()


def _spread(expr: Expr, kind: str, ddof: int) -> Expr:
    if ddof in (0, 1):
        return getattr(expr, kind)(ddof)
    count = expr.count()
    variance = choice(count > ddof, expr.var(0) * count / (count - ddof))
    return variance.sqrt() if kind == "std" else variance

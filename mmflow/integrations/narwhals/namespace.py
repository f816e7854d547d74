"""Functions of narwhals that begin an expression or a frame, for datasets."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
from narwhals._arrow.utils import narwhals_to_native_dtype
from narwhals._compliant import CompliantSelector, LazySelectorNamespace
from narwhals._expression_parsing import (
    combine_alias_output_names,
    combine_evaluate_output_names,
    evaluate_output_names_and_aliases,
)
from narwhals._sql.namespace import SQLNamespace
from narwhals._utils import Implementation, check_column_names_are_unique, validate_separators

import mmflow as mf
from mmflow.api.expressions import Expr, call_function
from mmflow.integrations.narwhals.expressions import MmflowExpr
from mmflow.integrations.narwhals.frames import MmflowLazyFrame
from mmflow.integrations.narwhals.native import choice, function, over

__all__ = ["MmflowNamespace"]


class MmflowNamespace(SQLNamespace):
    """Functions of narwhals for datasets, in one version of its API."""

    _implementation = Implementation.UNKNOWN

    def __init__(self, *, version: Any) -> None:
        self._version = version

    @property
    def _expr(self) -> type[MmflowExpr]:
        return MmflowExpr

    @property
    def _lazyframe(self) -> type[MmflowLazyFrame]:
        return MmflowLazyFrame

    @property
    def selectors(self) -> Any:
        return MmflowSelectorNamespace.from_namespace(self)

    # ---- files -----------------------------------------------------------------------------------

    def scan_csv(self, source: Any, *, separator: str = ",", **kwds: Any) -> MmflowLazyFrame:
        validate_separators(separator, ("delimiter",), kwds)
        return self._lazyframe(mf.read_csv(source, **{"delimiter": separator, **kwds}), version=self._version)

    def scan_parquet(self, source: Any, **kwds: Any) -> MmflowLazyFrame:
        return self._lazyframe(mf.read_parquet(source, **kwds), version=self._version)

    # ---- what the base class asks for ------------------------------------------------------------

    def _function(self, name: str, *args: Any) -> Expr:
        return function(name, *args)

    def _lit(self, value: Any) -> Expr:
        return mf.lit(value)

    def _when(self, condition: Expr, value: Any, otherwise: Any = None) -> Expr:
        return choice(condition, value, otherwise)

    def _coalesce(self, *exprs: Expr) -> Expr:
        return mf.coalesce(*exprs)

    # ---- functions -------------------------------------------------------------------------------

    def concat(self, items: Iterable[MmflowLazyFrame], *, how: Any) -> MmflowLazyFrame:
        frames = [*items]
        first = frames[0]
        if how == "vertical" and any(f.schema != first.schema for f in frames[1:]):
            raise TypeError("inputs should all have the same schema")
        return first._with_native(mf.concat([f.native for f in frames], how=how))

    def concat_str(self, *exprs: Any, separator: str, ignore_nulls: bool) -> Any:
        def joined(columns: Sequence[Expr]) -> Expr:
            return mf.concat_str(*columns, separator=separator, ignore_nulls=ignore_nulls)

        return self._expr._from_elementwise_horizontal_op(joined, *exprs)

    def corr(self, a: Any, b: Any, *, method: Any) -> Any:
        if method != "pearson":
            raise NotImplementedError(f"corr(method={method!r}): mmflow has 'pearson'")
        return self._of_two(mf.functions.corr, a, b)

    def cov(self, a: Any, b: Any, *, ddof: int) -> Any:
        def covariance(x: Expr, y: Expr) -> Expr:
            if ddof in (0, 1):
                return mf.functions.covar_samp(x, y) if ddof else mf.functions.covar_pop(x, y)
            count = (x.is_not_null() & y.is_not_null()).sum()
            return choice(count > ddof, mf.functions.covar_pop(x, y) * count / (count - ddof))

        return self._of_two(covariance, a, b)

    def _of_two(self, call: Callable[[Expr, Expr], Expr], a: Any, b: Any) -> Any:
        def made(df: Any) -> list[Expr]:
            return [call(df._evaluate_single_output_expr(a), df._evaluate_single_output_expr(b))]

        def windowed(df: Any, inputs: Any) -> list[Expr]:
            return [over(e, inputs.partition_by) for e in made(df)]

        return self._expr(
            made,
            windowed,
            evaluate_output_names=combine_evaluate_output_names(a, b),
            alias_output_names=combine_alias_output_names(a, b),
            version=self._version,
        )

    def len(self) -> Any:
        return self._expr(
            lambda _: [mf.len()],
            evaluate_output_names=lambda _: ["len"],
            alias_output_names=None,
            version=self._version,
        )

    def list(self, *exprs: Any) -> Any:
        return self._of_all(lambda _, columns: mf.functions.make_array(*columns), exprs)

    def struct(self, *exprs: Any) -> Any:
        def made(names: Sequence[str], columns: Sequence[Expr]) -> Expr:
            check_column_names_are_unique(names)
            from datafusion import functions as F  # noqa: N812, PLC0415

            def call(values: Sequence[Any]) -> Any:
                return F.named_struct([*zip(names, values, strict=True)])

            return call_function("struct", call, (columns,), {})

        return self._of_all(made, exprs)

    def _of_all(self, call: Callable[[Sequence[str], Sequence[Expr]], Expr], exprs: Sequence[Any]) -> Any:
        """Return an expression of all columns of others, and of their names."""

        def made(df: Any) -> list[Expr]:
            names: list[str] = []
            columns: list[Expr] = []
            for one in exprs:
                names += evaluate_output_names_and_aliases(one, df, [])[1]
                columns += one(df)
            return [call(names, columns)]

        return self._expr(
            made,
            evaluate_output_names=combine_evaluate_output_names(*exprs),
            alias_output_names=combine_alias_output_names(*exprs),
            version=self._version,
        )

    def lit(self, value: Any, dtype: Any | None) -> Any:
        kind = None if dtype is None else narwhals_to_native_dtype(dtype, self._version)

        def made(_: Any, __: Any = None) -> list[Expr]:
            if isinstance(value, list | tuple | dict):
                return [mf.lit(pa.scalar(value, kind))]
            return [mf.lit(value) if kind is None else mf.lit(value).cast(kind)]

        return self._expr(
            made,
            made,
            evaluate_output_names=lambda _: ["literal"],
            alias_output_names=None,
            version=self._version,
        )

    def sum_horizontal(self, *exprs: Any) -> Any:
        def total(columns: Iterable[Expr]) -> Expr:
            return reduce(operator.add, [c.fill_null(0) for c in columns])

        return self._expr._from_elementwise_horizontal_op(total, *exprs)

    def mean_horizontal(self, *exprs: Any) -> Any:
        def mean(columns: Iterable[Expr]) -> Expr:
            given = [*columns]
            total = reduce(operator.add, [c.fill_null(0) for c in given])
            return total / reduce(operator.add, [c.is_not_null().cast(pa.int64()) for c in given])

        return self._expr._from_elementwise_horizontal_op(mean, *exprs)


class MmflowSelectorNamespace(LazySelectorNamespace):
    """Selectors of columns by their types and names."""

    @property
    def _selector(self) -> type[MmflowSelector]:
        return MmflowSelector


class MmflowSelector(CompliantSelector, MmflowExpr):
    """Columns of a type or of names."""

    _window_function = None

    def _to_expr(self) -> MmflowExpr:
        return MmflowExpr(
            self._call,
            self._window_function,
            evaluate_output_names=self._evaluate_output_names,
            alias_output_names=self._alias_output_names,
            version=self._version,
        )

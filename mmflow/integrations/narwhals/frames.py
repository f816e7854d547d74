"""Lazy frames of narwhals as datasets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import pyarrow as pa
from narwhals._arrow.utils import native_to_narwhals_dtype
from narwhals._sql.dataframe import SQLLazyFrame
from narwhals._utils import (
    Implementation,
    Version,
    check_column_names_are_unique,
    extend_bool,
    generate_temporary_column_name,
    parse_columns_to_drop,
)
from narwhals.exceptions import ColumnNotFoundError, InvalidOperationError

import mmflow as mf
from mmflow.api.dataset import Dataset
from mmflow.api.expressions import Expr
from mmflow.errors import PlanError
from mmflow.integrations.narwhals.groups import MmflowGroupBy
from mmflow.integrations.narwhals.native import over, row_number

__all__ = ["MmflowLazyFrame"]


class MmflowLazyFrame(SQLLazyFrame):
    """Dataset behind a `LazyFrame` of narwhals."""

    _implementation = Implementation.UNKNOWN

    def __init__(self, df: Dataset, *, version: Any) -> None:
        self._native_frame = df
        self._version = version
        self._schema: pa.Schema | None = None

    @staticmethod
    def _is_native(obj: Any) -> bool:
        return isinstance(obj, Dataset)

    @classmethod
    def from_native(cls, data: Dataset, /, *, context: Any) -> Self:
        return cls(data, version=context._version)

    def to_narwhals(self, *_: Any, **__: Any) -> Any:
        return self._version.lazyframe(self, level="lazy")

    def __narwhals_lazyframe__(self) -> Self:
        return self

    def __native_namespace__(self) -> Any:
        return mf

    def __narwhals_namespace__(self) -> Any:
        from mmflow.integrations.narwhals.namespace import MmflowNamespace  # noqa: PLC0415  (it imports this module)

        return MmflowNamespace(version=self._version)

    def _with_native(self, df: Dataset) -> Self:
        return type(self)(df, version=self._version)

    def _with_version(self, version: Version) -> Self:
        return type(self)(self.native, version=version)

    @contextmanager
    def errors(self, expressions: Iterable[Expr]) -> Iterator[None]:
        """Raise narwhals' error for a column that does not exist; what else mmflow raises says itself what it is."""
        try:
            yield
        except PlanError as error:
            known = self.columns
            named = {n: None for e in expressions for n in sorted(e.columns)}
            if missing := [n for n in named if n not in known]:
                raise ColumnNotFoundError.from_missing_and_available_column_names(missing, known) from error
            raise

    # ---- columns ---------------------------------------------------------------------------------

    @property
    def _arrow_schema(self) -> pa.Schema:
        if self._schema is None:
            self._schema = self.native.schema
        return self._schema

    @property
    def columns(self) -> list[str]:
        return self.native.columns

    @property
    def schema(self) -> dict[str, Any]:
        return {f.name: native_to_narwhals_dtype(f.type, self._version) for f in self._arrow_schema}

    def collect_schema(self) -> dict[str, Any]:
        return self.schema

    def _iter_columns(self) -> Iterator[Expr]:
        for name in self.columns:
            yield mf.col(name)

    def _named(self, expressions: Iterable[Any]) -> list[Expr]:
        found = [
            (name, made)
            for e in expressions
            for name, made in zip(e._evaluate_aliases(self), e(self), strict=True)
        ]
        check_column_names_are_unique([name for name, _ in found])
        return [made.alias(name) for name, made in found]

    # ---- rows ------------------------------------------------------------------------------------

    def collect(self, backend: Implementation | None, **kwargs: Any) -> Any:
        if kwargs:
            raise TypeError(f"collect() takes no options on mmflow: {', '.join(kwargs)}")
        if backend is None or backend is Implementation.PYARROW:
            from narwhals._arrow.dataframe import ArrowDataFrame  # noqa: PLC0415  (optional)

            return ArrowDataFrame(
                self.native.to_arrow(),
                validate_backend_version=True,
                version=self._version,
                validate_column_names=True,
            )
        if backend is Implementation.PANDAS:
            from narwhals._pandas_like.dataframe import PandasLikeDataFrame  # noqa: PLC0415  (optional)

            return PandasLikeDataFrame(
                self.native.to_pandas(),
                implementation=Implementation.PANDAS,
                validate_backend_version=True,
                version=self._version,
                validate_column_names=True,
            )
        if backend is Implementation.POLARS:
            from narwhals._polars.dataframe import PolarsDataFrame  # noqa: PLC0415  (optional)

            return PolarsDataFrame(
                self.native.to_polars(), validate_backend_version=True, version=self._version
            )
        raise ValueError(f"collect({backend}): mmflow collects into pyarrow, pandas or polars")

    def sink_parquet(self, file: Any) -> None:
        if not isinstance(file, str | os.PathLike):
            raise NotImplementedError("sink_parquet(): mmflow writes files by their paths, which it commits")
        self.native.write_parquet(os.fspath(file), if_exists="replace")

    # ---- verbs -----------------------------------------------------------------------------------

    def select(self, *exprs: Any) -> Self:
        chosen = self._named(exprs)
        with self.errors(chosen):
            return self._with_native(self.native.select(*chosen))

    def simple_select(self, *column_names: str) -> Self:
        return self._with_native(self.native.select(*column_names))

    def aggregate(self, *exprs: Any) -> Self:
        """Return one row. Literals alone make none of themselves, so rows are counted beside them."""
        chosen = self._named(exprs)
        count = generate_temporary_column_name(8, [e._node.output_name for e in chosen])
        with self.errors(chosen):
            return self._with_native(self.native.agg(*chosen, mf.len().alias(count)).drop(count))

    def with_columns(self, *exprs: Any) -> Self:
        chosen = self._named(exprs)
        with self.errors(chosen):
            return self._with_native(self.native.with_columns(*chosen))

    def filter(self, predicate: Any) -> Self:
        conditions = predicate(self)
        with self.errors(conditions):
            return self._with_native(self.native.filter(*conditions))

    def drop(self, columns: Sequence[str], *, strict: bool) -> Self:
        return self._with_native(self.native.drop(*parse_columns_to_drop(self, columns, strict=strict)))

    def drop_nulls(self, subset: Sequence[str] | None) -> Self:
        if subset is not None and (error := self._check_columns_exist(subset)):
            raise error
        return self._with_native(self.native.drop_nulls(None if subset is None else [*subset]))

    def rename(self, mapping: Mapping[str, str]) -> Self:
        check_column_names_are_unique([mapping.get(n, n) for n in self.columns])
        return self._with_native(self.native.rename({k: v for k, v in mapping.items() if k in self.columns}))

    def head(self, n: int) -> Self:
        return self._with_native(self.native.limit(n))

    def sort(self, *by: str, descending: bool | Sequence[bool], nulls_last: bool) -> Self:
        if error := self._check_columns_exist(by):
            raise error
        return self._with_native(self.native.sort(*by, descending=descending, nulls_last=nulls_last))

    def top_k(self, k: int, *, by: Iterable[str], reverse: bool | Sequence[bool]) -> Self:
        keys = [*by]
        flags = [not r for r in extend_bool(reverse, len(keys))]
        return self._with_native(self.native.sort(*keys, descending=flags).limit(k))

    def group_by(self, keys: Sequence[Any], *, drop_null_keys: bool) -> MmflowGroupBy:
        return MmflowGroupBy(self, keys, drop_null_keys=drop_null_keys)

    def unique(self, subset: Sequence[str] | None, *, keep: Any, order_by: Sequence[str] | None) -> Self:
        names = [*(subset or self.columns)]
        if error := self._check_columns_exist(names):
            raise error
        if keep in ("any", "none") or not order_by:
            return self._with_native(self.native.unique(names, keep=keep))
        number = generate_temporary_column_name(8, self.columns)
        numbered = over(row_number(), names, order_by, reverse=keep == "last")
        ranked = self.native.with_columns(numbered.alias(number))
        return self._with_native(ranked.filter(mf.col(number) == 1).drop(number))

    def with_row_index(self, name: str, order_by: Sequence[str] | None) -> Self:
        if not order_by:
            return self._with_native(self.native.with_row_index(name))
        number = (over(row_number(), (), order_by) - 1).alias(name)
        return self._with_native(self.native.select(number, *self.columns))

    def explode(self, columns: Sequence[str], *, empty_as_null: bool = True, keep_nulls: bool = True) -> Self:
        for name in columns:
            if (dtype := self.schema[name]) != self._version.dtypes.List:
                raise InvalidOperationError(
                    f"`explode` operation not supported for dtype `{dtype}`, expected List type"
                )
        made = self.native.explode([*columns], empty_as_null=empty_as_null, keep_nulls=keep_nulls)
        return self._with_native(made)

    def unpivot(
        self, on: Sequence[str] | None, index: Sequence[str] | None, variable_name: str, value_name: str
    ) -> Self:
        return self._with_native(
            self.native.unpivot(
                None if on is None else [*on],
                index=[*(index or ())],
                variable_name=variable_name,
                value_name=value_name,
            )
        )

    def join(
        self,
        other: Self,
        *,
        how: Any,
        left_on: Sequence[str] | None,
        right_on: Sequence[str] | None,
        suffix: str,
    ) -> Self:
        left, right = self.native, other.native
        if how == "cross":
            self._check_joined(other.columns, suffix)
            return self._with_native(left.join(right, how="cross", suffix=suffix))
        keys, others = [*(left_on or ())], [*(right_on or ())]
        if how in ("semi", "anti"):
            return self._with_native(left.join(right, how=how, left_on=keys, right_on=others))
        if how == "full":
            self._check_joined(other.columns, suffix)
            return self._with_native(left.join(right, how=how, left_on=keys, right_on=others, suffix=suffix))
        # Keys of the other side are left out, whatever their names are.
        rest = [n for n in other.columns if n not in others]
        self._check_joined(rest, suffix)
        taken = [*self.columns, *(f"{n}{suffix}" for n in other.columns), *other.columns]
        marks: list[str] = []
        for _ in others:
            marks.append(generate_temporary_column_name(8, [*taken, *marks]))
        marked = right.select(*rest, *(mf.col(k).alias(m) for k, m in zip(others, marks, strict=True)))
        joined = left.join(marked, how=how, left_on=keys, right_on=marks, suffix=suffix)
        return self._with_native(joined.drop(*marks))

    def _check_joined(self, columns: Sequence[str], suffix: str) -> None:
        own = self.columns
        check_column_names_are_unique([*own, *(n if n not in own else f"{n}{suffix}" for n in columns)])

    def join_asof(
        self,
        other: Self,
        *,
        left_on: str,
        right_on: str,
        by_left: Sequence[str] | None,
        by_right: Sequence[str] | None,
        strategy: Any,
        suffix: str,
    ) -> Self:
        mine, its = [*(by_left or ()), left_on], [*(by_right or ()), right_on]
        rest = [n for n in other.columns if n not in its]
        self._check_joined(rest, suffix)
        right = other.native.select(
            *(mf.col(b).alias(a) for a, b in zip(mine, its, strict=True)),
            *(mf.col(n).alias(n if n not in self.columns else f"{n}{suffix}") for n in rest),
        )
        joined = self.native.join_asof(right, on=left_on, by=[*(by_left or ())], strategy=strategy)
        return self._with_native(joined)

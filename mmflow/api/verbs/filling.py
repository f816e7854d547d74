"""Rows with other values in the place of nulls and NaN."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
from datafusion import functions

from mmflow.api import expressions as ex
from mmflow.api.verbs.cleaning import CleaningVerbs, is_nan
from mmflow.errors import PlanError
from mmflow.formats.schemas.schema import type_text
from mmflow.plan.catalog import planning

if TYPE_CHECKING:
    from mmflow.api.expressions import Raw
    from mmflow.api.expressions.methods.filling import FillStrategy

__all__ = ["FillingVerbs"]


class FillingVerbs(CleaningVerbs):
    """Verbs that replace what is missing or not a number."""

    def fill_null(
        self, value: Any = None, strategy: FillStrategy | None = None, limit: int | None = None
    ) -> Self:
        """Return the rows with other values in the place of nulls. The types of the columns stay.

        Parameters
        ----------
        value
            One value, for all columns whose type holds it exactly, or a mapping from columns to their values.
        strategy
            Instead of a value, for all columns whose type has it: the last value before (`forward`) or the next behind
            (`backward`) in the order of the rows, which is that of the files; the least (`min`), the greatest (`max`)
            or the `mean` value of the column; `zero` or `one`.
        limit
            Most nulls in a row that `forward` and `backward` fill.

        Notes
        -----
        `forward` and `backward` send all rows through one task. It holds a few batches, but for `backward` all rows
        from the first null of a column to its next value. `col("a").forward_fill().over("k", order_by="t")` fills by a
        key, and in parallel.

        Raises
        ------
        ConfigError
            Neither a value nor a strategy is given, or both, or there is no such strategy.
        PlanError
            An unknown column, or a value for a column that does not fit its type.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"a": [1, None], "b": [None, "x"]})
        >>> ds.fill_null(0).to_arrow().to_pydict()
        {'a': [1, 0], 'b': [None, 'x']}
        >>> ds.fill_null({"a": 7, "b": ""}).to_arrow().to_pydict()
        {'a': [1, 7], 'b': ['', 'x']}
        >>> ds.fill_null(strategy="forward").to_arrow().to_pydict()
        {'a': [1, 1], 'b': [None, 'x']}
        """
        from mmflow.api.expressions.methods.filling import check_filling  # noqa: PLC0415  (slow)

        check_filling("fill_null()", value, strategy, limit)
        if strategy in ("forward", "backward"):
            from mmflow.worker.filling import fill_backward, fill_forward  # noqa: PLC0415  (slow)

            function = partial(fill_forward if strategy == "forward" else fill_backward, limit)
            title = f"fill {strategy}"
            return self._streamed(function, self._plan_schema(), title, gather=True, public=True)
        if strategy in ("zero", "one"):
            return self._filled_small(strategy)
        if strategy is not None:
            return self._filled_by_aggregates(strategy)
        schema = self.schema
        given = value if isinstance(value, Mapping) else dict.fromkeys(self.columns, value)
        self._named(list(given), "fill_null")
        filled = {}
        for name, wanted in given.items():
            scalar = _scalar(wanted, schema.field(name).type)
            if scalar is not None:
                filled[name] = functions.coalesce(ex.quoted_column(name), ex.literal(scalar))
            elif isinstance(value, Mapping):
                shown = type_text(schema.field(name).type)
                raise PlanError(f"fill_null: column {name!r} of type {shown} can't hold {wanted!r}")
        return self._replaced(filled)

    def _filled_small(self, strategy: FillStrategy) -> Self:
        """Return the rows with zero or one in the place of nulls, in the columns whose type has it."""
        items = [
            ex.col(f.name).fill_null(strategy=strategy)
            for f in self.schema
            if _is_number(f.type) or _has_small(f.type, strategy)
        ]
        scope = self._scope(self.frame)
        with planning("fill_null"):
            return self._replaced({r.name: r.raw for r in ex.projected(scope, items) or ()})

    def _filled_by_aggregates(self, strategy: FillStrategy) -> Self:
        """Return the rows with an aggregate of each column in the place of its nulls: one row, sent to all tasks."""
        names = [f.name for f in self.schema if _is_number(f.type) or _has_order(f.type, strategy)]
        if not names:
            return self
        found = [self._unused(f"__{strategy}_{i}") for i in range(len(names))]
        items = [getattr(ex.col(n), strategy)().alias(f) for n, f in zip(names, found, strict=True)]
        with planning("fill_null"):
            row = ex.aggregated(self.frame, self._scope(self.frame), [], items)
            both = self.frame.join_on(row, ex.literal(True), how="inner")
            schema = self._plan_schema()
            values = {
                n: functions.coalesce(ex.quoted_column(n), ex.quoted_column(f).cast(schema.field(n).type))
                for n, f in zip(names, found, strict=True)
            }
            return self._new(
                both.select(*(values.get(n, ex.quoted_column(n)).alias(n) for n in self.columns))
            )

    def fill_nan(self, value: float | None) -> Self:
        """Return the rows with another value in the place of NaN, in all columns of floats. None makes them null.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1.5, float("nan")]}).fill_nan(0).to_arrow().to_pydict()
        {'a': [1.5, 0.0]}
        """
        schema = self.schema
        filled = {}
        for name in self._floats(None, "fill_nan"):
            other = ex.literal(pa.scalar(value, schema.field(name).type))
            filled[name] = functions.when(is_nan(name), other).otherwise(ex.quoted_column(name))
        return self._replaced(filled)

    def _replaced(self, values: Mapping[str, Raw]) -> Self:
        """Return the rows with these values in the place of columns."""
        with planning("fill"):
            made = [values[n].alias(n) if n in values else ex.quoted_column(n) for n in self.columns]
            return self._computed(made)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _has_small(kind: pa.DataType, strategy: FillStrategy) -> bool:
    types = pa.types
    if types.is_boolean(kind) or types.is_date(kind) or types.is_timestamp(kind) or types.is_duration(kind):
        return True
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind)
    return strategy == "zero" and bool(text)


def _has_order(kind: pa.DataType, strategy: FillStrategy) -> bool:
    return strategy != "mean" and not (pa.types.is_nested(kind) or pa.types.is_null(kind))


_EXACT: tuple[tuple[type, tuple[Any, ...]], ...] = (
    (bool, (pa.types.is_boolean,)),
    (int, (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)),
    (float, (pa.types.is_floating,)),
    (decimal.Decimal, (pa.types.is_decimal,)),
    (str, (pa.types.is_string, pa.types.is_large_string)),
    (bytes, (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)),
    (dt.datetime, (pa.types.is_timestamp,)),
    (dt.date, (pa.types.is_date,)),
    (dt.time, (pa.types.is_time,)),
    (dt.timedelta, (pa.types.is_duration,)),
)


def _scalar(value: Any, kind: pa.DataType) -> pa.Scalar | None:
    """Return a value as one of a type; None: the type does not hold it exactly."""
    for python, tests in _EXACT:
        if isinstance(value, python):
            if not any(test(kind) for test in tests):
                return None
            try:
                made = pa.scalar(value, kind)
            except (pa.ArrowInvalid, OverflowError):
                return None
            exact = python is not int or made.as_py() == value
            return made if exact else None
    raise PlanError(f"fill_null: {value!r} is no value of a column")

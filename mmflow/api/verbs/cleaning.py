"""Rows without nulls and without duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import pyarrow as pa
from datafusion import functions
from datafusion.expr import Window

from mmflow.api import expressions as ex
from mmflow.api.verbs.core import Columns, DatasetCore
from mmflow.errors import PlanError
from mmflow.formats.schemas.schema import type_text
from mmflow.plan.catalog import planning

if TYPE_CHECKING:
    from mmflow.api.expressions import Raw

__all__ = ["CleaningVerbs", "is_nan"]


class CleaningVerbs(DatasetCore):
    """Verbs that leave out what is missing, not a number, or there twice."""

    def drop_nulls(self, subset: Columns | None = None) -> Self:
        """Return the rows without a null in any of these columns. NaN is no null.

        Parameters
        ----------
        subset
            Columns to look at. By default all.

        Raises
        ------
        PlanError
            An unknown column.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, None], "b": ["x", "y"]}).drop_nulls().to_arrow().to_pydict()
        {'a': [1], 'b': ['x']}
        """
        names = self._named(subset, "drop_nulls")
        return self._only([ex.quoted_column(n).is_not_null() for n in names])

    def drop_nans(self, subset: Columns | None = None) -> Self:
        """Return the rows without a NaN in any of these columns; by default in any column of floats. Nulls stay.

        Raises
        ------
        PlanError
            An unknown column, or one that holds no floats.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1.5, float("nan"), None]}).drop_nans().to_arrow().to_pydict()
        {'a': [1.5, None]}
        """
        return self._only([~is_nan(n) for n in self._floats(subset, "drop_nans")])

    def _only(self, conditions: Sequence[Raw]) -> Self:
        if not conditions:
            return self
        with planning("filter"):
            return self._new(self.frame.filter(*conditions), None, lambda f: f.filter(*conditions))

    def _floats(self, columns: Columns | None, what: str) -> list[str]:
        names, schema = self._named(columns, what), self.schema
        floats = [n for n in names if pa.types.is_floating(schema.field(n).type)]
        if columns is not None and (others := [n for n in names if n not in floats]):
            raise PlanError(
                f"{what}: {others[0]!r} is {type_text(schema.field(others[0]).type)}, not of floats"
            )
        return floats

    def unique(
        self, subset: Columns | None = None, *, keep: Literal["any", "first", "last", "none"] = "any"
    ) -> Self:
        """Return one row of those with equal values, in no particular order. Nulls equal nulls, and NaN equals NaN.

        Parameters
        ----------
        subset
            Columns that are compared. By default all.
        keep
            `first` or `last` in the order of the dataset, `any`, or `none` (only rows that are there once).

        Raises
        ------
        PlanError
            An unknown column, or another word for `keep`.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"k": ["x", "y", "x"], "v": [1, 2, 3]})
        >>> ds.unique("k", keep="last").sort("k").to_arrow().to_pydict()
        {'k': ['x', 'y'], 'v': [3, 2]}
        """
        if keep not in ("any", "first", "last", "none"):
            raise PlanError(f"unique: keep = {keep!r}: must be any, first, last or none")
        names = self._named(subset, "unique")
        if not names:
            raise PlanError("unique: name at least one column")
        if set(names) == set(self.columns) and keep != "none":
            with planning("unique"):
                return self._new(self.frame.distinct())
        mark = self._unused("number")
        keys = [ex.quoted_column(n) for n in names]
        if keep == "none":
            numbered = self
            found = functions.count(ex.literal(1)).over(Window(partition_by=keys))
        else:
            schema = self._plan_schema().append(pa.field(mark, pa.int64()))
            from mmflow.worker.row_streams import append_numbers  # noqa: PLC0415  (slow)

            numbered = self._streamed(partial(append_numbers, mark), schema, "number rows")
            order = ex.quoted_column(mark).sort(ascending=keep != "last")
            found = functions.row_number(partition_by=keys, order_by=order)
        with planning("unique"):
            own = [ex.quoted_column(n) for n in self.columns]
            ranked = numbered.frame.select(*own, found.alias(mark)).filter(
                ex.quoted_column(mark) == ex.literal(1)
            )
            return self._new(ranked.select(*own))


def is_nan(name: str) -> Raw:
    """Return whether the values of a column of floats are NaN."""
    return functions.coalesce(functions.isnan(ex.quoted_column(name)), ex.literal(False))

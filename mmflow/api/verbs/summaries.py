"""Summaries of columns: counts of values, and a description of every column."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Self

import pyarrow as pa
from datafusion import functions
from datafusion.expr import Window

from mmflow.api import expressions as ex
from mmflow.api.verbs.core import DatasetCore
from mmflow.errors import PlanError
from mmflow.formats.schemas.arrow_types import plan_schema
from mmflow.plan.catalog import planning

if TYPE_CHECKING:
    from mmflow.api.expressions import Expr

__all__ = ["SummaryVerbs"]


class SummaryVerbs(DatasetCore):
    """Verbs that say what values there are."""

    def value_counts(
        self,
        columns: str | Sequence[str],
        *,
        sort: bool = False,
        name: str | None = None,
        normalize: bool = False,
    ) -> Self:
        """Return the different values of a column, and how many rows have each. Nulls count as a value.

        Parameters
        ----------
        columns
            Column, or columns whose combinations are counted.
        sort
            Whether the most frequent come first; else the order is arbitrary.
        name
            Name of the column of counts: by default `count`, or `proportion`.
        normalize
            Whether to give shares of all rows, which add up to 1.

        Raises
        ------
        PlanError
            An unknown column, or one with the name of the counts.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": ["x", "y", "x"]}).value_counts("a", sort=True).to_arrow().to_pydict()
        {'a': ['x', 'y'], 'count': [2, 1]}
        """
        keys = self._named(columns, "value_counts")
        name = name or ("proportion" if normalize else "count")
        if name in keys:
            raise PlanError(f"value_counts: there is a column {name!r}; give another name")
        with planning("value_counts"):
            made = self.frame.aggregate(
                [ex.quoted_column(k) for k in keys], [functions.count(ex.literal(1)).alias(name)]
            )
            if normalize:
                total = functions.sum(ex.quoted_column(name)).over(Window())
                made = made.select(
                    *map(ex.quoted_column, keys),
                    (ex.quoted_column(name).cast(float) / total.cast(float)).alias(name),
                )
            if sort:
                order = [
                    ex.quoted_column(name).sort(ascending=False),
                    *[ex.quoted_column(k).sort() for k in keys],
                ]
                made = made.sort(*order)
            return self._new(made)

    def describe(self, percentiles: Sequence[float] = (0.25, 0.5, 0.75)) -> Self:
        """Return a row for each statistic: count, null_count, mean, std, min, percentiles and max of every column.

        Columns of numbers and truth values are described in float64, others as text; of lists and the like only the
        counts. All is exact: percentiles and std gather what is not null in one task, so it takes memory.

        Parameters
        ----------
        percentiles
            Numbers from 0 to 1, each interpolated between the two values next to it.

        Raises
        ------
        ConfigError
            A percentile is not from 0 to 1.

        Examples
        --------
        >>> import mmflow as mf
        >>> made = mf.from_arrow({"a": [1, 2, None], "t": ["x", "y", "y"]}).describe([0.5]).to_arrow().to_pydict()
        >>> made["statistic"]
        ['count', 'null_count', 'mean', 'std', 'min', '50%', 'max']
        >>> made["a"], made["t"]
        ([2.0, 1.0, 1.5, 0.7071067811865476, 1.0, 1.5, 2.0], ['3', '0', None, None, 'x', None, 'y'])
        """
        names = ["count", "null_count", "mean", "std", "min", *(f"{100 * q:g}%" for q in percentiles), "max"]
        items: list[Expr] = []
        cells: list[
            tuple[int | None, ...]
        ] = []  # by column: the numbers of its aggregates, None for what it lacks
        for field in self.schema:
            column, kind = ex.col(field.name), field.type
            truth = pa.types.is_boolean(kind)
            number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
            order = not (pa.types.is_nested(kind) or pa.types.is_null(kind))
            wanted = [
                column.count(),
                column.null_count(),
                column.mean() if number or truth else None,
                column.std() if number else None,
                column.min() if order else None,
                *(column.quantile(q) if number else None for q in percentiles),
                column.max() if order else None,
            ]
            found = [e for e in wanted if e is not None]
            numbers = iter(range(len(items), len(items) + len(found)))
            cells.append(tuple(None if e is None else next(numbers) for e in wanted))
            items += [e.alias(f"{len(items) + i}") for i, e in enumerate(found)]
        fields = [
            pa.field("statistic", pa.string()),
            *(pa.field(f.name, _described(f.type)) for f in self.schema),
        ]
        if len({f.name for f in fields}) < len(fields):
            raise PlanError("describe: there is a column 'statistic'; rename it before")
        frame, scope = self._source(items)
        with planning("describe"):
            row = self._new(ex.aggregated(frame, scope, [], items))
        from mmflow.worker.row_streams import describe_columns  # noqa: PLC0415  (slow)

        function = partial(describe_columns, tuple(names), tuple(cells), pa.schema(fields))
        return row._streamed(function, plan_schema(pa.schema(fields)), "describe", gather=True, public=True)


def _described(kind: pa.DataType) -> pa.DataType:
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return pa.float64() if number or pa.types.is_boolean(kind) else pa.string()

"""Rows made of lists, structs and columns, and columns made of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa
from datafusion import functions

from mmflow.api import expressions as ex
from mmflow.api.verbs.common_types import cast_column, common_type, shown_type
from mmflow.api.verbs.core import Columns, DatasetCore
from mmflow.errors import PlanError
from mmflow.formats.schemas.arrow_types import plan_schema, plan_type
from mmflow.formats.schemas.schema import type_text
from mmflow.plan.catalog import planning

if TYPE_CHECKING:
    from mmflow.api.expressions import Raw

__all__ = ["ReshapingVerbs"]

PivotAggregate = Literal["count", "max", "mean", "median", "min", "sum"]

_AGGREGATES: dict[str, Callable[[Raw], Raw]] = {
    "count": functions.count,
    "max": functions.max,
    "mean": functions.avg,
    "median": functions.median,
    "min": functions.min,
    "sum": functions.sum,
}


class ReshapingVerbs(DatasetCore):
    """Verbs that turn values into rows or columns, and back."""

    def explode(self, columns: Columns, *, empty_as_null: bool = False, keep_nulls: bool = True) -> Self:
        """Return a row for each value of lists.

        Parameters
        ----------
        columns
            Columns of lists. Those of one row must have equally many values.
        empty_as_null
            Whether an empty list gives one row with null; else it gives none.
        keep_nulls
            Whether a null gives one row with null; else it gives none.

        Raises
        ------
        PlanError
            An unknown column, one that holds no lists, or lists of different lengths in one row.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"k": ["x", "y"], "v": [[1, 2], []]}).explode("v").to_arrow().to_pydict()
        {'k': ['x', 'x'], 'v': [1, 2]}
        """
        names = self._named(columns, "explode")
        given = self.schema
        for name in names:
            kind = given.field(name).type
            if not (
                pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
            ):
                raise PlanError(f"explode: column {name!r} is {type_text(kind)}, not of lists")
        if not names:
            raise PlanError("explode: name at least one column of lists")
        made = [pa.field(f.name, f.type.value_type if f.name in names else f.type) for f in given]
        from mmflow.worker.row_streams import explode_lists  # noqa: PLC0415  (slow)

        function = partial(explode_lists, tuple(names), empty_as_null, keep_nulls)
        return self._streamed(function, plan_schema(pa.schema(made)), "explode", public=True)

    def unnest(self, columns: Columns) -> Self:
        """Return the fields of structs as columns, in the place of the structs. A null gives nulls.

        Raises
        ------
        PlanError
            An unknown column, one that holds no structs, or a field with the name of another column.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [{"x": 1, "y": 2}], "b": [3]}).unnest("a").to_arrow().to_pydict()
        {'x': [1], 'y': [2], 'b': [3]}
        """
        names = self._named(columns, "unnest")
        made: list[Raw] = []
        taken: list[str] = []
        for field in self.schema:
            if field.name not in names:
                made.append(ex.quoted_column(field.name))
                taken.append(field.name)
                continue
            if not pa.types.is_struct(field.type):
                raise PlanError(f"unnest: column {field.name!r} is {type_text(field.type)}, not of structs")
            for inner in field.type:
                made.append(functions.get_field(ex.quoted_column(field.name), inner.name).alias(inner.name))
                taken.append(inner.name)
        if again := next((n for n in taken if taken.count(n) > 1), None):
            raise PlanError(f"unnest: there would be two columns {again!r}; rename one of them before")
        with planning("unnest"):
            return self._computed(made)

    def unpivot(
        self,
        on: Columns | None = None,
        *,
        index: Columns = (),
        variable_name: str = "variable",
        value_name: str = "value",
    ) -> Self:
        """Return a row for each value of some columns, with the name of its column, in no particular order.

        Parameters
        ----------
        on
            Columns whose values become rows. By default all but `index`.
        index
            Columns that each of these rows keeps.
        variable_name, value_name
            Names of the columns for the names and for the values.

        Raises
        ------
        PlanError
            An unknown column, a name that is taken, or types of values that no type holds exactly.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"k": ["x", "y"], "a": [1, 2], "b": [3, 4]})
        >>> ds.unpivot(index="k").sort("value").to_arrow().to_pydict()
        {'k': ['x', 'y', 'x', 'y'], 'variable': ['a', 'a', 'b', 'b'], 'value': [1, 2, 3, 4]}
        """
        kept = self._named(index, "unpivot")
        names = [n for n in self.columns if n not in kept] if on is None else self._named(on, "unpivot")
        columns = [*kept, variable_name, value_name]
        if again := next((n for n in columns if columns.count(n) > 1), None):
            raise PlanError(
                f"unpivot: there would be two columns {again!r}; give variable_name or value_name"
            )
        if not names:
            raise PlanError("unpivot: there is no column whose values would become rows")
        schema = self._plan_schema()
        kind = schema.field(names[0]).type
        for name in names[1:]:
            other = schema.field(name).type
            if (both := common_type(kind, other)) is None:
                raise PlanError(
                    f"unpivot: no type holds the values of {names[0]!r} ({shown_type(kind)}) and {name!r} "
                    f"({shown_type(other)}) exactly; cast one of them"
                )
            kind = both
        fields = [
            *(schema.field(n) for n in kept),
            pa.field(variable_name, plan_type(pa.string())),
            pa.field(value_name, kind),
        ]
        with planning("unpivot"):
            values = [cast_column(n, schema.field(n).type, kind).alias(n) for n in names]
            narrow = self._new(self.frame.select(*map(ex.quoted_column, kept), *values))
        from mmflow.worker.row_streams import unpivot_columns  # noqa: PLC0415  (slow)

        function = partial(unpivot_columns, len(kept), variable_name, value_name)
        return narrow._streamed(function, pa.schema(fields), "unpivot", public=True)

    def pivot(
        self,
        on: str,
        on_columns: Sequence[Any],
        *,
        index: Columns,
        values: Columns,
        aggregate_function: PivotAggregate,
    ) -> Self:
        """Return a row for each group of equal `index`, with a column for each value of `on`.

        Parameters
        ----------
        on
            Column whose values name the new columns.
        on_columns
            These values. They are given, since the rows are not read to find them. Rows with others don't count.
        index
            Columns of the groups.
        values
            Columns that are aggregated. The new columns are named by the value; of several, `{values}_{value}`.
        aggregate_function
            `count`, `max`, `mean`, `median`, `min` or `sum`. Without a row it is null, and a count 0.

        Raises
        ------
        PlanError
            An unknown column or aggregate, a name that is there twice, or a value that does not fit the type of `on`.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"k": [1, 1, 2], "c": ["a", "b", "a"], "v": [5, 6, 7]})
        >>> made = ds.pivot("c", ["a", "b"], index="k", values="v", aggregate_function="sum")
        >>> made.sort("k").to_arrow().to_pydict()
        {'k': [1, 2], 'a': [5, 7], 'b': [6, None]}
        """
        self._named(on, "pivot")
        keys, summed = self._named(index, "pivot"), self._named(values, "pivot")
        aggregate = _AGGREGATES.get(aggregate_function)
        if aggregate is None:
            raise PlanError(
                f"pivot: aggregate_function = {aggregate_function!r}: one of {', '.join(_AGGREGATES)}"
            )
        if not on_columns or not summed:
            raise PlanError("pivot: give at least one value in on_columns, and one column in values")
        kind = self.schema.field(on).type
        columns: dict[str, Raw] = {}
        names = list(keys)
        for name in summed:
            for value in on_columns:
                column = str(value) if len(summed) == 1 else f"{name}_{value}"
                names.append(column)
                try:
                    scalar = ex.literal(pa.scalar(value, kind))
                except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
                    raise PlanError(
                        f"pivot: {value!r} is no value of column {on!r}, of {type_text(kind)}"
                    ) from error
                chosen = functions.when(ex.quoted_column(on) == scalar, ex.quoted_column(name)).end()
                columns[column] = aggregate(chosen).alias(column)
        if again := next((n for n in names if names.count(n) > 1), None):
            raise PlanError(f"pivot: there would be two columns {again!r}")
        with planning("pivot"):
            return self._new(
                self.frame.aggregate([ex.quoted_column(k) for k in keys], list(columns.values()))
            )

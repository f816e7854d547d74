"""Rows by where they stand: the first, the last, the greatest, and their numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self, TypeVar

import pyarrow as pa

from mmflow.api import expressions as ex
from mmflow.api.verbs.core import DatasetCore
from mmflow.errors import PlanError
from mmflow.plan.catalog import planning

if TYPE_CHECKING:
    from mmflow.api.expressions import IntoExpr

__all__ = ["OrderingVerbs"]

P = ParamSpec("P")
R = TypeVar("R")


class OrderingVerbs(DatasetCore):
    """Verbs that pick rows by their order, or number them."""

    def limit(self, count: int, offset: int = 0) -> Self:
        """Return `count` rows after the first `offset`: of a sorted dataset in its order, else in that of the files.

        Raises
        ------
        PlanError
            A negative number.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2, 3]}).limit(1, offset=1).to_arrow().to_pydict()
        {'a': [2]}
        """
        if count < 0 or offset < 0:
            raise PlanError(f"limit({count}, {offset}): neither may be negative")
        with planning("limit"):
            return self._new(self.frame.limit(count, offset), None, lambda f: f.limit(count, offset))

    def head(self, count: int = 10) -> Self:
        """Return the first rows."""
        return self.limit(count)

    def tail(self, count: int = 10) -> Self:
        """Return the last rows, in their order. All are read; `ds[-10:]` reads only the end of files.

        Raises
        ------
        PlanError
            A negative number.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2, 3]}).tail(2).to_arrow().to_pydict()
        {'a': [2, 3]}
        """
        if count < 0:
            raise PlanError(f"tail({count}): a number of rows is not negative")
        return self._last(count, 0)

    def _last(self, count: int, less: int) -> Self:
        """Return the last rows, but for the very last `less` of them."""
        if count <= less:
            return self.limit(0)
        schema = self._plan_schema()
        from mmflow.worker.row_streams import keep_last  # noqa: PLC0415  (slow)

        last = self._streamed(partial(keep_last, count, 0), schema, f"last {count}")
        return last._streamed(partial(keep_last, count, less), schema, f"last {count}", gather=True)

    def slice(self, offset: int, length: int | None = None) -> Self:
        """Return `length` rows from row `offset` on (from the end, if it is negative), as far as there are any.

        It is lazy and works on any dataset. `ds[offset : offset + length]` reads only these rows of files.

        Raises
        ------
        PlanError
            A negative length.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"a": [1, 2, 3, 4]})
        >>> ds.slice(1, 2).to_arrow().to_pydict(), ds.slice(-3, 2).to_arrow().to_pydict()
        ({'a': [2, 3]}, {'a': [2, 3]})
        """
        if length is not None and length < 0:
            raise PlanError(f"slice({offset}, {length}): the length may not be negative")
        if offset < 0:
            return self._last(-offset, 0 if length is None else max(0, -offset - length))
        if length is not None:
            return self.limit(length, offset)
        with planning("slice"):
            rest = _ALL - offset
            return self._new(self.frame.limit(rest, offset), None, lambda f: f.limit(rest, offset))

    def top_k(self, count: int, by: IntoExpr | list[IntoExpr]) -> Self:
        """Return the rows with the greatest values, greatest first. Nulls come last.

        Raises
        ------
        PlanError
            A negative number, or an unknown column.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [2, None, 3, 1]}).top_k(2, by="a").to_arrow().to_pydict()
        {'a': [3, 2]}
        """
        return self._extreme(count, by, ascending=False, what="top_k")

    def bottom_k(self, count: int, by: IntoExpr | list[IntoExpr]) -> Self:
        """Return the rows with the least values, least first. Nulls come last. Raises as `top_k`.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [2, None, 3, 1]}).bottom_k(2, by="a").to_arrow().to_pydict()
        {'a': [1, 2]}
        """
        return self._extreme(count, by, ascending=True, what="bottom_k")

    def _extreme(self, count: int, by: IntoExpr | list[IntoExpr], *, ascending: bool, what: str) -> Self:
        if count < 0:
            raise PlanError(f"{what}({count}): a number of rows is not negative")
        items = ex.columns_of([by])
        frame, scope = self._source(items)
        with planning(what):
            keys = [
                v.raw.sort(ascending=ascending, nulls_first=False) for v in ex.row_values(scope, items, what)
            ]
            made = self._without_virtual(frame.sort(*keys).limit(count), frame)
            return self._new(made, None, lambda f: f.sort(*keys).limit(count))

    def with_row_index(self, name: str = "index", offset: int = 0) -> Self:
        """Return the rows with their number as the first column. All rows go through one task, in bounded memory.

        Parameters
        ----------
        name
            Name of the column, of type int64.
        offset
            Number of the first row.

        Raises
        ------
        PlanError
            There is a column of this name, or `offset` is no whole number.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": ["x", "y"]}).with_row_index().to_arrow().to_pydict()
        {'index': [0, 1], 'a': ['x', 'y']}
        """
        if name in self.columns:
            raise PlanError(f"with_row_index: there is a column {name!r}; give another name")
        if isinstance(offset, bool) or not isinstance(offset, int):
            raise PlanError(f"with_row_index: offset = {offset!r}: must be a whole number")
        schema = pa.schema([pa.field(name, pa.int64()), *self._plan_schema()])
        from mmflow.worker.row_streams import index_rows  # noqa: PLC0415  (slow)

        return self._streamed(partial(index_rows, name, offset), schema, "row index", gather=True)

    def pipe(self, function: Callable[Concatenate[Self, P], R], *args: P.args, **options: P.kwargs) -> R:
        """Return `function(self, *args, **options)`, so that functions of datasets read in the order of their steps.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2]}).pipe(lambda ds, n: ds.limit(n), 1).count()
        1
        """
        return function(self, *args, **options)


#: Rows that no dataset has, for an offset alone: DataFusion's limit wants a number.
_ALL = (1 << 63) - 1

"""Methods of expressions that see the rows around each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.types as types
from datafusion import functions as F  # noqa: N812

from mmflow.api.expressions.comparing import family, number
from mmflow.api.expressions.methods.core import Core
from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Node, Raw, WindowSpec, column_node, unbuilt
from mmflow.api.expressions.tree.place import find_place
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import ConfigError, PlanError

__all__ = ["WindowMethods", "check_count", "nodes_of"]


def nodes_of(values: Iterable[Any]) -> list[Node]:
    """Return the nodes of expressions and of columns by name, and of lists of them.

    Raises:
        TypeError: One is neither.
    """
    found: list[Node] = []
    for value in values:
        if isinstance(value, str):
            found.append(column_node(value))
        elif isinstance(value, Core):
            found.append(value._node)
        elif isinstance(value, Iterable):
            found += nodes_of(value)
        else:
            raise TypeError(
                f"{value!r:.80} of type {type(value).__name__} is no expression: give mf.col('name'), mf.lit(value) "
                "or a name"
            )
    return found


class WindowMethods(Core):
    """Values of a row that depend on others."""

    __slots__ = ()

    def over(
        self,
        *keys: Core | str | Iterable[Core | str],
        order_by: Core | str | Iterable[Core | str] = (),
        descending: bool = False,
    ) -> Self:
        """Return an aggregate, or a function of the order of rows, for each row among those with equal keys.

        Parameters
        ----------
        keys
            Columns or expressions. Without any, all rows are one group.
        order_by
            Columns or expressions by which the rows are ordered, nulls last, where the function depends on their order.
        descending
            Whether the order is descending.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"k": ["x", "y", "x"], "v": [1, 2, 3]})
        >>> ds.with_columns(total=mf.col("v").sum().over("k")).sort("v").to_arrow().to_pydict()
        {'k': ['x', 'y', 'x'], 'v': [1, 2, 3], 'total': [4, 2, 4]}
        """
        partition, order = nodes_of(keys), nodes_of([order_by])
        counts = len(partition), len(order)
        inputs = (self._node, *partition, *order)
        node = Node("over", inputs, unbuilt, find_place(), keys=counts, descending=descending)
        return self._made(node)

    def shift(self, n: int = 1, *, fill_value: Any = None) -> Self:
        """Return the value of the row `n` rows before (behind, if `n` is negative) in the order of `over`.

        Parameters
        ----------
        n
            Number of rows.
        fill_value
            Value where there is no such row.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"t": [1, 2, 3], "v": [5, 6, 8]})
        >>> ds.select("t", before=mf.col("v").shift().over(order_by="t")).sort("t").to_arrow().to_pydict()
        {'t': [1, 2, 3], 'before': [None, 5, 6]}
        """
        check_count("shift", n, None)

        def build(window: WindowSpec, value: Resolved, fill: Resolved) -> Raw:
            filled = None if fill.value is None or not fill.value.is_valid else fill.value.cast(value.type)
            function = F.lag if n >= 0 else F.lead
            return window.in_order(function(value.raw, abs(n), filled))

        return self._apply("shift", build, fill_value, window="ordered")

    def diff(self, n: int = 1) -> Self:
        """Return the difference from the row `n` rows before, in the order of `over`. Integers are int64."""
        value = self._apply("diff", _signed)
        made: Self = value - value.shift(n)
        return made

    def rank(
        self,
        method: Literal["average", "min", "max", "dense", "ordinal"] = "average",
        *,
        descending: bool = False,
    ) -> Self:
        """Return the rank of each value, from 1; null for null. NaN is above all numbers.

        Parameters
        ----------
        method
            Rank of equal values: the mean of their places, the least or the greatest of them, or the number of
            different values up to them; `ordinal`: different places, in the order of `over(order_by=...)`.
        descending
            Whether the greatest value is the first.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [5, 3, 5]}).select(mf.col("a").rank("min")).to_arrow()["a"].sort().to_pylist()
        [1, 2, 2]
        """
        if method not in ("average", "min", "max", "dense", "ordinal"):
            raise ConfigError(
                f"rank({method!r}): must be average, min, max, dense or ordinal; random ranks would change where a "
                "task runs again"
            )
        needs: Literal["any", "ordered"] = "ordered" if method == "ordinal" else "any"
        return self._apply("rank", lambda w, e: _rank(w, e, method, descending), window=needs)

    def cum_sum(self) -> Self:
        """Return the sum of the values up to each row, in the order of `over`; null for null.

        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"t": [1, 2, 3], "v": [5, None, 8]})
        >>> ds.select("t", so_far=mf.col("v").cum_sum().over(order_by="t")).sort("t").to_arrow().to_pydict()
        {'t': [1, 2, 3], 'so_far': [5, None, 13]}
        """
        return self._so_far("cum_sum", lambda e: F.sum(number("cum_sum", e, truth=True)))

    def cum_min(self) -> Self:
        """Return the least of the values up to each row, in the order of `over`; null for null."""
        return self._so_far("cum_min", lambda e: F.min(e.raw))

    def cum_max(self) -> Self:
        """Return the greatest of the values up to each row, in the order of `over`; null for null."""
        return self._so_far("cum_max", lambda e: F.max(e.raw))

    def cum_count(self) -> Self:
        """Return how many values up to each row are not null, in the order of `over`."""
        return self._apply("cum_count", lambda w, e: w.rows(F.count(e.raw), None), window="ordered")

    def _so_far(self, name: str, function: Callable[[Resolved], Raw]) -> Self:
        def build(window: WindowSpec, value: Resolved) -> Raw:
            return F.when(value.raw.is_not_null(), window.rows(function(value), None)).end()

        return self._apply(name, build, window="ordered")

    def rolling_sum(self, window_size: int, *, min_samples: int | None = None) -> Self:
        """Return the sum of each row and those before it, `window_size` rows together, in the order of `over`.

        Parameters
        ----------
        window_size
            Number of rows.
        min_samples
            Least number of values that are not null; of fewer the sum is null. By default `window_size`.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"t": [1, 2, 3], "v": [5, 6, 8]})
        >>> ds.select("t", two=mf.col("v").rolling_sum(2).over(order_by="t")).sort("t").to_arrow().to_pydict()
        {'t': [1, 2, 3], 'two': [None, 11, 14]}
        """
        return self._rolling("rolling_sum", _window_sum, window_size, min_samples)

    def rolling_mean(self, window_size: int, *, min_samples: int | None = None) -> Self:
        """Return the mean of each row and those before it. Parameters are those of `rolling_sum`."""
        return self._rolling("rolling_mean", _window_mean, window_size, min_samples)

    def rolling_min(self, window_size: int, *, min_samples: int | None = None) -> Self:
        """Return the least value of each row and those before it. Parameters are those of `rolling_sum`."""
        return self._rolling(
            "rolling_min", lambda w, e, n: w.rows(F.min(e.raw), n - 1), window_size, min_samples
        )

    def rolling_max(self, window_size: int, *, min_samples: int | None = None) -> Self:
        """Return the greatest value of each row and those before it. Parameters are those of `rolling_sum`."""
        return self._rolling(
            "rolling_max", lambda w, e, n: w.rows(F.max(e.raw), n - 1), window_size, min_samples
        )

    def _rolling(
        self,
        name: str,
        function: Callable[[WindowSpec, Resolved, int], Raw],
        size: int,
        least: int | None,
    ) -> Self:
        check_count(name, size, 1)
        samples = size if least is None else least
        check_count(f"{name} min_samples", samples, 0)
        if samples > size:
            raise ConfigError(f"{name}(min_samples={samples}): a window of {size} rows never has so many")

        def build(window: WindowSpec, value: Resolved) -> Raw:
            enough = window.rows(F.count(value.raw), size - 1) >= literal(samples)
            return F.when(enough, function(window, value, size)).end()

        return self._apply(name, build, window="ordered")


def check_count(operation: str, count: object, least: int | None) -> None:
    """Check a number of rows or items.

    Raises:
        ConfigError: It is no integer, or too small.
    """
    if isinstance(count, bool) or not isinstance(count, int) or (least is not None and count < least):
        bound = "" if least is None else f" of at least {least}"
        raise ConfigError(f"{operation}({count!r}): must be an integer{bound}")


def _signed(operand: Resolved) -> Raw:
    if family(operand.type) not in ("number", "time", "zoned time", "duration", "null"):
        raise PlanError(f"diff() does not take {operand.shown()}", code="MMF-PLN-004")
    integer = types.is_integer(operand.type) and operand.type.bit_width < 64
    return operand.raw.cast(pa.int64()) if integer else operand.raw


def _rank(window: WindowSpec, value: Resolved, method: str, descending: bool) -> Raw:
    order = (value.raw.sort(ascending=not descending, nulls_first=False),)
    by_value = WindowSpec(window.partition, order)
    if method == "ordinal":
        ordered = WindowSpec(window.partition, (*order, *window.order))
        made = ordered.in_order(F.row_number())
    elif method == "dense":
        made = by_value.in_order(F.dense_rank())
    else:
        first, ties = (
            by_value.in_order(F.rank()),
            WindowSpec((*window.partition, value.raw)).over(F.count(literal(1))),
        )
        last = first + ties - literal(1)
        made = first if method == "min" else last if method == "max" else (first + last) / literal(2.0)
    return F.when(value.raw.is_not_null(), made).end()


def _window_total(name: str, window: WindowSpec, value: Resolved, size: int) -> Raw:
    """Return the sum of a window, of floats as float64; 0 where all is null."""
    return F.coalesce(window.rows(F.sum(number(name, value, truth=True)), size - 1), literal(0))


def _window_sum(window: WindowSpec, value: Resolved, size: int) -> Raw:
    total = _window_total("rolling_sum", window, value, size)
    return total.cast(value.type) if types.is_floating(value.type) else total


def _window_mean(window: WindowSpec, value: Resolved, size: int) -> Raw:
    count = F.nullif(window.rows(F.count(value.raw), size - 1), literal(0))
    return _window_total("rolling_mean", window, value, size).cast(pa.float64()) / count.cast(pa.float64())

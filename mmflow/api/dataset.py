"""Datasets: lazy, immutable descriptions of rows.

Invariant: nothing is read before rows are asked for, but for the bounded sample that finds a schema.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmflow.api import expressions as ex
from mmflow.api.results import WriteResult
from mmflow.api.verbs.asof import AsofVerbs
from mmflow.api.verbs.collecting import CollectingVerbs
from mmflow.api.verbs.filling import FillingVerbs
from mmflow.api.verbs.joining import JoiningVerbs, JoinKind
from mmflow.api.verbs.mapping import MappingVerbs
from mmflow.api.verbs.numbered import NumberedVerbs
from mmflow.api.verbs.ordering import OrderingVerbs
from mmflow.api.verbs.persisting import PersistingVerbs
from mmflow.api.verbs.reshaping import ReshapingVerbs
from mmflow.api.verbs.sampling import SamplingVerbs
from mmflow.api.verbs.summaries import SummaryVerbs
from mmflow.errors import PlanError
from mmflow.formats import PLACE
from mmflow.lazy import array_types as npt
from mmflow.plan.catalog import planning
from mmflow.sinks.screen import in_notebook, notebook_width
from mmflow.usercode.tracebacks import PublicApi

if TYPE_CHECKING:
    from mmflow.api.expressions import Expr, IntoExpr
    from mmflow.api.expressions.dynamic import ClosedInterval, Label, StartBy

__all__ = ["Dataset", "GroupedDataset", "JoinKind"]

_SHOWN = 10


class Dataset(
    AsofVerbs,
    CollectingVerbs,
    FillingVerbs,
    JoiningVerbs,
    MappingVerbs,
    NumberedVerbs,
    OrderingVerbs,
    PersistingVerbs,
    ReshapingVerbs,
    SamplingVerbs,
    SummaryVerbs,
):
    """Lazy, immutable description of rows, made by the `read_*` and `sql` of a session and by its own methods.

    Every method raises `PlanError` for a column that does not exist (with the nearest one that does) and for types that
    do not fit. Methods that compute rows raise what the run raises.
    """

    def select(self, *columns: IntoExpr | Iterable[IntoExpr], **named_columns: Any) -> Dataset:
        """Return only these columns and expressions, in this order; one row, if all of them are aggregates.

        Parameters
        ----------
        columns
            Names of columns, expressions, or lists of both.
        named_columns
            Expressions, names of columns or values, by the names of their columns.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"a": [1, 2], "b": [3, 4]})
        >>> ds.select("b", sum=mf.col("a") + mf.col("b")).to_arrow().to_pydict()
        {'b': [3, 4], 'sum': [4, 6]}
        """
        items = ex.listed(columns, named_columns)
        if (lists := ex.exploded(items)) is not None:
            made = self.select(*lists[0])
            return made.explode(made.columns, empty_as_null=lists[1], keep_nulls=lists[2])
        frame, scope = self._source(items)
        with planning("select"):
            found = ex.projected(scope, items)
            if found is None:
                return self.agg(*items)
            chosen = [ex.named(r) for r in found]
            plain = [(r.name, n) for r in found if (n := r.node.plain_column) is not None]
            same = plain if len(plain) == len(found) else None
            return self._new(
                frame.select(*chosen), same, lambda f: f.select(*chosen, ex.quoted_column(PLACE))
            )

    def filter(self, *predicates: IntoExpr | Iterable[IntoExpr] | Callable[[dict[str, Any]], Any]) -> Dataset:
        """Return the rows for which all predicates are true.

        A Python function of a row, as a dict, may stand in the place of expressions. It is slow.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2, None]}).filter(mf.col("a") > 1).to_arrow().to_pydict()
        {'a': [2]}
        """
        first = predicates[0] if len(predicates) == 1 else None
        if callable(first):
            return self._filter_rows(first)
        items = ex.columns_of(predicates)
        frame, scope = self._source(items)
        with planning("filter"):
            found = ex.conditions(scope, items)
            made = ex.filtered(frame, found, self.columns)
            return self._new(
                self._without_virtual(made, frame),
                None,
                lambda f: ex.filtered(f, found, [*self.columns, PLACE]),
            )

    def with_columns(self, *expressions: IntoExpr | Iterable[IntoExpr], **named_columns: Any) -> Dataset:
        """Return all columns and further ones. A column of the same name is replaced.

        Parameters
        ----------
        expressions
            Expressions, names of columns, or lists of both.
        named_columns
            Expressions, names of columns or values, by the names of their columns.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2]}).with_columns(b=mf.col("a") * 10).to_arrow().to_pydict()
        {'a': [1, 2], 'b': [10, 20]}
        """
        items = ex.listed(expressions, named_columns)
        frame, scope = self._source(items)
        with planning("with_columns"):
            added = {r.name: ex.named(r) for r in ex.projected(scope, items, beside_rows=True) or ()}
            kept = [added.get(n, ex.quoted_column(n)) for n in self.columns]
            new = [raw for n, raw in added.items() if n not in self.columns]
            made = frame.select(*kept, *new)
            return self._new(made, None, lambda f: f.select(*kept, *new, ex.quoted_column(PLACE)))

    def rename(self, names: Mapping[str, str] | None = None, **more: str) -> Dataset:
        """Return the same columns under other names: `{"old": "new"}` or `old="new"`.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1]}).rename(a="b").columns
        ['b']
        """
        changed = {**(names or {}), **more}
        self._check(list(changed))
        with planning("rename"):
            renamed = [ex.quoted_column(n).alias(changed.get(n, n)) for n in self.columns]
            same = [(changed.get(n, n), n) for n in self.columns]
            return self._new(
                self.frame.select(*renamed), same, lambda f: f.select(*renamed, ex.quoted_column(PLACE))
            )

    def drop(self, *columns: str) -> Dataset:
        """Return all columns but these.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1], "b": [2]}).drop("a").columns
        ['b']
        """
        self._check(columns)
        with planning("drop"):
            kept = [n for n in self.columns if n not in columns]
            left = [ex.quoted_column(n) for n in kept]
            return self._new(
                self.frame.select(*left),
                [(n, n) for n in kept],
                lambda f: f.select(*left, ex.quoted_column(PLACE)),
            )

    def group_by(self, *keys: IntoExpr | Iterable[IntoExpr], **named_keys: Any) -> GroupedDataset:
        """Return groups of equal keys, to be aggregated with `agg`.

        Parameters
        ----------
        keys
            Names of columns, expressions, or lists of both.
        named_keys
            Expressions, names of columns or values, by the names of their columns.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"k": ["x", "y", "x"], "v": [1, 2, 3]})
        >>> ds.group_by("k").agg(s=mf.col("v").sum()).sort("k").to_arrow().to_pydict()
        {'k': ['x', 'y'], 's': [4, 2]}
        >>> ds.group_by(odd=mf.col("v") % 2 == 1).agg(mf.len()).sort("odd").to_arrow().to_pydict()
        {'odd': [False, True], 'len': [1, 2]}
        """
        items = ex.listed(keys, named_keys)
        _, scope = self._source(items)
        with planning("group_by"):
            ex.row_values(scope, items, "group_by")
        return GroupedDataset(self, items)

    def group_by_dynamic(
        self,
        index_column: str,
        *,
        every: str | dt.timedelta,
        period: str | dt.timedelta | None = None,
        offset: str | dt.timedelta | None = None,
        closed: ClosedInterval = "left",
        label: Label = "left",
        start_by: StartBy = "window",
        group_by: IntoExpr | Iterable[IntoExpr] = (),
    ) -> GroupedDataset:
        """Return groups of rows in windows of time, to be aggregated with `agg`.

        The rows need not be sorted. Windows without rows give no group. A row belongs to each window in which it lies:
        to several where `period` is longer than `every`, or to none where it is shorter. The first window of a group is
        that of the interval of `every` in which its first row lies, moved by `offset`.

        Parameters
        ----------
        index_column
            Column of dates or times. In the result it says which window it is.
        every
            Time from the start of a window to that of the next one, as of `dt.truncate`: `"15m"`, `"1d"`, `"2mo"`.
        period
            Length of a window, by default `every`.
        offset
            Time by which all windows are moved, such as `"-2h"`.
        closed
            Ends that belong to a window: `left`, `right`, `both` or `none`.
        label
            Time that stands for a window: where it begins (`left`), where it ends (`right`), or that of its first row
            (`datapoint`).
        start_by
            `window`: windows start at multiples of `every`; `datapoint`: the first one starts at the first row of the
            group, whatever `offset` is; or a weekday: it starts at that of the first row's week, moved back as needed.
        group_by
            Further keys, which come first.

        Raises
        ------
        ConfigError
            An argument means nothing, such as an `every` of no length.
        PlanError
            The column holds no dates or times, or windows of less than a day are to overlap, leave gaps or be moved on
            the clock of a time zone.

        Examples
        --------
        >>> import mmflow as mf, datetime as dt
        >>> times = [dt.datetime(2024, 1, 1, 0, m) for m in (1, 14, 16)]
        >>> ds = mf.from_arrow({"t": times, "v": [1, 2, 4]})
        >>> ds.group_by_dynamic("t", every="15m").agg(mf.col("v").sum()).sort("t").to_arrow()["v"].to_pylist()
        [3, 4]
        >>> two = ds.group_by_dynamic("t", every="15m", period="30m").agg(mf.col("v").sum())
        >>> two.sort("t").to_arrow()["v"].to_pylist()
        [7, 4]
        """
        from mmflow.api.expressions.dynamic import windows  # noqa: PLC0415  (slow)

        made = windows(every, period, offset, closed, label, start_by)
        by = ex.columns_of([group_by])
        self._named(index_column, "group_by_dynamic")
        if made.is_truncation and label == "left":
            return self.group_by(*by, ex.col(index_column).dt.truncate(every).alias(index_column))
        kind = self._plan_schema().field(index_column).type
        window, first = self._unused("__window"), self._unused("__first")
        time, source = ex.col(index_column), self
        if start_by != "window" and not by:
            # The first row of all, without gathering them.
            source = self.join(self.agg(time.min().alias(first)), how="cross")
        begin = time if start_by == "window" else time.min().over(*by) if by else ex.col(first)
        from mmflow.api.expressions.dynamic import starts  # noqa: PLC0415  (slow)

        listed_starts = starts(made, time, begin).alias(window)
        source = source.with_columns(listed_starts).explode(window, keep_nulls=False)
        names = [e._node.output_name for e in by]

        from mmflow.api.expressions.dynamic import first_start, starts_as  # noqa: PLC0415  (slow)

        def labelled(groups: Dataset) -> Dataset:
            if start_by == "window" and not made.is_separate:
                start = first_start(made, ex.col(first).min().over(*names))
                groups = groups.filter(ex.col(window) >= start)
            begins = starts_as(window, kind)
            span = every if period is None else period
            shown = {"left": begins, "right": begins.dt.offset_by(span), "datapoint": ex.col(first)}[label]
            rest = [n for n in groups.columns if n not in (*names, window, first)]
            return groups.select(*names, shown.alias(index_column), *rest)

        return GroupedDataset(source, [*by, ex.col(window)], {first: time.min()}, labelled)

    def agg(self, *aggregates: IntoExpr | Iterable[IntoExpr], **named_columns: Any) -> Dataset:
        """Return one row of aggregates over all rows.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"v": [1, 2, 3]}).agg(s=mf.col("v").sum()).to_arrow().to_pydict()
        {'s': [6]}
        """
        return GroupedDataset(self, []).agg(*aggregates, **named_columns)

    def sort(
        self,
        *columns: IntoExpr | Iterable[IntoExpr],
        descending: bool | Sequence[bool] = False,
        nulls_last: bool = True,
    ) -> Dataset:
        """Return the rows in order.

        Parameters
        ----------
        columns
            Columns or expressions to sort by; the first matters most.
        descending
            One flag for all of them, or one for each.
        nulls_last
            Whether nulls come after all values, or before.

        Raises
        ------
        PlanError
            An unknown column, or another number of flags than of columns.
        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [2, None, 3]}).sort("a", descending=True).to_arrow().to_pydict()
        {'a': [3, 2, None]}
        """
        items = ex.columns_of(columns)
        frame, scope = self._source(items)
        flags = [descending] * len(items) if isinstance(descending, bool) else list(descending)
        if len(flags) != len(items):
            raise PlanError(f"sort: {len(items)} columns, but {len(flags)} values of descending")
        with planning("sort"):
            keys = [
                key.raw.sort(ascending=not flag, nulls_first=not nulls_last)
                for item, flag in zip(items, flags, strict=True)
                for key in ex.row_values(scope, [item], "sort")
            ]
            made = self._without_virtual(frame.sort(*keys), frame)
            return self._new(made, None, lambda f: f.sort(*keys))

    def distinct(self) -> Dataset:
        """Return every different row once.

        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 1, 2]}).distinct().count()
        2
        """
        with planning("distinct"):
            return self._new(self.frame.distinct())

    def map_array(
        self,
        function: Callable[..., Any],
        *,
        out: str | os.PathLike[str] | None = None,
        in_place: bool = False,
        dtype: npt.DTypeLike | None = None,
        row_shape: Sequence[int] | None = None,
        overwrite: bool = False,
        skip_holes: bool = False,
        processes: bool = False,
    ) -> WriteResult:
        """Apply a function to the rows of the npy file that was just read, as an array.

        Parameters, the result and errors are those of `Session.map_array`.

        Raises
        ------
        PlanError
            The dataset is not that of one npy file, right after `read_npy`.
        """
        chosen = self._selection
        from mmflow.rows.selection import Selection  # noqa: PLC0415  (slow)

        source = None if chosen is None or chosen != Selection.all(chosen.source) else chosen.source
        if source is None or source.format.name != "npy" or len(source.files) != 1:
            raise PlanError(
                "map_array() needs the rows of one npy file: call it right after read_npy; for images "
                "mf.map_array(mf.open_image(path), ...)"
            )
        from mmflow.api.map_array import map_array  # noqa: PLC0415  (slow)

        return map_array(
            self.context, source.files[0], function, out=out, in_place=in_place, dtype=dtype, row_shape=row_shape,
            overwrite=overwrite, skip_holes=skip_holes, processes=processes,
        )  # fmt: skip

    def show(self, count: int = _SHOWN) -> None:
        """Print the first rows, fitted to the width of the terminal; elsewhere to that of COLUMNS, if it is set.

        Raises
        ------
        SinkError
            Standard output is closed.
        """
        head = self.limit(count)
        width = notebook_width() if in_notebook() else None
        from mmflow.sinks.stdout import binary_stdout, write_table  # noqa: PLC0415  (slow)

        write_table(
            head.iter_batches(), head.schema, "table", binary_stdout(), width=width, max_rows=None,
            every_column=self.shows_every_column,
        )  # fmt: skip


class GroupedDataset(PublicApi):
    """Groups that wait for their aggregates."""

    def __init__(
        self,
        dataset: Dataset,
        keys: Sequence[Expr],
        further: Mapping[str, Expr] | None = None,
        finish: Callable[[Dataset], Dataset] = lambda groups: groups,
    ) -> None:
        self._dataset = dataset
        self._keys = keys
        # Aggregates that `finish` takes, which makes the result of keys and aggregates.
        self._further = further or {}
        self._finish = finish

    def agg(self, *aggregates: IntoExpr | Iterable[IntoExpr], **named_columns: Any) -> Dataset:
        """Return one row per group: the keys, then the aggregates.

        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"k": ["x", "y", "x"], "v": [1, 2, 3]})
        >>> ds.group_by("k").agg(half=mf.col("v").sum() / 2).sort("k").to_arrow().to_pydict()
        {'k': ['x', 'y'], 'half': [2.0, 1.0]}
        """
        items = ex.listed(aggregates, {**named_columns, **self._further})
        frame, scope = self._dataset._source([*self._keys, *items])
        with planning("agg"):
            made = self._dataset._new(ex.aggregated(frame, scope, self._keys, items))
        return self._finish(made)

    def len(self, name: str = "len") -> Dataset:
        """Return the keys and the number of rows of each group.

        >>> import mmflow as mf
        >>> mf.from_arrow({"k": ["x", "y", "x"]}).group_by("k").len().sort("k").to_arrow().to_pydict()
        {'k': ['x', 'y'], 'len': [2, 1]}
        """
        from mmflow.api.functions import count as row_count  # noqa: PLC0415  (slow)

        return self.agg(row_count().alias(name))

    def count(self) -> Dataset:
        """Return the keys and the number of rows of each group, as `len(name="count")`."""
        return self.len("count")

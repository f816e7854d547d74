"""Core of datasets: a frame in a run context, its schema, its plan and its batches.

Invariant: nothing is read before rows are asked for, but for the bounded sample that finds a schema.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import pyarrow as pa
from datafusion import DataFrame

from mmflow.api import expressions as ex
from mmflow.api.run_context import RunContext
from mmflow.errors import PlanError, plain_text
from mmflow.formats import PLACE
from mmflow.formats.schemas.arrow_types import public_batch
from mmflow.formats.schemas.schema import name_text, public_schema, type_text
from mmflow.plan.catalog import StreamLeaf
from mmflow.plan.stages import Plan, Result, StreamFunction, Write
from mmflow.usercode.tracebacks import PublicApi

if TYPE_CHECKING:
    from mmflow.api.expressions import Expr, Raw, Scope
    from mmflow.api.source_info import SourceInfo
    from mmflow.rows.selection import Selection
    from mmflow.sinks.text_table import ShownRows

__all__ = ["Columns", "DatasetCore", "files_of"]

#: Most columns that `repr` names.
_NAMED = 12

#: Names of columns, as verbs take them.
Columns = str | Sequence[str]


class DatasetCore(PublicApi):
    """Frame in a run context. The verbs of datasets are classes over it, one for each topic."""

    # Not a sequence: `for row in ds` would read the file once for each row.
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None
    #: Whether a table shows all columns, in several blocks where the screen is narrow; else some are left out.
    shows_every_column = False

    def __init__(
        self,
        context: RunContext,
        frame: DataFrame,
        hidden: tuple[str, ...] = (),
        selection: Selection | None = None,
        placed: Callable[[], DataFrame] | None = None,
        samples: int = 0,
        offer: Callable[[tuple[str, ...]], DataFrame] | None = None,
    ) -> None:
        self.context = context
        self.frame = frame
        # The same rows with the places that samples pick by, planned once it is asked for; None: places are lost.
        self._placed = placed if offer is None or PLACE not in hidden else lambda: offer(hidden)
        self._samples = samples
        # Rows have numbers as long as they are those of a source.
        self._selection = selection
        # Virtual columns are there only when they are named: `offer` gives the same rows with some of them, last.
        self._hidden = hidden
        self._offer = offer

    # ---- what it is -----------------------------------------------------------------------------

    @property
    def schema(self) -> pa.Schema:
        """Columns and types of the rows.

        >>> import mmflow as mf
        >>> mf.from_arrow({"x": [1]}).schema.field("x").type
        DataType(int64)
        """
        return public_schema(self._plan_schema())

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.frame.schema().names)

    def explain(self) -> str:
        """Return the stages that a run would have: scans, exchanges, and what is pruned.

        >>> import mmflow as mf
        >>> print(mf.from_arrow({"x": [1]}).explain())  # doctest: +ELLIPSIS
        stage...
        """
        from mmflow.plan.explain import explain  # noqa: PLC0415  (slow)

        return plain_text(explain(self._plan()))

    def profile(self) -> str:
        """Run the plan, drop its rows, and return its stages with rows, bytes, seconds and page faults of each.

        Seconds are of all tasks together. Page faults are those of the threads that run tasks, not of DataFusion's.

        >>> import mmflow as mf
        >>> print(mf.from_arrow({"x": [1]}).profile())  # doctest: +ELLIPSIS
        stage...
        run of ... s: 1 rows from 0 bytes of files
        """
        for _ in self.context.rows(self._plan(), threading.current_thread()):
            pass
        return self.context.last_profile()

    def source_info(self) -> SourceInfo:
        """Return facts about the files, of which only the first is opened: size, shards, format, page cache.

        Raises
        ------
        PlanError
            The dataset is not as it was read from files.
        SourceError
            A file is missing or can't be opened.

        Examples
        --------
        >>> import mmflow as mf
        >>> from pathlib import Path
        >>> _ = Path("t.csv").write_text("a\\n5\\n")
        >>> mf.read_csv("t.csv").source_info().shards
        1
        """
        if self._selection is None:
            raise PlanError(
                "source_info() needs a dataset of files as it was read (columns may be selected, dropped and renamed): "
                "call it before the other methods"
            )
        from mmflow.api.source_info import source_info  # noqa: PLC0415  (slow)

        return source_info(self._selection.source, self.context.settings)

    def __repr__(self) -> str:
        names = [f"{name_text(f.name)}: {type_text(f.type)}" for f in self.schema]
        if len(names) > _NAMED:
            half = _NAMED // 2
            names[half:-half] = [f"… {len(names) - 2 * half:,} more …"]
        return f"Dataset({', '.join(names)})"

    def __str__(self) -> str:
        rows, text = self._preview()
        from mmflow.sinks.screen import in_notebook, notebook_width, screen_width  # noqa: PLC0415  (slow)

        width = notebook_width() if in_notebook() else screen_width(sys.stdout)
        from mmflow.sinks.text_table import text_table  # noqa: PLC0415  (slow)

        return text_table(rows, width, every_column=self.shows_every_column, count=text).rstrip("\n")

    def _repr_html_(self) -> str:
        rows, text = self._preview()
        from mmflow.runs.report.formatting import plural  # noqa: PLC0415  (slow)

        below = text or plural(rows.total, "row")
        columns = f"{plural(len(self.columns), 'column')}" if len(self.columns) > 1 else ""
        import html  # noqa: PLC0415  (slow)

        from mmflow.sinks.text_table import html_table  # noqa: PLC0415  (slow)

        return (
            f'<div style="overflow-x:auto">{html_table(rows)}</div>'
            f'<div style="opacity:.7">{html.escape("; ".join(filter(None, (below, columns))))}</div>'
        )

    def _preview(self) -> tuple[ShownRows, str]:
        from mmflow.api.preview import preview  # noqa: PLC0415  (slow)

        return preview(self.context, self._plan, self._selection, self._table_schema())

    def _new(
        self,
        frame: DataFrame,
        columns: Sequence[tuple[str, str]] | None = None,
        placed: Callable[[DataFrame], DataFrame] | None = None,
    ) -> Self:
        """Return a dataset of another frame.

        Args:
            frame: The frame.
            columns: Pairs (name there, name here), where its rows are still those of this dataset; else None.
            placed: Function that does the same to a frame that has `PLACE` too, and keeps it.
        """
        before, selection = self._placed, None
        if self._selection is not None and columns is not None:
            selection = self._selection.renamed(tuple(columns))
        with_places = None if before is None or placed is None else (lambda: placed(before()))
        return type(self)(self.context, frame, (), selection, with_places, self._samples)

    def _source(self, items: Sequence[Expr]) -> tuple[DataFrame, Scope]:
        """Return the frame to work on, with the virtual columns that the items name, and its columns for them."""
        mentioned = {n for item in items for n in item.columns}
        frame = self.with_virtual([n for n in self._hidden if n in mentioned])
        return frame, self._scope(frame)

    def _without_virtual(self, made: DataFrame, source: DataFrame) -> DataFrame:
        """Return rows of a frame that `_source` gave without the virtual columns that it added."""
        return made if source is self.frame else made.select(*[ex.quoted_column(n) for n in self.columns])

    def _scope(self, frame: DataFrame) -> Scope:
        """Return the columns of a frame, for expressions to be resolved against."""
        catalog = self.context.catalog
        return ex.Scope(catalog.context, catalog.schema(frame), self._hidden)

    def with_virtual(self, names: Sequence[str]) -> DataFrame:
        """Return the frame with those of the virtual columns `names` that it can offer, last."""
        added = tuple(n for n in names if n in self._hidden)
        return self.frame if not added or self._offer is None else self._offer(added)

    def _check(self, names: Sequence[str], also: Sequence[str] = ()) -> None:
        known = [*self.columns, *self._hidden, *also]
        for name in names:
            if name not in known:
                raise PlanError(ex.missing_column(name, known, self.columns), code="MMF-PLN-002")

    def _named(self, columns: Columns | None, what: str) -> list[str]:
        """Return names of this dataset's own columns as a list. By default all of them."""
        if columns is None:
            return self.columns
        names = [columns] if isinstance(columns, str) else list(columns)
        if not all(isinstance(n, str) for n in names):
            raise PlanError(f"{what}: columns are given by their names, not as {names}")
        self._check(names)
        if virtual := [n for n in names if n not in self.columns]:
            raise PlanError(f"{what}: select the virtual column {virtual[0]!r} before")
        if len(set(names)) < len(names):
            raise PlanError(f"{what}: a column is named twice in {names}")
        return names

    def _unused(self, name: str) -> str:
        """Return a name that no column has."""
        while name in self.columns or name in self._hidden:
            name = f"_{name}"
        return name

    def _streamed(
        self,
        function: StreamFunction,
        schema: pa.Schema,
        title: str,
        *,
        gather: bool = False,
        public: bool = False,
    ) -> Self:
        """Return what a function of mmflow makes of all batches of each task, or of one that gathers them."""
        leaf = StreamLeaf(self.frame, function, schema, title, gather, public)
        return self._new(self.context.catalog.add(leaf))

    def _computed(self, columns: Sequence[Raw]) -> Self:
        """Return these columns of the rows, which keep their places but lose their numbers."""
        return self._new(
            self.frame.select(*columns), None, lambda f: f.select(*columns, ex.quoted_column(PLACE))
        )

    def _plan_schema(self) -> pa.Schema:
        return self.context.catalog.schema(self.frame)

    # ---- rows ------------------------------------------------------------------------------------

    def _plan(self, output: Result | Write | None = None) -> Plan:
        return self.context.plan(self.frame, output)

    def iter_batches(self) -> Iterator[pa.RecordBatch]:
        """Return batches as they become final, in order. Memory stays bounded if they are not kept.

        One thread at a time may ask for them, which need not be the one that called this.

        >>> import mmflow as mf
        >>> sum(batch.num_rows for batch in mf.from_arrow({"a": [1, 2, 3]}).iter_batches())
        3
        """
        return self._batches(threading.current_thread())

    def _batches(self, asked_by: threading.Thread) -> Iterator[pa.RecordBatch]:
        schema = self._table_schema()
        for batch in self.context.rows(self._plan(), asked_by):
            yield public_batch(batch, schema)

    def to_arrow(self) -> pa.Table:
        """Return all rows as a pyarrow table."""
        return pa.Table.from_batches(list(self.iter_batches()), schema=self._table_schema())

    def _table_schema(self) -> pa.Schema:
        return public_schema(self._plan_schema())


def files_of(dataset: DatasetCore) -> tuple[str, ...] | None:
    """Return the files whose rows a dataset has, all as they were read; None: they are other rows."""
    if dataset._offer is None or dataset._selection is None:
        return None
    return dataset._selection.source.files

"""Datasets: lazy, immutable descriptions of rows.

Invariant: nothing is read before rows are asked for, but for the bounded sample that finds a schema.
"""

from __future__ import annotations

import builtins
import difflib
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, SupportsIndex, overload

import pyarrow as pa
from datafusion import DataFrame, Expr, functions

from mmflow.access.numbers import integer
from mmflow.access.source import Selection
from mmflow.access.take import slice_rows, take_rows
from mmflow.errors import ConfigError, MmflowError, PlanError, UserFunctionError, plain_text
from mmflow.exec.runner import returned_batches
from mmflow.exec.stage import Plan, Result, ScanInput, Write
from mmflow.expressions import IntoExpr, col, expr_of, lit, mentions_virtual, plain_name
from mmflow.formats import PLACE
from mmflow.formats.carried import carried_schema, check_wanted, public_batch
from mmflow.formats.schema import name_text, parse_schema, public_schema, type_text
from mmflow.picking import check_fraction, picked
from mmflow.plan.explain import explain
from mmflow.plan.frontend import MapLeaf, SpreadLeaf, planning
from mmflow.plan.planner import make_plan
from mmflow.remote.opening import check_unchanged
from mmflow.sinks import Committed, IfExists, check_sink, open_commit, sink_spec
from mmflow.summary import WriteResult

if TYPE_CHECKING:
    from mmflow.session import Session

__all__ = ["Dataset", "GroupedDataset"]

JoinKind = Literal["inner", "left", "right", "full", "semi", "anti"]
_SHOWN = 10


class Dataset:
    """Rows to be computed. Made by a session's `read_*` and `sql`, and by its own methods.

    Every method raises `PlanError` for a column that does not exist (with the nearest one that does) and for
    types that do not fit; methods that give rows raise what the run raises.
    """

    # Not a sequence: `for row in ds` would read the file once for each row.
    __iter__: ClassVar[None] = None
    __contains__: ClassVar[None] = None

    def __init__(
        self,
        session: Session,
        frame: DataFrame,
        hidden: tuple[str, ...] = (),
        selection: Selection | None = None,
        placed: Callable[[], DataFrame] | None = None,
        samples: int = 0,
        offer: Callable[[tuple[str, ...]], DataFrame] | None = None,
    ) -> None:
        self.session = session
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
        """Columns and types of the rows, as users get them."""
        return public_schema(self.session.catalog.schema(self.frame))

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.frame.schema().names)

    def explain(self) -> str:
        """The stages that a run would have: scans, exchanges, what is pruned."""
        return plain_text(explain(self._plan()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name_text(f.name)}: {type_text(f.type)}" for f in self.schema)
        return f"Dataset({fields})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(f.name)}</td><td>{html.escape(type_text(f.type))}</td></tr>"
            for f in self.schema
        )
        return f"<table><thead><tr><th>column</th><th>type</th></tr></thead><tbody>{rows}</tbody></table>"

    # ---- shaping ---------------------------------------------------------------------------------

    def _new(
        self,
        frame: DataFrame,
        columns: Sequence[tuple[str, str]] | None = None,
        placed: Callable[[DataFrame], DataFrame] | None = None,
    ) -> Dataset:
        """Another frame.

        Args:
            frame: The frame.
            columns: Its rows are still those of this one (name there, name here).
            placed: The same done to a frame that has `PLACE` too, and keeps it.
        """
        before, selection = self._placed, None
        if self._selection is not None and columns is not None:
            selection = self._selection.renamed(tuple(columns))
        carried = None if before is None or placed is None else (lambda: placed(before()))
        return Dataset(self.session, frame, (), selection, carried, self._samples)

    def _source(self, items: Sequence[object]) -> tuple[DataFrame, tuple[str, ...]]:
        """The frame to work on, and the virtual columns among the items."""
        mentioned = tuple(n for n in mentions_virtual(items) if n in self._hidden)
        if not mentioned:
            return self.frame, ()
        assert self._offer is not None  # hidden is empty without it
        return self._offer(mentioned), mentioned

    def with_virtual(self, names: Sequence[str]) -> DataFrame:
        """The frame with those of the virtual columns `names` that it can offer, last."""
        added = tuple(n for n in names if n in self._hidden)
        return self.frame if not added or self._offer is None else self._offer(added)

    def _check(self, names: Sequence[str], also: Sequence[str] = ()) -> None:
        known = [*self.columns, *self._hidden, *also]
        for name in names:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise PlanError(f"no column {name!r}; {hint}the columns are {', '.join(self.columns)}")

    def select(self, *columns: IntoExpr) -> Dataset:
        """These columns and expressions only, in this order."""
        self._check([c for c in columns if isinstance(c, str)])
        frame, _ = self._source(columns)
        with planning("select"):
            names = [plain_name(c) for c in columns]
            plain = [(n, n) for n in names if n is not None]
            chosen = [expr_of(c) for c in columns]
            made = frame.select(*chosen)
            same = plain if len(plain) == len(columns) else None
            return self._new(made, same, lambda f: f.select(*chosen, col(PLACE)))

    def filter(self, *predicates: Expr) -> Dataset:
        """Rows for which all predicates are true."""
        frame, mentioned = self._source(predicates)
        with planning("filter"):
            made = frame.filter(*predicates)
            if mentioned:
                made = made.select(*[col(n) for n in self.columns])
            return self._new(made, None, lambda f: f.filter(*predicates))

    def with_columns(self, *expressions: Expr, **named: IntoExpr | Any) -> Dataset:
        """All columns and further ones: aliased expressions, or `name=expression`; a name that is there is replaced."""
        added = {**_aliased(expressions), **{n: _value(v) for n, v in named.items()}}
        frame, _ = self._source([*added.values()])
        with planning("with_columns"):
            kept = [added[n].alias(n) if n in added else col(n) for n in self.columns]
            new = [e.alias(n) for n, e in added.items() if n not in self.columns]
            return self._new(frame.select(*kept, *new), None, lambda f: f.select(*kept, *new, col(PLACE)))

    def rename(self, names: Mapping[str, str] | None = None, **more: str) -> Dataset:
        """Other names for columns: `{"old": "new"}` or `old="new"`."""
        changed = {**(names or {}), **more}
        self._check(list(changed))
        with planning("rename"):
            renamed = [col(n).alias(changed.get(n, n)) for n in self.columns]
            same = [(changed.get(n, n), n) for n in self.columns]
            return self._new(self.frame.select(*renamed), same, lambda f: f.select(*renamed, col(PLACE)))

    def drop(self, *columns: str) -> Dataset:
        """All columns but these."""
        self._check(columns)
        with planning("drop"):
            kept = [n for n in self.columns if n not in columns]
            left = [col(n) for n in kept]
            return self._new(
                self.frame.select(*left), [(n, n) for n in kept], lambda f: f.select(*left, col(PLACE))
            )

    def group_by(self, *keys: IntoExpr) -> GroupedDataset:
        """Groups of equal keys, to be aggregated with `agg`."""
        self._check([k for k in keys if isinstance(k, str)])
        return GroupedDataset(self, keys)

    def agg(self, *aggregates: Expr) -> Dataset:
        """One row of aggregates over all rows."""
        return GroupedDataset(self, ()).agg(*aggregates)

    def join(
        self,
        other: Dataset,
        on: str | Sequence[str] | None = None,
        how: JoinKind = "inner",
        *,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        suffix: str = "_right",
    ) -> Dataset:
        """Rows of both with equal keys.

        Args:
            other: Of the same session.
            on: Key columns of both sides; they come once.
            how: inner, left, right, full, semi (rows with a match) or anti (rows without).
            left_on: Key columns of this side, if they have other names.
            right_on: Those of the other side.
            suffix: Added to columns of the other side whose name is taken.
        """
        left_keys, right_keys = _keys(on, left_on, right_on)
        self._check(left_keys)
        other._check(right_keys)
        if how not in ("inner", "left", "right", "full", "semi", "anti"):
            raise PlanError(f"how = {how!r}: must be inner, left, right, full, semi or anti")
        mark = "__right_"
        while any(n.startswith(mark) for n in self.columns):
            mark = f"_{mark}"
        marked = {n: f"{mark}{i}" for i, n in enumerate(other.columns)}
        with planning("join"):
            right = other.frame.select(*[col(n).alias(m) for n, m in marked.items()])
            # By expressions: names that `join` is given are parsed as SQL's, so that "Id" is id and "a.b" the b of a.
            equal = [col(k) == col(marked[r]) for k, r in zip(left_keys, right_keys, strict=True)]
            joined = self.frame.join_on(right, *equal, how=how)
            if how in ("semi", "anti"):
                return self._new(joined)
            return self._new(
                joined.select(
                    *self._joined(other, marked, how, on is not None, left_keys, right_keys, suffix)
                )
            )

    def _joined(
        self,
        other: Dataset,
        marked: Mapping[str, str],
        how: str,
        shared: bool,
        left_keys: Sequence[str],
        right_keys: Sequence[str],
        suffix: str,
    ) -> list[Expr]:
        """Output columns of a join: shared keys once, taken from whichever side has them."""
        made, taken = [], set()
        for name in self.columns:
            value = col(name)
            if shared and name in left_keys and how in ("right", "full"):
                value = functions.coalesce(value, col(marked[right_keys[left_keys.index(name)]]))
            made.append(value.alias(name))
            taken.add(name)
        for name in other.columns:
            if shared and name in right_keys:
                continue
            new = name if name not in taken else name + suffix
            taken.add(new)
            made.append(col(marked[name]).alias(new))
        return made

    def sort(
        self, *columns: IntoExpr, descending: bool | Sequence[bool] = False, nulls_last: bool = True
    ) -> Dataset:
        """Rows in order.

        Args:
            columns: By which; the first matters most.
            descending: For all of them, or one by one.
            nulls_last: Nulls after all values, else before.
        """
        self._check([c for c in columns if isinstance(c, str)])
        flags = [descending] * len(columns) if isinstance(descending, bool) else list(descending)
        if len(flags) != len(columns):
            raise PlanError(f"sort: {len(columns)} columns, but {len(flags)} values of descending")
        keys = [
            expr_of(c).sort(ascending=not d, nulls_first=not nulls_last)
            for c, d in zip(columns, flags, strict=True)
        ]
        with planning("sort"):
            return self._new(self.frame.sort(*keys), None, lambda f: f.sort(*keys))

    def limit(self, count: int, offset: int = 0) -> Dataset:
        """The first `count` rows after `offset`: of a sorted dataset in its order, else in file order."""
        if count < 0 or offset < 0:
            raise PlanError(f"limit({count}, {offset}): neither may be negative")
        with planning("limit"):
            return self._new(self.frame.limit(count, offset), None, lambda f: f.limit(count, offset))

    def head(self, count: int = 10) -> Dataset:
        """The first rows."""
        return self.limit(count)

    def distinct(self) -> Dataset:
        """Every different row once."""
        with planning("distinct"):
            return self._new(self.frame.distinct())

    def union(self, *others: Dataset) -> Dataset:
        """Rows of all, duplicates kept; columns by position."""
        frame = self.frame
        with planning("union"):
            for other in others:
                frame = frame.union(other.frame)
            return self._new(frame)

    def sample(self, fraction: float, seed: int = 0) -> Dataset:
        """A random share of the rows, each picked independently of all others with the same probability.

        The same rows for the same seed, on every engine and for every shard size. Rows are told apart by where they
        are in their files (or, of `from_arrow`, in their table): they may be filtered, sorted, cut, have other columns,
        or be sampled before, but not be joined, grouped or mapped.

        Args:
            fraction: Probability of a row, from 0 (no row) to 1 (every row).
            seed: Any integer. Samples of different seeds have nothing to do with each other.

        Raises:
            PlanError: Rows that are not told apart, a fraction that is none, or a seed that is no integer.
        """
        check_fraction(fraction, seed)
        if self._placed is None or PLACE in self.columns:
            raise PlanError(
                "sample() needs rows that stand in files: call it before join, group_by, agg, distinct, union, "
                "map_batches and sql, right after read_csv and the like, or after filter, select or sort"
            )
        if fraction == 1:
            return self
        placed = self._placed
        with planning("sample"):
            condition = picked(fraction, seed, self._samples)
            made = placed().filter(condition)
            rows = made.select(*[col(n) for n in self.columns])
            return Dataset(self.session, rows, (), None, lambda: made, self._samples + 1)

    def repartition(self, partitions: int, *keys: str) -> Dataset:
        """The same rows over `partitions` tasks (and files, if they are written next).

        Args:
            partitions: How many.
            keys: Columns; equal values stay together. Without any, rows go round in turn.
        """
        if partitions < 1:
            raise PlanError(f"repartition({partitions}): at least one partition")
        self._check(keys)
        numbers = tuple(self.columns.index(k) for k in keys)
        schema = self.session.catalog.schema(self.frame)
        return self._new(self.session.catalog.add(SpreadLeaf(self.frame, partitions, numbers, schema)))

    def map_batches(
        self,
        function: Callable[[pa.RecordBatch], Any],
        schema: Any = None,
        *,
        batch_rows: int | None = None,
        processes: bool = False,
    ) -> Dataset:
        """A Python function over the rows, batch by batch.

        Args:
            function: Takes a RecordBatch, gives a RecordBatch, a Table or several of them.
            schema: Of what it gives; None: found by calling it with no rows.
            batch_rows: Most rows of one call; None: as they come.
            processes: Run it in other processes: for functions that hold the GIL.

        Raises:
            UserFunctionError: The function fails on no rows, and no schema was given.
            PlanError: It gives a column of a type that plans can't carry.
        """
        given = public_schema(self.session.catalog.schema(self.frame))
        made = _schema_of(function, given) if schema is None else parse_schema(schema)
        carried = carried_schema(made)
        check_wanted(carried, "map_batches: ")
        leaf = MapLeaf(self.frame, function, carried, batch_rows, processes)
        return self._new(self.session.catalog.add(leaf))

    def map_array(self, function: Callable[..., Any], **options: Any) -> WriteResult:
        """A function over the rows of the npy file that was just read, as an array. Args and raises as
        `Session.map_array`.

        Raises:
            PlanError: It is no dataset of one npy file, right after `read_npy`.
        """
        chosen = self._selection
        source = None if chosen is None or chosen != Selection.all(chosen.source) else chosen.source
        if source is None or source.format.name != "npy" or len(source.files) != 1:
            raise PlanError(
                "map_array() needs the rows of one npy file: call it right after read_npy; for images "
                "mf.map_array(mf.open_image(path), ...)"
            )
        return self.session.map_array(source.files[0], function, **options)

    # ---- rows ------------------------------------------------------------------------------------

    def _plan(self, output: Result | Write | None = None) -> Plan:
        self.session.register_called()
        catalog, settings = self.session.catalog, self.session.settings
        return make_plan(self.frame, catalog, settings=settings, output=output or Result())

    def iter_batches(self) -> Iterator[pa.RecordBatch]:
        """Batches as they become final, in order; memory stays bounded if they are not kept."""
        name, schema = self.session.new_run(), self._table_schema()
        with self.session.start(self._plan(), name) as run:
            try:
                for batch in run:
                    yield public_batch(batch, schema)
            except MmflowError:
                self.session.set_aside(name, run.rejects)
                raise
            outcome = run.outcome
            self.session.finished(name, outcome, self.session.set_aside(name, outcome.rejects))

    def to_arrow(self) -> pa.Table:
        """All rows as a pyarrow table."""
        return pa.Table.from_batches(list(self.iter_batches()), schema=self._table_schema())

    def _table_schema(self) -> pa.Schema:
        return public_schema(self.session.catalog.schema(self.frame))

    def to_pandas(self) -> Any:
        """All rows as a pandas DataFrame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """All rows as a Polars DataFrame."""
        import polars as pl  # noqa: PLC0415  (optional)

        return pl.from_arrow(self.to_arrow())

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Rows for any library that takes Arrow streams: Polars, DuckDB, pandas, pyarrow."""
        reader = pa.RecordBatchReader.from_batches(self._table_schema(), self.iter_batches())
        return reader.__arrow_c_stream__(requested_schema)

    def count(self) -> int:
        """Number of rows."""
        table = self.agg(functions.count(lit(1)).alias("n")).to_arrow()
        return int(table.column(0)[0].as_py())

    # ---- rows by number -----------------------------------------------------------------------------

    def take(self, indices: Any) -> pa.Table:
        """Rows by their number in `to_arrow()`, without reading what lies before them (docs/random-access.md).

        The dataset must be as it was read; columns may be selected, dropped and renamed.

        Args:
            indices: Integers, in any order and also several times; negative ones count from the end.

        Returns:
            These rows in this order, shape (len(indices), columns).

        Raises:
            OutOfRangeError: There is no such row (also an IndexError).
            ConfigError: They are no integers.
            PlanError: The rows have no numbers any more, or the files no random access.
            BadRecordError: A row that was asked for is bad, and the policy is `error`.
            SourceError: A file can't be read, or changed meanwhile.
        """
        return take_rows(self._numbered("take()"), indices, self.session.settings)

    def slice(self, offset: int, length: int | None = None) -> pa.Table:
        """`length` rows from row `offset` on (from the end, if it is negative), as far as there are any.

        Raises as `take`, but for OutOfRangeError.
        """
        start, stop = integer(offset, "slice"), None
        if length is not None:
            count = integer(length, "slice")
            if count < 0:
                raise ConfigError(f"slice({offset}, {length}): the length may not be negative")
            stop = None if start < 0 <= start + count else start + count
        return slice_rows(self._numbered("slice()"), start, stop, self.session.settings)

    @overload
    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: builtins.slice) -> pa.Table: ...
    def __getitem__(self, index: SupportsIndex | builtins.slice) -> dict[str, Any] | pa.Table:
        """Row `index` as a dict of Python values; of a slice its rows, as a table. Raises as `take`."""
        selection = self._numbered("ds[...]")
        if not isinstance(index, builtins.slice):
            table = take_rows(selection, [integer(index, "ds[...]")], self.session.settings)
            return dict(table.to_pylist()[0])
        ends = [None if e is None else integer(e, "ds[...]") for e in (index.start, index.stop, index.step)]
        step = 1 if ends[2] is None else ends[2]
        return slice_rows(selection, ends[0], ends[1], self.session.settings, step)

    def _numbered(self, what: str) -> Selection:
        if self._selection is None:
            raise PlanError(
                f"{what} needs a dataset as it was read (columns may be selected, dropped and renamed), since other "
                "rows have no numbers to find them by; take limit(count, offset) of it, or write it out and read that"
            )
        return self._selection

    def show(self, count: int = _SHOWN) -> None:
        """Print the first rows.

        Raises:
            SinkError: Standard output is closed.
        """
        from mmflow.sinks.stdout import binary_stdout, write_table  # noqa: PLC0415  (imports rich)

        head = self.limit(count)
        write_table(head.iter_batches(), head.schema, "table", binary_stdout())

    # ---- writing -----------------------------------------------------------------------------------

    def write(
        self,
        path: str,
        format: str | None = None,  # noqa: A002
        *,
        partition_by: Sequence[str] | str = (),
        if_exists: IfExists = "error",
        **options: Any,
    ) -> WriteResult:
        """Write all rows, all or nothing.

        Args:
            path: A local path or a URL (`s3://bucket/out`): one file if it ends in a suffix of the format, else a
                folder of files.
            format: parquet, arrow, csv, ndjson, npy; None: by suffix, Parquet for folders.
            partition_by: Columns that become folders `k=v`.
            if_exists: error, replace or append.
            options: Of the format.

        Raises:
            SinkError: The destination exists, is an input, is full, or can't hold a type.
            ConfigError: An unknown format or option.
        """
        spec = sink_spec(path, format, partition_by=partition_by, if_exists=if_exists, **options)
        check_sink(spec, self._table_schema())
        plan = self._plan(Write(spec))
        self.session.explained(plan)
        name = self.session.new_run()
        recorder, schema = self.session.recorder, self._table_schema()

        def noted(done: Committed) -> None:
            if recorder is not None:
                recorder.note_committed(name, done)

        resumable = recorder is not None and self.session.settings.resumable
        with open_commit(spec, name, resumable=resumable) as commit:
            known = None if recorder is None else recorder.committed(name)
            if known is None:
                commit.prepare(_inputs(plan), schema)
                known = commit.commit((), schema, noted) if commit.done else None
            else:
                commit.sweep()
            if known is not None:  # by this run, before its driver died
                summary = self.session.committed_before(name, known.rows)
                return WriteResult(known.path, known.files, known.rows, known.nbytes, summary)
            with self.session.start(plan, name) as run:
                try:
                    outcome = run.finish()
                except MmflowError:
                    self.session.set_aside(name, run.rejects)
                    raise
            for entry in outcome.inputs:
                check_unchanged(entry.path, entry.identity, entry.storage)
            # First: a driver that dies after the commit has nothing left to do.
            quarantine = self.session.set_aside(name, outcome.rejects)
            done = commit.commit(outcome.files, schema, noted)
        summary = self.session.finished(name, outcome, quarantine)
        return WriteResult(done.path, done.files, done.rows, done.nbytes, summary)

    def write_parquet(self, path: str, **options: Any) -> WriteResult:
        """Parquet. Raises as `write`."""
        return self.write(path, "parquet", **options)

    def write_arrow(self, path: str, **options: Any) -> WriteResult:
        """Arrow IPC. Raises as `write`."""
        return self.write(path, "arrow", **options)

    def write_csv(self, path: str, **options: Any) -> WriteResult:
        """CSV, as RFC 4180. Raises as `write`."""
        return self.write(path, "csv", **options)

    def write_ndjson(self, path: str, **options: Any) -> WriteResult:
        """One JSON object a line. Raises as `write`."""
        return self.write(path, "ndjson", **options)

    def write_npy(self, path: str, **options: Any) -> WriteResult:
        """numpy's .npy. Raises as `write`."""
        return self.write(path, "npy", **options)


class GroupedDataset:
    """Groups waiting for their aggregates."""

    def __init__(self, dataset: Dataset, keys: Sequence[IntoExpr]) -> None:
        self._dataset = dataset
        self._keys = keys

    def agg(self, *aggregates: Expr) -> Dataset:
        """One row per group: the keys, then the aggregates (alias them)."""
        frame, _ = self._dataset._source([*self._keys, *aggregates])
        with planning("agg"):
            return self._dataset._new(frame.aggregate([expr_of(k) for k in self._keys], list(aggregates)))


def _inputs(plan: Plan) -> list[str]:
    """Files that a plan reads."""
    scans = [i for stage in plan.stages for i in stage.inputs if isinstance(i, ScanInput)]
    return [path for scan in scans for path in scan.source.files]


def _aliased(expressions: Sequence[Expr]) -> dict[str, Expr]:
    return {e.schema_name(): e for e in expressions}


def _value(value: Any) -> Expr:
    return value if isinstance(value, Expr) else lit(value)


def _keys(
    on: str | Sequence[str] | None, left_on: str | Sequence[str] | None, right_on: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
    def listed(value: str | Sequence[str] | None) -> list[str]:
        return [value] if isinstance(value, str) else list(value or ())

    if on is not None and (left_on is not None or right_on is not None):
        raise ConfigError("join: give either on, or left_on and right_on")
    left, right = (listed(on), listed(on)) if on is not None else (listed(left_on), listed(right_on))
    if not left or len(left) != len(right):
        raise ConfigError("join: give on, or as many left_on as right_on columns")
    return left, right


def _schema_of(function: Callable[[pa.RecordBatch], Any], given: pa.Schema) -> pa.Schema:
    empty = pa.RecordBatch.from_arrays([pa.nulls(0, t) for t in given.types], schema=given)
    name = getattr(function, "__name__", "function")
    try:
        made = function(empty)
        if isinstance(made, pa.Table):
            return made.schema
        batches = returned_batches(made)
    except (Exception, SystemExit) as error:  # whatever the user's function raised
        raise UserFunctionError(
            f"map_batches: to find its schema, {name!r} was called with no rows, and raised "
            f"{type(error).__name__}: {error}; pass schema="
        ) from error
    if not batches:
        raise UserFunctionError(
            f"map_batches: {name!r} gives nothing for no rows; pass schema= with what it returns"
        )
    return batches[0].schema

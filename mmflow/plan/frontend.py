"""DataFusion as the front end: sources as empty tables, SQL and expressions to logical plans.

Owns the planning context and the leaves of plans. Knows nothing of stages or tasks.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Any

import pyarrow as pa
from datafusion import (
    DataFrame,
    LogicalPlan,
    SessionConfig,
    SessionContext,
    SQLOptions,
    col,
)
from datafusion.unparser import Dialect, Unparser

from mmflow.errors import MmflowError, PlanError
from mmflow.exec.stage import Function, Functions, Source
from mmflow.formats import PLACE, VIRTUAL_COLUMNS
from mmflow.formats.carried import carriable, check_wanted, tags
from mmflow.formats.schema import uncarried
from mmflow.mapping.forks import require_threads
from mmflow.plan.datafusion_errors import is_datafusions, plain
from mmflow.plan.logical import tables_of
from mmflow.plan.subqueries import forgotten_nulls, name_read_twice, with_any, with_own_names

__all__ = [
    "Catalog",
    "Leaf",
    "MapLeaf",
    "SourceLeaf",
    "SpreadLeaf",
    "SqlLeaf",
    "TableLeaf",
    "planning",
]


@dataclass(frozen=True, slots=True)
class SourceLeaf:
    """Files that are read in shards.

    Attributes:
        source: The files, and how they are read.
        virtual: Columns that are offered beside the source's: of `VIRTUAL_COLUMNS`, and `PLACE`.
        schema: Columns of the source, then the virtual ones.
    """

    source: Source
    virtual: tuple[str, ...] = ()
    # Once, since a schema costs its number of columns.
    schema: pa.Schema = attribute(init=False, compare=False)

    def __post_init__(self) -> None:
        types = VIRTUAL_COLUMNS | {PLACE: pa.int64()}
        fields = [*self.source.schema, *(pa.field(n, types[n]) for n in self.virtual)]
        object.__setattr__(self, "schema", pa.schema(fields))


@dataclass(frozen=True, slots=True)
class TableLeaf:
    """Rows in the driver's memory."""

    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        return self.table.schema


@dataclass(frozen=True, slots=True)
class MapLeaf:
    """A Python function over the batches of another plan."""

    child: DataFrame
    function: Callable[[pa.RecordBatch], Any]
    schema: pa.Schema
    batch_rows: int | None = None
    processes: bool = False


@dataclass(frozen=True, slots=True)
class SpreadLeaf:
    """Rows of another plan over a number of partitions: by the hash of columns, or evenly."""

    child: DataFrame
    partitions: int
    keys: tuple[int, ...]
    schema: pa.Schema


@dataclass(frozen=True, slots=True)
class SqlLeaf:
    """SQL that Substrait can't carry, and why: run whole, in one task."""

    query: str
    tables: tuple[tuple[str, DataFrame], ...]
    schema: pa.Schema
    reason: str


_QUERIES_ONLY = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)
_MISSING_TABLE = re.compile(r"table 'datafusion\.public\.(.+)' not found", re.DOTALL)

_TABLE = re.compile(
    r"""\s*SELECT\s*\*\s*FROM\s*(?:(?P<quoted>"(?:[^"]|"")+"|'(?:[^']|'')+')|(?<=\s)(?P<name>[a-z_][a-z_0-9]*))
    \s*(?:(?<=[\s'"])LIMIT\s+(?P<limit>[0-9]{1,18}))?\s*;?\s*""",
    re.IGNORECASE | re.VERBOSE,
)

Leaf = SourceLeaf | TableLeaf | MapLeaf | SpreadLeaf | SqlLeaf


@contextmanager
def planning(what: str) -> Iterator[None]:
    """Turn DataFusion's errors at planning into PlanError.

    Raises:
        PlanError: With DataFusion's own words, less its prefixes.
        EngineError: This process was forked from one that has used DataFusion.
    """
    require_threads()
    try:
        yield
    except MmflowError:
        raise
    except BaseException as error:  # DataFusion raises Exceptions of many kinds, and panics
        if not is_datafusions(error):
            raise
        raise PlanError(f"{what}: {plain(error)}") from error


class Catalog:
    """The planning context of a session: leaves by table name, and Python UDFs.

    Leaves live as long as the catalog. Tables given to `sql` by name are registered for that
    one call.
    """

    def __init__(self) -> None:
        config = SessionConfig().with_target_partitions(1).with_information_schema(enabled=False)
        # One partition and no repartitioning: mmflow itself splits the work.
        self.context = SessionContext(config)
        self.leaves: dict[str, Leaf] = {}
        # What the planner made of the frame that `sql` gave last: kept for the plan that is asked for next.
        self.tried: tuple[DataFrame, Any] | None = None
        self._whole: list[tuple[DataFrame, SqlLeaf]] = []
        self._functions: dict[str, Function] = {}
        self._numbers = itertools.count()

    @property
    def functions(self) -> Functions:
        """The UDFs that were registered."""
        return Functions(tuple(self._functions.values()))

    def add(self, leaf: Leaf) -> DataFrame:
        """Register a leaf under a name of its own.

        Raises:
            PlanError: A column has a name or a type that plans can't carry.
        """
        if (why := uncarried(leaf.schema)) is not None:
            raise PlanError(f"can't plan over these columns: {why}")
        name = f"leaf{next(self._numbers)}"
        with planning("can't plan over these columns"):
            self._register_empty(name, leaf.schema)
            self.leaves[name] = leaf
            return self.context.table(name)

    def _register_empty(self, name: str, schema: pa.Schema) -> None:
        nullable = pa.schema([pa.field(f.name, f.type, metadata=tags(f)) for f in schema])
        arrays = [pa.nulls(0, f.type) for f in nullable]
        empty = pa.RecordBatch.from_arrays(arrays, schema=nullable)
        self.context.register_record_batches(name, [[empty]])

    def schema(self, frame: DataFrame) -> pa.Schema:
        """Names and types of the rows that a frame gives; every field nullable.

        The frame's own schema is that of the plan before type coercion: DataFusion 55 calls a union of int32 and
        int64 an int32 there.
        """
        with planning("query"):
            optimized = frame.optimized_logical_plan()
            schema = self.context.create_dataframe_from_logical_plan(optimized).schema()
        return pa.schema([pa.field(f.name, f.type, metadata=tags(f)) for f in schema])

    def register_function(self, function: Function) -> None:
        """Make a UDF known to SQL and to workers."""
        Functions((function,)).register(self.context)
        self._functions[function.name] = function

    def sql(
        self,
        query: str,
        tables: Mapping[str, DataFrame],
        resolve: Callable[[str], DataFrame | None] = lambda _: None,
        unsplit: Callable[[DataFrame], str | None] = lambda _: None,
    ) -> DataFrame:
        """Plan a SELECT over named tables.

        Args:
            query: One SELECT.
            tables: Frames by the name that the query calls them.
            resolve: Asked for each table that is neither: FROM 'path'. None: there is no such table.
            unsplit: Asked why the planner can't split the query; it then runs as SQL in one task. None: it can.

        Raises:
            PlanError: The query is wrong, is not a query (DDL and DML are refused), or is nothing that DataFusion runs.
        """
        table = _TABLE.fullmatch(query)
        if table is not None:
            # What a query that only names a table means is known. DataFusion 55 takes 20 s for the wildcard of 8,000
            # columns, and four times as long for twice as many.
            quoted = table["quoted"]
            name = table["name"].lower() if quoted is None else quoted[1:-1].replace(quoted[0] * 2, quoted[0])
            frame = tables[name] if name in tables else resolve(name)
            if frame is not None:
                return frame if table["limit"] is None else frame.limit(int(table["limit"]))
        known = dict(tables)
        registered: set[str] = set()
        try:
            while True:
                for name in known.keys() - registered:
                    with planning(f"table {name!r}"):
                        self.context.register_view(_quoted(name), known[name])
                    registered.add(name)
                try:
                    with planning("SQL"):
                        frame = self.context.sql_with_options(query, _QUERIES_ONLY)
                        optimized = frame.optimized_logical_plan()
                    break
                except PlanError as error:
                    missing = _MISSING_TABLE.search(error.message)
                    found = None if missing is None or missing[1] in known else resolve(missing[1])
                    if missing is None or found is None:
                        raise
                    known[missing[1]] = found
            if type(frame.logical_plan().to_variant()).__name__ in ("Explain", "Analyze"):
                raise PlanError("SQL: EXPLAIN is no query here: ask `mmflow explain` or Dataset.explain()")
            if forgotten_nulls(frame.logical_plan()):
                query = with_any(query, self._forgotten)
                with planning("SQL"):
                    frame = self.context.sql_with_options(query, _QUERIES_ONLY)
                    optimized = frame.optimized_logical_plan()
            named = with_own_names(query)
            if named != query:
                apart = self._runnable(named)
                if apart is not None:
                    frame, optimized, query = *apart, named
                elif shared := name_read_twice(frame.logical_plan()):
                    raise PlanError(
                        f"SQL: a subquery of ANY, SOME or ALL that refers to the rows around it reads {shared}, as "
                        "these do, and DataFusion takes one for the other: give that table an alias in the subquery"
                    )
            reason = unsplit(frame)
            if reason is None:
                return frame
            with planning("SQL"):
                frame.execution_plan()  # else a task would say that DataFusion can't run it
            schema = self.schema(frame)
            check_wanted(schema)
            needed = self._without_refused(query, self._narrowed(query, known, optimized))
            leaf = SqlLeaf(query, tuple(needed.items()), schema, reason)
            if len(set(leaf.schema.names)) == len(leaf.schema):
                return self.add(leaf)
            self._whole.append(
                (frame, leaf)
            )  # no table may have two columns of one name: not a leaf of other plans
            return frame
        finally:
            for name in registered:
                self.context.deregister_table(_quoted(name))

    def _narrowed(
        self, query: str, tables: Mapping[str, DataFrame], optimized: LogicalPlan
    ) -> Mapping[str, DataFrame]:
        """Leave out what a query does not name, if its plan stays the same: tables are gathered whole."""
        narrow: dict[str, DataFrame] = {}
        for name, frame in tables.items():
            self.context.deregister_table(_quoted(name))
            if _named(name, query):
                columns = frame.schema().names
                named = [c for c in columns if _named(c, query)] or columns[:1]
                narrow[name] = frame.select(*[col(_quoted(c)) for c in named])
        try:
            with planning("SQL"):
                for name, frame in narrow.items():
                    self.context.register_view(_quoted(name), frame)
                made = self.context.sql_with_options(query, _QUERIES_ONLY).optimized_logical_plan()
        except PlanError:  # a wildcard, or names for columns by position: it takes all of them
            return tables
        return narrow if made.display_indent() == optimized.display_indent() else tables

    def whole(self, frame: DataFrame) -> SqlLeaf | None:
        """Return the leaf that a frame of `sql` stands for although it is none."""
        return next((leaf for known, leaf in self._whole if known is frame), None)

    def _runnable(self, query: str) -> tuple[DataFrame, LogicalPlan] | None:
        """Return the frame of a query and its optimized plan; None where DataFusion can't run it."""
        with contextlib.suppress(PlanError), planning("SQL"):
            frame = self.context.sql_with_options(query, _QUERIES_ONLY)
            optimized = frame.optimized_logical_plan()
            frame.execution_plan()
            return frame, optimized
        return None

    def _forgotten(self, query: str) -> int:
        """Count what of a query `with_any` must rewrite."""
        with planning("SQL"):
            return forgotten_nulls(self.context.sql_with_options(query, _QUERIES_ONLY).logical_plan())

    def _without_refused(self, query: str, tables: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
        """Return the tables less the columns that can't be carried: SQL that runs whole reads all that is left.

        Raises:
            PlanError: The query needs one of these.
        """
        made = dict(tables)
        schemas = {name: self.schema(frame) for name, frame in tables.items()}
        if all(carriable(field) for schema in schemas.values() for field in schema):
            return made
        for name, frame in tables.items():
            self.context.deregister_table(_quoted(name))
            self.context.register_view(_quoted(name), frame)
        for name, schema in schemas.items():
            for field in schema:
                if carriable(field):
                    continue
                kept = [n for n in made[name].schema().names if n != field.name]
                made[name] = made[name].select(*[col(_quoted(n)) for n in kept])
                self.context.deregister_table(_quoted(name))
                self.context.register_view(_quoted(name), made[name])
                try:
                    self.context.sql_with_options(query, _QUERIES_ONLY).optimized_logical_plan()
                except Exception:  # noqa: BLE001  (what datafusion raises where a column is missing)
                    check_wanted([field])
        return made

    def in_one_task(self, frame: DataFrame, reason: str) -> DataFrame:
        """Return a frame that runs another as SQL in one task.

        Args:
            frame: Of expressions; what was made of SQL is known as SQL.
            reason: Why the planner can't split it.

        Raises:
            PlanError: DataFusion can't write it as SQL that means the same.
        """
        plan = frame.logical_plan()
        try:
            query = Unparser(Dialect.default()).plan_to_sql(plan)
            planned = self.context.sql_with_options(query, _QUERIES_ONLY)
            # The same nodes, expressions and types, as DataFusion shows both.
            same = _shown(planned) == _shown(frame)
        except BaseException as error:
            if not is_datafusions(error):
                raise
            same = False
        if not same:
            raise PlanError(
                f"{reason}; write it as SQL, sql('SELECT ...', t=dataset), which then runs in one task"
            )
        names = dict.fromkeys(name for name in tables_of(plan) if name in self.leaves)
        tables = tuple((name, self.context.table(name)) for name in names)
        return self.add(SqlLeaf(query, tables, self.schema(frame), reason))


def _shown(frame: DataFrame) -> str:
    return str(frame.optimized_logical_plan().display_indent_schema())


def _named(name: str, query: str) -> bool:
    """Say whether a query may name a table or column."""
    shown = re.escape(name.replace('"', '""'))
    return re.search(rf"(?<!\w){shown}(?!\w)", query, re.IGNORECASE) is not None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

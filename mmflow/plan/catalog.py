"""DataFusion as the front end: sources as empty tables, SQL and expressions to logical plans.

Owns the planning context and the leaves of plans. Knows nothing of stages or tasks.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field as attribute

import pyarrow as pa
from datafusion import (
    DataFrame,
    Expr,
    LogicalPlan,
    SessionConfig,
    SessionContext,
    SQLOptions,
    col,
)
from datafusion.expr import Projection
from datafusion.unparser import Dialect, Unparser

from mmflow.errors import MmflowError, PlanError
from mmflow.formats import PLACE, VIRTUAL_COLUMNS
from mmflow.formats.schemas.arrow_types import check_wanted, is_supported, tags
from mmflow.formats.schemas.schema import unsupported_column
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.mapping.system.forks import require_threads
from mmflow.plan.errors import explain_datafusion_error, is_datafusion_error, kind_of
from mmflow.plan.logical.column_names import shown_names
from mmflow.plan.logical.lost_nulls import not_as_sql
from mmflow.plan.logical.moving_sql import moving_functions, with_moving_functions
from mmflow.plan.logical.nodes import tables_of
from mmflow.plan.logical.subqueries import (
    forgotten_nulls,
    name_read_twice,
    with_any,
    with_functions,
    with_own_names,
)
from mmflow.plan.logical.unnesting import (
    calls_unnest,
    row_wise_table,
    unnesting_selects,
    with_order_columns,
)
from mmflow.plan.stages import NO_NEEDS, Function, Functions, Needs, Source, StreamFunction
from mmflow.plan.tokens import parameters_of, quoted, replaced, tokens
from mmflow.usercode.failures import find_failure

__all__ = [
    "Catalog",
    "Leaf",
    "MapLeaf",
    "RepartitionLeaf",
    "SourceLeaf",
    "SqlLeaf",
    "StreamLeaf",
    "TableLeaf",
    "has_values",
    "planning",
    "unique_names",
]


@dataclass(frozen=True, slots=True)
class SourceLeaf:
    """Files that are read in shards.

    Attributes:
        source: The files, and how they are read.
        virtual: Columns beside those of the source: of `VIRTUAL_COLUMNS`, and `PLACE`.
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
    """Rows in the memory of the driver."""

    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        return self.table.schema


@dataclass(frozen=True, slots=True)
class MapLeaf:
    """Python function over the batches of another plan."""

    child: DataFrame
    function: Callable[[pa.RecordBatch], object]
    schema: pa.Schema
    batch_rows: int | None = None
    processes: bool = False
    needs: Needs = NO_NEEDS


@dataclass(frozen=True, slots=True)
class StreamLeaf:
    """Function of mmflow over all batches of each task of another plan, or of one task that gathers them.

    `title`: what it does, for explain. `gather`: whether one task sees all rows. `public`: the function is given
    public types.
    """

    child: DataFrame
    function: StreamFunction
    schema: pa.Schema
    title: str
    gather: bool = False
    public: bool = False


@dataclass(frozen=True, slots=True)
class RepartitionLeaf:
    """Rows of another plan in a number of partitions (None: as its bytes want), by the hash of columns or evenly."""

    child: DataFrame
    partitions: int | None
    keys: tuple[int, ...]
    schema: pa.Schema


@dataclass(frozen=True, slots=True)
class SqlLeaf:
    """SQL that runs whole in one task, the reason why Substrait can't carry it, and the values of its `$name`.

    `streaming`: it reads one table, and makes its rows of one row at a time: every task runs it over its own rows.
    """

    query: str
    tables: tuple[tuple[str, DataFrame], ...]
    schema: pa.Schema
    reason: str
    parameters: tuple[tuple[str, pa.Scalar], ...] = ()
    streaming: bool = False


Leaf = SourceLeaf | TableLeaf | MapLeaf | StreamLeaf | RepartitionLeaf | SqlLeaf

#: Function that says why a frame can't be split (see `Catalog.sql`).
Unsplit = Callable[[DataFrame, LogicalPlan | None], str | None]

#: Numbers of leaves. A process counts them once, so that no two sessions give one name to different rows.
_numbers = itertools.count()


class _Mark(bytearray):
    """Bytes of the empty table that stands for a leaf in plans.

    DataFusion counts the plans that hold the table, and releases the bytes with the last of them: a leaf whose mark is
    gone is read by no plan, whoever made it.
    """


#: References to a mark that no plan holds: a name and an argument.
_OWN_REFERENCES = 2

#: Leaves by name, and the marks of their tables. Plans of one session may read leaves of others.
_leaves: dict[str, Leaf] = {}
_marks: weakref.WeakValueDictionary[str, _Mark] = weakref.WeakValueDictionary()
#: Schemas of frames that were asked for: each costs a pass of DataFusion's optimizer.
_schemas: weakref.WeakKeyDictionary[DataFrame, pa.Schema] = weakref.WeakKeyDictionary()
_QUERIES_ONLY = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)
_MISSING_TABLE = lazy_regex(r"table 'datafusion\.public\.(.+)' not found", re.DOTALL)

_TABLE = lazy_regex(
    r"""\s*SELECT\s*\*\s*FROM\s*(?:(?P<quoted>"(?:[^"]|"")+"|'(?:[^']|'')+')|(?<=\s)(?P<name>[a-z_][a-z_0-9]*))
    \s*(?:(?<=[\s'"])LIMIT\s+(?P<limit>[0-9]{1,18}))?\s*;?\s*""",
    re.IGNORECASE | re.VERBOSE,
)


@contextmanager
def planning(what: str) -> Iterator[None]:
    """Turn DataFusion's errors at planning into PlanError.

    Raises:
        PlanError: DataFusion refused the query; the text is its own, without its prefixes.
        EngineError: This process was forked from one that has used DataFusion.
    """
    require_threads()
    try:
        yield
    except MmflowError:
        raise
    except BaseException as error:  # DataFusion raises Exceptions of many kinds, and panics
        if not is_datafusion_error(error):
            raise
        failure = find_failure(str(error))
        if failure is not None:  # DataFusion calls functions of constants at planning
            raise failure from error
        why = explain_datafusion_error(error)
        raise PlanError(f"{what}: {why}", code=kind_of(why)) from error


class Catalog:
    """Planning context of a session: leaves by table name, and Python UDFs. Shared between threads.

    Tables given to `sql` by name are known to that call alone: it plans in a
    context of its own (0.2 ms), since names in a shared one would be those of all queries that are planned just now.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: SessionContext | None = None
        #: `Functions.environment` of the plans.
        self.environment: tuple[tuple[str, str], ...] = ()
        self._functions: dict[str, Function] = {}
        #: Names in plans of UDFs by their names in SQL.
        self.sql_names: dict[str, str] = {}

    @property
    def context(self) -> SessionContext:
        """Context of the session's leaves and UDFs, made once it is asked for: queries that are known need none."""
        with self._lock:
            if self._made is None:
                self._made = _context()
            return self._made

    @property
    def functions(self) -> Functions:
        """UDFs that were registered."""
        return Functions(tuple(self._functions.values()), self.environment)

    @property
    def function_names(self) -> set[str]:
        """Names in plans of the UDFs that were registered."""
        return set(self._functions)

    def add(self, leaf: Leaf) -> DataFrame:
        """Return a frame that reads a leaf, which lives as long as a plan reads it.

        Raises:
            PlanError: A column has a name or a type that plans can't carry.
        """
        if (why := unsupported_column(leaf.schema)) is not None:
            raise PlanError(f"can't plan over these columns: {why}")
        name = f"leaf{next(_numbers)}"
        with planning("can't plan over these columns"):
            for padding in (
                0,
                8,
            ):  # DataFusion copies what is not aligned to 16 bytes, and so would not hold the mark
                mark = _mark(leaf.schema, padding)
                frame = _register_empty(self.context, name, leaf.schema, mark)
                # The context would keep the table. Plans hold it themselves.
                self.context.deregister_table(name)
                if mark is not None and (held := sys.getrefcount(mark) > _OWN_REFERENCES):
                    break
        _leaves[name] = leaf
        owner: object = self if mark is None or not held else mark
        if mark is not None:
            _marks[name] = mark
        weakref.finalize(owner, _leaves.pop, name, None).atexit = False
        return frame

    def context_of(self, names: Iterable[str]) -> SessionContext:
        """Return a context that knows leaves of these names as tables, and the UDFs."""
        context = _context()
        self.functions.register(context)
        for name in dict.fromkeys(names):
            if (leaf := self.leaf(name)) is not None:
                _register_empty(context, name, leaf.schema, _marks.get(name))
        return context

    @staticmethod
    def leaf(name: str) -> Leaf | None:
        """Return the leaf that plans read under a name, of whichever session; None: there is none."""
        return _leaves.get(name)

    def schema(self, frame: DataFrame, optimized: LogicalPlan | None = None) -> pa.Schema:
        """Return the names and types of a frame's rows. Every field is nullable.

        Args:
            frame: The frame.
            optimized: Its optimized plan, where that is at hand.

        The frame's own schema is that of the plan before type coercion: DataFusion 55 calls a union of int32 and
        int64 an int32 there.
        """
        found = _schemas.get(frame)
        if found is None:
            with planning("query"):
                optimized = frame.optimized_logical_plan() if optimized is None else optimized
                schema = self.context.create_dataframe_from_logical_plan(optimized).schema()
            found = pa.schema([pa.field(f.name, f.type, metadata=tags(f)) for f in schema])
            _schemas[frame] = found
        return found

    def register_function(self, function: Function) -> None:
        """Register a UDF for SQL and for workers."""
        Functions((function,)).register(self.context)
        self._functions[function.name] = function

    def sql(
        self,
        query: str,
        tables: Mapping[str, DataFrame],
        resolve: Callable[[str], DataFrame | None] = lambda _: None,
        unsplit: Unsplit = lambda *_: None,
        parameters: Mapping[str, pa.Scalar] | None = None,
        functions: Mapping[str, Function] | None = None,
    ) -> DataFrame:
        """Plan a SELECT over named tables.

        Args:
            query: Text of one SELECT.
            tables: Frames by their name in the query.
            resolve: Returns the frame of any other table, such as FROM 'path'. None: there is none.
            unsplit: Returns why the planner can't split a query, which then runs as SQL in one task. None: it can.
                It takes a frame and its optimized plan; None: that is not at hand.
            parameters: Values of the query's `$name`, all of them.
            functions: UDFs by their names as the query writes them, before those by their names in SQL.

        Raises:
            PlanError: The query is wrong, is no query (DDL and DML are refused), or can't be run by DataFusion.
        """
        spelled = {name: function.name for name, function in (functions or {}).items()}
        for function in (functions or {}).values():
            self.register_function(function)
        written = with_functions(query, self.sql_names, spelled)
        names = _Names(self.functions, parameters or {})
        called = self.sql_names | spelled
        calls = {f"{name}(": f"{sql_name}(" for sql_name, name in called.items()}

        def with_names(frame: DataFrame, plan: LogicalPlan) -> DataFrame:
            """Name columns as the query wrote calls, parameters and constants, each name once."""
            frame = _with_unique_names(frame)
            given = frame.schema().names
            shown = list(given)
            for planned, wrote in (calls | names.casts).items():
                shown = [column.replace(planned, wrote) for column in shown]
            shown = shown_names(plan, shown, names.tables)
            if given == shown:
                return frame
            return frame.select(*[col(quoted(n)).alias(wrote) for n, wrote in zip(given, shown, strict=True)])

        return self._sql(written, tables, resolve, unsplit, names, with_names)

    def constant(self, expression: str, parameters: Mapping[str, pa.Scalar]) -> object:
        """Return the Python value of an expression of SQL without columns.

        Raises:
            PlanError: It is wrong, or no constant.
        """
        with planning("no constant"):
            frame = _Names(self.functions, parameters).planned(f"SELECT ({expression})")[0]
            value: object = frame.to_arrow_table().column(0)[0].as_py()
            return value

    def _sql(
        self,
        query: str,
        tables: Mapping[str, DataFrame],
        resolve: Callable[[str], DataFrame | None],
        unsplit: Unsplit,
        names: _Names,
        with_names: Callable[[DataFrame, LogicalPlan], DataFrame],
    ) -> DataFrame:
        """Return the frame of a query, with the names that `with_names` gives by its plan."""
        table = _TABLE.fullmatch(query)
        if table is not None:
            # What a query that only names a table means is known. DataFusion 55 takes 20 s for the wildcard of 8,000
            # columns, and four times as long for twice as many.
            text = table["quoted"]
            name = table["name"].lower() if text is None else text[1:-1].replace(text[0] * 2, text[0])
            frame = tables[name] if name in tables else resolve(name)
            if frame is not None:
                return frame if table["limit"] is None else frame.limit(int(table["limit"]))
        names.add(tables)
        refused: PlanError | None = None
        while True:
            try:
                frame, optimized = names.planned(query)
                break
            except PlanError as error:
                missing = _MISSING_TABLE.search(error.message)
                if missing is not None:
                    found = None if missing[1] in names.tables else resolve(missing[1])
                    if found is None:
                        raise
                    names.add({missing[1]: found})
                elif names.parameters and refused is None:
                    # DataFusion 55 guesses types of `$name` before it has the values: two dates in `date + $days`.
                    query, refused = names.cast_parameters(query), error
                elif calls_unnest(query) and (ordered := with_order_columns(query)) != query:
                    query, refused = ordered, refused or error
                else:
                    raise refused or error from None
        if forgotten_nulls(frame.logical_plan()):
            query = with_any(query, names.forgotten)
            frame, optimized = names.planned(query)
        named = with_own_names(query)
        if named != query:
            apart = names.runnable(named)
            if apart is not None:
                frame, optimized, query = *apart, named
            elif shared := name_read_twice(frame.logical_plan()):
                raise PlanError(
                    f"SQL: a subquery of ANY, SOME or ALL that refers to the rows around it reads {shared}, as "
                    "these do, and DataFusion takes one for the other: give that table an alias in the subquery"
                )
        plan = frame.logical_plan()
        shown = with_names(frame, plan)
        reason = unsplit(shown, optimized if shown is frame else None)
        if reason is None:
            return shown
        if (why := not_as_sql(str(frame.logical_plan().display_indent()))) is not None:
            raise PlanError(f"SQL: {why}")
        try:
            with planning("SQL"):
                frame.execution_plan()  # else a task would say that DataFusion can't run it
        except PlanError:
            ordered = with_order_columns(query)
            if ordered == query:
                raise
            return self._sql(ordered, {}, resolve, unsplit, names, with_names)
        schema = self.schema(frame)
        check_wanted(schema)
        unnested = self._unnested(query, names, schema)
        if unnested is not None and unsplit(shown := with_names(unnested, plan), None) is None:
            return shown
        schema = pa.schema([f.with_name(n) for f, n in zip(schema, unique_names(schema.names), strict=True)])
        exact = with_moving_functions(query, names.planned)
        if exact != query:
            query, (_, optimized) = exact, names.planned(exact)
        needed = self._without_refused(query, self._narrowed(query, names, optimized), names.parameters)
        leaf = SqlLeaf(query, tuple(needed.items()), schema, reason, tuple(names.parameters.items()))
        return with_names(self.add(leaf), plan)

    def _unnested(self, query: str, names: _Names, schema: pa.Schema) -> DataFrame | None:
        """Return the frame of a query over tables that its SELECTs with `unnest` became; None: not all of them can.

        Args:
            query: Query that can't be split.
            names: Its tables.
            schema: Names and types of its columns.
        """
        number = 0
        while calls_unnest(query):
            for select in unnesting_selects(query):
                leaf = self._unnesting_leaf(select.text, names)
                if leaf is not None:
                    break
            else:
                return None
            number += 1
            name = f"mmflow_unnested_{number}"
            names.add({name: self.add(leaf)})
            query = select.replaced(quoted(name))
        if not number:
            return None
        try:
            frame, _ = names.planned(query)
        except PlanError:  # a clause behind it names a column that the SELECT does not give
            return None
        found = self.schema(frame)
        if found.types != schema.types or len({*found.names}) < len(found):
            return None
        if found.names == schema.names:
            return frame
        # A column that has no name is named by its table, too.
        pairs = zip(found.names, schema.names, strict=True)
        return frame.select(*[col(quoted(name)).alias(wanted) for name, wanted in pairs])

    def _unnesting_leaf(self, query: str, names: _Names) -> SqlLeaf | None:
        """Return a SELECT with `unnest` as a table; None: it needs other rows than each of its table's alone."""
        try:
            frame, optimized = names.planned(query)
        except PlanError:  # it names rows around it
            return None
        plan, schema = frame.logical_plan(), self.schema(frame)
        table = row_wise_table(plan, names.tables)
        if table is None or not_as_sql(str(plan.display_indent())) is not None:
            return None
        if len({*schema.names}) < len(schema) or not all(map(is_supported, schema)):
            return None
        given = {n: names.parameters[n] for n in parameters_of(query)}
        narrow = {table: self._narrowed(query, names, optimized)[table]}
        needed = self._without_refused(query, narrow, given)
        return SqlLeaf(query, tuple(needed.items()), schema, "", tuple(given.items()), streaming=True)

    def _narrowed(self, query: str, names: _Names, optimized: LogicalPlan) -> Mapping[str, DataFrame]:
        """Leave out columns that a query does not name, if its plan stays the same: tables are gathered whole."""
        narrow: dict[str, DataFrame] = {}
        for name, frame in names.tables.items():
            if _named(name, query):
                columns = frame.schema().names
                named = [c for c in columns if _named(c, query)] or columns[:1]
                narrow[name] = frame.select(*[col(quoted(c)) for c in named])
        narrowed = _Names(self.functions, names.parameters)
        try:
            narrowed.add(narrow)
            _, made = narrowed.planned(query)
        except PlanError:  # a wildcard, or names for columns by position: it takes all of them
            return names.tables
        return narrow if made.display_indent() == optimized.display_indent() else names.tables

    def _without_refused(
        self, query: str, tables: Mapping[str, DataFrame], parameters: Mapping[str, pa.Scalar]
    ) -> dict[str, DataFrame]:
        """Return the tables without the columns that plans can't carry. SQL that runs whole reads all others.

        Raises:
            PlanError: The query needs one of these.
        """
        made = dict(tables)
        schemas = {name: self.schema(frame) for name, frame in tables.items()}
        if all(is_supported(field) for schema in schemas.values() for field in schema):
            return made
        names = _Names(self.functions, parameters)
        names.add(tables)
        for name, schema in schemas.items():
            for field in schema:
                if is_supported(field):
                    continue
                kept = [n for n in made[name].schema().names if n != field.name]
                made[name] = made[name].select(*[col(quoted(n)) for n in kept])
                names.replace(name, made[name])
                try:
                    names.planned(query)
                except PlanError:  # the column is missing
                    check_wanted([field])
        return made

    def run_as_sql(self, frame: DataFrame, reason: str) -> DataFrame:
        """Return a frame that runs another as SQL in one task.

        Args:
            frame: Frame of expressions. Frames of SQL are known as SQL.
            reason: Reason why the planner can't split it.

        Raises:
            PlanError: DataFusion can't write it as SQL that means the same.
        """
        plan = frame.logical_plan()
        if (why := not_as_sql(str(plan.display_indent()))) is not None:
            raise PlanError(why)
        names = [n for n in dict.fromkeys(tables_of(plan)) if self.leaf(n) is not None]
        context = self.context_of(names)

        def planned(query: str) -> DataFrame:
            Functions(tuple(moving_functions(query))).register(context)
            with planning("SQL"):
                return context.sql_with_options(query, _QUERIES_ONLY)

        try:
            query = Unparser(Dialect.default()).plan_to_sql(plan)
            # The same nodes, expressions and types, as DataFusion shows both.
            same = _shown(context.sql_with_options(query, _QUERIES_ONLY)) == _shown(frame)
        except BaseException as error:
            if not is_datafusion_error(error):
                raise
            same = False
        if not same:
            raise PlanError(
                f"{reason}; write it as SQL, sql('SELECT ...', t=dataset), which then runs in one task"
            )
        tables = tuple((n, context.table(n)) for n in names)
        return self.add(SqlLeaf(with_moving_functions(query, planned), tables, self.schema(frame), reason))


class _Names:
    """Tables and parameters that one call of `sql` knows by name, in a context of its own.

    Attributes:
        tables: Frames by name.
        parameters: Values of `$name`.
        casts: Parameters as the query writes them, by the casts that `cast_parameters` made of them.
    """

    def __init__(self, functions: Functions, parameters: Mapping[str, pa.Scalar]) -> None:
        self.tables: dict[str, DataFrame] = {}
        self.parameters = dict(parameters)
        self.casts: dict[str, str] = {}
        self._context = _context()
        functions.register(self._context)

    def add(self, tables: Mapping[str, DataFrame]) -> None:
        """Register further tables.

        Raises:
            PlanError: No table may have the name.
        """
        for name, frame in tables.items():
            with planning(f"table {name!r}"):
                self._context.register_view(quoted(name), frame)
            self.tables[name] = frame

    def replace(self, name: str, frame: DataFrame) -> None:
        """Replace the frame of a name."""
        self._context.deregister_table(quoted(name))
        self.add({name: frame})

    def planned(self, query: str) -> tuple[DataFrame, LogicalPlan]:
        """Return the frame of a query and its optimized plan.

        Raises:
            PlanError: The query is wrong.
        """
        with planning("SQL"):
            frame = self._parsed(query)
            return frame, frame.optimized_logical_plan()

    def _parsed(self, query: str) -> DataFrame:
        Functions(tuple(moving_functions(query))).register(self._context)
        return self._context.sql_with_options(query, _QUERIES_ONLY, self.parameters)

    def cast_parameters(self, query: str) -> str:
        """Return a query with each parameter cast to the type of its value, so that it is known when it is planned."""
        types: dict[str, str] = {}
        with planning("SQL"):
            for name in parameters_of(query):
                shown = self._parsed(f"SELECT arrow_typeof(${name}) AS shown").to_pydict()["shown"][0]
                # No date can be added to a duration.
                shown = "Interval(MonthDayNano)" if shown.startswith("Duration(") else shown
                types[name] = shown.replace("'", "''")
                self.casts[f'arrow_cast(${name},Utf8("{shown}"))'] = f"${name}"
        parameters = [t for t in tokens(query) if t.kind == "parameter"]
        return replaced(
            query, [(t.start, t.end, f"arrow_cast({t.text}, '{types[t.name]}')") for t in parameters]
        )

    def runnable(self, query: str) -> tuple[DataFrame, LogicalPlan] | None:
        """Return the result of `planned`; None if DataFusion can't run the query."""
        with contextlib.suppress(PlanError), planning("SQL"):
            made = self.planned(query)
            made[0].execution_plan()
            return made
        return None

    def forgotten(self, query: str) -> int:
        """Count the subqueries that `with_any` must rewrite."""
        with planning("SQL"):
            return forgotten_nulls(self._parsed(query).logical_plan())


def _mark(schema: pa.Schema, padding: int) -> _Mark | None:
    """Return the mark of a new table, behind some bytes; None: no column has bytes, as all of them are of type null."""
    flat = next((f for t in schema.types if (f := _flat_type(t)) is not None), None)
    if flat is None:
        return None
    return _Mark(bytes(padding) + pa.record_batch([pa.nulls(1, flat)], [""]).serialize().to_pybytes())


def has_values(schema: pa.Schema) -> bool:
    """Return whether some column has values of its own: then a leaf lives as long as its plans, else as its catalog."""
    return any(_flat_type(kind) is not None for kind in schema.types)


def _flat_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the first type with values of its own in a type; None: there is none but nulls."""
    if not pa.types.is_nested(kind):
        return None if pa.types.is_null(kind) else kind
    inner = (_flat_type(kind.field(i).type) for i in range(kind.num_fields))
    return next((flat for flat in inner if flat is not None), None)


def _empty_array(kind: pa.DataType, flat: pa.Array) -> pa.Array:
    """Return an array without values, which holds the buffers of an empty array of its flat type."""
    if not pa.types.is_nested(kind):
        return flat
    children = [pa.nulls(0, kind.field(i).type) for i in range(kind.num_fields)]
    marked = next(i for i, child in enumerate(children) if _flat_type(child.type) is not None)
    children[marked] = _empty_array(children[marked].type, flat)
    buffers = [None] if pa.types.is_struct(kind) else [None, pa.py_buffer(bytes(8))]
    return pa.Array.from_buffers(kind, 0, buffers, children=children)


def _register_empty(context: SessionContext, name: str, schema: pa.Schema, mark: _Mark | None) -> DataFrame:
    """Register an empty table, and return its frame. Its plans hold the mark."""
    nullable = pa.schema([pa.field(f.name, f.type, metadata=tags(f)) for f in schema])
    empties = {kind: pa.nulls(0, kind) for kind in set(nullable.types)}
    arrays = [empties[kind] for kind in nullable.types]
    if mark is not None:
        column, flat = next((n, f) for n, t in enumerate(schema.types) if (f := _flat_type(t)) is not None)
        message = pa.py_buffer(mark).slice(mark.index(b"\xff\xff\xff\xff"))
        # No row, but its buffers: those of an array without any would be dropped.
        row = pa.ipc.read_record_batch(message, pa.schema([pa.field("", flat)])).column(0)
        arrays[column] = _empty_array(schema.field(column).type, row.slice(1))
    empty = pa.RecordBatch.from_arrays(arrays, schema=nullable)
    context.register_record_batches(name, [[empty]])
    return context.table(name)


def _context() -> SessionContext:
    # One partition and no repartitioning: mmflow itself splits the work.
    return SessionContext(SessionConfig().with_target_partitions(1).with_information_schema(enabled=False))


def _shown(frame: DataFrame) -> str:
    return str(frame.optimized_logical_plan().display_indent_schema())


def _named(name: str, query: str) -> bool:
    """Return whether a query may name a table or column."""
    shown = re.escape(name.replace('"', '""'))
    return re.search(rf"(?<!\w){shown}(?!\w)", query, re.IGNORECASE) is not None


def unique_names(names: Sequence[str]) -> list[str]:
    """Return names of which each comes once: the second `i` is `i_1`, as in DuckDB.

    >>> unique_names(["i", "x", "i", "i_1"])
    ['i', 'x', 'i_2', 'i_1']
    """
    made: list[str] = []
    for name in names:
        numbered = (f"{name}_{n}" for n in itertools.count(1))
        made.append(
            name if name not in made else next(n for n in numbered if n not in made and n not in names)
        )
    return made


def _with_unique_names(frame: DataFrame) -> DataFrame:
    """Return the rows of a query, such as `SELECT *` of a join, under names of which each comes once."""
    names = frame.schema().names
    unique = unique_names(names) if len({*names}) < len(names) else names
    if unique == names:
        return frame
    plan = frame.logical_plan()
    while not isinstance(made := plan.to_variant(), Projection):  # that gives columns their tables
        (plan,) = plan.inputs()
    columns = [
        Expr(e) if e.variant_name() == "Column" else col(quoted(name))
        for name, e in zip(names, made.projections(), strict=True)
    ]
    return frame.select(*[c.alias(name) for c, name in zip(columns, unique, strict=True)])

"""Stages as data, which the planner makes and engines run.

A plan is a list of stages in topological order. A stage runs the same steps in every task;
tasks differ in their inputs only:

- a *scan* stage has one task per group of shards of one source;
- an *exchange* stage has one task per partition of the exchange that it reads;
- a stage with neither (VALUES, SELECT 1, whole files that DataFusion reads by itself) has one task.

Worked example, `SELECT k, sum(v) FROM t GROUP BY k ORDER BY k`, three shards, two partitions:

    stage 0  scan t -> partial sum by k      3 tasks, output Hash(keys=(0,), partitions=2)
    stage 1  exchange 0 -> final sum         2 tasks, output Forward() + sample of k
    stage 2  range exchange 1 -> sort by k   as many tasks as boundaries + 1, output Result()

Nothing here is executable code except `MapStep.function` and `Functions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import field, replace
from typing import TYPE_CHECKING, Literal, Protocol

import pyarrow as pa

from mmflow.formats import Comparison, Format
from mmflow.formats.schemas.hive import HiveColumns
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.native.program import Program
from mmflow.plan.native_aggregate import AggregateStep
from mmflow.shards import FileEntry
from mmflow.sinks import SinkSpec

if TYPE_CHECKING:
    from fractions import Fraction

    from datafusion import (  # slow to import; processes for functions need no plans
        AggregateUDF,
        ScalarUDF,
        SessionContext,
        WindowUDF,
    )

    from mmflow.tables.statistics import FileStatistics  # only tables have them

__all__ = [
    "NO_NEEDS",
    "AggregateStep",
    "BadFile",
    "Broadcast",
    "ExchangeInput",
    "FilesInput",
    "Forward",
    "FragmentStep",
    "Function",
    "Functions",
    "Hash",
    "Input",
    "MapStep",
    "Needs",
    "OrderedStep",
    "Output",
    "Plan",
    "ProgramStep",
    "Range",
    "Result",
    "ScanInput",
    "SortKey",
    "SortStep",
    "Source",
    "SqlStep",
    "Stage",
    "Step",
    "StreamFunction",
    "StreamStep",
    "TableInput",
    "WindowCall",
    "WindowStep",
    "Write",
]


@dataclass(frozen=True, slots=True)
class BadFile:
    """File that can't be read and is left out (`skip_bad_files`), and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """Dataset that can be read.

    `files` are paths in reading order, found but not opened yet; `format` has the schema of their columns.
    `stands_for`: inputs of the run from which it made `files`. None: the files are the inputs.
    `storage`: options of the file system of URLs (`remote.options.storage_text`).
    `hive`: columns in the paths; None: there are none.
    `statistics`: bounds of whole files, by the log of a table; None: there are none. Only the scheduler has them.
    `skipped`: files that `files` lacks, since they can't be read.
    `sniffed`: options that `dialect="auto"` found, and how sure that is, for people; empty: it was not asked for.
    """

    files: tuple[str, ...]
    format: Format
    label: str
    stands_for: tuple[str, ...] | None = None
    storage: str = ""
    hive: HiveColumns | None = None
    skipped: tuple[BadFile, ...] = ()
    sniffed: str = ""
    statistics: FileStatistics | None = field(default=None, compare=False, repr=False)

    @property
    def schema(self) -> pa.Schema:
        """All columns but virtual ones."""
        return self.format.schema if self.hive is None else self.hive.schema


@dataclass(frozen=True, slots=True)
class SortKey:
    """Column number of a stage's output, and its direction."""

    column: int
    descending: bool = False
    nulls_first: bool = False


# ---- inputs -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScanInput:
    """Shards of a source, distributed over the tasks of the stage.

    Attributes:
        name: Table name of this input in the stage's first fragment.
        columns: Columns to decode, in order.
        prune: Conjuncts for pruning by statistics.
    """

    name: str
    source: Source
    columns: tuple[str, ...]
    prune: tuple[Comparison, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Files of the source that may hold a wanted row, as far as their paths and the log of their table say."""
        hive, statistics, files = self.source.hive, self.source.statistics, self.source.files
        if hive is not None and self.prune:
            files = tuple(path for path in files if hive.may_hold(path, self.prune))
        if statistics is not None and self.prune:
            files = tuple(path for path in files if statistics.may_hold(path, self.prune))
        return files


@dataclass(frozen=True, slots=True)
class ExchangeInput:
    """Outputs of earlier stages.

    Attributes:
        name: Table name in the fragment.
        stages: Numbers of the producing stages, which all have the same schema and partitioning.
        mode: partition: task p reads partition p of every producing task (Hash, Range);
            forward: task i reads the output of the i-th producing task, counted over all `stages`;
            all: every task reads everything (broadcast and gather), in order of stage, task.
    """

    name: str
    stages: tuple[int, ...]
    mode: Literal["partition", "forward", "all"]


@dataclass(frozen=True, slots=True)
class TableInput:
    """Rows in the plan itself. A stage over it alone has one task."""

    name: str
    table: pa.Table

    def __reduce__(self) -> tuple[Callable[[str, pa.Buffer], TableInput], tuple[str, pa.Buffer]]:
        # As an IPC stream: pyarrow 26 pickles a table without columns as one without rows.
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as writer:
            writer.write_table(self.table)
        return _table_input, (self.name, sink.getvalue())


def _table_input(name: str, stream: pa.Buffer) -> TableInput:
    return TableInput(name, pa.ipc.open_stream(stream).read_all())


@dataclass(frozen=True, slots=True)
class FilesInput:
    """Whole Parquet files, which DataFusion reads by itself inside of the stage's one task.

    Attributes:
        name: Table name of this input in the stage's first fragment.
        source: Source of the files.
        columns: Columns to read, in order.
        files: The files as they were when they were looked at (`formats.parquet.direct`).
        rows: Number of their rows.
        statistics: Whether DataFusion may leave out what their statistics exclude.
        largest: Largest absolute value of each column that holds decimals; None: not known.
        threads: Parts of the files that are read at once.
    """

    name: str
    source: Source
    columns: tuple[str, ...]
    files: tuple[FileEntry, ...]
    rows: int
    statistics: bool
    largest: tuple[Fraction | None, ...]
    threads: int


Input = ScanInput | ExchangeInput | TableInput | FilesInput

# ---- outputs ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forward:
    """Output of one block per task, unpartitioned. With `sample`, a sample of these sort keys too."""

    sample: tuple[SortKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Output of one block per task, read whole by every task of the consumer, or gathered by one."""


@dataclass(frozen=True, slots=True)
class Hash:
    """Output of `partitions` blocks per task, by the hash of the columns `keys`; round-robin without keys.

    A task that reads it gets neighbouring partitions together, up to about `target_bytes` of them; 0: one each.
    """

    keys: tuple[int, ...]
    partitions: int
    target_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Range:
    """Output of one block per range of `keys` and task, cut at boundaries.

    The stage has one ExchangeInput of mode forward whose producing stages have `Forward(sample=keys)`;
    the scheduler computes boundaries from the samples (`worker.range_partition.boundaries`), at most `partitions - 1`
    and about one per `target_bytes` of input, and sends them to each task.
    """

    keys: tuple[SortKey, ...]
    partitions: int
    target_bytes: int


@dataclass(frozen=True, slots=True)
class Result:
    """Output to the caller, in order of tasks."""


@dataclass(frozen=True, slots=True)
class Write:
    """Output to staging files of a sink, which the driver commits."""

    sink: SinkSpec


Output = Forward | Broadcast | Hash | Range | Result | Write

# ---- steps ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FragmentStep:
    """Substrait plan, executed by DataFusion.

    Attributes:
        plan: Encoded Substrait plan whose leaves are named tables.
        inputs: Names and schemas of these tables. In the first step they are the stage's inputs, by name;
            later steps read one table: the output of the step before.
        schema: Types of its rows, which are cast if need be.
        streaming: True if the outputs of pieces of its first input, one after the other, are a right output of this
            stage (filter, project, partial aggregate, top-k, probe side of a broadcast join): bounded memory for any
            input size.
        split: Tables and their key columns. Rows with different keys never meet: where memory is too small for all,
            the step may run on parts of these tables, each with all rows of its keys, one after the other.
    """

    plan: bytes
    inputs: tuple[tuple[str, pa.Schema], ...]
    schema: pa.Schema
    streaming: bool
    split: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class ProgramStep:
    """Row-wise fragment that mmflow's own kernel computes, batch by batch.

    Attributes:
        program: Program that gives the rows of the fragment, or says that a batch needs the fallback.
        fallback: The fragment, which DataFusion runs on such batches: those with a value that it may fail on.
    """

    program: Program
    fallback: FragmentStep

    @property
    def schema(self) -> pa.Schema:
        """Types of its rows."""
        return self.fallback.schema

    @property
    def streaming(self) -> bool:
        """True: it runs batch by batch."""
        return True


@dataclass(frozen=True, slots=True)
class WindowCall:
    """Window function that mmflow's own kernel computes.

    Attributes:
        function: One of `plan.window_functions.FUNCTIONS`.
        column: Column whose value in another row it gives; None: it counts rows.
        rows: Distance of that row, of lag and lead.
    """

    function: str
    column: int | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True)
class OrderedStep:
    """Step over all rows of a task in the order of some columns, by mmflow's own kernel.

    Attributes:
        order: The columns.
        fallback: Fragment that gives the same, for more rows than fit into memory; its only input has the rows.
    """

    order: tuple[SortKey, ...]
    fallback: FragmentStep

    @property
    def rows(self) -> pa.Schema:
        """Columns that it reads."""
        return self.fallback.inputs[0][1]

    @property
    def schema(self) -> pa.Schema:
        """Types of its rows."""
        return self.fallback.schema

    @property
    def streaming(self) -> bool:
        """False: it sees all rows of its task."""
        return False


@dataclass(frozen=True, slots=True)
class SortStep(OrderedStep):
    """Sort of the rows. Those that are equal stay in their order."""


@dataclass(frozen=True, slots=True)
class WindowStep(OrderedStep):
    """Window functions over the rows, which keep their order and get a column for each.

    Attributes:
        partition: Columns in which the rows of a partition are equal; `order` holds within it.
        calls: The functions.
    """

    partition: tuple[int, ...]
    calls: tuple[WindowCall, ...]


@dataclass(frozen=True, slots=True)
class SqlStep:
    """Query that Substrait can't carry, executed by DataFusion.

    Attributes:
        query: SQL over named tables.
        inputs: Names and schemas of these tables (see `FragmentStep`).
        schema: Types of its rows, which are cast if need be.
        streaming: True if the query may run on pieces of its first input (see `FragmentStep`).
        parameters: Values of its `$name`.
    """

    query: str
    inputs: tuple[tuple[str, pa.Schema], ...]
    schema: pa.Schema
    streaming: bool
    parameters: tuple[tuple[str, pa.Scalar], ...] = ()


@dataclass(frozen=True, slots=True)
class Needs:
    """Resources of each call of a function, and how many may run at a time; None: as of any task.

    Attributes:
        concurrency: Most tasks of the stage at a time.
        num_cpus, num_gpus: Resources that a cluster keeps for each of them. Local threads and processes have no GPUs
            of their own to keep.
    """

    concurrency: int | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None


NO_NEEDS = Needs()


@dataclass(frozen=True, slots=True)
class MapStep:
    """Python function over record batches: `map_batches`.

    Attributes:
        function: `function(batch: pa.RecordBatch) -> RecordBatch | Table | iterable of them`.
        input: Names and public types (`formats.schemas.schema.public_schema`) of its argument.
        schema: Schema of its result, whose batches are checked and cast to it.
        batch_rows: Largest number of rows of one call; None: all rows of the batch.
        processes: Run in a process pool, for functions that hold the GIL.
        needs: Resources of a call.
    """

    function: Callable[[pa.RecordBatch], object]
    input: pa.Schema
    schema: pa.Schema
    batch_rows: int | None = None
    processes: bool = False
    needs: Needs = NO_NEEDS


StreamFunction = Callable[[Iterator[pa.RecordBatch], int], Iterable[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class StreamStep:
    """Function over all batches of a task, in their order, called once for each attempt.

    Attributes:
        function: `function(batches, first)` that yields batches. `first + i` is a number that no other row of the
            stages with this step has, where i is a row's position in the task; it grows in the order of the rows.
        input: Names and types of its batches.
        schema: Schema of its result, whose batches are cast to it.
    """

    function: StreamFunction
    input: pa.Schema
    schema: pa.Schema

    @property
    def streaming(self) -> bool:
        """False: it sees all rows of its task."""
        return False


Step = FragmentStep | ProgramStep | SortStep | WindowStep | SqlStep | MapStep | StreamStep | AggregateStep


class Function(Protocol):
    """Python UDF, which can be pickled.

    Attributes:
        name: Name in plans.
        made: Object of DataFusion, which can't be pickled.
    """

    name: str

    @property
    def made(self) -> ScalarUDF | AggregateUDF | WindowUDF: ...


@dataclass(frozen=True, slots=True)
class Functions:
    """Python UDFs that the fragments of a plan name, and the environment of all its functions.

    Attributes:
        all: Python UDFs.
        environment: Environment variables that the job declares, with digests of their values.
    """

    all: tuple[Function, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    def register(self, context: SessionContext) -> None:
        """Register the UDFs in a datafusion.SessionContext."""
        if self.all:
            from datafusion import AggregateUDF, ScalarUDF, WindowUDF  # noqa: PLC0415  (slow)
        for function in self.all:
            match function.made:
                case AggregateUDF():
                    context.register_udaf(function.made)
                case WindowUDF():
                    context.register_udwf(function.made)
                case ScalarUDF():
                    context.register_udf(function.made)


@dataclass(frozen=True, slots=True)
class Stage:
    """Tasks that run the same steps on different inputs.

    Attributes:
        id: Position in the plan.
        inputs: The first is the partitioned one; ScanInput only as the first. Inputs that are all of mode
            `all` (or TableInput, FilesInput), or no inputs: one task.
        steps: Run in order; empty: the first input's batches pass through.
        output: Destination of the rows.
        schema: Schema of the output. Columns of different stages are matched by position, not by name.
        limit: The stage's output, in task order, is needed up to this many rows only: each task may stop
            there, and no task is started once finished ones give enough. None: no limit.
        title: Operators, for people (explain, progress).
        notes: Further lines of explain, such as the reason of a gather.
    """

    id: int
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    output: Output
    schema: pa.Schema
    limit: int | None = None
    title: str = ""
    notes: tuple[str, ...] = ()

    @property
    def needs(self) -> Needs:
        """Resources of a task: the most that any of its functions wants."""
        wanted = [step.needs for step in self.steps if isinstance(step, MapStep)]
        return Needs(
            min((n.concurrency for n in wanted if n.concurrency is not None), default=None),
            max((n.num_cpus for n in wanted if n.num_cpus is not None), default=None),
            max((n.num_gpus for n in wanted if n.num_gpus is not None), default=None),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in topological order; the last one gives the result (Result or Write)."""

    stages: tuple[Stage, ...]
    functions: Functions = Functions()

    @property
    def schema(self) -> pa.Schema:
        return self.stages[-1].schema

    def without_rows(self) -> Plan:
        """Return the plan as explain shows it, without the tables in memory that it reads: only their rows' number."""

        def emptied(source: Input) -> Input:
            return (
                replace(source, table=source.table.select([])) if isinstance(source, TableInput) else source
            )

        return replace(
            self, stages=tuple(replace(s, inputs=tuple(map(emptied, s.inputs))) for s in self.stages)
        )

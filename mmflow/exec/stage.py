"""Stages as data: what the planner makes and the engines run.

A plan is a list of stages in topological order. A stage runs the same steps in every task;
tasks differ in their inputs only:

- a *scan* stage has one task per group of shards of one source;
- an *exchange* stage has one task per partition of the exchange that it reads;
- a stage with neither (VALUES, SELECT 1) has one task.

Worked example, `SELECT k, sum(v) FROM t GROUP BY k ORDER BY k`, three shards, two partitions:

    stage 0  scan t -> partial sum by k      3 tasks, output Hash(keys=(0,), partitions=2)
    stage 1  exchange 0 -> final sum         2 tasks, output Forward() + sample of k
    stage 2  range exchange 1 -> sort by k   as many tasks as boundaries + 1, output Result()

Nothing here is executable code except `MapStep.function` and `Functions`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pyarrow as pa

from mmflow.formats import Comparison, Format
from mmflow.formats.hive import HiveColumns
from mmflow.sinks import SinkSpec

__all__ = [
    "Broadcast",
    "ExchangeInput",
    "Forward",
    "FragmentStep",
    "Function",
    "Functions",
    "Hash",
    "Input",
    "MapStep",
    "Output",
    "Plan",
    "Range",
    "Result",
    "ScanInput",
    "SortKey",
    "Source",
    "Stage",
    "Step",
    "TableInput",
    "Write",
]


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset that can be read.

    `files` are paths in reading order, found but not opened yet; `format` has the schema of what stands in them.
    `stands_for`: the files were made for this run, and are none of its inputs; these are. None: the files are.
    `storage`: options of the file system of URLs (`remote.reach.storage_text`).
    `hive`: columns that stand in the paths; None: there are none.
    """

    files: tuple[str, ...]
    format: Format
    label: str
    stands_for: tuple[str, ...] | None = None
    storage: str = ""
    hive: HiveColumns | None = None

    @property
    def schema(self) -> pa.Schema:
        """All columns but virtual ones."""
        return self.format.schema if self.hive is None else self.hive.schema


@dataclass(frozen=True, slots=True)
class SortKey:
    """A column number of a stage's output, and how it sorts."""

    column: int
    descending: bool = False
    nulls_first: bool = False


# ---- inputs -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScanInput:
    """Shards of a source: the tasks of the stage share them out.

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
        """Return those of the source's files that may hold a wanted row, as far as their paths say."""
        hive = self.source.hive
        if hive is None or not self.prune:
            return self.source.files
        return tuple(path for path in self.source.files if hive.may_hold(path, self.prune))


@dataclass(frozen=True, slots=True)
class ExchangeInput:
    """Outputs of earlier stages.

    Attributes:
        name: Table name in the fragment.
        stages: The producing stages; all have the same schema and the same partitioning.
        mode: partition: task p reads partition p of every producing task (Hash, Range);
            forward: task i reads the output of the i-th producing task, counted over all `stages`;
            all: every task reads everything (broadcast and gather), in order of stage, task.
    """

    name: str
    stages: tuple[int, ...]
    mode: Literal["partition", "forward", "all"]


@dataclass(frozen=True, slots=True)
class TableInput:
    """Rows that came with the plan; a stage over it alone has one task."""

    name: str
    table: pa.Table

    def __reduce__(self) -> tuple[Any, ...]:
        # As an IPC stream: pyarrow 26 pickles a table without columns as one without rows.
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as writer:
            writer.write_table(self.table)
        return _table_input, (self.name, sink.getvalue())


def _table_input(name: str, stream: pa.Buffer) -> TableInput:
    return TableInput(name, pa.ipc.open_stream(stream).read_all())


Input = ScanInput | ExchangeInput | TableInput

# ---- outputs ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forward:
    """One block per task, unpartitioned. With `sample`, a sample of these sort keys too."""

    sample: tuple[SortKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One block per task, read whole by every task of the consumer, or gathered by one."""


@dataclass(frozen=True, slots=True)
class Hash:
    """`partitions` blocks per task; rows go by the hash of the columns `keys`, round in turn without keys."""

    keys: tuple[int, ...]
    partitions: int


@dataclass(frozen=True, slots=True)
class Range:
    """Rows go by order of `keys`, cut at boundaries.

    The stage has one ExchangeInput of mode forward whose producing stages have `Forward(sample=keys)`;
    the driver computes boundaries from the samples (`exec.ranges.boundaries`), at most `partitions - 1`
    and about one per `target_bytes` of input, and hands them to each task.
    """

    keys: tuple[SortKey, ...]
    partitions: int
    target_bytes: int


@dataclass(frozen=True, slots=True)
class Result:
    """The rows are the result: handed to the caller in order of task."""


@dataclass(frozen=True, slots=True)
class Write:
    """The rows go to a sink's staging files; the driver commits them."""

    sink: SinkSpec


Output = Forward | Broadcast | Hash | Range | Result | Write

# ---- steps ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FragmentStep:
    """A Substrait plan (or, where Substrait can't say it, SQL), executed by DataFusion.

    Attributes:
        plan: Encoded Substrait Plan whose leaves are named tables; or SQL text over them.
        inputs: Names and schemas of these tables. In the first step they are the stage's inputs, by name;
            later steps read one table: the output of the step before.
        schema: Types of the rows it gives, cast to if need be.
        streaming: True where running it on pieces of its first input and concatenating
            gives a right output of this stage (filter, project, partial aggregate, top-k, probe side of a
            broadcast join): bounded memory for any input size.
        split: Tables and their key columns. Rows with different keys never meet: where memory does not do for all,
            the step may run on parts of these tables, each with all rows of its keys, one after the other.
    """

    plan: bytes | str
    inputs: tuple[tuple[str, pa.Schema], ...]
    schema: pa.Schema
    streaming: bool
    split: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class MapStep:
    """A Python function over record batches: `map_batches`.

    Attributes:
        function: `function(batch: pa.RecordBatch) -> RecordBatch | Table | iterable of them`.
        input: Names and public types (`formats.schema.public_schema`) of the batches it is given.
        schema: Of what it returns; batches are checked and cast to it.
        batch_rows: Most rows of one call; None: as they come.
        processes: Run in a process pool, for functions that hold the GIL.
    """

    function: Callable[[pa.RecordBatch], Any]
    input: pa.Schema
    schema: pa.Schema
    batch_rows: int | None = None
    processes: bool = False


Step = FragmentStep | MapStep


class Function(Protocol):
    """A Python UDF; can be pickled. `made`, which can't, is DataFusion's ScalarUDF or AggregateUDF."""

    name: str
    made: Any
    aggregate: bool


@dataclass(frozen=True, slots=True)
class Functions:
    """Python UDFs that the plan's fragments name."""

    all: tuple[Function, ...] = ()

    def register(self, context: Any) -> None:
        """Make them known to a datafusion.SessionContext."""
        for function in self.all:
            (context.register_udaf if function.aggregate else context.register_udf)(function.made)


@dataclass(frozen=True, slots=True)
class Stage:
    """Tasks that run the same steps on different inputs.

    Attributes:
        id: Position in the plan.
        inputs: The first is the partitioned one; ScanInput only as the first. Inputs that are all of mode
            `all` (or TableInput), or no inputs: one task.
        steps: Run in order; empty: the first input's batches pass through.
        output: Where rows go.
        schema: Of the output. Columns of different stages are matched by position, not by name.
        limit: The stage's output, in task order, is needed up to this many rows only: each task may stop
            there, and no task is started once finished ones give enough. None: no limit.
        title: What it does, for people (explain, progress).
        notes: Lines for explain: what was pushed, pruned, why gathered.
    """

    id: int
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    output: Output
    schema: pa.Schema
    limit: int | None = None
    title: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in topological order; the last one gives the result (Result or Write)."""

    stages: tuple[Stage, ...]
    functions: Functions = Functions()

    @property
    def schema(self) -> pa.Schema:
        return self.stages[-1].schema

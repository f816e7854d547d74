"""Tasks and their results: what travels between a driver and its workers.

A task is pure, deterministic and safe to repeat: running it twice gives equal outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from mmflow.errors import MmflowError
from mmflow.exec.stage import Stage
from mmflow.formats import ScanReport
from mmflow.shards import FileEntry, Shard
from mmflow.sinks import StagedFile

__all__ = [
    "BlockRef",
    "BlockStore",
    "Cancelled",
    "Done",
    "Failed",
    "Kept",
    "ShardTask",
    "Task",
    "TaskId",
    "TaskMetrics",
    "TaskResult",
    "WorkerLost",
    "cut_at",
]


@dataclass(frozen=True, slots=True, order=True)
class TaskId:
    """Stage and number of a task. The order of ids is the order of outputs.

    `part`: where a task handed in before its shard's end, the rest of that is the tasks (1,), (2,), ..., in order
    behind it; the rest of (2,) is (2, 1), ...
    """

    stage: int
    number: int
    part: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """Its number among the tasks of its stage, for people and names.

        >>> TaskId(0, 7).label, TaskId(0, 7, (2, 1)).label
        ('7', '7.2.1')
        """
        return ".".join(map(str, (self.number, *self.part)))


class BlockRef(NamedTuple):
    """Record batches held by a store. `token` means something to that store only.

    A tuple, as tokens are: an exchange of m by n partitions has m n of them, and dataclasses pickle slowly.
    """

    token: Any
    rows: int
    nbytes: int


class BlockStore(Protocol):
    """Holds blocks by reference, within a budget; beyond it, on disk and mapped back."""

    def put(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> BlockRef:
        """Keep batches (they don't alias an input mapping any more) and name them.

        The iterable is consumed lazily: blocks larger than memory go to disk as they come.

        Raises:
            EngineError: No room left in memory nor on disk (says where, and which setting to change).
        """
        ...

    def get(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        """The batches of a block, without a copy: in memory, or mapped.

        Raises:
            EngineError: The block is gone or damaged.
        """
        ...

    def delete(self, ref: BlockRef) -> None:
        """Forget a block. Views that were handed out stay valid. Idempotent."""
        ...

    def close(self) -> None:
        """Delete all blocks and files. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class ShardTask:
    """The shards of a scan task.

    `files` are only those that `shards` name (Shard.file indexes into it). `starts[i]` is where
    the first record of `shards[i]` begins, None: to be guessed; `lines_before[i]` the physical lines of
    its file before that (needed by `_line` only).
    """

    files: tuple[FileEntry, ...]
    shards: tuple[Shard, ...]
    starts: tuple[int | None, ...]
    lines_before: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a stage.

    Attributes:
        attempt: 0, 1, ...; staging files carry it, so attempts never mix.
        shards: For scan stages; None else.
        blocks: For each ExchangeInput of the stage, by its name: the blocks to read, in order.
        boundaries: For output `Range`: one-row-per-cut batch of key columns; None else.
        run: Identifies the run (staging names).
        keep: Where to keep outputs for drivers to come (`exec.kept`): a path or URL without its end; "": nowhere.
    """

    id: TaskId
    stage: Stage
    attempt: int = 0
    shards: ShardTask | None = None
    blocks: dict[str, tuple[BlockRef, ...]] = field(default_factory=dict)
    boundaries: pa.RecordBatch | None = None
    run: str = ""
    keep: str = ""


def cut_at(task: Task, end: int) -> Task:
    """The task over its one shard up to `end`: gives again what a task gave that handed in there (`Done.rest`)."""
    assert task.shards is not None  # a scan
    (shard,) = task.shards.shards
    return replace(task, shards=replace(task.shards, shards=(replace(shard, end=end),)))


@dataclass(slots=True)
class TaskMetrics:
    """Rows and bytes in and out, seconds on the wall; where it ran.

    `retries`: attempts that the engine made by itself, of this task or of those whose blocks it read.
    `cached`: bytes of its shards that were in the page cache before. `anonymous`: bytes of its process at its end.
    `fetched`: bytes of remote files that came over the network for it, read ahead or not.
    """

    rows_in: int = 0
    rows_out: int = 0
    bytes_read: int = 0
    bytes_out: int = 0
    started: float = 0.0
    seconds: float = 0.0
    worker: str = ""
    reasons: tuple[str, ...] = ()
    retries: int = 0
    cached: int = 0
    anonymous: int = 0
    fetched: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What `exec.kept.keep` wrote: blocks whose tokens are `exec.kept.KeptBlock`; `outputs` as in `Done`."""

    outputs: tuple[BlockRef | None, ...]
    rejects: BlockRef | None
    sample: BlockRef | None


@dataclass(frozen=True, slots=True)
class Done:
    """The task finished.

    `outputs[p]` is the block of partition p, None if it has no rows (Forward, Broadcast, Result: one output).
    `reports` are those of its shards; a report may hold an error (see `formats.Scan`): outputs are
    then incomplete, and the driver fails the run once it knows that the shard's start was right.
    `rejects` is a block of quarantined records (schema `exec.rejects.SCHEMA`), or None.
    `sample`: rows of the sort keys for `Forward(sample=...)`. `files`: of a Write. `kept`: the outputs once more,
    where the task was asked to keep them.
    `rest`: the task was asked to hand in what it had: where the record begins that comes next in its one shard.
    """

    id: TaskId
    attempt: int
    outputs: tuple[BlockRef | None, ...] = ()
    reports: tuple[ScanReport, ...] = ()
    rejects: BlockRef | None = None
    sample: pa.RecordBatch | None = None
    files: tuple[StagedFile, ...] = ()
    metrics: TaskMetrics = field(default_factory=TaskMetrics)
    kept: Kept | None = None
    rest: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The task raised. `error.retryable` says whether to try again."""

    id: TaskId
    attempt: int
    error: MmflowError


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The worker died under the task; outputs of earlier tasks that it held are `lost`."""

    id: TaskId
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The task was cancelled before it finished."""

    id: TaskId
    attempt: int


TaskResult = Done | Failed | WorkerLost | Cancelled

"""Tasks and their results, which travel between the scheduler and workers.

A task is pure, deterministic and safe to repeat: running it twice gives equal outputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field, fields, replace

import pyarrow as pa

from mmflow.blocks.references import BlockRef, Checkpoint
from mmflow.errors import MmflowError
from mmflow.formats import ScanReport
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.stages import Stage
from mmflow.shards import FileEntry, Shard
from mmflow.sinks import StagedFile

__all__ = [
    "Cancelled",
    "Done",
    "Failed",
    "ShardTask",
    "Task",
    "TaskId",
    "TaskMetrics",
    "TaskResult",
    "WorkerLost",
]


@dataclass(frozen=True, slots=True, order=True)
class TaskId:
    """Stage and number of a task. The order of ids is the order of outputs.

    `part`: where a task stopped early, the remainder of its shard is the tasks (1,), (2,), ..., in order behind it; the
    remainder of (2,) is (2, 1), ...
    """

    stage: int
    number: int
    part: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """Number among the tasks of its stage, for people and names.

        >>> TaskId(0, 7).label, TaskId(0, 7, (2, 1)).label
        ('7', '7.2.1')
        """
        return ".".join(map(str, (self.number, *self.part)))


@dataclass(frozen=True, slots=True)
class ShardTask:
    """Shards of a scan task. `files` are only those that `shards` name (`Shard.file` indexes into it)."""

    files: tuple[FileEntry, ...]
    shards: tuple[Shard, ...]

    def cut_at(self, end: int) -> ShardTask:
        """Return the task with its one shard ending at `end`, where it stopped early before (`Done.resume_offset`)."""
        (shard,) = self.shards
        return replace(self, shards=(replace(shard, end=end),))


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a stage.

    Attributes:
        attempt: 0, 1, ...; staging files carry it, so attempts never mix.
        shards: Shards of a scan; None in other stages.
        blocks: Blocks to read, in order, by name of the stage's ExchangeInput.
        boundaries: Key columns with one row per cut, for output `Range`; None for other outputs.
        run: Id of the run, for names in staging.
        checkpoint_path: Path or URL, without suffix, of the checkpoint (`blocks.checkpoints`); "": none is written.
        stops_on_drain: Whether it stops after its current batch when its worker is about to leave, and returns what it
            has (`Done.resume_offset`). What it returns is then kept elsewhere.
    """

    id: TaskId
    stage: Stage
    attempt: int = 0
    shards: ShardTask | None = None
    blocks: dict[str, tuple[BlockRef, ...]] = field(default_factory=dict)
    boundaries: pa.RecordBatch | None = None
    run: str = ""
    checkpoint_path: str = ""
    stops_on_drain: bool = False


_NOT_SUMMED = {"started", "worker", "reasons", "retries", "anonymous"}


@dataclass(slots=True)
class TaskMetrics:
    """Rows and bytes in and out, seconds of wall-clock time, and the worker of a task.

    `retries`: attempts that the engine made by itself, of this task or of those whose blocks it read.
    `cached`: bytes of its shards that were in the page cache before. `anonymous`: bytes of its process at its end.
    `from_cache`: bytes of decoded columns that were read from the cache instead of the text.
    `fetched`: bytes of remote files that came over the network for it, read ahead or not. `faults`: page faults of the
    thread that ran it.
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
    from_cache: int = 0
    faults: int = 0

    def add(self, other: TaskMetrics) -> None:
        """Add the counts of another task."""
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_SUMMED = tuple(f.name for f in fields(TaskMetrics) if f.name not in _NOT_SUMMED)


@dataclass(frozen=True, slots=True)
class Done:
    """Result of a task that finished.

    `outputs[p]` is the block of partition p, None if it has no rows (Forward, Broadcast, Result: one output).
    `reports` are those of its shards, or one of the files that it read whole; a report may hold an error (see
    `formats.Scan`): outputs are then incomplete, and the scheduler fails the run once the start of the shard is
    verified.
    `rejects` is a block of quarantined records (schema `formats.rejects.REPORTED`), or None.
    `sample`: rows of the sort keys for `Forward(sample=...)`. `files`: of a Write. `checkpoint`: the outputs once
    more, where the task was asked to write one.
    `resume_offset`: byte offset of the next record of its one shard, where the task stopped early: by request, or since
    its worker leaves. `remainder`: byte ranges of the tasks that read the shard from there on, once it was cut.
    """

    id: TaskId
    attempt: int
    outputs: tuple[BlockRef | None, ...] = ()
    reports: tuple[ScanReport, ...] = ()
    rejects: BlockRef | None = None
    sample: pa.RecordBatch | None = None
    files: tuple[StagedFile, ...] = ()
    metrics: TaskMetrics = field(default_factory=TaskMetrics)
    checkpoint: Checkpoint | None = None
    resume_offset: int | None = None
    remainder: tuple[tuple[int, int], ...] = ()

    @property
    def blocks(self) -> list[BlockRef]:
        """All blocks of the result."""
        return [ref for ref in (*self.outputs, self.rejects) if ref is not None]

    @property
    def rows(self) -> int:
        """Number of rows that the task gave or wrote."""
        return sum(ref.rows for ref in self.outputs if ref is not None) + sum(f.rows for f in self.files)

    def with_blocks(self, blocks: Iterable[BlockRef]) -> Done:
        """Return the result with others in the place of `blocks`, in the same order."""
        others = iter(blocks)
        outputs = tuple(None if ref is None else next(others) for ref in self.outputs)
        return replace(self, outputs=outputs, rejects=None if self.rejects is None else next(others))


@dataclass(frozen=True, slots=True)
class Failed:
    """Result of a task that raised. `error.retryable` says whether to run another attempt."""

    id: TaskId
    attempt: int
    error: MmflowError


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """Result of a task whose worker died."""

    id: TaskId
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Result of a task that was cancelled before it finished."""

    id: TaskId
    attempt: int


TaskResult = Done | Failed | WorkerLost | Cancelled

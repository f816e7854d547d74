"""Partitions of a plan for the schedulers of others, which say where and when each is read.

    group 0   read --> rows, reports -----------------------> rows
                              settle --> prefix
    group 1   read --> rows, reports      |                     (guessed right)
                              settle <----+ --> prefix, rows --> rows
                                                                (read again)

A shard in the middle of a text guesses where its first record begins. So what was read of it counts once the shards
before it are settled, by the same boundary check as in runs of mmflow: what goes from one to the next is an offset.

Invariant: a reader can be pickled, and reads the same rows wherever it is sent.
"""

from __future__ import annotations

import contextlib
import platform
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pyarrow as pa

from mmflow.blocks.references import BlockRef
from mmflow.config import Settings
from mmflow.engines.loop import plan_inputs, plan_sources
from mmflow.engines.messages import (
    Payload,
    StageCode,
    load_stage,
    pack_stage,
    pack_task,
    read_block,
    stream_task,
    task_memory,
)
from mmflow.errors import BlockLostError
from mmflow.formats import ScanReport
from mmflow.formats.decoding.compact import rename_columns
from mmflow.formats.schemas.arrow_types import public_batch
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.stages import Functions, Plan, ScanInput, Stage, TableInput
from mmflow.plan.tasks import Done, Failed, ShardTask, Task, TaskId, TaskResult
from mmflow.scheduler.scans import ShardGroup, shard_task
from mmflow.shards import BoundaryCheck, FileEntry, Shard, StartMismatch, VerifiedPrefix
from mmflow.streams import stream_of

__all__ = ["Partition", "PartitionReader", "PartitionedPlan", "Reading", "Settled", "partitioned"]

_START = VerifiedPrefix()


@dataclass(frozen=True, slots=True)
class Partition:
    """Part of a plan's rows.

    Attributes:
        number: Its place in their order.
        shards: Shards that it reads; None: rows in the plan itself.
        begins: Whether a file begins with it, so that it needs nothing of the partition before.
        ends: Whether its file ends with it.
    """

    number: int
    shards: ShardTask | None
    begins: bool = True
    ends: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """Rows of a partition, as far as its guesses are right, and what the scan says about them."""

    rows: pa.Table
    reports: tuple[ScanReport, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """Verified part of a file up to a partition. `rows`: those of the partition, if it had to be read again."""

    prefix: VerifiedPrefix
    rows: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class PartitionReader:
    """Reader of the partitions of a plan, to be sent to where they are read.

    Attributes:
        schema: Names and public types of the rows.
    """

    schema: pa.Schema
    _code: StageCode
    _settings: Settings
    _names: pa.Schema
    _is_text: bool

    def read(self, partition: Partition) -> Reading:
        """Read a partition, whose first record may be guessed.

        Raises:
            MmflowError: Reading or computing fails; bad records are errors of `settle`.
        """
        number = TaskId(0, partition.number)
        task = Task(number, self._stage()[0], 0, partition.shards, run=self._code.key)
        memory = task_memory(self._settings)
        message = pack_task(task, lambda ref: ref, self._code, self._settings, memory)
        steps = stream_task(message, self._stage(), _no_blocks, threading.Event(), platform.node())
        with contextlib.closing(steps):
            result = cast(TaskResult, next(steps))
            if isinstance(result, Failed):
                raise result.error
            assert isinstance(result, Done)  # nothing cancels it
            buffers = [b for payload in steps for b in cast(Payload, payload)]
        batches = [
            public_batch(rename_columns(batch, self._names), self.schema)
            for ref, buffer in zip(result.blocks, buffers, strict=True)
            if ref in result.outputs
            for batch in read_block(buffer, ref.rows)
        ]
        return Reading(pa.Table.from_batches(batches, schema=self.schema), result.reports)

    def settle(
        self, partition: Partition, reports: Sequence[ScanReport], before: VerifiedPrefix | None
    ) -> Settled:
        """Check that what was read of a partition continues the partition before it; read it again if not.

        Args:
            partition: The partition.
            reports: Reports of its reading.
            before: Verified part of the file before it; None: the file begins with it.

        Raises:
            BadRecordError: The first bad record of the file, with its line.
            SourceError: Records are missing or overlap.
        """
        prefix, again = before or _START, None
        files, shards = ((), ()) if partition.shards is None else _parts(partition.shards)
        for number, shard in enumerate(shards):
            file = files[shard.file]
            check = BoundaryCheck(file.path, verified=_START if number or partition.begins else prefix)
            report = reports[number]
            found = check.verify(shard, report)
            if isinstance(found, StartMismatch):
                known = check.known(shard)
                again = self.read(replace(partition, shards=ShardTask(files, (known,))))
                report = again.reports[0]
                found = check.verify(known, report)
                assert not isinstance(found, StartMismatch)  # it began where it had to
            if report.error is not None:
                before_it = {"records_before": found.records_before, "lines_before": found.lines_before}
                raise report.error.located(**before_it)
            if partition.ends or number + 1 < len(shards):
                check.finish(file.identity.size)
            prefix = check.verified
        return Settled(prefix, None if again is None else again.rows)

    def rows(self, partition: Partition) -> pa.Table:
        """Return the rows of a partition, where none is guessed. Raises as `read` and `settle`."""
        reading = self.read(partition)
        if self._is_text:
            self.settle(partition, reading.reports, None)
        return reading.rows

    def _stage(self) -> tuple[Stage, Functions]:
        known = load_stage(self._code.key, self._code.code)
        assert known is not None  # there is its code
        return known


@dataclass(frozen=True, slots=True)
class PartitionedPlan:
    """Plan whose partitions can be read one by one.

    Attributes:
        reader: Reader of each of them.
        partitions: They, in the order of their rows.
        guesses: Whether they may begin in the wrong place, which `settle` finds; else `rows` returns their rows.
    """

    reader: PartitionReader
    partitions: tuple[Partition, ...]
    guesses: bool


def partitioned(plan: Plan, settings: Settings, schema: pa.Schema) -> PartitionedPlan | None:
    """Return a plan by its partitions; None: they depend on one another, so that the plan has to run.

    Args:
        plan: Plan whose rows are a result.
        settings: Settings by which its files are cut.
        schema: Names and public types of the rows.
    """
    if len(plan.stages) != 1 or len(plan.stages[0].inputs) != 1 or plan.stages[0].limit is not None:
        return None
    (stage,), (given,) = plan.stages, plan.stages[0].inputs
    partitions: tuple[Partition, ...] = (Partition(0, None),)
    is_text = False
    match given:
        case TableInput():
            pass
        case ScanInput():
            made = given.source.format
            # A run counts lines before it reads, keeps bad records, and reads streams as they come.
            if "_line" in given.columns or getattr(made, "on_bad_record", "error") != "error":
                return None
            if any(stream_of(path) is not None for path in given.files):
                return None
            source = plan_sources(plan, settings, plan_inputs(plan))[stage.id]
            partitions = _partitions(list(source.groups) or [()], source.files)
            is_text = made.record_oriented
            # Each partition has its own files: the reader, which is sent with each, has none.
            bare = replace(given, source=replace(given.source, files=()))
            stage = replace(stage, inputs=(bare,))
        case _:
            return None
    code = pack_stage(stage, plan.functions, "partitions")
    reader = PartitionReader(schema, code, settings, plan.schema, is_text)
    return PartitionedPlan(reader, partitions, is_text and not all(p.begins for p in partitions))


def _partitions(groups: Sequence[ShardGroup], files: Sequence[FileEntry]) -> tuple[Partition, ...]:
    firsts = [group[0].file if group else -1 for group in groups]
    lasts = [group[-1].file if group else -1 for group in groups]
    return tuple(
        Partition(
            number,
            shard_task(group, files),
            begins=number == 0 or lasts[number - 1] != firsts[number],
            ends=number + 1 == len(groups) or firsts[number + 1] != lasts[number],
        )
        for number, group in enumerate(groups)
    )


def _parts(task: ShardTask) -> tuple[tuple[FileEntry, ...], tuple[Shard, ...]]:
    return task.files, task.shards


def _no_blocks(ref: BlockRef) -> pa.Buffer:
    raise BlockLostError("a partition reads no blocks", block=ref)

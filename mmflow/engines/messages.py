"""Messages between the driver and the workers of a cluster, whatever the cluster, and how a worker handles one.

    driver                                   worker
    TaskMessage (task, stage by number) -->  run_task over a RemoteStore
    result, with MessageBlocks          <--  blocks as buffers, grouped into payloads: objects, or one file

A block travels as the bytes of an Arrow IPC stream, which readers alias: out of an object store or a mapped file it
is never copied. Outputs of a task are grouped into a bounded number of payloads of some size, so that an exchange of m
by n partitions is O(m) objects, not O(m n).

Invariant: a worker holds its outputs once. A block is dropped as it becomes bytes, a payload as it is handed over.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import pyarrow as pa

from mmflow.blocks import LocalStore, RunFolder, run_folders, sweep
from mmflow.blocks.checkpoints import read_checkpoint
from mmflow.blocks.references import BlockRef, CheckpointBlock, LocalBlock, MessageBlock
from mmflow.blocks.streams import DamagedError, stream_batches
from mmflow.config import Settings
from mmflow.engines.placement import seen_here
from mmflow.engines.versions import check_same, versions
from mmflow.errors import BlockLostError, ConfigError, EngineError, UserFunctionError
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import Io
from mmflow.mapping.system.host import read_boot_id
from mmflow.plan.fingerprint import digest
from mmflow.plan.stages import Functions, Stage
from mmflow.plan.tasks import Done, Failed, ShardTask, Task, TaskId, TaskResult
from mmflow.remote.options import RemoteOptions
from mmflow.usercode.shipped import dumps
from mmflow.worker.context import Flag, WorkerContext
from mmflow.worker.heap import HeapWatch, release_memory
from mmflow.worker.task_runner import run_task

__all__ = [
    "DriverStore",
    "Payload",
    "StageCode",
    "TaskMessage",
    "count_payloads",
    "first_line",
    "load_stage",
    "pack_stage",
    "pack_task",
    "read_block",
    "stream_task",
    "sweep_until_clean",
    "task_memory",
]

#: Blocks as the bytes of IPC streams.
Payload = list[pa.Buffer]

#: Payloads of one task at most. More of them move fewer bytes that a reader does not want; each costs the driver
#: about as much as a task does.
_PAYLOADS = 16
#: Less than this is not worth an object of its own.
_PAYLOAD_BYTES = 256 << 10
_CACHED_STAGES = 64


@dataclass(frozen=True, slots=True)
class StageCode:
    """Stage and its functions, pickled once for all of its tasks. `key` names it in the caches of workers."""

    key: str
    code: bytes


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """Task as it is sent: fields of `Task`, with references that the worker can read, and without its stage.

    Attributes:
        key: Key of its stage (`StageCode`).
        memory: Bytes of memory that it may use.
        io: auto, mmap or pread.
        spill_dir: Folder for what does not fit in memory.
        host: Host of the driver (`mapping.system.host.read_boot_id`).
        remote_options: Options of remote files.
        versions: Versions of the driver.
    """

    id: TaskId
    attempt: int
    shards: ShardTask | None
    blocks: dict[str, tuple[BlockRef, ...]]
    boundaries: pa.RecordBatch | None
    run: str
    checkpoint_path: str
    stops_on_drain: bool
    key: str
    memory: int
    io: Io
    spill_dir: str
    host: str
    remote_options: RemoteOptions
    versions: Mapping[str, str]

    def task(self, stage: Stage) -> Task:
        """Return the task, whose files have the identities that they have here."""
        shards = None if self.shards is None else seen_here(self.shards, self.host)
        return Task(
            self.id, stage, self.attempt, shards, self.blocks, self.boundaries, self.run, self.checkpoint_path,
            self.stops_on_drain,
        )  # fmt: skip


def count_payloads(stage: Stage) -> int:
    """Return the number of payloads of a task of this stage."""
    partitions = getattr(stage.output, "partitions", 1)
    return min(_PAYLOADS, partitions)


def pack_stage(stage: Stage, functions: Functions, run: str) -> StageCode:
    """Pickle a stage.

    Functions travel by value, with the user's modules that they use or import: these are not on the workers' path.

    Raises:
        UserFunctionError: A function can't be pickled.
    """
    try:
        code = dumps((stage, functions))
    except Exception as error:  # whatever an object's own pickling raises
        raise UserFunctionError(
            f"a function of stage {stage.id} ({stage.title}) can't be sent to workers: {type(error).__name__}: "
            f"{error}; let it not hold open files, locks or connections"
        ) from error
    # By content: a run that is resumed has the same name, and may meet workers that know its earlier stages.
    return StageCode(f"{run}-{stage.id}-{hashlib.blake2b(code, digest_size=8).hexdigest()}", code)


def first_line(error: object) -> str:
    """Return the first line of an error's text, or its class."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


# ---- in workers -------------------------------------------------------------------------------------------

_stages: OrderedDict[str, tuple[Stage, Functions]] = OrderedDict()
_stages_lock = threading.Lock()


def load_stage(key: str, code: bytes | None) -> tuple[Stage, Functions] | None:
    """Return a stage from this process's cache, or from its code; None: it is not cached, and there is no code."""
    with _stages_lock:
        known = _stages.get(key)
        if known is not None:
            _stages.move_to_end(key)
            return known
    if code is None:
        return None
    made = cast("tuple[Stage, Functions]", pickle.loads(code))
    with _stages_lock:
        _stages[key] = made
        while len(_stages) > _CACHED_STAGES:
            _stages.popitem(last=False)
    return made


class RemoteStore:
    """`BlockStore` of one task: reads the blocks that it was sent, and holds its outputs until they are handed over.

    Args:
        fetch: Returns the bytes of a block that was sent.
        outputs: Store of the outputs.
    """

    def __init__(self, fetch: Callable[[BlockRef], pa.Buffer], outputs: LocalStore) -> None:
        self._fetch = fetch
        self._outputs = outputs

    def put(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> BlockRef:
        return self._outputs.put(batches, schema)

    def get(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        if isinstance(ref, LocalBlock | CheckpointBlock):
            return self._outputs.get(ref)
        try:
            return read_block(self._fetch(ref), ref.rows)
        except BlockLostError as error:
            raise BlockLostError(error.message, block=ref) from error

    def delete(self, ref: BlockRef) -> None:
        """Forget an output. Blocks that were sent belong to the driver."""
        if isinstance(ref, LocalBlock):
            self._outputs.delete(ref)


def read_block(buffer: pa.Buffer, rows: int) -> list[pa.RecordBatch]:
    """Return the batches of a block of so many rows, over its bytes.

    Raises:
        BlockLostError: They are not what was put there.
    """
    try:
        return stream_batches(buffer, rows)
    except DamagedError as error:
        raise BlockLostError(f"a block of intermediate rows is damaged: {error}") from error


class DriverStore:
    """`BlockStore` of the driver of a cluster: it reads results, and drops references."""

    def read(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        """Return the batches of a block of the cluster.

        Raises:
            EngineError: It is lost.
        """
        raise NotImplementedError

    def put(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> BlockRef:
        raise EngineError("bug: the driver of a cluster puts no blocks")

    def get(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        return read_checkpoint(ref) if isinstance(ref, CheckpointBlock) else self.read(ref)

    def delete(self, ref: BlockRef) -> None:
        """Do nothing: blocks without references go by themselves."""


def stream_task(
    message: TaskMessage,
    known: tuple[Stage, Functions],
    fetch: Callable[[BlockRef], pa.Buffer],
    cancelled: Flag,
    node: str,
    stop_request: Flag | None = None,
    interruptible: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Generator[TaskResult | Payload, None, None]:
    """Run a task, and hand over its result and payloads one by one.

    Args:
        message: The task.
        known: Stage of the task (`load_stage`).
        fetch: Returns the bytes of a block that the task was sent; raises `BlockLostError`.
        cancelled: Flag that cancels the task.
        node: Name of this machine, for messages and metrics.
        stop_request: Flag that asks the task to stop early (`WorkerContext.stop_request`); None: it is never asked.
        interruptible: Makes the context in which KeyboardInterrupt may be raised: the task's own work, not the making
            and removing of its folder.

    Yields:
        The result, then its payloads, as many as `count_payloads` says; all its blocks, in its order.
    """
    stage, functions = known
    task = message.task(stage)
    sweep(message.spill_dir)
    folder = RunFolder(message.spill_dir, task.run)
    outputs = LocalStore(message.memory // 4, folder)
    try:
        folder.make()
        context = WorkerContext(
            store=RemoteStore(fetch, outputs),
            memory=max(1 << 20, message.memory // 2),
            io=message.io,
            folder=folder,
            cancelled=cancelled,
            worker=f"{node}:{os.getpid()}",
            stop_request=stop_request,
            remote_options=message.remote_options,
            heap=HeapWatch(message.memory),
        )
        other = _check_versions(message, node) or _check_environment(functions, node)
        with interruptible():
            result = (
                run_task(task, functions, context) if other is None else Failed(task.id, task.attempt, other)
            )
        groups: list[list[BlockRef]] = [[] for _ in range(count_payloads(stage))]
        if isinstance(result, Done):
            result = _group_blocks(result, groups)
        yield result
        for group in groups:
            yield [_take_buffer(outputs, ref) for ref in group]
    finally:
        # Buffers of spilled blocks are mapped: they outlive their files.
        outputs.close()
        # Allocators keep it for the next task, which may run in another process.
        release_memory()


def _check_versions(message: TaskMessage, node: str) -> EngineError | None:
    """Return the error for a worker, which may have joined in the middle of the run, with other versions."""
    try:
        check_same(versions(), f"worker {node}", here=message.versions)
    except EngineError as error:
        return error
    return None


def _check_environment(functions: Functions, node: str) -> ConfigError | None:
    """Return the error that says that a variable of the job's has another value here; None: all are the same."""
    for name, known in functions.environment:
        if digest(os.environ.get(name)) != known:
            here = "has another value than" if name in os.environ else "is not set, as it is"
            return ConfigError(
                f"on worker {node}, environment variable {name}, which the job declares, {here} where the job was "
                "started: set it alike, or read it in the job and let functions hold the value"
            )
    return None


def _take_buffer(outputs: LocalStore, ref: BlockRef) -> pa.Buffer:
    buffer = outputs.exported(ref)
    outputs.delete(ref)
    return buffer


def _group_blocks(done: Done, groups: list[list[BlockRef]]) -> Done:
    """Put blocks into groups of about equal size, neighbours together: most readers want one, some a run of them."""
    total = max(1, sum(ref.nbytes for ref in done.blocks))
    count = max(1, min(len(groups), total // _PAYLOAD_BYTES))
    before = 0
    grouped: list[BlockRef] = []
    for ref in done.blocks:
        number = min(count - 1, before * count // total)
        before += ref.nbytes
        grouped.append(MessageBlock(number, len(groups[number]), ref.rows, ref.nbytes))
        groups[number].append(ref)
    return done.with_blocks(grouped)


def sweep_until_clean(spill_dir: str, run: str, seconds: float) -> bool:
    """Remove the folders that killed workers of a run left on this machine; wait for those of dying ones.

    Returns:
        Whether nothing is left.
    """
    deadline = time.monotonic() + seconds
    while True:
        sweep(spill_dir)
        if not run_folders(spill_dir, run):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def pack_task(
    task: Task, send: Callable[[BlockRef], BlockRef], code: StageCode, settings: Settings, memory: int
) -> TaskMessage:
    """Return the message of a task with its share of memory; `send` returns the reference by which a worker reads."""
    return TaskMessage(
        task.id,
        task.attempt,
        task.shards,
        {name: tuple(map(send, refs)) for name, refs in task.blocks.items()},
        task.boundaries,
        task.run,
        task.checkpoint_path,
        task.stops_on_drain,
        code.key,
        memory,
        settings.io,
        os.fspath(settings.spill_dir),
        read_boot_id(),
        settings.remote_options,
        versions(),
    )


def task_memory(settings: Settings) -> int:
    """Return a task's share of the memory, in bytes."""
    return max(2 << 20, settings.memory // settings.workers)

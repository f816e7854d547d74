"""One task in a worker of a cluster, whatever the cluster: what is sent, what comes back.

    driver                              worker
    Parcel (task, stage by number) -->  run_task over a RemoteStore
    Reply: Done with Tokens        <--  blocks as buffers, grouped into payloads: objects, or files in shared memory

A block travels as the bytes of an Arrow IPC stream, which readers alias: out of an object store or a mapped file it
is never copied. Outputs of a task are grouped into a bounded number of payloads, so that an exchange of m by n
partitions is O(m) objects, not O(m n).
"""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import platform
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import cloudpickle
import pyarrow as pa

from mmflow.config import Settings
from mmflow.errors import BlockLostError, UserFunctionError
from mmflow.exec.context import WorkerContext
from mmflow.exec.runner import run_task
from mmflow.exec.stage import Functions, Stage
from mmflow.exec.task import BlockRef, Done, Task, TaskResult
from mmflow.mapping import Io
from mmflow.store import LocalStore, RunFolder, sweep

__all__ = [
    "Keep",
    "Parcel",
    "Reply",
    "StageCode",
    "Token",
    "known_blocks",
    "learned",
    "pack_stage",
    "parcel_of",
    "read_block",
    "run_parcel",
    "task_memory",
    "versions",
]

_STAGES_KEPT = 64


class Token(NamedTuple):
    """Where a block is: which of the payloads that came with the task (or are known to the driver), and where in it."""

    payload: Any
    slot: Any


#: Takes the number of outputs, and blocks with the numbers of their outputs, as the bytes of IPC streams; keeps
#: them where others can read them, and says where, in order.
Keep = Callable[[int, Iterator[tuple[int, pa.Buffer]]], list[Token]]


@dataclass(frozen=True, slots=True)
class StageCode:
    """A stage and its functions, pickled once for all of its tasks. `key` names it in the caches of workers."""

    key: str
    code: bytes


@dataclass(frozen=True, slots=True)
class Parcel:
    """A task as it is sent: its stage apart, its blocks by number among the objects that are sent with it."""

    task: Task
    key: str
    memory: int
    io: str
    spill_dir: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A task's result; its blocks' tokens have the number of the payload that holds them."""

    result: TaskResult
    node: str


def pack_stage(stage: Stage, functions: Functions, run: str) -> StageCode:
    """Pickle a stage.

    Functions of a job file travel by value: the file is not on the workers' path.

    Raises:
        UserFunctionError: A function can't be pickled.
    """
    jobs = [m for name, m in list(sys.modules.items()) if name.startswith("mmflow_job_")]
    for module in jobs:
        cloudpickle.register_pickle_by_value(module)
    try:
        code = bytes(cloudpickle.dumps((stage, functions)))
    except Exception as error:  # whatever an object's own pickling raises
        raise UserFunctionError(
            f"a function of stage {stage.id} ({stage.title}) can't be sent to workers: {type(error).__name__}: "
            f"{error}; let it not hold open files, locks or connections"
        ) from error
    finally:
        for module in jobs:
            cloudpickle.unregister_pickle_by_value(module)
    return StageCode(f"{run}-{stage.id}", code)


def versions() -> dict[str, str]:
    """What driver and workers must have in common."""
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "mmflow": importlib.metadata.version("mmflow"),
        "pyarrow": pa.__version__,
        "datafusion": importlib.metadata.version("datafusion"),
    }


# ---- in workers -------------------------------------------------------------------------------------------

_stages: OrderedDict[str, tuple[Stage, Functions]] = OrderedDict()
_stages_lock = threading.Lock()


def learned(key: str, code: bytes | None) -> tuple[Stage, Functions] | None:
    """A stage that this process knows, or knows from now on by its code; None: it does not, and there is no code."""
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
        while len(_stages) > _STAGES_KEPT:
            _stages.popitem(last=False)
    return made


class RemoteStore:
    """The `BlockStore` of one task: reads the blocks it was sent, and keeps what it puts until it is handed back.

    Args:
        fetch: Gives a block's bytes.
        kept: Holds what is put.
    """

    def __init__(self, fetch: Callable[[Token], pa.Buffer], kept: LocalStore) -> None:
        self._fetch = fetch
        self._kept = kept

    def put(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> BlockRef:
        """See `BlockStore.put`."""
        return self._kept.put(batches, schema)

    def get(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        """See `BlockStore.get`."""
        if not isinstance(ref.token, Token):
            return self._kept.get(ref)
        return read_block(self._fetch(ref.token), ref)

    def delete(self, ref: BlockRef) -> None:
        """See `BlockStore.delete`. What was sent belongs to the driver."""
        if not isinstance(ref.token, Token):
            self._kept.delete(ref)

    def close(self) -> None:
        """See `BlockStore.close`."""
        self._kept.close()


def read_block(buffer: pa.Buffer, ref: BlockRef) -> list[pa.RecordBatch]:
    """The batches of a block, over its bytes.

    Raises:
        BlockLostError: They are not what was put there.
    """
    try:
        batches = list(pa.ipc.open_stream(buffer))
    except (pa.ArrowInvalid, OSError) as error:
        raise BlockLostError(
            f"a block of intermediate rows is damaged: {error}", payload=ref.token.payload
        ) from error
    if sum(b.num_rows for b in batches) != ref.rows:
        raise BlockLostError(
            f"a block of intermediate rows doesn't hold the {ref.rows:,} rows that were put there",
            payload=ref.token.payload,
        )
    return batches


def run_parcel(
    parcel: Parcel,
    known: tuple[Stage, Functions],
    fetch: Callable[[Token], pa.Buffer],
    keep: Keep,
    cancelled: Any,
    node: str,
) -> Reply:
    """Run a task.

    Args:
        parcel: The task.
        known: Its stage (`learned`).
        fetch: Gives the bytes of a block that the task was sent; raises `BlockLostError`.
        keep: Keeps the blocks that the task gives.
        cancelled: Its `is_set` says whether to stop.
        node: This machine, for messages and metrics.
    """
    stage, functions = known
    task = replace(parcel.task, stage=stage)
    sweep(parcel.spill_dir)
    folder = RunFolder(parcel.spill_dir, task.run)
    kept = LocalStore(parcel.memory // 4, folder)
    try:
        context = WorkerContext(
            store=RemoteStore(fetch, kept),
            memory=max(1 << 20, parcel.memory // 2),
            io=cast(Io, parcel.io),
            spill=folder.path,
            cancelled=cancelled,
            worker=f"{node}:{os.getpid()}",
        )
        result = run_task(task, functions, context)
        if isinstance(result, Done):
            result = _handed_back(result, kept, keep)
        return Reply(result, node)
    finally:
        # Buffers of spilled blocks are mapped: they outlive their files.
        kept.close()


def _handed_back(done: Done, kept: LocalStore, keep: Keep) -> Done:
    refs = [(number, ref) for number, ref in enumerate((*done.outputs, done.rejects)) if ref is not None]

    def exported() -> Iterator[tuple[int, pa.Buffer]]:
        for number, ref in refs:
            block = kept.exported(ref)
            kept.delete(ref)  # else all blocks would be held twice
            yield number, block

    given: list[BlockRef | None] = [None] * (len(done.outputs) + 1)
    for (number, ref), token in zip(refs, keep(len(given), exported()), strict=True):
        given[number] = BlockRef(token, ref.rows, ref.nbytes)
    return replace(done, outputs=tuple(given[:-1]), rejects=given[-1])


def parcel_of(task: Task, code: StageCode, settings: Settings) -> tuple[Parcel, list[Any]]:
    """A task as it is sent, and the payloads of its blocks, which the parcel's tokens number."""
    sent, payloads = _numbered(task)
    parcel = Parcel(
        replace(sent, stage=cast(Stage, None)),
        code.key,
        task_memory(settings),
        settings.io,
        os.fspath(settings.spill_dir),
    )
    return parcel, payloads


def task_memory(settings: Settings) -> int:
    """A task's share of the memory, in bytes."""
    return max(2 << 20, settings.memory // settings.workers)


def _numbered(task: Task) -> tuple[Task, list[Any]]:
    payloads: dict[Any, int] = {}

    def number(ref: BlockRef) -> BlockRef:
        known = payloads.setdefault(ref.token.payload, len(payloads))
        return BlockRef(Token(known, ref.token.slot), ref.rows, ref.nbytes)

    blocks: Mapping[str, tuple[BlockRef, ...]] = {
        k: tuple(map(number, refs)) for k, refs in task.blocks.items()
    }
    return replace(task, blocks=dict(blocks)), list(payloads)


def known_blocks(done: Done, payloads: Sequence[Any]) -> Done:
    """A result whose tokens name the payloads as the driver knows them."""

    def named(ref: BlockRef | None) -> BlockRef | None:
        if ref is None:
            return None
        return BlockRef(Token(payloads[ref.token.payload], ref.token.slot), ref.rows, ref.nbytes)

    return replace(done, outputs=tuple(map(named, done.outputs)), rejects=named(done.rejects))

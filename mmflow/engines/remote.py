"""One task in a worker of a cluster, whatever the cluster: what is sent, what comes back.

    driver                              worker
    Parcel (task, stage by number) -->  run_task over a RemoteStore
    Reply: Done with Tokens        <--  blocks as buffers, grouped into payloads: objects, or a file in shared memory

A block travels as the bytes of an Arrow IPC stream, which readers alias: out of an object store or a mapped file it
is never copied. Outputs of a task are grouped into a bounded number of payloads of some size, so that an exchange of m
by n partitions is O(m) objects, not O(m n).

Invariant: a worker holds its outputs once. A block is let go of as it becomes bytes, a payload as it is handed over.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pickle
import platform
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import cloudpickle
import pyarrow as pa

from mmflow.config import Settings
from mmflow.engines.placement import seen_here
from mmflow.engines.user_modules import user_modules
from mmflow.errors import BlockLostError, UserFunctionError
from mmflow.exec.context import WorkerContext
from mmflow.exec.heap import HeapWatch, give_back
from mmflow.exec.kept import KeptBlock
from mmflow.exec.runner import run_task
from mmflow.exec.stage import Functions, Stage
from mmflow.exec.streams import DamagedError, stream_batches
from mmflow.exec.task import BlockRef, Done, Task, TaskResult
from mmflow.mapping import Io
from mmflow.mapping.host import boot_id
from mmflow.remote.reach import Reach
from mmflow.store import LocalStore, RunFolder, run_folders, sweep

__all__ = [
    "Parcel",
    "Payload",
    "Reply",
    "StageCode",
    "Token",
    "first_line",
    "known_blocks",
    "learned",
    "pack_stage",
    "parcel_of",
    "payloads_of",
    "read_block",
    "relocated",
    "stream_parcel",
    "swept",
    "task_memory",
    "versions",
]

#: Blocks as the bytes of IPC streams.
Payload = list[pa.Buffer]

#: Payloads of one task at most. More of them move fewer bytes that a reader does not want; each costs the driver
#: about as much as a task does.
_PAYLOADS = 16
#: Less than this is not worth an object of its own.
_PAYLOAD_BYTES = 256 << 10
_STAGES_KEPT = 64


class Token(NamedTuple):
    """Where a block is: which of the payloads that came with the task (or are known to the driver), and where in it."""

    payload: Any
    slot: Any


@dataclass(frozen=True, slots=True)
class StageCode:
    """A stage and its functions, pickled once for all of its tasks. `key` names it in the caches of workers."""

    key: str
    code: bytes


@dataclass(frozen=True, slots=True)
class Parcel:
    """A task as it is sent: its stage apart, its blocks by number among the objects that are sent with it.

    `host`: where it was planned (`mapping.host.boot_id`).
    """

    task: Task
    key: str
    memory: int
    io: str
    spill_dir: str
    host: str
    reach: Reach


@dataclass(frozen=True, slots=True)
class Reply:
    """A task's result; its blocks' tokens have the number of the payload that holds them."""

    result: TaskResult
    node: str


def payloads_of(stage: Stage) -> int:
    """How many payloads a task of this stage gives."""
    partitions = getattr(stage.output, "partitions", 1)
    return min(_PAYLOADS, partitions)


def pack_stage(stage: Stage, functions: Functions, run: str) -> StageCode:
    """Pickle a stage.

    Functions travel by value, with the user's modules that they use: these are not on the workers' path.

    Raises:
        UserFunctionError: A function can't be pickled.
    """
    modules = user_modules()
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        code = bytes(cloudpickle.dumps((stage, functions)))
    except Exception as error:  # whatever an object's own pickling raises
        raise UserFunctionError(
            f"a function of stage {stage.id} ({stage.title}) can't be sent to workers: {type(error).__name__}: "
            f"{error}; let it not hold open files, locks or connections"
        ) from error
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    # By content: a run that is resumed has the same name, and may meet workers that know its earlier stages.
    return StageCode(f"{run}-{stage.id}-{hashlib.blake2b(code, digest_size=8).hexdigest()}", code)


def first_line(error: Any) -> str:
    """The first line of an error's text, or its name."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


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
        return stream_batches(buffer, ref.rows)
    except DamagedError as error:
        raise BlockLostError(
            f"a block of intermediate rows is damaged: {error}", payload=ref.token.payload
        ) from error


def stream_parcel(
    parcel: Parcel,
    known: tuple[Stage, Functions],
    fetch: Callable[[Token], pa.Buffer],
    cancelled: Any,
    node: str,
    hand_in: Any = None,
) -> Generator[Reply | Payload, None, None]:
    """Run a task, and hand over what it made piece by piece.

    Args:
        parcel: The task.
        known: Its stage (`learned`).
        fetch: Gives the bytes of a block that the task was sent; raises `BlockLostError`.
        cancelled: Its `is_set` says whether to stop.
        node: This machine, for messages and metrics.
        hand_in: Its `is_set` says whether to hand in (`WorkerContext.hand_in`); None: never.

    Yields:
        The result, then the payloads that its tokens number, as many as `payloads_of` says.
    """
    stage, functions = known
    task = replace(parcel.task, stage=stage)
    if task.shards is not None:
        task = replace(task, shards=seen_here(task.shards, parcel.host))
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
            hand_in=hand_in,
            reach=parcel.reach,
            heap=HeapWatch(parcel.memory),
        )
        result = run_task(task, functions, context)
        groups: list[list[BlockRef]] = [[] for _ in range(payloads_of(stage))]
        if isinstance(result, Done):
            result = _grouped(result, groups)
        yield Reply(result, node)
        for group in groups:
            yield [_let_go(kept, ref) for ref in group]
    finally:
        # Buffers of spilled blocks are mapped: they outlive their files.
        kept.close()
        # Allocators keep it for the next task, which may run in another process.
        give_back()


def _let_go(kept: LocalStore, ref: BlockRef) -> pa.Buffer:
    buffer = kept.exported(ref)
    kept.delete(ref)
    return buffer


def _grouped(done: Done, groups: list[list[BlockRef]]) -> Done:
    """Put blocks into groups of about the same size, neighbours together: most readers want one, some a run of them."""
    refs = [ref for ref in (*done.outputs, done.rejects) if ref is not None]
    total = max(1, sum(ref.nbytes for ref in refs))
    count = max(1, min(len(groups), total // _PAYLOAD_BYTES))
    before = 0

    def grouped(ref: BlockRef) -> Token:
        nonlocal before
        number = min(count - 1, before * count // total)
        before += ref.nbytes
        groups[number].append(ref)
        return Token(number, len(groups[number]) - 1)

    return relocated(done, grouped)


def relocated(done: Done, locate: Callable[[BlockRef], Token]) -> Done:
    """A result whose blocks have other tokens."""

    def moved(ref: BlockRef | None) -> BlockRef | None:
        return None if ref is None else BlockRef(locate(ref), ref.rows, ref.nbytes)

    outputs = tuple(map(moved, done.outputs))
    return replace(done, outputs=outputs, rejects=moved(done.rejects))


def swept(spill_dir: str, run: str, seconds: float) -> bool:
    """Remove the folders that killed workers of a run left on this machine; one that is just dying is waited for.

    Returns:
        Is nothing left?
    """
    deadline = time.monotonic() + seconds
    while True:
        sweep(spill_dir)
        if not run_folders(spill_dir, run):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def parcel_of(task: Task, code: StageCode, settings: Settings, memory: int) -> tuple[Parcel, list[Any]]:
    """A task as it is sent, with its share of memory, and the payloads of its blocks, which its tokens number."""
    sent, payloads = _numbered(task)
    parcel = Parcel(
        replace(sent, stage=cast(Stage, None)),
        code.key,
        memory,
        settings.io,
        os.fspath(settings.spill_dir),
        boot_id(),
        settings.reach,
    )
    return parcel, payloads


def task_memory(settings: Settings) -> int:
    """A task's share of the memory, in bytes."""
    return max(2 << 20, settings.memory // settings.workers)


def _numbered(task: Task) -> tuple[Task, list[Any]]:
    payloads: dict[Any, int] = {}

    def number(ref: BlockRef) -> BlockRef:
        if isinstance(ref.token, KeptBlock):
            return ref
        known = payloads.setdefault(ref.token.payload, len(payloads))
        return BlockRef(Token(known, ref.token.slot), ref.rows, ref.nbytes)

    blocks: Mapping[str, tuple[BlockRef, ...]] = {
        k: tuple(map(number, refs)) for k, refs in task.blocks.items()
    }
    return replace(task, blocks=dict(blocks)), list(payloads)


def known_blocks(done: Done, payloads: Sequence[Any]) -> Done:
    """A result whose tokens name the payloads as the driver knows them."""
    return relocated(done, lambda ref: Token(payloads[ref.token.payload], ref.token.slot))

"""One task in a worker of a cluster, whatever the cluster: what is sent, what comes back.

    driver                              worker
    Parcel (task, stage by number) -->  run_task over a RemoteStore
    Done with Tokens               <--  blocks as buffers: one payload for each group of outputs

A block travels as the bytes of an Arrow IPC stream, which readers alias: of an object store, it is never copied.
Outputs of a task are grouped into a bounded number of payloads of some size, so that an exchange of m by n partitions
is O(m) objects, not O(m n).

Invariant: a worker holds its outputs once. A block is let go of as it becomes bytes, a payload as it is handed over.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import pickle
import platform
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import cloudpickle
import pyarrow as pa

from mmflow.engines.placement import seen_here
from mmflow.errors import EngineError, UserFunctionError
from mmflow.exec.context import WorkerContext
from mmflow.exec.runner import run_task
from mmflow.exec.stage import Functions, Stage
from mmflow.exec.task import BlockRef, Done, Task, TaskResult
from mmflow.mapping import Io
from mmflow.store import LocalStore, RunFolder, run_folders, sweep

__all__ = [
    "Parcel",
    "Payload",
    "Reply",
    "StageCode",
    "Token",
    "known_blocks",
    "numbered",
    "pack_stage",
    "payloads_of",
    "read_payload",
    "run_parcel",
    "stream_parcel",
    "swept",
    "versions",
]

#: Blocks as buffers; None: one that could not be made.
Payload = list[pa.Buffer | None]

#: Payloads of one task at most. More of them move fewer bytes that a reader does not want; each costs the driver
#: about as much as a task does.
_PAYLOADS = 16
#: Less than this is not worth an object of its own.
_PAYLOAD_BYTES = 256 << 10
_STAGES_KEPT = 64


@dataclass(frozen=True, slots=True)
class Token:
    """Where a block is: which of the objects that came with the task (or are known to the driver), and where in it."""

    payload: Any
    slot: int


@dataclass(frozen=True, slots=True)
class StageCode:
    """A stage and its functions, pickled once for all of its tasks. `key` names it in the caches of workers."""

    key: str
    code: bytes


@dataclass(frozen=True, slots=True)
class Parcel:
    """A task as it is sent: its stage apart, its blocks by number among the objects that are sent with it.

    `host`: where it was planned (`placement.host_id`).
    """

    task: Task
    key: str
    memory: int
    io: str
    spill_dir: str
    host: str = ""


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

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
_stages: OrderedDict[str, tuple[Stage, Functions]] = OrderedDict()
_stages_lock = threading.Lock()


def _unpacked(key: str, code: Callable[[], bytes]) -> tuple[Stage, Functions]:
    with _stages_lock:
        known = _stages.get(key)
        if known is not None:
            _stages.move_to_end(key)
            return known
    made = cast("tuple[Stage, Functions]", pickle.loads(code()))
    with _stages_lock:
        _stages[key] = made
        while len(_stages) > _STAGES_KEPT:
            _stages.popitem(last=False)
    return made


class RemoteStore:
    """The `BlockStore` of one task: reads the payloads it was sent, and keeps what it puts until it is handed back.

    Args:
        fetch: Gives a payload by its number.
        kept: Holds what is put.
    """

    def __init__(self, fetch: Callable[[int], Sequence[pa.Buffer | None]], kept: LocalStore) -> None:
        self._fetch = fetch
        self._kept = kept

    def put(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> BlockRef:
        """See `BlockStore.put`."""
        return self._kept.put(batches, schema)

    def get(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        """See `BlockStore.get`."""
        if not isinstance(ref.token, Token):
            return self._kept.get(ref)
        return read_payload(self._fetch(ref.token.payload), ref)

    def delete(self, ref: BlockRef) -> None:
        """See `BlockStore.delete`. What was sent belongs to the driver."""
        if not isinstance(ref.token, Token):
            self._kept.delete(ref)

    def close(self) -> None:
        """See `BlockStore.close`."""
        self._kept.close()


def read_payload(payload: Sequence[pa.Buffer | None] | None, ref: BlockRef) -> list[pa.RecordBatch]:
    """The batches of a block, over the payload's bytes.

    Raises:
        EngineError: The payload does not hold it: it was lost, and making it again failed.
    """
    buffer = payload[ref.token.slot] if payload else None
    if buffer is None:
        raise EngineError(
            "a block of intermediate rows was lost, and the task that made it failed when run again"
        )
    batches = list(pa.ipc.open_stream(buffer))
    if sum(b.num_rows for b in batches) != ref.rows:
        raise EngineError(
            f"a block of intermediate rows doesn't hold the {ref.rows:,} rows that were put there"
        )
    return batches


def run_parcel(
    parcel: Parcel,
    code: Callable[[], bytes],
    fetch: Callable[[int], Sequence[pa.Buffer | None]],
    cancelled: Any,
    node: str,
) -> tuple[Reply, list[Payload]]:
    """Run a task; see `stream_parcel`.

    Returns:
        The result, and the payloads that its tokens number, as many as `payloads_of` says.
    """
    reply, *payloads = stream_parcel(parcel, code, fetch, cancelled, node)
    return cast(Reply, reply), cast("list[Payload]", payloads)


def stream_parcel(
    parcel: Parcel,
    code: Callable[[], bytes],
    fetch: Callable[[int], Sequence[pa.Buffer | None]],
    cancelled: Any,
    node: str,
) -> Iterator[Reply | Payload]:
    """Run a task, and hand over what it made piece by piece.

    Args:
        parcel: The task.
        code: Gives the pickled stage, where this process does not know it yet.
        fetch: Gives the payloads that the task's blocks lie in.
        cancelled: Its `is_set` says whether to stop.
        node: This machine, for messages and metrics.

    Yields:
        The result, then the payloads that its tokens number: for each, blocks as buffers.
    """
    stage, functions = _unpacked(parcel.key, code)
    task = replace(parcel.task, stage=stage)
    if task.shards is not None:
        task = replace(task, shards=seen_here(task.shards, parcel.host))
    sweep(parcel.spill_dir)
    folder = RunFolder(parcel.spill_dir, task.run)
    kept = LocalStore(parcel.memory // 2, folder)
    store = RemoteStore(fetch, kept)
    try:
        context = WorkerContext(
            store=store,
            memory=max(1 << 20, parcel.memory // 2),
            io=cast(Io, parcel.io),
            spill=folder.path,
            cancelled=cancelled,
            worker=f"{node}:{os.getpid()}",
        )
        result = run_task(task, functions, context)
        groups: list[list[BlockRef]] = [[] for _ in range(payloads_of(stage))]
        if isinstance(result, Done):
            result = _handed_back(result, groups)
        yield Reply(result, node)
        for group in groups:
            yield [_let_go(kept, ref) for ref in group]
    finally:
        # Buffers of spilled blocks are mapped: they outlive their files.
        store.close()
        _give_back()


def _give_back() -> None:
    """Return what the task freed: allocators keep it for the next one, which may run in another process."""
    pa.default_memory_pool().release_unused()
    if _malloc_trim is not None:
        _malloc_trim(0)


def _let_go(kept: LocalStore, ref: BlockRef) -> pa.Buffer:
    buffer = kept.exported(ref)
    kept.delete(ref)
    return buffer


def _handed_back(done: Done, groups: list[list[BlockRef]]) -> Done:
    """Put blocks into groups of about the same size, neighbours together: most readers want one, some a run of them."""
    refs = [ref for ref in (*done.outputs, done.rejects) if ref is not None]
    total = max(1, sum(ref.nbytes for ref in refs))
    count = max(1, min(len(groups), total // _PAYLOAD_BYTES))
    before = 0

    def moved(ref: BlockRef | None) -> BlockRef | None:
        nonlocal before
        if ref is None:
            return None
        number = min(count - 1, before * count // total)
        before += ref.nbytes
        groups[number].append(ref)
        return replace(ref, token=Token(number, len(groups[number]) - 1))

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


def numbered(task: Task) -> tuple[Task, list[Any]]:
    """A task whose tokens number the distinct payloads of its blocks, and these payloads."""
    payloads: dict[Any, int] = {}

    def number(ref: BlockRef) -> BlockRef:
        known = payloads.setdefault(ref.token.payload, len(payloads))
        return replace(ref, token=Token(known, ref.token.slot))

    blocks: Mapping[str, tuple[BlockRef, ...]] = {
        k: tuple(map(number, refs)) for k, refs in task.blocks.items()
    }
    return replace(task, blocks=dict(blocks)), list(payloads)


def known_blocks(done: Done, payloads: Sequence[Any]) -> Done:
    """A result whose tokens name the payloads as the driver knows them."""

    def named(ref: BlockRef | None) -> BlockRef | None:
        return None if ref is None else replace(ref, token=Token(payloads[ref.token.payload], ref.token.slot))

    return replace(done, outputs=tuple(map(named, done.outputs)), rejects=named(done.rejects))

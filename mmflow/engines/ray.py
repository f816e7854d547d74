"""The Ray engine: one Ray task per mmflow task; blocks are what tasks return.

    driver:  reply, payload 0, payload 1, ... = _run.remote(parcel, stage, payloads of other tasks ...)

Returned objects belong to their task: Ray makes lost ones again by running it again (one made with `ray.put` in a
worker would die with the worker). The driver holds references and replies; rows stay in the object stores until a
worker, or the caller, reads them. Small objects are the exception: Ray keeps them in the driver's own memory, so
once there are many, workers pad theirs to the size from which on the object store takes them.

Ray tries a task again by itself when its worker dies or its outputs get lost, and says nothing: so a reply, and every
payload, carries the number of the attempt that made it.

Invariant: a payload is freed when the last `BlockRef` into it is gone. What Ray keeps for making it again (lineage) is
the task, not the rows.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import pyarrow as pa
import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    RayError,
    RaySystemError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskUnschedulableError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mmflow.config import Settings
from mmflow.engines.base import Resources
from mmflow.engines.placement import Choice, Placement, Seen, probe, probed
from mmflow.engines.ray_link import Cluster, alive, check_versions, connect, look, on_node
from mmflow.engines.ray_notes import Asked, Notes
from mmflow.engines.remote import (
    Parcel,
    Payload,
    Reply,
    StageCode,
    Token,
    first_line,
    known_blocks,
    learned,
    pack_stage,
    parcel_of,
    payloads_of,
    read_block,
    stream_parcel,
    swept,
    task_memory,
)
from mmflow.errors import BlockLostError, EngineError, SourceError
from mmflow.exec.stage import Functions, ScanInput, Stage, Write
from mmflow.exec.task import BlockRef, Cancelled, Done, Failed, Task, TaskId, TaskResult, WorkerLost
from mmflow.exec.user_code import suspects

__all__ = ["RayEngine", "small_bytes"]

#: Inputs up to this, and up to a quarter of a node's object store, are arguments, which Ray brings to the worker, or
#: the task to them; larger ones are fetched block by block, so that a task never needs room for all of them at once.
_DIRECT = 256 << 20
#: Ray sends returned objects up to this to the driver itself (max_direct_call_object_size).
_SMALL = 100 << 10
_LOOK_SECONDS = 5.0
_PROBE_SECONDS = 10.0
_STOP_SECONDS = 0.6


class RayEngine:
    """An `Engine` on a Ray cluster. Serves one run.

    Args:
        settings: `address` (a host and port, `auto`, or `ray://host:port` through Ray Client; None: a cluster of this
            machine, which lives as long as this process), `workers` (of such a cluster), `memory` (over `workers`),
            `io`, `spill_dir`, `retries`.
        run: Name of the run.

    Raises:
        EngineError: The cluster can't be reached, or runs other versions of what matters.
    """

    def __init__(self, settings: Settings, run: str) -> None:
        self._settings = settings
        self._run = run
        connect(settings)
        check_versions(settings.address)
        self._looked = 0.0
        self._cluster = Cluster(1, 0, 0, {})
        self._placements: dict[int, Placement | None] = {}
        self._probed: dict[tuple[str, ...], Placement | None] = {}
        self._failed: list[TaskResult] = []
        self._stages: dict[int, tuple[StageCode, Any]] = {}
        self._flights: dict[tuple[TaskId, int], _Flight] = {}
        self._by_reply: dict[Any, tuple[TaskId, int]] = {}
        self._attempts: dict[Any, int] = {}
        self._store = _DriverStore()
        self._notes = Notes()
        self._killed = False
        self._closed = False

    def resources(self) -> Resources:
        """The cluster's, which may grow and shrink."""
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._take_in(look())
        return Resources(self._cluster.slots, self._cluster.slots * self._task_memory)

    def _take_in(self, cluster: Cluster) -> None:
        if cluster.nodes != self._cluster.nodes:
            self._placements.clear()
            self._probed.clear()
        self._cluster = cluster
        for (task, attempt), flight in list(self._flights.items()):
            if flight.nodes is not None and not cluster.nodes.keys() & set(flight.nodes):
                # Ray would wait for them to come back.
                del self._flights[task, attempt], self._by_reply[flight.reply]
                _cancel(flight.reply, force=True)
                reason = "the nodes that see its files are gone"
                self._failed.append(WorkerLost(task, attempt, reason))

    @property
    def _task_memory(self) -> int:
        """A task's share, as the nodes can give it to as many tasks as they have processors."""
        share = task_memory(self._settings)
        return max(2 << 20, min(share, self._cluster.memory) if self._cluster.memory else share)

    def store(self) -> _DriverStore:
        return self._store

    def submit(self, task: Task, functions: Functions) -> None:
        """See `Engine.submit`."""
        if self._closed:
            raise EngineError("the engine is closed: the run has ended")
        try:
            choice = self._choice(task)
        except SourceError as error:
            self._failed.append(Failed(task.id, task.attempt, error))
            return
        code, shared = self._stage(task.stage, functions)
        parcel, payloads = parcel_of(task, code, self._settings, self._task_memory)
        nbytes = sum(ref.nbytes for refs in task.blocks.values() for ref in refs)
        direct = payloads if nbytes <= min(_DIRECT, self._cluster.store // 4) else []
        options: dict[str, Any] = {
            "num_returns": 1 + payloads_of(task.stage),
            "num_cpus": 1,
            "memory": self._task_memory,
            "name": f"mmflow {task.id.stage}.{task.id.label}",
            "max_retries": self._unseen(task.stage),
            **_options(choice),
        }
        least = 0 if small_bytes() < max(1 << 20, self._settings.memory // 16) else _SMALL + 1
        # Nested references are not waited for, nor moved.
        returned = _run.options(**options).remote(
            parcel,
            least,
            [shared],
            self._notes.name(task.id, task.attempt),
            [] if direct else payloads,
            *direct,
        )
        self._flights[task.id, task.attempt] = _Flight(
            task.stage, returned[0], returned[1:], payloads, choice.nodes
        )
        self._by_reply[returned[0]] = task.id, task.attempt

    def _choice(self, task: Task) -> Choice:
        if task.shards is None or not task.shards.shards:
            return Choice()
        if task.stage.id not in self._placements:
            self._placements[task.stage.id] = self._placement(task.stage)
        placement = self._placements[task.stage.id]
        return Choice() if placement is None else placement.choose(task.shards)

    def _placement(self, stage: Stage) -> Placement | None:
        """What the nodes see of a scan's files; None: there is one node, and it is this one."""
        nodes = self._cluster.nodes
        scan = stage.inputs[0]
        if not isinstance(scan, ScanInput) or nodes.keys() <= {ray.get_runtime_context().get_node_id()}:
            return None
        files = probed(scan.source.files)
        if files not in self._probed:
            asked = {node: _probe.options(scheduling_strategy=on_node(node)).remote(files) for node in nodes}
            ray.wait(list(asked.values()), num_returns=len(asked), timeout=_PROBE_SECONDS)
            seen = {
                n: dict(zip(files, found, strict=True)) for n, a in asked.items() if (found := _answer(a))
            }
            # A node that does not answer sees nothing, as far as is known.
            nothing = dict.fromkeys(files)
            self._probed[files] = Placement({n: seen.get(n, nothing) for n in nodes}, nodes) if seen else None
        return self._probed[files]

    def _unseen(self, stage: Stage) -> int:
        """How often Ray may try a task of this stage again by itself.

        Staged files carry the attempt's number, so that attempts never mix: there the driver tries again.
        """
        return 0 if isinstance(stage.output, Write) else self._settings.retries

    def _stage(self, stage: Stage, functions: Functions) -> tuple[StageCode, Any]:
        known = self._stages.get(stage.id)
        if known is None:
            code = pack_stage(stage, functions, self._run)
            known = self._stages[stage.id] = code, ray.put(code.code)
        return known

    def poll(self, timeout: float) -> Sequence[TaskResult]:
        """See `Engine.poll`."""
        if self._failed:
            failed, self._failed = self._failed, []
            return failed
        waiting = list(self._by_reply)
        if not waiting:
            return []
        ready, _ = ray.wait(waiting, num_returns=1, timeout=max(0.0, timeout))
        if ready:
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [self._landed(reply) for reply in ready]

    def _landed(self, reply: Any) -> TaskResult:
        task_id, attempt = self._by_reply.pop(reply)
        flight = self._flights.pop((task_id, attempt))
        try:
            came = cast(_Attempted, ray.get(reply))
        except TaskCancelledError:
            return Cancelled(task_id, attempt)
        except (RuntimeEnvSetupError, TaskUnschedulableError) as error:
            return Failed(task_id, attempt, EngineError(f"Ray can't start a task: {first_line(error)}"))
        except RayTaskError as error:
            return _raised(task_id, attempt, error)
        except (WorkerCrashedError, NodeDiedError) as error:
            self._killed = True
            if retries := self._unseen(flight.stage):
                return Failed(task_id, attempt, _worn_out(task_id, flight.stage, retries, error))
            return WorkerLost(task_id, attempt, f"{type(error).__name__}: {first_line(error)}")
        except RayError as error:
            return WorkerLost(task_id, attempt, f"{type(error).__name__}: {first_line(error)}")
        result = came.reply.result
        if not isinstance(result, Done):
            return result
        self._killed = self._killed or came.attempt > 0
        result.metrics.retries = self._unseen_attempts(reply, came.attempt)
        for number, again in came.remade.items():
            result.metrics.retries += self._unseen_attempts(flight.inputs[number], again)
        return known_blocks(result, flight.payloads)

    def _unseen_attempts(self, returned: Any, attempt: int) -> int:
        """Attempts of the task that returned this object, as far as they were not counted yet."""
        if not attempt:
            return 0
        task = returned.task_id()
        known = self._attempts.get(task, 0)
        self._attempts[task] = max(known, attempt)
        return max(0, attempt - known)

    def cancel(self, task: TaskId, attempt: int) -> None:
        """See `Engine.cancel`."""
        flight = self._flights.get((task, attempt))
        if flight is not None:
            _cancel(flight.reply, force=False)

    def hand_in(self, task: TaskId, attempt: int) -> None:
        """See `Engine.hand_in`."""
        if (task, attempt) in self._flights:
            self._notes.ask(task, attempt)

    def close(self) -> None:
        """See `Engine.close`. A worker that does not notice is killed."""
        if self._closed:
            return
        self._closed = True
        replies = list(self._by_reply)
        for reply in replies:
            _cancel(reply, force=False)
        if replies and ray.is_initialized():
            _, running = ray.wait(replies, num_returns=len(replies), timeout=_STOP_SECONDS)
            for reply in running:
                self._killed = True
                _cancel(reply, force=True)
            if running:
                ray.wait(running, num_returns=len(running), timeout=_STOP_SECONDS)
        self._by_reply.clear()
        self._flights.clear()
        self._stages.clear()
        if ray.is_initialized():
            self._notes.close()
            if self._killed:
                self._sweep()

    def _sweep(self) -> None:
        """Remove what killed workers left on disk. The next run would too, but there may be none."""
        spill_dir = os.fspath(self._settings.spill_dir)
        here = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        others = {n["NodeManagerAddress"]: n for n in alive() if n["NodeManagerAddress"] != here}
        asked = [
            _sweep.options(scheduling_strategy=on_node(n["NodeID"])).remote(spill_dir, self._run)
            for n in others.values()
        ]
        swept(spill_dir, self._run, _STOP_SECONDS)
        if asked:
            ray.wait(asked, num_returns=len(asked), timeout=2 * _STOP_SECONDS)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A task under way: what it will return, and what it reads."""

    stage: Stage
    reply: Any
    payloads: Sequence[Any]
    inputs: Sequence[Any]
    nodes: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class _Attempted:
    """A reply, the number of the attempt that gave it, and of those that made its inputs, where not the first."""

    reply: Reply
    attempt: int
    remade: dict[int, int]


class _Returned(NamedTuple):
    """A payload, and the number of the attempt that made it; CRC-32 of its blocks; bytes that make it large enough."""

    attempt: int
    payload: Payload
    sums: list[int]
    padding: bytes


class _DriverStore:
    """The `BlockStore` as the driver sees it: it reads results, and lets go of references."""

    def put(self, batches: Any, schema: pa.Schema) -> BlockRef:
        raise EngineError("bug: the driver of a cluster puts no blocks")

    def get(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        """See `BlockStore.get`."""
        try:
            returned: _Returned = ray.get(ref.token.payload)
        except RayError as error:
            raise EngineError(f"a block of the result was lost: {first_line(error)}") from error
        return read_block(_slot(returned, ref.token), ref)

    def delete(self, ref: BlockRef) -> None:
        """See `BlockStore.delete`. Ray frees what nobody refers to any more."""

    def close(self) -> None:
        """See `BlockStore.close`."""


class _Stop:
    """Was the task that runs here cancelled? Ray interrupts Python code, too; this stops between batches."""

    def is_set(self) -> bool:
        return bool(getattr(ray.get_runtime_context(), "is_canceled", bool)())


@ray.remote
def _run(
    parcel: Parcel, least: int, code: list[Any], name: str, payloads: list[Any], *direct: Any
) -> Iterator[_Returned | _Attempted]:
    """A generator: what it yields is in the object store before it makes the next."""
    remade: dict[int, int] = {}

    def fetch(token: Token) -> pa.Buffer:
        number = token.payload
        returned: _Returned = direct[number] if direct else ray.get(payloads[number])
        if returned.attempt:
            remade[number] = returned.attempt
        return _slot(returned, token)

    attempt = _attempt()
    node = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    known = learned(parcel.key, None) or learned(parcel.key, ray.get(code[0]))
    assert known is not None  # it has its code
    asked = Asked(name, again=attempt > 0 and parcel.task.shards is not None)
    # Who can't count executions can't end a later one where the first did.
    hand_in = asked if _counts_attempts() else None
    failed = False
    for piece in stream_parcel(asked.cut(parcel), known, fetch, _Stop(), node, hand_in):
        if isinstance(piece, Reply):
            reply = asked.agreed(piece)
            failed = not isinstance(reply.result, Done)
            yield _Attempted(reply, attempt, remade)
        elif failed:
            yield _Returned(attempt, [], [], b"")
        else:
            nbytes = sum(b.size for b in piece)
            sums = [zlib.crc32(b) for b in piece]
            yield _Returned(attempt, piece, sums, bytes(max(0, least - nbytes) if nbytes else 0))
        del piece


def _slot(returned: _Returned, token: Token) -> pa.Buffer:
    if token.slot >= len(returned.payload):
        raise BlockLostError(
            "a block of intermediate rows was lost, and the task that made it failed when run again",
            payload=token.payload,
        )
    block = returned.payload[token.slot]
    if zlib.crc32(block) != returned.sums[token.slot]:
        raise BlockLostError(
            "a block of intermediate rows was damaged in Ray's object store, or where it spills: check disk and memory",
            payload=token.payload,
        )
    return block


def _attempt() -> int:
    """Which attempt of its task runs here, by Ray's own count. Not part of Ray's API: 0 where it is not there."""
    core = getattr(ray._private.worker.global_worker, "core_worker", None)
    return int(getattr(core, "get_current_task_attempt_number", int)())


def _counts_attempts() -> bool:
    core = getattr(ray._private.worker.global_worker, "core_worker", None)
    return hasattr(core, "get_current_task_attempt_number")


def small_bytes() -> int:
    """Bytes of small objects that Ray holds in this process. Not part of Ray's API: huge where it is not there."""
    core = getattr(ray._private.worker.global_worker, "core_worker", None)
    return int(getattr(core, "get_local_memory_store_bytes_used", lambda: 1 << 62)())


def _options(choice: Choice) -> dict[str, Any]:
    if choice.nodes is not None:
        return {"label_selector": {"ray.io/node-id": f"in({', '.join(choice.nodes)})"}}
    if choice.preferred is not None:
        # A busy node is not waited for.
        there = NodeAffinitySchedulingStrategy(choice.preferred, soft=True, _spill_on_unavailable=True)
        return {"scheduling_strategy": there}
    return {}


def _answer(asked: Any) -> list[Seen | None] | None:
    try:
        return cast("list[Seen | None]", ray.get(asked, timeout=0))
    except RayError:
        return None


@ray.remote(num_cpus=0, max_retries=0)
def _probe(paths: tuple[str, ...]) -> list[Seen | None]:
    return probe(paths)


@ray.remote(num_cpus=0, max_retries=0)
def _sweep(spill_dir: str, run: str) -> None:
    swept(spill_dir, run, _STOP_SECONDS)


def _worn_out(task: TaskId, stage: Stage, retries: int, error: RayError) -> EngineError:
    return EngineError(
        f"task {task.number} of stage {task.stage} ({stage.title}) lost its worker {retries + 1} times, the last time: "
        f"{first_line(error)}; if it was killed for memory, lower shard_size or workers, or give more memory"
        f"{suspects(stage)}",
        stage=task.stage,
        task=task.number,
    )


def _raised(task_id: TaskId, attempt: int, error: RayTaskError) -> TaskResult:
    if isinstance(error.cause, RaySystemError | ObjectLostError):
        return WorkerLost(task_id, attempt, first_line(error.cause))
    message = (
        f"bug in task {task_id.number} of stage {task_id.stage}: {first_line(error.cause)}; please report it"
    )
    return Failed(task_id, attempt, EngineError(message, traceback=str(error)))


def _cancel(reply: Any, *, force: bool) -> None:
    try:
        ray.cancel(reply, force=force)
    except (RayError, ValueError, TypeError):  # it is over, or its cluster is gone
        return

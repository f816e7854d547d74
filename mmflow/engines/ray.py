"""The Ray engine: one Ray task per mmflow task; blocks are what tasks return.

    driver:  reply, payload 0, payload 1, ... = _run.remote(parcel, stage, payloads of other tasks ...)

Returned objects belong to their task: Ray makes lost ones again by running it again (one made with `ray.put` in a
worker would die with the worker). The driver holds references and replies; rows stay in the object stores until a
worker, or the caller, reads them.

Invariant: a payload is freed when the last `BlockRef` into it is gone, here and in Ray's lineage.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pyarrow as pa
import ray
from ray.exceptions import (
    ObjectLostError,
    RayError,
    RaySystemError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskUnschedulableError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mmflow.config import Settings
from mmflow.engines.base import Resources
from mmflow.engines.remote import (
    Parcel,
    Reply,
    StageCode,
    Token,
    known_blocks,
    learned,
    pack_stage,
    parcel_of,
    read_block,
    run_parcel,
    task_memory,
    versions,
)
from mmflow.errors import BlockLostError, EngineError
from mmflow.exec.stage import Functions, Stage, Write
from mmflow.exec.task import BlockRef, Cancelled, Done, Failed, Task, TaskId, TaskResult, WorkerLost

__all__ = ["RayEngine"]

#: Inputs up to this are arguments, which Ray brings to the worker, or the task to them; larger ones are fetched
#: block by block, so that a task never needs room for all of them at once.
_DIRECT = 256 << 20
#: Payloads of one task at most. More of them move fewer bytes that a reader does not want; each costs the driver
#: about as much as a task does.
_PAYLOADS = 16
_LOOK_SECONDS = 5.0
_STOP_SECONDS = 0.6


class RayEngine:
    """An `Engine` on a Ray cluster. Serves one run.

    Args:
        settings: `address` (a host and port, `auto`, `ray://…`; None: a cluster of this machine, which lives as long as
            this process), `workers` (of such a cluster), `memory` (over `workers`), `io`, `spill_dir`, `retries`.
        run: Name of the run.

    Raises:
        EngineError: The cluster can't be reached, or runs other versions of what matters.
    """

    def __init__(self, settings: Settings, run: str) -> None:
        self._settings = settings
        self._run = run
        _connect(settings)
        _check_versions(settings.address)
        self._looked = 0.0
        self._slots = 1
        self._stages: dict[int, tuple[StageCode, Any]] = {}
        self._flights: dict[tuple[TaskId, int], _Flight] = {}
        self._by_reply: dict[Any, tuple[TaskId, int]] = {}
        self._store = _DriverStore()
        self._closed = False

    def resources(self) -> Resources:
        """The cluster's, which may grow and shrink."""
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._slots = max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
        return Resources(self._slots, self._slots * task_memory(self._settings))

    def store(self) -> _DriverStore:
        return self._store

    def submit(self, task: Task, functions: Functions) -> None:
        """See `Engine.submit`."""
        if self._closed:
            raise EngineError("the engine is closed: the run has ended")
        code, shared = self._stage(task.stage, functions)
        parcel, payloads = parcel_of(task, code, self._settings)
        nbytes = sum(ref.nbytes for refs in task.blocks.values() for ref in refs)
        direct = payloads if nbytes <= _DIRECT else []
        count = _payloads_of(task.stage)
        options: dict[str, Any] = {
            "num_returns": 1 + count,
            "num_cpus": 1,
            "name": f"mmflow {task.id.stage}.{task.id.number}",
            # Staged files carry the attempt's number, so that attempts never mix: there the driver tries again.
            "max_retries": 0 if isinstance(task.stage.output, Write) else self._settings.retries,
        }
        # Nested references are not waited for, nor moved.
        returned = _run.options(**options).remote(
            parcel, count, [shared], [] if direct else payloads, *direct
        )
        self._flights[task.id, task.attempt] = _Flight(returned[0], returned[1:])
        self._by_reply[returned[0]] = task.id, task.attempt

    def _stage(self, stage: Stage, functions: Functions) -> tuple[StageCode, Any]:
        known = self._stages.get(stage.id)
        if known is None:
            code = pack_stage(stage, functions, self._run)
            known = self._stages[stage.id] = code, ray.put(code.code)
        return known

    def poll(self, timeout: float) -> Sequence[TaskResult]:
        """See `Engine.poll`."""
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
            came = cast(Reply, ray.get(reply))
        except TaskCancelledError:
            return Cancelled(task_id, attempt)
        except (RuntimeEnvSetupError, TaskUnschedulableError) as error:
            return Failed(task_id, attempt, EngineError(f"Ray can't start a task: {_first_line(error)}"))
        except RayTaskError as error:
            return _raised(task_id, attempt, error)
        except RayError as error:
            return WorkerLost(task_id, attempt, f"{type(error).__name__}: {_first_line(error)}")
        result = came.result
        return known_blocks(result, flight.payloads) if isinstance(result, Done) else result

    def cancel(self, task: TaskId, attempt: int) -> None:
        """See `Engine.cancel`."""
        flight = self._flights.get((task, attempt))
        if flight is not None:
            _cancel(flight.reply, force=False)

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
                _cancel(reply, force=True)
        self._by_reply.clear()
        self._flights.clear()
        self._stages.clear()


class _Flight:
    """A task under way."""

    __slots__ = ("payloads", "reply")

    def __init__(self, reply: Any, payloads: Sequence[Any]) -> None:
        self.reply = reply
        self.payloads = payloads


class _DriverStore:
    """The `BlockStore` as the driver sees it: it reads results, and lets go of references."""

    def put(self, batches: Any, schema: pa.Schema) -> BlockRef:
        raise EngineError("bug: the driver of a cluster puts no blocks")

    def get(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        """See `BlockStore.get`."""
        try:
            payload = ray.get(ref.token.payload)
        except RayError as error:
            raise EngineError(f"a block of the result was lost: {_first_line(error)}") from error
        return read_block(_slot(payload, ref.token), ref)

    def delete(self, ref: BlockRef) -> None:
        """See `BlockStore.delete`. Ray frees what nobody refers to any more."""

    def close(self) -> None:
        """See `BlockStore.close`."""


@ray.remote
def _run(parcel: Parcel, count: int, code: list[Any], payloads: list[Any], *direct: Any) -> Any:
    made: list[list[pa.Buffer]] = [[] for _ in range(count)]

    def fetch(token: Token) -> pa.Buffer:
        return _slot(direct[token.payload] if direct else ray.get(payloads[token.payload]), token)

    def keep(outputs: int, blocks: Iterator[tuple[int, pa.Buffer]]) -> list[Token]:
        """Neighbouring outputs go to one payload: most readers want one, some a run of them."""
        per, tokens = -(-outputs // len(made)), []
        for number, block in blocks:
            payload = made[number // per]
            payload.append(block)
            tokens.append(Token(number // per, len(payload) - 1))
        return tokens

    node = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    known = learned(parcel.key, None) or learned(parcel.key, ray.get(code[0]))
    assert known is not None  # it has its code
    reply = run_parcel(parcel, known, fetch, keep, threading.Event(), node)
    return (reply, *made)


def _payloads_of(stage: Stage) -> int:
    return min(_PAYLOADS, getattr(stage.output, "partitions", 1))


def _slot(payload: Sequence[pa.Buffer] | None, token: Token) -> pa.Buffer:
    if payload is None or token.slot >= len(payload):
        raise BlockLostError(
            "a block of intermediate rows was lost, and the task that made it failed when run again",
            payload=token.payload,
        )
    return payload[token.slot]


@ray.remote(num_cpus=0)
def _versions() -> dict[str, str]:
    return versions()


def _connect(settings: Settings) -> None:
    """Join the cluster, or start one; a process is in one cluster at a time."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if settings.address is None:
        # Half for blocks, half for tasks, as everywhere; Ray wants 75 MiB at least.
        store = max(80 << 20, settings.memory // 2)
        # "local": else Ray joins whatever cluster was started on this machine last.
        options |= {"address": "local", "num_cpus": settings.workers, "object_store_memory": store}
        options["include_dashboard"] = False
    else:
        options["address"] = settings.address
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError, OSError, TimeoutError) as error:
        where = settings.address or "this machine"
        raise EngineError(
            f"can't connect to Ray at {where}: {_first_line(error)}; is it running (ray status), and is the address "
            "right? without an address one is started here"
        ) from error


def _check_versions(address: str | None) -> None:
    """Compare what runs on each node with what runs here.

    Raises:
        EngineError: They differ; names what and where.
    """
    if address is None:
        return
    here = versions()
    nodes = [n for n in ray.nodes() if n["Alive"]]  # type: ignore[no-untyped-call]
    asked = [
        _versions.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)
        ).remote()
        for n in nodes
    ]
    for node, answer in zip(nodes, asked, strict=True):
        where = f"node {node['NodeManagerAddress']}"
        try:
            there = ray.get(answer, timeout=60)
        except RayTaskError as error:
            raise EngineError(
                f"mmflow can't be used on {where}: {_first_line(error.cause)}; install the same version there"
            ) from error
        except RayError as error:
            raise EngineError(f"{where} does not answer: {_first_line(error)}") from error
        for name, version in here.items():
            if there.get(name) != version:
                raise EngineError(
                    f"{name} is {version} here and {there.get(name)} on {where}: install the same version on both"
                )


def _raised(task_id: TaskId, attempt: int, error: RayTaskError) -> TaskResult:
    if isinstance(error.cause, RaySystemError | ObjectLostError):
        return WorkerLost(task_id, attempt, _first_line(error.cause))
    message = (
        f"bug in task {task_id.number} of stage {task_id.stage}: {_first_line(error.cause)}; please report it"
    )
    return Failed(task_id, attempt, EngineError(message, traceback=str(error)))


def _cancel(reply: Any, *, force: bool) -> None:
    try:
        ray.cancel(reply, force=force)
    except (RayError, ValueError, TypeError):  # it is over, or its cluster is gone
        return


def _first_line(error: Any) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

"""The Ray engine: one Ray task per mmflow task; blocks are what tasks return.

    driver:  reply, payload 0, payload 1, ... = _run.remote(message, stage, payloads of other tasks ...)

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
import threading
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
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

from mmflow.blocks.references import BlockRef, MessageBlock, RayBlock
from mmflow.config import Settings
from mmflow.engines.messages import (
    DriverStore,
    Payload,
    StageCode,
    TaskMessage,
    count_payloads,
    first_line,
    load_stage,
    pack_stage,
    pack_task,
    read_block,
    stream_task,
    sweep_until_clean,
    task_memory,
)
from mmflow.engines.placement import Choice, Placement, Seen, probe, probed
from mmflow.engines.protocol import Resources
from mmflow.engines.ray.connection import Cluster, alive, check_versions, connect, describe, on_node
from mmflow.engines.ray.head import Head
from mmflow.engines.ray.interrupts import TaskInterrupts
from mmflow.engines.ray.signals import RunSignals, TaskSignals, reported_movement
from mmflow.engines.ray.stopped import Stopped, task_name
from mmflow.errors import BlockLostError, ConfigError, EngineError, SourceError, StalledError, StalledWarning
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.stages import Functions, Needs, ScanInput, Stage, Write
from mmflow.plan.tasks import Cancelled, Done, Failed, Task, TaskId, TaskResult, WorkerLost
from mmflow.private_apis import ray_internals
from mmflow.worker.movement import Stall
from mmflow.worker.user_functions import describe_functions

__all__ = ["RayEngine"]

#: Inputs up to this, and up to a quarter of a node's object store, are arguments, which Ray brings to the worker, or
#: the task to them; larger ones are fetched block by block, so that a task never needs room for all of them at once.
_DIRECT = 256 << 20
#: Ray sends returned objects up to this to the driver itself (max_direct_call_object_size).
_SMALL = 100 << 10
_PROBE_SECONDS = 10.0, 50.0
_STOP_SECONDS = 0.6
_DIE_SECONDS = 60.0
#: A reply that is ready may still lie on another node.
_REPLY_SECONDS = 60.0
#: Recomputing a lost block of the result takes its time; meanwhile, the engine looks for stopped workers.
_BLOCK_SECONDS = 2.0


class RayEngine:
    """`Engine` on a Ray cluster. Serves one run.

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
        self._cluster = self._looked = Cluster(1, 0, 0, {}, {})
        self._gone: set[str] = set()  # nodes; those that come again have another id
        self._had_gpus: set[int] = set()  # stages whose GPUs some node had
        self._lacking: dict[tuple[TaskId, int], float] = {}  # attempts that no node can take, since when
        self._placements: dict[int, Placement | None] = {}
        self._probed: dict[tuple[str, ...], Placement | None] = {}
        self._failed: list[TaskResult] = []
        self._stages: dict[int, tuple[StageCode, Any]] = {}
        self._flights: dict[tuple[TaskId, int], _Flight] = {}
        self._by_reply: dict[Any, tuple[TaskId, int]] = {}
        self._attempts: dict[Any, int] = {}
        self._signals = RunSignals()
        self._stopped = Stopped(run)
        self._head = Head(self._signals, self._stopped, settings.address, settings.named_after)
        self._long: list[tuple[TaskId, int]] = []  # under way
        self._needs: dict[int, Needs] = {}  # by stage
        self._store = _DriverStore(self._head, self._needs, settings)
        self._killed = False
        self._closed = False

    def resources(self) -> Resources:
        """Return the resources of the cluster, which may grow and shrink.

        Raises:
            EngineError: The head of the cluster has not answered for too long.
        """
        cluster = self._head.look(self._long, working=bool(self._flights))
        if cluster is not None and cluster is not self._looked:
            self._looked = cluster
            self._take_in(cluster)
        return Resources(self._cluster.slots, self._cluster.slots * self._task_memory)

    def _take_in(self, cluster: Cluster) -> None:
        if self._gone:  # which the head may have said before
            left = {n: address for n, address in cluster.nodes.items() if n not in self._gone}
            cluster = replace(cluster, nodes=left)
        if cluster.nodes != self._cluster.nodes:
            self._placements.clear()
            self._probed.clear()
        self._cluster = cluster
        for (task, attempt), flight in list(self._flights.items()):
            if flight.nodes is not None and not cluster.nodes.keys() & set(flight.nodes):
                # Ray would wait for them to come back.
                del self._flights[task, attempt], self._by_reply[flight.reply]
                self._killed = True
                _cancel(flight.reply, force=True)
                reason = "the nodes that see its files are gone"
                self._failed.append(WorkerLost(task, attempt, reason))

    @property
    def _task_memory(self) -> int:
        """Return the memory of a task, as the nodes can give it to as many tasks as they have processors."""
        share = task_memory(self._settings)
        return max(2 << 20, min(share, self._cluster.memory) if self._cluster.memory else share)

    def store(self) -> _DriverStore:
        return self._store

    def submit(self, task: Task, functions: Functions) -> None:
        if self._closed:
            raise EngineError("the engine is closed: the run has ended")
        try:
            choice = self._choice(task)
        except SourceError as error:
            self._failed.append(Failed(task.id, task.attempt, error))
            return
        needs = task.stage.needs
        if needs.num_gpus and not self._has_gpus(task.stage, choice.nodes):
            where = "" if choice.nodes is None else f" that sees its files ({self._addresses(choice.nodes)})"
            missing = ConfigError(
                f"num_gpus={needs.num_gpus}: no node of the Ray cluster{where} has as many GPUs"
            )
            self._failed.append(Failed(task.id, task.attempt, missing))
            return
        code, shared = self._stage(task.stage, functions)
        numbers: dict[object, int] = {}  # of payloads

        def send(ref: BlockRef) -> BlockRef:
            if not isinstance(ref, RayBlock):
                return ref
            return MessageBlock(numbers.setdefault(ref.payload, len(numbers)), *ref[1:])

        message = pack_task(task, send, code, self._settings, self._task_memory)
        payloads = list(numbers)
        nbytes = sum(ref.nbytes for refs in task.blocks.values() for ref in refs)
        direct = payloads if nbytes <= min(_DIRECT, self._cluster.store // 4) else []
        options: dict[str, Any] = {
            "num_returns": 1 + count_payloads(task.stage),
            "num_cpus": 1 if needs.num_cpus is None else needs.num_cpus,
            "num_gpus": needs.num_gpus,
            "memory": self._task_memory,
            "name": self._name(task.id),
            "max_retries": self._unseen(task.stage),
            **_options(choice),
        }
        few = ray_internals.local_object_bytes() < max(1 << 20, self._settings.memory // 16)
        least = 0 if few else _SMALL + 1
        # Nested references are not waited for, nor moved.
        returned = _run.options(**options).remote(
            message,
            least,
            [shared],
            self._signals.name(task.id, task.attempt),
            self._settings.named_after,
            [] if direct else payloads,
            *direct,
        )
        self._flights[task.id, task.attempt] = _Flight(
            task.stage, returned[0], returned[1:], payloads, choice.nodes, time.monotonic()
        )
        self._by_reply[returned[0]] = task.id, task.attempt

    def _has_gpus(self, stage: Stage, nodes: Sequence[str] | None) -> bool:
        """Return whether one of the nodes has the GPUs of a stage, or had: then it may come back.

        Ray would wait for one for ever.
        """
        wanted = {"GPU": stage.needs.num_gpus or 0.0}
        if stage.id not in self._had_gpus:
            now = {node["NodeID"]: node["Resources"] for node in alive()}  # one may just have come
            if _able(self._cluster.offers, nodes, wanted) or _able(now, nodes, wanted):
                self._had_gpus.add(stage.id)
        return stage.id in self._had_gpus

    def _addresses(self, nodes: Sequence[str]) -> str:
        return ", ".join(sorted({self._cluster.nodes.get(node, node) for node in nodes}))

    def _lack(self, flight: _Flight) -> str:
        """Return what a task asks for that no node has; "": one has it all."""
        where = "" if flight.nodes is None else f" that sees its files ({self._addresses(flight.nodes)})"
        return _lack(self._cluster.offers, flight.nodes, flight.stage.needs, where)

    def _choice(self, task: Task) -> Choice:
        if task.shards is None or not task.shards.shards:
            return Choice()
        if task.stage.id not in self._placements:
            self._placements[task.stage.id] = self._placement(task.stage)
        placement = self._placements[task.stage.id]
        return Choice() if placement is None else placement.choose(task.shards)

    def _placement(self, stage: Stage) -> Placement | None:
        """Return which nodes see a scan's files; None: there is one node, and it is this one."""
        nodes = self._cluster.nodes
        scan = stage.inputs[0]
        if not isinstance(scan, ScanInput) or nodes.keys() <= {ray.get_runtime_context().get_node_id()}:
            return None
        files = probed(scan.source.files)
        if files not in self._probed:
            asked = {node: _probe.options(scheduling_strategy=on_node(node)).remote(files) for node in nodes}
            for seconds in _PROBE_SECONDS:
                ray.wait(list(asked.values()), num_returns=len(asked), timeout=seconds)
                seen = {
                    n: dict(zip(files, answer, strict=True))
                    for n, probe_ref in asked.items()
                    if (answer := _answer(probe_ref))
                }
                # A node that is slow to start its first worker may be the only one that sees the files.
                if len(seen) == len(asked) or any(all(found.values()) for found in seen.values()):
                    break
            # A node that does not answer sees nothing, as far as is known.
            nothing = dict.fromkeys(files)
            self._probed[files] = Placement({n: seen.get(n, nothing) for n in nodes}, nodes) if seen else None
        return self._probed[files]

    def _unseen(self, stage: Stage) -> int:
        """Return how often Ray may try a task of this stage again by itself.

        Staged files carry the attempt's number, so that attempts never mix: there the driver tries again.
        """
        return 0 if isinstance(stage.output, Write) else self._settings.retries

    def _stage(self, stage: Stage, functions: Functions) -> tuple[StageCode, Any]:
        known = self._stages.get(stage.id)
        if known is None:
            code = pack_stage(stage, functions, self._run)
            known = self._stages[stage.id] = code, ray.put(code.code)
            self._needs[stage.id] = stage.needs
        return known

    def poll(self, timeout: float, enough: int = 1) -> Sequence[TaskResult]:
        if self._failed:
            failed, self._failed = self._failed, []
            return failed
        waiting = list(self._by_reply)
        if not waiting:
            return []
        ready, _ = ray.wait(waiting, num_returns=1, timeout=max(0.0, timeout))
        if ready:
            self._stopped.postpone()
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [self._landed(reply) for reply in ready]

    def _landed(self, reply: Any) -> TaskResult:
        task_id, attempt = self._by_reply.pop(reply)
        flight = self._flights.pop((task_id, attempt))
        try:
            came = cast(_Attempted, ray.get(reply, timeout=_REPLY_SECONDS))
        except TaskCancelledError:
            return Cancelled(task_id, attempt)
        except (RuntimeEnvSetupError, TaskUnschedulableError) as error:
            if flight.nodes is not None and not {node["NodeID"] for node in alive()} & set(flight.nodes):
                self._gone.update(flight.nodes)
                self._take_in(self._cluster)
                return WorkerLost(task_id, attempt, "the nodes that see its files are gone")
            return Failed(task_id, attempt, EngineError(f"Ray can't start a task: {describe(error)}"))
        except RayTaskError as error:
            return _raised(task_id, attempt, error)
        except (WorkerCrashedError, NodeDiedError) as error:
            self._killed = True
            if retries := self._unseen(flight.stage):
                return Failed(task_id, attempt, _worn_out(task_id, flight.stage, retries, error))
            stopped = self._stopped.stall(self._name(task_id))
            reason = f"{type(error).__name__}: {first_line(error)}{f'; {stopped}' if stopped else ''}"
            return WorkerLost(task_id, attempt, reason)
        except RayError as error:
            return WorkerLost(task_id, attempt, f"{type(error).__name__}: {first_line(error)}")
        result = came.result
        if not isinstance(result, Done):
            return result
        self._killed = self._killed or came.attempt > 0
        result.metrics.retries = self._unseen_attempts(reply, came.attempt)
        for number, again in came.recomputed.items():
            result.metrics.retries += self._unseen_attempts(flight.inputs[number], again)
        made = (
            RayBlock(flight.payloads[ref.payload], *ref[1:])
            for ref in result.blocks
            if isinstance(ref, MessageBlock)
        )
        return result.with_blocks(made)

    def _unseen_attempts(self, returned: Any, attempt: int) -> int:
        """Count the attempts of the task that returned this object that were not counted yet."""
        if not attempt:
            return 0
        task = returned.task_id()
        known = self._attempts.get(task, 0)
        self._attempts[task] = max(known, attempt)
        return max(0, attempt - known)

    def cancel(self, task: TaskId, attempt: int) -> None:
        flight = self._flights.get((task, attempt))
        if flight is not None:
            _cancel(flight.reply, force=False)

    def request_stop(self, task: TaskId, attempt: int) -> None:
        if (task, attempt) in self._flights and not self._head.silence:
            self._signals.ask(task, attempt)

    def silent(self) -> tuple[()]:
        """Return no attempts: stopped workers are killed (`ray.stopped`), and their tasks lost."""
        return ()

    def movement(self, after: float) -> Mapping[tuple[TaskId, int], Stall | None]:
        """Read what workers say of tasks that are long under way."""
        now = time.monotonic()
        if (silence := self._head.silence) >= after:
            return dict.fromkeys(self._flights, Stall(silence, self._head.place))
        self._long = [key for key, flight in self._flights.items() if now - flight.since >= after / 4]
        said = {key: self._signals.movement(*key, after) for key in self._long}
        found = {key: stall for key, (begun, stall) in said.items() if begun}
        stopped = {key: self._stopped.stall(self._name(key[0])) for key in self._flights}
        return {
            **found,
            **{key: stall for key, stall in stopped.items() if stall is not None},
            **self._waits(after, now),
        }

    def _waits(self, after: float, now: float) -> dict[tuple[TaskId, int], Stall]:
        """Return attempts that no node has been able to take for a while; Ray says nothing of them."""
        lacks = {key: lack for key, flight in self._flights.items() if (lack := self._lack(flight))}
        self._lacking = {key: self._lacking.get(key, now) for key in lacks}
        return {
            key: Stall(now - since, f"it has not begun: {lacks[key]}", waits=True)
            for key, since in self._lacking.items()
            if now - since >= after
        }

    def _name(self, task: TaskId) -> str:
        """Return what Ray calls a task."""
        return task_name(self._run, f"{task.stage}.{task.label}")

    def close(self) -> None:
        """Stop all tasks. A worker that does not notice is killed."""
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
        self._stopped.close()
        if ray.is_initialized() and not self._head.silence:
            self._signals.close()
            if self._killed:
                self._sweep()

    def _sweep(self) -> None:
        """Remove what killed workers left on disk. The next run would too, but there may be none."""
        spill_dir = os.fspath(self._settings.spill_dir)
        here = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # Ray has no types here
        others = {n["NodeManagerAddress"]: n for n in alive() if n["NodeManagerAddress"] != here}
        asked = [
            _sweep.options(scheduling_strategy=on_node(n["NodeID"])).remote(spill_dir, self._run)
            for n in others.values()
        ]
        if not sweep_until_clean(spill_dir, self._run, _STOP_SECONDS):
            # On a busy machine, a killed process takes its time to die.
            threading.Thread(
                target=sweep_until_clean,
                args=(spill_dir, self._run, _DIE_SECONDS),
                name="mmflow-sweep",
                daemon=True,
            ).start()
        if asked:
            ray.wait(asked, num_returns=len(asked), timeout=2 * _STOP_SECONDS)


@dataclass(frozen=True, slots=True)
class _Flight:
    """Task under way: the objects that it will return, and those that it reads."""

    stage: Stage
    reply: Any
    payloads: Sequence[Any]
    inputs: Sequence[Any]
    nodes: Sequence[str] | None
    since: float


@dataclass(frozen=True, slots=True)
class _Attempted:
    """Result and the number of its attempt; numbers of the attempts that recomputed its inputs."""

    result: TaskResult
    attempt: int
    recomputed: dict[int, int]


class _Returned(NamedTuple):
    """Payload and the number of its attempt; CRC-32 of its blocks; padding for its size; why there is none."""

    attempt: int
    payload: Payload
    sums: list[int]
    padding: bytes
    failure: str = ""


class _DriverStore(DriverStore):
    def __init__(self, head: Head, needs: Mapping[int, Needs], settings: Settings) -> None:
        self._head = head
        self._needs = needs
        self._settings = settings

    def read(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        assert isinstance(ref, RayBlock)
        payload: Any = ref.payload
        began, named = time.monotonic(), False
        try:
            while not ray.wait([payload], timeout=_BLOCK_SECONDS)[0]:
                named = self._watch(self._head.look(), time.monotonic() - began, named)
            returned: _Returned = ray.get(payload, timeout=_REPLY_SECONDS)
        except TaskUnschedulableError as error:
            raise _not_to_be_had("the result has") from error
        except RayError as error:
            raise EngineError(f"a block of the result was lost: {first_line(error)}") from error
        return read_block(_slot(returned, ref.slot), ref.rows)

    def _watch(self, cluster: Cluster | None, seconds: float, named: bool) -> bool:
        """Warn once (`named`: it was done) of a block that has not come for a while: Ray does not say why.

        Raises:
            StalledError: It has not for longer than `stall_timeout`, and no node has what a stage asks for.
        """
        if cluster is None or seconds < self._settings.named_after:
            return named
        lacks = (_lack(cluster.offers, None, needs) for needs in self._needs.values())
        lack = next(filter(None, lacks), "")
        timeout = self._settings.stall_timeout
        text = f"a block of the result was lost, and has not been recomputed for {seconds:.0f} s"
        if lack:
            text += f"; of the task that made it, perhaps: {lack}"
            if timeout and seconds >= timeout:
                raise StalledError(f"{text}; that is longer than stall_timeout = {timeout:g} allows")
        if not named:
            warnings.warn(text, StalledWarning, stacklevel=2)
        return True


class _Stop:
    """Flag of a cancelled task. Ray interrupts Python code, too; this stops between batches."""

    def is_set(self) -> bool:
        return bool(getattr(ray.get_runtime_context(), "is_canceled", bool)())


@ray.remote
def _run(
    message: TaskMessage,
    least: int,
    code: list[Any],
    name: str,
    stall_after: float,
    payloads: list[Any],
    *direct: Any,
) -> Iterator[_Returned | _Attempted]:
    """Run one task. A generator, so that what it yields is in the object store before it makes the next."""
    recomputed: dict[int, int] = {}

    def fetch(ref: BlockRef) -> pa.Buffer:
        assert isinstance(ref, MessageBlock)
        number = ref.payload
        returned: _Returned = direct[number] if direct else ray.get(payloads[number])
        if returned.attempt:
            recomputed[number] = returned.attempt
        return _slot(returned, ref.slot)

    counted = ray_internals.count_attempts()
    attempt = counted or 0
    node = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # Ray has no types here
    known = load_stage(message.key, None) or load_stage(message.key, ray.get(code[0]))
    assert known is not None  # it has its code
    leaves_with = ray.get_runtime_context().get_node_id() if message.stops_on_drain else ""
    asked = TaskSignals(name, again=attempt > 0 and message.shards is not None, node=leaves_with)
    # Without a count of executions, a later one can't end where the first did.
    stop_request = asked if counted is not None else None
    failure = ""
    with (
        reported_movement(name, message.run, (message.id, message.attempt), stall_after),
        TaskInterrupts() as interrupts,
        closing(
            stream_task(asked.cut(message), known, fetch, _Stop(), node, stop_request, interrupts.allowed)
        ) as pieces,
    ):
        for piece in pieces:
            if not isinstance(piece, list):
                result = asked.agreed(piece)
                if isinstance(result, Failed):
                    failure = first_line(result.error)
                elif not isinstance(result, Done):
                    failure = type(result).__name__
                yield _Attempted(result, attempt, recomputed)
            elif failure:
                yield _Returned(attempt, [], [], b"", failure)
            else:
                nbytes = sum(b.size for b in piece)
                sums = [zlib.crc32(b) for b in piece]
                yield _Returned(attempt, piece, sums, bytes(max(0, least - nbytes) if nbytes else 0))
            del piece


def _slot(returned: _Returned, slot: int) -> pa.Buffer:
    if slot >= len(returned.payload):
        raise BlockLostError(
            "a block of intermediate rows was lost, and the task that made it failed when run again"
            f"{returned.failure and f': {returned.failure}'}"
        )
    block = returned.payload[slot]
    if zlib.crc32(block) != returned.sums[slot]:
        raise BlockLostError(
            "a block of intermediate rows was damaged in Ray's object store, or where it spills: check disk and memory"
        )
    return block


def _options(choice: Choice) -> dict[str, Any]:
    if choice.nodes is not None:
        # No spaces: to recompute a lost block, Ray 2.60 reads the ids of nodes out of it, and ends the process on a
        # space ("incorrect hex string length").
        return {"label_selector": {"ray.io/node-id": f"in({','.join(choice.nodes)})"}}
    if choice.preferred is not None:
        # A busy node is not waited for.
        there = NodeAffinitySchedulingStrategy(choice.preferred, soft=True, _spill_on_unavailable=True)
        return {"scheduling_strategy": there}
    return {}


def _able(
    offers: Mapping[str, Mapping[str, float]], nodes: Sequence[str] | None, wanted: Mapping[str, float]
) -> bool:
    """Return whether one of the nodes (None: of all) has the resources of a task."""
    asked = (offers.get(node, {}) for node in (offers if nodes is None else nodes))
    return any(all(offer.get(name, 0) >= number for name, number in wanted.items()) for offer in asked)


def _lack(
    offers: Mapping[str, Mapping[str, float]], nodes: Sequence[str] | None, needs: Needs, where: str = ""
) -> str:
    """Return what a task asks for that none of the nodes (None: of all) has; "": one has it all."""
    wanted = {"CPU": 1 if needs.num_cpus is None else needs.num_cpus, "GPU": needs.num_gpus or 0.0}
    if _able(offers, nodes, wanted):
        return ""
    asked = " and ".join(f"{name}={number:g}" for name, number in wanted.items() if number)
    return f"it asks for {asked}, and there is no node{where} with as much"


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
    sweep_until_clean(spill_dir, run, _DIE_SECONDS)


def _worn_out(task: TaskId, stage: Stage, retries: int, error: RayError) -> EngineError:
    return EngineError(
        f"task {task.number} of stage {task.stage} ({stage.title}) lost its worker {retries + 1} times, the last time: "
        f"{first_line(error)}; if it was killed for memory, lower shard_size or workers, or give more memory"
        f"{describe_functions(stage)}",
        stage=task.stage,
        task=task.number,
        code="MMF-ENG-012",
    )


def _not_to_be_had(reads: str) -> EngineError:
    return EngineError(
        f"{reads} a block that was lost with its node, and Ray can't recompute it, since the nodes that see the "
        "files of the scan that made it are gone: run again"
    )


def _raised(task_id: TaskId, attempt: int, error: RayTaskError) -> TaskResult:
    if isinstance(error.cause, RaySystemError | ObjectLostError):
        return WorkerLost(task_id, attempt, first_line(error.cause))
    if isinstance(error.cause, TaskUnschedulableError):
        return Failed(
            task_id, attempt, _not_to_be_had(f"task {task_id.label} of stage {task_id.stage} reads")
        )
    message = (
        f"bug in task {task_id.number} of stage {task_id.stage}: {first_line(error.cause)}; please report it"
    )
    return Failed(task_id, attempt, EngineError(message, traceback=str(error)))


def _cancel(reply: Any, *, force: bool) -> None:
    try:
        ray.cancel(reply, force=force)
    except (RayError, ValueError, TypeError):  # it is over, or its cluster is gone
        return

"""The Dask engine: one future per task; blocks stay on the workers that made them (`dask.worker`).

    driver                       scheduler        worker
    submit(message)          -->             -->  run; blocks into a file there
    result, place of the file <--                <--
    a future is dropped      -->             -->  the file goes

Rows never pass through the driver, nor through the scheduler, unless the caller asks for the result. What a lost
worker had is recomputed from its lineage.

Invariant: the file of a task's blocks lives as long as its future is held.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import pickle
import queue
import time
import warnings
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from mmflow.blocks import read_span
from mmflow.blocks.references import BlockRef, DaskBlock, Place, SharedBlock, Span
from mmflow.config import Settings
from mmflow.engines.dask.connection import WorkerGone, disconnect, joined
from mmflow.engines.dask.health import ANSWER_SECONDS, answers
from mmflow.engines.dask.lineage import BlockProducer, get_producer, input_producers
from mmflow.engines.dask.placement import Load
from mmflow.engines.dask.worker import (
    KEY_PREFIX,
    Look,
    end_here,
    look_here,
    request_stop_here,
    run_here,
    send_here,
    send_seconds,
)
from mmflow.engines.messages import (
    DriverStore,
    StageCode,
    first_line,
    pack_stage,
    pack_task,
    read_block,
    task_memory,
)
from mmflow.engines.placement import Choice
from mmflow.engines.protocol import Resources
from mmflow.errors import (
    BlockLostError,
    ConfigError,
    EngineError,
    MmflowError,
    SourceError,
    StalledError,
    StalledWarning,
)
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.stages import Functions, Stage
from mmflow.plan.tasks import Cancelled, Done, Failed, Task, TaskId, TaskResult, WorkerLost
from mmflow.worker.movement import Stall

__all__ = ["DaskEngine", "disconnect"]

_REPLY_SECONDS = 10
_RESTORE_SECONDS = 0.1
_END_SECONDS = 2
_ASK_SECONDS = 1
_SEEK_SECONDS = 1.0
#: Resource of no worker.
_NOBODY = "mmflow-worker"


class DaskEngine:
    """`Engine` on a Dask cluster. Serves one run.

    Args:
        settings: `address` (of a scheduler; None: a cluster of this machine, which lives as long as this process),
            `workers` (of such a cluster), `memory` (over `workers`), `io`, `spill_dir`, `retries`.
        run: Name of the run.

    Raises:
        EngineError: The cluster can't be reached, has no workers, or runs other versions of what matters.
    """

    def __init__(self, settings: Settings, run: str) -> None:
        self._settings = settings
        self._run = run
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._link = joined(settings, self)
        self._client = self._link.client
        self._load = Load(self._link)
        self._sent = 0
        self._stages: dict[int, StageCode] = {}
        self._known: set[tuple[str, str]] = set()  # workers, and keys of stages whose code they have
        self._flights: dict[str, _Flight] = {}
        self._waiting: list[_Flight] = []
        self._producers: weakref.WeakSet[BlockProducer] = weakref.WeakSet()
        self._landed: list[TaskResult] = []
        self._recomputed = 0  # tasks run again for their blocks, which no result has reported yet
        self._sought = 0.0  # when Dask was last asked where tasks are
        self._looks: concurrent.futures.Future[list[Any]] | None = None
        self._found: dict[tuple[TaskId, int], Stall | None] = {}
        self._had_gpus: set[int] = set()  # stages whose GPUs some worker had
        self._over: dict[str, float] = {}  # since when keys are done by their worker
        self._store = _DriverStore(self)
        self._closed = False

    def resources(self) -> Resources:
        """Return the resources of the cluster, which may grow and shrink.

        Raises:
            EngineError: Neither the scheduler nor any worker has been heard of for too long.
        """
        self._link.health.look()
        slots = max(1, sum(self._load.threads.values()))
        return Resources(slots, slots * task_memory(self._settings))

    def store(self) -> _DriverStore:
        return self._store

    def submit(self, task: Task, functions: Functions) -> None:
        if self._closed:
            raise EngineError("the engine is closed: the run has ended")
        self._start(_Flight(task, functions, None))

    def take(self, event: WorkerGone) -> None:
        """Receive an event of the cluster, in a thread of Dask."""
        self._events.put(event)

    def poll(self, timeout: float, enough: int = 1) -> Sequence[TaskResult]:
        self._pump(0.0 if self._landed else max(0.0, timeout))
        landed, self._landed = self._landed, []
        return landed

    def cancel(self, task: TaskId, attempt: int) -> None:
        for flight in [*self._flights.values(), *self._waiting]:
            if flight.attempt == (task, attempt):
                self._drop(flight)
                self._landed.append(Cancelled(task, attempt))

    def request_stop(self, task: TaskId, attempt: int) -> None:
        """Ask an attempt to stop early. A worker that Dask chose instead of ours gets no request."""
        for flight in self._flights.values():
            if flight.attempt == (task, attempt):
                ours = [flight.worker] if flight.worker else list(self._load.threads)
                with contextlib.suppress(OSError, TimeoutError):
                    answers(self._client, request_stop_here, flight.key, workers=ours, seconds=_ASK_SECONDS)

    def silent(self) -> list[tuple[TaskId, int]]:
        silent = self._link.health.silent
        flights = self._flights.values() if silent else ()
        return [f.attempt for f in flights if f.attempt is not None and f.worker in silent]

    def movement(self, after: float) -> Mapping[tuple[TaskId, int], Stall | None]:
        """Return what workers said when they were last asked, and ask again those whose tasks are long under way."""
        health = self._link.health
        now, silent = time.monotonic(), health.silent
        if (silence := health.scheduler_silence) >= after:
            place = health.scheduler_place
            return {f.attempt: Stall(silence, place) for f in self._flights.values() if f.attempt is not None}
        if self._looks is None or self._looks.done():
            flights = [
                f for f in self._flights.values() if now - f.since >= after / 4 and f.attempt is not None
            ]
            if self._looks is not None and self._looks.exception() is None:
                self._take_looks(self._looks.result(timeout=0), after, now)
            asked = {f.worker for f in flights if f.worker and f.worker not in silent}
            self._looks = asyncio.run_coroutine_threadsafe(
                self._look(asked, after), self._client.loop.asyncio_loop
            )
        found = dict(self._found)
        found |= {f.attempt: stall for f, stall in self._lacking(after, now) if f.attempt is not None}
        for flight in self._flights.values():
            if flight.attempt is None or flight.worker not in silent:
                continue
            silence, stopped = health.silence(flight.worker), health.stopped_process(flight.worker)
            if stopped:
                place = f"{stopped} (worker {flight.worker}); it is killed, and the task runs again"
                found[flight.attempt] = Stall(silence, place, stopped=True)
            elif silence >= after:
                place = (
                    f"worker {flight.worker} sends no heartbeats: it is stopped, cut off, or holds the GIL"
                )
                found[flight.attempt] = Stall(silence, place)
        return found

    def _lacking(self, after: float, now: float) -> Iterator[tuple[_Flight, Stall]]:
        """Yield tasks that no worker can take, and those that read lost blocks that none can recompute."""
        lost = {}  # blocks of these producers
        for flight in self._flights.values():
            if flight.lacks and now - flight.alone_since >= after:
                yield flight, Stall(now - flight.alone_since, f"it has not begun: {flight.lacks}", waits=True)
                if flight.recomputes is not None:
                    lost[flight.recomputes] = flight
        waiting = list(self._waiting)
        while held := [f for f in waiting if lost.keys() & set(f.inputs)]:
            for flight in held:
                waiting.remove(flight)
                first = next(lost[producer] for producer in flight.inputs if producer in lost)
                place = (
                    f"it has not begun: a block that it reads was lost, and to recompute it, {first.lacks}"
                )
                yield flight, Stall(now - first.alone_since, place, waits=True)
                if flight.recomputes is not None:
                    lost[flight.recomputes] = first

    async def _look(self, workers: Collection[str], after: float) -> list[Any]:
        async def one(worker: str) -> Any:
            asked = self._client.run(
                look_here, self._run, after, workers=[worker], on_error="return", asynchronous=True
            )
            said = (await asyncio.wait_for(asked, ANSWER_SECONDS))[worker]
            if isinstance(said, Look):
                self._link.note_ghosts(worker, said.ghosts)
            return said

        answered: list[Any] = await asyncio.gather(*map(one, workers), return_exceptions=True)
        return answered

    def _take_looks(self, answered: list[Any], after: float, now: float) -> None:
        """Take in what workers see: attempts that do not move, and those that are over, but whose reply is lost."""
        looks = [look for look in answered if isinstance(look, Look)]
        self._found = {attempt: stall for look in looks for attempt, stall in look.attempts.items()}
        over = {key for look in looks for key in look.over} & self._flights.keys()
        self._over = {key: self._over.get(key, now) for key in over}
        for key, since in self._over.items():
            flight = self._flights[key]
            if flight.attempt is not None and now - since >= after:
                place = f"worker {flight.worker} has finished it, and its reply has not come"
                self._found[flight.attempt] = Stall(now - since, place)

    def close(self) -> None:
        """Stop all tasks and drop all blocks. Workers notice between batches."""
        if self._closed:
            return
        self._closed = True
        self._link.leave(self)
        for flight in list(self._flights.values()):
            self._drop(flight)
        self._waiting.clear()
        for producer in list(self._producers):
            producer.drop()
        self._stages.clear()
        if self._client.status == "running":
            # Dask would drop the files a moment later, but not those of killed workers.
            spill = os.fspath(self._settings.spill_dir)
            with contextlib.suppress(OSError, TimeoutError):
                self._client.run(end_here, self._run, spill, on_error="ignore", callback_timeout=_END_SECONDS)

    # ---- sending ------------------------------------------------------------------------------------

    def _start(self, flight: _Flight) -> None:
        for producer in flight.inputs:
            producer.users += 1
        self._send_or_wait(flight)

    def _send_or_wait(self, flight: _Flight) -> None:
        """Send a task, or let it wait until its inputs, of which some are lost, are there again."""
        lost = [producer for producer in flight.inputs if producer.place is None]
        if lost:
            self._waiting.append(flight)
        else:
            self._send(flight)
        for producer in lost:
            self._recompute(producer)

    def _recompute(self, producer: BlockProducer) -> None:
        if not producer.recomputing:
            producer.recomputing = True
            self._start(_Flight(producer.task, producer.functions, producer))

    def _send(self, flight: _Flight) -> None:
        task = flight.task
        code = self._stage(task.stage, flight.functions)
        message = pack_task(task, _shared, code, self._settings, task_memory(self._settings))
        try:
            choice = self._load.choice(task)
            flight.wanted = self._wanted(task.stage, choice)
        except (SourceError, ConfigError) as error:
            self._forget(flight)
            self._ended(flight, error)
            return
        flight.worker = self._load.worker(message, choice, flight.wanted, self._flights.values())
        self._sent += 1
        flight.key = f"{KEY_PREFIX}{self._run}-{task.id.stage}.{task.id.label}-{self._sent}"
        sent = None if (flight.worker, code.key) in self._known else code.code
        flight.pinned = flight.worker
        if flight.worker:
            flight.lacks, flight.alone_since = "", 0.0
            # Dask forgets the resources of a task that it gives to another worker than the one that was asked for.
            strict = choice.nodes is not None or bool(flight.wanted)
            pinned: dict[str, Any] = {"workers": [flight.worker], "allow_other_workers": not strict}
            if flight.wanted:
                pinned["resources"] = flight.wanted
        else:
            flight.lacks = _lack(choice, flight.wanted, self._load.threads)
            flight.others = self._load.able(Choice(), flight.wanted).keys()
            flight.alone_since = flight.alone_since or time.monotonic()
            # It waits at the scheduler, so that a cluster that grows on demand does.
            pinned = {"resources": {_NOBODY: 1}}
        flight.future = self._client.submit(
            run_here, pickle.dumps(message), sent, key=flight.key, pure=False, **pinned
        )
        self._flights[flight.key] = flight
        self._watch(flight)

    def _wanted(self, stage: Stage, choice: Choice) -> dict[str, float]:
        """Return the resources of a task, by the names that Dask's workers declare them by: GPU, and CPU where they do.

        A GPU that was there once is waited for: whoever had it may come back.

        Raises:
            ConfigError: No worker that may run it has so many GPUs, and none had. Dask would wait for one for ever.
            EngineError: The scheduler does not say what they have.
        """
        gpus, cpus = stage.needs.num_gpus, stage.needs.num_cpus
        wanted = {"GPU": gpus} if gpus else {}
        if gpus and stage.id not in self._had_gpus:
            if not self._load.able(choice, wanted):
                self._link.health.ask()  # one may just have come
            if not self._load.able(choice, wanted):
                where = "" if choice.nodes is None else f" that sees its files ({', '.join(choice.nodes)})"
                raise ConfigError(
                    f"num_gpus={gpus}: no Dask worker{where} has as many; start them with --resources GPU=1"
                )
            self._had_gpus.add(stage.id)
        more = {**wanted, "CPU": cpus} if cpus else wanted
        return more if self._load.able(choice, more) else wanted

    def _watch(self, flight: _Flight) -> None:
        events, key = self._events, flight.key
        flight.future.add_done_callback(lambda _: events.put(key))

    def _stage(self, stage: Stage, functions: Functions) -> StageCode:
        known = self._stages.get(stage.id)
        if known is None:
            known = self._stages[stage.id] = pack_stage(stage, functions, self._run)
        return known

    # ---- what comes back ----------------------------------------------------------------------------

    def _pump(self, timeout: float) -> None:
        """Process the events of the cluster; waits for up to `timeout` seconds for the first one."""
        if self._client.status != "running":
            raise EngineError(
                f"lost the connection to the Dask scheduler at {self._link.address}: see whether it runs, then run "
                "again",
                code="MMF-ENG-011",
            )
        events: list[_Event] = []
        try:
            events.append(self._events.get(timeout=timeout) if timeout else self._events.get_nowait())
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            pass
        for event in events:
            if isinstance(event, WorkerGone):
                self._worker_gone(event)
        flights = [
            self._flights[e] for e in dict.fromkeys(events) if isinstance(e, str) and e in self._flights
        ]
        finished: dict[str, list[_Flight]] = {}
        for flight in flights:
            if flight.future.status == "finished":
                finished.setdefault(flight.worker, []).append(flight)
            else:
                self._failed(flight)
        for together in finished.values():
            self._gather(together)
        for event in events:
            if isinstance(event, _Gathered):
                self._gathered(event)
            elif isinstance(event, _Located):
                self._located(event)
        for flight in list(self._load.stuck(list(self._flights.values()))):
            self._send_again(flight)
        for flight in [f for f in self._flights.values() if f.lacks]:
            if self._load.able(Choice(), flight.wanted).keys() - flight.others:
                self._send_again(flight)
        if time.monotonic() - self._sought >= _SEEK_SECONDS:
            self._seek()

    def _send_again(self, flight: _Flight) -> None:
        self._cancel(flight)
        self._flights.pop(flight.key)
        self._send_or_wait(flight)

    def _gather(self, flights: list[_Flight]) -> None:
        """Ask for the replies of tasks that one worker has done. They are events, too: it may be stopped by now."""
        futures = [flight.future for flight in flights]
        asked = asyncio.run_coroutine_threadsafe(
            self._client.gather(futures, errors="skip", asynchronous=True), self._client.loop.asyncio_loop
        )
        events = self._events
        asked.add_done_callback(lambda answer: events.put(_Gathered(flights, futures, answer)))

    def _gathered(self, event: _Gathered) -> None:
        replies = [] if event.answer.exception() is not None else event.answer.result(timeout=0)
        waiting = [
            flight
            for flight, future in zip(event.flights, event.futures, strict=True)
            if self._flights.get(flight.key) is flight and flight.future is future
        ]
        if len(replies) != len(event.flights):  # one was lost on the way: see which
            for flight in waiting:
                self._failed(flight)
            return
        for flight, (reply, place) in zip(event.flights, replies, strict=True):
            if flight in waiting:
                self._land(flight, reply, place)

    def _failed(self, flight: _Flight) -> None:
        """Handle a future that ended without a reply."""
        status = flight.future.status
        if status in ("pending", "lost"):
            self._watch(flight)  # Dask runs it again, since a worker was lost
            return
        try:
            reply, place = flight.future.result(timeout=_REPLY_SECONDS)
        except Exception as error:  # noqa: BLE001  (whatever Dask or unpickling raised there)
            self._drop(flight)
            reason = f"{type(error).__name__}: {first_line(error)}"
            lost = status == "cancelled" or type(error).__name__ in ("KilledWorker", "TimeoutError")
            if lost:
                self._lost(flight, reason)
            else:
                text = f"bug in task {flight.task.id.label} of stage {flight.task.id.stage}: {reason}"
                self._ended(flight, EngineError(f"{text}; please report it"))
        else:
            self._land(flight, reply, place)

    def _land(self, flight: _Flight, result: TaskResult | None, place: Place) -> None:
        stage = self._stages[flight.task.stage.id]
        if result is None:  # the worker did not know the stage (any more)
            self._known.discard((flight.worker, stage.key))
            self._flights.pop(flight.key)
            self._send_or_wait(flight)
            return
        self._known.add((place.address, stage.key))
        future = flight.future
        self._forget(flight)
        lost = isinstance(result, Failed) and isinstance(result.error, BlockLostError)
        if isinstance(result, Failed) and lost and "lost_file" not in result.error.context:
            block = result.error.context.get("block")
            for producer in flight.inputs:
                if isinstance(block, SharedBlock) and producer.place == block.place:
                    producer.drop()
            self._lost(flight, str(result.error))
        elif not isinstance(result, Done) and flight.recomputes is None:
            self._landed.append(result)
        elif isinstance(result, Failed):
            self._ended(flight, result.error)
        elif not isinstance(result, Done):
            self._lost(flight, "it was cancelled from outside")
        elif flight.recomputes is not None:
            producer, producer.recomputing = flight.recomputes, False
            producer.place, producer.held = place, future
            self._recomputed += 1
            self._resume()
        else:
            result.metrics.retries, self._recomputed = self._recomputed, 0
            task = flight.task
            if task.shards is not None and result.resume_offset is not None:
                # A task that stopped early is recomputed up to where it stopped.
                task = replace(task, shards=task.shards.cut_at(result.resume_offset))
            producer = BlockProducer(task, flight.functions, len(result.blocks), place, future)
            producer.drop_if_unused()
            self._producers.add(producer)
            made = (DaskBlock(producer, *ref[1:]) for ref in result.blocks if isinstance(ref, SharedBlock))
            self._landed.append(result.with_blocks(made))

    def _resume(self) -> None:
        """Send the tasks whose inputs are there again."""
        waiting, self._waiting = self._waiting, []
        for flight in waiting:
            self._send_or_wait(flight)

    def _lost(self, flight: _Flight, reason: str) -> None:
        """Run a task again: the scheduler does it, or this engine where the task recomputes blocks."""
        producer = flight.recomputes
        if producer is None:
            self._landed.append(WorkerLost(flight.task.id, flight.task.attempt, reason))
            return
        producer.failures += 1
        producer.recomputing = False
        if producer.failures > self._settings.retries:
            self._ended(flight, EngineError(f"lost blocks could not be recomputed: {reason}"))
        else:
            self._recompute(producer)

    def _ended(self, flight: _Flight, error: MmflowError) -> None:
        """Fail a task, and all tasks that wait for the blocks that it should have recomputed."""
        producer = flight.recomputes
        if producer is None:
            self._landed.append(Failed(flight.task.id, flight.task.attempt, error))
            return
        producer.recomputing = False
        stranded = [f for f in self._waiting if producer in f.inputs]
        self._waiting = [f for f in self._waiting if producer not in f.inputs]
        for waiting in stranded:
            self._forget(waiting)
            self._ended(waiting, error)

    def _worker_gone(self, event: WorkerGone) -> None:
        for producer in list(self._producers):
            if producer.place is not None and producer.place.address == event.address:
                producer.drop()
        for key in event.keys & self._flights.keys():
            flight = self._flights[key]
            self._drop(flight)
            self._lost(
                flight, f"worker {event.address} was lost{f': {event.stopped}' if event.stopped else ''}"
            )
        self._known = {known for known in self._known if known[0] != event.address}
        self._sought = 0.0

    def _seek(self) -> None:
        """Ask Dask where the tasks are whose worker has left, or that were sent while there was none."""
        self._sought = time.monotonic()
        keys = {key for key, flight in self._flights.items() if self._out_of_sight(flight)}
        if keys:
            asked = asyncio.run_coroutine_threadsafe(
                self._client.scheduler.processing(), self._client.loop.asyncio_loop
            )
            events = self._events
            asked.add_done_callback(lambda answer: events.put(_Located(keys, answer)))

    def _out_of_sight(self, flight: _Flight) -> bool:
        return flight.worker not in self._link.health.threads

    def _located(self, event: _Located) -> None:
        """Note the workers of tasks that Dask gave to others than ours, and send those again that it gives to nobody.

        A task that asks for a worker, even with `allow_other_workers`, and comes when this one, the last one, has just
        left, stays "no-worker" however many join: distributed 2026.8, `bulk_schedule_unrunnable_after_adding_worker`.
        """
        if event.answer.exception() is not None:
            return
        workers = {key: worker for worker, keys in event.answer.result(timeout=0).items() for key in keys}
        for key in event.keys & self._flights.keys():
            flight = self._flights[key]
            if key in workers:
                flight.worker = workers[key]
            elif flight.pinned and self._out_of_sight(flight) and flight.future.status == "pending":
                self._send_again(flight)

    def _drop(self, flight: _Flight) -> None:
        """Cancel a task."""
        self._cancel(flight)
        self._forget(flight)

    def _cancel(self, flight: _Flight) -> None:
        if flight.future is not None:
            flight.future.cancel(force=True)

    def _forget(self, flight: _Flight) -> None:
        """Forget a task that is not under way any more."""
        self._flights.pop(flight.key, None)
        if flight in self._waiting:
            self._waiting.remove(flight)
        for producer in flight.inputs:
            producer.users -= 1
            producer.drop_if_unused()
        flight.future = None

    # ---- results ------------------------------------------------------------------------------------

    def block(self, ref: DaskBlock) -> list[pa.RecordBatch]:
        """Return a block's rows, fetched from its worker.

        Raises:
            EngineError: It is lost, and could not be recomputed.
            StalledError: The same, since no worker can for longer than `stall_timeout`.
        """
        producer, named = get_producer(ref), False
        while True:
            while producer.place is None:
                failures = producer.failures
                self._recompute(producer)
                self._link.health.look()
                self._pump(_RESTORE_SECONDS)
                named = self._named_lack(producer, named)
                if not producer.recomputing and producer.place is None and producer.failures == failures:
                    raise EngineError("a block of the result was lost, and could not be recomputed")
            try:
                return read_block(self._bytes(producer.place, ref.span), ref.rows)
            except BlockLostError as error:
                producer.drop()
                producer.failures += 1
                if producer.failures > self._settings.retries:
                    raise EngineError(error.message, **error.context) from error

    def _named_lack(self, producer: BlockProducer, named: bool) -> bool:
        """Warn once (`named`: it was done) of a block of the result that no worker can recompute for a while.

        Raises:
            StalledError: None can for longer than `stall_timeout`.
        """
        after, timeout = self._settings.named_after, self._settings.stall_timeout
        for flight, stall in self._lacking(after, time.monotonic()):
            if flight.recomputes is producer:
                text = f"a block of the result was lost {stall.seconds:.0f} s ago, and is to be recomputed: {stall}"
                if timeout and stall.seconds >= timeout:
                    raise StalledError(f"{text}; that is longer than stall_timeout = {timeout:g} allows")
                if not named:
                    warnings.warn(text, StalledWarning, stacklevel=2)
                return True
        return named

    def _bytes(self, place: Place, span: Span) -> pa.Buffer:
        if place.host == self._link.host:
            try:
                return read_span(place.path, span)
            except FileNotFoundError:
                pass  # a container that shares only the memory, or it is gone
        try:
            sent = self._client.run(
                send_here, place.path, span, workers=[place.address], callback_timeout=send_seconds(span)
            )
            return pa.py_buffer(sent[place.address])
        except (OSError, ValueError, KeyError, TimeoutError) as error:
            raise BlockLostError(f"{place.address} does not answer: {first_line(error)}") from error


@dataclass(frozen=True, slots=True, eq=False)
class _Gathered:
    """Replies that were asked for, or the reason why they can't be had."""

    flights: list[_Flight]
    futures: list[Any]
    answer: concurrent.futures.Future[Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Located:
    """Keys that were asked for, and those that each worker has now, as the scheduler says it."""

    keys: set[str]
    answer: concurrent.futures.Future[dict[str, list[str]]]


_Event = str | WorkerGone | _Gathered | _Located


class _Flight:
    """Task under way, or waiting for its inputs.

    Attributes:
        recomputes: Producer whose lost blocks it recomputes.
        worker: Worker that has it, as far as is known.
        pinned: Worker for which Dask was asked; "": none.
        wanted: Resources that Dask keeps for it.
        lacks: Reason why no worker can take it; "": one has it.
        others: Workers, when it was sent, that could take it if they saw its files.
        alone_since: When it was first found that none can.
    """

    __slots__ = (
        "alone_since", "attempt", "functions", "future", "inputs", "key", "lacks", "others", "pinned", "recomputes",
        "since", "task", "wanted", "worker",
    )  # fmt: skip

    def __init__(self, task: Task, functions: Functions, recomputes: BlockProducer | None) -> None:
        self.task = task
        self.functions = functions
        self.recomputes = recomputes
        self.attempt = (task.id, task.attempt) if recomputes is None else None
        self.inputs = input_producers(task)
        self.key = ""
        self.worker = ""
        self.pinned = ""
        self.wanted: Mapping[str, float] = {}
        self.lacks = ""
        self.others: Collection[str] = ()
        self.alone_since = 0.0
        self.since = time.monotonic()
        self.future: Any = None


class _DriverStore(DriverStore):
    def __init__(self, engine: DaskEngine) -> None:
        self._engine = weakref.ref(engine)

    def read(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        engine = self._engine()
        assert engine is not None  # the run that reads holds it
        assert isinstance(ref, DaskBlock)
        return engine.block(ref)

    def delete(self, ref: BlockRef) -> None:
        """Forget a block. The file goes with the last of its blocks."""
        if isinstance(ref, DaskBlock):
            producer = get_producer(ref)
            producer.live -= 1
            producer.drop_if_unused()


def _lack(choice: Choice, wanted: Mapping[str, float], workers: Collection[str]) -> str:
    """Return why no worker can take a task."""
    if not workers:
        return "the Dask cluster has no worker"
    asked = "".join(f" with {name}={number:g}" for name, number in wanted.items())
    if choice.nodes is None:
        return f"there is no worker{asked} any more"
    return f"there is no worker{asked} on the hosts that see its files ({', '.join(choice.nodes)})"


def _shared(ref: BlockRef) -> BlockRef:
    """Return the reference by which workers read a block."""
    if not isinstance(ref, DaskBlock):
        return ref
    place = get_producer(ref).place
    assert place is not None  # a task waits until all its inputs are there
    return SharedBlock(place, ref.span, ref.rows, ref.nbytes)

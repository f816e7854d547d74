"""The Dask engine: one future per task; blocks stay on the workers that made them (`dask_worker`).

    driver                       scheduler        worker
    submit(parcel, places)   -->             -->  run; blocks into a file there
    Reply, place of the file <--             <--
    a future let go          -->             -->  the file goes

Rows never pass through the driver, nor through the scheduler, unless the caller asks for the result. What a lost
worker had is made again from its lineage.

Invariant: the file of a task's blocks lives as long as its future is held.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import time
import weakref
from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa

from mmflow.config import Settings
from mmflow.engines.base import Resources
from mmflow.engines.dask_link import WorkerGone, disconnect, joined
from mmflow.engines.dask_load import Load
from mmflow.engines.dask_worker import (
    KEY_PREFIX,
    Place,
    end_here,
    hand_in_here,
    run_here,
    send_here,
)
from mmflow.engines.lineage import Made, inputs
from mmflow.engines.remote import (
    Reply,
    StageCode,
    first_line,
    known_blocks,
    pack_stage,
    parcel_of,
    read_block,
    task_memory,
)
from mmflow.errors import BlockLostError, EngineError, SourceError
from mmflow.exec.stage import Functions, Stage
from mmflow.exec.task import BlockRef, Cancelled, Done, Failed, Task, TaskId, TaskResult, WorkerLost, cut_at
from mmflow.store import Span, read_span

__all__ = ["DaskEngine", "disconnect"]

_LOOK_SECONDS = 5.0
_REPLY_SECONDS = 10
_RESTORE_SECONDS = 0.1
_END_SECONDS = 2
_ASK_SECONDS = 1


class DaskEngine:
    """An `Engine` on a Dask cluster. Serves one run.

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
        self._link = joined(settings)
        self._client = self._link.client
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._looked = 0.0
        self._load = Load(self._link)
        self._sent = 0
        self._stages: dict[int, StageCode] = {}
        self._known: set[tuple[str, str]] = set()  # workers, and keys of stages whose code they have
        self._flights: dict[str, _Flight] = {}
        self._waiting: list[_Flight] = []
        self._made: weakref.WeakSet[Made] = weakref.WeakSet()
        self._landed: list[TaskResult] = []
        self._remade = 0  # tasks run again for their blocks, as far as the driver was not told
        self._store = _DriverStore(self)
        self._closed = False
        self._link.listeners.add(self)

    def resources(self) -> Resources:
        """The cluster's, which may grow and shrink."""
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS or not self._load.threads:
            self._looked = now
            self._load.threads = self._client.nthreads()
        slots = max(1, sum(self._load.threads.values()))
        return Resources(slots, slots * task_memory(self._settings))

    def store(self) -> _DriverStore:
        return self._store

    def submit(self, task: Task, functions: Functions) -> None:
        """See `Engine.submit`."""
        if self._closed:
            raise EngineError("the engine is closed: the run has ended")
        self._start(_Flight(task, functions, None))

    def take(self, event: WorkerGone) -> None:
        """See `dask_link.Listener`."""
        self._events.put(event)

    def poll(self, timeout: float) -> Sequence[TaskResult]:
        """See `Engine.poll`."""
        self._pump(0.0 if self._landed else max(0.0, timeout))
        landed, self._landed = self._landed, []
        return landed

    def cancel(self, task: TaskId, attempt: int) -> None:
        """See `Engine.cancel`."""
        for flight in [*self._flights.values(), *self._waiting]:
            if flight.remakes is None and (flight.task.id, flight.task.attempt) == (task, attempt):
                self._drop(flight)
                self._landed.append(Cancelled(task, attempt))

    def hand_in(self, task: TaskId, attempt: int) -> None:
        """See `Engine.hand_in`. A worker that Dask chose instead of ours is not asked."""
        for flight in self._flights.values():
            if flight.remakes is None and (flight.task.id, flight.task.attempt) == (task, attempt):
                ours = [flight.worker] if flight.worker else None
                with contextlib.suppress(OSError, TimeoutError):
                    self._client.run(
                        hand_in_here,
                        flight.key,
                        workers=ours,
                        on_error="ignore",
                        callback_timeout=_ASK_SECONDS,
                    )

    def close(self) -> None:
        """See `Engine.close`. Workers notice between batches."""
        if self._closed:
            return
        self._closed = True
        self._link.listeners.discard(self)
        for flight in list(self._flights.values()):
            self._drop(flight)
        self._waiting.clear()
        for made in list(self._made):
            made.let_go()
        self._stages.clear()
        if self._client.status == "running":
            # Dask would let go of the files a moment later; of workers that were killed, nobody would.
            spill = os.fspath(self._settings.spill_dir)
            with contextlib.suppress(OSError, TimeoutError):
                self._client.run(end_here, self._run, spill, on_error="ignore", callback_timeout=_END_SECONDS)

    # ---- sending ------------------------------------------------------------------------------------

    def _start(self, flight: _Flight) -> None:
        for made in flight.inputs:
            made.users += 1
        self._send_or_wait(flight)

    def _send_or_wait(self, flight: _Flight) -> None:
        """Send a task, or let it wait until its inputs, of which some are lost, are there again."""
        lost = [made for made in flight.inputs if made.place is None]
        if lost:
            self._waiting.append(flight)
        else:
            self._send(flight)
        for made in lost:
            self._remake(made)

    def _remake(self, made: Made) -> None:
        if not made.remaking:
            made.remaking = True
            self._start(_Flight(made.task, made.functions, made))

    def _send(self, flight: _Flight) -> None:
        task = flight.task
        code = self._stage(task.stage, flight.functions)
        parcel, payloads = parcel_of(task, code, self._settings, task_memory(self._settings))
        flight.payloads = cast("list[Made]", payloads)
        places = [made.place for made in flight.payloads]
        try:
            choice = self._load.choice(task)
        except SourceError as error:
            self._forget(flight)
            self._ended(flight, error)
            return
        flight.worker = self._load.worker(task, choice, self._flights.values())
        self._sent += 1
        flight.key = f"{KEY_PREFIX}{self._run}-{task.id.stage}.{task.id.label}-{self._sent}"
        sent = None if (flight.worker, code.key) in self._known else code.code
        pinned = (
            {"workers": [flight.worker], "allow_other_workers": choice.nodes is None} if flight.worker else {}
        )
        flight.future = self._client.submit(
            run_here, pickle.dumps((parcel, places)), sent, key=flight.key, pure=False, **pinned
        )
        self._flights[flight.key] = flight
        self._watch(flight)

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
        """Take in what has happened; waits for up to `timeout` seconds for the first of it."""
        if self._client.status != "running":
            raise EngineError(f"lost the connection to the Dask scheduler at {self._link.address}")
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
        finished = [f for f in flights if f.future.status == "finished"]
        replies = self._client.gather([f.future for f in finished], errors="skip") if finished else []
        if len(replies) != len(finished):  # one was lost on the way: see which
            finished, replies = [], []
        for flight, (reply, place) in zip(finished, replies, strict=True):
            self._land(flight, reply, place)
        for flight in flights:
            if flight.key in self._flights:
                self._failed(flight)
        for flight in list(self._load.stuck(list(self._flights.values()))):
            self._cancel(flight)
            self._flights.pop(flight.key)
            self._send_or_wait(flight)

    def _failed(self, flight: _Flight) -> None:
        """A future that ended without a reply."""
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

    def _land(self, flight: _Flight, reply: Reply | None, place: Place) -> None:
        stage = self._stages[flight.task.stage.id]
        if reply is None:  # the worker did not know the stage (any more)
            self._known.discard((flight.worker, stage.key))
            self._flights.pop(flight.key)
            self._send_or_wait(flight)
            return
        self._known.add((place.address, stage.key))
        future, result = flight.future, reply.result
        self._forget(flight)
        lost = isinstance(result, Failed) and isinstance(result.error, BlockLostError)
        if isinstance(result, Failed) and lost and "kept" not in result.error.context:
            number = result.error.context.get("payload")
            if number is not None:
                flight.payloads[number].let_go()
            self._lost(flight, str(result.error))
        elif not isinstance(result, Done) and flight.remakes is None:
            self._landed.append(result)
        elif isinstance(result, Failed):
            self._ended(flight, result.error)
        elif not isinstance(result, Done):
            self._lost(flight, "it was cancelled from outside")
        elif flight.remakes is not None:
            made, made.remaking = flight.remakes, False
            made.place, made.held = place, future
            self._remade += 1
            self._resume()
        else:
            result.metrics.retries, self._remade = self._remade, 0
            live = sum(ref is not None for ref in (*result.outputs, result.rejects))
            # What was handed in is made again as far as it went.
            task = flight.task if result.rest is None else cut_at(flight.task, result.rest)
            made = Made(task, flight.functions, live, place, future)
            made.let_go_if_unused()
            self._made.add(made)
            self._landed.append(known_blocks(result, [made]))

    def _resume(self) -> None:
        """Send the tasks whose inputs are there again."""
        waiting, self._waiting = self._waiting, []
        for flight in waiting:
            self._send_or_wait(flight)

    def _lost(self, flight: _Flight, reason: str) -> None:
        """A task has to be run again: by the driver, or, of one that makes blocks again, here."""
        made = flight.remakes
        if made is None:
            self._landed.append(WorkerLost(flight.task.id, flight.task.attempt, reason))
            return
        made.failures += 1
        made.remaking = False
        if made.failures > self._settings.retries:
            self._ended(flight, EngineError(f"lost blocks could not be made again: {reason}"))
        else:
            self._remake(made)

    def _ended(self, flight: _Flight, error: Any) -> None:
        """A task failed for good: so does what waits for the blocks that it should have made again."""
        made = flight.remakes
        if made is None:
            self._landed.append(Failed(flight.task.id, flight.task.attempt, error))
            return
        made.remaking = False
        stranded = [f for f in self._waiting if made in f.inputs]
        self._waiting = [f for f in self._waiting if made not in f.inputs]
        for waiting in stranded:
            self._forget(waiting)
            self._ended(waiting, error)

    def _worker_gone(self, event: WorkerGone) -> None:
        self._load.threads.pop(event.address, None)
        for made in list(self._made):
            if made.place is not None and made.place.address == event.address:
                made.let_go()
        for key in event.keys & self._flights.keys():
            flight = self._flights[key]
            self._drop(flight)
            self._lost(flight, f"worker {event.address} was lost")
        self._known = {known for known in self._known if known[0] != event.address}
        self._looked = 0.0

    def _drop(self, flight: _Flight) -> None:
        """Cancel a task."""
        self._cancel(flight)
        self._forget(flight)

    def _cancel(self, flight: _Flight) -> None:
        if flight.future is not None:
            flight.future.cancel(force=True)

    def _forget(self, flight: _Flight) -> None:
        """A task is not under way any more."""
        self._flights.pop(flight.key, None)
        if flight in self._waiting:
            self._waiting.remove(flight)
        for made in flight.inputs:
            made.users -= 1
            made.let_go_if_unused()
        flight.future = None

    # ---- results ------------------------------------------------------------------------------------

    def block(self, ref: BlockRef) -> list[pa.RecordBatch]:
        """A block's rows, brought here.

        Raises:
            EngineError: It is lost, and could not be made again.
        """
        made, span = cast(Made, ref.token.payload), ref.token.slot
        while True:
            while made.place is None:
                failures = made.failures
                self._remake(made)
                self._pump(_RESTORE_SECONDS)
                if not made.remaking and made.place is None and made.failures == failures:
                    raise EngineError("a block of the result was lost, and could not be made again")
            try:
                return read_block(self._bytes(made.place, span), ref)
            except BlockLostError as error:
                made.let_go()
                made.failures += 1
                if made.failures > self._settings.retries:
                    raise EngineError(error.message) from error

    def _bytes(self, place: Place, span: Span) -> pa.Buffer:
        if place.host == self._link.host:
            try:
                return read_span(place.path, span)
            except FileNotFoundError:
                pass  # a container that shares only the memory, or it is gone
        try:
            sent = self._client.run(send_here, place.path, span, workers=[place.address])
            return pa.py_buffer(sent[place.address])
        except (OSError, ValueError, KeyError, TimeoutError) as error:
            raise BlockLostError(f"{place.address} does not answer: {first_line(error)}") from error


_Event = str | WorkerGone


class _Flight:
    """A task under way, or one that waits for its inputs. `remakes`: done once, but its blocks were lost."""

    __slots__ = ("functions", "future", "inputs", "key", "payloads", "remakes", "task", "worker")

    def __init__(self, task: Task, functions: Functions, remakes: Made | None) -> None:
        self.task = task
        self.functions = functions
        self.remakes = remakes
        self.inputs = inputs(task)
        self.payloads: list[Made] = []
        self.key = ""
        self.worker = ""
        self.future: Any = None


class _DriverStore:
    """The `BlockStore` as the driver sees it: it reads results, and lets go of blocks."""

    def __init__(self, engine: DaskEngine) -> None:
        self._engine = weakref.ref(engine)

    def put(self, batches: Any, schema: pa.Schema) -> BlockRef:
        raise EngineError("bug: the driver of a cluster puts no blocks")

    def get(self, ref: BlockRef) -> Sequence[pa.RecordBatch]:
        """See `BlockStore.get`."""
        engine = self._engine()
        assert engine is not None  # the run that reads holds it
        return engine.block(ref)

    def delete(self, ref: BlockRef) -> None:
        """See `BlockStore.delete`. The file goes with the last of its blocks."""
        made = cast(Made, ref.token.payload)
        made.live -= 1
        made.let_go_if_unused()

    def close(self) -> None:
        """See `BlockStore.close`."""

"""Plugins of the workers of a Dask cluster: they run tasks, and keep the blocks.

    task --> blocks --> one file in shared memory (or on disk), which lives as long as Dask keeps the task's key
    another task, same host   --> maps the file
    another task, elsewhere   --> asks the worker that made it, which sends the bytes

A plugin of the worker holds all of it, so that there is nothing to install beside mmflow. A second one, of the
nanny, has mapped pages of files not counted as the worker's memory (the kernel takes these back when it needs them).

Invariant: a file of blocks goes when its key is released, which Dask does too for a client that died; the
folders go when no key is left, with the worker, or, where it was killed, with its successor.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple, cast

import pyarrow as pa
from distributed import get_worker
from distributed.comm import CommClosedError
from distributed.diagnostics.plugin import NannyPlugin, WorkerPlugin
from distributed.protocol import to_serialize
from distributed.utils import sync

from mmflow.blocks import SharedStore, read_span, shared_host, shared_memory_folder, sweep
from mmflow.blocks.references import BlockRef, Place, SharedBlock, Span
from mmflow.engines.messages import (
    Payload,
    TaskMessage,
    load_stage,
    stream_task,
)
from mmflow.engines.stopped import is_stopped
from mmflow.errors import BlockLostError, MmflowError
from mmflow.mapping.system.limits import process_memory
from mmflow.plan.tasks import Done, Failed, TaskId, TaskResult
from mmflow.private_apis.dask_nanny import (
    before_close,
    gets_no_tasks,
    limit_memory,
    stop_tasks,
    worker_pid,
)
from mmflow.worker.movement import Observer, Stall

__all__ = [
    "KEY_PREFIX",
    "TOPIC",
    "Look",
    "NannyPart",
    "WorkerPart",
    "check_stopped",
    "end_here",
    "look_here",
    "request_stop_here",
    "run_here",
    "send_here",
    "send_seconds",
]

KEY_PREFIX = "mmflow-"
TOPIC = "mmflow"
_NAME = "mmflow"
_SEND_SECONDS = 20.0
_OVER = frozenset({"memory", "error"})
_LOOK_SECONDS = 0.5
#: Of the eight that a worker has after SIGTERM, which tasks have to stop early and return what they have read.
_DRAIN_SECONDS, _DRAIN_PAUSE = 5.0, 0.05
#: The slowest network that is not taken to be cut, in bytes a second.
_LEAST_RATE = 1 << 20


def run_here(sent: bytes, code: bytes | None) -> tuple[TaskResult | None, Place]:
    """Run one mmflow task: the function that Dask calls.

    Args:
        sent: A `TaskMessage`, pickled (Dask would look for keys in it).
        code: The task's stage, pickled; None: this process should know it.

    Returns:
        The result, None where the stage is not known here, and where the blocks are.
    """
    worker = get_worker()
    part = cast(WorkerPart, worker.plugins[_NAME])
    return part.run(sent, code, str(worker.get_current_task()))


async def send_here(path: str, span: Span, dask_worker: Any) -> bytes:
    """Return a block of this worker, for `Client.run`."""
    answer = await dask_worker.plugins[_NAME].send(path, span)
    if answer["status"] != "OK":
        raise BlockLostError(f"a block of the result is gone: {path}")
    return bytes(answer["data"].data)


def end_here(run: str, spill_dir: str, dask_worker: Any) -> None:
    """End a run: stop its tasks, and drop its blocks and those of killed workers of this host."""
    part = dask_worker.plugins.get(_NAME)
    if part is not None:
        part.end(f"{KEY_PREFIX}{run}-")
    _sweep(spill_dir)


def request_stop_here(key: str, dask_worker: Any) -> None:
    """Ask a task of this worker to stop early."""
    dask_worker.plugins[_NAME].request_stop(key)


class Look(NamedTuple):
    """Answer of a worker about a run and its threads.

    Attributes:
        attempts: Attempts that have begun, as of `Observer.look`.
        over: Keys of tasks that are over.
        ghosts: Keys of cancelled tasks, of any run, that still have a thread.
    """

    attempts: dict[tuple[TaskId, int], Stall | None]
    over: list[str]
    ghosts: list[str]


def look_here(run: str, after: float, dask_worker: Any) -> Look:
    """Return what this worker says of a run."""
    return dask_worker.plugins[_NAME].look(run, after)  # type: ignore[no-any-return]  # Dask has no types


def check_stopped(end: bool, dask_worker: Any) -> str:
    """Return the host and process of this nanny's worker if that is stopped (SIGSTOP), else ""; kill it on demand.

    The nanny then starts another.
    """
    pid = worker_pid(dask_worker)
    if pid is None or not is_stopped(pid):
        return ""
    if end:
        os.kill(pid, signal.SIGKILL)
    return f"host {socket.gethostname()}, process {pid}, which is stopped"


def _sweep(spill_dir: str | None) -> None:
    for folder in (shared_memory_folder(), spill_dir):
        if folder is not None:
            sweep(folder)


def send_seconds(span: Span) -> float:
    """Return how long a worker may take to send a block, before it is taken for lost."""
    return _SEND_SECONDS + float(span.length) / _LEAST_RATE


class WorkerPart(WorkerPlugin):  # type: ignore[misc]  # Dask has no types
    """Plugin of a worker that runs tasks, and keeps and sends their blocks."""

    name = _NAME
    idempotent = True

    def setup(self, worker: Any) -> None:
        """Start the plugin; Dask calls it in the worker."""
        self._worker = worker
        self._host = shared_host()
        self._lock = threading.Lock()
        self._stores: dict[tuple[str, int], SharedStore] = {}
        self._files: dict[str, tuple[SharedStore, str]] = {}
        self._flags: dict[str, threading.Event] = {}
        self._asked: dict[str, threading.Event] = {}
        self._stopping_on_drain: set[str] = (
            set()
        )  # keys of tasks that stop once this worker is about to leave
        self._observers: dict[str, Observer] = {}
        worker.handlers["mmflow_block"] = self.send
        # What Dask pauses and spills by.
        worker.monitor.get_process_memory = _anonymous
        before_close(worker, self._drain)
        _sweep(None)  # what a worker that was killed has left

    async def _drain(self) -> None:
        """Let tasks stop early and return what they have read, until the driver has their replies."""
        waiting = set(self._stopping_on_drain)
        if waiting:
            stop_tasks(self._worker)
        deadline = time.monotonic() + _DRAIN_SECONDS
        while waiting and time.monotonic() < deadline:
            await asyncio.sleep(_DRAIN_PAUSE)
            waiting &= self._worker.state.tasks.keys()  # the driver drops the futures of what it has

    def teardown(self, worker: Any) -> None:
        """Stop tasks and remove blocks; Dask calls it when the worker ends."""
        del worker
        for flag in list(self._flags.values()):
            flag.set()
        with self._lock:
            self._close_stores()

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Handle a task's new state on this worker; Dask calls it."""
        del start, kwargs
        if not isinstance(key, str) or not key.startswith(KEY_PREFIX):
            return
        flag = self._flags.get(key)
        if flag is not None and finish in ("cancelled", "released", "forgotten"):
            self._stop(key, flag)
        if finish in ("released", "forgotten"):
            self._drop(key)

    def _stop(self, key: str, flag: threading.Event) -> None:
        if not flag.is_set():
            self._tell(key, busy=True)
        flag.set()

    def _tell(self, key: str, *, busy: bool) -> None:
        """Send engines the event that a cancelled task still has a thread, or no more."""
        self._worker.log_event(TOPIC, {"worker": self._worker.address, "key": key, "busy": busy})

    def request_stop(self, key: str) -> None:
        """Ask a task to stop early, if it runs here."""
        asked = self._asked.get(key)
        if asked is not None:
            asked.set()

    def look(self, run: str, after: float) -> Look:
        """Look at the tasks of a run, as `look_here` does."""
        observer = self._observers.setdefault(run, Observer())
        tasks = self._worker.state.tasks
        over = [k for k in tasks if str(k).startswith(f"{KEY_PREFIX}{run}-") and tasks[k].state in _OVER]
        ghosts = [key for key, flag in list(self._flags.items()) if flag.is_set()]
        return Look(observer.look(run, after), over, ghosts)

    def end(self, prefix: str) -> None:
        """Stop the tasks whose keys begin so, and drop their blocks."""
        self._observers.pop(prefix.removeprefix(KEY_PREFIX).removesuffix("-"), None)
        for key, flag in list(self._flags.items()):
            if key.startswith(prefix):
                self._stop(key, flag)
        for key in [k for k in list(self._files) if k.startswith(prefix)]:
            self._drop(key)

    def _drop(self, key: str) -> None:
        with self._lock:
            known = self._files.pop(key, None)
            if known is not None:
                store, path = known
                store.delete(path)
            if not self._files and not self._flags:
                self._close_stores()

    def _close_stores(self) -> None:
        for store in self._stores.values():
            store.close()
        self._stores.clear()
        self._files.clear()

    # ---- tasks: in the worker's threads ---------------------------------------------------------------

    def run(self, sent: bytes, code: bytes | None, key: str) -> tuple[TaskResult | None, Place]:
        """Run a task as `run_here` does; its blocks stay here."""
        message = cast(TaskMessage, pickle.loads(sent))
        known = load_stage(message.key, code)
        if known is None:
            return None, Place(self._host, self._worker.address, "")
        flag, asked = threading.Event(), threading.Event()
        with self._lock:
            self._flags[key], self._asked[key] = flag, asked
            if message.stops_on_drain:
                self._stopping_on_drain.add(key)
        stop = _StopRequest(asked, self._worker if message.stops_on_drain else None)

        place = Place(self._host, self._worker.address, "")
        try:
            with closing(stream_task(message, known, self._block, flag, place.address, stop)) as pieces:
                result = cast(TaskResult, next(pieces))
                if isinstance(result, Done):
                    path, spans = self._keep(message, key, cast("Iterator[Payload]", pieces))
                    place = place._replace(path=path)
                    spanned = zip(spans, result.blocks, strict=True)
                    result = result.with_blocks(SharedBlock(place, s, r.rows, r.nbytes) for s, r in spanned)
        except MmflowError as error:
            result = Failed(message.id, message.attempt, error)
        finally:
            with self._lock:
                del self._flags[key], self._asked[key]
                self._stopping_on_drain.discard(key)
            if flag.is_set():
                self._worker.loop.add_callback(self._tell, key, busy=False)
        return result, place

    def _keep(self, message: TaskMessage, key: str, payloads: Iterator[Payload]) -> tuple[str, list[Span]]:
        """Write all payloads to one file; return its path, and where in it each block is."""
        store = self._store(message)
        path, spans = store.put(itertools.chain.from_iterable(payloads))
        if path:
            self._drop(key)  # of an attempt whose result Dask has lost
            with self._lock:
                self._files[key] = store, path
        return path, spans

    def _store(self, message: TaskMessage) -> SharedStore:
        which = message.spill_dir, message.memory // 2
        with self._lock:
            if which not in self._stores:
                name = f"dask-{self._worker.address.rpartition(':')[2]}"
                self._stores[which] = SharedStore(name, which[1], which[0], shared_memory_folder())
            return self._stores[which]

    def _block(self, ref: BlockRef) -> pa.Buffer:
        """Return the bytes of a block of a task's inputs."""
        assert isinstance(ref, SharedBlock)
        place, span = ref.place, ref.span
        if place.host == self._host:
            try:
                return read_span(place.path, span)
            except FileNotFoundError:
                pass  # a container that shares only the memory, or it is gone
        if place.address == self._worker.address:
            raise BlockLostError(f"a file of intermediate rows is gone: {place.path}")
        try:
            limit = send_seconds(span) + _SEND_SECONDS  # this worker's loop may be busy, too
            return pa.py_buffer(sync(self._worker.loop, self._ask, place, span, callback_timeout=limit))
        except (OSError, CommClosedError, TimeoutError) as error:
            raise BlockLostError(
                f"{place.address}, which has a block of intermediate rows, does not answer: {error}"
            ) from error

    async def _ask(self, place: Place, span: Span) -> Any:
        call = self._worker.rpc(place.address).mmflow_block(path=place.path, span=list(span))
        asked, left = asyncio.ensure_future(call), asyncio.ensure_future(self._wait_until_left(place.address))
        try:
            await asyncio.wait({asked, left}, timeout=send_seconds(span), return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise TimeoutError("it has left the cluster" if left.done() else "it is silent")
            answer = await asked
        finally:
            asked.cancel()
            left.cancel()
        if answer is None or answer.get("status") != "OK":
            raise BlockLostError(f"{place.address} has a block of intermediate rows no more")
        return answer["data"]

    async def _wait_until_left(self, address: str) -> None:
        """Return once the scheduler does not know a worker any more. Dask would try to connect to it for 30 s."""
        known = True
        while known:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(OSError):  # without its scheduler, this worker has left itself
                known = bool(await self._worker.scheduler.ncores(workers=[address]))

    async def send(self, path: str, span: Sequence[int]) -> dict[str, Any]:
        """Answer another worker that asks for a block: only for one that was made here."""
        with self._lock:
            known = any(path == kept for _, kept in self._files.values())
        if not known:
            return {"status": "gone"}
        try:
            block = await asyncio.to_thread(read_span, path, Span(*span))
        except (OSError, BlockLostError):
            return {"status": "gone"}
        return {"status": "OK", "data": to_serialize(memoryview(block))}


class _StopRequest:
    """Flag of a task that was asked to stop early, or that stops early since its worker (if given) leaves."""

    def __init__(self, asked: threading.Event, worker: Any) -> None:
        self._asked = asked
        self._worker = worker

    def is_set(self) -> bool:
        return self._asked.is_set() or (self._worker is not None and gets_no_tasks(self._worker))


class NannyPart(NannyPlugin):  # type: ignore[misc]  # Dask has no types
    """Plugin that has the nanny look at anonymous memory before it kills a worker for using too much."""

    name = "mmflow-nanny"
    idempotent = True
    restart = False

    def setup(self, nanny: Any) -> None:
        """Start the plugin; Dask calls it in the nanny."""
        limit_memory(nanny, lambda pid: process_memory(pid).anonymous)


def _anonymous() -> int:
    return process_memory().anonymous

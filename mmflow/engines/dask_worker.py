"""What runs in the workers of a Dask cluster: tasks, and the blocks that they keep.

    task --> blocks --> one file in shared memory (or on disk), which lives as long as Dask keeps the task's key
    another task, same host   --> maps the file
    another task, elsewhere   --> asks the worker that made it, which sends the bytes

A plugin of the worker holds all of it, so that there is nothing to install beside mmflow. A second one, of the
nanny, has mapped pages of files not counted as the worker's memory (the kernel takes these back when it needs them).

Invariant: a file of blocks goes when its key is let go, which Dask does too for a client that died; the
folders go when no key is left, with the worker, or, where it was killed, with its successor.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
from distributed import get_worker
from distributed.comm import CommClosedError
from distributed.diagnostics.plugin import NannyPlugin, WorkerPlugin
from distributed.protocol import to_serialize
from distributed.utils import sync

from mmflow.engines.remote import Parcel, Payload, Reply, Token, learned, relocated, stream_parcel
from mmflow.errors import BlockLostError, MmflowError
from mmflow.exec.task import Done, Failed
from mmflow.mapping.limits import process_memory
from mmflow.store import SharedStore, Span, read_span, shared_host, shared_memory_folder, sweep

__all__ = [
    "KEY_PREFIX",
    "TOPIC",
    "NannyPart",
    "Place",
    "WorkerPart",
    "end_here",
    "hand_in_here",
    "run_here",
    "send_here",
]

KEY_PREFIX = "mmflow-"
TOPIC = "mmflow"
_NAME = "mmflow"
_SEND_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the blocks of a task are: a file, on a host, and the worker that has it."""

    host: str
    address: str
    path: str


def run_here(sent: bytes, code: bytes | None) -> tuple[Reply | None, Place]:
    """The function that Dask runs: one mmflow task.

    Args:
        sent: A `Parcel` and the `Place`s of its payloads, pickled (Dask would look for keys in them).
        code: The task's stage, pickled; None: this process should know it.

    Returns:
        The result, None where the stage is not known here, and where the blocks are.
    """
    worker = get_worker()
    part = cast(WorkerPart, worker.plugins[_NAME])
    return part.run(sent, code, str(worker.get_current_task()))


async def send_here(path: str, span: Span, dask_worker: Any) -> bytes:
    """A block of this worker, for `Client.run`."""
    answer = await dask_worker.plugins[_NAME].send(path, span.offset, span.length, span.crc)
    if answer["status"] != "OK":
        raise BlockLostError(f"a block of the result is gone: {path}")
    return bytes(answer["data"].data)


def end_here(run: str, spill_dir: str, dask_worker: Any) -> None:
    """A run has ended: stop its tasks and drop its blocks, and those of workers of this host that were killed."""
    part = dask_worker.plugins.get(_NAME)
    if part is not None:
        part.end(f"{KEY_PREFIX}{run}-")
    _sweep(spill_dir)


def hand_in_here(key: str, dask_worker: Any) -> None:
    """Ask a task of this worker to hand in what it has."""
    dask_worker.plugins[_NAME].hand_in(key)


def _sweep(spill_dir: str | None) -> None:
    for folder in (shared_memory_folder(), spill_dir):
        if folder is not None:
            sweep(folder)


class WorkerPart(WorkerPlugin):  # type: ignore[misc]
    """Runs tasks on a worker, and keeps and sends their blocks."""

    name = _NAME
    idempotent = True

    def setup(self, worker: Any) -> None:
        """Called by Dask in the worker."""
        self._worker = worker
        self._host = shared_host()
        self._lock = threading.Lock()
        self._stores: dict[tuple[str, int], SharedStore] = {}
        self._files: dict[str, tuple[SharedStore, str]] = {}
        self._flags: dict[str, threading.Event] = {}
        self._asked: dict[str, threading.Event] = {}
        worker.handlers["mmflow_block"] = self.send
        # What Dask pauses and spills by.
        worker.monitor.get_process_memory = _anonymous
        _sweep(None)  # what a worker that was killed has left

    def teardown(self, worker: Any) -> None:
        """Called by Dask when the worker ends."""
        del worker
        for flag in list(self._flags.values()):
            flag.set()
        with self._lock:
            self._close_stores()

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Called by Dask when a task changes its state on this worker."""
        del start, kwargs
        if not isinstance(key, str) or not key.startswith(KEY_PREFIX):
            return
        flag = self._flags.get(key)
        if flag is not None and finish in ("cancelled", "released", "forgotten"):
            if not flag.is_set():
                self._tell(key, busy=True)
            flag.set()
        if finish in ("released", "forgotten"):
            self._drop(key)

    def _tell(self, key: str, *, busy: bool) -> None:
        """Tell engines that a task that was cancelled still has a thread, or has it no more."""
        self._worker.log_event(TOPIC, {"worker": self._worker.address, "key": key, "busy": busy})

    def hand_in(self, key: str) -> None:
        """Have a task hand in what it has, if it runs here."""
        asked = self._asked.get(key)
        if asked is not None:
            asked.set()

    def end(self, prefix: str) -> None:
        """Stop the tasks whose keys begin so, and drop their blocks."""
        for key, flag in list(self._flags.items()):
            if key.startswith(prefix):
                flag.set()
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

    def run(self, sent: bytes, code: bytes | None, key: str) -> tuple[Reply | None, Place]:
        """Run a task; its blocks stay here. See `run_here`."""
        parcel, places = cast("tuple[Parcel, list[Place]]", pickle.loads(sent))
        known = learned(parcel.key, code)
        if known is None:
            return None, Place(self._host, self._worker.address, "")
        flag, asked = threading.Event(), threading.Event()
        with self._lock:
            self._flags[key], self._asked[key] = flag, asked

        def fetch(token: Token) -> pa.Buffer:
            try:
                return self._block(places[token.payload], token.slot)
            except BlockLostError as error:
                raise BlockLostError(error.message, payload=token.payload) from error

        path = ""
        try:
            with closing(stream_parcel(parcel, known, fetch, flag, self._worker.address, asked)) as pieces:
                reply = cast(Reply, next(pieces))
                if isinstance(reply.result, Done):
                    path, tokens = self._keep(parcel, key, cast("Iterator[Payload]", pieces))
                    reply = Reply(relocated(reply.result, lambda ref: tokens[ref.token]), reply.node)
        except MmflowError as error:
            reply = Reply(Failed(parcel.task.id, parcel.task.attempt, error), self._worker.address)
        finally:
            with self._lock:
                del self._flags[key], self._asked[key]
            if flag.is_set():
                self._worker.loop.add_callback(self._tell, key, busy=False)
        return reply, Place(self._host, self._worker.address, path)

    def _keep(self, parcel: Parcel, key: str, payloads: Iterator[Payload]) -> tuple[str, dict[Token, Token]]:
        """Write all payloads to one file; where in it each block is."""
        tokens: list[Token] = []

        def blocks() -> Iterator[pa.Buffer]:
            for number, payload in enumerate(payloads):
                tokens.extend(Token(number, slot) for slot in range(len(payload)))
                yield from payload

        store = self._store(parcel)
        path, spans = store.put(blocks())
        if path:
            self._drop(key)  # of an attempt whose result Dask has lost
            with self._lock:
                self._files[key] = store, path
        return path, {token: Token(0, span) for token, span in zip(tokens, spans, strict=True)}

    def _store(self, parcel: Parcel) -> SharedStore:
        which = parcel.spill_dir, parcel.memory // 2
        with self._lock:
            if which not in self._stores:
                name = f"dask-{self._worker.address.rpartition(':')[2]}"
                self._stores[which] = SharedStore(name, which[1], which[0], shared_memory_folder())
            return self._stores[which]

    def _block(self, place: Place, span: Span) -> pa.Buffer:
        if place.host == self._host:
            try:
                return read_span(place.path, span)
            except FileNotFoundError:
                pass  # a container that shares only the memory, or it is gone
        if place.address == self._worker.address:
            raise BlockLostError(f"a file of intermediate rows is gone: {place.path}")
        try:
            return pa.py_buffer(sync(self._worker.loop, self._ask, place, span))
        except (OSError, CommClosedError, TimeoutError) as error:
            raise BlockLostError(
                f"{place.address}, which has a block of intermediate rows, does not answer: {error}"
            ) from error

    async def _ask(self, place: Place, span: Span) -> Any:
        asked = self._worker.rpc(place.address).mmflow_block(
            path=place.path, offset=span.offset, length=span.length, crc=span.crc
        )
        answer = await asyncio.wait_for(asked, _SEND_SECONDS)
        if answer is None or answer.get("status") != "OK":
            raise BlockLostError(f"{place.address} has a block of intermediate rows no more")
        return answer["data"]

    async def send(self, path: str, offset: int, length: int, crc: int) -> dict[str, Any]:
        """Answer another worker that asks for a block: only for one that was made here."""
        with self._lock:
            known = any(path == kept for _, kept in self._files.values())
        if not known:
            return {"status": "gone"}
        try:
            block = await asyncio.to_thread(read_span, path, Span(offset, length, crc))
        except (OSError, BlockLostError):
            return {"status": "gone"}
        return {"status": "OK", "data": to_serialize(memoryview(block))}


class NannyPart(NannyPlugin):  # type: ignore[misc]
    """Has the nanny look at anonymous memory before it kills a worker for using too much."""

    name = "mmflow-nanny"
    idempotent = True
    restart = False

    def setup(self, nanny: Any) -> None:
        """Called by Dask in the nanny."""
        manager = nanny.memory_manager
        callback = nanny.periodic_callbacks.get("memory_monitor")
        if callback is None:  # no limit
            return
        most = manager.memory_limit * manager.memory_terminate_fraction

        def monitor() -> None:
            process = None if nanny.process is None else nanny.process.process
            if process is None or process.pid is None or process_memory(process.pid).anonymous <= most:
                return
            manager.memory_monitor(nanny)

        callback.callback = monitor


def _anonymous() -> int:
    return process_memory().anonymous

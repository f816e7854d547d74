"""Worker processes for Python functions that hold the GIL.

    parent                                        worker: python -m mmflow.engines.process_worker
    batch -> shared store  --- function, block -->  map, call, put
    map   <--------------- blocks or an error ---

Workers are fresh interpreters, not forks (a fork of a threaded process may deadlock) and not
`multiprocessing` children (those run the user's script again). Functions travel by cloudpickle, batches
through shared memory.

Invariant: a worker's death is noticed at once and reported as `WorkerLostError`; its files lie in the pool's
folders and go with them; every worker is waited for.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import pyarrow as pa

from mmflow.errors import EngineError, UserFunctionError, WorkerLostError
from mmflow.exec.task import BlockRef
from mmflow.store import SharedStore, shared_memory_folder

__all__ = ["ProcessPool"]

_KILL_AFTER = 0.3


class ProcessPool:
    """Up to `workers` processes, started as they are needed. Thread-safe.

    Args:
        workers: Most processes.
        run: Name of the run, for the folders of the blocks.
        budget: Bytes of shared memory that each process may fill; beyond it, batches go by disk.
        spill_dir: Where.
    """

    def __init__(self, workers: int, run: str, budget: int, spill_dir: str | os.PathLike[str]) -> None:
        self._store = SharedStore(f"{run}-processes", budget, spill_dir, shared_memory_folder())
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)
        self._lock = threading.Lock()
        self._alive: set[_Worker] = set()
        self._closed = False

    def apply(self, function: Callable[[pa.RecordBatch], Any], batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        """Call `function(batch)` in a worker; waits for one to be free.

        Raises:
            UserFunctionError: The function raised, or it can't be sent.
            WorkerLostError: The worker died (the next call gets a new one).
            EngineError: The pool is closed, or a worker can't be started.
        """
        code = _pickled(function)
        slot = self._idle.get()
        worker: _Worker | None = None
        try:
            worker = slot if slot is not None else self._start()
            return self._exchange(worker, function, code, batch)
        except WorkerLostError:
            if worker is not None:
                self._bury(worker)
                worker = None
            raise
        finally:
            self._idle.put(worker)

    def map_batches(
        self, function: Callable[[pa.RecordBatch], Any], batches: Iterable[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        """`apply` on batch after batch, in order."""
        for batch in batches:
            yield from self.apply(function, batch)

    def close(self) -> None:
        """Stop all workers; calls under way fail. Idempotent."""
        with self._lock:
            self._closed = True
            alive, self._alive = self._alive, set()
        for worker in alive:
            worker.stop()
        for worker in alive:
            worker.wait()
        self._store.close()

    # ---- one call -----------------------------------------------------------------------------------

    def _exchange(
        self, worker: _Worker, function: Callable[..., Any], code: bytes, batch: pa.RecordBatch
    ) -> list[pa.RecordBatch]:
        given = self._store.put([batch], batch.schema)
        try:
            kind, answer = worker.call(code, given)
        finally:
            self._store.delete(given)
        if kind == "error":
            name = getattr(function, "__name__", "function")
            raise UserFunctionError(
                f"map_batches function {name!r} raised {answer['type']}: {answer['message']}",
                function=name,
                traceback=answer["traceback"],
            )
        batches: list[pa.RecordBatch] = []
        for ref in answer:
            batches.extend(self._store.get(ref))
            self._store.delete(ref)
        return batches

    def _start(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise EngineError("the process pool is closed: the run has ended")
            worker = _Worker(self._store)
            self._alive.add(worker)
            return worker

    def _bury(self, worker: _Worker) -> None:
        with self._lock:
            self._alive.discard(worker)
        worker.stop()
        worker.wait()


class _Worker:
    """A child process and the socket to it; used by one thread at a time."""

    def __init__(self, store: SharedStore) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-m", "mmflow.engines.process_worker", str(number)]
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=(number,),
                    stdin=subprocess.DEVNULL,
                    # What a function prints must not mix with data on our standard output.
                    stdout=sys.__stderr__.fileno() if sys.__stderr__ is not None else subprocess.DEVNULL,
                    # Ctrl-C is for the parent, which stops its workers.
                    start_new_session=True,
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.curdir for p in sys.path)},
                )
            except OSError as error:
                ours.close()
                raise EngineError(f"can't start a worker process: {error.strerror}") from error
        self._link: Connection[Any, Any] = Connection(ours.detach())
        self._sent: dict[bytes, int] = {}
        self._calls = 0
        self._first: Any = (store, list(sys.path))

    def call(self, code: bytes, given: BlockRef) -> tuple[str, Any]:
        """Send a call and wait for its answer.

        Raises:
            WorkerLostError: The process died.
        """
        try:
            if self._first is not None:
                self._link.send_bytes(pickle.dumps(self._first))
                self._first = None
            number = self._sent.get(code)
            new = number is None
            self._calls += 1
            call = (self._calls if new else number, code if new else None, given)
            self._link.send_bytes(pickle.dumps(call))
            answer: tuple[str, Any] = pickle.loads(self._link.recv_bytes())
            if new and answer[0] != "error":  # else it may not even have been unpickled
                self._sent[code] = self._calls
            return answer
        except (EOFError, OSError):  # the socket broke: the process is gone
            raise WorkerLostError(f"a worker process died: {self._death()}") from None

    def _death(self) -> str:
        try:
            code = self._process.wait(_KILL_AFTER)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        if code >= 0:
            return f"it exited with code {code}"
        name = signal.Signals(-code).name
        hint = "; the system may have run out of memory" if -code == signal.SIGKILL else ""
        return f"killed by {name}{hint}"

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def wait(self) -> None:
        self._process.wait()
        with contextlib.suppress(OSError):
            self._link.close()


def _pickled(function: Callable[..., Any]) -> bytes:
    try:
        return bytes(cloudpickle.dumps(function))
    except Exception as error:  # whatever an object's own pickling raises
        name = getattr(function, "__name__", "function")
        raise UserFunctionError(
            f"function {name!r} can't be sent to another process: {type(error).__name__}: {error}; "
            "let it not hold open files, locks or connections, or leave processes=True away",
            function=name,
        ) from error

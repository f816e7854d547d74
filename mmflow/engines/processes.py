"""Worker processes for Python functions that hold the GIL.

    parent                                        worker: python -m mmflow.engines.process_worker
    batch -> shared memory  --- function, block -->  map, call
    map   <---------------- block by block, or an error ---

Workers are fresh interpreters, not forks (a fork of a threaded process may deadlock) and not
`multiprocessing` children (those run the user's script again). Functions travel by cloudpickle, batches
as blocks without a name (`blocks.memfd`) over a `shm.link`, so a process that dies leaves nothing behind.

Invariant: a worker's death is noticed at once and reported as `WorkerLostError`, also where a process that it started
lives on; every worker is waited for. One that is stopped is as good as dead.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from mmflow.blocks.memfd import map_block, write_block
from mmflow.engines.process_worker import CALLS_SIGNAL
from mmflow.engines.stopped import catches, is_stopped
from mmflow.errors import EngineError, MmflowError, PeerLostError, UserFunctionError, WorkerLostError
from mmflow.lazy.patterns import lazy_regex
from mmflow.shm.link import Link, pair
from mmflow.usercode.shipped import dumps
from mmflow.worker.movement import join_calls, waits_for
from mmflow.worker.user_functions import function_label

__all__ = ["ProcessPool"]

_KILL_AFTER = 0.3
_CLOSED_SECONDS = 1.0
#: One a second.
_STOPPED_CHECKS = 10
#: A process that was killed is gone by then, unless the kernel holds it, as for a disk that does not answer.
_DEAD_SECONDS = 10.0
#: Within this time a process says what it does, unless the kernel holds it.
_SAY_SECONDS = 0.3
_CALL = lazy_regex(r'File "(.+)", line (\d+) in (.+)')
#: Signals that a process brings on itself.
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})


class _EndedError(Exception):
    """End of a worker process by the function that ran in it."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class ProcessPool:
    """Pool of up to `workers` processes, started as they are needed. Thread-safe.

    Args:
        workers: Largest number of processes.
        budget: Bytes of shared memory that each call may fill with what it gets, and with what it gives; beyond it,
            batches go by disk.
        spill_dir: Folder for blocks that spill.
    """

    def __init__(self, workers: int, budget: int, spill_dir: str | os.PathLike[str]) -> None:
        self._budget = budget
        self._spill_dir = os.path.abspath(spill_dir)
        # The last one to be idle is the next to be used: a class of the user's is then made in as few as may be.
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)
        self._most = workers
        self._lock = threading.Lock()
        self._alive: set[_Worker] = set()
        self._closed = False
        self._codes: dict[int, tuple[Callable[..., Any], bytes]] = {}

    def apply(self, function: Callable[[pa.RecordBatch], Any], batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        """Call `function(batch)` in a worker; waits for one to be free.

        Raises:
            UserFunctionError: The function raised, it can't be sent, or it ended its process, twice.
            WorkerLostError: The worker was killed from without (the next call gets a new one).
            EngineError: The pool is closed, or a worker can't be started.
        """
        code = self._code(function)
        try:
            return self._apply(function, code, batch)
        except _EndedError:
            try:
                return self._apply(function, code, batch)
            except _EndedError as error:
                name = getattr(function, "__name__", "function")
                raise UserFunctionError(
                    f"map_batches function {name!r} ended its worker process, twice: {error.how}; "
                    "look for os._exit, or a crash in native code that it calls",
                    function=name,
                ) from error

    def _code(self, function: Callable[..., Any]) -> bytes:
        """Return a function as it was when the pool was given it first, pickled."""
        with self._lock:
            known = self._codes.get(id(function))
            if known is None:
                known = self._codes[id(function)] = function, _pickled(function)
            return known[1]

    def _apply(
        self, function: Callable[[pa.RecordBatch], Any], code: bytes, batch: pa.RecordBatch
    ) -> list[pa.RecordBatch]:
        slot = self._free()
        worker: _Worker | None = None
        try:
            worker = slot if slot is not None else self._start()
            return self._exchange(worker, function, code, batch)
        except UserFunctionError:
            raise
        except BaseException:  # what it still sends belongs to no call
            if worker is not None:
                self._bury(worker)
                worker = None
            raise
        finally:
            with self._lock:  # `close` has emptied the queue, or will
                if self._closed and worker is not None:
                    worker.disconnect()
                    worker = None
                self._idle.put(worker)

    def _free(self) -> _Worker | None:
        """Wait for a worker that no other call has; None: it is yet to be started."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._idle.get(timeout=_CLOSED_SECONDS)
            if self._closed:
                raise EngineError("the process pool is closed: the run has ended")

    def allow(self, workers: int) -> None:
        """Allow so many processes, beside those that do not move; there are never fewer than before."""
        with self._lock:
            for _ in range(workers - self._most):
                self._idle.put(None)
            self._most = max(self._most, workers)

    def close(self) -> None:
        """Stop all workers; calls under way fail. Idempotent."""
        with self._lock:
            self._closed = True
            alive, self._alive = self._alive, set()
        for worker in alive:
            worker.stop()
        for worker in alive:
            worker.reap()
        # The link of a worker that is in use is closed by who uses it.
        slots: list[_Worker | None] = []
        with contextlib.suppress(queue.Empty):
            while True:
                slots.append(self._idle.get_nowait())
        for slot in slots:
            if slot is not None:
                slot.disconnect()
            self._idle.put(None)

    # ---- one call -----------------------------------------------------------------------------------

    def _exchange(
        self, worker: _Worker, function: Callable[..., Any], code: bytes, batch: pa.RecordBatch
    ) -> list[pa.RecordBatch]:
        given, _ = write_block(
            [batch], batch.schema, room=lambda nbytes: nbytes <= self._budget, spill_dir=self._spill_dir
        )
        try:
            with waits_for(worker.process, worker.calls, worker.left):
                batches, answer = worker.call(code, given)
        finally:
            os.close(given)
        if answer is not None:
            name = getattr(function, "__name__", "function")
            if not isinstance(answer, UserFunctionError) or "summary" not in answer.context:
                raise answer
            parts = {**answer.context, "function": name}
            parts["summary"] = f"{function_label(function)}{parts['summary']}"
            raise UserFunctionError.at(**parts)
        return batches

    def _start(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise EngineError("the process pool is closed: the run has ended")
            worker = _Worker(self._budget, self._spill_dir)
            self._alive.add(worker)
            return worker

    def _bury(self, worker: _Worker) -> None:
        with self._lock:
            self._alive.discard(worker)
        worker.stop()
        worker.reap()
        worker.disconnect()


class _Worker:
    """Child process and the link to it; used by one thread at a time."""

    def __init__(self, budget: int, spill_dir: str) -> None:
        ours, theirs = pair()
        self._said = os.memfd_create("mmflow-calls")  # where the process writes what it does
        self._steps = os.memfd_create("mmflow-steps")
        self._said_lock = threading.Lock()
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-m", "mmflow.engines.process_worker", str(number), str(os.getpid())]
            command += [str(self._said), str(self._steps)]
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=(number, self._said, self._steps),
                    stdin=subprocess.DEVNULL,
                    # What a function prints must not mix with data on our standard output.
                    stdout=_error_output(),
                    # Ctrl-C is for the parent, which stops its workers.
                    start_new_session=True,
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.curdir for p in sys.path)},
                )
            except OSError as error:
                ours.close()
                os.close(self._said)
                os.close(self._steps)
                raise EngineError(f"can't start a worker process: {error.strerror}") from error
        self._link = Link(ours, "worker process")
        self._sent: dict[bytes, int] = {}
        self._calls = 0
        self._stopped = 0  # checks that found it so, one behind the other
        self._first: Any = (budget, spill_dir, list(sys.path))

    def call(self, code: bytes, given: int) -> tuple[list[pa.RecordBatch], MmflowError | None]:
        """Send a call and wait for its answer.

        Args:
            code: The function, pickled.
            given: Descriptor of the block that it is called with.

        Returns:
            What it gave, and what it raised, if it did.

        Raises:
            WorkerLostError: The process died, or stays stopped.
        """
        try:
            if self._first is not None:
                self._link.send(pickle.dumps(self._first))
                self._first = None
            number = self._sent.get(code)
            new = number is None
            self._calls += 1
            call = (self._calls if new else number, code if new else None)
            self._link.send(pickle.dumps(call), [given])
            batches: list[pa.RecordBatch] = []
            while True:
                text, blocks = self._link.receive(self._check)
                if not blocks:
                    break
                batches += map_block(*blocks)
            error: MmflowError | None = pickle.loads(text)
            if new and error is None:  # else it may not even have been unpickled
                self._sent[code] = self._calls
            return batches, error
        except PeerLostError:
            raise self._death() from None

    def _check(self) -> None:
        """Abandon a process that is stopped: it might never continue.

        Raises:
            WorkerLostError: It was stopped for too long.
        """
        if not is_stopped(self._process.pid):
            self._stopped = 0
            return
        self._stopped += 1  # not by a clock: this process may have been stopped, too
        if self._stopped > _STOPPED_CHECKS:
            raise WorkerLostError(
                f"a worker process was stopped (SIGSTOP), and did not continue for {_STOPPED_CHECKS} seconds"
            )

    def _death(self) -> WorkerLostError | _EndedError:
        try:
            code = self._process.wait(_KILL_AFTER)
        except subprocess.TimeoutExpired:
            return WorkerLostError("a worker process died: it closed its connection")
        if code >= 0:
            return _EndedError(f"it exited with code {code}")
        name = signal.Signals(-code).name
        if -code in _CRASHES:
            return _EndedError(f"killed by {name}")
        hint = "; the system may have run out of memory" if -code == signal.SIGKILL else ""
        return WorkerLostError(f"a worker process died: killed by {name}{hint}")

    @property
    def process(self) -> int:
        """Number of the process."""
        return self._process.pid

    def calls(self) -> str:
        """Return the calls of the process's main thread, the innermost first; "": it does not say."""
        with self._said_lock:
            if self._said < 0 or not catches(self._process.pid, CALLS_SIGNAL):  # not yet: it would die of it
                return ""
            os.ftruncate(self._said, 0)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, CALLS_SIGNAL)
            deadline = time.monotonic() + _SAY_SECONDS
            while not (said := os.pread(self._said, 1 << 16, 0)) and time.monotonic() < deadline:
                time.sleep(0.01)
        found = _CALL.findall(said.decode(errors="replace"))
        own = itertools.takewhile(lambda call: not call[0].endswith("process_worker.py"), found)
        return join_calls(f"{file}:{line} in {name}" for file, line, name in own)

    def left(self) -> int:
        """Return the rows that a function of rows has not been called with yet, as the process said a moment ago."""
        with self._said_lock:
            said = b"" if self._said < 0 else os.pread(self._steps, 8, 0)
        return int(struct.unpack("=q", said)[0]) if len(said) == 8 else 0

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def reap(self) -> None:
        """Wait for a process that was killed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DEAD_SECONDS)

    def disconnect(self) -> None:
        self._link.close()
        with self._said_lock:
            if self._said >= 0:
                os.close(self._said)
                os.close(self._steps)
                self._said = -1


def _pickled(function: Callable[..., Any]) -> bytes:
    try:
        return dumps(function)
    except Exception as error:  # whatever an object's own pickling raises
        name = getattr(function, "__name__", "function")
        raise UserFunctionError(
            f"function {name!r} can't be sent to another process: {type(error).__name__}: {error}; "
            "let it not hold open files, locks or connections, or leave processes=True away",
            function=name,
            code="MMF-FUN-002",
        ) from error


def _error_output() -> int:
    """Return the descriptor of standard error, or that of nothing where there is none: closed, or no file."""
    try:
        return subprocess.DEVNULL if sys.__stderr__ is None else sys.__stderr__.fileno()
    except (OSError, ValueError):
        return subprocess.DEVNULL

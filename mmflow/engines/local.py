"""The local engine: threads of this process. Nothing to start, blocks pass by reference.

Decoding and DataFusion release the GIL, so threads are enough; Python functions that hold it can ask for
processes (`engines.processes`).

Invariant: whatever happens in a task becomes a result; nothing is raised out of a worker thread, and nothing
of the run is left on disk after `close`.
"""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mmflow.blocks import LocalStore, RunFolder, sweep_seldom
from mmflow.config import Settings
from mmflow.engines.protocol import Resources
from mmflow.errors import EngineError, MmflowError
from mmflow.mapping.system.forks import disown_in_children
from mmflow.plan.stages import Functions, MapStep
from mmflow.plan.tasks import Cancelled, Done, Failed, Task, TaskId, TaskResult
from mmflow.worker.context import WorkerContext
from mmflow.worker.heap import HeapWatch
from mmflow.worker.kept import Kept
from mmflow.worker.movement import Observer, Stall
from mmflow.worker.task_runner import run_task

if TYPE_CHECKING:
    from mmflow.engines.processes import ProcessPool

__all__ = ["LocalEngine", "threads_left_behind"]

Work = Callable[[Task, Functions, WorkerContext], TaskResult]

#: Time that `close` waits for tasks to notice. One inside a long call is left behind: its thread is a daemon,
#: and what it still puts is refused by the closed store.
_PATIENCE = 0.6
#: Seconds that threads have as the process exits. One that is in a long call of a user's function, or waits for a
#: server, is left: it stops when it asks for the interpreter, which is gone.
_EXIT_PATIENCE = 0.5

#: Tasks that wait for a thread, for each that runs: threads take them by themselves, while the scheduler sleeps.
_QUEUED = 3
_NEVER = 1 << 62

_live: weakref.WeakSet[LocalEngine] = weakref.WeakSet()


class LocalEngine:
    """`Engine` of threads. Serves one run.

    Three eighths of the memory are for blocks, as much for tasks. The rest is for what is not counted: batches in
    flight, and what allocators hold back.

    Args:
        settings: `workers`, `memory`, `io`, `spill_dir` matter here.
        run: Name of the run.
        work: Function that runs a task.

    Raises:
        EngineError: `spill_dir` can't be written to.
    """

    def __init__(self, settings: Settings, run: str, *, work: Work = run_task) -> None:
        self._settings = settings
        self._work = work
        sweep_seldom(settings.spill_dir)
        self._folder = RunFolder(settings.spill_dir, run)
        self._heap = HeapWatch(settings.memory)
        self._store = LocalStore(settings.memory * 3 // 8, self._folder)
        self._tasks: queue.SimpleQueue[tuple[Task, Functions, _Flags] | None] = queue.SimpleQueue()
        self._results = _Results()
        self._threads: list[threading.Thread] = []
        self._flags: dict[tuple[TaskId, int], _Flags] = {}
        self._processes: ProcessPool | None = None
        self._run = run
        self._observer: Observer | None = None
        self._stalled = 0
        self._closed = False
        _live.add(self)
        disown_in_children(self)

    def disown(self) -> None:
        """Leave threads and folders to the process that started them, in a forked child."""
        self._closed = True
        self._threads.clear()

    def resources(self) -> Resources:
        return Resources(self._settings.workers, self._settings.memory, _QUEUED)

    def store(self) -> LocalStore:
        return self._store

    def submit(self, task: Task, functions: Functions) -> None:
        """Start a task soon. Threads start with the first tasks."""
        if self._closed:
            raise EngineError("the engine is closed: the run has ended")
        if self._processes is None and any(isinstance(s, MapStep) and s.processes for s in task.stage.steps):
            from mmflow.engines.processes import ProcessPool  # noqa: PLC0415  (slow: only map steps with processes need it)

            self._processes = ProcessPool(
                self._settings.workers, self._settings.memory // 4, self._settings.spill_dir
            )
        flags = self._flags[task.id, task.attempt] = _Flags()
        self._tasks.put((task, functions, flags))
        if len(self._threads) < min(self._settings.workers + self._stalled, len(self._flags)):
            name = f"mmflow-{len(self._threads)}"
            thread = threading.Thread(target=self._serve, args=(name,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def poll(self, timeout: float, enough: int = 1) -> Sequence[TaskResult]:
        taken = self._results.take(timeout, enough)
        for result in taken:
            self._flags.pop((result.id, result.attempt), None)
        return taken

    def cancel(self, task: TaskId, attempt: int) -> None:
        """Stop an attempt, which looks at its flag between batches."""
        flags = self._flags.get((task, attempt))
        if flags is not None:
            flags.cancelled.set()

    def request_stop(self, task: TaskId, attempt: int) -> None:
        flags = self._flags.get((task, attempt))
        if flags is not None:
            flags.stop_request.set()

    def silent(self) -> tuple[()]:
        """Return no attempts: threads of this process are never silent."""
        return ()

    def movement(self, after: float) -> Mapping[tuple[TaskId, int], Stall | None]:
        """Look at the tasks. In the place of those that don't move, as many others may run: at most twice as many."""
        if self._observer is None:
            self._observer = Observer()
        found = self._observer.look(self._run, after)
        stalled = sum(stall is not None for stall in found.values())
        self._stalled = min(self._settings.workers, stalled)
        if self._processes is not None:
            self._processes.allow(self._settings.workers + self._stalled)
        return found

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + _PATIENCE
        for flags in list(self._flags.values()):
            flags.cancelled.set()
        if self._processes is not None:
            self._processes.close()
        for _ in self._threads:
            self._tasks.put(None)
        self.join(deadline)
        self._store.close()

    def join(self, deadline: float) -> bool:
        """Return whether all threads have ended, by a time of `time.monotonic`; only after `close`."""
        for thread in self._threads:
            if not thread.is_alive():  # or it was interrupted as it started, and ends by itself
                continue
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    # ---- in worker threads --------------------------------------------------------------------------

    def _serve(self, worker: str) -> None:
        kept, remote_options = Kept(), self._settings.remote_options
        while (item := self._tasks.get()) is not None:
            task, functions, flags = item
            if flags.cancelled.is_set():
                self._results.put(Cancelled(task.id, task.attempt))
                continue
            context = WorkerContext(
                store=self._store,
                memory=max(1 << 20, self._settings.memory * 3 // 8 // self._settings.workers),
                io=self._settings.io,
                folder=self._folder,
                cancelled=flags.cancelled,
                stop_request=flags.stop_request,
                processes=self._processes,
                worker=worker,
                remote_options=remote_options,
                heap=self._heap,
                kept=kept,
            )
            result = self._attempt(task, functions, context)
            if not isinstance(result, Done):
                kept.clear()
            self._results.put(result)

    def _attempt(self, task: Task, functions: Functions, context: WorkerContext) -> TaskResult:
        try:
            result = self._work(task, functions, context)
            return (
                self._once(result) if isinstance(result, Done) and result.checkpoint is not None else result
            )
        except MmflowError as error:
            return Failed(task.id, task.attempt, error)
        except MemoryError as error:
            return Failed(task.id, task.attempt, _out_of_memory(error))
        except BaseException as error:  # noqa: BLE001  (a thread's end; panics of Rust are BaseExceptions)
            return Failed(task.id, task.attempt, _bug(task, error))

    def _once(self, done: Done) -> Done:
        """Return a result whose blocks are on disk once: spilled ones are dropped for their checkpoints."""
        assert done.checkpoint is not None  # the caller looked
        outputs = []
        for ref, checkpoint in zip(done.outputs, done.checkpoint.outputs, strict=True):
            if ref is not None and checkpoint is not None and self._store.on_disk(ref):
                self._store.delete(ref)
                ref = checkpoint
            outputs.append(ref)
        return replace(done, outputs=tuple(outputs))


class _Results:
    """Results on their way from workers to the thread of the run, which is woken once there are enough of them."""

    def __init__(self) -> None:
        self._came: deque[TaskResult] = deque()
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wanted = _NEVER
        self._urgent = False

    def put(self, result: TaskResult) -> None:
        """Add a result; called by workers."""
        self._came.append(result)
        if not isinstance(result, Done):
            self._urgent = True
        # Either this sees what the reader wants, or the reader sees the result.
        if len(self._came) >= self._wanted or (self._urgent and self._wanted != _NEVER):
            self._wakeups.put(None)

    def take(self, timeout: float, wanted: int) -> list[TaskResult]:
        """Return all results, once there are as many as `wanted`, or one that is not `Done`, or the time is over.

        It may return sooner: for results that the last call returned, workers may have woken it twice.
        """
        self._wanted = wanted
        if timeout > 0 and len(self._came) < wanted and not self._urgent:
            with contextlib.suppress(queue.Empty):
                self._wakeups.get(timeout=timeout)
                while True:
                    self._wakeups.get_nowait()
        self._wanted = _NEVER
        self._urgent = False
        return [self._came.popleft() for _ in range(len(self._came))]


class _Flags:
    """Flags of an attempt."""

    __slots__ = ("cancelled", "stop_request")

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.stop_request = threading.Event()


def threads_left_behind() -> int:
    """Return the number of threads that are still inside of a long call, although their run has ended."""
    return sum(t.is_alive() for engine in list(_live) if engine._closed for t in engine._threads)


@atexit.register
def _end_all() -> None:
    """End what still runs as the process exits: after `sys.exit`, say, with rows that were not all read."""
    deadline = time.monotonic() + _EXIT_PATIENCE
    engines = list(_live)
    for engine in engines:
        engine.close()
    ended = [engine.join(deadline) for engine in engines]
    if not all(ended):
        from mmflow.kernels import kernels  # noqa: PLC0415  (slow)

        kernels().threads_left()


def _out_of_memory(error: MemoryError) -> EngineError:
    return EngineError(
        f"out of memory: {error or 'an allocation failed'}; lower workers or shard_size, or give more memory",
        code="MMF-ENG-002",
    )


def _bug(task: Task, error: BaseException) -> EngineError:
    text = "".join(traceback.format_exception(error))
    return EngineError(
        f"bug in task {task.id.number} of stage {task.id.stage} ({task.stage.title}): "
        f"{type(error).__name__}: {error}; please report it (--traceback shows where)",
        traceback=text,
    )

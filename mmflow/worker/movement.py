"""Movement of the tasks of this process: whether they move, and if not, what their threads do.

    run_task         enters its thread into a list; batches cost nothing
    an observer      compares, every few seconds, counters that exist anyway:
                     of the task      rows; calls of functions, and rows that these are called with (`steps_of`); page
                                      faults, bytes and processor time of its thread, and of the process that it waits
                                      for (`waits_for`)
                     of the others    processor time of threads and processes of no task, such as DataFusion's; bytes of
                                      TCP connections

A function that computes for an hour moves all the time. A little processor time is not movement: who waits wakes up
now and then. Whatever belongs to no task counts for all tasks, so with it a stall may be named later, never wrongly.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TypeVar

from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping.system.host import read_stat
from mmflow.plan.stages import Write
from mmflow.plan.tasks import Task, TaskId
from mmflow.storage.sockets import carried_bytes
from mmflow.storage.url import redact_url

__all__ = [
    "Observer",
    "Stall",
    "join_calls",
    "look_pause",
    "running",
    "running_call",
    "steps_left",
    "steps_of",
    "waits_for",
]

_T = TypeVar("_T")
#: Looks at what should move in the time after which it is stalled, and the longest pause between two, in seconds.
_LOOKS, _LONGEST_PAUSE = 4, 5.0
#: Shares of a processor that are movement: of a task, and of threads and processes of no task, some of which (the event
#: loops of Ray and Dask) never rest.
_OWN_SHARE, _COMMON_SHARE = 0.005, 0.2
#: Bytes a second that are movement: who polls /proc reads some, too.
_LEAST_RATE = 1 << 10
#: The same of a connection: those to the heads of clusters carry signs of life.
_LEAST_CARRIED = 16 << 10
_TICK = 1 / os.sysconf("SC_CLK_TCK")
_STATES = {"R": "running", "S": "sleeping", "D": "in an uninterruptible wait", "T": "stopped", "t": "traced"}
_FRAMES = 4
#: Where a task's own calls begin.
_RUNNER = os.path.join("mmflow", "worker", "task_runner.py")
#: How threads wait for others; of these calls, the innermost says enough.
_PLUMBING = tuple(
    os.path.join(*names) for names in (("threading.py",), ("fsspec", "asyn.py"), ("futures", "_base.py"))
)
#: What makes the number of a thread that of its clock (Linux: CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED).
_OF_THREAD = 4 | 2


@dataclass(frozen=True, slots=True)
class Stall:
    """A task that does not move.

    Attributes:
        seconds: Seconds since it last did.
        place: Host, process and thread, and what the kernel says of them.
        doing: Calls of its thread, the innermost first.
        reads: File that it reads; "": none, or several.
        writes: Place of the output that it writes; "": none.
        stopped: Whether its process is known to be stopped (SIGSTOP), and will be killed.
        waits: Whether it has not begun, and nothing in the cluster can take it: another attempt would wait as well.
    """

    seconds: float
    place: str
    doing: str = ""
    reads: str = ""
    writes: str = ""
    stopped: bool = False
    waits: bool = False

    def __str__(self) -> str:
        facts = {"it is at": self.doing, "it reads": self.reads, "it writes": self.writes}
        return "; ".join([self.place, *(f"{begin} {what}" for begin, what in facts.items() if what)])


@dataclass(slots=True)
class _Running:
    run: str
    attempt: tuple[TaskId, int]
    reads: str
    writes: str
    thread: int
    native: int
    rows: Callable[[], int]
    left: Callable[[], int] = int  # steps of `steps_of`
    peer: _Peer | None = None


@dataclass(slots=True)
class _Peer:
    """Process that a task waits for, and what returns the calls of its thread, and the steps that are left to it."""

    process: int
    calls: Callable[[], str]
    left: Callable[[], int]


_running: dict[int, _Running] = {}  # by thread
#: Threads and processes that are, or were, of tasks. What they do now is none of the others' movement.
_threads: set[int] = set()
_processes: set[int] = set()


@contextlib.contextmanager
def running(task: Task, rows: Callable[[], int]) -> Iterator[None]:
    """Enter a task, which runs in this thread; `rows` counts what it has read, called and made."""
    files = () if task.shards is None else task.shards.files
    reads = redact_url(files[0].path) if len(files) == 1 else ""
    output = task.stage.output
    writes = redact_url(output.sink.path) if isinstance(output, Write) else ""
    with _entered(task.run, (task.id, task.attempt), reads, writes, rows):
        yield


@contextlib.contextmanager
def running_call(run: str) -> Iterator[None]:
    """Enter a call that is no task, and runs in this thread, as that of a run of its own."""
    native = threading.get_native_id()
    of_tasks = native in _threads
    try:
        with _entered(run, (TaskId(-1, -1), 0), "", "", lambda: 0):
            yield
    finally:
        if not of_tasks:
            _threads.discard(native)


@contextlib.contextmanager
def _entered(
    run: str, attempt: tuple[TaskId, int], reads: str, writes: str, rows: Callable[[], int]
) -> Iterator[None]:
    thread, native = threading.get_ident(), threading.get_native_id()
    before = _running.get(thread)
    _threads.add(native)
    _running[thread] = _Running(run, attempt, reads, writes, thread, native, rows)
    try:
        yield
    finally:
        del _running[thread]
        if before is not None:
            _running[thread] = before


def look_pause(after: float) -> float:
    """Return the seconds between two looks at what is stalled after so many without movement."""
    return min(_LONGEST_PAUSE, after / _LOOKS)


def steps_of(items: list[_T]) -> Iterator[_T]:
    """Return an iterator over a list; each of its steps is movement of the task of this thread, and costs nothing."""
    steps, task = iter(items), _running.get(threading.get_ident())
    if task is not None:
        task.left = steps.__length_hint__  # type: ignore[attr-defined]  # which iterators of lists have
    return steps


def steps_left() -> int:
    """Return the steps that are left in this process, which has one task or call: `steps_of`."""
    return sum(known.left() for known in list(_running.values()))


@contextlib.contextmanager
def waits_for(process: int, calls: Callable[[], str], left: Callable[[], int] = int) -> Iterator[None]:
    """Say that the task of this thread waits for another process, which moves for it; `left`: its `steps_left`."""
    task = _running.get(threading.get_ident())
    if task is None:  # no task, but a test
        yield
        return
    _processes.add(process)
    task.peer = _Peer(process, calls, left)
    try:
        yield
    finally:
        task.peer = None


@dataclass(slots=True)
class _Seen:
    """Counters of a task as they were last seen, and when it moved."""

    counts: tuple[int, ...]
    cpu: float
    transferred: int
    moved: float
    peer: int = 0
    stall: Stall | None = None  # since then, once it was described


class Observer:
    """Observer of the tasks of this process; to be asked from one thread, again and again."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[_Running, _Seen]] = {}
        self._common = 0.0
        self._carried: dict[str, int] = {}
        self._looked = time.monotonic()

    def look(self, run: str, after: float) -> dict[tuple[TaskId, int], Stall | None]:
        """Return the tasks of a run that run here, and what each that has not moved for `after` seconds does."""
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        ours = [known for known in list(_running.values()) if known.run == run]
        others = self._others_move(elapsed)
        seen = {}
        found: dict[tuple[TaskId, int], Stall | None] = {}
        for known in ours:
            last = self._seen.get(known.thread)
            made = _Seen(_counts(known), _thread_cpu(known.native), _transferred(known), now)
            if known.peer is not None:
                made.peer = known.peer.process
                made.cpu += _process_cpu(known.peer.process)
            if last is not None and last[0] is known:
                before = last[1]
                still = made.counts == before.counts and made.peer == before.peer
                still = still and made.transferred - before.transferred <= _LEAST_RATE * elapsed
                if still and made.cpu - before.cpu <= _OWN_SHARE * elapsed and not others:
                    made.moved, made.stall = before.moved, before.stall
            seen[known.thread] = known, made
            seconds = now - made.moved
            if seconds >= after:
                made.stall = made.stall or _described(known)
            found[known.attempt] = made.stall and replace(made.stall, seconds=seconds)
        self._seen = seen
        return {
            attempt: None if stall and _waits_for_stream(stall) else stall for attempt, stall in found.items()
        }

    def _others_move(self, elapsed: float) -> bool:
        """Return whether threads and processes of no task move, or connections."""
        known, self._carried = self._carried, carried_bytes()
        carried = max((n - known.get(c, 0) for c, n in self._carried.items()), default=0)
        common = time.process_time() - _thread_cpu(threading.get_native_id())
        common -= sum(map(_thread_cpu, _threads - {threading.get_native_id()}))
        common += sum(map(_process_cpu, set(_descendants(os.getpid())) - _processes))
        before, self._common = self._common, common
        return common - before > _COMMON_SHARE * elapsed or carried > _LEAST_CARRIED * elapsed


def _waits_for_stream(stall: Stall) -> bool:
    """Return whether a task waits for bytes of a stream, which may come hours later."""
    return f"mmflow{os.sep}streams{os.sep}" in stall.doing


def _counts(known: _Running) -> tuple[int, ...]:
    """Return counters of a task that grow only as it moves: rows, and pages that came from disk."""
    folder = f"/proc/self/task/{known.native}"
    stat = read_stat(f"{folder}/stat")
    peer = known.peer
    left = known.left() if peer is None else peer.left()
    return known.rows(), left, int(stat[9]) if len(stat) > 9 else 0


def _transferred(known: _Running) -> int:
    """Return the bytes that the thread of a task has read and written by system calls."""
    return sum(int(line.split()[1]) for line in _read(f"/proc/self/task/{known.native}/io").splitlines()[:2])


def _thread_cpu(native: int) -> float:
    """Return the processor time of a thread of this process, in seconds; 0 if it is gone."""
    try:
        return time.clock_gettime(~native << 3 | _OF_THREAD)
    except OSError:
        return 0.0


def _process_cpu(process: int) -> float:
    """Return the processor time of a process, with its children that have ended, in seconds; 0 if it is gone."""
    stat = read_stat(f"/proc/{process}/stat")
    return sum(map(int, stat[11:15])) * _TICK if len(stat) > 14 else 0.0


def _descendants(process: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that they have."""
    for path in Path("/proc", str(process), "task").glob("*/children"):
        for child in _read(path).split():
            yield int(child)
            yield from _descendants(int(child))


def _read(path: str | Path) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:  # it has ended, or this system does not say
        return ""


def _described(known: _Running) -> Stall:
    if known.peer is None:
        place, doing = _place(os.getpid(), known.native), _calls(sys._current_frames().get(known.thread))
    else:
        place, doing = _place(known.peer.process, known.peer.process), known.peer.calls()
    return Stall(0.0, place, doing, known.reads, known.writes)


def _place(process: int, native: int) -> str:
    folder = f"/proc/{process}/task/{native}"
    stat = read_stat(f"{folder}/stat")
    state = _STATES.get(stat[0], stat[0]) if stat else "gone"
    channel = _read(f"{folder}/wchan")
    kernel = f" in the kernel's {channel}" if channel not in ("", "0") else ""
    text = f"host {socket.gethostname()}, process {process}, thread {native}, which is {state}{kernel}"
    pressure = ", ".join(filter(None, map(_pressure, ("cpu", "io", "memory"))))
    return f"{text} (pressure: {pressure})" if pressure else text


def _pressure(of: str) -> str:
    """Return the share of the last ten seconds in which something waited for this; "": the kernel does not say."""
    found = _read(f"/proc/pressure/{of}").partition("avg10=")[2].split()
    return f"{of} {float(found[0]):.0f}%" if found else ""


def _calls(frame: FrameType | None) -> str:
    def each() -> Iterator[str]:
        at = frame
        while at is not None and not at.f_code.co_filename.endswith(_RUNNER):
            if at is frame or not at.f_code.co_filename.endswith(_PLUMBING):
                yield f"{at.f_code.co_filename}:{at.f_lineno} in {at.f_code.co_name}"
            at = at.f_back

    return join_calls(each())


def join_calls(calls: Iterable[str]) -> str:
    """Return the first of a thread's calls, the innermost first, as text."""
    return ", called at ".join(itertools.islice(calls, _FRAMES))

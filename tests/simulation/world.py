"""A world of one seed: processes that are greenlets, a clock that moves when all of them wait, and faults.

    process  -->  disk, clock, object store, engine  -->  World.enter  -->  the real call, or a fault
                                                            |
                                                            +-- switches to another process, if its time has come

Every call through a seam takes half a millisecond of the world's time, so which process goes on next follows from the
pauses alone. The local store is a real folder (of memory), which only calls through `mmflow.storage.disk` change.

A process that dies makes no further call: each raises `Died`, also in handlers that would clean up. Its descriptors are
closed by the world, so that its locks are free, as the kernel does it.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import heapq
import itertools
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from greenlet import getcurrent, greenlet

from mmflow.engines import loop
from mmflow.mapping.system import system
from mmflow.plan import fingerprint
from mmflow.runs import lock as run_lock
from mmflow.runs import recorded_run
from mmflow.runs.redaction import Redactor
from mmflow.sinks import spec
from mmflow.sinks.commit import local, object_lock
from mmflow.storage import clock, disk
from tests.scheduler.toy import ToyFormat

__all__ = ["START", "Died", "Fault", "Process", "StuckError", "Unsynced", "World"]

START = 1_780_000_000.0
_CALL_SECONDS = 0.0005
#: Longest time of an uneven call: less than `SETTLE_SECONDS` of locks on stores whose creation is not exclusive.
_UNEVEN_SECONDS = 0.8
_HUNG_SECONDS = 30.0
#: Functions in which a process of mmflow may wait (docs/waits.md), and those of this world.
WAITS = frozenset(
    {
        "ObjectLock.acquire", "ObjectLock._create", "ObjectLock._take_over", "ObjectLock._stale", "_Opening.take",
        "open_named", "wait_until_free", "mmflow-lock", "mmflow-run-lock", "poll", "work", "user", "pause", "call",
    }
)  # fmt: skip


class Died(BaseException):
    """The process of this call is dead."""


class StuckError(AssertionError):
    """Some process waits for what never comes."""


class Unsynced(Protocol):
    """Changes of the local store that a power cut may take (`power.py`)."""

    def called(self, name: str, given: Sequence[Any]) -> None: ...

    def named(self, *paths: str | os.PathLike[str]) -> None: ...

    def cut(self, r: random.Random) -> None: ...

    def build(self) -> None: ...


@dataclass(frozen=True)
class Fault:
    """Fault at the first call that it fits, from number `at` on.

    `kind`: die, die after, pause (of a thread), hang (of its whole process), power, full, eio, lost, throttled, stale, twice.
    `seconds`: of a pause, of a full disk, or by which a listing is old. `what`: name of the call, or a part of its path,
    which has not only letters; "": any.
    """

    at: int
    kind: str
    seconds: float = 0.0
    what: str = ""

    def fits(self, kind: str, what: str, path: str) -> bool:
        if kind not in FITS[self.kind]:
            return False
        if self.what and self.what != what and (self.what.isalpha() or self.what not in path):
            return False
        # A holder that hangs between its last look at the lock and what it publishes is the risk that is documented.
        publishes = what == "copy" or path.endswith("_mmflow_manifest.json")
        return not (self.kind in ("pause", "hang") and self.seconds > _HUNG_SECONDS and publishes)


#: Kinds of faults, and the kinds of calls that they fit.
FITS = {
    "die": ("disk", "store", "list", "task"),
    "die after": ("disk", "store", "list"),
    "pause": ("disk", "store", "list", "task"),
    "hang": ("disk", "store", "list", "task"),
    "power": ("disk", "store", "list", "task"),
    "full": ("disk",),
    "eio": ("disk",),
    "lost": ("store", "list"),
    "throttled": ("store", "list"),
    "stale": ("list",),
    "twice": ("task",),
}


@dataclass(eq=False)
class Process:
    """Process of a host. `owner`: process with whose end it ends; None: it has none. `hangs_until`: when it goes on."""

    name: str
    pid: int
    host: str
    owner: Process | None = None
    alive: bool = True
    #: Paths of its open files, by their descriptors.
    fds: dict[int, str] = field(default_factory=dict)
    threads: list[Thread] = field(default_factory=list)
    on_death: Callable[[], None] | None = None
    hangs_until: float = 0.0
    is_user: bool = False
    begun: bool = False


@dataclass(eq=False, slots=True)
class Thread:
    """Thread of a process. `waits_in`: where it waits; `turn`: number of its last wait; `fiber`: None before and after."""

    process: Process
    body: Callable[[], None]
    waits_in: str = ""
    turn: int = 0
    fiber: _Fiber | None = None
    dead: bool = False


class _Fiber(greenlet):
    """Greenlet that runs one thread after the other: a new one maps memory, and a history has fifteen threads."""

    body: Callable[[], None]
    main: Any

    def run(self) -> None:
        while True:
            self.body()
            del self.body
            _idle.append(self)
            self.main.switch()


_idle: list[_Fiber] = []


class World:
    """Processes, time and faults of one history.

    Args:
        seed: Seed of what looks random: durations and names.
        root: Empty folder of the local store.
        faults: Faults, in order of their calls.
        uneven: Share of the calls after which other processes go on for a while.
        last: Seconds of virtual time at which the world ends.
    """

    def __init__(
        self, seed: int, root: Path, faults: tuple[Fault, ...], uneven: float = 0.0, last: float = 20_000.0
    ) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.now = 0.0
        self.calls = 0
        #: Lines of the calls, for people and for comparison; None: nobody reads them.
        self.trace: list[str] | None = None
        self.processes: list[Process] = []
        self.full_until = -1.0
        self.stale = 0.0
        #: What a power cut may take of the local store, and what happens after one.
        self.unsynced: Unsynced | None = None
        self.on_power: Callable[[], None] = lambda: None
        self._power_cut = False
        self._uneven = uneven
        self._luck = random.Random(f"{seed} luck")
        self._faults = sorted(faults, key=lambda fault: fault.at)
        self._next_fault = self._faults[0].at if self._faults else sys.maxsize
        self._queue: list[tuple[float, int, Thread]] = []
        self._turns = 0
        self._last = last
        self._main: Any = None
        self._running: Thread | None = None
        self._condemned: list[Thread] = []
        self.errors: list[BaseException] = []
        self._prefix = f"{root}/"

    # ---- processes ----------------------------------------------------------------------------------

    def start(
        self,
        name: str,
        function: Callable[[], None],
        *,
        at: float = 0.0,
        host: str = "a",
        owner: Process | None = None,
    ) -> Process:
        """Start a process in `at` seconds."""
        process = Process(name, 1000 + len(self.processes), host, owner, is_user=self.process() is None)
        self.processes.append(process)
        self.thread(process, function, at)
        return process

    def thread(self, process: Process, function: Callable[[], None], after: float) -> Thread:
        """Start a thread of a process."""

        def body() -> None:
            if process.alive:
                process.begun = True
                try:
                    function()
                except Died:
                    pass
                except BaseException as error:  # whatever it is fails the test
                    self.errors.append(error)
                if process.alive and process.threads[0] is made:
                    self._end(process)
            made.fiber, made.dead = None, True

        made = Thread(process, body)
        process.threads.append(made)
        self._push(self.now + after, made)
        return made

    def process(self) -> Process | None:
        """Return the process that runs."""
        return None if self._running is None else self._running.process

    def kill(self, process: Process, why: str = "killed") -> None:
        """End a process at once, from outside or inside of it, and those that it owns."""
        if process.alive:
            self.note(f"{process.name} {why}")
            self._end(process)

    def _end(self, process: Process) -> None:
        process.alive = False
        for fd in sorted(process.fds):
            os.close(fd)
        process.fds.clear()
        self._condemned += [thread for thread in process.threads if thread is not self._running]
        for other in self.processes:
            if other.owner is process and other.alive:
                self.kill(other, "ends with its owner")
        if process.on_death is not None:
            process.on_death()

    def cut_power_at_rest(self) -> None:
        """Let the power cut come that no call met: all users are gone, and what they were told must stay."""
        if any(fault.kind == "power" for fault in self._faults):
            self._faults = [fault for fault in self._faults if fault.kind != "power"]
            self._next_fault = self._faults[0].at if self._faults else sys.maxsize
            self._cut_power()

    def _cut_power(self) -> None:
        """End all processes at once; users who have not come yet come later. What is left is built once they are gone."""
        self.note("the power is cut")
        self._power_cut = True
        if self.unsynced is not None:
            self.unsynced.cut(self._luck)
        for process in self.processes:
            if process.alive and (process.begun or not process.is_user):
                self._end(process)
        self.full_until = -1.0

    def current(self) -> Process:
        process = self.process()
        assert process is not None, "called from outside of the world"
        return process

    def pid(self) -> int:
        process = self.process()
        return _getpid() if process is None else process.pid

    def host(self) -> str:
        return self.current().host

    def process_start(self, pid: int) -> str | None:
        """Return when a process of this host began; None: it has ended."""
        host = self.host()
        return next(
            (f"start {p.pid}" for p in self.processes if (p.pid, p.host, p.alive) == (pid, host, True)), None
        )

    def note(self, line: str) -> None:
        """Add a line to the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now:.4f} {line}")

    # ---- time ------------------------------------------------------------------------------------------

    def _push(self, at: float, thread: Thread) -> None:
        self._turns = thread.turn = turn = self._turns + 1
        heapq.heappush(self._queue, (at, turn, thread))

    def wait(self, seconds: float, where: str) -> None:
        """Let the current thread wait until its time has come, or `wake`."""
        thread = self._running
        assert thread is not None
        if not thread.process.alive:
            raise Died
        if where not in WAITS:
            raise AssertionError(f"a wait without a name: {where}; list it in docs/waits.md")
        thread.waits_in = where
        self._push(self.now + seconds if seconds > 0.0 else self.now, thread)
        self._main.switch()
        if not thread.process.alive:
            raise Died

    def wake(self, thread: Thread) -> None:
        self._push(self.now, thread)

    def run(self) -> None:
        """Run until every process has ended.

        Raises:
            StuckError: Some process still waits at the end of time.
        """
        self._main = getcurrent()
        while self._queue or self._condemned or self._power_cut:
            while self._condemned:
                thread = self._condemned.pop()
                if thread.fiber is not None:
                    self._running = thread
                    try:
                        thread.fiber.throw(Died)
                    finally:
                        self._running = None
            if self._power_cut:
                self._power_cut = False
                if self.unsynced is not None:
                    self.unsynced.build()
                if all(fault.kind != "power" for fault in self._faults):
                    self.unsynced = None
                self.on_power()
            if not self._queue:
                break
            at, turn, thread = heapq.heappop(self._queue)
            if thread.dead or turn != thread.turn:
                continue
            if at > self.now:
                self.now = at
            if thread.process.hangs_until > self.now:
                self._push(thread.process.hangs_until, thread)
                continue
            if self.now > self._last:
                waiting = {t.process.name: t.waits_in for p in self.processes if p.alive for t in p.threads}
                raise StuckError(f"no end after {self.now:.0f} s: {waiting}")
            if (fiber := thread.fiber) is None:
                fiber = _idle.pop() if _idle and _idle[-1].parent is self._main else _Fiber()
                fiber.body, fiber.main, thread.fiber = thread.body, self._main, fiber
            self._running = thread
            try:
                fiber.switch()
            finally:
                self._running = None

    # ---- faults ------------------------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        return self._next_fault == sys.maxsize

    def stop_faults(self) -> None:
        """Let no further fault happen."""
        self._faults, self._next_fault, self.full_until, self._uneven = [], sys.maxsize, -1.0, 0.0

    def enter(self, kind: str, what: str, path: object = "") -> str:
        """Begin a call: count it, let other processes run, and return the fault that it suffers ("": none).

        Raises:
            Died: Its process is dead.
        """
        thread = self._running
        assert thread is not None, "called from outside of the world"
        process = thread.process
        if not process.alive:
            raise Died
        self.calls = calls = self.calls + 1
        self.now += _CALL_SECONDS
        if self.trace is not None:
            self.note(f"{process.name} {what} {str(path).replace(self._prefix, '')}")
        suffers = ""
        if calls >= self._next_fault:
            suffers = self._fault(kind, what, str(path), process)
        if self._uneven and self._luck.random() < self._uneven:
            self.wait(_UNEVEN_SECONDS * self._luck.random() ** 3, "call")
        elif (queue := self._queue) and queue[0][0] <= self.now:
            thread.waits_in = "call"
            self._push(self.now, thread)
            self._main.switch()
            if not process.alive:
                raise Died
        return suffers

    def _fault(self, kind: str, what: str, path: str, process: Process) -> str:
        for found in self._faults:
            if found.at > self.calls:  # and so are those after it
                return ""
            if found.fits(kind, what, path) and (found.kind != "hang" or self._may_hang(process)):
                break
        else:
            return ""
        self._faults.remove(found)
        self._next_fault = self._faults[0].at if self._faults else sys.maxsize
        self.note(f"{process.name} suffers {found.kind} {found.seconds:g}")
        match found.kind:
            case "die":
                self.kill(process)
                raise Died
            case "pause":
                self.wait(found.seconds, "pause")
                return ""
            case "hang":
                process.hangs_until = self.now + found.seconds
                self.wait(found.seconds, "pause")
                return ""
            case "power":
                self._cut_power()
                raise Died
            case "full":
                self.full_until = self.now + found.seconds
                return "torn"
            case "stale":
                self.stale = found.seconds
        return found.kind

    def _may_hang(self, process: Process) -> bool:
        """Return whether no other thread of a process is in a call, which may be one that must not hang."""
        return not any(t.waits_in == "call" and not t.dead for t in process.threads if t is not self._running)

    def after(self, suffers: str) -> None:
        """End a call: a process that dies after it dies now."""
        if suffers == "die after":
            self.kill(self.current())
            raise Died

    # ---- the seams ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Put this world behind the seams during the block."""
        replaced: list[tuple[Any, str, Any]] = []

        def put(target: Any, name: str, value: Any) -> None:
            replaced.append((target, name, target.__dict__.get(name, _ABSENT)))
            setattr(target, name, value)

        for name in _PLAIN:
            put(disk, name, self._call(name, getattr(disk, name)))
        put(disk, "open", self._open)
        put(disk, "close", self._close)
        put(disk, "write", self._write)
        put(disk, "makedirs", _makedirs)
        put(disk, "remove_tree", _remove_tree)
        put(system, "rename", self._call("rename", system.rename))
        put(clock, "monotonic", lambda: self.now)
        put(clock, "time", lambda: START + self.now)
        put(clock, "sleep", lambda seconds: self.wait(seconds, sys._getframe(1).f_code.co_qualname))
        put(clock, "Repeated", lambda function, seconds, name: Repeated(self, function, seconds, name))
        put(os, "getpid", self.pid)
        put(os, "urandom", self.random.randbytes)
        put(tempfile, "_name_sequence", (f"t{number}" for number in itertools.count()))
        for module in (run_lock, object_lock):
            put(module, "machine_id", self.host)
            put(module, "read_process_start", self.process_start)
        put(loop, "QUIET_SECONDS", 1e9)  # the search for silent file servers starts threads
        put(loop, "_WAIT_SECONDS", 5.0)  # results wake the driver
        put(loop, "_PROGRESS_SECONDS", 1.0)
        put(loop, "PART_BYTES", 4)  # shards of toy files are small
        put(spec, "check_answers", lambda paths: None)  # nor do file servers fall silent here
        put(local, "is_silent", lambda path: False)
        put(fingerprint, "digest", _digest)
        put(recorded_run, "write_report", lambda directory: None)  # a page for people, of 2 ms
        put(recorded_run, "Redactor", lambda parameters: Redactor({}, parameters))  # of no secrets here
        collects = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()
            for target, name, value in reversed(replaced):
                if value is _ABSENT:
                    delattr(target, name)
                else:
                    setattr(target, name, value)

    def _call(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        takes_room = name in _TAKES_ROOM

        def call(*given: Any, **named: Any) -> Any:
            process = self.process()
            if process is None:
                return function(*given, **named)
            path = process.fds.get(given[0], "") if isinstance(given[0], int) else given[0]
            suffers = self.enter("disk", name, path)
            if suffers == "eio" and name != "unlink":
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(given[0]))
            if takes_room and self.now < self.full_until:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(given[0]))
            made = function(*given, **named)
            if self.unsynced is not None:
                self.unsynced.called(name, given)
            if suffers:
                self.after(suffers)
            return made

        return call

    def _open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        process = self.process()
        if process is None:
            return os.open(path, flags, mode)
        suffers = self.enter("disk", "open", path)
        if suffers == "eio":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        if self.now < self.full_until and flags & os.O_CREAT and not os.path.exists(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        fd = os.open(path, flags, mode)
        process.fds[fd] = os.fspath(path)
        if self.unsynced is not None and flags & os.O_CREAT:
            self.unsynced.named(path)
        if suffers:
            self.after(suffers)
        return fd

    def _close(self, fd: int) -> None:
        process = self.process()
        if process is None:
            os.close(fd)
        elif process.alive:
            process.fds.pop(fd, None)
            os.close(fd)

    def _write(self, fd: int, data: Any) -> int:
        process = self.process()
        if process is None:
            return os.write(fd, data)
        view = memoryview(data)
        suffers = self.enter("disk", "write", process.fds.get(fd, ""))
        if suffers == "eio":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if suffers == "torn" and len(view) > 1:
            return os.write(fd, view[: len(view) // 2])
        if self.now < self.full_until:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = os.write(fd, view)
        if suffers:
            self.after(suffers)
        return done


_ABSENT = object()
_getpid = os.getpid


def _digest(*values: object) -> str:
    """Return the digest of the text of values: that of their content, with all code that they reach, takes milliseconds."""
    return hashlib.blake2b(repr(list(map(_plain, values))).encode(), digest_size=16).hexdigest()


def _plain(value: object) -> object:
    """Return a value whose text says all that is in it."""
    if isinstance(value, pa.RecordBatch):
        return value.to_pydict()
    return "toy" if isinstance(value, ToyFormat) else value


_PLAIN = (
    "chmod",
    "fdatasync",
    "fsync",
    "ftruncate",
    "link",
    "mkdir",
    "pwrite",
    "rename",
    "replace",
    "rmdir",
    "unlink",
)
_TAKES_ROOM = frozenset({"link", "mkdir", "pwrite"})


def _makedirs(path: Any, mode: int = 0o777, exist_ok: bool = False) -> None:
    """Do what `os.makedirs` does, by calls of the seam."""
    path = os.fspath(path)
    parent = os.path.dirname(path)
    if parent and not os.path.isdir(parent):
        _makedirs(parent, exist_ok=True)
    try:
        disk.mkdir(path, mode)
    except FileExistsError:
        if not exist_ok or not os.path.isdir(path):
            raise


def _remove_tree(path: Any) -> None:
    """Do what `shutil.rmtree` does, by calls of the seam."""
    with contextlib.suppress(OSError):
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                _remove_tree(entry.path)
            else:
                with contextlib.suppress(OSError):
                    disk.unlink(entry.path)
        disk.rmdir(path)


class Repeated:
    """`clock.Repeated`, in a thread of the process that makes it."""

    def __init__(self, world: World, function: Callable[[], bool], seconds: float, name: str) -> None:
        self.stopped = False
        self.running = True
        self._world = world

        def repeat() -> None:
            while True:
                world.wait(seconds, name)
                if self.stopped or not function():
                    self.running = False
                    return

        self._thread = world.thread(world.current(), repeat, 0.0)

    def stop(self, seconds: float) -> None:
        del seconds
        self.stopped = True
        self.running = False

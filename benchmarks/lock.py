"""The interpreter's lock: the share of time in which it is held, by whom, and what more cores would give.

    python benchmarks/lock.py [--folder .cache/bench] [--scale 2] [--rows 3000000] [--seconds 30] [--workers 2]
        [--bandwidth 200] [--top 0] [--exact] [WORK ...]

Each work runs in a warm loop in a process of its own, planning included, while py-spy looks 1,000 times a second
whether a thread holds the lock. `--exact` (root, perf) notes instead each time that the interpreter takes the lock and
drops it, and what of the time in between the thread was on a core: what is left waited for one, as it does for py-spy.

The second table is a simulation: workers ask for the lock in turn, once for each 64 MiB of the file, and work without
it in between, for as long as was measured. No run is faster than memory that gives `--bandwidth` GB/s, and what a run
does before its first task and behind its last one is not divided. On a machine that has other work both tables show too
much without `--exact`: a thread that waits for a processor may hold the lock.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import works as all_works
from timing import bare_read, table

from mmflow.engines.local import LocalEngine
from mmflow.plan.stages import Functions
from mmflow.plan.tasks import Task, TaskResult
from mmflow.worker.context import WorkerContext

_WORKS = ("csv-q6", "csv-q1", "ndjson", "text-like")
_RATE = 1000
_TURN = 64 << 20
_CORES = (1, 2, 4, 16, 64)
_TAKEN, _DROPPED = "mmflow_lock:taken__return", "mmflow_lock:dropped"
_EVENT = re.compile(r"\s*(\d+)\s+(\d+\.\d+):\s+(.*)")


@dataclass(frozen=True)
class Loop:
    """A warm loop of one work: means of a run, in seconds.

    Attributes:
        seconds: Time of a run.
        processor: Processor time of all threads.
        serial: Time before the first task and behind the last one.
        nbytes: Bytes of the file.
    """

    seconds: float
    processor: float
    serial: float
    nbytes: int


class _Watch:
    """Times of the first and the last task of a run."""

    def __init__(self) -> None:
        self.first = self.last = 0.0
        submit, attempt = LocalEngine.submit, LocalEngine._attempt

        def submitted(engine: LocalEngine, task: Task, functions: Functions) -> None:
            self.first = self.first or time.perf_counter()
            submit(engine, task, functions)

        def attempted(
            engine: LocalEngine, task: Task, functions: Functions, context: WorkerContext
        ) -> TaskResult:
            result = attempt(engine, task, functions, context)
            self.last = time.perf_counter()
            return result

        LocalEngine.submit, LocalEngine._attempt = submitted, attempted  # type: ignore[method-assign]


def _loop(folder: Path, scale: float, rows: int, name: str, seconds: float) -> None:
    """Run a work for some seconds, once it is warm, and print the means."""
    work = all_works.works(folder, scale, rows)[name]()
    watch = _Watch()
    bare_read(work.path)
    for _ in range(3):
        work.ways["mmflow"]()
    gc.collect()
    print("warm", flush=True)
    runs, serial = 0, 0.0
    began, processor = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        watch.first, start = 0.0, time.perf_counter()
        work.ways["mmflow"]()
        serial += watch.first - start + time.perf_counter() - watch.last
        runs += 1
    taken, processor = time.perf_counter() - began, time.process_time() - processor
    loop = Loop(taken / runs, processor / runs, serial / runs, work.path.stat().st_size)
    print(json.dumps(asdict(loop)), flush=True)


@dataclass(frozen=True)
class Held:
    """Shares of time in which the lock was held; the parts are unknown where they are empty.

    Attributes:
        share: Of all threads.
        on_core: Of those that were on a core.
        times: Times that it was taken, a second.
        functions: Of each function.
    """

    share: float
    on_core: float = 0.0
    times: float = 0.0
    functions: Counter[str] = field(default_factory=Counter)


def _measured(
    watch: Callable[[int, float, Path], Held], arguments: list[str], name: str, seconds: float
) -> tuple[Loop, Held]:
    """Return the loop of a work, and how long the lock was held."""
    # The loop outlives the samples, so that each of them is taken in a run, also where a tool is slow to begin.
    command = [sys.executable, __file__, *arguments, f"--seconds={seconds + 5}", f"--loop={name}"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        if process.stdout.readline() != "warm\n":
            raise SystemExit(f"{name} failed")
        held = watch(process.pid, seconds, Path(folder, "out"))
        return Loop(**json.loads(process.stdout.readline())), held


def _sampled(spy: str, process: int, seconds: float, out: Path) -> Held:
    """Have py-spy look at a process."""
    subprocess.run(
        [spy, "record", "--gil", "--nonblocking", "--rate", str(_RATE), "--duration", str(round(seconds)),
         "--format", "raw", "--output", str(out), "--pid", str(process)],
        check=True, capture_output=True,
    )  # fmt: skip
    held: Counter[str] = Counter()
    for line in out.read_text().splitlines():
        stack, count = line.rsplit(" ", 1)
        held[_culprit(stack.split(";"))] += int(count)
    samples = _RATE * round(seconds)
    return Held(held.total() / samples, functions=Counter({who: n / samples for who, n in held.items()}))


@contextmanager
def _probes() -> Iterator[None]:
    """Let perf see where the interpreter takes its lock, and drops it."""
    shared = sysconfig.get_config_var("Py_ENABLE_SHARED")
    library = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
    file = str(library if shared else Path(sys.executable).resolve())
    added = ["--add", _TAKEN.replace("__return", "=take_gil%return"), "--add", f"{_DROPPED}=drop_gil"]
    subprocess.run(["perf", "probe", "-q", "-x", file, *added], check=True)
    try:
        yield
    finally:
        subprocess.run(["perf", "probe", "-q", "--del", "mmflow_lock:*"], check=False)


def _exact(process: int, seconds: float, out: Path) -> Held:
    """Have perf note each time that the lock of a process is taken and dropped, and its threads get and lose a core."""
    record = [
        "perf", "record", "-q", "-e", _TAKEN, "-e", _DROPPED, "--switch-events", "-m", "4096",
        "-o", str(out), "-p", str(process), "--", "sleep", str(seconds),
    ]  # fmt: skip
    while subprocess.run(record, check=False).returncode:  # a thread ended before perf came to it
        if not os.path.exists(f"/proc/{process}/exe"):
            raise SystemExit("the loop ended before perf saw it")
    script = ["perf", "script", "-i", str(out), "-F", "tid,time,event", "--ns", "--show-switch-events"]
    text = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    events = sorted((float(m[2]), m[1], m[3]) for m in map(_EVENT.match, text.splitlines()) if m)
    return _held(events)


def _held(events: list[tuple[float, str, str]]) -> Held:
    """Return how long the lock was held, from times, threads and what they did.

    >>> moved = [(1, "a", "SWITCH OUT"), (3, "a", "SWITCH IN")]
    >>> _held([(0, "a", "taken"), *moved, (4, "a", "dropped"), (8, "b", "taken")])
    Held(share=0.5, on_core=0.25, times=0.125, functions=Counter())
    """
    since: dict[str, float] = {}
    lost: dict[str, float] = {}
    waited: dict[str, float] = {}
    share = off = 0.0
    times = 0
    for at, thread, what in events:
        if "taken" in what:
            since[thread], waited[thread] = at, 0
        elif "dropped" in what and thread in since:
            share += at - since.pop(thread)
            off += waited[thread]
            times += 1
        elif "OUT" in what:
            lost[thread] = at
        elif "IN" in what and thread in lost:
            gone = at - lost.pop(thread)
            waited[thread] = waited.get(thread, 0.0) + gone
    span = events[-1][0] - events[0][0]
    return Held(share / span, (share - off) / span, times / span)


def _culprit(frames: list[str]) -> str:
    """Return the innermost function of mmflow, and what it called."""
    own = [n for n, frame in enumerate(frames) if "mmflow/" in frame]
    last = own[-1] if own else len(frames) - 1
    return " > ".join(frames[last : last + 2])


def simulate(turns: int, lock: float, work: float, cores: int) -> float:
    """Return the seconds of `turns` turns: `lock` seconds one worker at a time, then `work` seconds at once.

    >>> [simulate(100, 0.001, 0.009, cores) for cores in (1, 10, 1000)]
    [1.0, 0.109, 0.109]
    """
    asks = [0.0] * cores
    free = 0.0
    for _ in range(turns):
        free = max(heapq.heappop(asks), free) + lock
        heapq.heappush(asks, free + work)
    return round(max(asks), 9)


def _simulated(loop: Loop, held: float, cores: int, times: int, bandwidth: float) -> float:
    """Return the GB/s of a file `times` as large on so many cores."""
    nbytes = loop.nbytes * times
    turns = max(1, nbytes // _TURN)
    lock = held * loop.seconds * times
    work = max(0.0, loop.processor - loop.serial) * times - lock
    seconds = max(simulate(turns, lock / turns, work / turns, cores), nbytes / bandwidth / 1e9)
    return nbytes / 1e9 / (loop.serial + seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("works", nargs="*", default=_WORKS)
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--bandwidth", type=float, default=200)
    parser.add_argument("--top", type=int, default=0, help="so many functions that hold the lock longest")
    parser.add_argument(
        "--exact", action="store_true", help="by probes of perf rather than py-spy; needs root"
    )
    parser.add_argument("--loop", help=argparse.SUPPRESS)
    options = parser.parse_args()
    all_works.THREADS = options.workers
    if options.loop:
        _loop(options.folder, options.scale, options.rows, options.loop, options.seconds)
        return
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None and not options.exact:
        parser.error("py-spy is needed: pip install -c constraints.txt py-spy")
    watch = _exact if spy is None or options.exact else partial(_sampled, spy)
    options.folder.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"--folder={options.folder}", f"--scale={options.scale}", f"--rows={options.rows}",
        f"--workers={options.workers}",
    ]  # fmt: skip
    measured, simulated = [], []
    for name in options.works:
        all_works.works(options.folder, options.scale, options.rows)[name]()  # makes its file
        with _probes() if options.exact else nullcontext():
            loop, held = _measured(watch, arguments, name, options.seconds)
        own = f"{held.on_core:.1%}, {held.on_core * loop.seconds * 1e3:.1f} ms a run"
        exact = {"of it on a core": own, "taken a run": f"{held.times * loop.seconds:.0f}"}
        measured.append(
            {
                "work": name,
                "a run": f"{loop.seconds:.3f} s",
                "processor time": f"{loop.processor:.3f} s",
                "not divided": f"{loop.serial * 1e3:.0f} ms",
                "lock held": f"{held.share:.1%}",
            }
            | (exact if options.exact else {})
        )
        for who, share in held.functions.most_common(options.top):
            print(f"  {share:6.2%}  {name}: {who}")
        speeds = {
            f"{n} cores": _simulated(loop, held.on_core or held.share, n, 100, options.bandwidth)
            for n in _CORES
        }
        simulated.append(
            {"work, the file a hundredfold": name} | {n: f"{s:.1f} GB/s" for n, s in speeds.items()}
        )
    print(table(measured))
    print()
    print(table(simulated))


if __name__ == "__main__":
    main()

"""The interpreter's lock: the share of time in which it is held, by whom, and what more cores would give.

    python benchmarks/lock.py [--folder .cache/bench] [--scale 2] [--rows 3000000] [--seconds 30] [--workers 2]
        [--bandwidth 200] [--top 0] [WORK ...]

Each work runs in a warm loop in a process of its own, planning included, while py-spy looks 1,000 times a second
whether a thread holds the lock. The second table is a simulation: workers ask for the lock in turn, once for each
64 MiB of the file, and work without it in between, for as long as was measured. No run is faster than memory that
gives `--bandwidth` GB/s, and what a run does before its first task and behind its last one is not divided. On a machine
that has other work both tables show too much: a thread that waits for a processor may hold the lock.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
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


def _sampled(spy: str, arguments: list[str], name: str, seconds: float) -> tuple[Loop, float, Counter[str]]:
    """Return the loop of a work, the share of time in which the lock was held, and that of each function."""
    # The loop outlives the samples, so that each of them is taken in a run.
    command = [sys.executable, __file__, *arguments, f"--seconds={seconds + 2}", f"--loop={name}"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        if process.stdout.readline() != "warm\n":
            raise SystemExit(f"{name} failed")
        out = Path(folder, "stacks")
        subprocess.run(
            [spy, "record", "--gil", "--nonblocking", "--rate", str(_RATE), "--duration", str(round(seconds)),
             "--format", "raw", "--output", str(out), "--pid", str(process.pid)],
            check=True, capture_output=True,
        )  # fmt: skip
        held: Counter[str] = Counter()
        for line in out.read_text().splitlines():
            stack, count = line.rsplit(" ", 1)
            held[_culprit(stack.split(";"))] += int(count)
        loop = Loop(**json.loads(process.stdout.readline()))
    samples = _RATE * round(seconds)
    return loop, held.total() / samples, Counter({who: n / samples for who, n in held.items()})


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
    parser.add_argument("--loop", help=argparse.SUPPRESS)
    options = parser.parse_args()
    all_works.THREADS = options.workers
    if options.loop:
        _loop(options.folder, options.scale, options.rows, options.loop, options.seconds)
        return
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None:
        parser.error("py-spy is needed: pip install -c constraints.txt py-spy")
    options.folder.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"--folder={options.folder}", f"--scale={options.scale}", f"--rows={options.rows}",
        f"--workers={options.workers}",
    ]  # fmt: skip
    measured, simulated = [], []
    for name in options.works:
        all_works.works(options.folder, options.scale, options.rows)[name]()  # makes its file
        loop, held, functions = _sampled(spy, arguments, name, options.seconds)
        measured.append(
            {
                "work": name,
                "a run": f"{loop.seconds:.3f} s",
                "processor time": f"{loop.processor:.3f} s",
                "not divided": f"{loop.serial * 1e3:.0f} ms",
                "lock held": f"{held:.1%}",
            }
        )
        for who, share in functions.most_common(options.top):
            print(f"  {share:6.2%}  {name}: {who}")
        speeds = {f"{n} cores": _simulated(loop, held, n, 100, options.bandwidth) for n in _CORES}
        simulated.append(
            {"work, the file a hundredfold": name} | {n: f"{s:.1f} GB/s" for n, s in speeds.items()}
        )
    print(table(measured))
    print()
    print(table(simulated))


if __name__ == "__main__":
    main()

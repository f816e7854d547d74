"""One job with one fault at a random moment: it ends in time, right or with an error, and so does what comes after it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import mmflow
from mmflow.blocks import sweep
from mmflow.errors import MmflowError
from tests.runs.faulted_servers import FAULTS as SERVER_FAULTS
from tests.runs.faulted_servers import Trouble
from tests.runs.faulted_work import NOTHING, RIGHT, ArrayWork, QueryWork, Work
from tests.runs.faulted_world import World

__all__ = ["ENGINES", "FaultedRun"]

ROOT = Path(__file__).parents[2]
ENGINES = ("local", "processes", "ray", "dask")
_WEIGHTS = (35, 20, 20, 25)
_SIGNALS = {
    "kill": signal.SIGKILL,
    "term": signal.SIGTERM,
    "int": signal.SIGINT,
    "hup": signal.SIGHUP,
    "stop": signal.SIGSTOP,
}
_CHANGES = ("replace", "rewrite", "truncate", "append")
#: Every process must end within so many seconds, those for which nothing waits too long.
_SECONDS = 100.0
_STACKS = 10.0
_FOREVER = 1 << 30


class FaultedRun:
    """A run of a seed: its parameters, and what came of it.

    Attributes:
        fault: Name of the fault, as `driver kill`; `none`.
        outcome: End of the first process, and of those after it.
        resumed: Whether it was resumed.
        seconds: Duration of its slowest process.
    """

    def __init__(
        self, folder: Path, seed: str, world: World, *, engines: Sequence[str] = ENGINES, only: str = ""
    ) -> None:
        self._folder, self._world = folder, world
        self._mark, self._name = f"MMFLOW_SOAK_RUN={folder}", f"soak{os.getpid()}-{folder.name}-"
        self._run = folder / "runs" / f"{self._name}1"
        self._random = r = random.Random(f"faulted {seed}")
        weights = [_WEIGHTS[ENGINES.index(e)] for e in engines]
        self.engine = r.choices(list(engines), weights)[0]
        array = r.random() < 0.15
        self._place = "file" if array else r.choice(["file", "file", "http", "s3"])
        self.fault = self._choose(array, only)
        self._pause = r.choice([0.0, 0.02, 0.1])
        self._moment = (
            ("tasks", float(r.randint(1, 8))) if r.random() < 0.5 else ("seconds", r.uniform(0.3, 4.0))
        )
        self._fork = "" if array else r.choice([""] * 9 + ["exit", "query", "unwind"])
        self._settings = {
            "engine": "local" if self.engine == "processes" else self.engine,
            "shard-size": f"{r.choice([4, 8, 32])}KiB",
            "partitions": str(r.randint(1, 4)),
            "workers": "2",
            "memory": r.choice(["8MiB", "64MiB", "256MiB"]),
            "broadcast": r.choice(["0", "32MiB"]),
            "io": r.choice(["auto", "mmap", "pread"]),
        }
        self._processes = self.engine == "processes" or r.random() < 0.2
        work: Work
        if array:
            work = ArrayWork(folder, r)
        else:
            work = QueryWork(folder, r, self._place, world.server(self._place), world.web_folder)
        self._work = work
        self.outcome, self.resumed, self.seconds = "", False, 0.0
        self._changed = 0.0

    def __str__(self) -> str:
        fork = f", forks ({self._fork})" if self._fork else ""
        processes = ", processes" if self._processes else ""
        kind, value = self._moment
        return (
            f"{self._work} on {self.engine}{processes}{fork}; {self.fault} at {kind} {value:.2f}, "
            f"pause {self._pause}, {self._settings}"
        )

    def _choose(self, array: bool, only: str) -> str:
        r = self._random
        changes = ["replace"] if array else list(_CHANGES)
        kinds = {
            "none": ["none"],
            "driver": [f"driver {s}" for s in _SIGNALS],
            "worker": ["worker kill", "worker stop", "worker term"],
            "input": [f"input {c}" for c in changes],
            "server": [f"server {f}" for f in SERVER_FAULTS]
            + [f"server {f} on" for f in ("drop", "500", "etag")],
        }
        weights = {"none": 1, "driver": 5, "worker": 4, "input": 3, "server": 8}
        if self._place == "file":
            del kinds["server"]
        if self.engine == "local":
            del kinds["worker"]
        wanted = {k: [f for f in faults if only in f] for k, faults in kinds.items()}
        wanted = {k: faults for k, faults in wanted.items() if faults} or {"none": ["none"]}
        return r.choice(r.choices(list(wanted.values()), [weights[k] for k in wanted])[0])

    # ---- the run ------------------------------------------------------------------------------------

    def wrong(self) -> str:
        """Run it; what is wrong with what came of it, "" if nothing is."""
        self._world.address(self._settings["engine"])
        try:
            wrong = self._first() or self._rest()
        finally:
            self._calm()
        if wrong:
            return wrong
        left = self._left()
        if left:
            return f"left behind: {left}"
        if self._place == "http":
            shutil.rmtree(self._world.web_folder / self._folder.name)
        return ""

    def _first(self) -> str:
        server = self._world.server(self._place)
        kind, _, what = self.fault.partition(" ")
        if kind == "server" and server is not None:
            first, r = self._random.randrange(12), self._random
            fault, _, on = what.partition(" ")
            server.begin(Trouble(fault, first, _FOREVER if on else r.randint(1, 3)))
        code, said = self._mmflow([*self._work.arguments, *self._job_flags()], fault=True)
        if code is None:
            return said
        self.outcome = self._judged(code, said)
        if self.outcome.startswith("wrong"):
            return f"{self.outcome}: exit code {code}: {said[-3000:]}"
        if code == 0:
            state = self._work.state()
            # An array may be replaced after it was changed, too.
            right = state == RIGHT or (state == NOTHING and self._committed() < self._changed)
            return "" if right else f"exit code 0, and {state}"
        return ""

    def _committed(self) -> float:
        """Return the time of the run's commit, in seconds since 1970."""
        lines = [line for path in (self._run / "events").iterdir() for line in path.read_text().splitlines()]
        return max(float(e["t"]) for e in map(json.loads, lines) if e["event"] == "committed")

    def _judged(self, code: int, said: str) -> str:
        """Return how a process ended, in a word; "wrong ..." if it must not end so."""
        if code == 0:
            return "right"
        kind, _, what = self.fault.partition(" ")
        if code < 0 or code == 130:
            number = -code if code < 0 else _SIGNALS.get(what, 0)
            if code == -signal.SIGINT and said.rstrip().endswith("interrupted"):
                # CPython ends so, after whoever caught it, if KeyboardInterrupt met it in an `exec` of some import.
                number = _SIGNALS.get(what, 0)
            if kind == "driver" and number == _SIGNALS[what]:  # before mmflow could catch it, or on request
                return "killed" if what == "kill" else "interrupted"
            return f"wrong: ended by signal {number}"
        if (
            "Traceback" in said
            or "report it" in said
            or "Fatal Python error" in said
            or "error: " not in said
        ):
            return "wrong: no clear error"
        found = next((c for c in self._classes() if c), "MmflowError")
        if not issubclass(getattr(mmflow.errors, found, object), MmflowError):
            return f"wrong: a {found}"
        if kind in ("input", "server"):
            return found
        return f"wrong: a {found}"

    def _classes(self) -> list[str]:
        try:
            summary = json.loads((self._run / "summary.json").read_text())
        except OSError:  # refused before it began
            return []
        return [(summary.get("error") or {}).get("class", "")]

    def _rest(self) -> str:
        """Resume the run if it did not finish, else run again."""
        self._calm()
        if self.outcome == "right":
            return ""
        begun = (self._run / "run.json").exists()
        if begun and self._random.random() < 0.6:
            code, said = self._mmflow([f"--resume={self._run.name}"])
            if code is None:
                return said
            if code == 0:
                self.resumed = True
                state = self._work.state()
                return "" if state == RIGHT else f"resumed, and {state}"
            if not self.fault.startswith("input"):
                return f"resumed: exit code {code}: {said[-3000:]}"
        if self._work.state() == RIGHT and not self._work.replaces:
            return ""
        self._work.settle()
        code, said = self._mmflow([*self._work.arguments, *self._work.replaces, *self._job_flags()], number=2)
        if code is None:
            return said
        if code != 0:
            return f"done anew: exit code {code}: {said[-3000:]}"
        state = self._work.state(last=True)
        return "" if state == RIGHT else f"done anew, and {state}"

    def _calm(self) -> None:
        for place in ("http", "s3"):
            if self._place == place:
                server = self._world.server(place)
                assert server is not None
                server.begin(None)
        self._world.healthy(self.engine)

    # ---- processes ----------------------------------------------------------------------------------

    def _job_flags(self) -> list[str]:
        flags = [f"--pause={self._pause}", f"--processes={str(self._processes).lower()}"]
        if self._fork:
            flags.append(f"--fork={self._fork}")
        return flags

    def _mmflow(
        self, arguments: list[str], *, number: int = 1, fault: bool = False
    ) -> tuple[int | None, str]:
        """Run `mmflow run`; its exit code and what it printed. None: it did not end, and where it stood."""
        folder = self._folder
        (folder / "tmp").mkdir(exist_ok=True)
        settings = dict(self._settings)
        address = self._world.address(settings["engine"])
        if address:
            settings["address"] = address
        resumes = arguments[0].startswith("--resume")
        flags = (
            [] if resumes else [f"--name={self._name}{number}", *(f"--{k}={v}" for k, v in settings.items())]
        )
        key, _, value = self._mark.partition("=")
        environment = {
            **os.environ,
            key: value,
            "MMFLOW_RUNS_DIR": str(folder / "runs"),
            "MMFLOW_SPILL_DIR": str(folder / "spill"),
            "MMFLOW_CACHE_DIR": str(folder / "cache"),
            "TMPDIR": str(folder / "tmp"),
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "1",
        }
        log = folder / f"said-{len(list(folder.glob('said-*')))}"
        command = [sys.executable, "-m", "mmflow.cli.main", "run", *arguments, *flags]
        (folder / "command").write_text(" ".join(map(repr, command)) + "\n")
        began = time.monotonic()
        with log.open("w") as file:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
            try:
                if fault:
                    self._inflict(process, began)
                code: int | None = process.wait(max(1.0, began + _SECONDS - time.monotonic()))
            except subprocess.TimeoutExpired:
                code = None
                process.send_signal(signal.SIGABRT)  # prints the stacks of its threads
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STACKS)
                process.kill()
                process.wait()
        self.seconds = max(self.seconds, time.monotonic() - began)
        said = log.read_text(errors="replace")
        if code is None:
            return None, f"did not end in {_SECONDS:.0f} s: {said[-6000:]}"
        return code, said

    def _inflict(self, process: subprocess.Popen[bytes], began: float) -> None:
        """Wait for the moment, and let it happen."""
        kind, _, what = self.fault.partition(" ")
        if kind in ("none", "server"):
            return
        if not self._wait(process, began):
            return
        if kind == "input":
            self._work.change(what)
            self._changed = time.time()
        elif kind == "driver" and what == "int":
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        elif kind == "driver":
            self._signal(process.pid, what)
        else:
            while process.poll() is None and time.monotonic() < began + _SECONDS:
                workers = self._world.workers(self.engine, process.pid)
                if workers:
                    self._signal(self._random.choice(sorted(workers)), what)
                    return
                time.sleep(0.02)

    def _wait(self, process: subprocess.Popen[bytes], began: float) -> bool:
        kind, value = self._moment
        while process.poll() is None:
            passed = time.monotonic() - began
            if passed > (value if kind == "seconds" else _SECONDS / 2):
                return True
            if kind == "tasks" and self._tasks() >= value:
                return True
            time.sleep(0.01)
        return False

    def _tasks(self) -> int:
        """Tasks that the run has finished."""
        journal = self._run / "journal"
        with contextlib.suppress(OSError):
            return sum(path.read_bytes().count(b"\n") for path in journal.iterdir())
        return 0

    def _signal(self, pid: int, what: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, _SIGNALS[what])
            if what == "stop":
                time.sleep(self._random.uniform(0.5, 4.0))
                os.kill(pid, signal.SIGCONT)

    # ---- what is left -------------------------------------------------------------------------------

    def _left(self) -> list[str]:
        if self.fault.split()[0] in ("driver", "worker"):
            for place in (self._folder / "spill", "/dev/shm"):
                sweep(place)  # what was killed leaves its folders to the next run
        left = self._world.left(self._mark, self._name)
        for place in ("spill", "tmp"):
            found = [p for p in (self._folder / place).rglob("*") if p.is_file() or p.is_symlink()]
            left += [str(p) for p in found if "dask-scratch-space" not in p.parts]
        left += [
            str(p) for p in (self._folder / "runs").rglob("blocks") if self.resumed or p.parent != self._run
        ]
        return left + self._work.left()

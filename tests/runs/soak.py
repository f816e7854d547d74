"""Random jobs, killed at random and gone on with, until something is wrong.

    python tests/runs/soak.py --runs 200 --seed 7            all of them
    python tests/runs/soak.py --runs 50 --seed 7 --first 150  from the 151st on: each run has a seed of its own
    python tests/runs/soak.py --runs 200 --seed 7 --seconds 600  stops after so long, and says where

Every run is compared with DuckDB over the same files; files of runs that went wrong are kept. The last line says how many
there were.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mmflow.runs.directory import RunDirectory  # noqa: E402  (this file is run as a script, too)
from mmflow.runs.quarantine import read_quarantine  # noqa: E402
from tests.runs.soak_jobs import Case  # noqa: E402

__all__ = ["Soak", "soak"]

_SECONDS = 120.0
_RUN = "r1"


@dataclass
class Soak:
    """What came of it."""

    seed: int
    runs: int = 0
    kills: int = 0
    flips: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"soak: {self.runs} runs, seed {self.seed}, {self.kills} kills, {self.flips} bytes flipped, "
            f"{len(self.failures)} failures, {self.seconds:.0f} s"
        )


def soak(
    runs: int, seed: int, folder: Path, *, first: int = 0, seconds: float = 1e9, dask: float = 0.05
) -> Soak:
    """Run so many jobs.

    Args:
        runs: How many.
        seed: Of all of them.
        folder: Where their files lie.
        first: The number of the first one.
        seconds: No more are begun after so many.
        dask: The share that runs on a Dask cluster of its own.
    """
    made = Soak(seed)
    began = time.monotonic()
    for number in range(first, first + runs):
        if time.monotonic() - began > seconds:
            print(f"stopped before run {number}: go on with --first {number}", flush=True)
            break
        one = _One(folder / str(number), f"{seed}:{number}", made, dask)
        try:
            wrong = one.wrong()
        except Exception as error:  # a tool to find faults goes on
            wrong = f"{type(error).__name__}: {error}"
        made.runs += 1
        if wrong:
            made.failures.append(f"run {number}: {one}: {wrong}")
            print(made.failures[-1], flush=True)
        else:
            shutil.rmtree(folder / str(number))
        made.seconds = time.monotonic() - began
        if made.runs % 20 == 0:
            print(made, flush=True)
    return made


class _One:
    """One run, from its files to its check."""

    def __init__(self, folder: Path, seed: str, made: Soak, dask: float) -> None:
        self._made = made
        self._runs, self._spill = folder / "runs", folder / "spill"
        self.case = Case(folder / "case", seed)
        self._random = random.Random(f"kills {seed}")
        self._engine = "dask" if self._random.random() < dask else "local"
        self.places: list[str] = []

    def __str__(self) -> str:
        return f"{self.case}, {self._engine}, killed at {self.places}"

    def wrong(self) -> str:
        """Run it; what is wrong with what came of it, "" if nothing is."""
        for _ in range(self._random.choice([0, 1, 1, 2, 2, 3, 4])):
            code, said = self._killed()
            if code == 0:
                break
            if code not in (-signal.SIGKILL, -signal.SIGINT, 130):
                return f"exit code {code}: {said}"
            self._made.kills += 1
            if self._random.random() < 0.15:
                self._flip()
        else:
            code, said = self._last()
            if code != 0:
                return f"exit code {code} at the end: {said}"
        return self._differs()

    def _killed(self) -> tuple[int, str]:
        """Run, or go on, until it is killed or done."""
        r = self._random
        kind = r.choice(["journal", "torn", "commit", "time", "time", "term"])
        if kind in ("time", "term"):
            after = r.uniform(0.2, 1.6) + (3.0 if self._engine == "dask" else 0.0)
            self.places.append(f"{kind} {after:.2f}")
            return self._process("never", after, signal.SIGKILL if kind == "time" else signal.SIGTERM)
        place = f"{kind}:{r.randint(1, 8 if kind == 'commit' else 25)}"
        self.places.append(place)
        return self._process(place)

    def _last(self) -> tuple[int, str]:
        return self._process("never")

    def _process(self, place: str, after: float = _SECONDS, number: int = signal.SIGKILL) -> tuple[int, str]:
        begun = (self._runs / _RUN / "run.json").exists()
        what = ["--resume", _RUN] if begun else [str(self.case.job), "--run-id", _RUN]
        settings = self.case.settings | {"engine": self._engine}
        if begun and self._random.random() < 0.1:  # cut anew: what was known is of no use, and does no harm
            settings |= {"partitions": str(self._random.randint(1, 4)), "engine": "local"}
        flags = [] if begun and self._random.random() < 0.5 else [f"--{k}={v}" for k, v in settings.items()]
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("crash_run.py")), place, "run", *what, *flags],
            env=os.environ
            | {
                "MMFLOW_RUNS_DIR": str(self._runs),
                "MMFLOW_SPILL_DIR": str(self._spill),
                "PYTHONPATH": str(ROOT),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            return process.wait(after), process.communicate()[1][-2000:]
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            said = process.communicate(timeout=_SECONDS)[1]
            code = process.returncode
            if code == -signal.SIGTERM:  # before mmflow could catch it
                code = -signal.SIGKILL
            return code, said[-2000:]

    def _flip(self) -> None:
        """A byte of something that the run keeps."""
        files = [p for p in self._runs.rglob("*") if p.is_file() and p.parent.name in ("journal", "events")]
        files += list((self._runs / _RUN / "blocks").rglob("*.*"))
        files = [p for p in files if p.stat().st_size]
        if files:
            path = self._random.choice(sorted(files))
            data = bytearray(path.read_bytes())
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
            path.write_bytes(data)
            self.places.append(f"flip in {path.relative_to(self._runs / _RUN)}")
            self._made.flips += 1

    def _differs(self) -> str:
        expected, found = self.case.expected(), self.case.found()
        if expected != found:
            return f"{len(found)} rows, {len(expected)} expected; {_first(expected, found)}"
        if self.case.policy == "quarantine":
            rows = read_quarantine(RunDirectory(self._runs, _RUN)).column("raw").to_pylist()
            if sorted(r.decode().rstrip("\n") for r in rows) != sorted(self.case.bad):
                return f"{len(rows)} records in quarantine, {len(self.case.bad)} expected"
        beside = [p.name for p in self.case.folder.iterdir() if p.name.startswith(".")]
        # Dask leaves locks of its own.
        spilled = [p for p in self._spill.rglob("*") if p.is_file() and "dask-scratch-space" not in p.parts]
        left = beside + [str(p) for p in spilled]
        left += [str(p) for p in self._runs.rglob("blocks")]
        return f"left behind: {left}" if left else ""


def _first(expected: list[tuple[str, ...]], found: list[tuple[str, ...]]) -> str:
    for one, other in zip(expected, found, strict=False):
        if one != other:
            return f"{one} became {other}"
    return "the shorter is the beginning of the longer"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--dask", type=float, default=0.05)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mmflow-soak-"))
    print(f"seed {options.seed}, in {folder}", flush=True)
    made = soak(
        options.runs, options.seed, folder, first=options.first, seconds=options.seconds, dask=options.dask
    )
    if not made.failures:
        shutil.rmtree(folder)
    print(made, flush=True)
    return 1 if made.failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""One job of SQL that is killed again and again, at random places of its journal and its commit, and resumed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from mmflow.runs.directory import RunDirectory
from mmflow.runs.quarantine import read_quarantine
from tests.runs.soak_jobs import Case

__all__ = ["CrashedRun"]

ROOT = Path(__file__).parents[2]
_SECONDS = 120.0
_RUN = "r1"


class CrashedRun:
    """A run of a seed, from its files to its check.

    Attributes:
        places: Places where it was killed.
        kills: Number of kills.
        flips: Number of bytes of its files that were flipped meanwhile.
    """

    def __init__(self, folder: Path, seed: str, engine: str) -> None:
        self.kills = self.flips = 0
        self._runs, self._spill = folder / "runs", folder / "spill"
        self.case = Case(folder / "case", seed)
        self._random = random.Random(f"kills {seed}")
        self._engine = engine
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
            self.kills += 1
            if self._random.random() < 0.15:
                self._flip()
        else:
            code, said = self._last()
            if code != 0:
                return f"exit code {code} at the end: {said}"
        return self._differs()

    def _killed(self) -> tuple[int, str]:
        """Run or resume, until it is killed or done."""
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
        what = ["--resume", _RUN] if begun else [str(self.case.job), "--name", _RUN]
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
            self.flips += 1

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

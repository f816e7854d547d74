"""Random jobs with random faults, resumed where they were broken off, until something is wrong.

    python tests/runs/soak.py --runs 300 --seed 7                all of them
    python tests/runs/soak.py --runs 50 --seed 7 --first 150     from the 151st on: each run has a seed of its own
    python tests/runs/soak.py --runs 300 --seed 7 --seconds 600  stops after so long, and says where
    python tests/runs/soak.py --engines local,dask --only worker  fewer engines; faults that are named so

Two kinds of runs: SQL that is killed at any place of its journal and commit (`soak_crashes.py`), and jobs of all formats on all
engines, over files, HTTP and S3, whose processes, inputs and servers fail (`faulted_run.py`). Rows are compared with
DuckDB's over the same files; every process must end in time, and leave nothing behind. Files of runs that went wrong are
kept. The last line says how many there were.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.runs.faulted_run import ENGINES, FaultedRun  # noqa: E402  (this file is run as a script, too)
from tests.runs.faulted_world import World  # noqa: E402  (this file is run as a script, too)
from tests.runs.soak_crashes import CrashedRun  # noqa: E402  (this file is run as a script, too)

__all__ = ["Soak", "soak"]

#: Of runs without `only`, the share of crashes.
_CRASHES = 0.2


@dataclass
class Soak:
    """Outcomes of a soak.

    Attributes:
        outcomes: Counts of outcomes, by engine and by fault.
    """

    seed: int
    runs: int = 0
    kills: int = 0
    flips: int = 0
    resumed: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"soak: {self.runs} runs, seed {self.seed}, {self.kills} kills, {self.flips} bytes flipped, "
            f"{self.resumed} resumed, slowest process {self.slowest:.0f} s, {len(self.failures)} failures, "
            f"{self.seconds:.0f} s"
        )

    def table(self) -> str:
        """Outcomes by engine and fault."""
        columns = sorted({outcome for _, outcome in self.outcomes})
        width = max((len(row) for row, _ in self.outcomes), default=0)
        lines = [" " * width + "".join(f"  {c}" for c in columns)]
        for row in sorted({row for row, _ in self.outcomes}):
            counts = (f"  {self.outcomes[row, c] or '':>{len(c)}}" for c in columns)
            lines.append(f"{row:{width}}" + "".join(counts))
        return "\n".join(lines)


def soak(
    runs: int,
    seed: int,
    folder: Path,
    *,
    first: int = 0,
    seconds: float = 1e9,
    engines: Sequence[str] = ENGINES,
    only: str = "",
) -> Soak:
    """Run so many jobs.

    Args:
        runs: Number of runs.
        seed: Seed of all runs.
        folder: Folder of their files.
        first: The number of the first one.
        seconds: No more are begun after so many.
        engines: Engines that they run on: local, processes (local, functions in other processes), ray, dask.
        only: Text that the names of faults have in them.
    """
    made = Soak(seed)
    began = time.monotonic()
    with World(folder / "world") as world:
        for number in range(first, first + runs):
            if time.monotonic() - began > seconds:
                print(f"stopped before run {number}: go on with --first {number}", flush=True)
                break
            _one(made, number, folder / str(number), world, engines, only)
            made.seconds = time.monotonic() - began
            if made.runs % 20 == 0:
                print(made, flush=True)
    return made


def _one(made: Soak, number: int, folder: Path, world: World, engines: Sequence[str], only: str) -> None:
    seed = f"{made.seed}:{number}"
    r = random.Random(f"kind {seed}")
    one: CrashedRun | FaultedRun | None = None
    try:
        if not only and r.random() < _CRASHES:
            engine = "dask" if "dask" in engines and r.random() < 0.05 else "local"
            one = CrashedRun(folder, seed, engine)
        else:
            one = FaultedRun(folder, seed, world, engines=engines, only=only)
        wrong = one.wrong()
    except Exception as error:  # a tool to find faults goes on
        wrong = f"{type(error).__name__}: {error}"
    made.runs += 1
    if isinstance(one, CrashedRun):
        made.kills += one.kills
        made.flips += one.flips
    elif one is not None:
        outcome = "WRONG" if wrong else one.outcome
        for row in (f"engine {one.engine}", f"fault {one.fault}"):
            made.outcomes[row, outcome] += 1
            made.outcomes[row, "resumed"] += one.resumed
        made.resumed += one.resumed
        made.slowest = max(made.slowest, one.seconds)
    if wrong:
        made.failures.append(f"run {number}: {one}: {wrong}")
        print(made.failures[-1], flush=True)
    else:
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mmflow-soak-"))
    print(f"seed {options.seed}, in {folder}", flush=True)
    made = soak(
        options.runs, options.seed, folder, first=options.first, seconds=options.seconds,
        engines=options.engines.split(","), only=options.only,
    )  # fmt: skip
    if not made.failures:
        shutil.rmtree(folder)
    print(made.table())
    print(made, flush=True)
    return 1 if made.failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""A job, its inputs, and `mmflow` in processes that may be killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fork_server import IMPORTED, ForkServer

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
JOB = HERE / "sorted_job.py"


class Workplace:
    """Inputs of `sorted_job.py`, a folder for runs, and a way to run `mmflow` there."""

    def __init__(self, folder: Path, commands: ForkServer, *, seed: int = 7, rows: int = 4000) -> None:
        self.folder, self._commands = folder, commands
        self.orders, self.people = folder / "orders.csv", folder / "people.csv"
        self.runs, self.spill = folder / "runs", folder / "spill"
        self.spill.mkdir(parents=True)
        random_ = random.Random(seed)
        people = list(range(60))
        lines = [f"{random_.choice(people)},{random_.randrange(1000)}" for _ in range(rows)]
        self.orders.write_text("person,amount\n" + "\n".join(lines) + "\n")
        self.people.write_text("person,name\n" + "\n".join(f"{p},name {p}" for p in people) + "\n")
        self.settings: dict[str, str] = {
            "shard-size": "8KiB",
            "workers": "2",
            "memory": "64MiB",
            "partitions": "2",
            "broadcast": "0",
        }

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "MMFLOW_RUNS_DIR": str(self.runs),
            "MMFLOW_SPILL_DIR": str(self.spill),
            "PYTHONPATH": str(ROOT),
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def flags(self, **more: str) -> list[str]:
        given = {**self.settings, **more}
        return [text for key, value in given.items() for text in (f"--{key}", value)]

    def run(
        self, output: Path, *, place: str = "never", run_id: str = "r1", join: bool = True, **more: str
    ) -> Any:
        """Start the job, which dies at `place`."""
        return self.mmflow(
            "run", str(JOB), "--orders", str(self.orders), "--people", str(self.people) if join else "",
            "--output", str(output), "--format", "csv", "--name", run_id, *self.flags(**more), place=place,
        )  # fmt: skip

    def resume(self, run_id: str = "r1", *, place: str = "never", **more: str) -> Any:
        """Resume the run."""
        flags = [text for key, value in more.items() for text in (f"--{key}", value)]
        return self.mmflow("run", "--resume", run_id, *flags, place=place)

    def mmflow(self, *arguments: str, place: str = "never") -> subprocess.CompletedProcess[str]:
        return self._commands.run(place, *arguments, env=self.environment)

    def journal(self, run_id: str = "r1") -> list[str]:
        files = sorted((self.runs / run_id / "journal").iterdir())
        return [line for f in files for line in f.read_text().splitlines()]

    def events(self, run_id: str = "r1") -> list[dict[str, Any]]:
        files = sorted((self.runs / run_id / "events").iterdir())
        return [json.loads(line) for f in files for line in f.read_text().splitlines()]

    def leftovers(self) -> list[str]:
        """Return the hidden files beside the outputs, and those in the folder for spills."""
        hidden = [p.name for p in self.folder.iterdir() if p.name.startswith(".")]
        return hidden + [p.name for p in self.spill.iterdir()]


def files_of(output: Path) -> dict[str, bytes]:
    """The files of an output, without the manifest, which names the run."""
    found = [p for p in output.rglob("*") if p.is_file() and not p.name.startswith("_mmflow")]
    return {str(p.relative_to(output)): p.read_bytes() for p in found}


@pytest.fixture(scope="session")
def commands() -> Iterator[ForkServer]:
    """A server that runs `crash_run.py`."""
    with ForkServer("tests.runs.crash_run", "crash", IMPORTED) as server:
        yield server


@pytest.fixture
def workplace(tmp_path: Path, commands: ForkServer) -> Iterator[Workplace]:
    made = Workplace(tmp_path / "work", commands)
    yield made
    for submitted in made.runs.glob("*/submitted.json"):  # of a test that failed
        pid = json.loads(submitted.read_text())["handle"].get("pid")
        if pid is not None and str(made.folder) in _command(pid):
            os.kill(pid, signal.SIGKILL)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


Counted = Callable[[str], tuple[int, int]]


def counted(stdout: str) -> tuple[int, int]:
    """Lines of the journal, and failpoints of the commit, that an undisturbed run passed."""
    (line,) = [text for text in stdout.splitlines() if text.startswith("counts ")]
    _, journal, commit = line.split()
    return int(journal), int(commit)


@contextmanager
def clusters(engine: str) -> Iterator[str]:
    """A cluster of this machine: its address."""
    from benchmarks.local_clusters import dask_cluster, ray_cluster

    with {"ray": ray_cluster, "dask": dask_cluster}[engine]() as address:
        if engine == "ray":
            import ray

            address = ray.get_runtime_context().gcs_address
        yield address

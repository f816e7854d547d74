"""One driver at a time for a run, and one run for a destination; how a driver is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.runs.conftest import HERE, Workplace, clusters, files_of
from tests.waiting import wait_until

HELD = HERE / "held_job.py"


class Held:
    """A run of `held_job.py` in the background, and its gates."""

    def __init__(self, workplace: Workplace, output: Path, *, run: str = "r1", **more: str) -> None:
        self.workplace = workplace
        self.output = output
        flags = workplace.flags(**more)
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "mmflow.cli.main", "run", str(HELD), "--orders", str(workplace.orders),
                "--folder", str(workplace.folder), "--output", str(output), "--format", "csv", "--name", run, *flags,
            ],
            env=workplace.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_for(self, name: str) -> None:
        """Wait until there is a file of such a name, a pattern, in the folder of gates."""
        deadline = time.monotonic() + 60
        while not any(self.workplace.folder.glob(name)):
            assert self.process.poll() is None or self.process.returncode == -signal.SIGKILL, self.said()
            assert time.monotonic() < deadline, f"no {name}"
            time.sleep(0.02)

    def wait_for_tasks(self, count: int) -> None:
        """Wait until so many tasks are in the journal."""
        wait_until(
            lambda: sum('"kind":"task"' in line for line in self.workplace.journal()) >= count,
            "tasks in the journal",
        )

    def open(self, row: int) -> None:
        (self.workplace.folder / f"go-{row}").touch()

    def said(self) -> str:
        return self.process.communicate(timeout=60)[1]

    def ended(self) -> tuple[int, str]:
        said = self.said()
        return self.process.returncode, said


@contextmanager
def held(workplace: Workplace, output: Path, **more: str) -> Iterator[Held]:
    made = Held(workplace, output, **more)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def summary(workplace: Workplace, run: str = "r1") -> dict[str, Any]:
    made: dict[str, Any] = json.loads((workplace.runs / run / "summary.json").read_text())
    return made


def goes_on(workplace: Workplace, output: Path, **more: str) -> None:
    """The resumed run ends as an undisturbed one, and restores finished tasks."""
    known = sum('"kind":"task"' in line for line in workplace.journal())
    went_on = workplace.resume(**more)
    assert went_on.returncode == 0, went_on.stderr
    assert sum(e["event"] == "task_restored" for e in workplace.events()) == known > 0
    with held(workplace, workplace.folder / "whole", run="whole") as whole:
        assert whole.ended()[0] == 0
    assert files_of(output) == files_of(workplace.folder / "whole")
    assert summary(workplace)["state"] == "done"


LAST = "99"


def last_row(workplace: Workplace) -> None:
    """A last row of this person: whoever reads it waits, and a second attempt does, too."""
    with workplace.orders.open("a") as file:
        file.write(f"{LAST},1\n")
    (workplace.folder / "every").touch()


# ---- who drives ---------------------------------------------------------------------------------------------


def test_a_run_has_one_driver_and_a_destination_one_run(workplace: Workplace) -> None:
    output = workplace.folder / "out"
    last_row(workplace)
    with held(workplace, output, row=LAST) as first:
        first.wait_for(f"started-{LAST}")
        pid = first.process.pid
        again = ("run", str(HELD), "--orders", str(workplace.orders), "--folder", str(workplace.folder))
        refused = workplace.mmflow(*again, "--output", str(output), "--name", "r1", "--no-join")
        for second in (workplace.resume(), refused):
            assert second.returncode == 1
            assert "run r1 is running" in second.stderr
            assert f"its driver (process {pid} on" in second.stderr
        with held(workplace, output, run="r2") as other:
            code, said = other.ended()
        assert code == 1
        assert f"{output} is being written by run r1 (process {pid}" in said
        first.open(int(LAST))
        assert first.ended()[0] == 0
    assert summary(workplace)["state"] == "done"
    assert summary(workplace, "r2")["state"] == "failed"
    after = workplace.resume("r2")  # now it is there
    assert after.returncode == 1
    assert f"{output} exists" in after.stderr
    assert workplace.leftovers() == []


# ---- how it is stopped ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGHUP, signal.SIGTERM]], ids=str
)
def test_a_signal_ends_a_run_which_goes_on_later(workplace: Workplace, numbers: list[signal.Signals]) -> None:
    output = workplace.folder / "out"
    last_row(workplace)
    with held(workplace, output, row=LAST) as run:
        run.wait_for(f"started-{LAST}")
        run.wait_for_tasks(2)
        with contextlib.suppress(ProcessLookupError):  # the first may have ended it before the second
            for number in numbers:
                os.kill(run.process.pid, number)
                time.sleep(0.1)  # it ends in 0.6 s and more, since a task waits in its function
        code, said = run.ended()
        run.open(int(LAST))
    assert code == 130
    assert "Traceback" not in said
    assert (
        "nanobind" not in said
    )  # a task that waits in its function holds objects of the kernels until the end
    assert "mmflow run --resume r1" in said
    assert summary(workplace)["state"] == "cancelled"
    assert not output.exists()
    goes_on(workplace, output)
    assert workplace.leftovers() == []


def test_a_run_outlives_a_hangup_that_is_ignored(workplace: Workplace) -> None:
    """The signal is ignored, as under `nohup`."""
    output = workplace.folder / "out"
    last_row(workplace)
    heeded = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a child inherits it
    try:
        with held(workplace, output, row=LAST) as run:
            run.wait_for(f"started-{LAST}")
            os.kill(run.process.pid, signal.SIGHUP)
            run.open(int(LAST))
            assert run.ended()[0] == 0
    finally:
        signal.signal(signal.SIGHUP, heeded)
    assert summary(workplace)["state"] == "done"


@contextmanager
def _engine(name: str) -> Iterator[dict[str, str]]:
    if name == "local":
        yield {}
        return
    with clusters(name) as address:
        yield {"engine": name, "address": address}


@pytest.mark.nightly
def test_sigterm_ends_a_run_on_ray_as_elsewhere(workplace: Workplace) -> None:
    """Ray puts a handler of its own in the place of the command's."""
    last_row(workplace)
    with _engine("ray") as more, held(workplace, workplace.folder / "out", row=LAST, **more) as run:
        run.wait_for(f"started-{LAST}")
        os.kill(run.process.pid, signal.SIGTERM)
        code, said = run.ended()
    assert code == 130
    assert "SIGTERM received" not in said


@pytest.mark.alone
@pytest.mark.parametrize("engine", ["local", "dask"])
def test_a_file_called_cancel_ends_a_run_within_three_seconds(workplace: Workplace, engine: str) -> None:
    output = workplace.folder / "out"
    last_row(workplace)
    with _engine(engine) as more, held(workplace, output, row=LAST, **more) as run:
        run.wait_for(f"started-{LAST}")
        run.wait_for_tasks(2)
        began = time.monotonic()
        (workplace.runs / "r1" / "cancel").touch()
        code, said = run.ended()
        took = time.monotonic() - began
        assert code == 1
        assert took < 3.0
        assert "error: run r1 was cancelled; --resume r1 resumes it" in said
        made = summary(workplace)
        assert made["state"] == "cancelled"
        assert made["error"]["class"] == "CancelledError"
        assert not output.exists()
        run.open(int(LAST))
        goes_on(workplace, output, **more)
    assert not (workplace.runs / "r1" / "cancel").exists()


# ---- workers that outlive their driver -----------------------------------------------------------------------


def test_what_a_worker_of_a_dead_driver_still_writes_does_not_count(workplace: Workplace) -> None:
    """This is on Dask: Ray ends the workers of a driver that died."""
    output = workplace.folder / "out"
    workplace.settings["shard-size"] = "16KiB"
    last_row(workplace)
    more = {"plain": "true", "row": LAST, "then": "9"}  # what is read is written: tasks stage files
    (workplace.folder / "go-9").touch()
    with _engine("dask") as cluster, held(workplace, output, **more, **cluster) as run:
        run.wait_for(f"started-{LAST}")
        run.wait_for_tasks(1)
        run.process.kill()
        run.process.communicate()
        (workplace.folder / "every").unlink()
        (workplace.folder / "go-9").unlink()
        run.process = subprocess.Popen(
            [sys.executable, "-m", "mmflow.cli.main", "run", "--resume", "r1"],
            env=workplace.environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        run.wait_for("started-9")
        # Now the dead driver's task and the new one's of the same number are both in the middle.
        run.open(int(LAST))
        run.wait_for(f"passed-{LAST}")
        run.wait_for(".out.mmflow-r1+*/attempts/s0-t1-a0-*/part-00001.csv")
        run.open(9)
        code, said = run.ended()
        assert code == 0, said
    with held(workplace, workplace.folder / "whole", run="whole", plain="true") as whole:
        assert whole.ended()[0] == 0
    assert files_of(output) == files_of(workplace.folder / "whole")
    wait_until(lambda: not any(p.name.startswith(".") for p in workplace.folder.iterdir()), "staging to go")
    assert not (workplace.runs / "r1" / "blocks").exists()

"""Runs by name, in processes that start at once, wait, are killed, and come again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmflow.runs.directory import RunDirectory
from mmflow.runs.recorder import EVENTS
from tests.fork_server import run_mmflow
from tests.runs.conftest import HERE, Workplace
from tests.waiting import wait_until

GATED = HERE / "gated_job.py"


class Command:
    """A `run --name` of the gated job in a process of its own; what it says is in a file."""

    def __init__(self, workplace: Workplace, arguments: list[str], number: int) -> None:
        self.file = workplace.folder / f"said-{number}"
        with self.file.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mmflow.cli.main", *arguments],
                env=workplace.environment, stdout=said, stderr=said,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self.file.read_text()

    @property
    def runs(self) -> bool:
        return "at the gate" in self.said and self.process.poll() is None

    @property
    def waits(self) -> bool:
        return "waiting for it" in self.said and not self.runs

    def ended(self) -> int:
        return self.process.wait(60)


@pytest.mark.parametrize("kind", ["folder", pytest.param("store", marks=pytest.mark.nightly)])
def test_one_of_those_that_start_at_once_runs_and_its_death_is_taken_over(
    workplace: Workplace, request: pytest.FixtureRequest, kind: str
) -> None:
    workplace.orders.write_text("person,amount\n" + "".join(f"{n},{n}\n" for n in range(3000)))
    runs_dir = str(workplace.runs) if kind == "folder" else f"{request.getfixturevalue('s3')()}/runs"
    arguments = [
        "run", str(GATED), "--orders", str(workplace.orders), "--gate", str(workplace.folder / "gate"), "--format",
        "csv", "--output", str(workplace.folder / "out"), "--name", "nightly-{job}", "--runs-dir", runs_dir,
        *workplace.flags(),
    ]  # fmt: skip
    first = [Command(workplace, arguments, n) for n in range(3)]
    try:
        wait_until(lambda: [c.runs for c in first].count(True) == 1, "one that runs")
        wait_until(lambda: [c.waits for c in first].count(True) == 2, "two that wait")
        refused = workplace.mmflow(*arguments, "--no-join")
        assert refused.returncode == 1
        assert "error: run nightly-gated is running: its driver (process" in refused.stderr
        (killed,) = (c for c in first if c.runs)
        killed.process.kill()
        assert killed.ended() == -signal.SIGKILL
        wait_until(lambda: [c.runs for c in first].count(True) == 1, "one that takes over")
        (workplace.folder / "gate").touch()
        rest = [c for c in first if c is not killed]
        assert [c.ended() for c in rest] == [0, 0], [c.said for c in rest]
    finally:
        for command in first:
            command.process.kill()
    assert all(c.said.count("wrote 3,000 rows in") == 1 for c in rest)
    assert sum("is done already" in c.said for c in rest) == 1
    events = list(RunDirectory(runs_dir, "nightly-gated").read_facts(EVENTS))
    assert sum(e["event"] == "run_started" for e in events) == 2
    again = workplace.mmflow(*arguments, "--json")
    assert again.returncode == 0
    said = again.stderr.splitlines()
    assert said[0] == "run nightly-gated is done already"
    assert said[1].startswith("wrote 3,000 rows in")
    assert json.loads(again.stdout.splitlines()[0])["rows"] == 3000
    assert list(RunDirectory(runs_dir, "nightly-gated").read_facts(EVENTS)) == events  # nothing was run


def test_a_name_that_failed_is_resumed_and_one_that_is_done_is_not_submitted(workplace: Workplace) -> None:
    workplace.orders.write_text("person,amount\n" + "".join(f"{n},{n}\n" for n in range(2000)))
    out = workplace.folder / "out"
    given = ["--orders", str(workplace.orders), "--people", "", "--output", str(out), "--name", "r-{date}"]
    job, flags = str(HERE / "sorted_job.py"), workplace.flags()
    failed = workplace.mmflow("run", job, *given, "--max-bad-records", "0", *flags, place="journal:3")
    assert failed.returncode == -signal.SIGKILL
    done = workplace.mmflow("run", job, *given, "--max-bad-records", "0", *flags)
    assert done.returncode == 0, done.stderr
    name = done.stderr.split()[1]
    assert any(e["event"] == "task_restored" for e in workplace.events(name))
    submitted = workplace.mmflow("submit", job, *given, *flags)
    assert submitted.returncode == 0
    assert submitted.stdout.splitlines()[0] == name
    assert f"run {name} is done already" in submitted.stderr
    assert not (workplace.runs / name / "submitted.json").exists()
    manifest = json.loads((out / "_mmflow_manifest.json").read_text())
    assert name in json.dumps(manifest)
    # The name is used again once the run is forgotten: what that one committed is not taken for its own.
    workplace.mmflow("run", "--resume", name)
    for path in sorted((workplace.runs / name).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    more = [*given, "--if-exists", "append"]
    assert workplace.mmflow("run", job, *more, *flags).returncode == 0
    assert len(json.loads((out / "_mmflow_manifest.json").read_text())["files"]) == 2 * len(manifest["files"])


def test_a_parameter_that_an_option_would_take_is_refused(workplace: Workplace, tmp_path: Path) -> None:
    job = tmp_path / "j.py"
    job.write_text("import mmflow as mf\n\n@mf.job\ndef j(session, *, name: str = 'x'):\n    return None\n")
    refused = workplace.mmflow("run", str(job))
    assert refused.returncode == 2
    assert "job j: parameter 'name' has the name of an option of mmflow run; rename it" in refused.stderr


@pytest.mark.parametrize("resume", ["--name", "--resume"])
def test_a_run_that_was_resumed_with_a_corrected_job_is_done_for_that_job(
    tmp_path: Path, resume: str
) -> None:
    job, output = tmp_path / "job.py", str(tmp_path / "out.csv")
    text = "import mmflow as mf\n@mf.job\ndef job(session):\n    return session.sql('SELECT {} AS a')\n"
    again = ["run", str(job), "--runs-dir", str(tmp_path / "runs"), "--output", output, "--name", "n"]
    job.write_text(text.format("nothing"))
    assert run_mmflow(*again, cwd=tmp_path).returncode == 1
    job.write_text(text.format("1"))
    resumed = again if resume == "--name" else ["run", "--resume", "n", "--runs-dir", str(tmp_path / "runs")]
    assert run_mmflow(*resumed, cwd=tmp_path).returncode == 0
    assert "run n is done already" in run_mmflow(*again, cwd=tmp_path).stderr
    job.write_text(text.format("2"))
    assert "the code of the job has changed" in run_mmflow(*again, cwd=tmp_path).stderr

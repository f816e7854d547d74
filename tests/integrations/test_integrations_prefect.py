"""The flow of Prefect in jobs/orchestrators: a retry resumes the run, and writes its rows once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmflow as mf

ROOT = Path(__file__).parents[2]
FLOW = ROOT / "jobs" / "orchestrators" / "prefect_flow.py"
#: The driver of the first attempt is killed in the last shards; each task notes what it computes.
JOB = """
import os
import signal
import time
from pathlib import Path
import mmflow as mf
import pyarrow.compute as pc

def checked(batch):
    last = pc.max(batch["n"]).as_py()
    with open("computed.txt", "a") as file:
        file.write(f"{pc.min(batch['n']).as_py()} {last}\\n")
    if last > 90_000 and not os.path.exists("mended"):
        Path("mended").touch()
        os.kill(int(Path("driver").read_text()), signal.SIGKILL)
        time.sleep(60)
    return batch

@mf.job
def numbers(session, *, source: str):
    Path("driver").write_text(str(os.getpid()))
    return session.read_csv(source).map_batches(checked)
"""


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python with Prefect, in an environment of its own: its packages are not those of mmflow."""
    folder = tmp_path_factory.mktemp("prefect")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "-q", "prefect>=3,<4"], check=True, timeout=900)
    return folder / "bin" / "python"


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PREFECT_HOME": str(python.parents[1] / "home"), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300", "MMFLOW_RUNS_DIR": str(folder / "runs"),
                                "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}  # fmt: skip
    return subprocess.run(
        [python, FLOW, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_retry_of_the_task_resumes_the_run(prefect: Path, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "in.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(100_000)))
    flags = ["--source", "in.csv", "--output", "out", "--shard-size", "64 KiB", "--workers", "1"]
    done = run(prefect, tmp_path, "job.py", "nightly-2026-12-03", *flags)
    assert done.returncode == 0, done.stderr
    assert "Retry 1/3" in done.stderr
    assert sorted(mf.read_parquet(tmp_path / "out").to_arrow()["n"].to_pylist()) == list(range(100_000))
    summary = json.loads((tmp_path / "runs" / "nightly-2026-12-03" / "summary.json").read_text())
    assert (summary["state"], summary["opening"]) == ("done", 1)
    computed = (tmp_path / "computed.txt").read_text().split("\n")
    first = next(
        line for line in computed if line.startswith("0 ") and line != "0 99"
    )  # which looks at the columns
    assert computed.count(first) == 1  # what was finished was not computed again

    again = run(prefect, tmp_path, "job.py", "nightly-2026-12-03", *flags)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "computed.txt").read_text().split("\n") == computed


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_wrong_command_line_is_not_retried(prefect: Path, tmp_path: Path) -> None:
    failed = run(prefect, tmp_path, "none.py", "n")
    assert failed.returncode == 1
    assert "there is no job file none.py" in failed.stderr
    assert "Retry" not in failed.stderr

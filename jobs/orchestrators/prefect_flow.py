"""Flow of Prefect that runs a job of mmflow. A retry of its task resumes the run, since the run has a stable name.

python prefect_flow.py JOB NAME [FLAG...]    flags of `mmflow run`
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from prefect import flow, get_run_logger, task

#: Exit code of a wrong command line, which no retry mends.
_USAGE = 2


class JobError(RuntimeError):
    """A run that ended with another exit code than 0."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def may_retry(_task: Any, _run: Any, state: Any) -> bool:
    """Return whether it can help to run the command again."""
    error = state.result(raise_on_failure=False)
    return not (isinstance(error, JobError) and error.code == _USAGE)


@task(retries=3, retry_delay_seconds=[1, 30, 300], retry_condition_fn=may_retry)
def run_job(job: str, name: str, flags: list[str]) -> str:
    """Run a job, or what is left of it; return what it said."""
    command = ["mmflow", "run", job, "--name", name, "--join", *flags]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  (a list: no shell)
    if ended.returncode:
        raise JobError(f"{' '.join(command)}: {ended.stderr.strip()}", ended.returncode)
    get_run_logger().info(ended.stderr)
    return ended.stdout


@flow
def mmflow_run(job: str, name: str, flags: list[str]) -> str:
    """Run a job by a name that is the same for each retry: take its date from the schedule, not from the clock."""
    return run_job(job, name, flags)


if __name__ == "__main__":
    mmflow_run(sys.argv[1], sys.argv[2], sys.argv[3:])

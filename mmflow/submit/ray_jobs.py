"""Backend that submits runs to a Ray cluster by Ray's Jobs API: the driver is a process on the cluster's head.

The job file is sent with its folder (Ray's working_dir). Data and the folder of runs must be visible to the cluster.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ray.job_submission import JobStatus, JobSubmissionClient

from mmflow.engines.messages import first_line
from mmflow.errors import ConfigError, EngineError
from mmflow.runs.directory import RunDirectory
from mmflow.submit.base import BackendStatus, Submission

__all__ = ["RayJobs"]

_POLL_SECONDS = 0.5
_CONNECT_SECONDS, _ANSWER_SECONDS = 10.0, 60.0
_STOP_SECONDS = 30.0
_UNREACHABLE = (ConnectionError, RuntimeError, OSError, ValueError)
#: Ray refuses larger folders.
_MAX_FOLDER_BYTES = 100 << 20


class RayJobs:
    """Backend of Ray's Jobs API. Imports Ray."""

    name = "ray"

    def submit(self, submission: Submission, directory: RunDirectory) -> dict[str, Any]:
        address = submission.settings.address
        client = _client(address)
        job: tuple[str, ...] = ()
        environment: dict[str, Any] = {}
        if submission.job is not None:
            folder, name = os.path.split(os.path.abspath(submission.job))
            if (size := _folder_bytes(folder)) > _MAX_FOLDER_BYTES:
                raise ConfigError(
                    f"{folder} is sent to the cluster with the job, and has {size >> 20:,} MiB: put the job and what "
                    "it imports into a folder of their own"
                )
            job, environment = (name,), {"working_dir": folder}
        # The driver runs on the cluster itself, hence the address `auto`.
        there = ("--engine", "ray", "--address", "auto")
        command = ["python", "-m", "mmflow.cli.main", "run", *job, *submission.arguments, *there]
        try:
            submitted = client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=f"mmflow-{submission.name}-{time.time_ns() // 10**6:x}",
                runtime_env=environment,
                metadata={"mmflow_run": submission.name},
            )
        except _UNREACHABLE as error:
            raise EngineError(f"Ray at {address} refuses the job: {first_line(error)}") from error
        return {"address": address, "job": submitted}

    def is_alive(self, handle: Mapping[str, Any]) -> bool | None:
        try:
            status = _client(handle["address"]).get_job_status(handle["job"])
        except (EngineError, *_UNREACHABLE):
            return None
        return status in (JobStatus.PENDING, JobStatus.RUNNING)

    def status(self, handle: Mapping[str, Any], directory: RunDirectory) -> BackendStatus | None:
        del handle, directory
        return None

    def logs(self, handle: Mapping[str, Any], directory: RunDirectory, *, follow: bool) -> Iterator[str]:
        client = _client(handle["address"])
        try:
            if not follow:
                yield client.get_job_logs(handle["job"])
                return
            seen = 0
            pieces = client.tail_job_logs(handle["job"])
            with asyncio.Runner() as runner:
                while (piece := runner.run(anext(pieces, None))) is not None:
                    seen += len(piece)
                    yield piece
            # Ray 2.60 ends the stream once the job has ended, whether or not it has read the last lines.
            yield client.get_job_logs(handle["job"])[seen:]
        except _UNREACHABLE as error:
            raise EngineError(
                f"Ray at {handle['address']} has no logs of {handle['job']}: {first_line(error)}"
            ) from error

    def stop(self, handle: Mapping[str, Any]) -> None:
        client = _client(handle["address"])
        try:
            client.stop_job(handle["job"])
            deadline = time.monotonic() + _STOP_SECONDS
            while self.is_alive(handle) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        except _UNREACHABLE as error:
            raise EngineError(
                f"Ray at {handle['address']} can't stop {handle['job']}: {first_line(error)}"
            ) from error


class _Client(JobSubmissionClient):
    """A client whose requests have a limit: Ray's wait for an answer for ever."""

    def _do_request(self, *arguments: Any, **options: Any) -> Any:
        options.setdefault("timeout", (_CONNECT_SECONDS, _ANSWER_SECONDS))
        return super()._do_request(*arguments, **options)


def _client(address: str | None) -> JobSubmissionClient:
    try:
        return _Client(address or "auto")
    except _UNREACHABLE as error:
        raise EngineError(
            f"can't reach Ray's Jobs API at {address or 'auto'}: {first_line(error)}; is the cluster up, with its "
            "dashboard (ray start --head --include-dashboard=true), and ray[default] installed there?"
        ) from error


def _folder_bytes(folder: str) -> int:
    total = 0
    for here, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(here, n)).st_size for n in names)
        if total > _MAX_FOLDER_BYTES:
            break
    return total

"""Submitted runs on a Ray cluster, by Ray's Jobs API: the driver is a process on the cluster's head.

The job file travels with its folder (Ray's working_dir); data, and the folder of runs, must be where the cluster sees
them.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ray.job_submission import JobStatus, JobSubmissionClient

from mmflow.engines.remote import first_line
from mmflow.errors import ConfigError, EngineError
from mmflow.runs.backends import Submission, Told
from mmflow.runs.directory import RunDirectory

__all__ = ["RayJobs"]

_POLL_SECONDS = 0.5
_STOP_SECONDS = 30.0
_UNREACHABLE = (ConnectionError, RuntimeError, OSError, ValueError)
#: Ray refuses larger folders.
_LIMIT = 100 << 20


class RayJobs:
    """A `Backend`: Ray's Jobs API. Imports Ray."""

    name = "ray"

    def submit(self, what: Submission, directory: RunDirectory) -> dict[str, Any]:
        """See `Backend.submit`."""
        address = what.settings.address
        client = _client(address)
        job: tuple[str, ...] = ()
        environment: dict[str, Any] = {}
        if what.job is not None:
            folder, name = os.path.split(os.path.abspath(what.job))
            if (size := _size(folder)) > _LIMIT:
                raise ConfigError(
                    f"{folder} goes to the cluster with the job, and has {size >> 20:,} MiB: put the job and what it "
                    "imports into a folder of their own"
                )
            job, environment = (name,), {"working_dir": folder}
        # The driver runs on the cluster: to it, the cluster is where it is.
        there = ("--engine", "ray", "--address", "auto")
        command = ["python", "-m", "mmflow.cli.main", "run", *job, *what.arguments, *there]
        try:
            submitted = client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=f"mmflow-{what.name}-{time.time_ns() // 10**6:x}",
                runtime_env=environment,
                metadata={"mmflow_run": what.name},
            )
        except _UNREACHABLE as error:
            raise EngineError(f"Ray at {address} refuses the job: {first_line(error)}") from error
        return {"address": address, "job": submitted}

    def alive(self, handle: Mapping[str, Any]) -> bool | None:
        """See `Backend.alive`."""
        try:
            status = _client(handle["address"]).get_job_status(handle["job"])
        except (EngineError, *_UNREACHABLE):
            return None
        return status in (JobStatus.PENDING, JobStatus.RUNNING)

    def told(self, handle: Mapping[str, Any], directory: RunDirectory) -> Told | None:
        """See `Backend.told`."""
        del handle, directory
        return None

    def logs(self, handle: Mapping[str, Any], directory: RunDirectory, *, follow: bool) -> Iterator[str]:
        """See `Backend.logs`."""
        client = _client(handle["address"])
        try:
            if not follow:
                yield client.get_job_logs(handle["job"])
                return
            pieces = client.tail_job_logs(handle["job"])
            with asyncio.Runner() as runner:
                while (piece := runner.run(anext(pieces, None))) is not None:
                    yield piece
        except _UNREACHABLE as error:
            raise EngineError(
                f"Ray at {handle['address']} has no logs of {handle['job']}: {first_line(error)}"
            ) from error

    def stop(self, handle: Mapping[str, Any]) -> None:
        """See `Backend.stop`."""
        client = _client(handle["address"])
        try:
            client.stop_job(handle["job"])
            deadline = time.monotonic() + _STOP_SECONDS
            while self.alive(handle) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        except _UNREACHABLE as error:
            raise EngineError(
                f"Ray at {handle['address']} can't stop {handle['job']}: {first_line(error)}"
            ) from error


def _client(address: str | None) -> JobSubmissionClient:
    try:
        return JobSubmissionClient(address or "auto")
    except _UNREACHABLE as error:
        raise EngineError(
            f"can't reach Ray's Jobs API at {address or 'auto'}: {first_line(error)}; is the cluster up, with its "
            "dashboard (ray start --head --include-dashboard=true), and ray[default] installed there?"
        ) from error


def _size(folder: str) -> int:
    total = 0
    for here, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(here, n)).st_size for n in names)
        if total > _LIMIT:
            break
    return total

"""Backends of submitted runs: a process of this machine that outlives its shell, a Ray cluster, Kubernetes.

The submitted command is `mmflow run` itself, with the run's name. Everything else (status, report, the state of a
resumed run) is in the run's folder, so a backend only starts and stops runs, and returns their output.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from mmflow.config import Settings
from mmflow.distribution import install_command
from mmflow.errors import ConfigError, EngineError
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping.system.host import read_process_start
from mmflow.runs.directory import RunDirectory

__all__ = ["BACKENDS", "OUTPUT", "Backend", "BackendStatus", "LocalProcess", "Submission", "open_backend"]

OUTPUT = "output.txt"
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Submission:
    """Run to start.

    Attributes:
        name: Name of the run.
        job: Path of the job file; None: a resumed run, whose folder names it.
        arguments: Arguments of `mmflow run`, without the job.
        settings: Settings of the run.
        pods: The `[kubernetes]` table of the settings file.
        resumes: Whether the run was started before.
    """

    name: str
    job: str | None
    arguments: tuple[str, ...]
    settings: Settings
    pods: Mapping[str, Any] | None = None
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """Status of a run, known to its backend but not from the run's folder.

    Attributes:
        state: State, one of those of `RunState`.
        message: Reason why it waits, or how it ended.
        summary: Content of summary.json, if the backend has it.
    """

    state: str
    message: str | None = None
    summary: Mapping[str, Any] | None = None


class Backend(Protocol):
    """Starter and stopper of runs elsewhere. `handle` is plain data that names a run there (kept in submitted.json)."""

    name: str

    def submit(self, submission: Submission, directory: RunDirectory) -> dict[str, Any]:
        """Start a run and return its handle.

        Raises:
            ConfigError: A package or setting that this backend needs is missing.
            EngineError: The run is refused.
        """
        ...

    def is_alive(self, handle: Mapping[str, Any]) -> bool | None:
        """Return whether the run waits or runs there; None if that can't be known."""
        ...

    def status(self, handle: Mapping[str, Any], directory: RunDirectory) -> BackendStatus | None:
        """Return the status known there; None if the folder says as much. May copy files of the run into its folder.

        Raises:
            EngineError: It can't be reached.
        """
        ...

    def logs(self, handle: Mapping[str, Any], directory: RunDirectory, *, follow: bool) -> Iterator[str]:
        """Yield the run's output in pieces; with `follow` until it has ended.

        Raises:
            EngineError: It can't be reached.
        """
        ...

    def stop(self, handle: Mapping[str, Any]) -> None:
        """Stop the run, gently first. Idempotent.

        Raises:
            EngineError: It can't be reached.
        """
        ...


class LocalProcess:
    """Backend of a process on this machine, in a session of its own."""

    name = "local"

    def submit(self, submission: Submission, directory: RunDirectory) -> dict[str, Any]:
        """Start the process; its output goes to `output.txt` in the run's folder."""
        job = () if submission.job is None else (submission.job,)
        command = [sys.executable, "-m", "mmflow.cli.main", "run", *job, *submission.arguments]
        log = (
            os.open(directory.path(OUTPUT), os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            if not directory.remote
            else os.open(os.devnull, os.O_WRONLY)
        )
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        except OSError as error:
            raise EngineError(f"can't start {sys.executable}: {error.strerror}") from error
        finally:
            os.close(log)
        return {"pid": process.pid, "began": read_process_start(process.pid)}

    def is_alive(self, handle: Mapping[str, Any]) -> bool | None:
        pid = handle.get("pid")
        began = read_process_start(pid) if isinstance(pid, int) else None
        return began is not None and began == handle.get("began")

    def status(self, handle: Mapping[str, Any], directory: RunDirectory) -> BackendStatus | None:
        del handle, directory
        return None

    def logs(self, handle: Mapping[str, Any], directory: RunDirectory, *, follow: bool) -> Iterator[str]:
        try:
            file = open(directory.path(OUTPUT), encoding="utf-8", errors="replace")  # noqa: SIM115  (the generator closes it)
        except OSError as error:
            raise EngineError(f"can't read {directory.path(OUTPUT)}: {error.strerror}") from error
        with file:
            while True:
                ended = not self.is_alive(handle)
                if text := file.read():
                    yield text
                if ended or not follow:
                    return
                time.sleep(_POLL_SECONDS)

    def stop(self, handle: Mapping[str, Any]) -> None:
        if self.is_alive(handle):
            try:
                os.kill(handle["pid"], signal.SIGTERM)
            except ProcessLookupError:
                return
            except PermissionError as error:
                raise EngineError(f"process {handle['pid']} is another user's") from error


def _ray() -> Backend:
    from mmflow.submit.ray_jobs import RayJobs  # noqa: PLC0415  (optional package)

    return RayJobs()


#: Opener of each backend, by its name. Layers above add theirs.
BACKENDS: dict[str, Callable[[], Backend]] = {"local": LocalProcess, "ray": _ray}


def open_backend(name: str) -> Backend:
    """Return a backend by its name.

    Raises:
        ConfigError: There is no backend of that name, or a package that it needs is missing.
    """
    if name not in BACKENDS:
        raise ConfigError(f"there is no backend {name!r}: they are {', '.join(BACKENDS)}")
    try:
        return BACKENDS[name]()
    except ImportError as error:
        raise ConfigError(
            f"{name} needs a package: {install_command(name)} ({error})", code="MMF-CFG-002"
        ) from error

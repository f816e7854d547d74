"""Where submitted runs go: a process of this machine that outlives its shell, a Ray cluster, Kubernetes.

What is submitted is `mmflow run` itself, with the run's name; all else (status, report, what a resumed run needs) is in
the run's folder, so a backend only starts, stops, and hands over what was printed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mmflow.config import Settings
from mmflow.errors import ConfigError, EngineError
from mmflow.mapping.host import process_began
from mmflow.runs.directory import RunDirectory

__all__ = ["BACKENDS", "OUTPUT", "Backend", "LocalProcess", "Submission", "Told", "backend_of"]

OUTPUT = "output.txt"
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Submission:
    """What to run.

    Attributes:
        name: The run's.
        job: Path of the job file; None: the run goes on, and its folder says which it is.
        arguments: Of `mmflow run`, without the job.
        settings: Those of the run.
        pods: The `[kubernetes]` table of the settings file.
    """

    name: str
    job: str | None
    arguments: tuple[str, ...]
    settings: Settings
    pods: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a backend says of a run whose folder does not tell.

    Attributes:
        state: As in `RunState`.
        message: Why it waits, or ended so.
        summary: As in summary.json, if the run told it.
    """

    state: str
    message: str | None = None
    summary: Mapping[str, Any] | None = None


class Backend(Protocol):
    """Starts and stops runs somewhere. `handle` is plain data that names a run there (kept in submitted.json)."""

    name: str

    def submit(self, what: Submission, directory: RunDirectory) -> dict[str, Any]:
        """Start a run; its handle.

        Raises:
            ConfigError: Something that this needs is not there.
            EngineError: It is refused.
        """
        ...

    def alive(self, handle: Mapping[str, Any]) -> bool | None:
        """Does it wait or run there? None: that can't be told."""
        ...

    def told(self, handle: Mapping[str, Any], directory: RunDirectory) -> Told | None:
        """What is known there; None: no more than the folder says. May bring files of the run into its folder.

        Raises:
            EngineError: It can't be reached.
        """
        ...

    def logs(self, handle: Mapping[str, Any], directory: RunDirectory, *, follow: bool) -> Iterator[str]:
        """What it printed, in pieces; with `follow` until it has ended.

        Raises:
            EngineError: It can't be reached.
        """
        ...

    def stop(self, handle: Mapping[str, Any]) -> None:
        """Stop it, gently first. Idempotent.

        Raises:
            EngineError: It can't be reached.
        """
        ...


class LocalProcess:
    """A process of this machine, in a session of its own."""

    name = "local"

    def submit(self, what: Submission, directory: RunDirectory) -> dict[str, Any]:
        """See `Backend.submit`. What it prints goes to `output.txt` in the run's folder."""
        job = () if what.job is None else (what.job,)
        command = [sys.executable, "-m", "mmflow.cli.main", "run", *job, *what.arguments]
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
        return {"pid": process.pid, "began": process_began(process.pid)}

    def alive(self, handle: Mapping[str, Any]) -> bool | None:
        """See `Backend.alive`."""
        began = process_began(handle["pid"])
        return began is not None and began == handle["began"]

    def told(self, handle: Mapping[str, Any], directory: RunDirectory) -> Told | None:
        """See `Backend.told`."""
        del handle, directory
        return None

    def logs(self, handle: Mapping[str, Any], directory: RunDirectory, *, follow: bool) -> Iterator[str]:
        """See `Backend.logs`."""
        try:
            file = open(directory.path(OUTPUT), encoding="utf-8", errors="replace")  # noqa: SIM115
        except OSError as error:
            raise EngineError(f"can't read {directory.path(OUTPUT)}: {error.strerror}") from error
        with file:
            while True:
                ended = not self.alive(handle)
                if text := file.read():
                    yield text
                if ended or not follow:
                    return
                time.sleep(_POLL_SECONDS)

    def stop(self, handle: Mapping[str, Any]) -> None:
        """See `Backend.stop`."""
        if self.alive(handle):
            try:
                os.kill(handle["pid"], signal.SIGTERM)
            except ProcessLookupError:
                return
            except PermissionError as error:
                raise EngineError(f"process {handle['pid']} is another user's") from error


def _ray() -> Backend:
    from mmflow.runs.ray_jobs import RayJobs  # noqa: PLC0415  (only who asks for Ray needs it)

    return RayJobs()


#: How to open each backend, by its name. Layers above add theirs.
BACKENDS: dict[str, Callable[[], Backend]] = {"local": LocalProcess, "ray": _ray}


def backend_of(name: str) -> Backend:
    """A backend by its name.

    Raises:
        ConfigError: There is none of that name, or a package that it needs is missing.
    """
    if name not in BACKENDS:
        raise ConfigError(f"there is no backend {name!r}: they are {', '.join(BACKENDS)}")
    try:
        return BACKENDS[name]()
    except ImportError as error:
        raise ConfigError(f"{name} needs a package: pip install 'mmflow[{name}]' ({error})") from error

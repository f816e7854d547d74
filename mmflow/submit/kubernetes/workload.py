"""Workload of one run on Kubernetes: its names, its code, and the command of its driver."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import field

from mmflow.errors import ConfigError
from mmflow.lazy.dataclasses import dataclass
from mmflow.submit.base import Submission
from mmflow.submit.kubernetes.pods import CODE, CONFIG, SPILL
from mmflow.submit.kubernetes.settings import ENGINES, TABLE, PodSettings

__all__ = ["Workload", "make_workload", "object_name", "read_code", "shell_line"]

#: KubeRay refuses names of RayJobs beyond 47 characters.
_MAX_NAME = 45
#: etcd takes 1.5 MiB, the API server a ConfigMap of 1 MiB.
_MAX_CODE_BYTES = 900 << 10
_SUFFIXES = (".py", ".toml", ".sql", ".json", ".yaml", ".yml", ".csv", ".txt")


def object_name(run: str, suffix: str = "") -> str:
    """Return a Kubernetes name for a run's name: lower case, short, and unlike that of any other run.

    >>> object_name("3f2a"), object_name("Nightly_1")
    ('mmflow-3f2a', 'mmflow-nightly-1-df34943d')
    """
    plain = re.sub(r"[^a-z0-9]+", "-", run.lower()).strip("-")
    room = _MAX_NAME - len("mmflow-") - len(suffix)
    if plain != run or len(plain) > room:
        plain = f"{plain[: room - 9]}-{zlib.crc32(run.encode()):08x}".strip("-")
    return f"mmflow-{plain}{suffix}"


@dataclass(frozen=True, slots=True)
class Workload:
    """Job to run, and where.

    Attributes:
        run: The run's name.
        name: Name of its objects (`object_name`).
        job: The job file: a name in `code`, or a path in the image.
        arguments: Arguments of `mmflow run`, without the job.
        runs_dir: Folder of runs, as the pods see it.
        code: Files of the job's folder, by path in it; empty: the image holds it.
        resume: Whether to resume the run.
        submission: Id of this submission among those of the run.
    """

    run: str
    name: str
    job: str
    arguments: tuple[str, ...]
    runs_dir: str
    code: Mapping[str, bytes] = field(default_factory=dict)
    resume: bool = False
    submission: str = ""

    def driver_command(
        self, settings: PodSettings, engine: str, address: str | None, *, here: bool = True
    ) -> list[str]:
        """Return the command of the driver.

        Args:
            settings: Settings of its pods.
            engine: Engine that runs the tasks.
            address: Address of its cluster.
            here: True if the code is in /job; False if it is in the working directory.
        """
        job = self.job if not self.code else f"{CODE}/{self.job}" if here else self.job
        config = [] if settings.config_map is None else [f"--config={CONFIG}/settings.toml"]
        sizes = [f"--workers={settings.tasks}", f"--memory={settings.task_memory}", f"--spill-dir={SPILL}"]
        # The limit of a pod's disk is not visible from inside: half of it is for pages of remote files.
        sizes += [f"--cache-dir={SPILL}", f"--cache-size={settings.spill // 2}"]
        # Sizes come first, so that the user's arguments override them; engine and address can't be overridden.
        flags = [*config, *sizes, *self.arguments, f"--engine={engine}"]
        if address is not None:
            flags.append(f"--address={address}")
        first = [
            "python",
            "-m",
            "mmflow.submit.kubernetes.pod_main",
            f"--run={self.run}",
            f"--runs-dir={self.runs_dir}",
        ]
        return [*first, *(["--resume"] if self.resume else []), "--", job, *flags]


def shell_line(command: list[str]) -> str:
    """Return a command as one line that survives KubeRay's shell, Ray's own quoting, and the job's shell.

    Anything but plain words is passed as base64: Ray quotes as Windows does, which leaves `$` to the last shell.
    """
    if shlex.join(command) == " ".join(command):
        return " ".join(command)
    mark = command.index("--")
    packed = base64.urlsafe_b64encode(json.dumps(command[mark + 1 :]).encode()).decode()
    return " ".join([*command[:mark], f"--packed={packed}"])


def read_code(job: str) -> dict[str, bytes]:
    """Return the files of a job's folder that are sent along, by path in the folder.

    Raises:
        ConfigError: They are too large for a ConfigMap.
    """
    folder = os.path.dirname(os.path.abspath(job))
    found: dict[str, bytes] = {}
    total = 0
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__pycache__")
        for name in sorted(names):
            path = os.path.join(here, name)
            if name.startswith(".") or not name.endswith(_SUFFIXES) or not os.path.isfile(path):
                continue
            total += os.path.getsize(path)
            if total > _MAX_CODE_BYTES:
                raise ConfigError(
                    f"{folder} is sent to the cluster with the job, as a ConfigMap of at most {_MAX_CODE_BYTES >> 10} "
                    "KiB: put the job and what it imports into a folder of their own, or into the image ([kubernetes] "
                    "jobs_in_image)"
                )
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = file.read()
    return found


def make_workload(submission: Submission, settings: PodSettings, *, again: str = "") -> Workload:
    """Return the workload of a submission.

    Args:
        submission: Submission of the run.
        settings: Settings of its pods.
        again: Suffix of a resumed run's objects, which distinguishes them from those of earlier submissions.

    Raises:
        ConfigError: The job's folder is too large, or the arguments name another engine than that of the pods.
    """
    _check_engine(submission.arguments, settings)
    if submission.job is None:
        raise ConfigError(
            f"run {submission.name} needs its code again: mmflow submit JOB --resume {submission.name}"
        )
    job = submission.job.rpartition("/")[2]
    code = {} if settings.jobs_in_image else read_code(submission.job)
    own = ("--name=", "--resume=", "--runs-dir=", "--engine=")
    return Workload(
        run=submission.name,
        name=object_name(submission.name, f"-{again}" if again else ""),
        job=f"{settings.jobs_in_image}/{job}" if settings.jobs_in_image else job,
        arguments=tuple(a for a in submission.arguments if not a.startswith(own)),
        runs_dir=submission.settings.runs_dir if "://" in submission.settings.runs_dir else settings.runs_dir,
        code=code,
        resume=bool(again),
        submission=uuid.uuid4().hex,
    )


def _check_engine(arguments: tuple[str, ...], settings: PodSettings) -> None:
    """Check that the arguments name neither another engine than that of the pods nor an address.

    Raises:
        ConfigError: They do, by a flag, a variable or a setting above the table.
    """
    own = ENGINES[settings.kind]
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name == "--engine" and value != own:
            kinds = [kind for kind, engine in ENGINES.items() if engine == value]
            hint = f", or set kind = {kinds[0]!r}" if kinds else ""
            raise ConfigError(
                f"engine = {value!r} does not go with [{TABLE}] kind = {settings.kind!r}, whose pods run the "
                f"{own} engine: leave engine out{hint}"
            )
        if name == "--address" and value:
            raise ConfigError(
                f"address = {value!r}: which cluster a run goes to, [{TABLE}] cluster says; leave address out"
            )

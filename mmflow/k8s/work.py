"""One run as Kubernetes gets it: its names, its code, and the command of its driver."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from mmflow.errors import ConfigError
from mmflow.k8s.pods import CODE, CONFIG, SPILL
from mmflow.k8s.settings import ENGINES, TABLE, PodSettings
from mmflow.runs.backends import Submission

__all__ = ["Work", "code_of", "object_name", "shell_line", "work_of"]

#: KubeRay refuses names of RayJobs beyond 47 characters.
_LONGEST = 45
#: etcd takes 1.5 MiB, the API server a ConfigMap of 1 MiB.
_MOST_CODE = 900 << 10
_SUFFIXES = (".py", ".toml", ".sql", ".json", ".yaml", ".yml", ".csv", ".txt")


def object_name(run: str, suffix: str = "") -> str:
    """A name for Kubernetes from a run's: lower case, short, and unlike that of any other run.

    >>> object_name("3f2a"), object_name("Nightly_1")
    ('mmflow-3f2a', 'mmflow-nightly-1-df34943d')
    """
    plain = re.sub(r"[^a-z0-9]+", "-", run.lower()).strip("-")
    room = _LONGEST - len("mmflow-") - len(suffix)
    if plain != run or len(plain) > room:
        plain = f"{plain[: room - 9]}-{zlib.crc32(run.encode()):08x}".strip("-")
    return f"mmflow-{plain}{suffix}"


@dataclass(frozen=True, slots=True)
class Work:
    """What to run.

    Attributes:
        run: The run's name.
        name: Of its objects (`object_name`).
        job: The job file: a name in `code`, or a path in the image.
        arguments: Of `mmflow run`, without the job.
        runs_dir: Where the run is kept, as the pods see it.
        code: The job's folder, by path in it; empty: it is in the image.
        resume: Go on with the run.
        submission: Tells this submission from others of the same run.
    """

    run: str
    name: str
    job: str
    arguments: tuple[str, ...]
    runs_dir: str
    code: Mapping[str, bytes] = field(default_factory=dict)
    resume: bool = False
    submission: str = ""

    def driver(
        self, settings: PodSettings, engine: str, address: str | None, *, here: bool = True
    ) -> list[str]:
        """The command of the driver.

        Args:
            settings: What its pods are.
            engine: Which one runs the tasks.
            address: Of its cluster.
            here: The code is in /job; False: in the folder where the command starts.
        """
        job = self.job if not self.code else f"{CODE}/{self.job}" if here else self.job
        config = [] if settings.config_map is None else [f"--config={CONFIG}/settings.toml"]
        sizes = [f"--workers={settings.tasks}", f"--memory={settings.task_memory}", f"--spill-dir={SPILL}"]
        # Nobody sees the limit of a pod's disk from inside: half of it is for pages of remote files.
        sizes += [f"--cache-dir={SPILL}", f"--cache-size={settings.spill // 2}"]
        # What the pods are comes first, so that what people gave wins; where things are is not theirs to say.
        flags = [*config, *sizes, *self.arguments, f"--engine={engine}"]
        if address is not None:
            flags.append(f"--address={address}")
        first = ["python", "-m", "mmflow.k8s.entry", f"--run={self.run}", f"--runs-dir={self.runs_dir}"]
        return [*first, *(["--resume"] if self.resume else []), "--", job, *flags]


def shell_line(command: list[str]) -> str:
    """A command as one line that survives KubeRay's shell, Ray's own quoting, and the job's shell.

    What is more than plain words goes as base64: Ray quotes as Windows does, which leaves `$` to the last shell.
    """
    if shlex.join(command) == " ".join(command):
        return " ".join(command)
    mark = command.index("--")
    packed = base64.urlsafe_b64encode(json.dumps(command[mark + 1 :]).encode()).decode()
    return " ".join([*command[:mark], f"--packed={packed}"])


def code_of(job: str) -> dict[str, bytes]:
    """The files of a job's folder that go with it, by path in the folder.

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
            if total > _MOST_CODE:
                raise ConfigError(
                    f"{folder} goes to the cluster with the job, as a ConfigMap of {_MOST_CODE >> 10} KiB at most: put "
                    "the job and what it imports into a folder of their own, or into the image ([kubernetes] "
                    "jobs_in_image)"
                )
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = file.read()
    return found


def work_of(what: Submission, settings: PodSettings, *, again: str = "") -> Work:
    """A submission as a `Work`.

    Args:
        what: What was submitted.
        settings: Of its pods.
        again: Of a run that goes on: tells its objects from those of earlier submissions.

    Raises:
        ConfigError: The job's folder is too large, or an engine is asked for that is not the pods'.
    """
    _check_engine(what.arguments, settings)
    if what.job is None:
        raise ConfigError(f"run {what.name} needs its code again: mmflow submit JOB --resume {what.name}")
    job = what.job.rpartition("/")[2]
    code = {} if settings.jobs_in_image else code_of(what.job)
    own = ("--run-id=", "--resume=", "--runs-dir=", "--engine=")
    return Work(
        run=what.name,
        name=object_name(what.name, f"-{again}" if again else ""),
        job=f"{settings.jobs_in_image}/{job}" if settings.jobs_in_image else job,
        arguments=tuple(a for a in what.arguments if not a.startswith(own)),
        runs_dir=what.settings.runs_dir if "://" in what.settings.runs_dir else settings.runs_dir,
        code=code,
        resume=bool(again),
        submission=uuid.uuid4().hex,
    )


def _check_engine(arguments: tuple[str, ...], settings: PodSettings) -> None:
    """Check that nobody asks for another engine than that of the pods, or for its address.

    Raises:
        ConfigError: Somebody does, by a flag, a variable or above the table.
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

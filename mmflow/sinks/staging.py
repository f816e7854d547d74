"""Where staged files lie, as every worker and the driver compute it from the spec and the run alone.

data/out                                the destination
data/.out.mmflow-RUN/                   staging of one run, beside it: on the same file system
    attempts/s2-t7-a0/part-00007.csv    what attempt 0 of task 7 wrote; attempts never mix
    attempts/s2-t7.1-a0/part-00007_001.csv    the rest of its shard, by a task of its own (`exec.task.TaskId`)
    result/                             built by the commit: what will be the destination
data/.out.mmflow-old-RUN                the old destination, aside for a moment (no atomic swap here)
data/.out.mmflow-lock                   held by the run that may commit
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from mmflow.sinks.base import SinkSpec, StagedFile

__all__ = [
    "aside",
    "attempt_folder",
    "attempts_folder",
    "destination",
    "leftovers",
    "lock_file",
    "staged_there",
    "staging_folder",
]

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def destination(spec: SinkSpec) -> Path:
    """The destination, without a slash at its end."""
    return Path(spec.path)


def staging_folder(spec: SinkSpec, run: str) -> Path:
    """The staging folder of a run."""
    assert _RUN.fullmatch(run), f"{run!r} can't be part of a file name"
    return _beside(spec, f"-{run}")


def attempts_folder(spec: SinkSpec, run: str) -> Path:
    """Parent of all attempts' folders; exists as long as the run may write."""
    return staging_folder(spec, run) / "attempts"


def attempt_folder(
    spec: SinkSpec, run: str, *, stage: int, number: int, attempt: int, part: tuple[int, ...] = ()
) -> Path:
    """Where one attempt of one task writes."""
    task = ".".join(map(str, (number, *part)))
    return attempts_folder(spec, run) / f"s{stage}-t{task}-a{attempt}"


def staged_there(spec: SinkSpec, run: str, file: StagedFile) -> bool:
    """Is a file that a task of this run staged still there, whole? A commit may have moved it on already."""
    for path in (Path(file.staged), staging_folder(spec, run) / "result" / file.path):
        with contextlib.suppress(OSError):
            if path.stat().st_size == file.nbytes:
                return True
    return False


def aside(spec: SinkSpec, run: str) -> Path:
    """Where the old destination goes for a moment, where the file system can't swap."""
    return _beside(spec, f"-old-{run}")


def lock_file(spec: SinkSpec) -> Path:
    """Locked by the run that may commit to the destination."""
    return _beside(spec, "-lock")


def leftovers(spec: SinkSpec, run: str) -> tuple[list[Path], list[Path]]:
    """Staging folders, and old destinations set aside, of runs other than `run`."""
    prefix = _beside(spec, "-").name
    kept = {staging_folder(spec, run).name, lock_file(spec).name}
    try:
        names = sorted(os.listdir(destination(spec).parent))
    except FileNotFoundError:
        return [], []
    found = [destination(spec).parent / n for n in names if n.startswith(prefix) and n not in kept]
    old = [path for path in found if path.name.startswith(prefix + "old-")]
    return [path for path in found if path not in old], old


def _beside(spec: SinkSpec, suffix: str) -> Path:
    path = destination(spec)
    return path.parent / f".{path.name}.mmflow{suffix}"

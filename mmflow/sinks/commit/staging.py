"""Paths of staging. All but those of attempts are computed from the spec and the run alone.

data/out                                the destination
data/.out.mmflow-RUN/                   staging of one run, beside it: on the same file system
    attempts/s2-t7-a0-4f1c9b20/         output of attempt 0 of task 7
        part-00007.csv
        000001-part-00007.csv           the same of a partition; its place is known by `StagedFile.path`
    attempts/s2-t7.1-a0-d0e5a377/       the remainder of its shard, by a task of its own (`plan.tasks.TaskId`)
    placed.jsonl                        which attempt's files the commit moves into result (of a table: into the table)
    result/                             built by the commit: the future destination
data/.out.mmflow-old-RUN                the old destination for a moment (file systems without atomic swap)
data/.out.mmflow-lock                   held by the run that may commit
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmflow.lazy.patterns import lazy_regex
from mmflow.sinks.base import SinkAttempt, SinkSpec, StagedFile
from mmflow.storage import disk

__all__ = [
    "attempt_folder",
    "attempts_folder",
    "destination",
    "is_staged",
    "lock_file",
    "note_placed",
    "old_destination",
    "read_placed",
    "run_of",
    "staging_folder",
    "stale_paths",
]

_RUN = lazy_regex(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def destination(spec: SinkSpec) -> Path:
    """Return the destination's path, without a slash at its end."""
    return _path(spec.path)


def staging_folder(spec: SinkSpec, run: str) -> Path:
    """Return the staging folder of a run."""
    assert _RUN.fullmatch(run), f"{run!r} can't be part of a file name"
    return _sibling(spec, f"-{run}")


def attempts_folder(spec: SinkSpec, run: str) -> Path:
    """Return the parent of all attempts' folders; it exists as long as the run may write."""
    return staging_folder(spec, run) / "attempts"


def attempt_folder(spec: SinkSpec, attempt: SinkAttempt) -> Path:
    """Return a new folder for one attempt of one task.

    An engine may run an attempt twice, and a dead driver leave it running: neither may write into the other's files.
    """
    return attempts_folder(spec, attempt.run) / f"{attempt.name}-{os.urandom(4).hex()}"


def note_placed(spec: SinkSpec, run: str, files: Iterable[StagedFile]) -> None:
    """Note which staged files are about to be moved into the result.

    The job may be corrected before they all are, and its files have the same names there.
    """
    lines = "".join(f"\n{json.dumps([file.path, file.staged])}" for file in files)
    if lines:
        disk.write_file(_placed(spec, run), lines.encode(), flags=os.O_APPEND)


def read_placed(spec: SinkSpec, run: str) -> dict[str, str]:
    """Return the staged file that was last to be moved there, by the path in the result."""
    found: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in _placed(spec, run).read_bytes().splitlines():
            with contextlib.suppress(ValueError):  # empty, or cut off by a crash: nothing was moved then
                path, staged = json.loads(line)
                found[path] = staged
    return found


def is_staged(spec: SinkSpec, run: str, file: StagedFile, placed: Mapping[str, str]) -> bool:
    """Return whether a file that a task of this run staged is still there, whole; a commit may have moved it.

    Args:
        spec: Destination and format.
        run: Id of the run.
        file: File.
        placed: Result of `read_placed`.
    """
    found = [Path(file.staged)]
    if placed.get(file.path) == file.staged:
        placed_in = destination(spec) if spec.table else staging_folder(spec, run) / "result"
        found.append(placed_in / file.path)
    for path in found:
        with contextlib.suppress(OSError):
            if path.stat().st_size == file.nbytes:
                return True
    return False


def _placed(spec: SinkSpec, run: str) -> Path:
    return staging_folder(spec, run) / "placed.jsonl"


def old_destination(spec: SinkSpec, run: str) -> Path:
    """Return the path that the old destination is renamed to for a moment where the file system can't swap."""
    return _sibling(spec, f"-old-{run}")


def lock_file(spec: SinkSpec) -> Path:
    """Return the path of the file that the committing run locks."""
    return _sibling(spec, "-lock")


def run_of(spec: SinkSpec, folder: Path) -> str:
    """Return the run that a staging folder is of."""
    return folder.name.removeprefix(_sibling(spec, "-").name)


def stale_paths(spec: SinkSpec, run: str) -> tuple[list[Path], list[Path]]:
    """Return the staging folders and the renamed old destinations of runs other than `run`."""
    prefix = _sibling(spec, "-").name
    own = {staging_folder(spec, run).name, lock_file(spec).name}
    try:
        names = sorted(os.listdir(destination(spec).parent))
    except FileNotFoundError:
        return [], []
    found = [destination(spec).parent / n for n in names if n.startswith(prefix) and n not in own]
    old = [path for path in found if path.name.startswith(prefix + "old-")]
    return [path for path in found if path not in old], old


def _sibling(spec: SinkSpec, suffix: str) -> Path:
    return _beside(spec.path, suffix)


# A commit asks for each of them many times.
_path = functools.lru_cache(64)(Path)


@functools.lru_cache(64)
def _beside(destination: str, suffix: str) -> Path:
    path = _path(destination)
    return path.parent / f".{path.name}.mmflow{suffix}"

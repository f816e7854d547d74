"""Removal of the folders of ended runs.

    all runs  -->  choose: ended, older than, beyond the newest, of these states  -->  remove: each under its lock

Invariant: nothing is removed that has a live driver, or was resumed or submitted since it was chosen, or is no run.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable

from mmflow.errors import ConfigError, EngineError
from mmflow.mapping.system.owner_lock import HeldError
from mmflow.runs.directory import RunDirectory, disk_usage
from mmflow.runs.journal import decode_line
from mmflow.runs.lock import REMOVED, Watch, remove_locked, take_lock
from mmflow.runs.recorded_run import FACTS, FACTS_SHAPE, SUBMITTED, SUMMARY, SUMMARY_SHAPE
from mmflow.runs.recorder import JOURNAL
from mmflow.submit.status import ENDED, QUERY, RunState

__all__ = ["check_ended", "choose_runs", "parse_age", "remove_run", "sweep_removed"]

_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
#: Seconds of silence after which a driver on another host is dead, however far the clocks of both may be apart.
_SURELY_DEAD_SECONDS = 3600.0


def parse_age(text: str) -> float:
    """Return an age in seconds.

    Raises:
        ConfigError: It is none.

    >>> parse_age("7d"), parse_age("90m")
    (604800.0, 5400.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhdw])", text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no age; write minutes, hours, days or weeks: 30m, 12h, 7d, 2w")
    return float(match[1]) * _UNITS[match[2]]


def choose_runs(
    runs: Iterable[RunState],
    *,
    older_than: float | None = None,
    keep: int = 0,
    states: Collection[str] = (),
    now: float | None = None,
) -> list[RunState]:
    """Return the ended runs that meet all conditions, in the order given.

    Args:
        runs: All runs, the newest first.
        older_than: Seconds since the end of the run, at least. None: any.
        keep: Number of the newest ones, of these states, that are not chosen.
        states: States, of those in which a run is over; none: any of them.
        now: Time, in seconds since 1970.
    """
    now = time.time() if now is None else now
    ended = [r for r in runs if r.state in (*ENDED, QUERY) and (not states or r.state in states)]
    return [r for r in ended[keep:] if older_than is None or now - (r.ended or now) >= older_than]


def remove_run(runs_dir: str, run: RunState) -> int | None:
    """Remove the folder of an ended run.

    Args:
        runs_dir: Folder of all runs: a path, or a URL.
        run: State of the run, as it was when the run was chosen.

    Returns:
        Bytes that were freed. None: it is not removed, since it runs again, or may run on another host.

    Raises:
        EngineError: It can't be removed.
    """
    directory = RunDirectory(runs_dir, run.run)
    directory.check()
    submitted = directory.read(SUBMITTED)
    silent = time.time() - (run.ended or 0.0)
    try:
        lock = take_lock(directory, "mmflow clean", None if silent > _SURELY_DEAD_SECONDS else Watch())
    except (HeldError, FileNotFoundError):
        return None
    try:
        if directory.names("") == ["openings"]:  # another process has just removed it: only our lock is there
            remove_locked(directory, lock)
            return None
        if _ended(directory) != _ended_as_chosen(run) or directory.read(SUBMITTED) != submitted:
            return None
        staged = staging_folders(directory)
        nbytes = directory.usage() + sum(map(disk_usage, staged))
        for folder in staged:
            shutil.rmtree(folder, ignore_errors=True)
        remove_locked(directory, lock)
        return nbytes
    finally:
        lock.release()


def staging_folders(directory: RunDirectory) -> list[str]:
    """Return the local folders of staged files that an ended run has kept to be resumed, beside its destinations."""
    facts = directory.read_object(FACTS, FACTS_SHAPE)
    name = facts.get("staged_as") or directory.name
    own = re.compile(rf"\..*\.mmflow-{re.escape(name)}(\.\d+)?")
    parents: set[str] = set()
    destination = os.path.join(facts.get("folder") or "/", facts.get("destination") or "")
    if facts.get("destination") and "://" not in destination:
        parents.add(os.path.dirname(destination.rstrip("/")))
    for line in directory.read_lines(JOURNAL):
        try:
            fact = decode_line(line) or {}
        except ConfigError:  # it is of another version
            continue
        files = fact.get("files", ()) if fact.get("kind") == "task" else ()  # a commit has their number there
        for staged, *_ in files:
            parts = str(staged).split("/")
            parents |= {"/".join(parts[:n]) or "/" for n, part in enumerate(parts) if own.fullmatch(part)}
    found = []
    for parent in parents:
        with contextlib.suppress(OSError):
            found += [e.path for e in os.scandir(parent) if own.fullmatch(e.name) and _is_own_folder(e)]
    return found


def _is_own_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.getuid()


def _ended(directory: RunDirectory) -> float | None:
    """Return when the last driver recorded the end of the run; None if it has not."""
    ended = directory.read_object(SUMMARY, SUMMARY_SHAPE).get("ended")
    return None if ended is None else float(ended)


def _ended_as_chosen(run: RunState) -> float | None:
    return None if run.state in ("died", QUERY) else run.ended


def sweep_removed(runs_dir: str) -> None:
    """Remove what is left of folders whose removal was broken off."""
    if "://" in runs_dir:
        return
    for name in RunDirectory(runs_dir, "").names(""):
        path = os.path.join(runs_dir, name)
        if name.startswith(REMOVED) and os.lstat(path).st_uid == os.getuid():
            shutil.rmtree(path, ignore_errors=True)


def check_ended(run: RunState) -> None:
    """Check that a run that is to be removed by its name has ended.

    Raises:
        EngineError: It has not.
    """
    if run.state not in (*ENDED, QUERY):
        raise EngineError(
            f"run {run.run} is {run.state}; stop it first: mmflow cancel {run.run}", run=run.run
        )

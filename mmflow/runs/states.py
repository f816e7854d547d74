"""What can be said about a run from its folder, by anybody who may read it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

from mmflow.errors import ConfigError, EngineError
from mmflow.runs.backends import Told, backend_of
from mmflow.runs.directory import RunDirectory
from mmflow.runs.lock import driver_lives
from mmflow.runs.recorded import FACTS, SUMMARY
from mmflow.runs.recorder import EVENTS

__all__ = ["SUBMITTED", "EventFeed", "RunState", "all_runs", "open_run", "state_of"]

SUBMITTED = "submitted.json"
#: Without a lock to look at, a run whose last event is older is taken to be dead.
_SILENT_SECONDS = 60.0
#: A submitted run may take so long until its driver says its first word.
_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class RunState:
    """A run, as far as its folder tells.

    Attributes:
        run: Its name.
        state: submitted (not begun), running, done, failed, cancelled, died (its driver is gone: it can be resumed),
            unknown (where it was submitted to can't be reached).
        job: Path of its job.
        name: Of the job.
        engine: local, ray or dask.
        backend: Where it was submitted to; None: it was run in the foreground.
        started: ISO 8601, UTC.
        seconds: Of the last opening, so far.
        rows, bytes_done, bytes_total, bad: So far.
        destination: Where it writes.
        error: Why it failed: `class` and `message`.
        waits: Why it has not begun, if that is known.
    """

    run: str
    state: str
    job: str | None = None
    name: str | None = None
    engine: str | None = None
    backend: str | None = None
    started: str | None = None
    seconds: float | None = None
    rows: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    bad: int = 0
    destination: str | None = None
    error: dict[str, str] | None = None
    waits: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def open_run(runs_dir: str, name: str) -> RunDirectory:
    """The folder of a run; the beginning of a name will do, if only one run begins so.

    Raises:
        ConfigError: There is none, or several.
    """
    directory = RunDirectory(runs_dir, name)
    if "/" in name or not name:
        raise ConfigError(f"{name!r} is not the name of a run; see mmflow list")
    if any(directory.exists(known) for known in (FACTS, SUBMITTED)):
        return directory
    found = [n for n in _names(runs_dir) if n.startswith(name)]
    if len(found) != 1:
        what = f"{len(found)} runs begin with {name!r}" if found else f"there is no run {name}"
        raise ConfigError(f"{what} in {runs_dir}; see mmflow list")
    return RunDirectory(runs_dir, found[0])


def _names(runs_dir: str) -> list[str]:
    parent, name = os.path.split(runs_dir.rstrip("/"))
    return RunDirectory(parent, name).names("")


def all_runs(runs_dir: str) -> list[RunState]:
    """All runs, the latest last."""
    found = []
    for name in _names(runs_dir):
        directory = RunDirectory(runs_dir, name)
        if any(directory.exists(known) for known in (FACTS, SUBMITTED)):
            try:
                found.append(state_of(directory))
            except (
                EngineError
            ) as error:  # one cluster that can't be reached is no reason to hide all other runs
                told = {"class": type(error).__name__, "message": str(error)}
                found.append(RunState(name, "unknown", error=told))
    return sorted(found, key=lambda s: (s.started or "", s.run))


def _plain(directory: RunDirectory, name: str) -> dict[str, Any]:
    """A JSON file of the folder; empty if it is missing or damaged."""
    try:
        made = json.loads(directory.read(name) or "{}")
    except ValueError:
        return {}
    return made if isinstance(made, dict) else {}


def state_of(directory: RunDirectory, feed: EventFeed | None = None) -> RunState:
    """What a run does, or did.

    Args:
        directory: Its folder.
        feed: Its events, for who looks again and again; new ones are taken in.
    """
    facts, summary = _plain(directory, FACTS), _plain(directory, SUMMARY)
    submitted = _plain(directory, SUBMITTED)
    lives = driver_lives(directory)
    ended = bool(summary) and not lives
    there = _there(submitted, directory) if submitted and not ended else None  # which may bring events
    if feed is None:
        feed = EventFeed(directory)
    else:
        feed.more()
    progress = feed.last("progress") or {}
    known: dict[str, Any] = {
        "run": directory.name,
        "job": facts.get("job") or submitted.get("job"),
        "name": facts.get("name"),
        "engine": facts.get("engine") or submitted.get("engine"),
        "backend": submitted.get("backend"),
        "started": facts.get("started") or submitted.get("at"),
        "destination": facts.get("destination"),
        "bytes_done": progress.get("bytes_done", 0),
        "bytes_total": progress.get("bytes_total", 0),
    }
    if ended:
        counts: dict[str, Any] = {k: summary.get(k) or 0 for k in ("rows", "bad")}
        error = summary.get("error")
        return RunState(
            state=summary["state"], seconds=summary.get("seconds"), error=error, **counts, **known
        )
    counts = {k: progress.get(k, 0) for k in ("rows", "bad")}
    started = feed.last("run_started")
    seconds = None if started is None else round(time.time() - started["t"], 3)
    if there is not None:
        return _as_told(there, seconds, counts, known)
    if lives is None:
        lives = bool(feed.latest) and time.time() - feed.latest["t"] < _SILENT_SECONDS
    if lives:
        return RunState(state="running", seconds=seconds, **counts, **known)
    if submitted and _waits(submitted, started):
        return RunState(state="submitted", **counts, **known)
    told = None
    if submitted and started is None:
        told = {"class": "EngineError", "message": f"it never began; see mmflow logs {directory.name}"}
    return RunState(state="died", error=told, **counts, **known)


def _there(submitted: dict[str, Any], directory: RunDirectory) -> Told | None:
    """What the place that it was submitted to says, if that is more than its folder does."""
    return backend_of(submitted["backend"]).told(submitted["handle"], directory)


def _as_told(there: Told, seconds: float | None, counts: dict[str, Any], known: dict[str, Any]) -> RunState:
    if there.summary is not None:
        counts = {k: there.summary.get(k) or 0 for k in ("rows", "bad")}
        seconds = there.summary.get("seconds", seconds)
    waits = there.message if there.state in ("submitted", "running") else None
    error = None if there.summary is None else there.summary.get("error")
    if error is None and there.state in ("failed", "died") and there.message is not None:
        error = {"class": "EngineError", "message": there.message}
    return RunState(state=there.state, seconds=seconds, error=error, waits=waits, **counts, **known)


def _waits(submitted: dict[str, Any], started: dict[str, Any] | None) -> bool:
    """Has a run that was submitted not begun yet?"""
    if started is not None and started["t"] >= submitted.get("t", 0.0):
        return False
    try:
        alive = backend_of(submitted["backend"]).alive(submitted["handle"])
    except ConfigError:
        alive = None
    return bool(time.time() - submitted["t"] < _START_SECONDS if alive is None else alive)


class EventFeed:
    """The events of a run, and what was added since one last looked."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._read: dict[str, int] = {}
        self.events: list[dict[str, Any]] = []
        self.more()

    def more(self) -> list[dict[str, Any]]:
        """All events so far, the new ones taken in."""
        self.events += (e for e in self._directory.read_facts(EVENTS, self._read) if "event" in e)
        return self.events

    @property
    def latest(self) -> dict[str, Any]:
        """The last event; empty: there is none."""
        return self.events[-1] if self.events else {}

    def last(self, kind: str) -> dict[str, Any] | None:
        """The last event of this kind."""
        return next((e for e in reversed(self.events) if e["event"] == kind), None)

"""States of runs, from their folders and backends."""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mmflow.errors import ConfigError, EngineError
from mmflow.lazy.dataclasses import dataclass
from mmflow.runs.directory import RunDirectory
from mmflow.runs.lock import is_driver_alive
from mmflow.runs.quarantine import is_quarantine
from mmflow.runs.recorded_run import FACTS, FACTS_SHAPE, SUBMITTED, SUMMARY, SUMMARY_SHAPE
from mmflow.runs.recorder import EVENT_SHAPE, EVENTS
from mmflow.storage.facts import is_moment, is_time, optional
from mmflow.submit.base import BackendStatus, open_backend

__all__ = [
    "ENDED",
    "QUERY",
    "EventFeed",
    "RunState",
    "all_runs",
    "open_run",
    "read_submitted",
    "run_state",
]

_SUBMITTED = {
    "backend": str, "handle": {}, "t": is_moment,
    "at": optional(is_time), "job": optional(str), "engine": optional(str),
}  # fmt: skip
#: States in which a run is over; it can be resumed.
ENDED = ("done", "failed", "cancelled", "died")
#: State of a folder that a query from Python left, because it had bad records.
QUERY = "query"
#: Without a lock, a run whose last event is older counts as dead, in seconds.
_SILENT_SECONDS = 60.0
#: Share of the work of a run that has not ended, at most.
_MOST_FRACTION = 0.99
#: Code of a submitted run that has no error of its own.
_NO_START = "MMF-ENG-013"
#: Limit of the time between a submission and the driver's first event, in seconds.
_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class RunState:
    """State of a run.

    Attributes:
        run: Name of the run.
        state: submitted (not started), running, done, failed, cancelled, died (its driver is dead; it can be resumed),
            unknown (its backend can't be reached), query (no run: bad records of a query from Python).
        job: Path of its job file.
        name: Name of the job.
        engine: local, ray or dask.
        backend: Backend that it was submitted to; None: it runs in the foreground.
        started: ISO 8601, UTC.
        ended: Time of its last sign of life, in seconds since 1970, if it is over.
        seconds: Duration of the last opening so far.
        rows, bytes_done, bytes_total, bad, skipped: Counts so far.
        fraction: Share of the work that is done, estimated, of a run that is running.
        destination: Destination of its output.
        error: Error of a failed run: `class`, `code` and `message`.
        waits: Reason why it has not started, if known.
    """

    run: str
    state: str
    job: str | None = None
    name: str | None = None
    engine: str | None = None
    backend: str | None = None
    started: str | None = None
    ended: float | None = None
    seconds: float | None = None
    rows: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    bad: int = 0
    skipped: int = 0
    fraction: float | None = None
    destination: str | None = None
    error: dict[str, str] | None = None
    waits: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the state as a JSON object."""
        return asdict(self)


def open_run(runs_dir: str, name: str) -> RunDirectory:
    """Return the folder of a run, by its name or an unambiguous beginning of it.

    Raises:
        ConfigError: There is no such run, or several match.
    """
    directory = RunDirectory(runs_dir, name)
    if "/" in name or not name:
        raise ConfigError(f"{name!r} is not the name of a run; see mmflow list", code="MMF-CFG-003")
    if any(directory.exists(known) for known in (FACTS, SUBMITTED)):
        return directory
    found = [n for n in _names(runs_dir) if n.startswith(name)]
    if len(found) != 1:
        what = f"{len(found)} runs begin with {name!r}" if found else f"there is no run {name}"
        raise ConfigError(f"{what} in {runs_dir}; see mmflow list", code="MMF-CFG-003")
    return RunDirectory(runs_dir, found[0])


def _names(runs_dir: str) -> list[str]:
    return [name for name in RunDirectory(runs_dir, "").names("") if not name.startswith(".")]


def all_runs(runs_dir: str) -> list[RunState]:
    """Return the states of all runs, and of queries that left bad records, the newest first."""
    found = []
    for name in _names(runs_dir):
        directory = RunDirectory(runs_dir, name)
        if any(directory.exists(known) for known in (FACTS, SUBMITTED)):
            try:
                found.append(run_state(directory))
            except EngineError as error:  # one unreachable cluster must not hide all other runs
                facts = {"class": type(error).__name__, "code": error.code, "message": str(error)}
                found.append(RunState(name, "unknown", error=facts))
        elif (files := directory.names("")) and all(map(is_quarantine, files)):  # of no other program
            ended = max(directory.modified(name) for name in files)
            started = dt.datetime.fromtimestamp(ended, dt.UTC).isoformat(timespec="seconds")
            found.append(RunState(name, QUERY, started=started, ended=ended))
    return sorted(found, key=lambda s: (s.started or "", s.ended or math.inf, s.run), reverse=True)


def read_submitted(directory: RunDirectory) -> dict[str, Any]:
    """Return where a run was submitted to; empty if it runs in the foreground, or its file is damaged.

    Raises:
        EngineError: The file can't be read.
    """
    return directory.read_object(SUBMITTED, _SUBMITTED)


def run_state(directory: RunDirectory, feed: EventFeed | None = None) -> RunState:
    """Return the state of a run.

    Args:
        directory: Folder of the run.
        feed: Its events, for repeated calls; new ones are added.
    """
    facts = directory.read_object(FACTS, FACTS_SHAPE)
    summary = directory.read_object(SUMMARY, SUMMARY_SHAPE)
    submitted = read_submitted(directory)
    alive = is_driver_alive(directory)
    ended = bool(summary) and not alive
    # Before the events are read, since the backend may add some.
    status = _backend_status(submitted, directory) if submitted and not ended else None
    if feed is not None:
        feed.more()
    elif not ended:  # else summary.json has all that is needed
        feed = EventFeed(directory)
    progress = (feed and feed.last("progress")) or {}
    known: dict[str, Any] = {
        "run": directory.name,
        "job": facts.get("job") or submitted.get("job"),
        "name": facts.get("name"),
        "engine": facts.get("engine") or submitted.get("engine"),
        "backend": submitted.get("backend"),
        "started": facts.get("started") or submitted.get("at"),
        "destination": facts.get("destination"),
    }
    if ended:
        return RunState(
            state=summary["state"], seconds=summary.get("seconds"), error=summary.get("error"),
            ended=summary.get("ended"), **_counts(summary), **known,
        )  # fmt: skip
    assert feed is not None  # the run has not ended
    counts = _counts(progress)
    started = feed.last("run_started")
    seconds = None if started is None else round(time.time() - started["t"], 3)
    # A further plan may follow one that has ended.
    fraction = min(float(progress.get("fraction") or 0.0), _MOST_FRACTION)
    if status is not None:
        known["fraction"] = fraction if status.state == "running" else None
        return _state_from_backend(status, seconds, counts, known)
    if alive is None:
        alive = bool(feed.latest) and time.time() - feed.latest["t"] < _SILENT_SECONDS
    if alive:
        return RunState(state="running", seconds=seconds, fraction=fraction, **counts, **known)
    if submitted and _is_waiting(submitted, started):
        return RunState(state="submitted", **counts, **known)
    error = None
    if submitted and started is None:
        message = f"it never started; see mmflow logs {directory.name}"
        error = {"class": "EngineError", "code": _NO_START, "message": message}
    ended_at = feed.latest.get("t") or submitted.get("t")
    return RunState(state="died", error=error, ended=ended_at, **counts, **known)


def _counts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of a `progress` event, or of summary.json."""
    return {k: int(facts.get(k) or 0) for k in ("rows", "bytes_done", "bytes_total", "bad", "skipped")}


def _backend_status(submitted: dict[str, Any], directory: RunDirectory) -> BackendStatus | None:
    """Return the status from the backend that the run was submitted to, if it knows more than the folder."""
    return open_backend(submitted["backend"]).status(submitted["handle"], directory)


def _state_from_backend(
    status: BackendStatus, seconds: float | None, counts: dict[str, Any], known: dict[str, Any]
) -> RunState:
    if status.summary is not None:
        counts = _counts(status.summary)
        seconds = status.summary.get("seconds", seconds)
    waits = status.message if status.state in ("submitted", "running") else None
    error = None if status.summary is None else status.summary.get("error")
    if error is None and status.state in ("failed", "died") and status.message is not None:
        error = {"class": "EngineError", "code": _NO_START, "message": status.message}
    ended = None if status.summary is None else status.summary.get("ended")
    return RunState(
        state=status.state, seconds=seconds, ended=ended, error=error, waits=waits, **counts, **known
    )


def _is_waiting(submitted: dict[str, Any], started: dict[str, Any] | None) -> bool:
    """Return whether a submitted run has not started yet."""
    if started is not None and started["t"] >= submitted.get("t", 0.0):
        return False
    try:
        alive = open_backend(submitted["backend"]).is_alive(submitted["handle"])
    except ConfigError:
        alive = None
    return bool(time.time() - submitted["t"] < _START_SECONDS if alive is None else alive)


class EventFeed:
    """Events of a run, with those added since the last read."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._read: dict[str, int] = {}
        self.events: list[dict[str, Any]] = []
        self.more()

    def more(self) -> list[dict[str, Any]]:
        """Return all events so far, after reading new ones."""
        self.events += self._directory.read_facts(EVENTS, EVENT_SHAPE, self._read)
        return self.events

    @property
    def latest(self) -> dict[str, Any]:
        """Last event; empty if there is none."""
        return self.events[-1] if self.events else {}

    def last(self, kind: str) -> dict[str, Any] | None:
        """Return the last event of this kind."""
        return next((e for e in reversed(self.events) if e["event"] == kind), None)

"""A recorded run from its first moment to its last: folder, lock, what was asked for, how it ended.

with RecordedRun.begin(...) as run:      or RecordedRun.resume(...)
    session.recorder = run.recorder
    ...
    run.done(summary)                    else it failed, or was cancelled, by the error that left the block
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import socket
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from mmflow.config import Settings
from mmflow.errors import CancelledError, ConfigError, EngineError, MmflowError
from mmflow.exec.fingerprint import computing
from mmflow.runs.directory import RunDirectory
from mmflow.runs.lock import DriverLock
from mmflow.runs.quarantine import read_quarantine
from mmflow.runs.recorder import BLOCKS, CANCEL, EVENTS, JOURNAL, SOURCES, RunRecorder
from mmflow.runs.redact import HIDDEN, Redactor
from mmflow.runs.report import report_html

__all__ = ["FACTS", "SUMMARY", "RecordedRun", "base_settings", "given_again", "load_facts", "write_report"]

_log = logging.getLogger(__name__)

FACTS, SUMMARY, REPORT = "run.json", "summary.json", "report.html"
_VERSION = 1
#: What a run that goes on may have different from before: how and where it runs, not what its plan is cut into.
_FREE = {"runs_dir", "metrics", "resumable"}


class RecordedRun:
    """One opening of a run; a context manager that says how it ended.

    Attributes:
        directory: Its folder.
        facts: run.json.
        recorder: For `execute`.
    """

    def __init__(
        self,
        directory: RunDirectory,
        lock: DriverLock,
        facts: dict[str, Any],
        settings: Settings,
        redactor: Redactor,
    ) -> None:
        self.directory = directory
        self.facts = facts
        self._lock = lock
        self._redactor = redactor
        self._began = time.monotonic()
        self._ended = False
        self.opening = _openings(directory)
        directory.claim(f"openings/{self.opening:06}")
        self._metrics = None
        if settings.metrics is not None:
            from mmflow.runs.metrics import open_metrics  # noqa: PLC0415  (a package that is optional)

            labels = {"run": directory.name, "job": str(facts.get("name") or "")}
            self._metrics = open_metrics(settings.metrics, labels)
        self.recorder = RunRecorder(directory, self.opening, self._redactor, resumable=settings.resumable)
        if self._metrics is not None:
            self.recorder.on_progress = self._metrics.update
        self.recorder.event(
            "run_started",
            run=directory.name,
            opening=self.opening,
            job=facts.get("job"),
            engine=settings.engine,
            memory=settings.memory,
            host=socket.gethostname(),
            pid=os.getpid(),
        )
        if self.recorder.damaged:
            lines = f"{self.recorder.damaged} damaged lines of the journal were left out"
            self.recorder.event("warning", message=f"{lines}: their tasks are run again")

    @classmethod
    def begin(cls, name: str, settings: Settings, facts: Mapping[str, Any]) -> Self:
        """Begin a run.

        Args:
            name: Its name: letters, digits, `-`, `_`, `.`.
            settings: Its settings; `runs_dir` is where its folder is made.
            facts: What was asked for: `job`, `name`, `parameters`, `command`, `destination`.

        Raises:
            EngineError: The folder can't be made, or the run is there.
        """
        directory = RunDirectory(settings.runs_dir, name)
        directory.make()
        lock = DriverLock(directory)
        try:
            if directory.exists(FACTS):
                raise EngineError(
                    f"run {name} is there already; go on with it: mmflow run --resume {name}", run=name
                )
            now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            redactor = Redactor(parameters=facts.get("parameters"))
            plain = redactor.data({"settings": settings.plain(), **facts})
            made = {"v": _VERSION, "run": name, "versions": list(computing()), "started": now, **plain}
            directory.write(FACTS, json.dumps(made, indent=1, default=str) + "\n")
            return cls(directory, lock, made, settings, redactor)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def resume(cls, name: str, settings: Settings, parameters: Mapping[str, Any] | None = None) -> Self:
        """Go on with a run, whose driver is dead.

        Args:
            name: The run's.
            settings: Its settings.
            parameters: The job's: secrets among them are given again.

        Raises:
            ConfigError: There is no such run.
            EngineError: Its driver lives, or its folder can't be used.
        """
        directory = RunDirectory(settings.runs_dir, name)
        facts = load_facts(directory)
        lock = DriverLock(directory)
        try:
            directory.remove(SUMMARY)
            directory.remove(CANCEL)
            return cls(directory, lock, facts, settings, Redactor(parameters=parameters))
        except BaseException:
            lock.release()
            raise

    # ---- ends --------------------------------------------------------------------------------------

    def done(self, summary: Mapping[str, Any]) -> None:
        """The run reached its end: what its tasks kept is not needed any more."""
        self._end("done", summary, None)
        self.directory.remove(BLOCKS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._redactor.error(error)  # before anybody prints it
            if not self._ended:
                cancelled = isinstance(error, CancelledError | KeyboardInterrupt | SystemExit)
                with contextlib.suppress(EngineError):  # a full disk is what `error` says, better
                    self._end("cancelled" if cancelled else "failed", {}, error)
        finally:
            with contextlib.suppress(EngineError):
                self.recorder.close()
            if self._metrics is not None:
                self._metrics.close()
            self._lock.release()

    def _end(self, state: str, summary: Mapping[str, Any], error: BaseException | None) -> None:
        self._ended = True
        told = (
            None
            if error is None
            else {"class": type(error).__name__, "message": self._redactor.text(_message(error))}
        )
        progress = self.recorder.progress
        counts = {
            "seconds": round(time.monotonic() - self._began, 3),
            # Of an array, rows of the plan are not those of the array.
            "rows": int(summary.get("rows") or (progress.rows if progress else 0)),
            "records": progress.records if progress else 0,
            "bad": progress.bad if progress else 0,
        }
        self.recorder.event("run_ended", state=state, error=told, **counts)
        self.recorder.close()
        made = {
            "v": _VERSION,
            "state": state,
            "opening": self.opening,
            "error": told,
            **counts,
            "summary": dict(summary),
        }
        text = json.dumps(self._redactor.data(made), indent=1, default=str)
        self.directory.write(SUMMARY, text + "\n")
        try:
            write_report(self.directory)
        except Exception as error:  # noqa: BLE001  (how a run ended does not depend on its report)
            _log.warning("no report.html: %s", _message(error))


def write_report(directory: RunDirectory) -> None:
    """Write `report.html` from what the run's folder holds.

    Raises:
        EngineError: No room.
    """
    facts = load_facts(directory)
    facts["sources"] = [json.loads(line) for line in (directory.read(SOURCES) or "").splitlines()]
    rejects = read_quarantine(directory)
    events = directory.read_facts(EVENTS)
    directory.write(REPORT, report_html(facts, events, directory.read("plan.txt") or "", rejects))


def _message(error: BaseException) -> str:
    if isinstance(error, MmflowError):
        return str(error)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "interrupted by a signal"
    return f"{type(error).__name__}: {error}"


def _openings(directory: RunDirectory) -> int:
    """How often a driver of this run started before."""
    names = directory.names(JOURNAL) + directory.names("events")
    return 1 + max((int(name[:6]) for name in names if name[:6].isdigit()), default=-1)


def load_facts(directory: RunDirectory) -> dict[str, Any]:
    """What was asked for: run.json.

    Raises:
        ConfigError: There is no such run, or its file is damaged, or another version's.
        EngineError: It is another user's.
    """
    directory.check()
    text = directory.read(FACTS)
    if text is None:
        raise ConfigError(
            f"there is no run {directory.name} in {os.path.dirname(directory.url)}; see mmflow list"
        )
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{directory.path(FACTS)} is damaged: {error}") from error
    if not isinstance(facts, dict) or facts.get("v") != _VERSION:
        raise ConfigError(f"run {directory.name} was made by another version of mmflow")
    return facts


def base_settings(facts: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run as the base for going on with it (`Settings.load`).

    Raises:
        ConfigError: One had a secret, which is not kept, and no flag gives it again.
    """
    base = {k: v for k, v in facts.get("settings", {}).items() if k not in _FREE and v is not None}
    hidden = [k for k, v in base.items() if HIDDEN in str(v)]
    _ask_for(k for k in hidden if flags.get(k) is None)
    return {k: v for k, v in base.items() if k not in hidden}


def given_again(facts: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The job's parameters of a run that goes on: as they were, or as they are given now.

    Raises:
        ConfigError: One was a secret, which is not kept: it must be given again.
    """
    recorded = facts.get("parameters", {})
    _ask_for(n for n, v in recorded.items() if n not in values and HIDDEN in str(v))
    return {**recorded, **values}


def _ask_for(secrets: Iterable[str]) -> None:
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in secrets)
    if flags:
        raise ConfigError(f"secrets are not kept with a run: give {flags} again")

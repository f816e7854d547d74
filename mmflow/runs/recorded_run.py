"""Recorded run from start to end: folder, lock, parameters, outcome.

with RecordedRun.begin(...) as run:      or RecordedRun.resume(...)
    session = Session.recorded(settings, run.recorder)
    ...
    run.done(summary)                    otherwise the error that left the block says whether it failed or was cancelled
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import socket
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from mmflow.config import Settings
from mmflow.errors import (
    CancelledError,
    ConfigError,
    EngineError,
    MmflowError,
    SourceError,
    UserFunctionError,
)
from mmflow.plan.fingerprint import computing
from mmflow.runs.directory import RunDirectory
from mmflow.runs.lock import RunLock, lock_run, opening_of
from mmflow.runs.quarantine import read_quarantine
from mmflow.runs.recorder import (
    BLOCKS,
    CANCEL,
    EVENT_SHAPE,
    EVENTS,
    JOURNAL,
    SOURCES,
    RunRecorder,
    read_sources,
)
from mmflow.runs.redaction import HIDDEN, Redactor
from mmflow.runs.report.page import report_html
from mmflow.storage import clock, format_versions
from mmflow.storage.facts import check_shape, is_moment, is_number, is_time, optional, parse_object

__all__ = [
    "FACTS",
    "FACTS_SHAPE",
    "SUBMITTED",
    "SUMMARY",
    "SUMMARY_SHAPE",
    "RecordedRun",
    "load_facts",
    "merge_parameters",
    "resumed_settings",
    "write_report",
]

_log = logging.getLogger(__name__)

FACTS, SUMMARY, REPORT, SUBMITTED = "run.json", "summary.json", "report.html", "submitted.json"
#: What is read of run.json and summary.json, by those who resume a run, list it, or show it.
FACTS_SHAPE = {
    "job": optional(str), "name": optional(str), "engine": optional(str), "started": optional(is_time),
    "destination": optional(str), "folder": optional(str), "staged_as": optional(str), "code": optional(str),
    "settings": optional({}), "parameters": optional({}), "output": optional({}), "named_sources": optional({}),
}  # fmt: skip
SUMMARY_SHAPE = {
    "state": str, "opening": optional(int), "ended": optional(is_moment), "seconds": optional(is_number),
    "error": optional({"class": str, "code": optional(str), "message": str, "traceback": optional(str)}),
    "summary": optional({}),
    **dict.fromkeys(("bytes_done", "bytes_total", "rows", "records", "bad", "repaired", "skipped"), optional(int)),
}  # fmt: skip
#: Counts of `Progress` that the end of a run states.
_COUNTS = ("bytes_done", "bytes_total", "rows", "records", "bad", "repaired", "skipped")
#: Settings that may differ when a run is resumed, since they don't affect its tasks.
_CHANGEABLE_SETTINGS = {"runs_dir", "metrics", "resumable"}


class RecordedRun:
    """Context manager of one opening of a run; its exit records how the run ended.

    Attributes:
        directory: Folder of the run.
        facts: Content of run.json.
        recorder: Recorder for `execute`.
    """

    def __init__(
        self,
        directory: RunDirectory,
        lock: RunLock,
        facts: dict[str, Any],
        settings: Settings,
        redactor: Redactor,
    ) -> None:
        self.directory = directory
        self.facts = facts
        self._lock = lock
        self._redactor = redactor
        self._began = clock.monotonic()
        self._ended = False
        self.opening = _openings(directory)
        self._metrics = None
        if settings.metrics is not None:
            from mmflow.runs.metrics import open_metrics  # noqa: PLC0415  (a package that is optional)

            labels = {"run": directory.name, "job": str(facts.get("name") or "")}
            self._metrics = open_metrics(settings.metrics, labels)
        self.recorder = RunRecorder(
            directory,
            self.opening,
            self._redactor,
            staged_as=facts.get("staged_as"),
            resumable=settings.resumable,
        )
        if self._metrics is not None:
            self.recorder.on_progress = self._metrics.update
        self._traces = None
        if any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ):
            from mmflow.runs.traces import open_traces  # noqa: PLC0415  (runs without traces need none of it)

            self._traces = open_traces()
        if self._traces is not None:
            self.recorder.on_event = self._traces.event
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
            lines = f"{self.recorder.damaged} damaged lines of the journal were ignored"
            self.recorder.event("warning", message=f"{lines}: their tasks are rerun")

    @classmethod
    def begin(
        cls, name: str, settings: Settings, facts: Mapping[str, Any], lock: RunLock | None = None
    ) -> Self:
        """Start a new run.

        Args:
            name: Name of the run: letters, digits, `-`, `_`.
            settings: Settings of the run; its folder is created in `runs_dir`.
            facts: Facts about the run: `job`, `name`, `parameters`, `command`, `destination`. `staged_as`: the name of
                its staging files and commits, where another run may have had `name` before.
            lock: Lock of the run, if it is held already.

        Raises:
            EngineError: The folder can't be created, or the run exists.
        """
        directory = RunDirectory(settings.runs_dir, name)
        directory.make()
        lock = lock or lock_run(directory)
        try:
            if directory.exists(FACTS):
                raise EngineError(
                    f"run {name} exists already; resume it: mmflow run --resume {name}", run=name
                )
            _forget_lost_run(directory)
            now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            redactor = Redactor(parameters=facts.get("parameters"))
            plain = redactor.data({"settings": settings.plain(), **facts})
            content = {
                "v": format_versions.RUN.version,
                "run": name,
                "versions": list(computing()),
                "started": now,
                **plain,
            }
            directory.write(FACTS, json.dumps(content, indent=1, default=str) + "\n", sync=True)
            return cls(directory, lock, content, settings, redactor)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def resume(
        cls,
        name: str,
        settings: Settings,
        parameters: Mapping[str, Any] | None = None,
        lock: RunLock | None = None,
        *,
        code: str | None = None,
    ) -> Self:
        """Resume a run whose driver is dead.

        Args:
            name: Name of the run.
            settings: Settings of the run.
            parameters: Parameters of the job, with the secrets among them. None: those that are recorded.
            lock: Lock of the run, if it is held already.
            code: Digest of the code of the job, which may have been corrected since. None: as recorded.

        Raises:
            ConfigError: There is no such run.
            EngineError: Its driver is alive, or its folder can't be used.
        """
        directory = RunDirectory(settings.runs_dir, name)
        if lock is None:
            load_facts(directory)  # before a lock file is created in a folder that is no run
            lock = lock_run(directory)
        try:
            facts = load_facts(directory)
            redactor = Redactor(parameters=parameters)
            shown = redactor.data(dict(parameters)) if parameters is not None else facts.get("parameters")
            now = {"parameters": shown, "code": code or facts.get("code")}
            if any(facts.get(name) != value for name, value in now.items()):
                facts.update(now)
                directory.write(FACTS, json.dumps(facts, indent=1, default=str) + "\n", sync=True)
            directory.remove(SUMMARY)
            directory.remove(CANCEL)
            return cls(directory, lock, facts, settings, redactor)
        except BaseException:
            lock.release()
            raise

    # ---- ends --------------------------------------------------------------------------------------

    def done(self, summary: Mapping[str, Any]) -> None:
        """Record the successful end, and delete the checkpoints."""
        if self._end("done", summary, None):
            self.directory.remove(BLOCKS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._redactor.error(error)  # before it is printed
            if not self._ended:
                cancelled = isinstance(error, CancelledError | KeyboardInterrupt | SystemExit)
                with contextlib.suppress(EngineError):  # `error` describes a full disk better
                    self._end("cancelled" if cancelled else "failed", {}, error)
        finally:
            with contextlib.suppress(EngineError):
                self.recorder.close()
            if self._metrics is not None:
                self._metrics.close()
            if self._traces is not None:
                self._traces.close()
            self._lock.release()

    def _end(self, state: str, summary: Mapping[str, Any], error: BaseException | None) -> bool:
        """Record the end; return False if that is no longer this process's to say."""
        self._ended = True
        error_facts = (
            None
            if error is None
            else {
                "class": type(error).__name__,
                "code": error.code if isinstance(error, MmflowError) else None,
                "message": self._redactor.text(_message(error)),
                "traceback": self._redactor.text(
                    error.traceback if isinstance(error, UserFunctionError) else ""
                ),
            }
        )
        counts = {
            "seconds": round(clock.monotonic() - self._began, 3),
            **{name: count for name, count in self.recorder.counts().items() if name in _COUNTS},
        }
        self.recorder.event("run_ended", state=state, error=error_facts, **counts)
        self.recorder.close()
        if not self._lock.held:
            name = self.directory.name
            _log.warning("run %s: another process took it over, and records how it ends", name)
            return False
        content = {
            "v": format_versions.RUN.version,
            "state": state,
            "opening": self.opening,
            "error": error_facts,
            "ended": clock.time(),
            **counts,
            "summary": dict(summary),
        }
        text = json.dumps(self._redactor.data(content), indent=1, default=str)
        self.directory.write(SUMMARY, text + "\n")
        try:
            write_report(self.directory)
        except Exception as error:  # noqa: BLE001  (a run's outcome does not depend on its report)
            _log.warning("no report.html: %s", _message(error))
        return True


def _forget_lost_run(directory: RunDirectory) -> None:
    """Remove what would end a run that begins: a power cut may take run.json of an earlier one, and leave these.

    One that was submitted may be cancelled before it begins. Objects get lost with no power cut.
    """
    if not directory.remote:
        for name in (SOURCES,) if directory.exists(SUBMITTED) else (SOURCES, CANCEL):
            if directory.exists(name):
                directory.remove(name)


def write_report(directory: RunDirectory) -> None:
    """Write `report.html` from the content of the run's folder.

    Raises:
        EngineError: No space.
    """
    facts = load_facts(directory)
    facts["sources"] = read_sources(directory)
    rejects = read_quarantine(directory)
    events = directory.read_facts(EVENTS, EVENT_SHAPE)
    directory.write(REPORT, report_html(facts, events, directory.read("plan.txt") or "", rejects))


def _message(error: BaseException) -> str:
    if isinstance(error, MmflowError):
        return str(error)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "interrupted by a signal"
    return f"{type(error).__name__}: {error}"


def _openings(directory: RunDirectory) -> int:
    """Return the number of earlier openings of this run."""
    names = directory.names(JOURNAL) + directory.names(EVENTS)
    logged = 1 + max((int(name[:6]) for name in names if name[:6].isdigit()), default=-1)
    return max(logged, opening_of(directory))  # a driver may have died before it wrote anything


def load_facts(directory: RunDirectory) -> dict[str, Any]:
    """Read the parameters of a run (run.json).

    Raises:
        ConfigError: There is no such run, or it is of another version.
        SourceError: Its file is damaged.
        EngineError: It belongs to another user.
    """
    directory.check()
    text = directory.read(FACTS)
    if text is None:
        raise ConfigError(
            f"there is no run {directory.name} in {os.path.dirname(directory.url)}; see mmflow list",
            code="MMF-CFG-003",
        )
    try:
        facts = parse_object(text, {})
        format_versions.RUN.check(facts.get("v"), ConfigError, directory.path(FACTS))
        return check_shape(facts, FACTS_SHAPE)
    except ValueError as error:
        raise SourceError(f"{directory.path(FACTS)} is damaged: {error}; start a new run") from error


def resumed_settings(facts: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run as the base for resuming it (`Settings.load`).

    Raises:
        ConfigError: One held a secret, which is not stored, and no flag provides it.
    """
    base = {
        k: v for k, v in facts.get("settings", {}).items() if k not in _CHANGEABLE_SETTINGS and v is not None
    }
    hidden = [k for k, v in base.items() if HIDDEN in str(v)]
    _require(k for k in hidden if flags.get(k) is None)
    return {k: v for k, v in base.items() if k not in hidden}


def merge_parameters(facts: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the job's parameters for a resumed run: the recorded ones, with those given now.

    Raises:
        ConfigError: One was a secret, which is not stored, and it is not given now.
    """
    recorded = facts.get("parameters", {})
    _require(n for n, v in recorded.items() if n not in values and HIDDEN in str(v))
    return {**recorded, **values}


def _require(secrets: Iterable[str]) -> None:
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in secrets)
    if flags:
        raise ConfigError(f"secrets are not stored with a run: give {flags} again", code="MMF-CFG-004")

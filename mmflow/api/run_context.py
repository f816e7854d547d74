"""Run contexts: what a session and its datasets share to run plans, resume, commit and report.

    Session --> RunContext <-- Dataset, map_array
                    |
                    +-- rows:   plan --> batches, quarantine, summary
                    +-- write:  plan --> prepare, run, quarantine, commit, summary

Invariant: threads may share a context. What belongs to a run stays with its call; the last run is kept for each thread.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datafusion import DataFrame

from mmflow.api.expressions.tree.called import CALLED
from mmflow.api.progress import Display, Ending, open_display
from mmflow.api.results import BadFilesWarning, BadRecordsWarning, RunSummary, WriteResult
from mmflow.config import Settings
from mmflow.engines.loop import Outcome, Run, execute
from mmflow.engines.opening import open_engine
from mmflow.errors import MmflowError
from mmflow.plan.catalog import Catalog
from mmflow.plan.planner import make_plan
from mmflow.plan.stages import Plan, Result, Write

if TYPE_CHECKING:
    from mmflow.api.destinations import Destination
    from mmflow.runs.directory import RunDirectory
    from mmflow.runs.recorder import RunRecorder
    from mmflow.scheduler.progress import Progress
    from mmflow.sinks import CommitResult

__all__ = ["ExplainedSignal", "RunContext"]


class ExplainedSignal(Exception):  # noqa: N818  (a signal, not an error)
    """Plan that would write, in a context that only explains."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan


class RunContext:
    """Settings, catalog and recorder of a session, and the runs of its plans. Thread-safe.

    Attributes
    ----------
    settings
        Settings of every run.
    catalog
        Planning catalog, with the sources and functions of the session.
    recorder
        Recorder of the one run that all plans belong to. None: runs are not recorded.
    sources
        Paths and options of files by their names in SQL (`[sources.NAME]` of the settings file).
    explaining
        Whether plans that write are not run, but raised in an `ExplainedSignal`.
    """

    def __init__(
        self,
        settings: Settings,
        on_progress: Callable[[Progress], None] | None = None,
        recorder: RunRecorder | None = None,
        sources: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        self.settings = settings
        self.catalog = Catalog()
        self.recorder = recorder
        self.sources = sources
        self.explaining = False
        self._on_progress = on_progress
        self._last_run: RunSummary | None = None
        self._last_plans: weakref.WeakKeyDictionary[threading.Thread, tuple[Plan, Progress]] = (
            weakref.WeakKeyDictionary()
        )
        self._last_runs: weakref.WeakKeyDictionary[threading.Thread, RunSummary] = weakref.WeakKeyDictionary()
        self._numbers = itertools.count()
        #: Quarantines of queries without a recorded run, by the digests of their content.
        self._quarantines: dict[bytes, str] = {}

    @property
    def last_run(self) -> RunSummary | None:
        """Summary of the last run that this thread asked for; if it asked for none, of the last run of any thread."""
        return self._last_runs.get(threading.current_thread(), self._last_run)

    def last_profile(self) -> str:
        """Return the profile of the last plan that was run for this thread; "" if none was."""
        last = self._last_plans.get(threading.current_thread())
        from mmflow.api.profile import profile  # noqa: PLC0415  (slow)

        return "" if last is None else profile(*last)

    @property
    def resumable(self) -> bool:
        """True if a run that fails keeps its finished tasks."""
        return self.recorder is not None and self.settings.resumable

    def new_run_name(self) -> str:
        """Return a name for a run; for further plans of a recorded run, its name for staging with a number."""
        if self.recorder is None:
            import uuid  # noqa: PLC0415  (slow)

            return uuid.uuid4().hex[:12]
        number = next(self._numbers)
        name = self.recorder.staged_as
        return f"{name}.{number}" if number else name

    def _folder_and_number(self, run: str) -> tuple[RunDirectory, str]:
        """Return the folder of a run, and the number of the plan among those of a recorded run; "" for the first."""
        if self.recorder is None:
            from mmflow.runs.directory import RunDirectory  # noqa: PLC0415  (slow)

            return RunDirectory(self.settings.runs_dir, run), ""
        return self.recorder.directory, run.removeprefix(self.recorder.staged_as).removeprefix(".")

    def _shown_name(self, run: str) -> str:
        """Return the name of a run for people, with the number of a further plan."""
        directory, number = self._folder_and_number(run)
        return f"{directory.name}.{number}" if number else directory.name

    def register_called(self) -> None:
        """Register the functions that expressions may hold."""
        for function in list(CALLED.values()):  # other threads may be calling further ones
            self.catalog.register_function(function)

    def plan(self, frame: DataFrame, output: Result | Write | None = None) -> Plan:
        """Return the physical plan of a frame. By default its rows are the result."""
        self.register_called()
        return make_plan(frame, self.catalog, settings=self.settings, output=output or Result())

    # ---- running --------------------------------------------------------------------------------

    def rows(self, plan: Plan, asked_by: threading.Thread) -> Iterator[pa.RecordBatch]:
        """Run a plan, and yield the batches of its result. Its end is the last run of the thread `asked_by`."""
        name = self.new_run_name()
        with self._displayed() as display, self._start(plan, name, display) as run:
            try:
                for batch in run:
                    if display is not None:
                        display.clear()
                    yield batch
            except MmflowError as error:
                self._write_quarantine(name, run.rejects)
                from mmflow.plan.proposals import raise_with_proposal  # noqa: PLC0415  (slow)

                raise_with_proposal(error, plan)
            outcome = run.outcome
            quarantine = self._write_quarantine(name, outcome.rejects)
        summary = RunSummary.of(
            self._shown_name(name),
            outcome.progress,
            quarantine=quarantine,
            reasons=outcome.reasons,
            skipped_files=_skipped(plan),
        )
        self._last_plans[asked_by] = plan.without_rows(), outcome.progress
        self._report(summary, asked_by)

    def write(self, plan: Plan, name: str, destination: Destination) -> WriteResult:
        """Run a plan that writes, and commit its output. What an earlier driver of the run committed is not run again.

        Raises
        ------
        ExplainedSignal
            The context only explains.
        MmflowError
            The run fails, or the destination refuses. Its content is as it was.
        """
        if self.explaining:
            raise ExplainedSignal(plan)
        recorder = self.recorder

        def note(done: CommitResult) -> None:
            if recorder is not None:
                recorder.record_commit(name, done)

        try:
            done = None if recorder is None else recorder.committed(name, destination.path)
            if done is not None:
                destination.sweep()
            else:
                destination.prepare()
                if destination.done:
                    done = destination.commit(None, note)
            if done is not None:
                summary = self._summary_before(name, done.rows)
            else:
                outcome, quarantine = self._run_to_end(plan, name, destination)
                if recorder is not None:
                    recorder.sync()
                done = destination.commit(outcome, note)
                self._last_plans[threading.current_thread()] = plan.without_rows(), outcome.progress
                summary = RunSummary.of(
                    self._shown_name(name),
                    outcome.progress,
                    quarantine=quarantine,
                    rows=done.rows,
                    reasons=outcome.reasons,
                    skipped_files=_skipped(plan),
                )
        finally:
            destination.abort()
        self._report(summary, threading.current_thread())
        return WriteResult(done.path, done.files, done.rows, done.nbytes, summary)

    def _start(self, plan: Plan, name: str, display: Display | None) -> Run:
        record = None if self.recorder is None else self.recorder.plan(name)
        from mmflow.plan.bad_files import skipped_files  # noqa: PLC0415  (slow)

        if record is not None and (bad := skipped_files(plan)):
            from mmflow.plan.bad_files import bad_files_message  # noqa: PLC0415  (slow)

            for each in bad:
                record.event("warning", message=bad_files_message([each]))
        listeners = [
            f for f in (self._on_progress, None if display is None else display.update) if f is not None
        ]

        def report(progress: Progress) -> None:
            for function in listeners:
                function(progress)

        return execute(
            plan,
            self.settings,
            open_engine,
            run=name,
            on_progress=report if listeners else None,
            record=record,
        )

    @contextmanager
    def _displayed(self) -> Iterator[Display | None]:
        """Give the display of a run, if it has one, and show how the run ends."""
        display = open_display()
        ending: Ending = "failed"
        try:
            yield display
            ending = "done"
        except KeyboardInterrupt:
            ending = "interrupted"
            raise
        except GeneratorExit:
            ending = "stopped"
            raise
        finally:
            if display is not None:
                display.close(ending)

    def _run_to_end(self, plan: Plan, name: str, destination: Destination) -> tuple[Outcome, str | None]:
        """Run a plan, and return its outcome and the path of its quarantine."""
        with self._displayed() as display, self._start(plan, name, display) as run:
            try:
                for batch in run:
                    destination.receive(batch)
                outcome = run.outcome
            except MmflowError as error:
                self._write_quarantine(name, run.rejects)
                from mmflow.plan.proposals import raise_with_proposal  # noqa: PLC0415  (slow)

                raise_with_proposal(error, plan)
        from mmflow.remote.opening import check_unchanged  # noqa: PLC0415  (slow)

        for entry in outcome.inputs:
            check_unchanged(entry.path, entry.identity, entry.storage)
        # Before the commit: a driver that dies after it has nothing left to do.
        return outcome, self._write_quarantine(name, outcome.rejects)

    # ---- reporting ------------------------------------------------------------------------------

    def _write_quarantine(self, run: str, rejects: Sequence[pa.RecordBatch]) -> str | None:
        if not rejects:
            return None
        directory, number = self._folder_and_number(run)
        from mmflow.runs.quarantine import pack_quarantine  # noqa: PLC0415  (slow)

        packed = pack_quarantine(rejects)
        from mmflow.runs.quarantine import write_quarantine  # noqa: PLC0415  (slow)

        if self.recorder is not None:
            directory.make()
            return write_quarantine(directory, number, packed)
        # A preview, a count and a write over one dirty file have the same bad records: a notebook left one copy of
        # them for each cell.
        import hashlib  # noqa: PLC0415  (slow: OpenSSL)

        digest = hashlib.blake2b(packed).digest()
        known = self._quarantines.get(digest)
        if known is None or not ("://" in known or os.path.exists(known)):
            directory.make()
            known = self._quarantines[digest] = write_quarantine(directory, number, packed)
        return known

    def _summary_before(self, run: str, rows: int) -> RunSummary:
        """Return the summary of a run that wrote its output before its driver died."""
        assert self.recorder is not None  # else no run is known from before
        directory, number = self._folder_and_number(run)
        from mmflow.runs.quarantine import quarantine_name  # noqa: PLC0415  (slow)

        name = quarantine_name(number)
        quarantine = directory.path(name) if directory.exists(name) else None
        return RunSummary.of(
            self._shown_name(run), self.recorder.restore_progress(run), quarantine=quarantine, rows=rows
        )

    def _report(self, summary: RunSummary, thread: threading.Thread) -> None:
        """Keep a summary as the last of a thread, and warn of bad records."""
        self._last_runs[thread] = summary
        self._last_run = summary
        if summary.bad_records or summary.repaired:
            warnings.warn(summary.bad_message(), BadRecordsWarning, stacklevel=_caller_level())
        if summary.skipped_files:
            warnings.warn(summary.skipped_message(), BadFilesWarning, stacklevel=_caller_level())


def _skipped(plan: Plan) -> tuple[tuple[str, str], ...]:
    from mmflow.plan.bad_files import skipped_files  # noqa: PLC0415  (slow)

    return tuple((each.path, each.reason) for each in skipped_files(plan))


def _caller_level() -> int:
    """Return the level of the first frame outside of mmflow, for a warning of the function that calls this one."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("mmflow."):
        frame, level = frame.f_back, level + 1
    return level

"""Recorder of a run: its journal, its events, and the state that a resumed run restores.

Attempts are numbered so that those of a driver differ from those of an earlier driver, whose tasks may still run:

    opening 0   0, 1, 2, ...            opening 1   100000, ...
      restarted in place  1000, ...       restarted in place  101000, ...
"""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from mmflow.blocks.checkpoints import read_checkpoint
from mmflow.blocks.references import CheckpointBlock
from mmflow.errors import BlockLostError, CancelledError, SourceChangedError
from mmflow.mapping.streams import STREAM_TAG
from mmflow.plan.explain import explain
from mmflow.plan.stages import ExchangeInput, Plan, ScanInput, Write
from mmflow.plan.tasks import Done
from mmflow.runs.directory import LogWriter, RunDirectory
from mmflow.runs.journal import Replay, encode_line, task_line
from mmflow.runs.redaction import Redactor
from mmflow.scheduler.progress import Progress, StageProgress, sum_counts
from mmflow.shards import FileEntry
from mmflow.sinks import CommitResult, StagedFile, staged_files
from mmflow.storage import clock, format_versions
from mmflow.storage.facts import is_moment, is_number, optional, parse_object

__all__ = [
    "BLOCKS",
    "CANCEL",
    "EVENTS",
    "EVENT_SHAPE",
    "JOURNAL",
    "SOURCES",
    "PlanRecorder",
    "RunRecorder",
    "read_sources",
]

JOURNAL, EVENTS, SOURCES, BLOCKS, CANCEL = "journal", "events", "sources.jsonl", "blocks", "cancel"
#: What is read of an event, and of an input in sources.jsonl.
EVENT_SHAPE = {
    "event": str, "t": is_moment, "fraction": optional(is_number),
    **dict.fromkeys(("rows", "bytes_done", "bytes_total", "records", "bad", "repaired", "skipped"), optional(int)),
}  # fmt: skip
_SOURCE = {"plan": int, "path": str, "size": int, "mtime_ns": int, "inode": int, "tag": optional(str)}
_ATTEMPTS_PER_OPENING = 100_000
_ATTEMPTS_PER_RESTART = 1_000
_MAX_RESTARTS = 20
_REPORT_SECONDS = 1.0
#: Encoder of events, made once: `json.dumps` with a default makes one for each.
_encode = json.JSONEncoder(default=str).encode


class RunRecorder:
    """Recorder of one opening of a run. Thread-safe.

    A job may run several plans, one after the other or in threads of its own, each with a `PlanRecorder`. They share
    the journal, since its keys are content hashes.

    Args:
        directory: The run's folder.
        opening: Number of earlier starts.
        redactor: Remover of secrets from events.
        staged_as: Name that staging files and commits of the run carry; None: the name of the run.
        resumable: Whether outputs of tasks are kept as checkpoints, and recorded in the journal.

    Raises:
        EngineError: The folder can't be read or written.
        ConfigError: Its journal is of another version.
    """

    def __init__(
        self,
        directory: RunDirectory,
        opening: int,
        redactor: Redactor,
        *,
        staged_as: str | None = None,
        resumable: bool = True,
    ) -> None:
        self.directory = directory
        self.staged_as = staged_as or directory.name
        self.opening = opening
        self.resumable = resumable
        self.on_progress: Callable[[Progress], None] | None = None
        #: Called with each event, without its secrets.
        self.on_event: Callable[[Mapping[str, Any]], None] | None = None
        #: Published destinations.
        self.wrote: list[str] = []
        #: State of the journal at the start, and after each restart.
        self.replay = self._replay_journal()
        self._redactor = redactor
        self._restarts = 0
        #: Latest progress of each plan of this opening, by the name of its run.
        self._progress: dict[str, Progress] = {}
        self._began = clock.monotonic()
        self._sources = _recorded_sources(directory)
        self._journal = LogWriter(directory, JOURNAL, opening)
        self._events = LogWriter(directory, EVENTS, opening)
        self._lock = threading.RLock()

    def plan(self, run: str) -> PlanRecorder:
        """Return the recorder of a plan, by the name of its run."""
        return PlanRecorder(self, run)

    @property
    def first_attempt(self) -> int:
        """Number of the first attempt of each task."""
        return self.opening * _ATTEMPTS_PER_OPENING + self._restarts * _ATTEMPTS_PER_RESTART

    def begin_plan(self, number: int, plan: Plan, inputs: tuple[FileEntry, ...]) -> None:
        """Record the inputs of a plan and its explanation.

        Raises:
            SourceChangedError: The run is resumed, and an input has changed.
        """
        now = {self._redactor.text(e.path): _identity(e) for e in inputs}
        with self._lock:
            # Plans that threads start may get other numbers when the run is resumed.
            before = [self._sources[number]] if number in self._sources else []
            if now not in self._sources.values() and before:
                _check_sources(before[0], now)
            if not before:
                self._write_sources(number, now)
            if self.opening == 0:
                text = explain(plan)
                shown = self.directory.read("plan.txt")
                self.directory.write(
                    "plan.txt", self._redactor.text(text if shown is None else f"{shown}\n{text}")
                )

    def _write_sources(self, number: int, now: dict[str, tuple[int, int, int, str]]) -> None:
        self._sources[number] = now
        lines = [
            json.dumps({"plan": n, "path": path, "size": size, "mtime_ns": mtime, "inode": inode, "tag": tag})
            for n, files in self._sources.items()
            for path, (size, mtime, inode, tag) in files.items()
        ]
        self.directory.write(SOURCES, "".join(f"{line}\n" for line in lines), sync=True)

    def line(self, fact: str) -> None:
        """Write a line of the journal."""
        with self._lock:
            self._journal.line(fact)

    def event(self, event: str, **facts: Any) -> None:
        """Write an event."""
        with self._lock:
            text = _encode(
                {"v": format_versions.EVENTS.version, "t": round(clock.time(), 6), "event": event, **facts}
            )
            text = self._redactor.text(text)
            self._events.line(text)
            if self.on_event is not None:
                self.on_event(json.loads(text))

    def progress(self, latest: Progress) -> Progress:
        """Return the counts of all plans of this opening together, with the stages of the one that reports."""
        with self._lock:
            counts = sum_counts(self._progress.values())
        elapsed = clock.monotonic() - self._began
        return Progress(stages=latest.stages, fraction=latest.fraction, **counts, elapsed=elapsed)

    def counts(self) -> dict[str, int]:
        """Return the counts of the run: of this opening, or of those before as long as this one has read nothing."""
        if self._progress:
            return sum_counts(self._progress.values())
        last = self._last_progress()
        return {name: int(last.get(name) or 0) for name in sum_counts(())}

    def _last_progress(self) -> dict[str, Any]:
        events = (e for e in self.directory.read_facts(EVENTS, EVENT_SHAPE) if e.get("event") == "progress")
        return max(events, key=lambda e: e["t"], default={})

    def report_progress(self, run: str, latest: Progress) -> None:
        """Write the progress of the run, with the stages of one plan, as an event, and flush all logs.

        Raises:
            CancelledError: A cancellation of the run was requested.
        """
        self.keep_progress(run, latest)
        progress = self.progress(latest)
        if self.on_progress is not None:
            self.on_progress(progress)
        facts = _fields(progress)
        facts["stages"] = [_fields(s, {"title", "complete"}) for s in progress.stages]
        facts["running"] = sum(s.running for s in progress.stages)
        self.event("progress", plan=self.plan_number(run), **facts)
        self._flush()
        if self.directory.exists(CANCEL):
            raise CancelledError(
                f"run {self.directory.name} was cancelled; --resume {self.directory.name} resumes it"
            )

    def plan_number(self, run: str) -> int:
        """Return the number of a plan, which the name of its run carries."""
        return int(run.removeprefix(self.staged_as).removeprefix(".") or 0)

    def _flush(self) -> None:
        with self._lock:
            self._journal.flush()
            self._events.flush()

    def record_restart(self, lost: str, reason: str) -> bool:
        """Record a lost checkpoint before the plan restarts; False after too many restarts."""
        with self._lock:
            if self._restarts >= _MAX_RESTARTS:
                return False
            self._restarts += 1
            self._journal.line(encode_line({"kind": "lost", "path": lost}))
            self._journal.flush()
            self.replay = self._replay_journal()
        self.event("restarted", reason=reason)
        return True

    def _replay_journal(self) -> Replay:
        return Replay.of(self.directory.read_lines(JOURNAL), self.directory.path(JOURNAL))

    # ---- commits --------------------------------------------------------------------------------------

    def committed(self, run: str, path: str) -> CommitResult | None:
        """Return what a plan of this run committed to a path before its driver died; None: it did not.

        Args:
            run: Name of the plan's run, which was another one if threads started plans in another order.
            path: Destination of the plan.

        Raises:
            EngineError: The disk fails.
        """
        with self._lock:
            before, counts = self.replay.committed, self.replay.counts
            if run not in before or before[run].path != path:
                other = next((name for name, made in before.items() if made.path == path), None)
                if other is None:
                    return None
                before[run], counts[run] = before.pop(other), counts.pop(other, {})
            made = before.pop(run)
            # The driver may have died before it synced the line: a power cut must not take what is acknowledged by it.
            self.directory.sync_lines(JOURNAL)
            self._journal.sync()
            return made

    def keep_progress(self, run: str, progress: Progress) -> None:
        """Keep the progress of a plan."""
        with self._lock:
            self._progress[run] = progress

    def restore_progress(self, run: str) -> Progress:
        """Return the progress of a plan of this run at its commit, and report it as this opening's.

        If a driver died between the commit and its record, the progress is in its events, with that of other plans.
        """
        counts = self.replay.counts.get(run)
        if not counts:
            counts, others = self._last_progress(), sum_counts(self._progress.values())
            counts = {**counts, **{n: max(0, counts.get(n, 0) - others[n]) for n in others}}
        known = {f.name: counts.get(f.name, 0) for f in dataclasses.fields(Progress) if f.name != "stages"}
        progress = Progress(stages=(), **known)
        self.report_progress(run, progress)
        return progress

    def sync(self) -> None:
        """Make the run survive a power cut, before its output is published: a run that is forgotten publishes again.

        Raises:
            EngineError: The disk fails.
        """
        with self._lock:
            self._journal.sync()

    def record_commit(self, run: str, made: CommitResult) -> None:
        """Record that the output of a plan is published."""
        self.wrote.append(made.path)
        facts = {"path": made.path, "files": made.files, "rows": made.rows, "bytes": made.nbytes}
        counts = {}
        if (progress := self._progress.get(run)) is not None:
            progress = replace(progress, rows=made.rows)  # rows of an array are not those of its plan
            self.keep_progress(run, progress)
            counts = {**_fields(progress), "stages": ()}
        self.line(encode_line({"kind": "committed", "run": run, **facts, "progress": counts}))
        with self._lock:
            self._journal.sync()  # staging, which tells it too, is deleted next
        self.event("committed", plan=self.plan_number(run), **facts)

    # ---- ends --------------------------------------------------------------------------------------------

    @property
    def damaged(self) -> int:
        """Number of unusable lines in the journal."""
        return self.replay.damaged

    def close(self) -> None:
        """Flush and close the logs. Idempotent."""
        with self._lock:
            self._journal.close()
            self._events.close()


class PlanRecorder:
    """Recorder of one plan of a run.

    Args:
        run: Recorder of the run.
        name: Name of the plan's run, with its number, which is the same when the run is resumed.
    """

    def __init__(self, run: RunRecorder, name: str) -> None:
        self._run = run
        self._name = name
        self._number = run.plan_number(name)
        self._staged: Callable[[StagedFile], bool] | None = None
        self._folders: dict[str, str] = {}
        self._last_report = 0.0
        self._warned_unshared = False

    @property
    def first_attempt(self) -> int:
        """Number of the first attempt of each task."""
        return self._run.first_attempt

    def begin_plan(self, plan: Plan, run: str, inputs: tuple[FileEntry, ...], slots: int) -> None:
        """Record the start of the plan."""
        output = plan.stages[-1].output
        self._staged = staged_files(output.sink, run) if isinstance(output, Write) else None
        self._run.begin_plan(self._number, plan, inputs)
        self.event(
            "plan",
            slots=slots,
            bytes_total=sum(e.identity.size for e in inputs),
            files=len(inputs),
            stages=[_stage_facts(stage) for stage in plan.stages],
        )

    def find_finished(self, stage: str, key: str) -> Done | None:
        """Return the result of a finished task whose outputs still exist; None if it must run."""
        replay = self._run.replay
        found = replay.finished_task(key)
        if found is None:
            return None
        done = found.done
        assert done.checkpoint is not None  # only tasks with checkpoints are recorded
        # Outputs of a consumed stage are deleted, and not needed: its readers are finished.
        needed = [done.checkpoint.rejects, done.checkpoint.sample]
        needed += () if stage in replay.consumed else done.checkpoint.outputs
        if not self._exist(needed):
            return None
        if self._staged is not None and not all(map(self._staged, done.files)):
            return None
        if done.checkpoint.sample is not None:
            try:
                (sample,) = read_checkpoint(done.checkpoint.sample)
            except BlockLostError:
                return None
            done = replace(done, sample=sample)
        return done

    def _exist(self, blocks: Iterable[CheckpointBlock | None]) -> bool:
        """Return whether the files of these blocks are large enough. Their content is checked when they are read."""
        ends: dict[str, int] = {}
        for block in blocks:
            if block is not None:
                ends[block.path] = max(ends.get(block.path, 0), block.offset + block.length)
        return all((self._run.directory.size(path) or 0) >= end for path, end in ends.items())

    def checkpoint_path(self, stage: str, key: str) -> str:
        """Return the path for a task's checkpoint; "" if none is kept."""
        if not self._run.resumable:
            return ""
        folder = self._folders.get(stage)
        if folder is None:
            folder = self._folders[stage] = self._run.directory.folder(self._checkpoint_folder(stage))
        return f"{folder}/{key}"

    def _checkpoint_folder(self, stage: str) -> str:
        """Return the folder of a stage's outputs: plans that run at once may have equal stages."""
        return f"{BLOCKS}/{stage[:16]}" + (f"-{self._number}" if self._number else "")

    def has_checkpoint(self, done: Done) -> bool:
        """Return whether the files of a task's checkpoint are visible here."""
        checkpoint = done.checkpoint
        assert checkpoint is not None  # the caller looked
        return self._exist((*checkpoint.outputs, checkpoint.rejects, checkpoint.sample))

    def record_finished(self, stage: str, key: str, done: Done) -> None:
        """Record a finished task, unless its checkpoint is not visible here."""
        if not self.has_checkpoint(done):
            if not self._warned_unshared:
                self._warned_unshared = True
                where = f"runs_dir {self._run.directory.url} is not shared with worker {done.metrics.worker}"
                self.event(
                    "warning",
                    message=f"{where}: its finished tasks must be recomputed if the run is resumed",
                )
            return
        self._run.line(task_line(stage, key, done))

    def record_consumed(self, stage: str) -> None:
        """Record that the outputs of a stage are no longer needed, and delete them."""
        if stage in self._run.replay.consumed:
            return
        self._run.line(encode_line({"kind": "consumed", "stage": stage}))
        self._run.directory.remove_files(self._checkpoint_folder(stage), ".blocks")

    def event(self, event: str, **facts: Any) -> None:
        """Write an event, with the number of the plan."""
        self._run.event(event, plan=self._number, **facts)

    def report_progress(self, progress: Progress, *, last: bool = False) -> None:
        """Report the progress of the plan, at most once per second."""
        self._run.keep_progress(self._name, progress)
        now = clock.monotonic()
        if now - self._last_report >= _REPORT_SECONDS or last:
            self._last_report = now
            self._run.report_progress(self._name, progress)

    def record_restart(self, lost: str, reason: str) -> bool:
        """Record a lost checkpoint before the plan restarts; False after too many restarts."""
        return self._run.record_restart(lost, reason)


def _fields(value: Progress | StageProgress, without: Collection[str] = ()) -> dict[str, Any]:
    kind: Any = type(value)
    return {name: getattr(value, name) for name in _names(kind) if name not in without}


@functools.cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind))


def _stage_facts(stage: Any) -> dict[str, Any]:
    scan = bool(stage.inputs) and isinstance(stage.inputs[0], ScanInput)
    reads = [s for i in stage.inputs if isinstance(i, ExchangeInput) for s in i.stages]
    return {"id": stage.id, "title": stage.title, "reads": reads, "scan": scan, "notes": list(stage.notes)}


def _identity(entry: FileEntry) -> tuple[int, int, int, str]:
    return entry.identity.size, entry.identity.mtime_ns, entry.identity.inode, entry.identity.tag


def _recorded_sources(directory: RunDirectory) -> dict[int, dict[str, tuple[int, int, int, str]]]:
    """Return the recorded input files by plan: size, time of modification, inode and ETag."""
    plans: dict[int, dict[str, tuple[int, int, int, str]]] = {}
    for fact in read_sources(directory):
        identity = fact["size"], fact["mtime_ns"], fact["inode"], fact.get("tag") or ""
        plans.setdefault(fact["plan"], {})[fact["path"]] = identity
    return plans


def read_sources(directory: RunDirectory) -> list[dict[str, Any]]:
    """Return what is recorded of the inputs of a run: `plan`, `path`, `size`, `mtime_ns`, `inode` and `tag` of each.

    Raises:
        SourceChangedError: The list is damaged.
        EngineError: It can't be read.
    """
    try:
        return [parse_object(line, _SOURCE) for line in (directory.read(SOURCES) or "").splitlines()]
    except ValueError:
        raise SourceChangedError(
            f"{directory.path(SOURCES)} (the list of inputs) is damaged: start a new run"
        ) from None


def _check_sources(
    known: dict[str, tuple[int, int, int, str]], now: dict[str, tuple[int, int, int, str]]
) -> None:
    changes = [f"{path} is missing" for path in known.keys() - now.keys()]
    changes += [f"{path} is new" for path in now.keys() - known.keys()]
    for path in sorted(known.keys() & now.keys()):
        if known[path] != now[path]:
            changes.append(f"{path} {_change(known[path], now[path])}")
    if changes:
        more = f"; and {len(changes) - 5:,} more" if len(changes) > 5 else ""
        raise SourceChangedError(
            f"inputs changed since the run began: {'; '.join(sorted(changes)[:5])}{more}; earlier results can't "
            "be used: start a new run",
            code="MMF-SRC-007",
        )


def _change(before: tuple[int, int, int, str], after: tuple[int, int, int, str]) -> str:
    if before[3].startswith(STREAM_TAG):
        return "is a stream, and what the run read of it does not come again"
    if before[0] != after[0]:
        return f"had {before[0]:,} bytes and has {after[0]:,}"
    if before[3] != after[3]:
        return "was replaced (it has another ETag)"
    return "was written to" if before[1] != after[1] else "was replaced by another file of its size and time"

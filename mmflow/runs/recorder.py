"""Recording a run: its journal, its events, and what a run that goes on knows from before.

Attempts are numbered so that none of a driver's is ever taken for one of an earlier driver, whose tasks may still run:

    opening 0   0, 1, 2, ...            opening 1   100000, ...
      restarted in place  1000, ...       restarted in place  101000, ...
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from mmflow.engines.progress import Progress
from mmflow.engines.recording import Finished
from mmflow.errors import BlockLostError, CancelledError, SourceChangedError
from mmflow.exec.kept import KeptBlock, read_kept
from mmflow.exec.stage import ExchangeInput, Plan, ScanInput, Write
from mmflow.exec.task import Done
from mmflow.plan.explain import explain
from mmflow.runs.directory import LogWriter, RunDirectory
from mmflow.runs.journal import Replay, encoded, task_line
from mmflow.runs.redact import Redactor
from mmflow.shards import FileEntry
from mmflow.sinks import Committed, StagedFile, staged_files

__all__ = ["BLOCKS", "CANCEL", "EVENTS", "EVENT_VERSION", "JOURNAL", "SOURCES", "RunRecorder"]

JOURNAL, EVENTS, SOURCES, BLOCKS, CANCEL = "journal", "events", "sources.jsonl", "blocks", "cancel"
EVENT_VERSION = 1
_OPENING = 100_000
_RESTART = 1_000
_RESTARTS = 20
_TICK_SECONDS = 1.0


class RunRecorder:
    """The `Recorder` of one run; one for each time that its driver starts.

    A job may run several plans, one after the other; they share the journal, since keys are of content.

    Args:
        directory: The run's folder.
        opening: How often it was started before.
        redactor: Takes secrets out of events.
        resumable: Keep outputs of tasks, and say so in the journal.

    Raises:
        EngineError: The folder can't be read or written.
    """

    def __init__(
        self, directory: RunDirectory, opening: int, redactor: Redactor, *, resumable: bool = True
    ) -> None:
        self.directory = directory
        self._redactor = redactor
        self._resumable = resumable
        self._opening = opening
        self._restarts = 0
        self._plans = 0
        self._staged: Callable[[StagedFile], bool] | None = None
        self._replay = self._replayed()
        self._sources = _recorded_sources(directory)
        self._journal = LogWriter(directory, JOURNAL, opening)
        self._events = LogWriter(directory, EVENTS, opening)
        self._lock = threading.Lock()
        self._folders: dict[str, str] = {}
        self._ticked = 0.0
        self._unseen = False
        self.progress: Progress | None = None
        #: Destinations whose new content can be seen.
        self.wrote: list[str] = []
        self.on_progress: Callable[[Progress], None] | None = None

    # ---- what the loop asks ---------------------------------------------------------------------------

    @property
    def first_attempt(self) -> int:
        return self._opening * _OPENING + self._restarts * _RESTART

    def started(self, plan: Plan, run: str, inputs: tuple[FileEntry, ...], slots: int) -> None:
        """See `Recorder.started`."""
        number, self._plans = self._plans, self._plans + 1
        self.progress = None
        output = plan.stages[-1].output
        self._staged = staged_files(output.sink, run) if isinstance(output, Write) else None
        known = self._sources.get(number)
        if known is None:
            self._note_sources(number, inputs)
        else:
            _check_sources(known, {self._redactor.text(e.path): _identity(e) for e in inputs})
        if self._opening == 0:
            text = explain(plan)
            before = self.directory.read("plan.txt")
            self.directory.write(
                "plan.txt", self._redactor.text(text if before is None else f"{before}\n{text}")
            )
        nbytes = sum(e.identity.size for e in inputs)
        self.event(
            "plan",
            slots=slots,
            bytes_total=nbytes,
            files=len(inputs),
            stages=[_told(stage) for stage in plan.stages],
        )

    def _note_sources(self, number: int, inputs: tuple[FileEntry, ...]) -> None:
        self._sources[number] = {self._redactor.text(e.path): _identity(e) for e in inputs}
        lines = [
            json.dumps({"plan": n, "path": path, "size": size, "mtime_ns": mtime, "inode": inode, "tag": tag})
            for n, files in self._sources.items()
            for path, (size, mtime, inode, tag) in files.items()
        ]
        self.directory.write(SOURCES, "".join(f"{line}\n" for line in lines))

    def known(self, stage: str, key: str) -> Done | None:
        """See `Recorder.known`."""
        found = self._replay.known(key)
        if found is None:
            return None
        done = found.done
        assert done.kept is not None  # the journal says what was kept
        # Outputs of a stage that was read are gone, and not needed: its readers are known.
        needed = [done.kept.rejects, done.kept.sample]
        needed += () if stage in self._replay.read else done.outputs
        if not self._there(ref.token for ref in needed if ref is not None):
            return None
        if self._staged is not None and not all(map(self._staged, done.files)):
            return None
        if done.kept.sample is not None:
            try:
                (sample,) = read_kept(done.kept.sample)
            except BlockLostError:
                return None
            done = replace(done, sample=sample)
        return done

    def _there(self, blocks: Iterable[KeptBlock]) -> bool:
        """Are these in files of at least the right size? Whether they are right, is seen when they are read."""
        ends: dict[str, int] = {}
        for block in blocks:
            ends[block.path] = max(ends.get(block.path, 0), block.offset + block.length)
        return all((self.directory.size(path) or 0) >= end for path, end in ends.items())

    def place(self, stage: str, key: str) -> str:
        """See `Recorder.place`. "": nothing is kept."""
        if not self._resumable:
            return ""
        folder = self._folders.get(stage)
        if folder is None:
            folder = self._folders[stage] = self.directory.folder(f"{BLOCKS}/{stage[:16]}")
        return f"{folder}/{key}"

    def finished(self, finished: Finished) -> None:
        """See `Recorder.finished`."""
        kept = finished.done.kept
        assert kept is not None  # what is not kept is not recorded
        refs = (*kept.outputs, kept.rejects, kept.sample)
        if not self._there(ref.token for ref in refs if ref is not None):
            if not self._unseen:
                self._unseen = True
                where = (
                    f"runs_dir {self.directory.url} is not shared with worker {finished.done.metrics.worker}"
                )
                self.event(
                    "warning",
                    message=f"{where}: what it finishes must be computed again if the run is resumed",
                )
            return
        self._journal.line(task_line(finished.stage, finished.key, finished.done))

    def read(self, stage: str) -> None:
        """See `Recorder.read`."""
        if stage in self._replay.read:
            return
        self._journal.line(encoded({"kind": "read", "stage": stage}))
        self.directory.remove_files(f"{BLOCKS}/{stage[:16]}", ".blocks")

    def event(self, event: str, **facts: Any) -> None:
        """See `Recorder.event`. Thread-safe."""
        with self._lock:
            text = json.dumps(
                {"v": EVENT_VERSION, "t": round(time.time(), 6), "event": event, **facts}, default=str
            )
            self._events.line(self._redactor.text(text))

    def tick(self, progress: Progress, *, last: bool = False) -> None:
        """See `Recorder.tick`."""
        self.progress = progress
        now = time.monotonic()
        if now - self._ticked < _TICK_SECONDS and not last:
            return
        self._ticked = now
        if self.on_progress is not None:
            self.on_progress(progress)
        facts = dataclasses.asdict(progress)
        facts["running"] = sum(s.running for s in progress.stages)
        for stage in facts["stages"]:
            del stage["title"], stage["complete"]
        self.event("progress", **facts)
        self._journal.flush()
        self._events.flush()
        if self.directory.exists(CANCEL):
            raise CancelledError(
                f"run {self.directory.name} was cancelled; --resume {self.directory.name} goes on with it"
            )

    def restarting(self, lost: str, reason: str) -> bool:
        """See `Recorder.restarting`."""
        if self._restarts >= _RESTARTS:
            return False
        self._restarts += 1
        self._journal.line(encoded({"kind": "lost", "path": lost}))
        self._journal.flush()
        self._replay = self._replayed()
        self.event("restarted", reason=reason)
        return True

    def _replayed(self) -> Replay:
        return Replay.of(self.directory.read_lines(JOURNAL))

    # ---- commits --------------------------------------------------------------------------------------

    def committed(self, run: str) -> Committed | None:
        """What a plan of this run committed before its driver died; None: it did not."""
        return self._replay.committed.get(run)

    def progress_before(self, run: str) -> Progress:
        """Return how far a plan of this run was when it committed its output, and tell it as this opening's.

        A driver that died between the commit and its note left it in its events.
        """
        counts = self._replay.counts.get(run)
        if counts is None:
            told = (e for e in self.directory.read_facts(EVENTS) if e.get("event") == "progress")
            counts = max(told, key=lambda e: e["t"], default={})
        known = {f.name: counts.get(f.name, 0) for f in dataclasses.fields(Progress) if f.name != "stages"}
        progress = Progress(stages=(), **known)
        self.tick(progress, last=True)
        return progress

    def note_committed(self, run: str, made: Committed) -> None:
        """Note that the output of a plan can be seen."""
        self.wrote.append(made.path)
        facts = {"path": made.path, "files": made.files, "rows": made.rows, "bytes": made.nbytes}
        counts = {} if self.progress is None else dataclasses.asdict(replace(self.progress, stages=()))
        self._journal.line(encoded({"kind": "committed", "run": run, **facts, "progress": counts}))
        self._journal.flush()
        self.event("committed", **facts)

    # ---- ends --------------------------------------------------------------------------------------------

    @property
    def damaged(self) -> int:
        """Lines of the journal that could not be used."""
        return self._replay.damaged

    def close(self) -> None:
        """Write what is held back. Idempotent."""
        self._journal.close()
        self._events.close()


def _told(stage: Any) -> dict[str, Any]:
    scan = bool(stage.inputs) and isinstance(stage.inputs[0], ScanInput)
    reads = [s for i in stage.inputs if isinstance(i, ExchangeInput) for s in i.stages]
    return {"id": stage.id, "title": stage.title, "reads": reads, "scan": scan, "notes": list(stage.notes)}


def _identity(entry: FileEntry) -> tuple[int, int, int, str]:
    return entry.identity.size, entry.identity.mtime_ns, entry.identity.inode, entry.identity.tag


def _recorded_sources(directory: RunDirectory) -> dict[int, dict[str, tuple[int, int, int, str]]]:
    """Files by plan, with size, time of modification and inode."""
    plans: dict[int, dict[str, tuple[int, int, int, str]]] = {}
    for line in (directory.read(SOURCES) or "").splitlines():
        try:
            fact = json.loads(line)
            identity = fact["size"], fact["mtime_ns"], fact["inode"], fact.get("tag", "")
            plans.setdefault(fact["plan"], {})[fact["path"]] = identity
        except (ValueError, KeyError, TypeError):
            raise SourceChangedError(
                f"{directory.path(SOURCES)}, which says what the inputs were, is damaged: start a new run"
            ) from None
    return plans


def _check_sources(
    known: dict[str, tuple[int, int, int, str]], now: dict[str, tuple[int, int, int, str]]
) -> None:
    changes = [f"{path} is gone" for path in known.keys() - now.keys()]
    changes += [f"{path} is new" for path in now.keys() - known.keys()]
    for path in sorted(known.keys() & now.keys()):
        if known[path] != now[path]:
            changes.append(f"{path} {_change(known[path], now[path])}")
    if changes:
        more = f"; and {len(changes) - 5:,} more" if len(changes) > 5 else ""
        raise SourceChangedError(
            f"inputs changed since the run began: {'; '.join(sorted(changes)[:5])}{more}; what was computed of them "
            "before can't be used: start a new run"
        )


def _change(before: tuple[int, int, int, str], after: tuple[int, int, int, str]) -> str:
    if before[0] != after[0]:
        return f"had {before[0]:,} bytes and has {after[0]:,}"
    if before[3] != after[3]:
        return "was replaced (it has another ETag)"
    return "was written to" if before[1] != after[1] else "was replaced by another file of its size and time"

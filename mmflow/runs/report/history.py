"""Builder of a run's history from its events (docs/runs.md), in one pass. Unknown kinds and keys are ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmflow.runs.report.formatting import duration
from mmflow.runs.report.model import Failure, Marker, Opening, RunHistory, Sample, Stage, Task, task_label

__all__ = ["build_history"]

# Attempts of each driver of a run begin at another multiple of this (mmflow/runs/recorder.py).
_ATTEMPTS_PER_DRIVER = 1000


def build_history(events: Iterable[Mapping[str, Any]]) -> RunHistory:
    """Build the history of a run from its events, in order over all openings."""
    builder = _HistoryBuilder()
    for e in events:
        builder.add(e)
    builder.finish()
    return builder.history


#: A task: stage, number, part.
_Key = tuple[int, int, tuple[int, ...]]


class _HistoryBuilder:
    def __init__(self) -> None:
        self.history = RunHistory()
        # Latest state of each task: an attempt, or the number of rows in the journal.
        self._latest: dict[_Key, Task | int] = {}
        self._stages: dict[tuple[int, int], Stage] = {}
        self._restored: set[_Key] = set()
        self._plan = 0
        self._part = 0

    def add(self, e: Mapping[str, Any]) -> None:
        kind, t = e.get("event"), float(e.get("t") or 0.0)
        if kind == "run_started" or not self.history.openings:
            self._on_run_started(e, t)
        here = self.history.openings[-1]
        here.end = max(here.end, t)
        at = here.at(t)
        self._plan = _int(e, "plan") if "plan" in e else self._plan
        match kind:
            case "task_done":
                self._on_task_done(e, here)
            case "task_restored":
                key = self._key(e)
                self._restored.add(key)
                self._latest.setdefault(key, _int(e, "rows_out"))
            case "plan":
                self._on_plan(e)
            case "progress":
                self._on_progress(e, at)
            case "stage_ended":
                self._on_stage_ended(e)
            case "task_failed":
                self._on_task_failed(e, at)
            case "speculative_attempt":
                self.history.speculative += 1
                self._add_marker(
                    at, "speculative", f"{self._task_name(e)}: speculative attempt, since it was slow"
                )
            case "shard_split":
                self.history.speculative += 1
                self._add_marker(
                    at,
                    "speculative",
                    f"{self._task_name(e)}: the remainder of its shard was given to other tasks, since it was slow",
                )
            case "rerun":
                self.history.reruns += 1
                self._add_marker(
                    at,
                    "rerun",
                    f"{self._task_name(e)}: read again from another first record",
                )
            case "restarted":
                self.history.restarts += 1
                self._part += 1  # its counts start from the journal
                self._add_marker(at, "restarted", f"continued from the journal: {e.get('reason') or ''}")
            case "warning" | "stall":
                self.history.warnings.append(str(e.get("message") or ""))
            case "committed":
                self.history.committed = e
            case "run_ended":
                self.history.ended = e

    def _on_run_started(self, e: Mapping[str, Any], t: float) -> None:
        history = self.history
        resumed = bool(history.openings)
        offset = history.seconds
        if resumed:
            gap = max(t - history.openings[-1].end, 0.0)
            self._add_marker(offset, "resumed", f"resumed {duration(gap)} later")
        history.openings.append(Opening(t, t, offset))
        history.started, history.ended = e, None
        history.slots = _int(e, "slots") or history.slots
        self._restored.clear()
        self._plan = 0
        self._part += 1
        if not resumed:  # else its counts start from the journal
            history.samples.append(Sample(0.0, self._part, 0, 0))

    def _on_plan(self, e: Mapping[str, Any]) -> None:
        history = self.history
        # Shards that an earlier driver of this plan split are read whole by this one.
        self._latest = {
            k: v for k, v in self._latest.items() if not k[2] or history.stages[k[0]].plan != self._plan
        }
        history.slots = _int(e, "slots") or history.slots
        for s in e.get("stages") or ():
            stage = self._stage(_int(s, "id"))
            stage.title, stage.scan = str(s.get("title") or ""), bool(s.get("scan"))
            stage.reads = tuple(self._stage(int(r)).id for r in s.get("reads") or ())
            stage.notes = tuple(map(str, s.get("notes") or ()))
            stage.planned, stage.ended = True, False

    def _on_task_done(self, e: Mapping[str, Any], here: Opening) -> None:
        key = self._key(e)
        seconds = float(e.get("seconds") or 0.0)
        started = float(e.get("started") or float(e.get("t") or 0.0) - seconds)
        task = Task(
            *key[:2], _int(e, "attempt") % _ATTEMPTS_PER_DRIVER, str(e.get("worker") or "?"), here.at(started), seconds,
            _int(e, "rows_in"), _int(e, "rows_out"), _int(e, "bytes_read"), _int(e, "bytes_out"), _int(e, "cached"),
            _int(e, "anonymous"), key[2], _int(e, "fetched"),
        )  # fmt: skip
        self.history.tasks.append(task)
        self._latest[key] = task

    def _on_progress(self, e: Mapping[str, Any], at: float) -> None:
        self.history.progress = e
        self.history.samples.append(Sample(at, self._part, _int(e, "bytes_done"), _int(e, "rows")))
        for s in e.get("stages") or ():
            stage = self._stage(_int(s, "id"))
            if not stage.ended:
                stage.total = s.get("total")

    def _on_stage_ended(self, e: Mapping[str, Any]) -> None:
        stage = self._stage(_int(e, "stage"))
        stage.ended = True
        stage.tasks = stage.total = _int(e, "tasks")
        stage.rows_out, stage.bytes_out = _int(e, "rows"), _int(e, "bytes")
        stage.pruned, stage.bad = _int(e, "pruned"), _int(e, "bad")

    def _on_task_failed(self, e: Mapping[str, Any], at: float) -> None:
        stage = self._stage(_int(e, "stage"))
        attempt = _int(e, "attempt") % _ATTEMPTS_PER_DRIVER
        reason, retried = str(e.get("reason") or ""), bool(e.get("retried"))
        self.history.failures.append(Failure(at, stage.id, _int(e, "number"), attempt, reason, retried))
        self.history.retries += retried
        stage.failed += 1
        self._add_marker(at, "failed", f"{self._task_name(e)}: attempt {attempt} failed")

    def _add_marker(self, at: float, kind: str, text: str) -> None:
        self.history.markers.append(Marker(at, kind, text))

    def _task_name(self, e: Mapping[str, Any]) -> str:
        return f"stage {_int(e, 'stage')}, task {task_label(_int(e, 'number'), tuple(e.get('part') or ()))}"

    def _key(self, e: Mapping[str, Any]) -> _Key:
        return self._stage(_int(e, "stage")).id, _int(e, "number"), tuple(map(int, e.get("part") or ()))

    def _stage(self, number: int) -> Stage:
        """Return a stage of the current plan."""
        key = self._plan, number
        if key not in self._stages:
            stage = Stage(len(self._stages), plan=key[0], label=str(number))
            self._stages[key] = self.history.stages[stage.id] = stage
        return self._stages[key]

    def finish(self) -> None:
        """Add the tasks to their stages. Outputs that `stage_ended` reported stand."""
        stages = self.history.stages
        self.history.restored = len(self._restored)
        for task in self.history.tasks:
            stages[task.stage].busy += task.seconds
            stages[task.stage].bytes_scanned += task.bytes_read
        for (number, _, _), last in self._latest.items():
            stage = stages[number]
            if isinstance(last, int):  # restored, without an attempt in these events
                rows_out, bytes_out = last, 0
            else:
                rows_out, bytes_out = last.rows_out, last.bytes_out
                stage.rows_in += last.rows_in
                stage.bytes_in += last.bytes_read
            if not stage.ended:
                stage.tasks += 1
                stage.rows_out += rows_out
                stage.bytes_out += bytes_out
        several = any(s.plan for s in stages.values())
        for stage in stages.values():
            if not stage.planned and not stage.title:
                stage.title = "count lines"  # the line-count pre-pass, which is not part of the plan
            if several:
                stage.label = f"{stage.plan + 1}.{stage.label}"
            if stage.tasks and not stage.bytes_in and not stage.reads_files:
                # Restored tasks have no counts, but the input of a stage is the output of those before it.
                stage.bytes_in = sum(stages[s].bytes_out for s in stage.reads)


def _int(e: Mapping[str, Any], key: str) -> int:
    """Return a count; 0 where it is missing or null."""
    return int(e.get(key) or 0)

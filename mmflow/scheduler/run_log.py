"""Account of a run: its counts, and the events and finished tasks in its record."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from mmflow.plan.stages import Functions
from mmflow.plan.tasks import Done, TaskId, TaskMetrics
from mmflow.scheduler.recorder import Recorder
from mmflow.scheduler.scans import Verified
from mmflow.scheduler.stages import AttemptState, StageState, TaskState
from mmflow.scheduler.task_keys import Decisions, stage_keys, task_key
from mmflow.scheduler.totals import Totals
from mmflow.scheduler.watchdog import describe
from mmflow.worker.movement import Stall

__all__ = ["RunLog"]

#: Metrics of a task that its event has; the run's progress and outcome have the others.
_NOTED = tuple(f.name for f in fields(TaskMetrics) if f.name not in ("retries", "reasons"))


class RunLog:
    """Account of a run. Without a record of the run it only counts. Single-threaded.

    Args:
        record: Record of the run; None: the run is not recorded.
        states: States of the stages, by number.
        functions: Functions of the plan.
        totals: Counts of the run.
    """

    def __init__(
        self, record: Recorder | None, states: Mapping[int, StageState], functions: Functions, totals: Totals
    ) -> None:
        self._record = record
        self._totals = totals
        self._decisions = Decisions(states)
        self._keys = {} if record is None else stage_keys(states, functions)

    @property
    def first_attempt(self) -> int:
        """Number of the first attempt of each task."""
        return 0 if self._record is None else self._record.first_attempt

    def find_finished(self, state: StageState, task: TaskState) -> Done | None:
        """Return the result of a task, if the record has it; the task gets its key. Looks once for each task."""
        if self._record is None or task.key:
            return None  # looked up already
        stage = self._keys[state.stage.id]
        files = () if state.scan is None else state.scan.files
        decided = self._decisions.of_task(state, task.id.number)
        task.key = task_key(stage, task.id, task.group, files, state.boundaries, decided)
        done = self._record.find_finished(stage, task.key)
        return None if done is None or not _fits(done.remainder, task) else done

    def checkpoint_path(self, state: StageState, task: TaskState) -> str:
        """Return the path of a task's checkpoint (`Task.checkpoint_path`); "": it writes none."""
        if self._record is None or not task.key:
            return ""
        return self._record.checkpoint_path(self._keys[state.stage.id], task.key)

    def has_checkpoint(self, done: Done) -> bool:
        """Return whether a task has written a checkpoint, and it is visible here."""
        return self._record is not None and done.checkpoint is not None and self._record.has_checkpoint(done)

    def record_released(
        self, state: StageState, task: TaskState, done: Done, checked: Verified | None
    ) -> None:
        """Record a task whose outputs count; it is found from now on, if it has a checkpoint."""
        if task.restored:
            self._totals.restored += 1
            self._event("task_restored", task.id, rows_out=done.rows)
        elif self._record is not None and done.checkpoint is not None and task.key:
            self._record.record_finished(
                self._keys[state.stage.id], task.key, replace(done, remainder=task.remainder)
            )
        if checked is not None and state.scan is not None and state.line_counts is None:
            self._totals.count(state.scan.files, done, checked)
        elif state.files:
            self._totals.count_files(state.files, done)

    def record_consumed(self, state: StageState) -> None:
        """Record that no stage will read the outputs of this one any more."""
        if self._record is not None:
            self._record.record_consumed(self._keys[state.stage.id])

    def _event(self, event: str, task: TaskId | None = None, **facts: object) -> None:
        """Record an event (docs/runs.md), and its task."""
        if self._record is not None:
            if task is not None:
                facts |= {"stage": task.stage, "number": task.number, "part": list(task.part)}
            self._record.event(event, **facts)

    def record_done(self, done: Done) -> None:
        """Record an attempt that has finished, and those that the engine made by itself."""
        self._totals.retries += done.metrics.retries
        if self._record is not None:
            facts = {name: getattr(done.metrics, name) for name in _NOTED}
            self._event("task_done", done.id, attempt=done.attempt, **facts)

    def record_failed(self, task: TaskState, reason: str, *, retried: bool) -> None:
        """Record a failed attempt."""
        self._totals.retries += retried
        self._event("task_failed", task.id, attempt=task.attempt, reason=reason, retried=retried)

    def record_speculative(self, task: TaskState) -> None:
        """Record a speculative attempt."""
        self._totals.stragglers += 1
        self._event("speculative_attempt", task.id, attempt=task.attempt)

    def record_stall(self, attempt: AttemptState, stall: Stall) -> None:
        """Record an attempt that does not move."""
        self._totals.stalls += 1
        self._event(
            "stall", attempt.task.id, attempt=attempt.number, seconds=round(stall.seconds, 3), place=stall.place,
            doing=stall.doing, reads=stall.reads, writes=stall.writes, message=describe(attempt, stall),
        )  # fmt: skip

    def record_split(self, task: TaskState, begin: int, parts: int) -> None:
        """Record that the remainder of a shard, from `begin` on, went to other tasks."""
        self._totals.stragglers += 1
        self._event("shard_split", task.id, begin=begin, parts=parts)

    def record_rerun(self, task: TaskState, begin: int | None) -> None:
        """Record that a shard is read again, from `begin` on."""
        self._totals.reruns += 1
        self._event("rerun", task.id, begin=begin)

    def record_ended(self, state: StageState) -> None:
        """Record the end of a stage."""
        self._event(
            "stage_ended", stage=state.stage.id, tasks=state.released, rows=state.rows, bytes=state.outputs.nbytes,
            pruned=state.pruned, bad=state.bad,
        )  # fmt: skip


def _fits(remainder: Sequence[tuple[int, int]], task: TaskState) -> bool:
    """Return whether byte ranges are, one behind the other, the end of a task's shard; none are of any task."""
    if not remainder:
        return True
    if task.group is None or len(task.group) != 1:
        return False
    (shard,) = task.group
    ends = [shard.begin, *itertools.chain.from_iterable(remainder)]
    tiled = all(end == begin for (_, end), (begin, _) in itertools.pairwise(remainder))
    return ends == sorted(ends) and shard.begin < ends[1] and tiled and ends[-1] == shard.end

"""Help for tasks that take much longer than others of their stage, once workers have nothing to do.

    slow, and may stop between batches      gets a stop request
      it stops                              the remainder of its shard is cut over the idle workers, as tasks behind it
      it does not, within `grace`           as below, but what it returns late still counts
    slow otherwise                          gets a speculative attempt at all of it; the first to end counts
    its worker is silent                    the same, at once

    task 7     [begin ........................ end)
    stopped    [begin .... next)                         7    no byte is read twice
    remainder                   [.....)[......)[.....)   7.1  7.2  7.3

The remainder begins where the task stopped. That is as certain as the task's own start. Where the records of the other
parts begin is guessed, as for any shard. The boundary check goes over all of them in order and finds wrong guesses.

A task may stop early if it reads one shard of a record format, and its outputs over two halves of the shard, one behind
the other, are a right output of the whole. It may not where rows carry line numbers, which later parts would not know.
In recorded runs it also may not where readers know its tasks by number, or where the partition of a row depends on
where tasks begin: a resumed run whose journal is damaged reads the shard whole, and checkpoints of such readers would
not fit (`task_keys`).

On a worker that is about to leave (SIGTERM, a drain), such tasks stop early without a request (`Task.stops_on_drain`),
where what they return outlives it.

Invariant: a task is split once; a part may be split again. So ids are unique, and their order is that of the file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.stages import Hash, MapStep, ScanInput, Write
from mmflow.scheduler.stages import Attempt, AttemptState, StageState, TaskState
from mmflow.shards import Shard, cut_remainder

__all__ = ["Patience", "Stragglers"]


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits beyond which a task is slow, and how finely its remainder is cut.

    Attributes:
        slow: Multiple of the mean time of its stage's tasks.
        slow_seconds: Seconds that a slow task has run at least.
        grace: Seconds between a stop request and the speculative attempt.
        part_bytes: Least bytes of a part.
    """

    slow: float = 4.0
    slow_seconds: float = 10.0
    grace: float = 5.0
    part_bytes: int = 1 << 20


class Stragglers:
    """Choice of help for the slow tasks of a run."""

    def __init__(self, states: Mapping[int, StageState], patience: Patience, *, recorded: bool) -> None:
        self._whole = _read_by_number(states) if recorded else set()
        self._patience = patience

    def choose(
        self, running: Collection[AttemptState], now: float, idle: int, silent: Collection[Attempt]
    ) -> tuple[list[AttemptState], list[AttemptState]]:
        """Return the attempts beside which a speculative one begins now, and those that get a stop request.

        Args:
            running: Attempts under way, the oldest first.
            now: The time.
            idle: Number of idle workers.
            silent: Attempts of silent workers. They get a speculative attempt however short they have run.
        """
        helped: list[AttemptState] = []
        asked: list[AttemptState] = []
        # Remainders of those that were asked will need workers.
        idle -= sum(a.asked is not None and now - a.asked <= self._patience.grace for a in running)
        for attempt in running:
            state, task = attempt.stage, attempt.task
            if len(helped) + len(asked) >= idle:
                break
            if task.live != [attempt]:
                continue
            if attempt.id in silent:
                helped.append(attempt)
            elif not self._is_slow(state, now - attempt.since):
                continue
            elif attempt.asked is None and self.may_stop_early(state, task):
                attempt.asked = now
                asked.append(attempt)
            elif state.timed and (attempt.asked is None or now - attempt.asked > self._patience.grace):
                helped.append(attempt)
        return helped, asked

    def split_remainder(self, attempt: AttemptState, resume_offset: int, workers: int, now: float) -> int:
        """Cut the remainder of a shard into tasks.

        Args:
            attempt: Attempt that stopped early.
            resume_offset: Byte offset of the first record that was not read (`Done.resume_offset`).
            workers: Most parts: for the worker that stopped, and the idle ones.
            now: The time.

        Returns:
            Number of new tasks.
        """
        task = attempt.task
        assert task.group is not None  # only scans stop early
        (shard,) = task.group
        assert shard.begin < resume_offset < shard.end, "a task stops after a batch of its shard"
        task.group = (replace(shard, end=resume_offset),)
        parts = cut_remainder(shard, resume_offset, workers, least=self._patience.part_bytes)
        attempt.stage.insert(task, [(part,) for part in parts], now)
        return len(parts)

    def split_again(
        self, state: StageState, task: TaskState, remainder: Sequence[tuple[int, int]], now: float
    ) -> None:
        """Cut the remainder of a shard into the tasks that an earlier driver made of it (`Done.remainder`)."""
        assert task.group is not None  # only scans stop early
        (shard,) = task.group
        task.group = (replace(shard, end=remainder[0][0]),)
        first, *others = (Shard(shard.file, begin, end) for begin, end in remainder)
        parts = replace(first, known_start=first.begin), *others
        state.insert(task, [(part,) for part in parts], now)

    def _is_slow(self, state: StageState, seconds: float) -> bool:
        mean = state.seconds / state.timed if state.timed else 0.0
        return seconds > max(self._patience.slow_seconds, self._patience.slow * mean)

    def may_stop_early(self, state: StageState, task: TaskState) -> bool:
        """Return whether a task may stop between batches, so that others read the remainder of its shard."""
        stage = state.stage
        scan = stage.inputs[0] if stage.inputs else None
        if not isinstance(scan, ScanInput) or task.group is None or len(task.group) != 1:
            return False
        form = scan.source.format
        if not form.record_oriented or not form.splittable or state.pre_pass is not None:
            return False
        if isinstance(form, ScannedFormat) and not form.finds_records:
            return False
        if (
            stage.limit is not None
            or stage.id in self._whole
            or (isinstance(stage.output, Write) and not stage.output.sink.is_folder)
        ):
            return False
        (shard,) = task.group
        streams = all(isinstance(step, MapStep) or step.streaming for step in stage.steps)
        return streams and not task.remainder and shard.end - shard.begin >= 2 * self._patience.part_bytes


def _read_by_number(states: Mapping[int, StageState]) -> set[int]:
    """Return the stages whose tasks must be the same for every scheduler of the run."""
    found = {s for state in states.values() for e in state.exchanges if e.mode == "forward" for s in e.stages}
    found |= {
        s
        for s, state in states.items()
        if isinstance(state.stage.output, Hash) and not state.stage.output.keys
    }
    return found | {state.pre_pass.stage.id for state in states.values() if state.pre_pass is not None}

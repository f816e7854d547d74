"""Tasks that take much longer than their like, and what is done about them once workers have nothing to do.

    slow, and may stop between batches      asked to hand in what it has
      it does                               the rest of its shard is cut over the idle workers, as tasks behind it
      it does not, within `grace`           as below, but what it hands in late still counts
    slow otherwise                          a second attempt at all of it; what ends first counts

    task 7     [begin ........................ end)
    handed in  [begin .... next)                         7    no byte is read twice
    the rest                    [.....)[......)[.....)   7.1  7.2  7.3

The rest begins where the hand-in says, as surely as that began right; where the other parts' records begin is
guessed, like that of any shard. The chain check goes over all of them in order, so it finds what was wrong.

May stop: tasks over one shard of a record format, whose outputs over two halves of it, one behind the other, are a
right output of all of it. Not where rows carry line numbers, which the later parts would not know. And in runs that are
recorded, not where readers know its tasks by number, or which partition a row is in depends on where tasks begin: a run
that is resumed, and reads the shard whole, would take what such readers kept for something else (`engines.keys`).

Invariant: a task hands in once; a part may hand in again. So ids are unique, and their order is that of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mmflow.engines.scans import Group
from mmflow.engines.stages import Slot, StageRun
from mmflow.exec.stage import Hash, MapStep, ScanInput, Write
from mmflow.exec.task import TaskId
from mmflow.shards import cut_rest

__all__ = ["Attempt", "Patience", "Stragglers"]

Attempt = tuple[TaskId, int]


@dataclass(frozen=True, slots=True)
class Patience:
    """When a task is slow, and how finely its rest is cut.

    Attributes:
        slow: It has taken this many times the mean of its stage's tasks,
        slow_seconds: and at least so long.
        grace: Seconds that it has to hand in, before it is taken to hang.
        part_bytes: Least bytes of a part.
    """

    slow: float = 4.0
    slow_seconds: float = 10.0
    grace: float = 5.0
    part_bytes: int = 1 << 20


class Stragglers:
    """Watches the tasks of a run. `idle`: workers that have nothing to do; the driver keeps it true."""

    def __init__(self, runs: Mapping[int, StageRun], patience: Patience, *, recorded: bool) -> None:
        self._runs = runs
        self._whole = _read_by_number(runs) if recorded else set()
        self._patience = patience
        self._asked: dict[Attempt, float] = {}  # when
        self._hand_ins: list[Attempt] = []
        self.idle = 0

    def look(self, running: Mapping[Attempt, float], now: float) -> list[tuple[StageRun, Slot]]:
        """What gets a second attempt now. Others are asked to hand in: `take_hand_ins`.

        Args:
            running: Attempts under way, and since when.
            now: The time.
        """
        chosen: list[tuple[StageRun, Slot]] = []
        # Workers for what the others will hand in.
        idle = self.idle - sum(now - asked <= self._patience.grace for asked in self._asked.values())
        for attempt, since in running.items():
            run = self._runs[attempt[0].stage]
            slot = run.slots.get(attempt[0])
            if idle <= 0:
                break
            if slot is None or slot.live != {attempt[1]} or not self._is_slow(run, now - since):
                continue
            asked = self._asked.get(attempt)
            if asked is None and self._may_hand_in(run, slot):
                self._asked[attempt] = now
                self._hand_ins.append(attempt)
                idle -= 1
            elif run.timed and (asked is None or now - asked > self._patience.grace):
                chosen.append((run, slot))
                idle -= 1
        return chosen

    def take_hand_ins(self) -> list[Attempt]:
        """Attempts to be asked to hand in what they have."""
        taken, self._hand_ins = self._hand_ins, []
        return taken

    def ended(self, attempt: Attempt) -> None:
        """An attempt has come back."""
        self._asked.pop(attempt, None)

    def give_out(self, run: StageRun, slot: Slot, rest: int, now: float) -> int:
        """Make tasks of what was not read of a slot's shard: for the worker that handed in, and the idle ones.

        Its key names all of the shard: what is left of it is known by none, nor are the parts. A run that is resumed
        finds nothing of the shard, and reads all of it.

        Args:
            run: Its stage.
            slot: Its task.
            rest: Where the first record begins that was not read (`Done.rest`).
            now: The time.

        Returns:
            How many.
        """
        assert slot.group is not None  # only scans hand in
        (shard,) = slot.group.shards
        assert shard.begin < rest < shard.end, "a task hands in at a batch of its shard"
        slot.group = replace(slot.group, shards=(replace(shard, end=rest),))
        parts = cut_rest(shard, rest, self.idle + 1, least=self._patience.part_bytes)
        starts = (rest, *[None] * (len(parts) - 1))
        run.insert(slot, [Group((p,), (s,), (0,)) for p, s in zip(parts, starts, strict=True)], now)
        slot.key = ""
        self.idle = max(0, self.idle - len(parts) + 1)
        return len(parts)

    def _is_slow(self, run: StageRun, seconds: float) -> bool:
        mean = run.seconds / run.timed if run.timed else 0.0
        return seconds > max(self._patience.slow_seconds, self._patience.slow * mean)

    def _may_hand_in(self, run: StageRun, slot: Slot) -> bool:
        stage = run.stage
        scan = stage.inputs[0] if stage.inputs else None
        if not isinstance(scan, ScanInput) or slot.group is None or len(slot.group.shards) != 1:
            return False
        form = scan.source.format
        if not form.record_oriented or not form.splittable or run.census is not None:
            return False
        if (
            stage.limit is not None
            or stage.id in self._whole
            or (isinstance(stage.output, Write) and not stage.output.sink.is_folder)
        ):
            return False
        (shard,) = slot.group.shards
        streams = all(isinstance(step, MapStep) or step.streaming for step in stage.steps)
        return streams and not slot.handed_in and shard.end - shard.begin >= 2 * self._patience.part_bytes


def _read_by_number(runs: Mapping[int, StageRun]) -> set[int]:
    """Stages whose tasks must be those of any other driver of the run."""
    found = {s for run in runs.values() for e in run.exchanges if e.mode == "forward" for s in e.stages}
    found |= {
        s for s, run in runs.items() if isinstance(run.stage.output, Hash) and not run.stage.output.keys
    }
    return found | {run.census.stage.id for run in runs.values() if run.census is not None}

"""Watchdog of a run: tasks that do not move are named, helped, and in the end fail the run.

    engine     which attempts have begun, and what those do that do not move (`Engine.movement`)
               and those that can't begin, since nothing has what they ask for
    watchdog   after `stall_after` seconds without movement     a warning and an event; a second attempt, as for
                                                                a silent worker (`speculation`), once it has begun
               after `stall_timeout`, if no attempt moves       `StalledError`

What moves is said in `worker.movement`. Whoever waits for rows of the run, and does not ask for them, stalls nothing.

Invariant: until an attempt is so old that it may be stalled, the watchdog costs one comparison a step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet

from mmflow.errors import StalledError
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.stages import Needs
from mmflow.scheduler.stages import Attempt, AttemptState
from mmflow.worker.movement import Stall, look_pause

__all__ = ["Limits", "Watchdog", "describe"]

#: Between two steps of a driver that is not away.
_LONGEST_STEP = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds without movement until a task is stalled (`after`), and until it fails the run (`timeout`; 0: never)."""

    after: float = 60.0
    timeout: float = 0.0

    @property
    def pause(self) -> float:
        """Return the seconds from one look to the next."""
        return look_pause(self.after)


class Watchdog:
    """Watch over the attempts of a run. Single-threaded.

    Attributes:
        stalled: Attempts that did not move when last looked at.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._due = self._asked = now
        self._begun: set[Attempt] = set()  # of those under way
        self._named: dict[Attempt, int] = {}  # with how much was known: 0: it has not begun; 2: it is stopped
        self.stalled: AbstractSet[Attempt] = frozenset()

    def due(self, running: Iterable[AttemptState], now: float) -> bool:
        """Return whether it is time to look at the attempts under way.

        It is not where the driver was away, since its rows were not read: what has ended is to be taken in first.
        """
        away, self._asked = now - self._asked > self._limits.pause + _LONGEST_STEP, now
        if away:
            self._due = now + self._limits.pause
        if now < self._due:
            return False
        self._due = now + self._limits.pause
        return any(now - attempt.since >= self._limits.pause for attempt in running)

    def take(
        self, found: Mapping[Attempt, Stall | None], running: Collection[AttemptState], now: float, slots: int
    ) -> list[tuple[AttemptState, Stall]]:
        """Take in what an engine found; return the attempts that are newly stalled.

        Args:
            found: Attempts that have begun, or can't (`Engine.movement`).
            running: Attempts under way.
            now: Time.
            slots: Tasks that the engine runs at once.

        Raises:
            StalledError: A task has not moved for longer than `timeout`, in none of its attempts.
        """
        stalled = {
            attempt.id: stall
            for attempt in running
            if attempt in attempt.task.live and (stall := found.get(attempt.id)) is not None
        }
        waiting = self._waiting(found, running, now, slots)
        stalled |= waiting
        # One that moved again may be named again, and one of which more is known now.
        known = {a: 0 if a in waiting else 1 + stall.stopped for a, stall in stalled.items()}
        newly = [(a, stalled[a.id]) for a in running if known.get(a.id, -1) > self._named.get(a.id, -1)]
        self._named = {a: max(level, self._named.get(a, -1)) for a, level in known.items()}
        self.stalled = {attempt for attempt, stall in stalled.items() if not stall.waits}
        if self._limits.timeout:
            for attempt in running:
                stall = stalled.get(attempt.id)
                if stall is None or attempt.id in waiting:
                    continue
                if all(self._is_over(a, found, now) for a in attempt.task.live):
                    raise StalledError(
                        f"{describe(attempt, stall)}; that is longer than stall_timeout = {self._limits.timeout:g} "
                        "allows: mend what it waits for, or allow more, then run again"
                    )
        return newly

    def _waiting(
        self, found: Mapping[Attempt, Stall | None], running: Collection[AttemptState], now: float, slots: int
    ) -> dict[Attempt, Stall]:
        """Return the oldest attempt that has not begun for a while though there are idle slots, and nothing else came.

        It does not fail the run, since the workers may be busy with what others have asked for. Attempts of a stage
        whose tasks move are in a queue for what these have; so is who may wait for what is reserved by name.
        """
        self._begun = {a.id for a in running if a.id in found or a.id in self._begun}
        begun = [attempt for attempt in running if attempt.id in self._begun]
        rest = [attempt for attempt in running if attempt.id not in self._begun]
        if not rest or len(begun) >= slots or any(now - a.since < self._limits.after for a in rest):
            return {}
        moving = {attempt.stage.stage.id for attempt in begun}
        if any(_asks(attempt.stage.stage.needs) for attempt in begun):
            return {}
        oldest = min(rest, key=lambda attempt: attempt.since)
        if oldest.stage.stage.id in moving:
            return {}
        asks = _asks(oldest.stage.stage.needs)
        place = (
            f"it has not begun{f', and asks for {asks}' if asks else ''}: the workers are busy with other work, "
            "stopped, or in tasks that hang"
        )
        return {oldest.id: Stall(now - oldest.since, place, waits=True)}

    def _is_over(self, attempt: AttemptState, found: Mapping[Attempt, Stall | None], now: float) -> bool:
        """Return whether an attempt has not moved for too long; one that has not begun neither."""
        if attempt.id not in found:
            return now - attempt.since >= self._limits.timeout
        stall = found[attempt.id]
        return stall is not None and stall.seconds >= self._limits.timeout


def _asks(needs: Needs) -> str:
    """Return the resources that a cluster reserves for each task of a stage; "": a slot."""
    wanted = {"num_cpus": needs.num_cpus, "num_gpus": needs.num_gpus}
    return ", ".join(f"{name}={number:g}" for name, number in wanted.items() if number)


def describe(attempt: AttemptState, stall: Stall) -> str:
    """Return which task is stalled, for how long, and where."""
    task, stage = attempt.task.id, attempt.stage.stage
    return (
        f"task {task.label} of stage {task.stage} ({stage.title}), attempt {attempt.number}, has not moved for "
        f"{stall.seconds:.0f} s: {stall}"
    )

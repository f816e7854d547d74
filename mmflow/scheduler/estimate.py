"""Estimate of the share of a run's work that is done, over all of its stages.

    released    share of a stage that is done: of scans by bytes of files, of others by tasks
    under way   tasks that run, by their time against that of those that ended
    work        seconds of all tasks: those measured, over the share released; before, by bytes of the inputs
    inputs      files, and outputs of the stages that it reads, over their share released

Invariant: the share of a run is 1 only once every stage has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mmflow.scheduler.stages import AttemptState, StageState

__all__ = ["fraction_done"]

#: Largest share of a task under way, and of a run that goes on.
_ALMOST = 0.99


def fraction_done(states: Mapping[int, StageState], running: Iterable[AttemptState], now: float) -> float:
    """Return the share of the work of all stages that is done, from 0 to 1.

    Args:
        states: States of the stages, those that are read before those that read them.
        running: Attempts under way.
        now: Time of the run's clock.
    """
    if all(state.complete for state in states.values()):
        return 1.0
    since: dict[int, list[float]] = {}
    for attempt in running:
        since.setdefault(attempt.stage.stage.id, []).append(now - attempt.since)
    outputs: dict[int, float] = {}
    measured_seconds = measured_bytes = done = total = 0.0
    for number, state in states.items():
        nbytes = _input_bytes(state, outputs)
        released, metrics = _released(state), state.metrics
        if released and metrics.seconds:
            work = metrics.seconds / released
            measured_seconds, measured_bytes = measured_seconds + work, measured_bytes + nbytes
        else:
            work = nbytes * (measured_seconds / measured_bytes if measured_bytes else 1.0)
        outputs[number] = metrics.bytes_out / released if released else nbytes
        done += work * (released + _under_way(state, released, since.get(number, ()), work))
        total += work
    return min(done / total, _ALMOST) if total else 0.0


def _input_bytes(state: StageState, outputs: Mapping[int, float]) -> float:
    read = sum(outputs[number] for exchange in state.exchanges for number in exchange.stages)
    return read + _size(state)


def _size(state: StageState) -> int:
    files = state.files if state.scan is None else state.scan.files
    return sum(f.identity.size for f in files)


def _released(state: StageState) -> float:
    """Return the share of a stage whose outputs were released."""
    if state.complete:
        return 1.0
    if state.scan is not None:
        size = _size(state)
        return min(state.scan.checker.covered / size, 1.0) if size else 0.0
    return min(state.released / state.total, 1.0) if state.total else 0.0


def _under_way(state: StageState, released: float, since: Iterable[float], work: float) -> float:
    """Return the share of a stage that tasks under way, or waiting to be released, have done; `work` in seconds."""
    total = state.total or (state.released / released if released else 0.0)
    if state.complete or not total:
        return 0.0
    each = state.seconds / state.timed if state.timed else work / total
    waiting = max(0, state.timed - state.released)
    running = sum(min(seconds / each, _ALMOST) for seconds in since) if each > 0 else 0.0
    return min((waiting + running) / total, 1.0 - released)

"""Time line of a run: which worker ran which task when.

However many tasks there are, at most about `MAX_BARS` bars are drawn, in `_MAX_LANES` lanes.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import field

from mmflow.lazy.dataclasses import dataclass
from mmflow.runs.report.charts import WIDTH, Tick, resumed_positions, split_by_bucket, ticks
from mmflow.runs.report.formatting import clipped, clock, duration, plural, size, visible
from mmflow.runs.report.model import Marker, RunHistory, Task, task_label
from mmflow.runs.report.rendering import Block, stage_colour

__all__ = ["MAX_BARS", "Legend", "Timeline", "timeline"]

MAX_BARS = 2000
_MAX_LANES = 48
_MAX_BUCKETS = 400
_MAX_MARKERS = 60
#: Tasks in a lane up to which lines are drawn between them.
_MAX_SPACED = 150
#: Tasks of one worker that overlap by less ran one after the other: clocks of processes differ by as much.
_OVERLAP_SECONDS = 0.002
_SIGNS = {
    "restarted": "!",
    "resumed": "\u25b8",
    "failed": "\u00d7",
    "rerun": "\u21bb",
    "speculative": "\u00bb",
}
_MEANINGS = {
    "restarted": "continued from the journal",
    "resumed": "run resumed",
    "failed": "attempt failed",
    "rerun": "shard read again",
    "speculative": "slow task helped",
}


@dataclass(slots=True)
class _Lane:
    """Tasks of a worker that did not overlap. `slot` 0 is the worker's first lane."""

    worker: str
    slot: int
    busy: float = 0.0
    tasks: list[Task] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.worker if self.slot == 0 else ""


@dataclass(frozen=True, slots=True)
class _Bar:
    colour: str
    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True, slots=True)
class _Sign:
    kind: str
    sign: str
    text: str
    percent: float = 0.0


@dataclass(frozen=True, slots=True)
class _Key:
    colour: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Legend(Block):
    """Stages as buttons that highlight one stage, and the signs in use."""

    macro = "legend"
    stages: Sequence[_Key]
    signs: Sequence[_Sign]


@dataclass(frozen=True, slots=True)
class Timeline(Block):
    """Drawing of a lane for each worker, with a bar for each task or span of time.

    Attributes:
        look: CSS class of the drawing.
        resumed: Positions where the run was resumed, as a share of the width.
        row_height: Height of a lane, in pixels.
    """

    macro = "timeline"
    label: str
    look: str
    lanes: Sequence[_Lane]
    bars: Sequence[_Bar]
    markers: Sequence[_Sign]
    resumed: Sequence[float]
    ticks: Sequence[Tick]
    row_height: int
    height: int
    width: int = WIDTH


def timeline(history: RunHistory) -> tuple[list[Block], str]:
    """Return legend and drawing, and a note on how to read them; nothing for a run without tasks."""
    if not history.tasks or history.seconds <= 0:
        return [], ""
    lanes = _lanes(history.tasks)
    shown = sorted(heapq.nlargest(_MAX_LANES, lanes, key=lambda lane: lane.busy), key=_lane_order)
    exact = sum(len(lane.tasks) for lane in shown) <= MAX_BARS
    row = 20 if len(shown) <= 12 else 15 if len(shown) <= 24 else 11
    titles = {s.id: f"{s.label} ({s.name})" for s in history.stages.values()}
    bars = (_task_bars if exact else _bucket_bars)(shown, history.seconds, row, titles)
    spaced = max(len(lane.tasks) for lane in shown) <= _MAX_SPACED
    drawing = Timeline(
        label=f"Time line of {plural(len(history.tasks), 'task')} in {plural(len(shown), 'lane')}",
        look="solid" if not exact else "spaced" if spaced else "",
        lanes=shown,
        bars=list(bars),
        markers=_markers(history.markers, history.seconds),
        resumed=resumed_positions(history),
        ticks=ticks(history.seconds),
        row_height=row,
        height=row * len(shown),
    )
    return [_legend(history), drawing], _note(history, lanes, shown, exact=exact)


def _note(history: RunHistory, lanes: Sequence[_Lane], shown: Sequence[_Lane], *, exact: bool) -> str:
    workers = plural(len({lane.worker for lane in lanes}), "worker")
    text = f"{plural(len(history.tasks), 'task')} on {workers}. "
    text += (
        "Each bar is one task."
        if exact
        else (
            "This is aggregated: a bar is a span of time, as high as the worker was busy, in the colour of the "
            "stage that took most of it."
        )
    )
    if len(shown) < len(lanes):
        text += f" The {len(shown)} busiest of {len(lanes):,} lanes are shown."
    if len(history.openings) > 1:
        text += " The run was resumed; the time between is left out."
    return text


def _lanes(tasks: Sequence[Task]) -> list[_Lane]:
    """Return the lanes in order of workers; a worker that ran several tasks at once has a lane for each."""
    lanes: dict[str, list[_Lane]] = defaultdict(list)
    free: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for task in sorted(tasks, key=lambda t: t.at):
        worker_lanes, ends = lanes[task.worker], free[task.worker]
        if ends and ends[0][0] <= task.at + _OVERLAP_SECONDS:
            _, slot = heapq.heappop(ends)
        else:
            slot = len(worker_lanes)
            worker_lanes.append(_Lane(task.worker, slot))
        heapq.heappush(ends, (task.at + task.seconds, slot))
        worker_lanes[slot].tasks.append(task)
        worker_lanes[slot].busy += task.seconds
    return sorted((lane for worker_lanes in lanes.values() for lane in worker_lanes), key=_lane_order)


def _lane_order(lane: _Lane) -> tuple[int, str, int]:
    """Return a key that sorts `worker-10` behind `worker-9`."""
    return len(lane.worker), lane.worker, lane.slot


def _task_bars(lanes: Sequence[_Lane], total: float, row: int, titles: dict[int, str]) -> Iterable[_Bar]:
    for number, lane in enumerate(lanes):
        for t in lane.tasks:
            text = (
                f"task {task_label(t.number, t.part)} of stage {titles[t.stage]}\n{duration(t.seconds)} on "
                f"{t.worker}, {plural(t.rows_in, 'row')} in, {t.rows_out:,} out"
                + (f", {size(t.bytes_read)} read" if t.bytes_read else "")
                + (f", attempt {t.attempt}" if t.attempt else "")
            )
            yield _bar(t.at / total, t.seconds / total, number, row, 1.0, t.stage, text)


def _bucket_bars(lanes: Sequence[_Lane], total: float, row: int, titles: dict[int, str]) -> Iterable[_Bar]:
    buckets = max(1, min(_MAX_BUCKETS, MAX_BARS // len(lanes)))
    width = total / buckets
    for number, lane in enumerate(lanes):
        busy: list[defaultdict[int, float]] = [defaultdict(float) for _ in range(buckets)]
        tasks = [0] * buckets
        for t in lane.tasks:
            tasks[min(int(t.at / width), buckets - 1)] += 1
            for b, seconds in split_by_bucket(t.at, t.at + t.seconds, width, buckets):
                busy[b][t.stage] += seconds
        for b, by_stage in enumerate(busy):
            if not by_stage:
                continue
            stage = max(by_stage, key=lambda s: by_stage[s])
            share = min(1.0, sum(by_stage.values()) / width)
            text = (
                f"{clock(round(b * width, 2))} on {lane.worker}: {share:.0%} busy, "
                f"{plural(tasks[b], 'task')} started\nmostly stage {titles[stage]}"
            )
            yield _bar(b / buckets, 1 / buckets, number, row, share, stage, text)


def _bar(x: float, width: float, lane: int, row: int, share: float, stage: int, text: str) -> _Bar:
    height = max(1.0, (row - 3) * share)
    y = lane * row + row - 1.5 - height
    return _Bar(stage_colour(stage), WIDTH * x, y, max(0.5, WIDTH * width), height, text)


def _markers(markers: Sequence[Marker], total: float) -> list[_Sign]:
    """Return the signs above the lanes; those that would overlap are one, the first of its kinds in `_SIGNS`."""
    near: dict[int, list[Marker]] = defaultdict(list)
    for m in markers:
        near[int(_MAX_MARKERS * m.at / total)].append(m)
    signs = []
    for group in near.values():
        counts = Counter(m.kind for m in group)
        kind = next(k for k in _SIGNS if k in counts)
        text = visible(group[0].text, 300)
        if len(group) > 1:
            text = ", ".join(f"{n:,} \u00d7 {_MEANINGS[k]}" for k, n in counts.items())
        at = sum(m.at for m in group) / len(group)
        signs.append(_Sign(kind, _SIGNS[kind], f"{clock(round(at, 2))}: {text}", 100 * at / total))
    return signs


def _legend(history: RunHistory) -> Legend:
    used = {t.stage for t in history.tasks}
    kinds = {m.kind for m in history.markers}
    return Legend(
        stages=[
            _Key(stage_colour(s.id), s.title, f"{s.label} {clipped(s.name, 60)}")
            for s in sorted(history.stages.values(), key=lambda s: s.id)
            if s.id in used
        ],
        signs=[_Sign(k, _SIGNS[k], _MEANINGS[k]) for k in _SIGNS if k in kinds],
    )

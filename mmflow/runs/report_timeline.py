"""What each worker did when.

However many tasks there are, at most about `MOST_RECTS` rectangles are drawn, in `_MOST_LANES` lanes.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mmflow.runs.markup import NOTHING, Html, joined, safe
from mmflow.runs.report_charts import WIDE, axis, colour, cut, spread
from mmflow.runs.story import Mark, Story, Task, label
from mmflow.runs.wording import clipped, clock, duration, plural, size

__all__ = ["MOST_RECTS", "legend", "timeline"]

MOST_RECTS = 2000
_MOST_LANES = 48
_MOST_BUCKETS = 400
_MOST_SIGNS = 60
_MOST_SPACED = 150  # tasks in a lane, with lines between them
# Tasks of one worker that overlap by less ran one after the other: clocks of processes differ that much.
_OVERLAP = 0.002
_SIGNS = {"restarted": "!", "resumed": "\u25b8", "failed": "\u00d7", "rerun": "\u21bb", "second": "\u00bb"}
_MEANINGS = {
    "restarted": "went on from the journal",
    "resumed": "run resumed",
    "failed": "attempt failed",
    "rerun": "shard read again",
    "second": "slow task tried twice at once",
}


@dataclass(slots=True)
class _Lane:
    """Tasks of a worker that did not overlap. `slot` 0: the worker's first lane."""

    worker: str
    slot: int
    busy: float = 0.0
    tasks: list[Task] = field(default_factory=list)


def timeline(story: Story) -> tuple[Html, str]:
    """The drawing, and a sentence on how to read it."""
    if not story.tasks or story.seconds <= 0:
        return NOTHING, ""
    lanes = _lanes(story.tasks)
    shown = sorted(heapq.nlargest(_MOST_LANES, lanes, key=lambda lane: lane.busy), key=_lane_order)
    exact = sum(len(lane.tasks) for lane in shown) <= MOST_RECTS
    row = 20 if len(shown) <= 12 else 15 if len(shown) <= 24 else 11
    total = story.seconds
    titles = {s.id: f"{s.label} ({s.title or 'pass on'})" for s in story.stages.values()}
    rects = _exact(shown, total, row, titles) if exact else _bucketed(shown, total, row, titles)
    high = row * len(shown)
    stripes = joined(
        Html(f'<rect class="stripe" x="0" y="{y * row}" width="{WIDE:.0f}" height="{row}"/>')
        for y in range(1, len(shown), 2)
    )
    cuts = joined(cut(m.at / total, high) for m in story.marks if m.kind in ("resumed", "restarted"))
    label = f"Time line of {plural(len(story.tasks), 'task')} in {plural(len(shown), 'lane')}"
    look = "solid" if not exact else "spaced" if max(len(n.tasks) for n in shown) <= _MOST_SPACED else ""
    drawing = Html(
        f'<svg class="{look}" viewBox="0 0 {WIDE:.0f} {high}" style="height:{high}px" preserveAspectRatio="none" '
        f'role="img" aria-label="{label}">{stripes}{joined(rects)}{cuts}</svg>'
    )
    # The end of a long name tells workers apart, so its beginning is what gives way (see the style).
    names = joined(
        Html(
            f'<span style="height:{row}px;line-height:{row}px" title="{safe(lane.worker)}">'
            f"<bdi>{safe(lane.worker if lane.slot == 0 else '')}</bdi></span>"
        )
        for lane in shown
    )
    low = " low" if row < 15 else ""
    html = Html(
        f'<div class="plot"><div></div>{_marks(story.marks, total)}<div class="lanes{low}">{names}</div>'
        f"{drawing}<div></div>{axis(total)}</div>"
    )
    return html, _how(story, lanes, shown, exact=exact)


def _how(story: Story, lanes: Sequence[_Lane], shown: Sequence[_Lane], *, exact: bool) -> str:
    workers = plural(len({lane.worker for lane in lanes}), "worker")
    text = f"{plural(len(story.tasks), 'task')} on {workers}. "
    text += (
        "One bar is one task."
        if exact
        else (
            "This is aggregated: a bar is a span of time, as high as the worker was busy, in the colour of the "
            "stage that took most of it."
        )
    )
    if len(shown) < len(lanes):
        text += f" The {len(shown)} busiest of {len(lanes):,} lanes are shown."
    if len(story.openings) > 1:
        text += " The run was resumed; the time between is left out."
    return text


def _lanes(tasks: Sequence[Task]) -> list[_Lane]:
    """Workers in order, those that ran several tasks at once with a lane for each."""
    lanes: dict[str, list[_Lane]] = defaultdict(list)
    free: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for task in sorted(tasks, key=lambda t: t.at):
        mine, ends = lanes[task.worker], free[task.worker]
        if ends and ends[0][0] <= task.at + _OVERLAP:
            _, slot = heapq.heappop(ends)
        else:
            slot = len(mine)
            mine.append(_Lane(task.worker, slot))
        heapq.heappush(ends, (task.at + task.seconds, slot))
        mine[slot].tasks.append(task)
        mine[slot].busy += task.seconds
    return sorted((lane for mine in lanes.values() for lane in mine), key=_lane_order)


def _lane_order(lane: _Lane) -> tuple[int, str, int]:
    """`worker-10` behind `worker-9`."""
    return len(lane.worker), lane.worker, lane.slot


def _exact(lanes: Sequence[_Lane], total: float, row: int, titles: dict[int, str]) -> Iterable[Html]:
    for y, lane in enumerate(lanes):
        for t in lane.tasks:
            text = (
                f"task {label(t.number, t.part)} of stage {titles[t.stage]}\n{duration(t.seconds)} on {t.worker}, "
                f"{plural(t.rows_in, 'row')} in, {t.rows_out:,} out"
                + (f", {size(t.bytes_read)} read" if t.bytes_read else "")
                + (f", attempt {t.attempt}" if t.attempt else "")
            )
            yield _rect(t.at / total, t.seconds / total, y * row, row, 1.0, t.stage, text)


def _bucketed(lanes: Sequence[_Lane], total: float, row: int, titles: dict[int, str]) -> Iterable[Html]:
    buckets = max(1, min(_MOST_BUCKETS, MOST_RECTS // len(lanes)))
    wide = total / buckets
    for y, lane in enumerate(lanes):
        busy: list[defaultdict[int, float]] = [defaultdict(float) for _ in range(buckets)]
        tasks = [0] * buckets
        for t in lane.tasks:
            tasks[min(int(t.at / wide), buckets - 1)] += 1
            for b, seconds in spread(t.at, t.at + t.seconds, wide, buckets):
                busy[b][t.stage] += seconds
        for b, by_stage in enumerate(busy):
            if not by_stage:
                continue
            stage = max(by_stage, key=lambda s: by_stage[s])
            share = min(1.0, sum(by_stage.values()) / wide)
            text = (
                f"{clock(round(b * wide, 2))} on {lane.worker}: {share:.0%} busy, {plural(tasks[b], 'task')} begun\n"
                f"mostly stage {titles[stage]}"
            )
            yield _rect(b / buckets, 1 / buckets, y * row, row, share, stage, text)


def _rect(x: float, wide: float, y: float, row: int, share: float, stage: int, text: str) -> Html:
    high = max(1.0, (row - 3) * share)
    return Html(
        f'<rect class="{colour(stage)}" x="{WIDE * x:.2f}" y="{y + row - 1.5 - high:.1f}" '
        f'width="{max(0.5, WIDE * wide):.2f}" height="{high:.1f}"><title>{safe(text)}</title></rect>\n'
    )


def _marks(marks: Sequence[Mark], total: float) -> Html:
    """Signs above the lanes; those that would cover each other are one, the first of its kinds in `_SIGNS`."""
    near: dict[int, list[Mark]] = defaultdict(list)
    for m in marks:
        near[int(_MOST_SIGNS * m.at / total)].append(m)
    signs = []
    for group in near.values():
        counts = Counter(m.kind for m in group)
        kind = next(k for k in _SIGNS if k in counts)
        text = group[0].text
        if len(group) > 1:
            text = ", ".join(f"{n:,} \u00d7 {_MEANINGS[k]}" for k, n in counts.items())
        at = sum(m.at for m in group) / len(group)
        signs.append(
            Html(
                f'<span class="mark sign {kind}" style="left:{100 * at / total:.2f}%" '
                f'title="{clock(round(at, 2))}: {safe(text, 300)}">{_SIGNS[kind]}</span>'
            )
        )
    return Html(f'<div class="marks">{joined(signs)}</div>')


def legend(story: Story) -> Html:
    """Stages as buttons, which let one stage stand out, and the signs that there are."""
    seen = {t.stage for t in story.tasks}
    stages = joined(
        Html(
            f'<button class="key" data-stage="{colour(s.id)}" aria-pressed="false" title="{safe(s.title)}">'
            f'<i class="swatch {colour(s.id)}"></i>'
            f"{safe(s.label)} {safe(clipped(s.title or 'pass on', 60))}</button>"
        )
        for s in sorted(story.stages.values(), key=lambda s: s.id)
        if s.id in seen
    )
    kinds = {m.kind for m in story.marks}
    signs = joined(
        Html(f'<span class="key"><b class="sign {k}">{_SIGNS[k]}</b>{_MEANINGS[k]}</span>')
        for k in _SIGNS
        if k in kinds
    )
    return Html(f'<div class="legend">{stages}{signs}</div>')

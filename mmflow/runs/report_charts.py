"""How fast and how large a run was over time, and what its drawings have in common.

A drawing is stretched to the width of the page, so what it holds is rectangles and lines; all text is HTML beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from mmflow.runs.markup import NOTHING, Html, joined, safe
from mmflow.runs.story import Story
from mmflow.runs.wording import clock, count, size

__all__ = ["WIDE", "axis", "colour", "cut", "memory_chart", "spread", "throughput_chart"]

WIDE = 1000.0  # of every drawing, in its own units
_MOST_BUCKETS = 120
_COLOURS = 8
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


def colour(stage: int) -> str:
    """CSS class of a stage's colour."""
    return f"c{stage % _COLOURS}"


def spread(begin: float, end: float, wide: float, buckets: int) -> Iterable[tuple[int, float]]:
    """Buckets that a span touches, with the seconds of it that lie in each."""
    first, last = min(int(begin / wide), buckets - 1), min(int(end / wide), buckets - 1)
    for b in range(first, last + 1):
        yield b, max(0.0, min(end, (b + 1) * wide) - max(begin, b * wide))


def cut(x: float, high: int) -> Html:
    """Where the run was resumed."""
    return Html(f'<line class="cut" x1="{WIDE * x:.2f}" x2="{WIDE * x:.2f}" y1="0" y2="{high}"/>')


def axis(total: float) -> Html:
    """Ticks below a drawing."""
    step = _step(total)
    ticks = []
    for t in (i * step for i in range(int(total / step) + 1)):
        last = ' class="last"' if t > 0.96 * total else ""
        ticks.append(f'<span{last} style="left:{100 * t / total:.2f}%">{clock(t)}</span>')
    return Html(f'<div class="axis">{"".join(ticks)}</div>')


def _step(total: float) -> float:
    """Between ticks, so that there are seven at most.

    >>> _step(6.5), _step(100), _step(0.03), _step(900_000)
    (1.0, 15.0, 0.005, 172800.0)
    """
    if total < 7:
        power = 10.0 ** math.floor(math.log10(total / 7))
        return next(power * n for n in (1, 2, 5, 10) if power * n * 7 >= total)
    for step in _STEPS:
        if step * 7 >= total:
            return float(step)
    return 86400.0 * math.ceil(total / 7 / 86400)


# ---- charts over time -----------------------------------------------------------------------------------


def throughput_chart(story: Story) -> Html:
    """Bytes of inputs a second, or rows where no bytes were read."""
    by_bytes = any(s.bytes_done for s in story.samples)
    buckets, wide = _buckets(story, len(story.samples) - 1)
    sums: list[float | None] = [None] * buckets
    covered = [0.0] * buckets
    # What a journal gives at once is no speed: a part of a run that goes on begins with its first sample.
    before: tuple[float, int, int] | None = None
    for s in story.samples:
        now = (s.at, s.part, s.bytes_done if by_bytes else s.rows)
        if before is not None and before[1] == s.part and s.at > before[0]:
            rate = max(0, now[2] - before[2]) / (s.at - before[0])
            for b, seconds in spread(before[0], s.at, wide, buckets):
                sums[b] = (sums[b] or 0.0) + rate * seconds
                covered[b] += seconds
        before = now
    rates = [None if v is None or not covered[b] else v / covered[b] for b, v in enumerate(sums)]
    wording = (lambda v: f"{size(v)}/s") if by_bytes else (lambda v: f"{count(v)} rows/s")
    return _chart("Throughput" if by_bytes else "Rows a second", rates, story, wording)


def memory_chart(story: Story) -> Html:
    """Anonymous memory of the largest process."""
    buckets, wide = _buckets(story, len(story.tasks))
    peaks: list[float | None] = [None] * buckets
    for t in story.tasks:
        b = min(int((t.at + t.seconds) / wide), buckets - 1)
        if t.anonymous:
            peaks[b] = max(peaks[b] or 0.0, t.anonymous)
    held: float | None = None
    for b, peak in enumerate(peaks):  # it stays what it was until a task says otherwise
        held = peaks[b] = held if peak is None else peak
    return _chart("Anonymous memory, largest process", peaks, story, size)


def _buckets(story: Story, points: int) -> tuple[int, float]:
    buckets = max(1, min(_MOST_BUCKETS, points))
    return buckets, max(story.seconds, 1e-9) / buckets


def _chart(title: str, values: Sequence[float | None], story: Story, wording: Callable[[float], str]) -> Html:
    """Steps over time, with two lines to read them by."""
    most = max((v for v in values if v is not None), default=0.0)
    if not most or story.seconds <= 0:
        return NOTHING
    high, wide = 90.0, WIDE / len(values)
    area, hits = [], []
    for b, v in enumerate(values):
        if v is None:
            continue
        x, y = b * wide, high - (high - 2) * v / most
        area.append(f"M{x:.1f} {high:.0f}V{y:.1f}h{wide:.2f}V{high:.0f}z")
        text = f"{clock(round(story.seconds * b / len(values), 2))}: {wording(v)}"
        hits.append(
            f'<rect class="hit" x="{x:.1f}" y="0" width="{wide:.2f}" height="{high:.0f}"><title>{text}</title></rect>'
        )
    grid = "".join(f'<line class="grid" x1="0" x2="{WIDE:.0f}" y1="{y}" y2="{y}"/>' for y in (2, 46))
    cuts = joined(
        cut(m.at / story.seconds, int(high)) for m in story.marks if m.kind in ("resumed", "restarted")
    )
    label = f"{title} over time, at most {wording(most)}"
    return Html(
        f'<h3>{safe(title)}</h3><div class="plot"><div class="scale"><span>{wording(most)}</span>'
        f"<span>{wording(most / 2)}</span><span>0</span></div>"
        f'<svg viewBox="0 0 {WIDE:.0f} {high:.0f}" style="height:{high:.0f}px" preserveAspectRatio="none" role="img" '
        f'aria-label="{safe(label)}">{grid}<path class="area" d="{"".join(area)}"/>{cuts}{"".join(hits)}</svg>'
        f"<div></div>{axis(story.seconds)}</div>"
    )

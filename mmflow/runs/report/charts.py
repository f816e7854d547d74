"""Charts of throughput and memory over time, and the scale that all drawings share.

A drawing is stretched to the width of the page, so it holds only rectangles and lines; its text is HTML beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from mmflow.lazy.dataclasses import dataclass
from mmflow.runs.report.formatting import clock, count, size
from mmflow.runs.report.model import RunHistory
from mmflow.runs.report.rendering import Block

__all__ = [
    "WIDTH",
    "Chart",
    "Tick",
    "memory_chart",
    "resumed_positions",
    "split_by_bucket",
    "throughput_chart",
    "ticks",
]

#: Width of every drawing, in units of its own.
WIDTH = 1000
_HEIGHT = 90
_MAX_BUCKETS = 120
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Tick:
    """Tick of a time axis; `last` marks one at the right edge."""

    percent: float
    text: str
    last: bool


@dataclass(frozen=True, slots=True)
class _Bar:
    x: float
    y: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart(Block):
    """Chart of one value over time, in steps.

    Attributes:
        highest, middle: Labels of the scale at the largest value and at its half.
        resumed: Positions where the run was resumed, as a share of the width.
    """

    macro = "chart"
    title: str
    highest: str
    middle: str
    bars: Sequence[_Bar]
    resumed: Sequence[float]
    ticks: Sequence[Tick]
    width: int = WIDTH
    height: int = _HEIGHT


def split_by_bucket(begin: float, end: float, width: float, buckets: int) -> Iterable[tuple[int, float]]:
    """Yield the buckets that a span touches, with its seconds in each."""
    first, last = min(int(begin / width), buckets - 1), min(int(end / width), buckets - 1)
    for b in range(first, last + 1):
        yield b, max(0.0, min(end, (b + 1) * width) - max(begin, b * width))


def resumed_positions(history: RunHistory) -> list[float]:
    """Return where the run was resumed, as a share of its time."""
    return [m.at / history.seconds for m in history.markers if m.kind in ("resumed", "restarted")]


def ticks(total: float) -> list[Tick]:
    """Return the ticks below a drawing of `total` seconds."""
    step = _step(total)
    times = [i * step for i in range(int(total / step) + 1)]
    return [Tick(100 * t / total, clock(t), last=t > 0.96 * total and t > 0) for t in times]


def _step(total: float) -> float:
    """Return the seconds between ticks, so that there are at most seven.

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


def throughput_chart(history: RunHistory) -> list[Chart]:
    """Return the chart of input bytes per second, or of rows where no bytes were read; none without samples."""
    by_bytes = any(s.bytes_done for s in history.samples)
    buckets, width = _buckets(history, len(history.samples) - 1)
    sums: list[float | None] = [None] * buckets
    covered = [0.0] * buckets
    # Counts restored from a journal are no throughput: each part of a run begins with its first sample.
    before: tuple[float, int, int] | None = None
    for s in history.samples:
        now = (s.at, s.part, s.bytes_done if by_bytes else s.rows)
        if before is not None and before[1] == s.part and s.at > before[0]:
            rate = max(0, now[2] - before[2]) / (s.at - before[0])
            for b, seconds in split_by_bucket(before[0], s.at, width, buckets):
                sums[b] = (sums[b] or 0.0) + rate * seconds
                covered[b] += seconds
        before = now
    rates = [None if v is None or not covered[b] else v / covered[b] for b, v in enumerate(sums)]
    if by_bytes:
        return _chart("Throughput", rates, history, lambda v: f"{size(v)}/s")
    return _chart("Rows per second", rates, history, lambda v: f"{count(v)} rows/s")


def memory_chart(history: RunHistory) -> list[Chart]:
    """Return the chart of the largest process's anonymous memory; none where it is unknown."""
    buckets, width = _buckets(history, len(history.tasks))
    peaks: list[float | None] = [None] * buckets
    for t in history.tasks:
        b = min(int((t.at + t.seconds) / width), buckets - 1)
        if t.anonymous:
            peaks[b] = max(peaks[b] or 0.0, t.anonymous)
    current: float | None = None
    for b, peak in enumerate(peaks):  # without a task that reports, the last value holds
        current = peaks[b] = current if peak is None else peak
    return _chart("Anonymous memory, largest process", peaks, history, size)


def _buckets(history: RunHistory, points: int) -> tuple[int, float]:
    buckets = max(1, min(_MAX_BUCKETS, points))
    return buckets, max(history.seconds, 1e-9) / buckets


def _chart(
    title: str, values: Sequence[float | None], history: RunHistory, text: Callable[[float], str]
) -> list[Chart]:
    most = max((v for v in values if v is not None), default=0.0)
    if not most or history.seconds <= 0:
        return []
    width = WIDTH / len(values)
    bars = [
        _Bar(
            b * width,
            _HEIGHT - (_HEIGHT - 2) * v / most,
            width,
            f"{clock(round(history.seconds * b / len(values), 2))}: {text(v)}",
        )
        for b, v in enumerate(values)
        if v is not None
    ]
    return [
        Chart(title, text(most), text(most / 2), bars, resumed_positions(history), ticks(history.seconds))
    ]

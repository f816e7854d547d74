"""Meter of a run: share of the work, stage, bytes, rows, time left."""

from __future__ import annotations

import re
from collections import deque
from typing import Literal

from mmflow.scheduler.progress import Progress
from mmflow.sinks.screen import cut_text, text_width

__all__ = ["Ending", "Meter"]

#: How a run ended: it gave all of its rows; it failed; Ctrl-C; its rows were not asked for any more.
Ending = Literal["done", "failed", "interrupted", "stopped"]

#: Seconds over which the speed is measured: tasks end in jumps.
_WINDOW = 20.0
#: An estimate from less than this share of the work, or from fewer seconds, is worth nothing.
_FIRST_SHARE, _FIRST_SECONDS = 0.03, 1.5


class Meter:
    """Texts about the progress of one run. The share that they give never shrinks, however the estimate does."""

    def __init__(self) -> None:
        self.share = 0.0
        self._last: Progress | None = None
        self._seen: deque[tuple[float, float]] = deque()

    def update(self, progress: Progress) -> None:
        """Take in the latest progress."""
        self._last = progress
        self.share = max(self.share, progress.fraction)
        self._seen.append((progress.elapsed, self.share))
        while len(self._seen) > 2 and self._seen[1][0] < progress.elapsed - _WINDOW:
            self._seen.popleft()

    def stage(self, width: int = 28) -> str:
        """Return number and title of the stage that runs, in at most this width."""
        p = self._last
        if p is None or not p.stages:
            return "starting"
        at = next((i for i, s in enumerate(p.stages) if s.running), None)
        if at is None:
            at = next((i for i, s in enumerate(p.stages) if not s.complete), len(p.stages) - 1)
        from mmflow.runs.report.formatting import visible  # noqa: PLC0415  (slow)

        title = visible(
            re.sub(r"[^\s,]*/(?=[^\s/,])", "", p.stages[at].title), 200
        )  # files without their folders
        return cut_text(f"{at + 1}/{len(p.stages)} {title}" if len(p.stages) > 1 else title, width)

    @property
    def percent(self) -> str:
        """Share of the whole run, in percent; 100% only at its end."""
        return f"{int(self.share * 100)}%"

    @property
    def left(self) -> str:
        """Estimated time that is left; "" where too little is known."""
        if self._last is None or self.share >= 1 or self.share < _FIRST_SHARE:
            return ""
        (since, before), now = self._seen[0], self._last.elapsed
        if now - since < _FIRST_SECONDS or self.share <= before:
            return ""
        seconds = (1 - self.share) * (now - since) / (self.share - before)
        from mmflow.runs.report.formatting import duration  # noqa: PLC0415  (slow)

        return f"~{max(1, round(seconds))} s left" if seconds < 59.5 else f"~{duration(seconds)} left"

    @property
    def bytes_read(self) -> str:
        """Bytes of files that were read, and of all files; "" if there are none."""
        p = self._last
        if p is None or not p.bytes_total:
            return ""
        from mmflow.runs.report.formatting import size  # noqa: PLC0415  (slow)

        total = size(p.bytes_total)
        if p.bytes_done >= p.bytes_total:
            return total
        done, unit = size(p.bytes_done).split()
        return f"{done if unit == total.split()[1] else f'{done} {unit}'} of {total}"

    @property
    def from_cache(self) -> str:
        """Bytes of columns that were read from the cache instead of the text, and of text; "" if there are none."""
        stages = () if self._last is None else self._last.stages
        cached = sum(stage.from_cache for stage in stages)
        if not cached:
            return ""
        from mmflow.runs.report.formatting import size  # noqa: PLC0415  (slow)

        return f"{size(cached)} of columns from the cache, {size(sum(s.bytes_read for s in stages))} read"

    @property
    def rows(self) -> str:
        """Rows that were read, or made where none are read."""
        p = self._last
        rows = 0 if p is None else p.records or p.rows
        from mmflow.runs.report.formatting import count  # noqa: PLC0415  (slow)

        return f"{count(rows)} row{'s' * (rows != 1)}" if rows else ""

    @property
    def bad(self) -> str:
        """Bad records; "" if there are none."""
        return f"{self._last.bad:,} bad" if self._last is not None and self._last.bad else ""

    def sentence(self) -> str:
        """Return all of it for a log.

        >>> Meter().sentence()
        '0%, starting'
        """
        return ", ".join(
            filter(None, (self.percent, self.stage(), self.bytes_read, self.rows, self.bad, self.left))
        )

    def ended(self, ending: Ending) -> str:
        """Return how the run ended, after which time and with which counts."""
        if self._last is None:
            return ending
        from mmflow.runs.report.formatting import duration  # noqa: PLC0415  (slow)

        took = f"{ending} {'in' if ending == 'done' else 'after'} {duration(self._last.elapsed)}"
        share = "" if ending == "done" else f"at {self.percent}"
        return ", ".join(filter(None, (took, share, self.bytes_read, self.from_cache, self.rows, self.bad)))

    def line(self, width: int, *, colors: bool = False) -> str:
        """Return it on a line that is shorter than `width`. What matters less is left out where it is narrow.

        >>> Meter().line(40), Meter().line(20), Meter().line(5)
        ('0%  ────────────────────────  starting', '0%  starting', '0%')
        """
        read, rows, bad, left = self.bytes_read, self.rows, self.bad, self.left
        for bar_width, stage_width, others in (
            (24, 60, (read, rows, bad, left)),
            (16, 28, (read, rows, bad, left)),
            (12, 20, (read, rows, bad, left)),
            (8, 16, (read, rows, bad, left)),
            (0, 14, (read, rows, bad, left)),
            (0, 14, (read, bad, left)),
            (0, 14, (left,)),
            (0, 10, (left,)),
            (0, 12, ()),
            (0, 0, ()),
        ):
            bar = _bar(self.share, bar_width)
            stage = self.stage(stage_width) if stage_width else ""
            line = "  ".join(filter(None, (self.percent, bar, stage, *others)))
            if text_width(line) < width:
                break
        return (
            line.replace(bar, _bar(self.share, bar_width, colors=True), 1) if bar and colors else line[:width]
        )


def _bar(share: float, width: int, *, colors: bool = False) -> str:
    """Return a bar of this many characters.

    >>> _bar(0.5, 4), _bar(0, 2), _bar(1, 2)
    ('━━──', '──', '━━')
    """
    full = int(share * width)
    done, rest = "━" * full, "─" * (width - full)
    return f"\x1b[36m{done}\x1b[0;2m{rest}\x1b[0m" if colors else done + rest

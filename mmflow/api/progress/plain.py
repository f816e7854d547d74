"""Lines for logs, at growing intervals, without control characters."""

from __future__ import annotations

import contextlib
from typing import Any

from mmflow.api.progress.meter import Ending, Meter
from mmflow.scheduler.progress import Progress

__all__ = ["PlainDisplay"]

#: Seconds between lines; the last one is kept.
_INTERVALS = (10.0, 20.0, 30.0, 60.0)


class PlainDisplay:
    """Progress of a run as a line after 10 seconds, 30, 60, and then each minute."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._meter = Meter()
        self._lines = 0
        self._due = _INTERVALS[0]

    def update(self, progress: Progress) -> None:
        """Print a line if it is due."""
        self._meter.update(progress)
        if progress.elapsed >= self._due:
            self._lines += 1
            self._due = progress.elapsed + _INTERVALS[min(self._lines, len(_INTERVALS) - 1)]
            self._print(self._meter.sentence())

    def clear(self) -> None:
        """Do nothing: lines stay."""

    def close(self, ending: Ending) -> None:
        """Print how the run ended, if anything was printed of it."""
        if self._lines:
            self._print(self._meter.ended(ending))

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            self._stream.write(f"mmflow: {text}\n".encode(encoding, "replace").decode(encoding))
            self._stream.flush()

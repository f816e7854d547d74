"""One line at the cursor of a terminal.

The line is drawn, what follows on the screen is erased, and the cursor goes back to its beginning. So the line is wiped
by erasing from the cursor on, also where a narrower window has wrapped it; and what others print stands in its place.

Invariant: one display at a time draws, and nothing is left on the screen when it closes.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any, ClassVar

from mmflow.api.progress.meter import Ending, Meter
from mmflow.scheduler.progress import Progress
from mmflow.sinks.screen import has_colors, is_terminal, screen_width

__all__ = ["TerminalDisplay"]

#: A run that is over before is not worth a bar.
_FIRST_SECONDS = 0.4
_ERASE = "\r\x1b[J"


class TerminalDisplay:
    """Progress of a run on one line of a terminal."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _drawing: ClassVar[TerminalDisplay | None] = None

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._meter = Meter()
        self._drawn = self._partial = False
        self._writing = threading.RLock()
        self._wrapped: dict[str, _Above] = {}

    def update(self, progress: Progress) -> None:
        """Draw the line, unless another run's is drawn or this one has only begun."""
        self._meter.update(progress)
        if progress.elapsed < _FIRST_SECONDS or not self._owns():
            return
        line = self._meter.line(screen_width(self._stream) or 80, colors=has_colors(self._stream))
        with self._writing:
            if self._partial:
                return
            self._drawn = True
            self._write(f"{line}\x1b[J\r")

    def clear(self) -> None:
        """Wipe the line until it is drawn again: something else is about to be printed."""
        with self._writing:
            if self._drawn:
                self._drawn = False
                self._write(_ERASE)

    def print(self, stream: Any, text: str) -> Any:
        """Write text to a stream in the place of the line, which is drawn again below."""
        with self._writing:
            self.clear()
            if text:
                self._partial = not text.endswith("\n")  # its line is not to be drawn over
            return stream.write(text)

    def close(self, ending: Ending) -> None:
        """Wipe the line for good."""
        self.clear()
        for name, above in self._wrapped.items():
            if getattr(sys, name) is above:
                setattr(sys, name, above.stream)
        self._wrapped.clear()
        with self._lock:
            if TerminalDisplay._drawing is self:
                TerminalDisplay._drawing = None

    def _owns(self) -> bool:
        with self._lock:
            if TerminalDisplay._drawing is None:
                TerminalDisplay._drawing = self
                for name in ("stdout", "stderr"):
                    stream = getattr(sys, name)
                    if is_terminal(stream):
                        self._wrapped[name] = _Above(stream, self)
                        setattr(sys, name, self._wrapped[name])
            return TerminalDisplay._drawing is self

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal has gone
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()


class _Above:
    """Standard stream while a line is drawn: user functions that print, and warnings, wipe it first."""

    def __init__(self, stream: Any, display: TerminalDisplay) -> None:
        self.stream = stream
        self._display = display

    def write(self, text: str) -> Any:
        return self._display.print(self.stream, text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

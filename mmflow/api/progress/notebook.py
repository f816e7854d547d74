"""One output of a notebook's cell that is changed in place: an HTML bar, with a line of text for those who show none.

Where ipywidgets is installed, a widget shows the bar while the run goes on: it changes without being laid out anew. At
the end plain HTML takes its place in either case, which a saved notebook keeps.
"""

from __future__ import annotations

import html
import time
from typing import Any

from mmflow.api.progress.meter import Ending, Meter
from mmflow.scheduler.progress import Progress

__all__ = ["NotebookDisplay"]

_FIRST_SECONDS = 0.4
#: A notebook on another machine should not be flooded.
_SECONDS = 0.25
_COLORS = {
    "done": "#2e9e5b",
    "failed": "#d64545",
    "interrupted": "#c98a00",
    "stopped": "#888888",
    "": "#3b82f6",
}


class NotebookDisplay:
    """Progress of a run in the output of a cell."""

    def __init__(self) -> None:
        self._meter = Meter()
        self._handle: Any = None
        self._widget: Any = None
        self._due = 0.0

    def update(self, progress: Progress) -> None:
        """Show the line, or change it; not more often than four times a second."""
        self._meter.update(progress)
        now = time.monotonic()
        if progress.elapsed < _FIRST_SECONDS or now < self._due:
            return
        self._due = now + _SECONDS
        text = self._meter.sentence()
        if self._widget is not None:
            self._widget.value = _html(self._meter.share, text)
        elif self._handle is not None:
            self._handle.update(_bundle(self._meter.share, text), raw=True)
        else:
            self._open(text)

    def _open(self, text: str) -> None:
        from IPython.display import display  # noqa: PLC0415  (there in notebooks only)

        try:
            from ipywidgets import HTML  # noqa: PLC0415  (the same)
        except ImportError:
            self._handle = display(_bundle(self._meter.share, text), raw=True, display_id=True)
        else:
            self._widget = HTML(_html(self._meter.share, text))
            self._handle = display(self._widget, display_id=True)

    def clear(self) -> None:
        """Do nothing: what is printed comes below."""

    def close(self, ending: Ending) -> None:
        """Show how the run ended, if it was shown at all."""
        if self._handle is None:
            return
        self._handle.update(_bundle(self._meter.share, self._meter.ended(ending), ending), raw=True)
        if self._widget is not None:
            self._widget.close()
            self._widget = None


def _bundle(share: float, text: str, ending: str = "") -> dict[str, str]:
    return {"text/plain": text, "text/html": _html(share, text, ending)}


def _html(share: float, text: str, ending: str = "") -> str:
    """Return a bar and a line of text. Both are readable on light and on dark ground."""
    return (
        '<div style="font-size:13px;line-height:1.6"><div style="max-width:30em;height:6px;border-radius:3px;'
        'background:rgba(128,128,128,.3);overflow:hidden">'
        f'<div style="width:{share * 100:.1f}%;height:100%;background:{_COLORS[ending]}"></div></div>'
        f"{html.escape(text)}</div>"
    )

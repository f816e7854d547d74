"""Choice of a display for a run: as `mf.progress` says; else notebooks and interactive terminals have one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from mmflow.api.progress.meter import Ending
from mmflow.scheduler.progress import Progress
from mmflow.sinks.screen import has_cursor, in_notebook
from mmflow.usercode.tracebacks import public

__all__ = ["Display", "Ending", "open_display", "progress", "showing_progress"]

_wanted: bool | None = None


class Display(Protocol):
    """Display of one run."""

    def update(self, progress: Progress) -> None:
        """Show the latest progress. Called about ten times a second by the thread that asks for rows."""

    def clear(self) -> None:
        """Make room: rows are about to be given to whoever asked for them, and may be printed."""

    def close(self, ending: Ending) -> None:
        """Show how the run ended, or nothing any more."""


@public
def progress(shown: bool | None = True) -> None:
    """Say whether runs of this process show their progress, from the next one on.

    Parameters
    ----------
    shown
        True: always, in scripts too: a bar on terminals, plain lines on stderr elsewhere. False: never. None, the
        default of a process: in notebooks, and in Python and IPython on a terminal.

    Raises
    ------
    TypeError
        Another value.

    Examples
    --------
    >>> import mmflow as mf
    >>> mf.progress(False)
    """
    global _wanted  # noqa: PLW0603  (one for the process, as there is one screen)
    if not (shown is None or isinstance(shown, bool)):
        raise TypeError(f"progress(): shown = {shown!r}: must be True, False or None")
    _wanted = shown


@contextmanager
def showing_progress() -> Iterator[None]:
    """Show the progress of runs for a while, unless `progress` says not to."""
    before = _wanted
    progress(before is not False)
    try:
        yield
    finally:
        progress(before)


def open_display() -> Display | None:
    """Return a display for a run that is about to start; None: nothing is to be shown."""
    if _wanted is False:
        return None
    if in_notebook():
        from mmflow.api.progress.notebook import NotebookDisplay  # noqa: PLC0415  (slow)

        return NotebookDisplay()
    stream = sys.stderr
    if stream is None or not (_wanted or hasattr(sys, "ps1") or sys.flags.interactive):
        return None
    if has_cursor(stream):
        from mmflow.api.progress.terminal import TerminalDisplay  # noqa: PLC0415  (slow)

        return TerminalDisplay(stream)
    from mmflow.api.progress.plain import PlainDisplay  # noqa: PLC0415  (slow)

    return PlainDisplay(stream) if _wanted else None

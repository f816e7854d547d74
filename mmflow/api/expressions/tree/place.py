"""Place in the user's code where an expression was written, for errors, and the frame that stands there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType

__all__ = ["NOWHERE", "caller_frame", "find_place"]

#: Place of what a command of mmflow itself wrote.
NOWHERE = "mmflow"

_PACKAGE = f"{Path(__file__).absolute().parents[3]}{os.sep}"
_COMMANDS = f"{_PACKAGE}cli{os.sep}"
_PLUGIN = f"{_PACKAGE}integrations{os.sep}narwhals{os.sep}"


def caller_frame() -> FrameType | None:
    """Return the frame of the innermost call that is not in mmflow; None: a command of mmflow calls.

    Calls of narwhals that its plugin answers are not the user's either.
    """
    frame: FrameType | None = sys._getframe(1)
    plugin = False
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_PACKAGE):
            if name.startswith(_COMMANDS):
                return None
            plugin = plugin or name.startswith(_PLUGIN)
        elif not (plugin and str(frame.f_globals.get("__name__")).startswith("narwhals.")):
            return frame
        frame = frame.f_back
    return frame


def find_place() -> str:
    """Return `file:line` of the innermost call that is not in mmflow."""
    frame = caller_frame()
    return NOWHERE if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"

"""Screen that a stream is shown on: its width and colors, and the width of text on it.

NO_COLOR, TERM=dumb    no colors
FORCE_COLOR            colors also where the stream is no terminal, as for `less -R`
COLUMNS                width where there is no terminal to ask
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

__all__ = [
    "cut_text",
    "has_colors",
    "has_cursor",
    "in_notebook",
    "is_terminal",
    "notebook_width",
    "screen_width",
    "text_width",
]

_DEFAULT_WIDTH = 80
_NOTEBOOK_WIDTH = 100


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal."""
    with contextlib.suppress(ValueError):  # closed
        return bool(getattr(stream, "isatty", lambda: False)())
    return False


def has_cursor(stream: Any) -> bool:
    """Return whether a stream is a terminal whose cursor can be moved."""
    return is_terminal(stream) and os.environ.get("TERM") not in ("dumb", "unknown")


def has_colors(stream: Any) -> bool:
    """Return whether text on a stream may have colors."""
    if os.environ.get("NO_COLOR"):
        return False
    return has_cursor(stream) or bool(os.environ.get("FORCE_COLOR"))


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def notebook_width() -> int:
    """Return the number of characters that a notebook shows on a line."""
    return _environment_width() or _NOTEBOOK_WIDTH


def screen_width(stream: Any) -> int | None:
    """Return the number of characters on a line of a stream; None: there is no limit.

    A terminal is asked each time, since its window may have changed.
    """
    if not is_terminal(stream):
        return _environment_width()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if columns := os.get_terminal_size(stream.fileno()).columns:
            return columns
    return _environment_width() or _DEFAULT_WIDTH


def _environment_width() -> int | None:
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else None


def text_width(text: str) -> int:
    """Return the columns of a terminal that text takes: wide characters take two, combining ones none.

    >>> text_width("abc"), text_width("漢字"), text_width("e\u0301")
    (3, 4, 1)
    """
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415  (most tables hold ASCII only)

    return cell_len(text)


def cut_text(text: str, width: int) -> str:
    """Return text of at most this width; where it is cut, it ends with `…`.

    >>> cut_text("abc", 3), cut_text("abcd", 3), cut_text("漢字", 3)
    ('abc', 'ab…', '漢…')
    """
    if text_width(text) <= width:
        return text
    if text.isascii():
        return text[: max(0, width - 1)] + "…"
    from rich.cells import set_cell_size  # noqa: PLC0415  (as in `text_width`)

    return set_cell_size(text, max(0, width - 1)).rstrip() + "…"

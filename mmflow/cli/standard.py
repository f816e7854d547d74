"""Standard output and standard error that are closed, or full.

    stdout    data: what can't be written fails the command, with one line on stderr and exit code 1
    stderr    messages: what can't be written is dropped, since there is nowhere to say so; the exit code tells

Invariant: descriptors 0 to 2 are taken, so that no file that is opened later becomes the standard output of a library.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys

from mmflow.errors import plain_text

__all__ = ["drop_output", "output_failure", "prepare"]


class _Messages(io.FileIO):
    """Standard error, which takes everything."""

    def write(self, data: object) -> int:
        """Write, or drop what can't be written."""
        try:
            return super().write(data) or 0  # type: ignore[arg-type]  # any buffer, as FileIO takes it
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]  # the same


def prepare() -> None:
    """Make the standard streams of this process ones that can be written to, or fail when they are.

    Streams that were put in their place, as tests do, are left.
    """
    missing = []
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Of output only for reading: writes to it fail, as they do to one that is closed.
            os.open(os.devnull, os.O_WRONLY if descriptor == 2 else os.O_RDONLY)
            missing.append(descriptor)
    if sys.stdout is None:
        unwritable = 1 if 1 in missing else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        sys.stdout = os.fdopen(unwritable, "w", closefd=False)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = io.TextIOWrapper(
            _Messages(2, "w", closefd=False),  # raw, so that nothing waits in a buffer
            encoding=getattr(sys.stderr, "encoding", None),
            errors="backslashreplace",
            line_buffering=True,
        )
    # What an encoding lacks comes as escapes: in an ASCII locale, and of names of files that are not UTF-8.
    codecs.register_error("mmflow.escape", _escaped)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="mmflow.escape")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # this is for writing
    text = plain_text(error.object[error.start : error.end])
    return text.encode(error.encoding, "backslashreplace").decode(error.encoding), error.end


def output_failure(error: OSError) -> str:
    """Return the message for standard output that can't be written to."""
    reason = "it is closed" if error.errno == errno.EBADF else error.strerror
    return f"can't write to standard output: {reason}; what was printed is not complete"


def drop_output() -> None:
    """Drop what was printed and not written yet: Python would try once more at its end, and complain."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())

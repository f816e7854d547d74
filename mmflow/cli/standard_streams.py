"""Standard output and standard error that are closed, or full.

    stdout    data: what can't be written fails the command, with one line on stderr and exit code 1
    stderr    messages: what can't be written is dropped; only the exit code is left to report it

Invariant: descriptors 0 to 2 are taken, so that no file that is opened later becomes the standard output of a library.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import stat
import sys

from mmflow.errors import plain_text

__all__ = ["drop_output", "end_output", "output_failure", "prepare"]


class _Messages(io.FileIO):
    """Standard error, which drops text that can't be written."""

    def write(self, data: object) -> int:
        """Write, or drop what can't be written."""
        try:
            return super().write(data) or 0  # type: ignore[arg-type]  # any buffer, as FileIO takes it
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]  # the same


def prepare() -> None:
    """Replace closed standard streams, so that writing to them works or fails with a message.

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


def end_output() -> None:
    """Flush the buffered output of an interrupted command; drop it where nobody reads it.

    Python would wait at its end until somebody reads the pipe, and a closed terminal fails.
    """
    taken = True
    try:
        descriptor = sys.stdout.fileno()
        blocks = os.get_blocking(descriptor)
        pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        os.set_blocking(descriptor, blocks and not pipe)
        try:
            sys.stdout.flush()
        except OSError:
            taken = False
        finally:
            os.set_blocking(descriptor, blocks)
    except (OSError, ValueError, AttributeError):  # none, or one that was put in its place
        return
    if not taken:
        drop_output()


def drop_output() -> None:
    """Drop the buffered output: Python would try to write it once more at its end, and complain."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())

"""What the operating system says about an output, as a SinkError."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

import pyarrow as pa

from mmflow.errors import SinkError

__all__ = ["sink_failure", "writing"]

_HINTS = {
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "not permitted; choose a folder that you may write to",
    errno.EROFS: "its file system is read-only; choose another folder",
    errno.ENAMETOOLONG: "its name is too long for the file system (partition values become folder names)",
    errno.EMFILE: "too many open files; raise `ulimit -n`, or write fewer partitions at once",
    errno.ELOOP: "a symbolic link stands where a file of mmflow should; delete it",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EFBIG: "the file is larger than its file system or `ulimit -f` allows",
    errno.EIO: "I/O error of the device; see dmesg",
}


def sink_failure(path: str, error: OSError, *, written: int = 0) -> SinkError:
    """The error for a person.

    Args:
        path: The destination that the user named.
        error: What happened.
        written: Bytes that the task had written when it happened.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        quota = "quota exceeded" if error.errno == errno.EDQUOT else "no space left"
        return SinkError(
            f"{quota} on the file system of {path} (needs more than the {written:,} bytes that this task had "
            f"written, {_free(path):,} bytes are free now); free some space or write elsewhere",
            path=path,
        )
    why = _HINTS.get(error.errno or 0) or error.strerror or str(error)
    return SinkError(f"can't write {path}: {why}", path=path)


def _free(path: str) -> int:
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    with contextlib.suppress(OSError):  # a number in a message is not worth another error
        facts = os.statvfs(path)
        return facts.f_bavail * facts.f_frsize
    return 0


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn operating system and Arrow errors of the block into SinkError.

    Raises:
        SinkError: The block raised OSError or an Arrow error about a value.
    """
    try:
        yield
    except OSError as error:  # pa.ArrowIOError is OSError
        raise sink_failure(path, error) from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SinkError(f"can't write {path}: {error}", path=path) from error

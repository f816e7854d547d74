"""Operating system errors on inputs, as SourceErrors that say what to do."""

from __future__ import annotations

import errno
import os

from mmflow.errors import EngineError, MmflowError, SourceChangedError, SourceError

__all__ = ["source_failure"]

_ADVICE = {
    errno.ENOENT: "no such file; check the path",
    errno.ENOTDIR: "a part of this path is not a directory; check the path",
    errno.EACCES: "permission denied; ask for read access, or run as a user who has it",
    errno.EPERM: "the system does not permit it; ask for read access, or run as a user who has it",
    errno.EISDIR: "this is a directory; name its files, or use a glob such as {path}/*",
    errno.ELOOP: "too many symbolic links; one of them points to itself",
    errno.ENAMETOOLONG: "the path is too long",
    errno.EIO: "the device could not read it; check the disk (dmesg) and restore the file",
    errno.ENXIO: "this device has nothing behind it",
    errno.ETIMEDOUT: "the file server did not answer; check the network, then run again",
    errno.EHOSTDOWN: "the file server is down; check the network, then run again",
}
_CHANGED = frozenset({errno.ESTALE})
_LIMITS = {
    errno.EMFILE: "too many open files in this process; raise `ulimit -n`, or use fewer workers",
    errno.ENFILE: "too many open files on this machine; raise fs.file-max",
    errno.ENOMEM: "no memory left; lower --memory, --workers or --shard-size",
}


def source_failure(path: str, error: OSError, doing: str = "open") -> MmflowError:
    """The MmflowError for an OSError met while `doing` something with an input.

    >>> e = source_failure("a.csv", OSError(errno.ENOENT, "No such file or directory"))
    >>> type(e).__name__, str(e)
    ('SourceError', "can't open a.csv: no such file; check the path")
    """
    number = error.errno or 0
    name = errno.errorcode.get(number, "")
    context = {"path": path, "errno": name}
    if number in _LIMITS:
        return EngineError(f"can't {doing} {path}: {_LIMITS[number]}", **context)
    if number in _CHANGED:
        return SourceChangedError(
            f"can't {doing} {path}: the file server says that it was replaced; run again", **context
        )
    reason = _ADVICE.get(number, os.strerror(number) if number else str(error))
    return SourceError(f"can't {doing} {path}: {reason.format(path=path)}", **context)

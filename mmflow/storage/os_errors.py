"""Errors of the operating system as mmflow's errors: what failed, where, why, and what to do.

read_error(path, error, "open")            inputs: SourceError, SourceChangedError, EngineError
with write_errors(path, "flush"): ...      outputs and arrays: SinkError
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator

import pyarrow as pa

from mmflow.errors import EngineError, MmflowError, SinkError, SourceChangedError, SourceError

__all__ = ["read_error", "write_error", "write_errors"]

#: Reasons of a file server, for inputs and outputs alike.
_SERVER = {
    errno.ETIMEDOUT: "the file server did not answer; check the network, then run again",
    errno.EHOSTDOWN: "the file server is down; check the network, then run again",
    errno.EHOSTUNREACH: "the file server can't be reached; check the network, then run again",
    errno.ENETUNREACH: "the file server can't be reached; check the network, then run again",
    errno.ECONNREFUSED: "the file server refuses connections; check that it runs, then run again",
    errno.ECONNRESET: "the file server broke the connection; check that it runs, then run again",
    errno.ECONNABORTED: "the file server broke the connection; check that it runs, then run again",
    errno.ENOTCONN: "the file server is gone; check that it runs, mount it again, then run again",
}
_READ = _SERVER | {
    errno.ENOENT: "no such file; check the path",
    errno.ENOTDIR: "a part of this path is not a directory; check the path",
    errno.EACCES: "permission denied; ask for read access, or run as a user who has it",
    errno.EPERM: "the system does not permit it; ask for read access, or run as a user who has it",
    errno.EISDIR: "this is a directory; name its files, or use a glob such as {path}/*",
    errno.ELOOP: "too many symbolic links; one of them points to itself",
    errno.ENAMETOOLONG: "the path is too long",
    errno.EIO: "the device could not read it; check the disk (dmesg) and restore the file",
    errno.ENXIO: "this device has nothing behind it",
}
_CHANGED = frozenset({errno.ESTALE})
_LIMITS = {
    errno.EMFILE: "too many open files in this process; raise `ulimit -n`, or use fewer workers",
    errno.ENFILE: "too many open files on this machine; raise fs.file-max",
    errno.ENOMEM: "no memory left; lower --memory, --workers or --shard-size",
}
_FULL = {errno.ENOSPC: "no space left", errno.EDQUOT: "quota exceeded"}
_WRITE = _SERVER | {
    errno.ESTALE: "the file server says that it was deleted or replaced there; open it again",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "not permitted; choose a folder that you may write to",
    errno.EROFS: "its file system is read-only; choose another folder",
    errno.ENAMETOOLONG: "its name is too long for the file system (partition values become folder names)",
    errno.EMFILE: "too many open files; raise `ulimit -n`, or write fewer files at once",
    errno.ELOOP: "a symbolic link stands where a file of mmflow should; delete it",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EFBIG: "the file is larger than its file system, or `ulimit -f` (RLIMIT_FSIZE), allows",
    errno.EIO: "the device could not do it; check the disk (dmesg)",
    errno.ENOMEM: "no memory or mappings left; write less at once, or raise RLIMIT_AS or vm.max_map_count",
    errno.ENODEV: "its file system can't be mapped for writing; copy it to a disk",
    errno.EINVAL: "its file system doesn't allow this kind of mapping, write or size",
}


def read_error(path: str, error: OSError, action: str = "open") -> MmflowError:
    """Return the error for an input whose `action` failed.

    >>> e = read_error("a.csv", OSError(errno.ENOENT, "No such file or directory"))
    >>> type(e).__name__, str(e)
    ('SourceError', "can't open a.csv: no such file; check the path")
    """
    number = error.errno or 0
    context = {"path": path, "errno": errno.errorcode.get(number, "")}
    if number in _LIMITS:
        return EngineError(f"can't {action} {path}: {_LIMITS[number]}", **context)
    if number in _CHANGED:
        return SourceChangedError(
            f"can't {action} {path}: the file server says that it was replaced; run again", **context
        )
    reason = _READ.get(number, os.strerror(number) if number else str(error))
    return SourceError(f"can't {action} {path}: {reason.format(path=path)}", **context)


def write_error(path: str, error: OSError, action: str = "write", *, written: int | None = None) -> SinkError:
    """Return the error for an output whose `action` failed.

    Args:
        path: Destination that the user named.
        error: Error of the system.
        action: Verb phrase for the message.
        written: Bytes that the task had written before; None: unknown.

    >>> str(write_error("a.csv", OSError(errno.EROFS, "Read-only file system")))
    "can't write a.csv: its file system is read-only; choose another folder"
    """
    if isinstance(error, FileExistsError):
        return SinkError(
            f"{path} exists; choose another name, or have it replaced (overwrite=True, if_exists='replace')",
            path=path,
        )
    number = error.errno or 0
    if number in _FULL:
        needs = (
            "" if written is None else f"needs more than the {written:,} bytes that this task had written, "
        )
        return SinkError(
            f"{_FULL[number]} on the file system of {path} ({needs}{_free_bytes(path):,} bytes are free now); "
            "free some space or write elsewhere",
            path=path,
        )
    reason = _WRITE.get(number) or error.strerror or str(error)
    return SinkError(f"can't {action} {path}: {reason}", path=path)


@contextlib.contextmanager
def write_errors(path: str, action: str = "write") -> Iterator[None]:
    """Turn errors of the operating system, and of Arrow, in the block into SinkError.

    Raises:
        SinkError: The block raised OSError or an Arrow error about a value.
    """
    try:
        yield
    except OSError as error:  # pa.ArrowIOError is OSError
        raise write_error(path, error, action) from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SinkError(f"can't {action} {path}: {error}", path=path) from error


def _free_bytes(path: str) -> int:
    folder = path
    while not os.path.exists(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    with contextlib.suppress(OSError):  # a number in a message is not worth another error
        return shutil.disk_usage(folder or ".").free
    return 0

"""What the system says when an array can't be written, as errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from mmflow.errors import SinkError

__all__ = ["MAPPING", "writing"]

#: Why a file that can be written can't be mapped for it; it is written with pwrite then.
MAPPING = {
    errno.ENOMEM: "not enough address space or mappings left (RLIMIT_AS, vm.max_map_count)",
    errno.ENODEV: "its file system can't be mapped for writing",
    errno.EINVAL: "its file system doesn't allow this kind of mapping",
    errno.EACCES: "mapping it for writing is not permitted",
    errno.EPERM: "mapping it for writing is not permitted",
    errno.ENOTSUP: "its file system can't be mapped for writing",
    errno.EAGAIN: "too much memory is locked (RLIMIT_MEMLOCK)",
}
_WHY = {
    errno.ENOSPC: "no space left on its disk: make room",
    errno.EDQUOT: "its disk quota is used up: make room",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "its file system is mounted read-only",
    errno.ENOMEM: "not enough address space or mappings left: open fewer, or raise RLIMIT_AS or vm.max_map_count",
    errno.ENODEV: "its file system can't be mapped for writing: copy it to a disk",
    errno.EINVAL: "its file system doesn't allow this kind of mapping, or the size is not allowed",
    errno.EFBIG: "larger than its file system, or RLIMIT_FSIZE, allows",
}


@contextlib.contextmanager
def writing(path: str, what: str = "write") -> Iterator[None]:
    """Errors of the system in the block as SinkError.

    Raises:
        SinkError: What, which file, why, and what to do.
    """
    try:
        yield
    except FileExistsError as error:
        raise SinkError(f"{path} exists; choose another name, or say overwrite=True", path=path) from error
    except OSError as error:
        why = _WHY.get(error.errno or 0, error.strerror or str(error))
        raise SinkError(f"can't {what} {path}: {why}", path=path) from error

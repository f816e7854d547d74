"""Locks on byte ranges of a file; on macOS on the whole file, on Windows none.

    writer of pages    exclusive, on these pages, while it writes them
    end of a change    exclusive, on the whole file: no writer is active then, and later ones check first
    snapshot           shared, on the bytes that it copies: no page of them is half written

They hold between threads, processes and (NFS) hosts; each holder has its own descriptor. Without such locks, writers go
on, and a snapshot is an error.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from mmflow.errors import SinkError
from mmflow.mapping.system import system

__all__ = ["lock_bytes"]

_NONE = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}


@contextlib.contextmanager
def lock_bytes(
    fd: int, path: str, begin: int = 0, length: int = 0, *, shared: bool = False, needed: bool = True
) -> Iterator[None]:
    """Lock a range of bytes during the block, after waiting for it.

    Args:
        fd: Descriptor open for writing (`shared`: for reading), used by one holder at a time.
        path: File, for messages.
        begin: First byte.
        length: Number of bytes; 0: to the end, wherever that is.
        shared: Whether to keep only writers out.
        needed: False: where there are no locks, run the block without.

    Raises:
        SinkError: The file system, or the system, has no such locks, or another process holds them for too long.
    """
    try:
        system.lock_range(fd, begin, length, "shared" if shared else "exclusive")
    except TimeoutError as error:
        raise SinkError(f"can't lock {path}: {error.strerror}", path=path) from error
    except OSError as error:
        if error.errno not in _NONE:
            raise
        if not needed:
            yield
            return
        raise SinkError(
            f"can't lock {path}: its file system (on Windows: the system) has no locks on ranges, without which a late "
            "worker could overwrite final content, and a page be read half written; put it on a file system that has "
            "them (NFS: with lockd; Lustre: -o flock)",
            path=path,
        ) from error
    try:
        yield
    finally:
        system.lock_range(fd, begin, length, "unlock")

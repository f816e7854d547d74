"""Locks on byte ranges of a file; on the whole of it, where a system has no others (macOS); none (Windows).

    writer of pages    exclusive, of these pages, while it writes them
    who ends a change  exclusive, of all of the file: no writer is under way then, and later ones look first
    snapshot           shared, of what it copies: no page of it is half written

They hold between threads, processes and (NFS) hosts; each holder has a descriptor of its own. Where there are none,
writers go on without, and a snapshot is an error.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from mmflow.errors import SinkError
from mmflow.mapping.system import system

__all__ = ["locked"]

_NONE = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}


@contextlib.contextmanager
def locked(
    fd: int, path: str, begin: int = 0, length: int = 0, *, shared: bool = False, needed: bool = True
) -> Iterator[None]:
    """Hold a range while the block runs; waits for it.

    Args:
        fd: Open for writing (`shared`: for reading), and used by one holder at a time.
        path: For messages.
        begin: First byte.
        length: Bytes; 0: to the end, wherever that is.
        shared: Only keep writers out.
        needed: False: where there are no locks, go on without.

    Raises:
        SinkError: The file system, or the system, has no such locks.
    """
    try:
        system.lock_range(fd, begin, length, "shared" if shared else "exclusive")
    except OSError as error:
        if error.errno not in _NONE:
            raise
        if not needed:
            yield
            return
        raise SinkError(
            f"can't lock {path}: its file system (on Windows: the system) has no locks on ranges, without which a late "
            "worker could write over what is final, and a page be seen half written; put it on a file system that has "
            "(NFS: with lockd; Lustre: -o flock)",
            path=path,
        ) from error
    try:
        yield
    finally:
        system.lock_range(fd, begin, length, "none")

"""Locks on byte ranges of a file, as fcntl(2) has them for open file descriptions.

    writer of pages    exclusive, of these pages, while it writes them
    who ends a change  exclusive, of all of the file: no writer is under way then, and later ones look first
    snapshot           shared, of what it copies: no page of it is half written

They hold between threads, processes and (NFS) hosts; each holder has a descriptor of its own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import struct
from collections.abc import Iterator

from mmflow.errors import SinkError

__all__ = ["locked"]

_FLOCK = "hhqqi4x"
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
        SinkError: The file system has no such locks.
    """
    try:
        _lock(fd, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, begin, length)
    except OSError as error:
        if error.errno not in _NONE:
            raise
        if not needed:
            yield
            return
        raise SinkError(
            f"can't lock {path}: its file system has no locks, without which a late worker could write over what is "
            "final; put it on a file system that has (NFS: with lockd; Lustre: -o flock)",
            path=path,
        ) from error
    try:
        yield
    finally:
        _lock(fd, fcntl.F_UNLCK, begin, length)


def _lock(fd: int, kind: int, begin: int, length: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, struct.pack(_FLOCK, kind, 0, begin, length, 0))

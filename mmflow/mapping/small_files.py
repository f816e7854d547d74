"""Small files as a whole, with as few system calls as it takes to know that they are those that were planned."""

from __future__ import annotations

import os

from mmflow.mapping.access_policy import SMALL
from mmflow.mapping.identity import FileIdentity
from mmflow.mapping.system import system

__all__ = ["read_small"]


def read_small(path: str, expected: FileIdentity, device: int) -> bytes | None:
    """Return the contents of a small file of this identity.

    Args:
        path: Path of the file.
        expected: Identity at planning time.
        device: The one that it has to be on, whose files are read so.

    Returns:
        None where the file is another one, larger, or can't be read: `MappedFile` says why.

    Raises:
        SourceChangedError: It changed while it was read.
    """
    if expected.size > SMALL or expected.device != device or expected.tag:
        return None
    try:
        descriptor = system.open_file(path)
    except OSError:
        return None
    try:
        if FileIdentity.from_stat(os.fstat(descriptor)) != expected:
            return None
        data = os.read(descriptor, expected.size + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if len(data) != expected.size:
        return None
    expected.check(path)
    return data

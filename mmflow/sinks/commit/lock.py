"""Lock of a destination: one run at a time may commit to it. It is a file beside the destination."""

from __future__ import annotations

from pathlib import Path

from mmflow.errors import SinkError
from mmflow.mapping.system.owner_lock import HeldError, OwnerLock

__all__ = ["lock_destination"]


def lock_destination(path: Path, *, destination: str, run: str) -> OwnerLock:
    """Acquire the lock, or raise an error that names its holder.

    Raises:
        SinkError: Another run, which lives, holds it.
        OSError: The lock file can't be created, or is a symbolic link.
    """
    try:
        return OwnerLock(path, f"run {run.partition('+')[0]}", mode=0o644, remove=True)
    except HeldError as held:
        raise SinkError(
            f"{destination} is being written by {held.holder}; wait for it, or choose another output",
            path=destination,
            code="MMF-OUT-005",
        ) from None

"""Forked children, which own nothing of their parent's.

A child of `os.fork` gets copies of all objects and descriptors. Were it to treat them as its own, it would flush and
unlock for its parent as it ends. So whatever owns files, locks or logs registers here, and in each child is told to let
them go without a trace.

Invariant: nothing that was made before a fork changes a file, a lock or a name from within the child.

Threads are not copied at all. What needs those of DataFusion (whose pool starts once a process) says so by
`require_threads`, which is an error in a child, at once, instead of a wait that never ends.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from mmflow.errors import EngineError

__all__ = ["Disownable", "disown_in_children", "require_threads"]


class Disownable(Protocol):
    """Owner of something that a forked child must leave alone."""

    def disown(self) -> None:
        """Give up what is owned, in a child: close its descriptors, change nothing. Runs right after the fork."""


_owners: weakref.WeakSet[Disownable] = weakref.WeakSet()


def disown_in_children(owner: Disownable) -> None:
    """Call `owner.disown()` in each child that this process forks, for as long as the owner lives."""
    _owners.add(owner)


class _Threads:
    """State of DataFusion's threads: started here, or lost, in a fork of a process that had started them."""

    started = False
    lost = False


def require_threads() -> None:
    """Note that DataFusion's threads are about to be used.

    Raises:
        EngineError: This process was forked from one that had used them: they are not in it.
    """
    if _Threads.lost:
        raise EngineError(
            f"mmflow can't run queries in process {os.getpid()}: it was forked from one that had run some, and their "
            "threads were not copied; start processes with spawn or forkserver (multiprocessing.get_context('spawn'), "
            "DataLoader(multiprocessing_context='spawn'), no gunicorn --preload), or use mmflow only after the fork"
        )
    _Threads.started = True


def _disown_all() -> None:
    _Threads.lost = _Threads.started
    for owner in list(_owners):
        owner.disown()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_disown_all)

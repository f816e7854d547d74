"""Forked children, which own nothing of their parent's.

A child of `os.fork` gets copies of all objects and descriptors. If it treated them as its own, it would flush and
unlock for its parent when it ends. So each owner of files, locks or logs registers here, and disowns them in each child
without side effects.

Invariant: no object that was made before a fork changes a file, a lock or a name in the child.

Threads are not copied at all. Callers of DataFusion, whose thread pool starts once a process, call `require_threads`
first. In a child it fails at once, where the call would wait forever.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from mmflow.errors import EngineError

__all__ = ["Disownable", "disown_in_children", "require_threads"]


class Disownable(Protocol):
    """Owner of a resource that a forked child must leave alone."""

    def disown(self) -> None:
        """Close the descriptors and change nothing else. Runs in a child, right after the fork."""


_owners: weakref.WeakSet[Disownable] = weakref.WeakSet()


def disown_in_children(owner: Disownable) -> None:
    """Call `owner.disown()` in each child that this process forks, for as long as the owner lives."""
    _owners.add(owner)


class _Threads:
    """State of DataFusion's threads: started here, or lost in a fork of a process that had started them."""

    started = False
    lost = False


def require_threads() -> None:
    """Check that this process can use DataFusion's threads, which it is about to start.

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

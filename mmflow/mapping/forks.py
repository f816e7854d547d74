"""What a forked child must not do with what its parent owns.

A child of `os.fork` gets copies of all objects and descriptors. Were it to treat them as its own, it would flush and
unlock for its parent as it ends. So whatever owns files, locks or logs registers here, and in each child is told to let
them go without a trace.

Invariant: nothing that was made before a fork changes a file, a lock or a name from within the child.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Disownable", "disown_in_children"]


class Disownable(Protocol):
    """Owner of something that a forked child must leave alone."""

    def disown(self) -> None:
        """Give up what is owned, in a child: close its descriptors, change nothing. Runs right after the fork."""


_owners: weakref.WeakSet[Disownable] = weakref.WeakSet()


def disown_in_children(owner: Disownable) -> None:
    """Call `owner.disown()` in each child that this process forks, for as long as the owner lives."""
    _owners.add(owner)


def _disown_all() -> None:
    for owner in list(_owners):
        owner.disown()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_disown_all)

"""Named points of what must be all or nothing, at which tests let the process die."""

from __future__ import annotations

__all__ = ["checkpoint"]


def checkpoint(step: str) -> None:
    """Does nothing: called after each step of a commit, or of a change, with the step's name."""

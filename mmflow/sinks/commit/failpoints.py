"""Named points of an atomic operation at which tests let the process die."""

from __future__ import annotations

__all__ = ["failpoint"]


def failpoint(step: str) -> None:
    """Do nothing; called with the name of each step of a commit or of an array change after it."""

"""Named points of changing a file, at which tests let the process die."""

from __future__ import annotations

__all__ = ["checkpoint"]


def checkpoint(step: str) -> None:
    """Does nothing: called after each step of a change with the step's name."""

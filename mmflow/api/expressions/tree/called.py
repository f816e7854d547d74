"""Python functions that expressions hold, by name in plans. All sessions know all: an expression doesn't say which."""

from __future__ import annotations

from typing import Any

from mmflow.plan.stages import Function

__all__ = ["CALLED", "called"]

CALLED: dict[str, Function] = {}


def called(function: Function) -> Any:
    """Return the function as DataFusion calls it, and let every session know it."""
    CALLED[function.name] = function
    return function.made

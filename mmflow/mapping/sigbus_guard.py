"""The SIGBUS guard of the kernels.

A mapped file that shrinks makes the next touch of the lost pages a SIGBUS. The guard in
`mmflow._kernels` maps a zero page under such a fault, in registered ranges only, and marks the range; its reader then
checks `was_hit` and fails with SourceChangedError. Without the kernels these functions do nothing, and a SIGBUS kills
the process.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

__all__ = ["UNGUARDED", "available", "register", "release", "was_hit"]

#: Token of an unguarded range.
UNGUARDED = -1


@functools.cache
def _kernels() -> Any:
    try:
        kernels = importlib.import_module("mmflow._kernels")
        kernels.guard_install()
    except (ImportError, AttributeError):  # not built, or built without the guard
        return None
    return kernels


def available() -> bool:
    """Return whether this process survives the truncation of a mapped file."""
    return _kernels() is not None


def register(address: int, length: int) -> int:
    """Guard a mapped range of `length` bytes, and return its token."""
    kernels = _kernels()
    return UNGUARDED if kernels is None else int(kernels.guard_register(address, length))


def release(token: int) -> None:
    """Stop guarding a range, before it is unmapped."""
    if token != UNGUARDED:
        _kernels().guard_release(token)


def was_hit(token: int) -> bool:
    """Return whether a fault in the range was answered with zeros."""
    return token != UNGUARDED and bool(_kernels().guard_hit(token))

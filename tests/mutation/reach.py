"""Functions that a test reaches, in its own process and in those that it starts, however these end.

`record` takes the place of mutmut's own function, which keeps names in memory: in each process that has the environment
of `begin`, by site/sitecustomize.py (tests/mutation/mutants.py).
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["begin", "install", "take"]

#: Variable of the environment: file of the names.
_FILE = "MUTANTS_REACHED"
_seen: set[str] = set()
_opened: list[int] = []


def _record(name: str, caller: str | None = None) -> None:
    if name not in _seen:
        _seen.add(name)
        os.write(_opened[-1], f"{name}\n".encode())


def install() -> None:
    """Record in this process, if one above it called `begin`, and in its forks: they may be of other users."""
    if _FILE in os.environ:
        _opened.append(os.open(os.environ[_FILE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        from mutmut.mutation import trampoline  # installed by `make mutants` only

        vars(trampoline)["record_trampoline_hit"] = _record


def begin(folder: Path) -> None:
    """Record in this process and those that it starts."""
    os.environ[_FILE] = str(folder / "reached")
    install()


def take() -> set[str]:
    """Return the functions that were reached since the last call, and forget them."""
    _seen.clear()
    file = Path(os.environ[_FILE])
    names = set(file.read_text().split())
    os.truncate(file, 0)
    return names

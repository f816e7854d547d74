"""Assessment of a machine by its diagnostics: what keeps runs from starting, what limits them, and advice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmflow.config import Settings
from mmflow.runs.report.formatting import size

__all__ = ["assess", "verdict_of"]

#: Size of /dev/shm that Docker and Kubernetes give a container that asks for nothing.
_DEFAULT_SHM = 64 << 20
_LEAST_SPILL, _LEAST_FILES = 1 << 30, 1024
#: What Linux gives a process; each window of a file takes one.
_USUAL_MAPPINGS = 65_530
#: Libraries reserve less below it.
_AMPLE_ADDRESS_SPACE = 8 << 30


def verdict_of(errors: list[str], warnings: list[str]) -> str:
    """Return the verdict in three words at most.

    >>> verdict_of([], []), verdict_of([], ["x"]), verdict_of(["x"], [])
    ('fine', 'works with limits', 'does not work')
    """
    return "does not work" if errors else "works with limits" if warnings else "fine"


def assess(settings: Settings, facts: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return what keeps runs from starting, and what limits them, each with advice."""
    return list(_errors(settings)), [*_memory_limits(settings, facts), *_system_limits(settings, facts)]


def _errors(settings: Settings) -> Iterator[str]:
    folder = settings.spill_dir
    if not os.path.isdir(folder):
        yield f"spill_dir {folder} does not exist: make it, or name another folder with --spill-dir"
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield f"spill_dir {folder} can't be written to: change its rights, or name another folder with --spill-dir"


def _memory_limits(settings: Settings, facts: Mapping[str, Any]) -> Iterator[str]:
    shared, spill = facts["shared_memory"], facts["spill"]
    if shared is None:
        yield f"there is no /dev/shm: processes share blocks through {settings.spill_dir}, at the speed of its disk"
    elif shared["size"] <= _DEFAULT_SHM:
        yield (
            f"/dev/shm has {size(shared['size'])}, which is what containers get that ask for nothing; blocks beyond "
            f"that go to {settings.spill_dir}. Give it more: docker run --shm-size=4g, or in Kubernetes an emptyDir "
            "with medium: Memory at /dev/shm; Ray needs it too"
        )
    if spill["free"] is not None and spill["free"] < _LEAST_SPILL:
        yield (
            f"{spill['folder']} has {size(spill['free'])} free: sorts, joins and groups that outgrow memory fail. Free "
            "some, or name another folder with --spill-dir"
        )
    available = facts["limits"]["available_memory"]
    if settings.memory > available:
        yield (
            f"tasks may take {size(settings.memory)} of memory, but {size(available)} are available now: give "
            f"--memory {available // 2 >> 20}MiB, or end what else runs here"
        )


def _system_limits(settings: Settings, facts: Mapping[str, Any]) -> Iterator[str]:
    limits = facts["limits"]
    if limits["open_files"] is not None and limits["open_files"] < _LEAST_FILES:
        yield (
            f"a process may open {limits['open_files']:,} files (ulimit -n): exchanges with many partitions need more. "
            "Raise it: ulimit -n 4096"
        )
    if limits["max_mappings"] is not None and limits["max_mappings"] < _USUAL_MAPPINGS:
        yield (
            f"a process may have {limits['max_mappings']:,} mappings: with many files open, they are read instead of "
            f"mapped. Raise it: sysctl vm.max_map_count={_USUAL_MAPPINGS}"
        )
    if limits["address_space"] is not None and limits["address_space"] < _AMPLE_ADDRESS_SPACE:
        yield (
            f"a process may have {size(limits['address_space'])} of address space (ulimit -v): large files are read "
            "instead of mapped. Lift it (ulimit -v unlimited), and bound memory with --memory"
        )
    if not facts["sigbus_guard"] and settings.io != "pread":
        yield (
            "there is no guard against SIGBUS here: a file that another program cuts while it is mapped kills the "
            "process. Give --io pread for such files"
        )

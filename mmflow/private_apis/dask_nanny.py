"""Attributes of Dask's nanny that its documentation does not name, seen in distributed 2026.8.

Invariant: a test of tests/api/test_api_private_apis.py fails once one of them is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["limit_memory", "worker_pid"]


def worker_pid(nanny: Any) -> int | None:
    """Return the process id of a nanny's worker; None if none runs."""
    process = None if nanny.process is None else nanny.process.process
    pid: int | None = None if process is None else process.pid
    return pid


def limit_memory(nanny: Any, measure: Callable[[int], int]) -> None:
    """Make a nanny kill its worker only if the bytes that `measure` returns for its pid are over the limit."""
    manager = nanny.memory_manager
    callback = nanny.periodic_callbacks.get("memory_monitor")
    if callback is None:  # no limit
        return
    most = manager.memory_limit * manager.memory_terminate_fraction

    def monitor() -> None:
        pid = worker_pid(nanny)
        if pid is not None and measure(pid) > most:
            manager.memory_monitor(nanny)

    callback.callback = monitor

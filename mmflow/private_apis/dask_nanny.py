"""Attributes of Dask's nannies and workers that its documentation does not name, seen in distributed 2026.8.

Invariant: a test of tests/api/test_api_private_apis.py fails once one of them is gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["before_close", "gets_no_tasks", "limit_memory", "stop_tasks", "worker_pid"]

_LEAVES = "closing_gracefully"


def worker_pid(nanny: Any) -> int | None:
    """Return the process id of a nanny's worker; None if none runs."""
    process = None if nanny.process is None else nanny.process.process
    pid: int | None = None if process is None else process.pid
    return pid


def before_close(worker: Any, prepare: Callable[[], Awaitable[None]]) -> None:
    """Make a worker wait for `prepare` before it closes: Dask cancels tasks before it asks plugins."""
    close = worker.close

    async def prepared(*args: Any, **kwargs: Any) -> Any:
        await prepare()
        return await close(*args, **kwargs)

    worker.close = prepared


def stop_tasks(worker: Any) -> None:
    """Have a worker begin no more tasks, and its scheduler send none."""
    worker.status = type(worker.status)[_LEAVES]


def gets_no_tasks(worker: Any) -> bool:
    """Return whether a worker is about to leave: by `stop_tasks`, or since its scheduler retires it."""
    return bool(worker.status.name == _LEAVES)


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

"""Signals that end a command, and settings of libraries for little address space (`ulimit -v`).

The settings are made before the first large library is loaded:

    mimalloc (pyarrow's and DataFusion's)   1 GiB each, reserved at once  ->  32 MiB at a time
    malloc of glibc                         64 MiB a thread               ->  two arenas for all threads
    DataFusion's threads                    one a processor               ->  two

Without this the process was aborted by whichever library first found no room (pyarrow 26, DataFusion 55).
"""

from __future__ import annotations

import os
import signal

from mmflow.errors import EngineError

__all__ = ["ENDING_SIGNALS", "limit_address_space"]

#: Signals that end a command beside SIGINT: of service managers, and of a closed terminal.
ENDING_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

#: With as much, libraries may reserve as they like.
_AMPLE = 8 << 30
#: Libraries alone take some 600 MiB; a query of a small file ran in 700.
_LEAST = 896 << 20
_M_ARENA_MAX = -8
_FRUGAL = {"MIMALLOC_ARENA_RESERVE": "32768", "TOKIO_WORKER_THREADS": "2"}


def limit_address_space() -> None:
    """Make libraries that are loaded from now on reserve little, if the address space is limited. Idempotent.

    Raises:
        EngineError: The address space is too small to load them.
    """
    try:
        import resource  # noqa: PLC0415  (not on Windows, which has no such limit)
    except ImportError:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or limit >= _AMPLE:
        return
    if limit < _LEAST:
        raise EngineError(
            f"this process may have {limit >> 20} MiB of address space (ulimit -v), and its libraries need "
            f"{_LEAST >> 20} MiB; raise that limit, and bound memory with --memory instead"
        )
    for name, value in _FRUGAL.items():
        os.environ.setdefault(name, value)  # what the user set stays
    import ctypes  # noqa: PLC0415  (--help needs none)

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc only
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)

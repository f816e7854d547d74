"""Making do with little address space (`ulimit -v`), decided before the first large library is loaded.

    mimalloc (pyarrow's and DataFusion's)   1 GiB each, reserved at once  ->  32 MiB at a time
    malloc of glibc                         64 MiB a thread               ->  two arenas for all threads
    DataFusion's threads                    one a processor               ->  two

Without this the process was aborted by whichever library first found no room (pyarrow 26, DataFusion 55).
"""

from __future__ import annotations

import ctypes
import os

from mmflow.errors import EngineError

__all__ = ["prepare"]

#: From here on libraries may reserve as they like.
_AMPLE = 8 << 30
#: Libraries alone take some 600 MiB; a query of a small file ran in 700.
_LEAST = 896 << 20
_M_ARENA_MAX = -8
_FRUGAL = {"MIMALLOC_ARENA_RESERVE": "32768", "TOKIO_WORKER_THREADS": "2"}


def prepare() -> None:
    """Have libraries that are loaded from now on reserve little, where the address space is limited. Idempotent.

    Raises:
        EngineError: There is too little of it to load them.
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
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc only
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)

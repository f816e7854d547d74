"""Exit of the process of a command."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

__all__ = ["exit_at_once", "exit_process"]


def exit_process(code: int) -> NoReturn:
    """Exit with the code of a command; at once if its query was interrupted or failed, and if no user's code has run.

    That code may have files to be flushed and threads to be waited for, as clusters have. Taking the interpreter down
    is a twentieth of the time of a small query.
    """
    if "mmflow.engines.local" in sys.modules and (code or _USERS.isdisjoint(sys.modules)):
        exit_at_once(code)
    sys.exit(code)


#: Modules that run code of users, or have threads of their own.
_USERS = frozenset({"mmflow.api.jobs", "distributed", "ray"})


def exit_at_once(code: int) -> NoReturn:
    """Run the exit functions and end the process, without taking the interpreter down.

    Threads of DataFusion 55 may still be at a query that was cancelled or has failed. They touch Python objects, and
    the interpreter aborts a process whose threads do that while it is taken down ("PyGILState_Release: thread state
    must be current").
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it, or it is closed
            code = code or 1
    os._exit(code)

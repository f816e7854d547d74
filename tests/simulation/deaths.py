"""Deaths of a process at each of its calls, for protocols that only a living machine's processes share.

    deaths(name, most)   begins the protocol anew for each call, runs it in a process that ends there, and checks it here

The process is a real one: its mappings, its locks and the space that its files take are what the kernel leaves of them.
It ends before a call that changes something, or in the middle of what that writes, or right behind it.
"""

from __future__ import annotations

import atexit
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

from mmflow.mapping.system import system
from mmflow.storage import disk
from tests.fork_server import ForkServer
from tests.simulation.protocols import PROTOCOLS, FileMarks

__all__ = ["deaths", "main"]

_CALLS = ("close", "ftruncate", "mkdir", "open", "pwrite", "rename", "replace", "rmdir", "unlink", "write")
_SYSTEM_CALLS = ("lock", "lock_range", "preallocate", "punch_hole")
_DEAD = 77
_NEVER = 1 << 30


def main(name: str, folder: str, marks: str, last: str) -> None:
    """Run a protocol, and end at a call: before that of number `last / 2` if it is even, else behind it.

    Prints the number of calls, if it comes to its end. A call that writes has written one half where it ends before it.
    """
    warnings.simplefilter("ignore")
    calls = 0

    def counted(function: Callable[..., Any], *, writes: bool) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal calls
            if 2 * calls == int(last):
                if writes:
                    function(given[0], memoryview(given[1])[: len(given[1]) // 2], *given[2:])
                os._exit(_DEAD)
            made = function(*given, **named)
            if 2 * calls + 1 == int(last):
                os._exit(_DEAD)
            calls += 1
            return made

        return call

    for each in _CALLS:
        setattr(disk, each, counted(getattr(disk, each), writes=each in ("pwrite", "write")))
    for each in _SYSTEM_CALLS:
        setattr(system, each, counted(getattr(system, each), writes=False))
    PROTOCOLS[name].run(Path(folder), cast(Any, FileMarks(marks)))
    sys.stdout.write(str(calls))
    sys.stdout.flush()
    os._exit(0)


def deaths(name: str, folder: Path, most: int) -> Iterator[tuple[float, set[str]]]:
    """Yield how far the process came, in calls, and the marks that hold; `folder` is what it left.

    Args:
        name: The protocol.
        folder: A new folder, each time.
        most: Deaths at most, some at random.
    """
    marks = folder.with_name("marks")

    def run(last: int) -> str:
        marks.unlink(missing_ok=True)
        folder.mkdir(exist_ok=True)
        PROTOCOLS[name].begin(folder)
        done = _server().run(name, str(folder), str(marks), str(last))
        assert done.returncode == (_DEAD if last < _NEVER else 0), done.stderr
        return done.stdout

    points = 2 * int(run(_NEVER))
    numbers = list(range(points)) if points < most else random.Random(0).sample(range(points), most - 1)
    for last in (_NEVER, *numbers):
        if last != _NEVER:
            run(last)
        yield min(last, points) / 2, set(marks.read_text().split()) if marks.exists() else set()


@cache
def _server() -> ForkServer:
    server = ForkServer(__name__)
    atexit.register(server.close)
    return server

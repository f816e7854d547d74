"""Worker process that calls functions on batches in shared memory (`engines.processes`).

Exits when its parent closes the link, and is killed when its parent dies, in the middle of a function, too.
"""

from __future__ import annotations

import faulthandler
import functools
import operator
import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, cast

import pyarrow as pa

from mmflow.blocks.memfd import map_block, write_block
from mmflow.errors import MmflowError, PeerLostError
from mmflow.shm.link import Link
from mmflow.storage.clock import Repeated
from mmflow.usercode.failures import function_error
from mmflow.worker.movement import running_call, steps_left
from mmflow.worker.user_functions import list_batches

__all__ = ["CALLS_SIGNAL", "serve"]

#: At this signal, the process writes the calls of its main thread into the file that its parent gave it, also where a
#: function waits in a lock or holds the interpreter.
CALLS_SIGNAL = signal.SIGRTMAX - 2
_STEPS_SECONDS = 1.0


def serve(link: Link) -> None:
    """Answer calls until the parent is gone.

    Raises:
        PeerLostError: It is.
    """
    first, _ = link.receive()
    budget, spill_dir, path = pickle.loads(first)
    sys.path[:] = path
    functions: dict[int, Callable[..., Any]] = {}
    while True:
        call, (block,) = link.receive()
        number, code = pickle.loads(call)
        try:
            made = _call(functions, number, code, block)
            _give(link, made, budget, spill_dir)
            error: MmflowError | None = None
        except PeerLostError:
            raise
        except BaseException as raised:  # noqa: BLE001  (whatever the function raised goes to the parent)
            error = _describe(raised)
        made = []  # held by the parent from now on
        link.send(pickle.dumps(error))


def _call(
    functions: dict[int, Callable[..., Any]], number: int, code: bytes | None, block: int
) -> list[pa.RecordBatch]:
    (batch,) = map_block(block)
    if code is not None:
        functions[number] = pickle.loads(code)
    return list_batches(functions[number](batch))


def _give(link: Link, made: list[pa.RecordBatch], budget: int, spill_dir: str) -> None:
    """Send what a function made, a block for each batch: schemas may differ; the caller says what is wrong then."""
    left = budget
    for batch in made:
        room = functools.partial(operator.ge, left)
        fd, nbytes = write_block([batch], batch.schema, room=room, spill_dir=spill_dir)
        try:
            link.send(b"", [fd])
        finally:
            os.close(fd)
        if nbytes <= left:
            left -= nbytes


def _describe(error: BaseException) -> MmflowError:
    """Return the error without what holds its function: for the parent, which says whose it is."""
    # A class of the user's own may not be picklable.
    known = isinstance(error, MmflowError) and type(error).__module__ == MmflowError.__module__
    return cast("MmflowError", error) if known else function_error("", error)


def _die_with(parent: int) -> None:
    """Kill this process when its parent dies: a function may run for hours, and holds the parent's output.

    Not by PR_SET_PDEATHSIG, which strikes as soon as the thread that started this process ends.
    """
    try:
        watched = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(0)
    if os.getppid() != parent:  # it died before, and its number is another process's now
        os._exit(0)
    threading.Thread(target=_kill_after, args=(watched,), name="mmflow-parent", daemon=True).start()


def _kill_after(watched: int) -> None:
    select.select([watched], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


def _say_steps(file: int) -> bool:
    """Write the rows that a function of rows has not been called with yet, for the watchdog of the parent."""
    os.pwrite(file, struct.pack("=q", steps_left()), 0)
    return True


if __name__ == "__main__":
    _die_with(int(sys.argv[2]))
    os.set_inheritable(int(sys.argv[3]), False)
    faulthandler.register(CALLS_SIGNAL, file=int(sys.argv[3]), all_threads=False)
    _end = socket.socket(fileno=int(sys.argv[1]))
    _end.set_inheritable(False)
    _steps = int(sys.argv[4])
    os.set_inheritable(_steps, False)
    _said = Repeated(functools.partial(_say_steps, _steps), _STEPS_SECONDS, "mmflow-steps")
    try:
        with running_call(""):
            serve(Link(_end, "parent process"))
    except (PeerLostError, KeyboardInterrupt):
        sys.exit(0)

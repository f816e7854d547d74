"""Script that changes an array and kills its own process at the n-th step of the change.

python crash_array.py PATH MODE DIE_AT
"""

from __future__ import annotations

import os
import signal
import sys

import mmflow as mf
import mmflow.arrays.array as array_module
import mmflow.arrays.undo as undo_module


def main(path: str, mode: str, die_at: str) -> None:
    reached = 0

    def failpoint(step: str) -> None:
        nonlocal reached
        reached += 1
        if reached == int(die_at):
            os.kill(os.getpid(), signal.SIGKILL)

    for module in (array_module, undo_module):
        vars(module)["failpoint"] = failpoint
    array = mf.open_array(path, mode)  # type: ignore[arg-type]  # of str
    if mode == "r":
        return
    array[100:5000] = 2
    array[20_000::7] = 2
    if mode == "c":
        array.commit()
    else:
        array.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Script that changes an array in place, as on another system, and kills its own process during the change.

python crash_system.py PATH SYSTEM STEP
"""

from __future__ import annotations

import os
import signal
import sys

import mmflow as mf
import mmflow.arrays.array as array_module
import mmflow.arrays.undo as undo_module
from tests.mapping.systems import SYSTEMS, on


def main(path: str, name: str, die_at: str) -> None:
    with on(SYSTEMS[name]):
        array = mf.open_array(path, "r+")
        array[:10] = 1
        array.flush()

        def failpoint(step: str) -> None:
            if step == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        for module in (array_module, undo_module):
            vars(module)["failpoint"] = failpoint
        array[5:7000] = 2
        array[30_000::7] = 2
        array.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Script that changes an array file in processes that kill themselves at each step in turn, and reports the result.

    python crash_map.py FOLDER HOW          HOW: in place, out, over itself, copy

Prints a line of JSON for each n: did it die, is the content old or new (or missing, or mixed), what else is left in the
folder; and the same once the file was changed anew.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mmflow as mf
import mmflow.arrays.array as array_module
import mmflow.arrays.change as change_module
import mmflow.arrays.regions as regions_module
import mmflow.arrays.undo as undo_module

ROWS = 9000
OLD = np.arange(ROWS, dtype="<i4")
NEW = OLD * 2


def dying_at(step: int) -> Callable[[str], None]:
    lock, reached = threading.Lock(), 0

    def failpoint(name: str) -> None:
        nonlocal reached
        with lock:
            reached += 1
            if reached == step:
                os.kill(os.getpid(), signal.SIGKILL)

    return failpoint


def in_child(step: int, do: Callable[[], Any]) -> bool:
    """Run the change in a process that dies at a step; return whether it died."""
    child = os.fork()
    if child == 0:
        for module in (array_module, change_module, regions_module, undo_module):
            vars(module)["failpoint"] = dying_at(step)
        try:
            do()
        except BaseException as error:
            print(f"failed: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


def change(path: Path, how: str, out: Path) -> None:
    if how == "copy":
        array = mf.open_array(path, "c")
        array[...] = NEW
        array.commit(in_place=False)
        return
    session = mf.Session(shard_size="8KiB", workers=2)
    session.map_array(
        path, lambda rows: rows * 2, in_place=how == "in place", overwrite=how == "out",
        out={"out": out, "over itself": path}.get(how),
    )  # fmt: skip


def state(path: Path) -> str:
    if not path.exists():
        return "missing"
    found = mf.open_array(path)[...]
    return "old" if np.array_equal(found, OLD) else "new" if np.array_equal(found, NEW) else "mixed"


def main(folder: str, how: str) -> None:
    path, out = Path(folder, "a.npy"), Path(folder, "b.npy")
    watched = out if how == "out" else path
    for step in range(1, 200):
        out.unlink(missing_ok=True)
        np.save(path, OLD)  # 128 bytes of header: regions meet within pages
        died = in_child(step, lambda: change(path, how, out))
        dies_again = 0
        if step % 2:  # what puts things right dies, too
            while dies_again < 4 and in_child(dies_again + 1, lambda: mf.open_array(path)):
                dies_again += 1
        found = state(watched)
        if how == "out":
            assert np.array_equal(np.load(path), OLD)
        left = sorted(p.name for p in Path(folder).iterdir())
        np.save(path, OLD)
        change(path, how, out)
        again = sorted(p.name for p in Path(folder).iterdir())
        assert state(watched) == "new"
        print(json.dumps({"died": died, "state": found, "left": left, "again": again, "deaths": dies_again}))
        if not died:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])

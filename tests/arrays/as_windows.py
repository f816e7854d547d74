"""Script that uses mapped arrays like Python on Windows: without fcntl and resource, with msvcrt's locks.

python as_windows.py PATH
"""

from __future__ import annotations

import fcntl
import os
import sys
import types
from typing import Any

import numpy as np
import pyarrow.compute
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet  # noqa: F401  (before the modules that Windows lacks are hidden)

LACKS = [
    *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "SEEK_DATA", "SEEK_HOLE"),
    *("copy_file_range", "fchmod", "fdatasync", "posix_fadvise", "posix_fallocate"),
    *("pread", "preadv", "pwrite", "pwritev"),
]
FLOCK, LOCKS = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB
locked_at: list[int] = []


def locking(fd: int, mode: int, count: int) -> None:
    """Lock bytes as msvcrt does: from the file's position on, with PermissionError where they are taken."""
    locked_at.append(os.lseek(fd, 0, os.SEEK_CUR))
    try:
        FLOCK(fd, LOCKS)
    except BlockingIOError as error:
        raise PermissionError(*error.args) from None


def main(path: str) -> None:
    modules: dict[str, Any] = sys.modules
    modules["fcntl"] = modules["resource"] = None
    modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
    for name in LACKS:
        delattr(os, name)
    here, sys.platform = sys.platform, "win32"
    from mmflow.arrays import create_array, open_array
    from mmflow.mapping.system import system
    from mmflow.mapping.system.windows import WindowsSystem

    assert type(system) is WindowsSystem
    assert "mmflow.mapping.system.linux" not in sys.modules
    assert "mmflow.arrays.regions" not in sys.modules
    array = create_array(path, "i8", 100_000)
    array[:5] = np.ones(5)
    array.flush()
    array[:] = 3
    with open_array(path) as reader:  # the writer lives: nobody undoes its changes
        assert reader[-1] == 3
    array.roll_back()
    array[5] = 7
    array.close()
    with open_array(path, "c") as private:
        private[[0, 70_000]] = 0
        private[70_000] = 9
        assert len(private.changed_pages()) == 2
        assert private.commit() == 2
    assert open_array(path)[70_000] == 9
    assert set(locked_at) == {(1 << 31) - 2}
    sys.platform = here


if __name__ == "__main__":
    main(*sys.argv[1:])

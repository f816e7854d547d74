"""What was found in a sample of a file: it is looked for once, as long as the file is the same one.

Invariant: a file that was modified a moment ago is looked at again, since it may change once more within one tick of
its file system's clock.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from mmflow.mapping import FileIdentity

__all__ = ["found_once"]

_T = TypeVar("_T")
_MOST = 256
_SETTLED_NS = 2 * 10**9

_lock = threading.Lock()
_known: dict[Hashable, Any] = {}


def found_once(what: Hashable, path: str, find: Callable[[], _T]) -> _T:
    """Return what `find` returns, which is asked once for a local file that does not change.

    Args:
        what: All that the result depends on beside the file.
        path: Path of the file; of URLs, streams and members of archives nothing is kept.
        find: Looks at the file. What it raises, this raises, and it is asked again.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return find()
    if not stat.S_ISREG(status.st_mode) or time.time_ns() - status.st_mtime_ns < _SETTLED_NS:
        return find()
    key = (what, path, FileIdentity.from_stat(status))
    with _lock:
        if key in _known:
            found: _T = _known[key]
            return found
    found = find()
    with _lock:
        if len(_known) >= _MOST:
            _known.clear()
        _known[key] = found
    return found

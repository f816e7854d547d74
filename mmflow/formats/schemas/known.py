"""Findings in samples of files: each is looked for once, as long as its file is the same one.

Invariant: a file that was modified a moment ago is looked at again, since it may change once more within one tick of
its file system's clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from mmflow.formats.last_results import LastResults
from mmflow.mapping import FileIdentity

__all__ = ["found_once"]

_T = TypeVar("_T")
_MOST = 256

_known: LastResults[Hashable, Any] = LastResults(_MOST)


def found_once(what: Hashable, path: str, find: Callable[[], _T]) -> _T:
    """Return what `find` returns, which is asked once for a local file that does not change.

    Args:
        what: All that the result depends on beside the file.
        path: Path of the file; of URLs, streams and members of archives nothing is kept.
        find: Looks at the file. What it raises, this raises, and it is asked again.
    """
    identity = FileIdentity.settled(path, time.time_ns())
    if identity is None:
        return find()
    found: _T = _known.get((what, path, identity), find)
    return found

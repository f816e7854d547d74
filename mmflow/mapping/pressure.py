"""Whether the container's memory nears its limit.

Page cache is charged to the container. At the limit the kernel takes pages back itself, in the midst of whatever asks
for memory next; above `memory.high` it throttles; and what it counts as active (mapped pages that were touched) a
kubelet counts towards eviction. So files are dropped behind the cursor a little before that.
"""

from __future__ import annotations

import threading
import time

from mmflow.mapping.cgroup import CgroupMemory, cgroup_memory, cgroup_usage

__all__ = ["near_limit"]

#: Room to keep, of the limit and in bytes: windows under way are charged before any of them is done with.
_ROOM = 1 / 8
_LEAST_ROOM = 256 << 20
#: Limits can change while a process runs (a pod that is resized in place), but seldom do.
_FIND_AGAIN_SECONDS = 5.0


class _Group:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: CgroupMemory | None = None
        self._at = -_FIND_AGAIN_SECONDS

    def get(self) -> CgroupMemory | None:
        with self._lock:
            now = time.monotonic()
            if now - self._at >= _FIND_AGAIN_SECONDS:
                self._found, self._at = cgroup_memory(), now
            return self._found


_group = _Group()


def near_limit() -> bool:
    """Whether less than 1/8 of the container's limit (the smaller of `max` and `high`) is free, or less than 256 MiB
    (of a small one: half); False where there is no limit: a machine's page cache is meant to fill. Page cache counts as
    used. Thread-safe; some 10 µs."""
    group = _group.get()
    if group is None or group.limit is None:
        return False
    room = min(group.limit / 2, max(_ROOM * group.limit, _LEAST_ROOM))
    return group.limit - cgroup_usage(group) <= room

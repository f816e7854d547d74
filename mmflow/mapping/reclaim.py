"""Pressure on the container's memory, before it reaches its limit.

Page cache is charged to the container. At the limit the kernel reclaims pages during the next allocation; above
`memory.high` it throttles; and a kubelet counts active pages (mapped ones that were touched) towards eviction. So
pages are evicted behind the cursor a little before that.
"""

from __future__ import annotations

import threading
import time

from mmflow.mapping.system.cgroup import CgroupMemory, cgroup_memory, cgroup_usage

__all__ = ["is_near_limit"]

#: Room to keep free, as a share of the limit and in bytes: windows in use are charged before any is evicted.
_ROOM = 1 / 8
_LEAST_ROOM = 256 << 20
#: Limits can change while a process runs (a pod that is resized in place), but seldom do.
_REREAD_SECONDS = 5.0


class _Group:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: CgroupMemory | None = None
        self._at = -_REREAD_SECONDS

    def get(self) -> CgroupMemory | None:
        with self._lock:
            now = time.monotonic()
            if now - self._at >= _REREAD_SECONDS:
                self._found, self._at = cgroup_memory(), now
            return self._found


_group = _Group()


def is_near_limit() -> bool:
    """Return whether little of the container's limit (the smaller of `max` and `high`) is free.

    That is 1/8 of it, or 256 MiB if that is more, but at most half. Page cache counts as used. Without a limit, False:
    a machine's page cache is meant to fill. Thread-safe; takes about 10 µs.
    """
    group = _group.get()
    if group is None or group.limit is None:
        return False
    room = min(group.limit / 2, max(_ROOM * group.limit, _LEAST_ROOM))
    return group.limit - cgroup_usage(group) <= room

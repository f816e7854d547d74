"""Limits of this process: memory, mappings, address space, descriptors.

Thin readers over /proc and /sys; pure functions parse. Invariant: nothing here decides anything, and a limit that
can't be read counts as none (None).
"""

from __future__ import annotations

import functools
from pathlib import Path

from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping.system import system
from mmflow.mapping.system.cgroup import CgroupMemory, cgroup_memory

__all__ = [
    "Limits",
    "ProcessMemory",
    "available_memory",
    "parse_kib_fields",
    "process_memory",
    "read_limits",
    "total_memory",
]


def parse_kib_fields(text: str) -> dict[str, int]:
    """Parse `Name:   123 kB` lines of /proc/meminfo and /proc/self/status to bytes.

    >>> parse_kib_fields("RssAnon:\\t    8 kB\\nThreads:\\t1\\nName:\\tpython\\n")
    {'RssAnon': 8192}
    """
    fields: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
            fields[name] = int(words[0]) * 1024
    return fields


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Resident memory of a process in bytes, by its backing; `peak` is the peak of all three together.

    `file_backed` is page cache that the kernel reclaims under pressure: not a cost by itself.
    """

    anonymous: int
    file_backed: int
    shared: int
    peak: int


def process_memory(pid: int | str = "self") -> ProcessMemory:
    """Return the current resident memory of a process; zeros where /proc can't be read."""
    fields = parse_kib_fields(_read(f"/proc/{pid}/status"))
    return ProcessMemory(
        anonymous=fields.get("RssAnon", 0),
        file_backed=fields.get("RssFile", 0),
        shared=fields.get("RssShmem", 0),
        peak=fields.get("VmHWM", 0),
    )


@functools.cache
def total_memory() -> int:
    """Return the bytes of memory of this container (or machine), read once per process."""
    total = parse_kib_fields(_read("/proc/meminfo")).get("MemTotal", 1 << 30)
    group = cgroup_memory()
    return total if group is None or group.limit is None else min(total, group.limit)


def available_memory() -> int:
    """Return the bytes that can be allocated now without swapping, on the machine and within the cgroup.

    Page cache that can be reclaimed counts as available.
    """
    available = parse_kib_fields(_read("/proc/meminfo")).get("MemAvailable", 1 << 30)
    group = cgroup_memory()
    room = None if group is None else group.room
    return available if room is None else min(available, room)


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits at one moment; None: unlimited or unknown.

    Attributes:
        max_mappings: Limit of mappings, vm.max_map_count.
        mappings: Mappings in use.
        address_space: RLIMIT_AS, in bytes.
        open_files: RLIMIT_NOFILE (soft).
        cgroup: Memory limits of the cgroup, with their path.
        total_memory: Memory of the container, in bytes.
        available_memory: Memory that can be allocated now, in bytes.
    """

    max_mappings: int | None
    mappings: int | None
    address_space: int | None
    open_files: int | None
    cgroup: CgroupMemory | None
    total_memory: int
    available_memory: int


def read_limits() -> Limits:
    """Read all limits of this process."""
    count = _read("/proc/sys/vm/max_map_count").strip()
    maps = _read("/proc/self/maps")
    return Limits(
        max_mappings=int(count) if count.isdigit() else None,
        mappings=maps.count("\n") or None,
        address_space=system.soft_limit("address space"),
        open_files=system.soft_limit("open files"),
        cgroup=cgroup_memory(),
        total_memory=total_memory(),
        available_memory=available_memory(),
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""

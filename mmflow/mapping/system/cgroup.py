"""Memory limits of this process's control group, versions 1 and 2.

Page cache is charged to the container, so mapped files count. A limit may be set at any level above the process; the
smallest one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = [
    "CgroupMemory",
    "cgroup_memory",
    "cgroup_usage",
    "find_memory_group",
    "parse_limit",
    "read_memory_group",
]

_NO_LIMIT = 1 << 60  # version 1 writes the largest page-aligned 64-bit number for no limit
_USAGE = {1: "memory.usage_in_bytes", 2: "memory.current"}
_OCTAL = lazy_regex(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class CgroupMemory:
    """Memory limits in bytes of a control group and the groups above it.

    Attributes:
        version: 1 or 2.
        path: Folder of the group.
        holder: Folder of the group with the smallest limit, this one or one above; without a limit this one.
        limit: Smallest of max and high (v1: limit_in_bytes; its soft limit doesn't throttle); None: no limit.
        high: Smallest `high` alone.
        usage: Bytes charged to `holder`, page cache included.
        reclaimable: Inactive page cache among them, which the kernel reclaims before it refuses.
    """

    version: int
    path: str
    holder: str
    limit: int | None
    high: int | None
    usage: int
    reclaimable: int

    @property
    def room(self) -> int | None:
        """Bytes that can still be charged; None: there is no limit."""
        return None if self.limit is None else max(0, self.limit - self.usage + self.reclaimable)


def parse_limit(text: str) -> int | None:
    """Parse a limit file; None for `max`, for version 1's huge number, and for anything invalid.

    >>> parse_limit("1073741824\\n"), parse_limit("max\\n"), parse_limit("9223372036854771712\\n")
    (1073741824, None, None)
    """
    word = text.strip()
    if not word.isdigit():
        return None
    value = int(word)
    return None if value >= _NO_LIMIT else value


def find_memory_group(cgroup: str, mountinfo: str) -> tuple[int, str, str] | None:
    """Find (version, mount point, folder of the group) in /proc/self/cgroup and /proc/self/mountinfo.

    >>> find_memory_group("0::/a/b\\n", "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\\n")
    (2, '/sys/fs/cgroup', '/sys/fs/cgroup/a/b')
    """
    groups: dict[str, str] = {}
    for line in cgroup.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                groups[controller] = parts[2]
    unified: tuple[int, str, str] | None = None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        head, tail = left.split(), right.split()
        if len(head) < 5 or not tail:
            continue
        root, point = _unescape(head[3]), _unescape(head[4])
        if tail[0] == "cgroup" and "memory" in tail[-1].split(",") and "memory" in groups:
            return 1, point, _inside(point, root, groups["memory"])
        if tail[0] == "cgroup2" and "" in groups:
            unified = 2, point, _inside(point, root, groups[""])
    return unified


def _inside(point: str, root: str, group: str) -> str:
    # Inside a container the mount may show a subtree only, whose root is the container's own group.
    relative = group
    if root != "/":
        relative = group[len(root) :] if group == root or group.startswith(root + "/") else ""
    return (point.rstrip("/") + "/" + relative.strip("/")).rstrip("/")


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def read_memory_group(version: int, point: str, folder: str, read: Callable[[str], str]) -> CgroupMemory:
    """Read the limits from the group up to the mount point; `read(path)` returns "" for a missing file."""
    limit_file, inactive = (
        ("memory.limit_in_bytes", "total_inactive_file") if version == 1 else ("memory.max", "inactive_file")
    )
    limit: int | None = None
    high: int | None = None
    holder = here = folder
    while True:
        found = [parse_limit(read(f"{here}/{limit_file}"))]
        if version == 2:
            at_high = parse_limit(read(f"{here}/memory.high"))
            found.append(at_high)
            if at_high is not None and (high is None or at_high < high):
                high = at_high
        for value in found:
            if value is not None and (limit is None or value < limit):
                limit, holder = value, here
        if here == point or not here.startswith(point) or here == "/":
            break
        here = here.rpartition("/")[0]
    reclaimable = 0
    for line in read(f"{holder}/memory.stat").splitlines():
        name, _, number = line.partition(" ")
        if name == inactive and number.strip().isdigit():
            reclaimable = int(number)
    usage = parse_limit(read(f"{holder}/{_USAGE[version]}")) or 0
    return CgroupMemory(version, folder, holder, limit, high, usage, reclaimable)


def cgroup_memory() -> CgroupMemory | None:
    """Return the memory limits of this process's control group; None where it has none, or hides it."""
    found = find_memory_group(_read("/proc/self/cgroup"), _read("/proc/self/mountinfo"))
    return None if found is None else read_memory_group(*found, read=_read)


def cgroup_usage(group: CgroupMemory) -> int:
    """Return the bytes charged now to the group whose limit counts, in 10 µs; `cgroup_memory` takes 500."""
    return parse_limit(_read(f"{group.holder}/{_USAGE[group.version]}")) or 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""

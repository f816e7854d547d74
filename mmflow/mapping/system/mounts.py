"""Names of Linux's file systems, by mounted device or by the number of statfs(2)."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

__all__ = ["find_file_system", "parse_mountinfo"]

#: f_type of statfs(2), for files whose mount isn't found in mountinfo (btrfs subvolumes, overlays).
_FILE_SYSTEMS = {
    0x00006969: "nfs",
    0x00009FA0: "proc",
    0x0000517B: "smb",
    0x00C36400: "ceph",
    0x01021994: "tmpfs",
    0x01021997: "9p",
    0x01161970: "gfs2",
    0x0027E0EB: "cgroup",
    0x0BD00BD0: "lustre",
    0x47504653: "gpfs",
    0x5346414F: "afs",
    0x53464846: "wslfs",
    0x58465342: "xfs",
    0x62656572: "sysfs",
    0x63677270: "cgroup2",
    0x64626720: "debugfs",
    0x65735546: "fuse",
    0x6E667364: "nfsd",
    0x73757245: "coda",
    0x74726163: "tracefs",
    0x786F4256: "vboxsf",
    0x794C7630: "overlay",
    0x9123683E: "btrfs",
    0xEF53: "ext4",
    0xFE534D42: "smb2",
    0xFF534D42: "cifs",
}


def parse_mountinfo(text: str) -> dict[tuple[int, int], str]:
    """Parse /proc/self/mountinfo to file system types by (major, minor) of the device.

    >>> parse_mountinfo("36 35 98:0 / /mnt rw,noatime - ext4 /dev/root rw\\n")
    {(98, 0): 'ext4'}
    """
    types: dict[tuple[int, int], str] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        head, tail = left.split(), right.split()
        if len(head) < 3 or not tail:
            continue
        major, _, minor = head[2].partition(":")
        if major.isdigit() and minor.isdigit():
            types[int(major), int(minor)] = tail[0]
    return types


@functools.lru_cache(maxsize=256)
def find_file_system(device: int, kind: int) -> str:
    """Return the file system type of a device (st_dev), which is of a kind by statfs (f_type); "" if it is unknown."""
    # Cached, since parsing this per file costs more than opening it. The kind is part of the key since the kernel
    # gives the number of a device that is unmounted to the next that is mounted.
    name = None
    with contextlib.suppress(OSError):
        text = Path("/proc/self/mountinfo").read_text(errors="replace")
        name = parse_mountinfo(text).get((os.major(device), os.minor(device)))
    return _FILE_SYSTEMS.get(kind, "") if name is None else name

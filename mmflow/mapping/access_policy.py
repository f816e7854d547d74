"""The choice of mmap or pread, and of the advice: the only place with heuristics.

`read_facts` reads the facts, `decide` chooses. `decide` is pure, so every choice can be shown, tested and
overruled (`--io`). Invariant: a Decision always carries the reason that people read.
"""

from __future__ import annotations

import enum
import functools
import os
import stat
from dataclasses import replace
from typing import Literal

from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping.system import system

__all__ = [
    "PSEUDO_FILE_SYSTEMS",
    "SMALL",
    "Access",
    "Advice",
    "Decision",
    "FileFacts",
    "Io",
    "Kind",
    "decide",
    "read_facts",
]

#: Bytes of a small file, at most: one read of all of it costs less than a mapping.
SMALL = 64 << 10

Io = Literal["auto", "mmap", "pread"]
Access = Literal["sequential", "random", "any"]
Kind = Literal["mmap", "pread"]


class Advice(enum.Flag):
    """Advice to the kernel about the pages of a file."""

    NONE = 0
    #: Read in order: large readahead.
    SEQUENTIAL = enum.auto()
    #: Read here and there: no readahead.
    RANDOM = enum.auto()
    #: Fault whole windows in at once, not page by page.
    POPULATE = enum.auto()
    #: Read the next window in while this one is decoded.
    PREFETCH = enum.auto()
    #: Evict the page cache behind the cursor.
    EVICT_BEHIND = enum.auto()


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Facts that `decide` chooses by.

    Attributes:
        size: Size in bytes.
        file_system: Name as in mountinfo (ext4, nfs4, fuse.sshfs); "" if unknown.
        regular: Whether it is a regular file; False for devices, pipes and sockets.
    """

    size: int
    file_system: str
    regular: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """The way in which the windows of a file are filled, with the reason."""

    kind: Kind
    advice: Advice
    reason: str

    def fallback(self, reason: str) -> Decision:
        """Return the same decision by pread, since mapping turned out to be impossible."""
        return replace(self, kind="pread", reason=reason, advice=self.advice & ~Advice.POPULATE)


_SMALL_FILE = Decision("pread", Advice.NONE, "small files are read as a whole")

#: Pages of these come over a network (or from a user process), where a fault blocks without an error,
#: an error is a SIGBUS, and other clients' writes appear at any time.
_REMOTE = {
    "9p": "9p",
    "afs": "AFS",
    "beegfs": "BeeGFS",
    "ceph": "CephFS",
    "cifs": "CIFS",
    "coda": "Coda",
    "fuse": "FUSE",
    "gpfs": "GPFS",
    "lustre": "Lustre",
    "ncpfs": "NCP",
    "nfs": "NFS",
    "nfs4": "NFS",
    "smb2": "SMB",
    "smb3": "SMB",
    "vboxsf": "VirtualBox shared folder",
    "virtiofs": "virtiofs",
    "vmhgfs": "VMware shared folder",
}

#: Files of these have contents but no size.
PSEUDO_FILE_SYSTEMS = frozenset({"proc", "sysfs", "debugfs", "tracefs", "cgroup", "cgroup2"})


def remote_name(file_system: str) -> str | None:
    """Return what people call a file system that may be another host's; None: it is a local disk."""
    # fuse.sshfs and the like are remote, or at least another process; fuseblk (ntfs, exfat) is a local disk.
    return _REMOTE.get(file_system.partition(".")[0])


@functools.lru_cache(maxsize=256)
def decide(facts: FileFacts, *, io: Io, budget: int, access: Access, live: bool = False) -> Decision:
    """Choose how to fill the windows of a file.

    Args:
        facts: Facts about the file.
        io: `mmap` or `pread` is followed where possible; `auto` chooses.
        budget: Bytes of page cache that this file may fill.
        access: Order in which it will be read, unless it is small.
        live: Views must show what is written to the file later, so that a small file is not read as a whole.

    >>> print(decide(FileFacts(10, "nfs4"), io="auto", budget=1 << 30, access="sequential").reason)
    nfs4 is a network file system (NFS): a lost server would be a fatal signal under a mapping
    """
    remote = remote_name(facts.file_system)
    if not live and facts.size <= SMALL and io == "auto" and facts.regular and remote is None:
        return _SMALL_FILE
    if access == "random":
        advice, how = Advice.RANDOM, "random access"
    elif access == "any":
        advice, how = Advice.NONE, "access in any order"
    else:
        advice, how = Advice.SEQUENTIAL | Advice.POPULATE | Advice.PREFETCH, "sequential access"
    if facts.size > budget:
        advice |= Advice.EVICT_BEHIND
        how += f", {facts.size:,} bytes exceed the budget of {budget:,}, pages are evicted behind the cursor"
    by_pread = advice & ~Advice.POPULATE
    if not facts.regular:
        return Decision("pread", by_pread, "not a regular file: it can't be relied on to map")
    if io == "pread":
        return Decision("pread", by_pread, f"asked for (io=pread); {how}")
    if io == "mmap":
        return Decision("mmap", advice, f"asked for (io=mmap); {how}")
    if remote is not None:
        return Decision(
            "pread",
            by_pread,
            f"{facts.file_system} is a network file system ({remote}): "
            "a lost server would be a fatal signal under a mapping",
        )
    return Decision("mmap", advice, f"local file system {facts.file_system or '(unknown)'}; {how}")


def read_facts(fd: int, status: os.stat_result | None = None) -> FileFacts:
    """Read the facts of an open file, whose `status` may be known."""
    status = os.fstat(fd) if status is None else status
    return FileFacts(status.st_size, system.file_system_name(fd), stat.S_ISREG(status.st_mode))

"""Memory control groups for processes of a test, where this machine lets them be made."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mmflow.mapping.system.cgroup import cgroup_memory

__all__ = ["MemoryGroup"]


@dataclass(frozen=True)
class MemoryGroup:
    """A group below that of this process, of version 1 or 2."""

    folder: Path
    version: int

    @classmethod
    def make(cls, name: str, limit: int) -> Self | None:
        """A group with a limit in bytes; None: none can be made here (no root, no delegation, read-only)."""
        found = cgroup_memory()
        if found is None:
            return None
        group = cls(Path(found.path, f"mmflow-test-{os.getpid()}-{name}"), found.version)
        try:
            group.folder.mkdir()
            limits = {1: "memory.limit_in_bytes", 2: "memory.max"}
            Path(group.folder, limits[group.version]).write_text(str(limit))
        except OSError:
            group.remove()
            return None
        return group

    @property
    def joins(self) -> str:
        """A shell command with which the shell joins."""
        return f"echo $$ > {self.folder}/cgroup.procs"

    def hits(self) -> int:
        """Return how often the limit was hit: the kernel had to find pages to take back before it could give one."""
        if self.version == 1:
            return int(Path(self.folder, "memory.failcnt").read_text())
        events = dict(line.split() for line in Path(self.folder, "memory.events").read_text().splitlines())
        return int(events["max"])

    def remove(self) -> None:
        """Once its processes are gone."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()

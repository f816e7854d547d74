"""Small disks, which fill up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["Disk", "disk"]


class Disk:
    """A file system in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def grow(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.path], check=True, capture_output=True)


@contextmanager
def disk(path: Path, size: str) -> Iterator[Disk]:
    """Mount one of so many bytes at a path; skips the test where that may not be done."""
    if os.getuid() != 0:
        pytest.skip("only root may mount small disks")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"small disks can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        # Lazily: whatever still has a file open there must not keep it mounted.
        subprocess.run(["umount", "-l", path], check=True)

"""Other systems than this one, or this one with other facts, for all modules that call it.

On them, what their Python does not have is gone, and on Windows no file can be deleted, or replaced, while it is open.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
import mmap
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

import mmflow.mapping
from mmflow.mapping.system import System, system
from mmflow.mapping.system.linux import LinuxSystem
from mmflow.mapping.system.macos import MacSystem
from mmflow.mapping.system.windows import WindowsSystem
from mmflow.storage import disk

__all__ = ["LINUX", "MACOS", "SYSTEMS", "WINDOWS", "on", "with_facts"]

LINUX, MACOS, WINDOWS = LinuxSystem(), MacSystem(), WindowsSystem()
_NO_MAC_HAS = ["copy_file_range", "fdatasync", "posix_fadvise", "posix_fallocate"]
_NO_WINDOWS_HAS = [
    *_NO_MAC_HAS,
    *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "SEEK_DATA", "SEEK_HOLE"),
    *("fchmod", "pread", "preadv", "pwrite", "pwritev"),
]
_NO_WINDOWS_MAPS = ["MADV_DONTNEED", "MAP_PRIVATE", "MAP_SHARED", "PROT_READ", "PROT_WRITE"]


class _Facts:
    def __init__(self, of: System, facts: dict[str, Any]) -> None:
        self._of = of
        self.__dict__ |= facts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)


def with_facts(of: System, **facts: Any) -> System:
    """Return a system with some attributes or methods replaced."""
    return cast(System, _Facts(of, facts))


SYSTEMS: dict[str, System] = {
    "Linux, 16 KiB pages": with_facts(LINUX, granularity=16 << 10, page_size=16 << 10),
    "Linux, 64 KiB pages": with_facts(LINUX, granularity=64 << 10, page_size=64 << 10),
    "macOS, Intel": MACOS,
    "macOS, Apple's processors": with_facts(MACOS, granularity=16 << 10, page_size=16 << 10),
    # Its locks are of its own C library.
    "Windows": with_facts(WINDOWS, granularity=64 << 10, lock=LINUX.lock),
}


@contextlib.contextmanager
def on(other: System) -> Iterator[None]:
    """Run the block as on another system."""
    for found in pkgutil.walk_packages(mmflow.mapping.__path__, "mmflow.mapping."):
        importlib.import_module(found.name)
    importlib.import_module("mmflow.arrays")
    using = [
        module
        for name, module in sys.modules.items()
        if name.startswith("mmflow.")
        and name != "mmflow.mapping.system"
        and vars(module).get("system") is system
    ]
    assert len(using) >= 15
    base: Any = other
    while isinstance(base, _Facts):
        base = base._of
    with pytest.MonkeyPatch.context() as patch:
        for user in using:
            patch.setattr(user, "system", other)
        for name in {MACOS: _NO_MAC_HAS, WINDOWS: _NO_WINDOWS_HAS}.get(base, []):
            patch.delattr(os, name)
        if base is WINDOWS:
            for name in _NO_WINDOWS_MAPS:
                patch.delattr(mmap, name)
            for module, name in itertools.product((os, disk), ("unlink", "remove", "rename", "replace")):
                if name in vars(module):
                    patch.setattr(module, name, _as_windows(getattr(module, name), name))
        yield


def _as_windows(do: Callable[..., None], name: str) -> Callable[..., None]:
    def call(*paths: Any, **named: Any) -> None:
        for path in paths:
            if _is_open(path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        if name == "rename" and os.path.exists(paths[1]):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(paths[1]))
        do(*paths, **named)

    return call


def _is_open(path: Any) -> bool:
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(path), os.fstat(int(fd))):
                return True
    return False

"""Another system than this one, or this one with other facts, for all modules that ask a system.

On it, what its Python does not have is gone, and on Windows no file can be deleted, or replaced, while it is open.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import mmap
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

import mmflow.mapping
from mmflow.mapping import linux, macos, windows
from mmflow.mapping.system import System, system

__all__ = ["SYSTEMS", "on", "with_facts"]

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
    """A system with some facts changed."""
    return cast(System, _Facts(of, facts))


SYSTEMS: dict[str, System] = {
    "Linux, 16 KiB pages": with_facts(linux, GRANULARITY=16 << 10, PAGE_SIZE=16 << 10),
    "Linux, 64 KiB pages": with_facts(linux, GRANULARITY=64 << 10, PAGE_SIZE=64 << 10),
    "macOS, Intel": macos,
    "macOS, Apple's processors": with_facts(macos, GRANULARITY=16 << 10, PAGE_SIZE=16 << 10),
    # Its locks are of its own C library.
    "Windows": with_facts(windows, GRANULARITY=64 << 10, lock=linux.lock),
}


@contextlib.contextmanager
def on(other: System) -> Iterator[None]:
    """Run the block as on another system."""
    for found in pkgutil.iter_modules(mmflow.mapping.__path__):
        importlib.import_module(f"mmflow.mapping.{found.name}")
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
        for name in {macos: _NO_MAC_HAS, windows: _NO_WINDOWS_HAS}.get(base, []):
            patch.delattr(os, name)
        if base is windows:
            for name in _NO_WINDOWS_MAPS:
                patch.delattr(mmap, name)
            for name in ("unlink", "remove", "rename", "replace"):
                patch.setattr(os, name, _as_windows(getattr(os, name), name))
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

"""File servers that don't answer: a probe in its own thread, which nobody has to wait for.

A system call to a file server that is gone (NFS mounted hard, FUSE) returns when the server is back; until then neither
Ctrl-C nor a time limit ends it. So a thread probes the server first, or while others wait:

    check_answers(paths)             before a path is touched: a warning after 10 seconds, an error after 60
    probe = ServerProbe(paths)       probe.silent_seconds(): time without an answer

Invariant: the calling thread uses only the names of paths.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from mmflow.errors import SilentServerWarning, SourceUnreachableError

__all__ = ["FAIL_SECONDS", "WARN_SECONDS", "ServerProbe", "check_answers", "is_silent"]

#: Seconds without an answer until a warning.
WARN_SECONDS = 10.0
#: Seconds without an answer until an error.
FAIL_SECONDS = 60.0
#: Largest number of folders that are probed; a source of many files has few of them.
_MAX_FOLDERS = 8


class ServerProbe:
    """Thread that probes the file servers of paths, one after the other."""

    def __init__(self, paths: Iterable[str]) -> None:
        folders: dict[str, str] = {}
        for path in paths:
            folders.setdefault(os.path.dirname(path), path)
        self._paths = list(islice(folders.values(), _MAX_FOLDERS))
        self._began = time.monotonic()
        self._at = 0
        self._done = threading.Event()
        threading.Thread(target=self._probe, name="mmflow-probe", daemon=True).start()

    def _probe(self) -> None:
        for path in self._paths:
            with contextlib.suppress(OSError, ValueError):  # an error is an answer, too
                _request(path)
            self._at += 1
        self._done.set()

    def silent_seconds(self, wait: float = 0.0) -> float:
        """Wait for up to `wait` seconds, and return the seconds without an answer so far; 0 if there is one."""
        return 0.0 if self._done.wait(wait) else time.monotonic() - self._began

    @property
    def path(self) -> str:
        """Path that is being probed."""
        return self._paths[min(self._at, len(self._paths) - 1)]

    def error(self) -> SourceUnreachableError:
        """Return the error for a probe without an answer."""
        return SourceUnreachableError(
            f"can't look at {self.path}: {_server(self.path)} has not answered for {self.silent_seconds():.0f} "
            "seconds; check it and the network, then run again",
            path=self.path,
        )

    def warning(self) -> str:
        """Return the text of the warning for a probe without an answer."""
        return (
            f"{self.path}: {_server(self.path)} has not answered for {self.silent_seconds():.0f} seconds; "
            f"that is an error after {FAIL_SECONDS:.0f}"
        )


def check_answers(paths: Iterable[str]) -> None:
    """Wait until the file servers of paths answer, asking once for each folder.

    Raises:
        SourceUnreachableError: A file server has not answered for a minute.
    """
    probe = ServerProbe(paths)
    if probe.silent_seconds(WARN_SECONDS):
        warnings.warn(probe.warning(), SilentServerWarning, stacklevel=3)
        if probe.silent_seconds(FAIL_SECONDS - WARN_SECONDS):
            raise probe.error()


def is_silent(path: str) -> bool:
    """Return whether a path's file server gives no answer for some seconds."""
    return ServerProbe([path]).silent_seconds(WARN_SECONDS) > 0


def _request(path: str) -> None:
    """Make a request that no cache answers: NFS caches the attributes of a path for a minute."""
    if sys.platform == "win32":
        os.stat(path)
    else:
        try:
            os.statvfs(path)
        except FileNotFoundError:
            os.statvfs(os.path.dirname(path) or os.curdir)


def _server(given: str) -> str:
    """Return a name for the file system of a path, by the path's name alone."""
    best, name = "", "its file system"
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        return name
    path = os.path.abspath(given) + os.sep
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split()[4].replace("\\040", " ")
        if path.startswith(mount.rstrip(os.sep) + os.sep) and len(mount) >= len(best):
            kind, source = right.split()[:2]
            best, name = mount, f"the file server of {mount} ({kind}, {source})"
    return name

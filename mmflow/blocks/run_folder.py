"""The folder of a run: made once it is needed, removed with the run, swept by a later one where that died.

    <parent>/mmflow-<run>-<pid>/     blocks, operator spills
    <parent>/mmflow-<run>-<pid>/.owner   locked (flock) for as long as the owner lives
    <parent>/mmflow-<pid>-<random>.table   a table that was shared: locked, in part, by all its users (`shm.tables`)

Invariant: a folder whose `.owner` can be locked, and a table that can be locked, has no owner any more. The kernel
drops the lock when the process dies, however it dies, and, unlike a process id, a lock means the same in every
container that shares the folder. A folder without an `.owner` is removed only if it is empty: with anything in it, it
is somebody else's, whatever its name. So the `.owner` is durable before anything else is in the folder, and goes last,
once it is durable that all else has gone: a power cut leaves nothing that no later run sweeps.

Blocks themselves need no sync: no run reads those of a dead one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmflow.errors import EngineError
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.mapping.system.forks import disown_in_children
from mmflow.mapping.system.owner_lock import (
    GRACE_SECONDS,
    HeldError,
    OwnerLock,
    drop_unowned,
    is_locked,
    remove_dead,
    remove_owned,
    sync_names,
)
from mmflow.startup import ENDING_SIGNALS
from mmflow.storage import disk

__all__ = [
    "Found",
    "RunFolder",
    "found",
    "run_folders",
    "segment_name",
    "sweep",
    "sweep_seldom",
]

_OWNER = ".owner"
_TABLE = ".table"
_UNSAFE = lazy_regex(r"[^A-Za-z0-9._-]")
_SWEEP_SECONDS = 60.0


class RunFolder:
    """Folder that belongs to this process until `close`, or until nothing refers to it any more. Thread-safe.

    It is made when its path is first asked for: most queries write nothing into it, and to make and remove it took a
    fifth of what a small one takes.

    A signal that comes while it is made is handled once it is: Ctrl-C between the making of a folder and the first
    note of it would leave the folder, locked, for as long as the process lives.

    Args:
        parent: Made if missing.
        run: Name of the run; with the process id it names the folder, and a number where that is taken.

    Raises:
        EngineError: A folder can't be made in `parent`.
    """

    def __init__(self, parent: str | os.PathLike[str], run: str) -> None:
        self._parent = parent
        self._base = f"{_prefix(run)}{os.getpid()}"
        self._making = threading.Lock()
        self._made: tuple[Path, OwnerLock, weakref.finalize[Any, Any]] | None = None
        self._closed = False
        disown_in_children(self)
        try:
            disk.makedirs(parent, exist_ok=True)
        except OSError as error:
            raise self._unmade(str(error.strerror)) from error
        if not os.access(parent, os.W_OK | os.X_OK):
            raise self._unmade(os.strerror(errno.EACCES))

    @property
    def path(self) -> Path:
        """Path of the folder, which exists.

        Raises:
            EngineError: The folder can't be made, or is closed.
        """
        return self.make()

    def make(self) -> Path:
        """Make the folder, unless it was made before, and return its path. Raises as `path`."""
        with self._making:
            if self._closed:
                raise EngineError("the folder of the run is closed: the run has ended")
            if self._made is None:
                self._made = self._claimed()
            return self._made[0]

    def disown(self) -> None:
        """Forget, in a forked child, that another thread was making the folder."""
        self._making = threading.Lock()

    def _claimed(self) -> tuple[Path, OwnerLock, weakref.finalize[Any, Any]]:
        try:
            with _signals_held_back():
                path, lock = _claim(Path(self._parent), self._base)
                return path, lock, weakref.finalize(self, _discard, path, lock)
        except OSError as error:
            raise self._unmade(str(error.strerror)) from error

    def _unmade(self, why: str) -> EngineError:
        return EngineError(
            f"can't make a folder for temporary blocks in {self._parent}: {why}; "
            "set spill_dir (MMFLOW_SPILL_DIR) to a folder that can be written to",
            path=os.fspath(self._parent),
        )

    def close(self) -> None:
        """Remove the folder and all in it. Mapped files stay readable. Idempotent."""
        with self._making:
            self._closed = True
        if self._made is not None:
            path, lock, unreferenced = self._made
            _discard(path, lock)
            unreferenced.detach()


def _discard(path: Path, lock: OwnerLock) -> None:
    if lock.held:  # which it is in no forked child
        # Another thread may still be adding a file that it hasn't noticed to be unwanted.
        remove_owned(path, _OWNER)
        lock.release()


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Have the signals that end a command wait for the end of the block. In threads that get none, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, *ENDING_SIGNALS):
            handler = signal.getsignal(number)
            if callable(handler):
                before[number] = handler
                signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def _prefix(run: str) -> str:
    return f"mmflow-{_UNSAFE.sub('_', run)}-"


def run_folders(parent: str | os.PathLike[str], run: str) -> list[str]:
    """Return the folders of a run in `parent`, of any process."""
    return [e.path for e in _entries(parent) if e.name.startswith(_prefix(run))]


def _claim(parent: Path, base: str) -> tuple[Path, OwnerLock]:
    number = 0
    while True:
        path = parent / (base if number == 0 else f"{base}-{number}")
        number += 1
        try:
            disk.mkdir(path, 0o700)
        except FileExistsError:
            continue
        # Swept before it had its owner file, or a sweeper has that, and it will be gone in a moment.
        with contextlib.suppress(FileNotFoundError, HeldError):
            lock = OwnerLock(path / _OWNER)
            sync_names(path)
            return path, lock


def segment_name() -> str:
    """Return a unique name for a file that goes with the last process that has it locked."""
    return f"mmflow-{os.getpid()}-{os.urandom(8).hex()}{_TABLE}"


@dataclass(frozen=True, slots=True)
class Found:
    """Folder of a run, or shared table: its path, the bytes of its files, and whether its owner lives."""

    path: str
    nbytes: int
    owned: bool


def found(parent: str | os.PathLike[str]) -> list[Found]:
    """Return the folders of runs and the shared tables, living and dead, of all users; `parent` may be missing."""
    folders = []
    for entry in _entries(parent):
        try:
            if entry.is_dir(follow_symlinks=False):
                sizes = [f.stat(follow_symlinks=False).st_size for f in os.scandir(entry.path)]
                folders.append(Found(entry.path, sum(sizes), _owned(entry.path)))
            elif _is_table(entry):
                folders.append(Found(entry.path, entry.stat().st_size, is_locked(entry.path)))
        except OSError:  # its owner removed it just now, or it is another user's
            continue
    return folders


def _entries(parent: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        return [e for e in os.scandir(parent) if e.name.startswith("mmflow-")]
    except OSError:
        return []


def _is_table(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(_TABLE) and entry.is_file(follow_symlinks=False)


def _owned(path: str) -> bool:
    try:
        return is_locked(os.path.join(path, _OWNER))
    except FileNotFoundError:
        return time.time() - os.stat(path).st_mtime < GRACE_SECONDS


#: When each folder was last swept by `sweep_seldom`, by `time.monotonic`.
_swept: dict[str, float] = {}


def sweep_seldom(parent: str | os.PathLike[str]) -> None:
    """Call `sweep` unless this process did so within the last minute: a small query takes as long as its listing."""
    path, now = os.fspath(parent), time.monotonic()
    if now - _swept.get(path, -_SWEEP_SECONDS) >= _SWEEP_SECONDS:
        _swept[path] = now
        sweep(parent)


def sweep(parent: str | os.PathLike[str]) -> list[str]:
    """Remove the folders of dead runs, and shared tables that no process uses any more.

    Args:
        parent: Folder of `RunFolder`s and tables; may be missing.

    Returns:
        What was removed. What other users have is left alone.
    """
    swept = []
    for entry in _entries(parent):
        try:
            if entry.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            if entry.is_dir(follow_symlinks=False):
                gone = remove_dead(entry.path, _OWNER)
            else:
                gone = _is_table(entry) and drop_unowned(entry.path)
            if gone:
                swept.append(entry.path)
        except OSError:  # its owner removed it just now
            continue
    return swept

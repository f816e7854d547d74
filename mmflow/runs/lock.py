"""Lock of a run: held by the process that drives the run, or removes its folder.

    <run>/driver            local folders: locked (flock) as long as the holder lives
    <run>/openings/000003   object stores: the holder's sign of life, created exclusively, rewritten while it is held

On an object store the last opening decides. It may be followed by another one if it was released, if its process was
of this machine and has ended, or if it stays as it is while it is watched for longer than a living holder is silent.
Clocks of hosts differ, so times are compared only to show a state, never to take a lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import socket
import uuid
from dataclasses import field
from typing import Any, Protocol

from mmflow.errors import EngineError
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping.system.host import machine_id, read_process_start
from mmflow.mapping.system.owner_lock import HeldError, OwnerLock, is_locked
from mmflow.runs.directory import RunDirectory
from mmflow.storage import clock, disk
from mmflow.storage.facts import optional

__all__ = [
    "REMOVED",
    "RunLock",
    "Watch",
    "is_driver_alive",
    "lock_run",
    "opening_of",
    "remove_locked",
    "take_lock",
]

_DRIVER = "its driver"
_FILE, _OPENINGS = "driver", "openings"
#: Seconds between two signs of life on an object store, and without one after which a holder counts as dead.
_SIGN_SECONDS, _SILENT_SECONDS = 15.0, 60.0
#: Seconds that another client may take to create an object where that is not atomic, and a thread to end.
_SETTLE_SECONDS, _JOIN_SECONDS = 1.0, 5.0
#: Beginning of the names of folders that are being removed.
REMOVED = ".removed-"


class RunLock(Protocol):
    """Lock of a run, held until `release`, or until its process dies."""

    @property
    def held(self) -> bool:
        """True while it is held: one on an object store is lost to the next holder after a long silence.

        Raises:
            EngineError: The store can't be read.
        """

    def release(self) -> None:
        """Release the lock. Idempotent."""


@dataclass(slots=True)
class Watch:
    """Memory of a process that waits for a lock: the last sign of life that it saw, and when it saw that first."""

    sign: object = None
    since: float = field(default_factory=clock.monotonic)

    def silence(self, sign: object) -> float:
        """Return for how long, in seconds, this sign of life has been the last one."""
        if sign != self.sign:
            self.sign, self.since = sign, clock.monotonic()
        return clock.monotonic() - self.since


def take_lock(directory: RunDirectory, owner: str = _DRIVER, watch: Watch | None = None) -> RunLock:
    """Take the lock of a run.

    Args:
        directory: Folder of the run.
        owner: Name of the holder, for people.
        watch: Memory of earlier tries. None: a holder on another host, of which nothing is known, counts as dead.

    Raises:
        HeldError: Another process holds it.
        FileNotFoundError: The folder is not there; another process has just removed it.
        EngineError: The folder can't be read or written.
    """
    if directory.remote:
        return _Opening.take(directory, owner, watch)
    try:
        return OwnerLock(directory.path(_FILE), owner)
    except (HeldError, FileNotFoundError):
        raise
    except OSError as error:
        with directory.engine_errors("lock"):
            raise error from None
        raise AssertionError from error  # engine_errors has raised


def lock_run(directory: RunDirectory) -> RunLock:
    """Take the lock of a run for its driver.

    Raises:
        EngineError: The run has a live driver.
        FileNotFoundError: The folder is not there; another process has just removed it.
    """
    try:
        return take_lock(directory)
    except HeldError as held:
        raise EngineError(
            f"run {directory.name} is running: {held.holder}; wait for it, or stop it: mmflow cancel {directory.name}",
            run=directory.name,
        ) from None


def opening_of(directory: RunDirectory) -> int:
    """Return the number of the last opening on an object store; -1 for a local folder, or if there is none."""
    return _last_opening(directory)[0] if directory.remote else -1


def is_driver_alive(directory: RunDirectory) -> bool | None:
    """Return whether the run has a live driver; None if that can't be known."""
    if directory.remote:
        holder = _last_opening(directory)[1]
        alive = _is_alive(holder)
        return clock.time() - holder.get("t", 0.0) < _SILENT_SECONDS if alive is None else alive
    try:
        return is_locked(directory.path(_FILE))
    except FileNotFoundError:
        return False
    except OSError:
        return None


def remove_locked(directory: RunDirectory, lock: RunLock) -> None:
    """Remove the folder of a run whose lock is held, and release the lock. Another run may then have the name.

    Raises:
        EngineError: It can't be removed.
    """
    if isinstance(lock, _Opening):
        for name in directory.names(""):
            if name != _OPENINGS:
                directory.remove(name)
        lock.silence()
        for name in directory.names(_OPENINGS):  # the last one, which is ours, at the end
            directory.remove(f"{_OPENINGS}/{name}")
        directory.remove("")
        return
    parent, name = posixpath.split(directory.url)
    aside = posixpath.join(parent, f"{REMOVED}{name}-{uuid.uuid4().hex[:8]}")
    with directory.engine_errors("remove"):
        disk.rename(directory.url, aside)  # so that nobody sees, or adds to, half of a run
    lock.release()
    disk.remove_tree(aside)


# ---- object stores ----------------------------------------------------------------------------------------


class _Opening:
    """Lock on an object store: the last object of `openings/`, rewritten by a thread as long as it is held."""

    def __init__(self, directory: RunDirectory, name: str, holder: dict[str, Any]) -> None:
        self._directory = directory
        self._name = name
        self._holder = holder
        self._signs = clock.Repeated(self._give_sign, _SIGN_SECONDS, "mmflow-run-lock")

    @classmethod
    def take(cls, directory: RunDirectory, owner: str, watch: Watch | None) -> _Opening:
        number, last = _last_opening(directory)
        alive = _is_alive(last)
        if alive is None:
            alive = watch is not None and watch.silence((number, last.get("t"))) < _SILENT_SECONDS
        if alive:
            raise HeldError(_holder_text(last))
        holder = {
            "owner": owner, "host": socket.gethostname(), "pid": os.getpid(),
            "process": read_process_start(os.getpid()), "machine": machine_id(), "t": clock.time(),
            "nonce": uuid.uuid4().hex, "released": False,
        }  # fmt: skip
        name = f"{_OPENINGS}/{number + 1:06}"
        created = directory.create(name, json.dumps(holder))
        if created and not directory.exclusive:
            clock.sleep(_SETTLE_SECONDS)
        # Ours, too, if only the response to the request was lost.
        found = _read_holder(directory, name)
        if found.get("nonce") != holder["nonce"]:
            raise HeldError(_holder_text(found))
        return cls(directory, name, holder)

    @property
    def held(self) -> bool:
        number = int(posixpath.basename(self._name))
        last, holder = _last_opening(self._directory)
        if last < number:  # the listing is of a moment ago; or somebody removed the run
            holder = _read_holder(self._directory, self._name)
        return last <= number and holder.get("nonce") == self._holder["nonce"]

    def _give_sign(self) -> bool:
        with contextlib.suppress(EngineError):  # the store may be unreachable for a while
            self._write()
        return True

    def _write(self) -> None:
        if not self.held:  # its object may be another run's by now
            return
        self._holder["t"] = clock.time()
        self._directory.write(self._name, json.dumps(self._holder))

    def release(self) -> None:
        if not self._signs.stopped:
            self.silence()
            self._holder["released"] = True
            with contextlib.suppress(EngineError):  # others see that the sign stays as it is
                self._write()

    def silence(self) -> None:
        """Give no further signs."""
        self._signs.stop(_JOIN_SECONDS)


def _last_opening(directory: RunDirectory) -> tuple[int, dict[str, Any]]:
    """Return the number of the last opening and its holder; -1 and a released holder if there is none."""
    last = max((int(n) for n in directory.names(_OPENINGS) if n.isdigit()), default=-1)
    return last, {"released": True} if last < 0 else _read_holder(directory, f"{_OPENINGS}/{last:06}")


def _read_holder(directory: RunDirectory, name: str) -> dict[str, Any]:
    return directory.read_object(name, {"machine": optional(str), "pid": optional(int)})


def _is_alive(holder: dict[str, Any]) -> bool | None:
    """Return whether a holder lives; None if that can't be known from here."""
    if holder.get("released"):
        return False
    if not holder.get("machine") or holder["machine"] != machine_id():
        return None
    began = read_process_start(int(holder.get("pid") or 0))
    return began is not None and began == holder.get("process")


def _holder_text(holder: dict[str, Any]) -> str:
    return f"{holder.get('owner')} (process {holder.get('pid')} on {holder.get('host')})"

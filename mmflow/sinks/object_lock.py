"""One run at a time may commit to a destination in an object store.

The lock is an object that is created only if it doesn't exist. A store doesn't know whether its maker lives, so the
holder writes it again every REFRESH_SECONDS; it is nobody's any more if

- its run is ours: we are that run, resumed;
- its process was of this machine and pid namespace, and is gone; or
- it is older than STALE_SECONDS, and stays as it is while we watch it for longer than REFRESH_SECONDS: clocks of
  hosts differ, but a living holder would have written meanwhile.

Breaking a lock is not one step, so two that break it at once, or a holder that hung, may both believe to have it.
What the commit relies on is `check`, right before it publishes: the lock's random nonce must still be ours. What is
left is a holder that hangs for minutes between that look and the PUT after it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
import warnings
from typing import Any
from uuid import uuid4

from mmflow.errors import SinkError
from mmflow.mapping.host import boot_id, process_began
from mmflow.sinks.object_store import ObjectStore, storing

__all__ = ["ObjectLock"]

REFRESH_SECONDS = 20.0
STALE_SECONDS = 300.0
#: How long another that broke the lock, or created it where that is no single step, may take to write it.
SETTLE_SECONDS = 1.0
_TRIES = 20
_PAUSE_SECONDS = 0.1
_END_SECONDS = 30.0


class ObjectLock:
    """Held from `acquire` until `release`, or until it is older than STALE_SECONDS."""

    def __init__(self, store: ObjectStore, name: str, *, destination: str, run: str) -> None:
        self._store = store
        self._name = name
        self._destination = destination
        self._holder: dict[str, Any] = {
            "mmflow_lock": 1,
            "run": run,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process": process_began(os.getpid()),
            "machine": _machine(),
            "since": time.time(),
            "nonce": uuid4().hex,
        }
        self._stop = threading.Event()
        self._refresher = threading.Thread(target=self._refresh, name="mmflow-lock", daemon=True)

    @classmethod
    def acquire(cls, store: ObjectStore, name: str, *, destination: str, run: str) -> ObjectLock:
        """Take the lock, or say who has it.

        Raises:
            SinkError: Another run, which may live, holds it; or the store refuses.
        """
        lock = cls(store, name, destination=destination, run=run)
        for _ in range(_TRIES):
            # Looked at first: some stores that call themselves S3 create what exists already.
            held = lock._read()
            if lock._create() if held is None else lock._take_over(held):
                break
            time.sleep(_PAUSE_SECONDS)
        else:
            raise SinkError(f"can't lock {destination}: other runs come and go; try again", path=destination)
        lock._refresher.start()
        return lock

    def check(self) -> None:
        """Look whether the lock is still ours.

        Raises:
            SinkError: Somebody broke it.
        """
        held = self._read()
        if held is None or held.get("nonce") != self._holder["nonce"]:
            who = "was deleted" if held is None else f"was taken by {_shown(held)}"
            raise SinkError(
                f"the lock of {self._destination} {who} while this run computed; nothing was published",
                path=self._destination,
            )

    def release(self) -> None:
        """Delete the lock, if it is ours. Idempotent."""
        self._stop.set()
        if self._refresher.is_alive():
            self._refresher.join(_END_SECONDS)
        if self._mine():
            self._store.delete([self._name])

    # ---- taking it ------------------------------------------------------------------------------

    def _create(self) -> bool:
        with storing(self._destination):
            try:
                self._store.create(self._name, self._text())
            except Exception as error:
                held = self._read()
                if held is None and not _is_conflict(error):
                    raise
                # An answer that was lost on its way: it is ours all the same.
                return held is not None and held.get("nonce") == self._holder["nonce"]
        if not self._store.exclusive:
            time.sleep(SETTLE_SECONDS)
        return self._mine()

    def _take_over(self, held: dict[str, Any]) -> bool:
        alive = _alive(held)
        if alive or (alive is None and held.get("run") != self._holder["run"] and not self._stale(held)):
            age = max(0, round(time.time() - held.get("refreshed", 0)))
            raise SinkError(
                f"{self._destination} is being written by {_shown(held)} since {_moment(held)}, which gave a sign "
                f"of life {age:,} s ago; wait for it, or choose another output; if it is dead, it will be passed over "
                f"after {STALE_SECONDS:.0f} s without one, or at once if you delete {self._store.url}/{self._name}",
                path=self._destination,
            )
        self._store.put(self._name, self._text())
        time.sleep(SETTLE_SECONDS)
        return self._mine()

    def _stale(self, held: dict[str, Any]) -> bool:
        if time.time() - held.get("refreshed", 0) < STALE_SECONDS:
            return False
        time.sleep(1.5 * REFRESH_SECONDS)
        if self._read() != held:
            return False
        warnings.warn(
            f"the lock of {self._destination} was held by {_shown(held)} since {_moment(held)}, which gave no sign of "
            "life for long; it is taken for dead, and its lock is broken",
            stacklevel=6,
        )
        return True

    # ---- keeping it -----------------------------------------------------------------------------

    def _refresh(self) -> None:
        while not self._stop.wait(REFRESH_SECONDS):
            # The store may be out of reach for a while; `check` has the last word.
            with contextlib.suppress(SinkError):
                if not self._mine():
                    return
                self._store.put(self._name, self._text())

    def _mine(self) -> bool:
        held = self._read()
        return held is not None and held.get("nonce") == self._holder["nonce"]

    def _read(self) -> dict[str, Any] | None:
        data = self._store.read(self._name)
        if data is None:
            return None
        with contextlib.suppress(ValueError):
            found = json.loads(data)
            if isinstance(found, dict):
                return found
        raise SinkError(
            f"{self._store.url}/{self._name} is no lock of mmflow; delete it if nobody writes there",
            path=self._destination,
        )

    def _text(self) -> bytes:
        return json.dumps({**self._holder, "refreshed": time.time()}, indent=1).encode() + b"\n"


def _is_conflict(error: Exception) -> bool:
    """It was there, or somebody else created it at the same time (S3's 409)."""
    return isinstance(error, FileExistsError) or (isinstance(error, OSError) and error.errno == errno.EBUSY)


def _shown(held: dict[str, Any]) -> str:
    return f"run {held.get('run')} (process {held.get('pid')} on {held.get('host')})"


def _moment(held: dict[str, Any]) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(held.get("since", 0)))


def _alive(held: dict[str, Any]) -> bool | None:
    """Does the holder's process live; None if it can't be told from here."""
    if not held.get("machine") or held["machine"] != _machine():
        return None
    began = process_began(int(held.get("pid") or 0))
    return began is not None and began == held.get("process")


def _machine() -> str:
    """This kernel, since it was started, and this namespace of process ids: where a pid means the same."""
    boot = boot_id()
    with contextlib.suppress(OSError):
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}" if boot else ""
    return ""

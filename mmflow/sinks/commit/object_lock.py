"""Lock of a destination in an object store: one run at a time may commit to it.

The lock is an object that is created only if it doesn't exist. A store doesn't know whether the holder lives, so the
holder rewrites it every REFRESH_SECONDS. It may be taken over if

- it was taken by this run before it was resumed;
- its process was of this machine and pid namespace, and has ended; or
- it is older than STALE_SECONDS, and stays as it is while we watch it for longer than REFRESH_SECONDS: clocks of
  hosts differ, but a living holder would have written meanwhile.

Breaking a lock is not atomic, so two runs that break it at once, or a holder that hung, may both believe to have it.
The commit relies on `check`, right before it publishes: the lock's random nonce must still be ours. The remaining
risk is a holder that hangs for minutes between that check and the following PUT.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import warnings
from typing import Any
from uuid import uuid4

from mmflow.errors import SinkError
from mmflow.mapping.system.host import machine_id, read_process_start
from mmflow.sinks.commit.destination_store import DestinationStore
from mmflow.storage import clock

__all__ = ["ObjectLock"]

REFRESH_SECONDS = 20.0
STALE_SECONDS = 300.0
#: Time that a competing run may take to write a lock that it broke, or created where that is not atomic.
SETTLE_SECONDS = 1.0
_TRIES = 20
_PAUSE_SECONDS = 0.1
_END_SECONDS = 30.0
#: Seconds by which clocks of hosts may differ without a word.
_CLOCKS_SECONDS = 60


class ObjectLock:
    """Lock held from `acquire` until `release`, or until it is older than STALE_SECONDS."""

    def __init__(self, store: DestinationStore, name: str, *, destination: str, run: str) -> None:
        self._store = store
        self._name = name
        self._destination = destination
        self._holder: dict[str, Any] = {
            "mmflow_lock": 1,
            "run": run,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process": read_process_start(os.getpid()),
            "machine": machine_id(),
            "since": clock.time(),
            "nonce": uuid4().hex,
        }
        self._refresher: clock.Repeated | None = None

    @classmethod
    def acquire(cls, store: DestinationStore, name: str, *, destination: str, run: str) -> ObjectLock:
        """Acquire the lock, or raise an error that names its holder.

        Raises:
            SinkError: Another run, which may live, holds it; or the store refuses.
        """
        lock = cls(store, name, destination=destination, run=run)
        for _ in range(_TRIES):
            # Read first: some S3-compatible stores create an object that exists already.
            held = lock._read()
            if lock._create() if held is None else lock._take_over(held):
                break
            clock.sleep(_PAUSE_SECONDS)
        else:
            raise SinkError(f"can't lock {destination}: other runs come and go; try again", path=destination)
        lock._refresher = clock.Repeated(lock._refresh, REFRESH_SECONDS, "mmflow-lock")
        return lock

    @property
    def nonce(self) -> str:
        """Text that no other lock has."""
        return str(self._holder["nonce"])

    def is_held(self) -> bool:
        """Return whether the lock is still ours."""
        held = self._read()
        return held is not None and held.get("nonce") == self.nonce

    def check(self) -> None:
        """Check that the lock is still ours.

        Raises:
            SinkError: Another run broke it.
        """
        held = self._read()
        if held is None or held.get("nonce") != self.nonce:
            who = "was deleted" if held is None else f"was taken by {_holder_text(held)}"
            raise SinkError(
                f"the lock of {self._destination} {who} while this run computed; nothing was published",
                path=self._destination,
            )

    def release(self) -> None:
        """Delete the lock if it is ours. Idempotent."""
        if self._refresher is not None:
            self._refresher.stop(_END_SECONDS)
        if self.is_held():
            self._store.delete([self._name])

    # ---- taking it ------------------------------------------------------------------------------

    def _create(self) -> bool:
        if not self._store.create(self._name, self._text()):
            return False
        if not self._store.exclusive:
            clock.sleep(SETTLE_SECONDS)
        return self.is_held()

    def _take_over(self, held: dict[str, Any]) -> bool:
        alive = _is_alive(held)
        if alive or (alive is None and held.get("run") != self._holder["run"] and not self._stale(held)):
            raise SinkError(
                f"{self._destination} is being written by {_holder_text(held)} since {_since_text(held)}, which gave a "
                f"sign of life {_age(held)}; wait for it, or choose another output; if it is dead, its lock is broken "
                f"after {STALE_SECONDS:.0f} s without one, or at once if you delete {self._store.url}/{self._name}",
                path=self._destination,
                code="MMF-OUT-005",
            )
        self._store.put(self._name, self._text())
        clock.sleep(SETTLE_SECONDS)
        return self.is_held()

    def _stale(self, held: dict[str, Any]) -> bool:
        if clock.time() - held.get("refreshed", 0) < STALE_SECONDS:
            return False
        clock.sleep(1.5 * REFRESH_SECONDS)
        if self._read() != held:
            return False
        warnings.warn(
            f"the lock of {self._destination} was held by {_holder_text(held)} since {_since_text(held)}, which gave "
            f"no sign of life for {STALE_SECONDS:.0f} s; it is considered dead, and its lock is broken",
            stacklevel=6,
        )
        return True

    # ---- refreshing it --------------------------------------------------------------------------

    def _refresh(self) -> bool:
        # The store may be unreachable for a while; `check` decides before the commit.
        with contextlib.suppress(SinkError):
            if not self.is_held():
                return False
            self._store.put(self._name, self._text())
        return True

    def _read(self) -> dict[str, Any] | None:
        data = self._store.read(self._name)
        if data is None:
            return None
        with contextlib.suppress(ValueError):
            found = json.loads(data)
            if isinstance(found, dict):
                return found
        raise SinkError(
            f"{self._store.url}/{self._name} is not a lock of mmflow; delete it if no other program writes there",
            path=self._destination,
        )

    def _text(self) -> bytes:
        return json.dumps({**self._holder, "refreshed": clock.time()}, indent=1).encode() + b"\n"


def _holder_text(held: dict[str, Any]) -> str:
    name = str(held.get("run")).partition("+")[0]  # as people know it
    return f"run {name} (process {held.get('pid')} on {held.get('host')})"


def _age(held: dict[str, Any]) -> str:
    """Return how long ago a holder wrote its lock, by its clock and ours."""
    age = round(clock.time() - held.get("refreshed", 0))
    if age > -_CLOCKS_SECONDS:
        return f"{max(0, age):,} s ago"
    return (
        f"{-age:,} s from now: its host's clock is ahead of this one's, or this one's is wrong (set it), and such a "
        "lock counts as alive until then"
    )


def _since_text(held: dict[str, Any]) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(held.get("since", 0)))


def _is_alive(held: dict[str, Any]) -> bool | None:
    """Return whether the holder's process lives; None if that can't be known from here."""
    if not held.get("machine") or held["machine"] != machine_id():
        return None
    began = read_process_start(int(held.get("pid") or 0))
    return began is not None and began == held.get("process")

"""Connections to Dask clusters, which later runs use too; the cluster of this machine, if no other is given.

Invariant: a cluster whose Link exists runs the same versions of what matters, and its workers have our plugins.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol, cast

from distributed import Client, Security

from mmflow.blocks import shared_host
from mmflow.config import Settings
from mmflow.engines.dask.health import ANSWER_SECONDS, Health, answers, check_answers
from mmflow.engines.dask.local_cluster import LocalCluster
from mmflow.engines.dask.worker import TOPIC, NannyPart, WorkerPart
from mmflow.engines.messages import first_line
from mmflow.engines.versions import check_same, versions
from mmflow.errors import EngineError

__all__ = ["Link", "Listener", "WorkerGone", "disconnect", "joined"]

_CONNECT_SECONDS = 10
_WORKERS_SECONDS = 60
_ANY_SECONDS = 60.0


class WorkerGone:
    """Loss of a worker, which was to run the tasks of `keys`; `stopped`: its host and process, if it was stopped."""

    def __init__(self, address: str, keys: set[str], stopped: str) -> None:
        self.address = address
        self.keys = keys
        self.stopped = stopped


class Listener(Protocol):
    """Receiver of events of a cluster."""

    def take(self, event: WorkerGone) -> None:
        """Receive an event, in a thread of Dask."""
        ...


class Link:
    """Connection to a cluster, which later runs use too."""

    def __init__(self, address: str, cluster: LocalCluster | None) -> None:
        self.address = address
        self.cluster = cluster
        self.host = shared_host()
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self._lock = threading.Lock()  # of the listeners: runs come and go in other threads than Dask's
        #: By worker, tasks that were cancelled and have not noticed: threads that are not to be had.
        self.ghosts: dict[str, set[str]] = {}
        #: The last ones that noticed: an answer of before may say that they have not.
        self._laid: deque[str] = deque(maxlen=1000)
        try:
            # Of a cluster that was given, Dask's own configuration has the key.
            security = None if cluster is None else cluster.security
            check_answers(address, security or Security())
            self.client = Client(
                address, timeout=_CONNECT_SECONDS, set_as_default=False, name="mmflow", security=security
            )
            self.client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
        except (OSError, ValueError, TimeoutError) as error:
            raise EngineError(
                f"can't use the Dask cluster at {address}: {first_line(error)}; is the scheduler running, has it "
                "workers, and is the address right (tcp://host:8786)? without an address one is started here",
                code="MMF-ENG-009",
            ) from error
        self.health = Health(self.client, address)
        self._check_versions()
        self._register(WorkerPart())
        self._register(NannyPart())
        self.client.subscribe_topic("all", self._on_event)
        self.client.subscribe_topic(TOPIC, self._on_ghost)

    def listen(self, listener: Listener) -> None:
        """Send events of the cluster to a run, until it is dropped or leaves."""
        with self._lock:
            self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """Stop sending events to a run. Idempotent."""
        with self._lock:
            self._listeners.discard(listener)

    def listeners(self) -> list[Listener]:
        """Return the runs that use the cluster now."""
        with self._lock:
            return list(self._listeners)

    @property
    def usable(self) -> bool:
        return self.client.status == "running" and (self.cluster is None or self.cluster.alive)

    def _on_ghost(self, event: tuple[float, Any]) -> None:
        _, message = event
        ghosts = self.ghosts.setdefault(message["worker"], set())
        if message["busy"]:
            ghosts.add(message["key"])
        else:
            ghosts.discard(message["key"])
            self._laid.append(message["key"])

    def note_ghosts(self, worker: str, keys: Iterable[str]) -> None:
        """Note the cancelled tasks of a worker, of any driver, that have a thread, as it said when asked."""
        self.ghosts[worker] = set(keys).difference(self._laid)

    def _on_event(self, event: tuple[float, Any]) -> None:
        _, message = event
        if isinstance(message, dict) and message.get("action") == "remove-worker":
            address = message["worker"]
            gone = WorkerGone(address, set(message["processing-tasks"]), self.health.stopped_process(address))
            self.ghosts.pop(gone.address, None)
            self.health.forget(gone.address)
            for listener in self.listeners():
                listener.take(gone)

    def _check_versions(self) -> None:
        """Compare the versions on the workers with those here; a silent worker gets no tasks until it has answered."""
        found = answers(self.client, versions, workers=self._answering(), seconds=_WORKERS_SECONDS)
        for address, there in found.items():
            if isinstance(there, Exception):
                raise EngineError(
                    f"mmflow can't be used on worker {address}: {first_line(there)}; install the same version there"
                )
            check_same(there, f"worker {address}")

    def _answering(self) -> list[str]:
        """Return the workers that answer. They are asked for what they know without importing us, which takes time.

        Raises:
            EngineError: None does.
        """
        deadline = time.monotonic() + _ANY_SECONDS
        while time.monotonic() < deadline:
            found = answers(self.client, os.getpid, workers=list(self.health.threads))
            for address in self.health.threads.keys() - found.keys():
                self.health.does_not_answer(address)
            if found:
                return list(found)
            self.health.look()
        raise EngineError(
            f"no worker of the Dask cluster at {self.address} answers: they are stopped, cut off, or in a function "
            "that holds the GIL"
        )

    def _register(self, plugin: WorkerPart | NannyPart) -> None:
        """Register a plugin on all workers, also future ones. A worker that does not answer gets it when it does."""

        async def register() -> None:
            await self.client.register_plugin(plugin)

        limit = ANSWER_SECONDS if self.health.silent else _WORKERS_SECONDS
        with contextlib.suppress(TimeoutError):
            self.client.sync(register, callback_timeout=limit)

    def close(self) -> None:
        self.client.close(timeout=1)
        if self.cluster is not None:
            self.cluster.close()


#: By address; clusters of this machine, which have no given address, by their number of workers.
_links: dict[str | int, Link] = {}
_links_lock = threading.Lock()


def joined(settings: Settings, listener: Listener) -> Link:
    """Join the cluster, or start one. `listener`: the run that uses it.

    Raises:
        EngineError: It can't be joined, or started.
    """
    with _links_lock:
        link = _joined(settings)
        link.listen(listener)  # before another thread may end a connection without listeners
        return link


def _joined(settings: Settings) -> Link:
    which = settings.workers if settings.address is None else settings.address
    known = _links.get(which)
    if known is not None and known.usable:
        return known
    for key, link in list(_links.items()):
        # One cluster of this machine is enough, unless another thread still uses one of another size.
        if key == which or (isinstance(key, int) and isinstance(which, int) and not link.listeners()):
            link.close()
            del _links[key]
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # errors are raised, once
    cluster = None
    if settings.address is None:
        cluster = LocalCluster(settings.workers, os.fspath(settings.spill_dir))
    try:
        made = _links[which] = Link(settings.address or cast(LocalCluster, cluster).address, cluster)
    except BaseException:
        if cluster is not None:
            cluster.close()
        raise
    return made


def disconnect() -> None:
    """Disconnect from all clusters; those that were started here end. Later runs connect, or start them, again."""
    with _links_lock:
        for link in _links.values():
            link.close()
        _links.clear()

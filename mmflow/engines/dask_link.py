"""Connections to Dask clusters, kept for the runs to come; the cluster of this machine, if nobody gave another.

Invariant: a cluster whose Link exists runs the same versions of what matters, and its workers have our plugins.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import Any, Protocol, cast

from distributed import Client

from mmflow.config import Settings
from mmflow.engines.dask_cluster import LocalCluster
from mmflow.engines.dask_worker import TOPIC, NannyPart, WorkerPart
from mmflow.engines.remote import first_line, versions
from mmflow.errors import EngineError
from mmflow.store import shared_host

__all__ = ["Link", "Listener", "WorkerGone", "disconnect", "joined"]

_CONNECT_SECONDS = 10
_WORKERS_SECONDS = 60


class WorkerGone:
    """The scheduler has lost a worker, which was to run the tasks of `keys`."""

    def __init__(self, address: str, keys: set[str]) -> None:
        self.address = address
        self.keys = keys


class Listener(Protocol):
    """Who is told of what happens on a cluster."""

    def take(self, event: WorkerGone) -> None:
        """Called in a thread of Dask's."""
        ...


class Link:
    """A connection to a cluster, kept for the runs to come."""

    def __init__(self, address: str, cluster: LocalCluster | None) -> None:
        self.address = address
        self.cluster = cluster
        self.host = shared_host()
        self.listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        #: By worker, tasks that were cancelled and have not noticed: threads that are not to be had.
        self.ghosts: dict[str, set[str]] = {}
        try:
            self.client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False, name="mmflow")
            self.client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
        except (OSError, ValueError, TimeoutError) as error:
            raise EngineError(
                f"can't use the Dask cluster at {address}: {first_line(error)}; is the scheduler running, has it "
                "workers, and is the address right (tcp://host:8786)? without an address one is started here"
            ) from error
        self._check_versions()
        self.client.register_plugin(WorkerPart())
        self.client.register_plugin(NannyPart())
        self.client.subscribe_topic("all", self._on_event)
        self.client.subscribe_topic(TOPIC, self._on_ghost)

    @property
    def usable(self) -> bool:
        return self.client.status == "running" and (self.cluster is None or self.cluster.alive)

    def _on_ghost(self, event: tuple[float, Any]) -> None:
        _, message = event
        ghosts = self.ghosts.setdefault(message["worker"], set())
        (ghosts.add if message["busy"] else ghosts.discard)(message["key"])

    def _on_event(self, event: tuple[float, Any]) -> None:
        _, message = event
        if isinstance(message, dict) and message.get("action") == "remove-worker":
            gone = WorkerGone(message["worker"], set(message["processing-tasks"]))
            self.ghosts.pop(gone.address, None)
            for listener in list(self.listeners):
                listener.take(gone)

    def _check_versions(self) -> None:
        here = versions()
        for address, there in self.client.run(versions, on_error="return").items():
            if isinstance(there, Exception):
                raise EngineError(
                    f"mmflow can't be used on worker {address}: {first_line(there)}; install the same version there"
                )
            for name, version in here.items():
                if there.get(name) != version:
                    raise EngineError(
                        f"{name} is {version} here and {there.get(name)} on worker {address}: install the same "
                        "version on both"
                    )

    def close(self) -> None:
        self.client.close(timeout=1)
        if self.cluster is not None:
            self.cluster.close()


_links: dict[str | None, Link] = {}
_links_lock = threading.Lock()


def joined(settings: Settings) -> Link:
    """Join the cluster, or start one."""
    with _links_lock:
        known = _links.get(settings.address)
        if known is not None:
            enough = known.cluster is None or known.cluster.workers == settings.workers
            if known.usable and enough:
                return known
            known.close()
            del _links[settings.address]
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # errors are raised, once
        cluster = None
        if settings.address is None:
            cluster = LocalCluster(settings.workers, os.fspath(settings.spill_dir))
        try:
            made = _links[settings.address] = Link(
                settings.address or cast(LocalCluster, cluster).address, cluster
            )
        except BaseException:
            if cluster is not None:
                cluster.close()
            raise
        return made


def disconnect() -> None:
    """Leave all clusters; those that were started here end. Runs after that join, or start, them anew."""
    with _links_lock:
        for link in _links.values():
            link.close()
        _links.clear()

"""Which worker of a Dask cluster gets a task. Left to itself, Dask would queue tasks behind ones that hang."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from distributed.comm import get_address_host

from mmflow.engines.dask_link import Link
from mmflow.engines.placement import Choice, Placement, Seen, probe, probed
from mmflow.exec.kept import KeptBlock
from mmflow.exec.stage import ScanInput
from mmflow.exec.task import Task

__all__ = ["Assigned", "Load"]

_PROBE_SECONDS = 20
#: Workers there see what is seen here.
_THIS_HOST = {"127.0.0.1", "localhost", "::1"}


class Assigned(Protocol):
    """A task under way, and its worker's address."""

    task: Task
    worker: str


A = TypeVar("A", bound=Assigned)


class Load:
    """What workers have to do. `threads`: of each worker, by address; the owner keeps it true."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.threads: dict[str, int] = {}
        self._probed: dict[tuple[str, ...], tuple[set[str], Placement]] = {}

    def choice(self, task: Task) -> Choice:
        """Hosts that may read the task's shards, and the one whose page cache has them.

        Raises:
            SourceError: No host sees them.
        """
        hosts = {get_address_host(worker): worker for worker in sorted(self.threads)}
        if task.shards is None or not task.shards.shards or hosts.keys() <= _THIS_HOST:
            return Choice()
        scan = task.stage.inputs[0]
        assert isinstance(scan, ScanInput)  # it has shards
        files = probed(scan.source.files)
        known = self._probed.get(files)
        if known is None or known[0] != hosts.keys():
            found = self._link.client.run(
                probe, files, workers=list(hosts.values()), on_error="ignore", callback_timeout=_PROBE_SECONDS
            )
            # A host that does not answer sees nothing, as far as is known.
            nothing: list[Seen | None] = [None] * len(files)
            seen = {h: dict(zip(files, found.get(w) or nothing, strict=True)) for h, w in hosts.items()}
            known = self._probed[files] = set(hosts), Placement(seen)
        return known[1].choose(task.shards)

    def worker(self, task: Task, choice: Choice, under_way: Iterable[Assigned]) -> str:
        """The worker with the least to do; of the host that has most of the task's input, if one there has time."""
        load = {
            worker: len(self._link.ghosts.get(worker, ())) / threads
            for worker, threads in self.threads.items()
            if choice.nodes is None or get_address_host(worker) in choice.nodes
        }
        rivals = set()
        for other in under_way:
            if other.worker in load:
                load[other.worker] += 1 / self.threads[other.worker]
            if other.task.id == task.id:
                rivals.add(other.worker)
        nbytes: dict[str, int] = {}
        for ref in itertools.chain.from_iterable(task.blocks.values()):
            if not isinstance(ref.token, KeptBlock):
                host = get_address_host(ref.token.payload.place.address)
                nbytes[host] = nbytes.get(host, 0) + ref.nbytes

        def cost(worker: str) -> tuple[bool, bool, float, float]:
            host = get_address_host(worker)
            near = nbytes.get(host, 0) + (host == choice.preferred)
            return worker in rivals, load[worker] >= 2, -near, load[worker]

        return min(load, key=cost, default="")

    def stuck(self, under_way: Sequence[A]) -> Iterator[A]:
        """Tasks that wait behind others of their worker (even ones that were given up) while another worker is idle."""
        queued: dict[str, list[A]] = {worker: [] for worker in self.threads}
        for task in under_way:
            queued.setdefault(task.worker, []).append(task)
        free = {w: max(0, n - len(self._link.ghosts.get(w, ()))) for w, n in self.threads.items()}
        idle = [w for w in self.threads if free[w] and not queued[w]]
        for worker, tasks in queued.items():
            for task in tasks[free.get(worker, 0) :]:
                nodes = self.choice(task.task).nodes if idle else None
                if not idle or (nodes is not None and get_address_host(idle[-1]) not in nodes):
                    return
                idle.pop()
                yield task

"""Choice of the worker of a Dask cluster for a task. Left to itself, Dask queues tasks behind ones that hang."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from distributed.comm import get_address_host

from mmflow.blocks.references import SharedBlock
from mmflow.engines.dask.connection import Link
from mmflow.engines.dask.health import answers
from mmflow.engines.messages import TaskMessage
from mmflow.engines.placement import Choice, Placement, Seen, probe, probed
from mmflow.plan.stages import ScanInput
from mmflow.plan.tasks import Task

__all__ = ["Assigned", "Load"]

_PROBE_SECONDS = 20
#: Workers there see what is seen here.
_THIS_HOST = {"127.0.0.1", "localhost", "::1"}


class Assigned(Protocol):
    """Task under way, and its worker's address; "": it is not known yet which one Dask chose, or none can take it.

    `wanted`: resources that Dask keeps for it.
    """

    task: Task
    worker: str
    wanted: Mapping[str, float]


A = TypeVar("A", bound=Assigned)


class Load:
    """Load of the workers."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._probed: dict[tuple[str, ...], tuple[set[str], Placement]] = {}

    @property
    def resources(self) -> dict[str, dict[str, float]]:
        """Resources that each worker declares, by address."""
        return self._link.health.resources

    @property
    def threads(self) -> dict[str, int]:
        """Threads of each worker that is not silent, by address; of all workers, if all are silent."""
        health = self._link.health
        heard = {worker: n for worker, n in health.threads.items() if worker not in health.silent}
        return heard or dict(health.threads)

    def choice(self, task: Task) -> Choice:
        """Return the hosts that may read the task's shards, and the one whose page cache has them.

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
            found = answers(self._link.client, probe, files, workers=hosts.values(), seconds=_PROBE_SECONDS)
            # A host that does not answer sees nothing, as far as is known.
            nothing: list[Seen | None] = [None] * len(files)
            answered = {
                h: nothing if isinstance(a := found.get(w), Exception) else a for h, w in hosts.items()
            }
            seen = {h: dict(zip(files, a or nothing, strict=True)) for h, a in answered.items()}
            known = self._probed[files] = set(hosts), Placement(seen)
        return known[1].choose(task.shards)

    def able(self, choice: Choice, wanted: Mapping[str, float]) -> dict[str, int]:
        """Return the threads of workers that may run a task, by address: on its hosts, with its resources."""
        return {
            worker: number
            for worker, number in self.threads.items()
            if (choice.nodes is None or get_address_host(worker) in choice.nodes)
            and all(self.resources.get(worker, {}).get(name, 0) >= n for name, n in wanted.items())
        }

    def worker(
        self, task: TaskMessage, choice: Choice, wanted: Mapping[str, float], under_way: Iterable[Assigned]
    ) -> str:
        """Return the worker with the least to do; of the host with most of the task's input, if one there has time.

        "": there is none that may run it.
        """
        threads = self.able(choice, wanted)
        load = {worker: len(self._link.ghosts.get(worker, ())) / number for worker, number in threads.items()}
        rivals = set()
        for other in under_way:
            if other.worker in load:
                load[other.worker] += 1 / self._room(other.worker, threads[other.worker], other.wanted)
            if other.task.id == task.id:
                rivals.add(other.worker)
        nbytes: dict[str, int] = {}
        for ref in itertools.chain.from_iterable(task.blocks.values()):
            if isinstance(ref, SharedBlock):
                host = get_address_host(ref.place.address)
                nbytes[host] = nbytes.get(host, 0) + ref.nbytes

        def cost(worker: str) -> tuple[bool, bool, float, float]:
            host = get_address_host(worker)
            near = nbytes.get(host, 0) + (host == choice.preferred)
            return worker in rivals, load[worker] >= 2, -near, load[worker]

        return min(load, key=cost, default="")

    def _room(self, worker: str, threads: int, wanted: Mapping[str, float]) -> int:
        """Return how many tasks like this a worker runs at once."""
        declared = self.resources.get(worker, {})
        return max(1, min([threads, *(int(declared.get(name, 0) / n) for name, n in wanted.items())]))

    def stuck(self, under_way: Sequence[A]) -> Iterator[A]:
        """Yield tasks that wait behind others of their worker (even cancelled ones) while another worker is idle."""
        threads, every = self.threads, self._link.health.threads
        queued: dict[str, list[A]] = {worker: [] for worker in threads}
        for task in under_way:
            if task.worker:
                queued.setdefault(task.worker, []).append(task)
        # A silent worker, too, may have begun as many as it has threads.
        free = {w: max(0, n - len(self._link.ghosts.get(w, ()))) for w, n in every.items()}
        idle = [w for w in threads if free.get(w) and not queued[w]]
        able: dict[tuple[object, ...], Collection[str]] = {}
        for worker, tasks in queued.items():
            left = dict(self.resources.get(worker, {}))
            for task in tasks:
                if not idle:
                    return
                if free.get(worker) and all(left.get(name, 0) >= n for name, n in task.wanted.items()):
                    free[worker] -= 1
                    for name, n in task.wanted.items():
                        left[name] -= n
                    continue
                choice = self.choice(task.task)
                like = (choice.nodes, *task.wanted.items())
                if like not in able:
                    able[like] = self.able(choice, task.wanted).keys()
                taker = next((w for w in reversed(idle) if w in able[like]), None)
                if taker is not None:
                    idle.remove(taker)
                    yield task

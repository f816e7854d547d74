"""Health of the workers of a Dask cluster, as its scheduler hears from them, and requests that not all answer.

    scheduler   identity() every two seconds: threads of each worker, and when its last heartbeat came
    silent      no heartbeat for ten seconds: stopped, cut off, or in a call that holds the GIL
    its nanny   is asked whether the process is stopped (SIGSTOP); such a one is killed, once the runs have had time to
                name it, and the nanny starts another

Dask itself gives a silent worker five to ten minutes, and waits for its answers, and for those of a scheduler that is
stopped, without a limit.

Invariant: time in which the driver did not look counts as silence of no worker: the driver itself was stopped, or its
rows were not read.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from distributed import Client
from distributed.comm import connect, get_address_host
from distributed.security import Security

from mmflow.engines.dask.worker import check_stopped
from mmflow.engines.messages import first_line
from mmflow.engines.names import resolved
from mmflow.errors import EngineError
from mmflow.lazy.patterns import lazy_regex

__all__ = ["ANSWER_SECONDS", "Health", "answers", "check_answers"]

#: Time that a request may take that needs no work.
ANSWER_SECONDS = 10.0
_CONNECT_SECONDS = 7.0
_LOOK_SECONDS = 2.0
#: Workers send a heartbeat every half a second; those of large clusters every second for each 200 of them.
_SILENT_SECONDS = 10.0
_ALL_SILENT_SECONDS = 120.0
_NO_SCHEDULER_SECONDS = 60.0
#: From when a worker is known to be stopped until it is killed: longer than between two looks of a watchdog.
_STOPPED_SECONDS = 6.0
#: What Dask says of its objects in an error.
_WHERE, _REASON = lazy_regex(r" \(in <[^>]*>: (?:\w+: )?(.*)\)$"), r" (\1)"
#: Clusters that grow on demand need minutes for their first worker.
_NO_WORKERS_SECONDS = 300.0


def check_answers(address: str, security: Security) -> None:
    """Check within ten seconds that a scheduler answers at an address.

    `distributed.Client` waits without a limit for the first word of what accepts its connection.

    Raises:
        OSError: None does.
        ValueError: This is no address.
    """
    resolved(get_address_host(address), None, _CONNECT_SECONDS)
    said: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    async def ask() -> None:
        options = security.get_connection_args("client")
        comm = await connect(address, timeout=round(0.8 * _CONNECT_SECONDS, 1), **options)
        try:
            await comm.write({"op": "identity", "n_workers": 0, "reply": True})
            kind = (await comm.read())["type"]
        finally:
            comm.abort()
        if kind != "Scheduler":
            raise ConnectionError(f"it is no scheduler, but a {str(kind).lower()}")

    async def bounded() -> None:
        await asyncio.wait_for(ask(), _CONNECT_SECONDS)

    def run() -> None:
        try:
            asyncio.run(bounded())
        except Exception as error:  # noqa: BLE001  (whatever comes out of bytes that are not Dask's)
            said.put(error)
        else:
            said.put(None)

    # The caller's thread may run a loop of its own; and looking up a name has no limit.
    threading.Thread(target=run, name="mmflow-dask-connect", daemon=True).start()
    try:
        error = said.get(timeout=_CONNECT_SECONDS + 1)
    except queue.Empty:
        raise TimeoutError("it does not answer") from None
    if isinstance(error, TimeoutError):
        raise TimeoutError("it accepts connections, but does not answer as Dask does") from error
    if isinstance(error, OSError | ValueError):
        cause = error.__cause__
        detail = f" ({first_line(cause)})" if isinstance(cause, OSError) and str(cause) else ""
        raise type(error)(f"{first_line(error)}{_WHERE.sub(_REASON, detail)}") from error
    if error is not None:
        raise ConnectionError(f"it does not answer as Dask does: {first_line(error)}") from error


def answers(
    client: Client,
    function: Callable[..., Any],
    *arguments: Any,
    workers: Iterable[str],
    seconds: float | None = None,
) -> dict[str, Any]:
    """Run a function on workers; return what each gave or raised, of those that answered in time.

    `Client.run` on all of them waits for the last one. `seconds` are ten, unless the function works.
    """
    limit = ANSWER_SECONDS if seconds is None else seconds

    async def one(worker: str) -> tuple[str, Any]:
        asked = client.run(function, *arguments, workers=[worker], on_error="return", asynchronous=True)
        return worker, (await asyncio.wait_for(asked, limit))[worker]

    async def every() -> list[Any]:
        found: list[Any] = await asyncio.gather(*map(one, workers), return_exceptions=True)
        return found

    found = cast("list[Any]", client.sync(every, callback_timeout=2 * limit))
    return dict(answer for answer in found if isinstance(answer, tuple))


class Health:
    """Health of the workers of a cluster. Thread-safe: runs of several threads share it.

    Attributes:
        threads: Threads of each worker, by address.
        resources: Resources that each worker declares.
        silent: Workers that have not been heard of for a while.
    """

    def __init__(self, client: Client, address: str) -> None:
        self._client = client
        self._address = address
        self._lock = threading.Lock()
        self._clock = 0.0  # seconds in which somebody looked
        self._looked = time.monotonic()
        self._asked: concurrent.futures.Future[Any] | None = None
        self._answered = 0.0
        self._since = 0.0  # when there was last a worker that is not silent
        self._heard: dict[str, tuple[Any, float]] = {}
        self._nannies: set[str] = set()
        self._stopped: dict[str, tuple[str, float]] = {}  # what nannies said, and since when
        self.resources: dict[str, dict[str, float]] = {}
        self.threads: dict[str, int] = {}
        self.silent: set[str] = set()
        self.ask()

    def ask(self) -> None:
        """Ask the scheduler for its workers, and wait for the answer.

        Raises:
            EngineError: It does not answer.
        """
        try:
            identity = self._client.sync(self._client.scheduler.identity, callback_timeout=ANSWER_SECONDS)
        except (OSError, TimeoutError) as error:
            raise self._no_answer() from error
        with self._lock:
            self._take_in(identity)

    def forget(self, worker: str) -> None:
        """Forget a worker that has left."""
        with self._lock:
            for known in (self.threads, self.resources, self._heard, self._stopped):
                known.pop(worker, None)
            self.silent.discard(worker)
            self._nannies.discard(worker)

    def does_not_answer(self, worker: str) -> None:
        """Count a worker that did not answer as silent until it answers."""
        with self._lock:
            if worker in self._heard:
                self._heard[worker] = self._heard[worker][0], self._clock - _SILENT_SECONDS
                self.silent.add(worker)

    def silence(self, worker: str) -> float:
        """Return the seconds in which a worker was not heard of."""
        with self._lock:
            known = self._heard.get(worker)
            return 0.0 if known is None else self._clock - known[1]

    def stopped_process(self, worker: str) -> str:
        """Return the host and process of a worker that is stopped, as its nanny says; "": it says nothing of it."""
        with self._lock:
            return self._stopped.get(worker, ("", 0.0))[0]

    @property
    def scheduler_silence(self) -> float:
        """Seconds for which the scheduler has not answered; 0.0: it does."""
        with self._lock:
            silence = self._clock - self._answered
        return silence if silence > 3 * _LOOK_SECONDS else 0.0

    @property
    def scheduler_place(self) -> str:
        """Place of all tasks while the scheduler is silent, as a `Stall` says it."""
        return (
            f"the Dask scheduler at {self._address} has not answered for {self.scheduler_silence:.0f} s: it is "
            "stopped, gone, cut off or overloaded"
        )

    def look(self) -> None:
        """Read the answers of Dask's scheduler, and ask again; does not wait.

        Raises:
            EngineError: The scheduler does not answer, there are no workers, or all of them are silent, for too long.
        """
        with self._lock:
            now = time.monotonic()
            self._clock += min(now - self._looked, _LOOK_SECONDS)
            self._looked = now
            if self._asked is not None and self._asked.done():
                answer, self._asked = self._asked, None
                if answer.exception() is None:
                    self._take_in(answer.result(timeout=0))
                    self._ask_nannies()
            elif self._asked is None and self._clock - self._answered >= _LOOK_SECONDS:
                self._asked = self._start(self._client.scheduler.identity())
            self._judge()

    def _start(self, coroutine: Any) -> concurrent.futures.Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._client.loop.asyncio_loop)

    def _take_in(self, identity: dict[str, Any]) -> None:
        self._answered = self._clock
        workers = cast("dict[str, dict[str, Any]]", identity["workers"])
        for address, worker in workers.items():
            known = self._heard.get(address)
            if known is None or known[0] != worker["last_seen"]:
                self._heard[address] = worker["last_seen"], self._clock
        self._heard = {address: self._heard[address] for address in workers}
        self.threads = {address: worker["nthreads"] for address, worker in workers.items()}
        self.resources = {address: worker["resources"] for address, worker in workers.items()}
        self._nannies = {address for address, worker in workers.items() if worker["nanny"]}
        limit = max(_SILENT_SECONDS, 5 * len(workers) / 200)
        self.silent = {a for a, (_, heard) in self._heard.items() if self._clock - heard >= limit}
        if self.silent != workers.keys():
            self._since = self._clock
        self._stopped = {address: said for address, said in self._stopped.items() if address in self.silent}

    def _ask_nannies(self) -> None:
        for worker in self.silent & self._nannies:
            known = self._stopped.get(worker)
            end = known is not None and self._clock - known[1] >= _STOPPED_SECONDS
            self._start(self._ask_nanny(worker, end))

    async def _ask_nanny(self, worker: str, end: bool) -> None:
        asked = self._client.run(
            check_stopped, end, workers=[worker], nanny=True, on_error="ignore", asynchronous=True
        )
        said = (await asyncio.wait_for(asked, ANSWER_SECONDS)).get(worker)
        with self._lock:
            if said and worker in self._heard:
                self._stopped.setdefault(worker, (said, self._clock))
            else:
                self._stopped.pop(worker, None)

    def _judge(self) -> None:
        if self._clock - self._answered > _NO_SCHEDULER_SECONDS:
            raise self._no_answer()
        silence = self._clock - self._since
        if not self.threads and silence > _NO_WORKERS_SECONDS:
            raise EngineError(
                f"the Dask cluster at {self._address} has had no workers for {silence:.0f} seconds: start some, or see "
                "why they ended",
                code="MMF-ENG-009",
            )
        if self.threads and silence > _ALL_SILENT_SECONDS:
            raise EngineError(
                f"no worker of the Dask cluster at {self._address} has been heard of for {silence:.0f} seconds: they "
                "are stopped, cut off from the scheduler, or in a function that holds the GIL; restart "
                f"{', '.join(sorted(self.silent)[:3])}{' and others' if len(self.silent) > 3 else ''}"
            )

    def _no_answer(self) -> EngineError:
        return EngineError(
            f"the Dask scheduler at {self._address} does not answer: see whether it is stopped or overloaded, then run "
            "again",
            code="MMF-ENG-011",
        )

"""The head of a Ray cluster, asked in a thread beside the driver's.

Ray waits without a limit for a head that is stopped, and ends the driver's process a minute after one has gone.

    driver, at each step     every few seconds, if the last answer has come: a thread asks
    thread              -->  the head: nodes, which of them leave, and what workers say of their tasks
    no answer                all tasks under way are stalled; before Ray would end the process, the run fails

Invariant: time in which the driver did not look counts as silence of no head.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection

from mmflow.engines.messages import first_line
from mmflow.engines.ray.connection import Cluster, look
from mmflow.engines.ray.signals import RunSignals
from mmflow.engines.ray.stopped import Stopped
from mmflow.errors import EngineError
from mmflow.plan.tasks import TaskId
from mmflow.private_apis import ray_internals
from mmflow.worker.movement import look_pause

__all__ = ["Head"]

_LOOK_SECONDS = 5.0
_FIRST_SECONDS = 60.0
#: Ray's own limit, by its setting of this name, less what the end of a run takes.
_SILENT_SECONDS = float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s", "60")) - 10.0  # noqa: SIM112  (its name)
#: Longest time from one step of a driver to the next.
_STEP_SECONDS = 2.0


class Head:
    """The head of the cluster that this process has joined, for one run.

    Args:
        signals: Signals of the run, which are read with the rest.
        stopped: Search for stopped workers, which goes on in the same thread: even the first task of a kind waits.
        address: Address of the cluster, for errors.
        after: Seconds without movement after which a task is stalled.
    """

    def __init__(self, signals: RunSignals, stopped: Stopped, address: str | None, after: float) -> None:
        self._stopped = stopped
        self._pause = look_pause(after)
        self._signals = signals
        self._where = f"the Ray cluster at {address}" if address else "Ray's cluster of this machine"
        self._looked = time.monotonic()
        self._silence = 0.0
        self._since = 0.0  # the last question
        self._answered = threading.Event()
        self._answered.set()
        self._cluster: Cluster | None = None
        self._problem = ""

    def look(self, attempts: Collection[tuple[TaskId, int]] = (), *, working: bool = True) -> Cluster | None:
        """Return the cluster as the head has last described it, and ask again if it is time.

        Args:
            attempts: Attempts of which to read what their workers say.
            working: Whether any task is under way.

        Raises:
            EngineError: The head has not answered for too long.
        """
        now = time.monotonic()
        step, self._looked = min(now - self._looked, _STEP_SECONDS), now
        self._since += step
        first = self._cluster is None
        if self._answered.is_set() and (first or self._since >= self._pause):
            self._since = 0.0
            self._answered.clear()
            asking = threading.Thread(
                target=self._ask, args=(tuple(attempts), working), name="mmflow-ray-head", daemon=True
            )
            asking.start()
            if first:
                self._answered.wait(_FIRST_SECONDS)
                if self._cluster is None:
                    raise self._no_answer(_FIRST_SECONDS)
        self._silence = 0.0 if self._answered.is_set() and not self._problem else self._silence + step
        if self._silence > _SILENT_SECONDS:
            raise self._no_answer(self._silence)
        return self._cluster

    @property
    def silence(self) -> float:
        """Seconds for which the head has not answered; 0.0: it does."""
        return self._silence if self._silence > _LOOK_SECONDS else 0.0

    @property
    def place(self) -> str:
        """Place of all tasks while the head is silent, as a `Stall` says it."""
        return f"the head of {self._where} has not answered for {self._silence:.0f} s: it is stopped, gone or cut off"

    def _ask(self, attempts: Collection[tuple[TaskId, int]], working: bool) -> None:
        try:
            self._cluster = look()
            self._signals.say_leaving(ray_internals.draining_nodes())
            self._signals.read(attempts)
            if working:
                self._stopped.look(self._cluster.nodes)
            self._problem = ""
        except Exception as error:  # noqa: BLE001  (whatever Ray raises of a cluster that is gone)
            self._problem = f"{type(error).__name__}: {first_line(error)}"
        self._answered.set()

    def _no_answer(self, seconds: float) -> EngineError:
        why = f" ({self._problem})" if self._problem else ""
        return EngineError(
            f"the head of {self._where} has not answered for {seconds:.0f} seconds{why}: see whether it runs, then "
            "run again",
            code="MMF-ENG-011",
        )

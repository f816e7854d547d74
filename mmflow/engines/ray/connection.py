"""The connection to a Ray cluster: joined once by a process, and what is known of its nodes."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mmflow.config import Settings
from mmflow.engines.messages import first_line
from mmflow.engines.ray.address import check_answers, is_joined, joined_address
from mmflow.engines.versions import check_same, versions
from mmflow.errors import EngineError
from mmflow.lazy.dataclasses import dataclass
from mmflow.private_apis import ray_internals
from mmflow.startup import ENDING_SIGNALS

__all__ = ["Cluster", "alive", "check_versions", "connect", "describe", "look", "on_node"]

#: For a cluster to start or be joined: Ray allows each process 30 s, and workers are asked for their versions.
_START_SECONDS = 300
_ANSWER_SECONDS = 60
_BAD_ENVIRONMENT_SECONDS = 11
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Resources of a cluster.

    Attributes:
        slots: Tasks at once.
        memory, store: Least memory for a task and object store of a node.
        nodes: Addresses of nodes with processors, by id.
        offers: Resources of each node, by id.
    """

    slots: int
    memory: int
    store: int
    nodes: dict[str, str]
    offers: dict[str, dict[str, float]]


def look() -> Cluster:
    every = alive()
    nodes = [n for n in every if n["Resources"].get("CPU", 0) >= 1]
    able = [n["Resources"] for n in nodes]
    return Cluster(
        max(1, sum(int(n["CPU"]) for n in able)),
        min((int(n.get("memory", 0) // int(n["CPU"])) for n in able), default=0),
        int(min((n.get("object_store_memory", 0) for n in able), default=0)),
        {n["NodeID"]: n["NodeManagerAddress"] for n in nodes},
        {n["NodeID"]: n["Resources"] for n in every},
    )


@ray.remote(num_cpus=0)
def _versions() -> dict[str, str]:
    return versions()


#: Held while a cluster is joined: `ray.init` of a second thread would be an error, or half done when it is used.
_joining = threading.Lock()


def connect(settings: Settings) -> None:
    """Join the cluster, or start one; a process is in one cluster at a time, with all its threads.

    Raises:
        EngineError: There is none, or this process is in another one.
    """
    with _joining:
        if threading.current_thread() is threading.main_thread():
            with _own_signal_handlers():
                _connect(settings)
        else:
            _in_lasting_thread(lambda: _connect(settings))


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep this process's handlers of signals that end it. Ray 2.60 puts its own in their place, which exit with 15."""
    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler not in (None, signal.SIG_DFL):
                signal.signal(number, handler)


def _in_lasting_thread(call: Callable[[], None]) -> None:
    """Call this in a thread that lives as long as the process. Raises what it raises.

    Ray 2.60 has the kernel kill the processes of a cluster that it starts (PR_SET_PDEATHSIG) when the thread ends that
    started them, and a process whose raylet is gone exits without a word.
    """
    done: Future[None] = Future()

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  (whoever waits gets it; what was half started goes with the thread)
            done.set_exception(error)
            return
        done.set_result(None)
        threading.Event().wait()

    # A daemon, which the interpreter does not wait for: Ray's own clean-up at exit comes before its end.
    threading.Thread(target=run, name="mmflow-ray", daemon=True).start()
    try:
        done.result(timeout=_START_SECONDS)
    except TimeoutError as error:
        raise EngineError(
            f"Ray did not answer within {_START_SECONDS} s; look at the cluster, or at /tmp/ray/session_latest/logs"
        ) from error


def _connect(settings: Settings) -> None:
    address = settings.address
    if ray.is_initialized():
        if address is not None and not is_joined(address):
            raise EngineError(
                f"this process is connected to Ray at {joined_address()}, not {address}; leave the address out to use "
                "that cluster, or call ray.shutdown() first"
            )
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Of a task that failed, the driver reads the reply; Ray would tell of each payload, too.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address is None:
        # Half for blocks, half for tasks, as everywhere; Ray wants 75 MiB at least.
        store = max(80 << 20, settings.memory // 2)
        # "local": else Ray joins whatever cluster was started on this machine last.
        options |= {"address": "local", "num_cpus": settings.workers, "object_store_memory": store}
        options["include_dashboard"] = False
    else:
        options["address"] = address
    if address is not None and address.startswith("ray://"):
        # Through Ray Client, rows of the result come in messages, not by shared memory.
        options = {"address": address, "log_to_driver": False}
    # Ray prints what it notices (workers that died, ...) to stdout, where only rows belong.
    ray_internals.redirect_worker_output(_noticed)
    try:
        if address is None:
            with _own_token():
                _init(options)
        else:
            ray_internals.read_token_again()
            check_answers(address)
            _init(options)
    except Exception as error:  # of many kinds, a plain Exception for a node that does not come up among them
        where = address or "this machine"
        raise EngineError(
            f"can't connect to Ray at {where}: {first_line(error)}; is it running (ray status), and is the address "
            "right? without an address one is started here",
            code="MMF-ENG-009",
        ) from error


@contextlib.contextmanager
def _own_token() -> Iterator[None]:
    """Give the cluster that is started in the block a token of its own, unless the user has given one, or wants none.

    Whoever can send it a task runs code as its user, and other users of the machine reach its ports. Ray 2.60 would
    take a token from ~/.ray/auth_token, which it writes readable for all. This one is in no file: the cluster's
    processes inherit it, and this process remembers it until they end: another cluster would not take it.
    """
    mode = os.environ.get("RAY_AUTH_MODE")
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    own = not given and (mode or "token").lower() == "token"
    if own:  # the mode, too: else Ray prints that it sets it
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    ray_internals.read_token_again()
    try:
        yield
    finally:
        if own:
            del os.environ["RAY_AUTH_TOKEN"]
            if mode is None:
                del os.environ["RAY_AUTH_MODE"]
            if ray.is_initialized():
                ray_internals.forget_token_at_shutdown()
            else:
                ray_internals.read_token_again()


def _init(options: dict[str, Any]) -> None:
    """Call `ray.init`; a server for clients that has just come up refuses the first calls."""
    for pause in (1.0, 3.0):
        try:
            ray.init(**options)
            return
        except (ConnectionError, RuntimeError) as error:
            if "Initialization failure from server" not in str(error):
                raise
            time.sleep(pause)
    ray.init(**options)


def _noticed(data: dict[str, Any], ignore_prefix: bool) -> None:
    _log.info("%s", "\n".join(data["lines"]))


def check_versions(address: str | None) -> None:
    """Compare the versions on each node with those here.

    Raises:
        EngineError: They differ; names what and where.
    """
    if address is None:
        return
    asked = [(node, _ask_versions(node)) for node in alive()]
    for node, answer in asked:
        where = f"node {node['NodeManagerAddress']}"
        try:
            there = _answered(node, answer)
        except RayTaskError as error:
            raise EngineError(
                f"mmflow can't be used on {where}: {first_line(error.cause)}; install the same version there"
            ) from error
        except RayError as error:
            if node["NodeID"] not in {n["NodeID"] for n in alive()}:
                continue  # it has left
            raise EngineError(f"{where} does not answer: {describe(error)}") from error
        check_same(there, where)


def _ask_versions(node: dict[str, Any]) -> Any:
    return _versions.options(scheduling_strategy=on_node(node["NodeID"])).remote()


def _answered(node: dict[str, Any], answer: Any) -> Any:
    try:
        return ray.get(answer, timeout=_ANSWER_SECONDS)
    except RuntimeEnvSetupError as error:
        # A busy node's agent fails now and then. Ray keeps such an answer for 10 s.
        _log.info("asking again: %s", describe(error))
        time.sleep(_BAD_ENVIRONMENT_SECONDS)
        return ray.get(_ask_versions(node), timeout=_ANSWER_SECONDS)


def describe(error: RayError) -> str:
    """Return what an error of Ray says, in one line."""
    if isinstance(error, RuntimeEnvSetupError):
        # The first line says no more than that; the last one of the traceback that follows says why.
        return f"its runtime environment can't be set up: {str(error).strip().splitlines()[-1].strip()}"
    return first_line(error)


def alive() -> list[dict[str, Any]]:
    return [n for n in ray.nodes() if n["Alive"]]  # type: ignore[no-untyped-call]  # Ray has no types here


def on_node(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node, soft=False)

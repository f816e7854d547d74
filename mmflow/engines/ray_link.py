"""The connection to a Ray cluster: joined once by a process, and what is known of its nodes."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import Any, cast

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mmflow.config import Settings
from mmflow.engines.remote import first_line, versions
from mmflow.errors import EngineError

__all__ = ["Cluster", "alive", "check_versions", "connect", "look", "on_node"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Tasks at once; of the node that has least, memory for a task and bytes of the object store; nodes' addresses."""

    slots: int
    memory: int
    store: int
    nodes: dict[str, str]


def look() -> Cluster:
    nodes = [n for n in alive() if n["Resources"].get("CPU", 0) >= 1]
    able = [n["Resources"] for n in nodes]
    return Cluster(
        max(1, sum(int(n["CPU"]) for n in able)),
        min((int(n.get("memory", 0) // int(n["CPU"])) for n in able), default=0),
        int(min((n.get("object_store_memory", 0) for n in able), default=0)),
        {n["NodeID"]: n["NodeManagerAddress"] for n in nodes},
    )


@ray.remote(num_cpus=0)
def _versions() -> dict[str, str]:
    return versions()


def connect(settings: Settings) -> None:
    """Join the cluster, or start one; a process is in one cluster at a time.

    Raises:
        EngineError: There is none, or this process is in another one.
    """
    address = settings.address
    if ray.is_initialized():
        joined = _clients.get("address") or ray.get_runtime_context().gcs_address
        if address not in (None, "auto", joined):
            raise EngineError(
                f"this process is connected to Ray at {joined}, not {address}; call ray.shutdown() first"
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
    ray._private.worker.print_to_stdstream = _noticed
    _clients.clear()
    try:
        _init(options)
        if "configure_logging" not in options:
            _clients["address"] = cast(str, address)
    except (ConnectionError, ValueError, RuntimeError, OSError, TimeoutError, RayError) as error:
        where = address or "this machine"
        raise EngineError(
            f"can't connect to Ray at {where}: {first_line(error)}; is it running (ray status), and is the address "
            "right? without an address one is started here"
        ) from error


def _init(options: dict[str, Any]) -> None:
    """`ray.init`; a server for clients that has just come up refuses the first ones."""
    for pause in (1.0, 3.0):
        try:
            ray.init(**options)
            return
        except (ConnectionError, RuntimeError) as error:
            if "Initialization failure from server" not in str(error):
                raise
            time.sleep(pause)
    ray.init(**options)


#: The address by which this process is a client, if it is one.
_clients: dict[str, str] = {}


def _noticed(data: dict[str, Any], ignore_prefix: bool) -> None:
    _log.info("%s", "\n".join(data["lines"]))


def check_versions(address: str | None) -> None:
    """Compare what runs on each node with what runs here.

    Raises:
        EngineError: They differ; names what and where.
    """
    if address is None:
        return
    here = versions()
    asked = [
        (node, _versions.options(scheduling_strategy=on_node(node["NodeID"])).remote()) for node in alive()
    ]
    for node, answer in asked:
        where = f"node {node['NodeManagerAddress']}"
        try:
            there = ray.get(answer, timeout=60)
        except RayTaskError as error:
            raise EngineError(
                f"mmflow can't be used on {where}: {first_line(error.cause)}; install the same version there"
            ) from error
        except RayError as error:
            if node["NodeID"] not in {n["NodeID"] for n in alive()}:
                continue  # it has left
            raise EngineError(f"{where} does not answer: {first_line(error)}") from error
        for name, version in here.items():
            if there.get(name) != version:
                raise EngineError(
                    f"{name} is {version} here and {there.get(name)} on {where}: install the same version on both"
                )


def alive() -> list[dict[str, Any]]:
    return [n for n in ray.nodes() if n["Alive"]]  # type: ignore[no-untyped-call]


def on_node(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node, soft=False)

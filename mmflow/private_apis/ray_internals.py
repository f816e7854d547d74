"""Private APIs of Ray, seen in 2.60.

    attempts        Ray runs a task again by itself; only its core worker counts how often
    small objects   bytes of the memory store, in which Ray keeps small objects of this process
    output          Ray prints messages of workers to stdout, where only rows belong
    key-value store of the cluster's head, which outlives workers
    drains          which nodes are about to leave
    addresses       the cluster that `address="auto"` finds; the address of a client; a channel to either
    token           Ray reads it once in the life of a process, and keeps it when its cluster has ended

Invariant: a test of tests/api/test_api_private_apis.py fails once one of them is gone.
"""

from __future__ import annotations

from typing import Any, Protocol

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # it has no types
from ray.experimental import internal_kv
from ray.util import client as ray_client

__all__ = [
    "client_address",
    "count_attempts",
    "delete_values",
    "draining_nodes",
    "find_address",
    "forget_token_at_shutdown",
    "local_object_bytes",
    "open_channel",
    "put_value",
    "read_token_again",
    "read_value",
    "redirect_worker_output",
    "replace_value",
]


class _OutputHandler(Protocol):
    def __call__(self, data: dict[str, Any], ignore_prefix: bool) -> None: ...


def _core_worker() -> Any:
    return getattr(ray._private.worker.global_worker, "core_worker", None)


def count_attempts() -> int | None:
    """Return how often Ray ran the task of this worker before; None if this Ray does not count."""
    count = getattr(_core_worker(), "get_current_task_attempt_number", None)
    return None if count is None else int(count())


def local_object_bytes() -> int:
    """Return the bytes of small objects that Ray holds in this process; huge if this Ray does not count them."""
    count = getattr(_core_worker(), "get_local_memory_store_bytes_used", None)
    return 1 << 62 if count is None else int(count())


def read_token_again() -> None:
    """Have Ray read the mode of authentication and the token again, in a process that is in no cluster."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def forget_token_at_shutdown() -> None:
    """Have Ray read its token again once the cluster that this process has started is shut down, by whomever."""
    node: Any = ray._private.worker._global_node
    kill_all_processes = node.kill_all_processes

    def kill_and_forget(*args: Any, **kwargs: Any) -> None:
        kill_all_processes(*args, **kwargs)
        read_token_again()

    node.kill_all_processes = kill_and_forget


def redirect_worker_output(handler: _OutputHandler) -> None:
    """Make Ray call `handler` with the lines of workers, instead of printing them to stdout."""
    ray._private.worker.print_to_stdstream = handler


def read_value(name: str, namespace: bytes) -> bytes | None:
    """Return a value of the cluster's key-value store; None: there is none."""
    found: bytes | None = internal_kv._internal_kv_get(name, namespace=namespace)
    return found


def put_value(name: str, value: bytes, namespace: bytes) -> bool:
    """Write a value to the cluster's key-value store, and return whether there was none before. None is replaced."""
    return not internal_kv._internal_kv_put(name, value, overwrite=False, namespace=namespace)


def replace_value(name: str, value: bytes, namespace: bytes) -> None:
    """Write a value to the cluster's key-value store, in the place of one that is there."""
    internal_kv._internal_kv_put(name, value, overwrite=True, namespace=namespace)


def delete_values(prefix: str, namespace: bytes) -> None:
    """Delete all values of the cluster's key-value store whose names begin with `prefix`."""
    internal_kv._internal_kv_del(prefix, del_by_prefix=True, namespace=namespace)


def draining_nodes() -> set[str]:
    """Return the ids of nodes that are about to leave; none through Ray Client, which does not know."""
    by_client = ray_client.ray.is_connected()  # type: ignore[no-untyped-call]  # Ray has no types here
    return set() if by_client else set(ray._private.state.state.get_draining_nodes())


def find_address(address: str) -> str | None:
    """Return host and port of a cluster's head for an address such as `auto`; None: there is no cluster."""
    found: str | None = canonicalize_bootstrap_address(address)
    return found


def client_address() -> str:
    """Return host and port of the server that Ray Client is connected to."""
    client = ray_client.ray.get_context().client_worker  # type: ignore[no-untyped-call]  # Ray has no types here
    return str(client._conn_str)


def open_channel(place: str) -> grpc.Channel:
    """Return a gRPC channel to `host:port` with Ray's own settings (TLS, tokens), and without a proxy."""
    return init_grpc_channel(place, [("grpc.enable_http_proxy", 0)])

"""Addresses of Ray clusters: whether a cluster answers there, and whether this process is in it.

    connect   TCP, then HTTP/2, then one request: each with what is left of seven seconds
    compare   ids of clusters, not spellings: localhost, 127.0.0.1 and the host's name are one place

`ray.init` would wait two minutes for an address where nothing listens, and longer where something else does.
"""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

import grpc
import ray
from ray.util import client as ray_client

from mmflow.engines.names import resolved
from mmflow.private_apis import ray_internals

__all__ = ["check_answers", "is_joined", "joined_address"]

_SECONDS = 7.0
_AGAIN_SECONDS = 0.2
#: Requests that every version answers, and what is sent: an empty message, and one that asks for a sign of life.
_CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId", b""
_PING = "/ray.rpc.RayletDriver/ClusterInfo", b"\x08\x06"
_CLIENT = "ray://"
_CLIENT_PORT = 10001


def check_answers(address: str) -> None:
    """Check within ten seconds that a cluster answers at an address; `auto` may find none, which `ray.init` says.

    Raises:
        OSError: None does.
        ValueError: This is no address.
    """
    if address.startswith(_CLIENT):
        _ask(*_client_place(address), client=True)
    elif (place := ray_internals.find_address(address)) is not None:
        _ask(*_place(place), client=False)


def joined_address() -> str:
    """Return the address of the cluster that this process is in."""
    if ray_client.ray.is_connected():  # type: ignore[no-untyped-call]  # Ray has no types here
        return f"{_CLIENT}{ray_internals.client_address()}"
    return str(ray.get_runtime_context().gcs_address)


def is_joined(address: str) -> bool:
    """Return whether an address is that of the cluster that this process is in."""
    joined = joined_address()
    if address in ("auto", joined):
        return True
    try:
        if joined.startswith(_CLIENT) or address.startswith(_CLIENT):
            both = joined.startswith(_CLIENT) and address.startswith(_CLIENT)
            return both and _same_place(_client_place(joined), _client_place(address))
        place = ray_internals.find_address(address)
        return place is not None and _ask(*_place(place), client=False) == _ask(*_place(joined), client=False)
    except (OSError, ValueError):
        return False


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _client_place(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    if not parts.hostname:
        raise ValueError(f"{address} names no host")
    return parts.hostname, parts.port or _CLIENT_PORT


def _same_place(one: tuple[str, int], other: tuple[str, int]) -> bool:
    if one[1] != other[1]:
        return False
    first, second = (set(resolved(host, port, _SECONDS)) for host, port in (one, other))
    return not first.isdisjoint(second) or all(any(map(_is_here, hosts)) for hosts in (first, second))


def _is_here(host: str) -> bool:
    """Return whether a numeric address is one of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        try:
            tried.bind((host, 0))
        except OSError:
            return False
    return True


def _ask(host: str, port: int, *, client: bool) -> bytes:
    """Return a cluster's answer to a request for its id; of a server for clients, nothing.

    Raises:
        OSError: Nothing listens there, or it does not answer as Ray does.
    """
    deadline = time.monotonic() + _SECONDS
    _connect(host, port)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    channel = ray_internals.open_channel(place)
    try:
        grpc.channel_ready_future(channel).result(timeout=max(0.5, deadline - time.monotonic()))
        method, request = _PING if client else _CLUSTER_ID
        answer = channel.unary_unary(method)(request, timeout=max(0.5, deadline - time.monotonic()))
        return b"" if client else bytes(answer)  # compared whole
    except grpc.FutureTimeoutError as error:
        raise TimeoutError("it accepts connections, but does not answer as Ray does") from error
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.DEADLINE_EXCEEDED):
            hint = f"{_CLIENT} is for the port for clients" if client else f"{_CLIENT}{place} is for clients"
            what = "a server for Ray clients" if client else "the head of a Ray cluster"
            raise ConnectionError(f"it is not {what} ({error.code().name.lower()}; {hint})") from error
        return b""  # `ray.init` has better words, of a token that is missing, say
    finally:
        channel.close()


def _connect(host: str, port: int) -> None:
    """Connect once, for an error that says what is wrong. A head that is just starting is waited for a little."""
    deadline = time.monotonic() + _SECONDS / 2
    while True:
        last: OSError = ConnectionError("it has no address")
        for numeric in resolved(host, port, _SECONDS / 2):
            try:
                socket.create_connection((numeric, port), timeout=_SECONDS / 4).close()
            except TimeoutError:
                last = TimeoutError(f"{numeric} does not answer")
            except OSError as error:
                last = error
            else:
                return
        if not isinstance(last, ConnectionRefusedError) or time.monotonic() > deadline:
            raise last
        time.sleep(_AGAIN_SECONDS)

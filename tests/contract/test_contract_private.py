"""Clusters that mmflow starts on this machine take nobody's tasks but its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import grpc
import pytest
import ray
from distributed import Client, Security

import mmflow as mf
from mmflow.engines.dask import connection


def test_a_cluster_of_dask_takes_connections_with_its_key_only() -> None:
    with mf.Session(engine="dask", workers=2, memory="512MiB") as session:
        assert session.from_arrow({"x": [1, 2]}).count() == 2
        (link,) = connection._links.values()
        assert link.address.startswith("tls://127.0.0.1:")
        plain = link.address.replace("tls://", "tcp://")
        for address, security in ((plain, None), (link.address, Security.temporary())):
            with pytest.raises(OSError):
                Client(address, timeout=3, security=security, set_as_default=False)


def test_a_cluster_of_ray_has_a_token_of_its_own_that_no_file_and_no_command_line_holds() -> None:
    with mf.Session(engine="ray", workers=1, memory="512MiB") as session:
        assert session.from_arrow({"x": [1, 2]}).count() == 2
        assert "RAY_AUTH_TOKEN" not in os.environ
        token = ray.get(_token.remote())
        assert len(token) == 64
        host, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
        for sent, answered in ((None, False), ("0" * 64, False), (token, True)):
            assert _answers(f"{host}:{port}", sent) is answered, sent
        here: Any = ray._private.worker._global_node
        logs = Path(here.get_session_dir_path())
        assert not [f for f in logs.rglob("*") if f.is_file() and token.encode() in f.read_bytes()]
        assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if token.encode() in _read(p)]
        default = Path.home() / ".ray" / "auth_token"
        assert not default.exists() or default.read_text().strip() != token


@ray.remote
def _token() -> str:
    return os.environ["RAY_AUTH_TOKEN"]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


def _answers(place: str, token: str | None) -> bool:
    """Return whether the head of a Ray cluster answers to who sends this token."""
    with grpc.insecure_channel(place, [("grpc.enable_http_proxy", 0)]) as channel:
        metadata = [("authorization", f"Bearer {token}")] if token else []
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", metadata=metadata, timeout=30)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            return False
    return True

"""Clusters that mmflow starts on this machine take nobody's tasks but its own."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
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
        link = connection._links[2]  # where an address was given, the key is that
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


_TLS = """
import sys, mmflow as mf
with mf.Session(engine="ray", workers=1, memory="512MiB") as session:
    print(session.from_arrow({"x": [1, 2]}).count())
    import ray
    from mmflow.engines.ray.address import check_answers, is_joined
    address = ray.get_runtime_context().gcs_address
    check_answers(address)
    assert is_joined(address)
    print(address, flush=True)
    sys.stdin.read()
"""


@pytest.mark.nightly
def test_a_cluster_of_ray_may_have_tls_by_rays_own_variables(tmp_path: Path) -> None:
    """Names are verified, so that each host has a certificate of its own."""
    node = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # Ray has no types here
    (tmp_path / "names").write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1,IP:{node}")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    for command in (
        f"req -x509 {key} -days 2 -subj /CN=ca -keyout ca.key -out ca.crt",
        f"req {key} -subj /CN=mmflow -keyout tls.key -out tls.csr",
        "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out tls.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    variables = {"SERVER_CERT": "tls.crt", "SERVER_KEY": "tls.key", "CA_CERT": "ca.crt"}
    tls = {"RAY_USE_TLS": "1"} | {f"RAY_TLS_{name}": str(tmp_path / file) for name, file in variables.items()}
    with subprocess.Popen(
        [sys.executable, "-c", _TLS],
        env=os.environ | tls,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "2\n"
            host, _, port = process.stdout.readline().strip().rpartition(":")
            trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
            trusting.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
            with trusting.wrap_socket(
                socket.create_connection((host, int(port)), 9), server_hostname=host
            ) as ours:
                assert ours.version() == "TLSv1.3"
            plain = grpc.insecure_channel(f"{host}:{port}", [("grpc.enable_http_proxy", 0)])
            with plain, pytest.raises(grpc.FutureTimeoutError):
                grpc.channel_ready_future(plain).result(timeout=3)
        finally:
            process.stdin.close()
            assert process.wait(60) == 0


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

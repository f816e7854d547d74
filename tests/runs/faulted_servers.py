"""An S3 server and a web server of this process that fail on demand."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fsspec
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.utils import send_file

__all__ = ["FAULTS", "FaultyServer", "Trouble", "s3_server", "web_server"]

#: What an answer may suffer.
FAULTS = ("drop", "cut", "500", "503", "slow", "slow down", "range", "etag")
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_SLOW_SECONDS = 0.7
App = Callable[..., Iterable[bytes]]


@dataclass(frozen=True)
class Trouble:
    """Requests `first` to `first + count - 1` get this fault."""

    fault: str
    first: int = 0
    count: int = 1


@dataclass
class FaultyServer:
    """A WSGI application, its answers bent.

    Attributes:
        app: WSGI application that answers.
        trouble: Fault at the moment; None: there is none.
        requests: Number of requests since `begin`.
        suffered: Number of requests with a fault.
    """

    app: App
    trouble: Trouble | None = None
    requests: int = 0
    suffered: int = 0
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, trouble: Trouble | None) -> None:
        with self._lock:
            self.trouble, self.requests, self.suffered = trouble, 0, 0

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        fault = self._next(environ["REQUEST_METHOD"])
        if fault == "slow":
            time.sleep(_SLOW_SECONDS)
        elif fault == "drop":
            _hang_up(environ)
            return []
        elif fault in ("500", "503"):
            _drain(environ)
            start(f"{fault} Trouble", [("Content-Length", "0")])
            return []
        elif fault == "slow down":
            _drain(environ)
            body = b"" if environ["REQUEST_METHOD"] == "HEAD" else _SLOW_DOWN
            headers = [("Content-Type", "application/xml"), ("Retry-After", "1")]
            start("503 Slow Down", [*headers, ("Content-Length", str(len(body)))])
            return [body]
        answer: list[Any] = []
        sent = self.app(environ, lambda status, headers, *_: answer.extend((status, headers)))
        data = b"".join(sent)
        status, headers = answer
        if fault in ("range", "etag"):
            headers = [(name, _bent(fault, name, value)) for name, value in headers]
        start(status, headers)
        if fault == "cut" and len(data) > 1:
            return _cut(environ, data[: len(data) // 2])
        return [data]

    def _next(self, method: str) -> str | None:
        """The fault of this request."""
        with self._lock:
            wrong = self.trouble
            if wrong is None or (wrong.fault in ("range", "etag", "cut") and method != "GET"):
                return None
            number, self.requests = self.requests, self.requests + 1
            if not wrong.first <= number < wrong.first + wrong.count:
                return None
            self.suffered += 1
            return wrong.fault


def _bent(fault: str, name: str, value: str) -> str:
    name = name.lower()
    if fault == "etag" and name == "etag":
        return '"another"'
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", value)
    if fault == "range" and name == "content-range" and found:
        return f"bytes {int(found[1]) + 8}-{int(found[2]) + 8}/{found[3]}"
    return value


def _drain(environ: dict[str, Any]) -> None:
    """Read the body of a request; where it has none, to read would wait until the client hangs up."""
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


def _hang_up(environ: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


def _cut(environ: dict[str, Any], data: bytes) -> Iterator[bytes]:
    yield data
    _hang_up(environ)


def _web_app(folder: Path) -> App:
    """Files of a folder, with ranges, ETags and times."""

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = folder / unquote(environ["PATH_INFO"]).lstrip("/")
        try:
            data = path.open("rb")
        except OSError:
            start("404 Not Found", [("Content-Length", "0")])
            return []
        with data:
            found = os.fstat(data.fileno())
            tag = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
            answer = send_file(
                io.BytesIO(data.read()), environ, mimetype="application/octet-stream", etag=tag, last_modified=found.st_mtime,
                conditional=True, download_name=path.name,
            )  # fmt: skip
            return list(answer(environ, start))

    return app


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[FaultyServer]:
    """A web server of a folder."""
    with _serving(FaultyServer(_web_app(folder))) as server:
        yield server


@contextlib.contextmanager
def s3_server() -> Iterator[FaultyServer]:
    """An S3 server with a bucket named soak; environment variables of this process, and of its children, say where."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    with _serving(FaultyServer(DomainDispatcherApplication(create_backend_app))) as server:
        settings = {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            yield server
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
            # fsspec knows its file systems by their arguments: other tests would get those of this server.
            fsspec.get_filesystem_class("s3").clear_instance_cache()


@contextlib.contextmanager
def _serving(server: FaultyServer) -> Iterator[FaultyServer]:
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    made: BaseWSGIServer = make_server("127.0.0.1", 0, server, threaded=True)
    server.url = f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        made.shutdown()
        made.server_close()
        thread.join()

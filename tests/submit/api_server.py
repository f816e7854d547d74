"""The part of the Kubernetes API that mmflow uses, over HTTP, with the errors that a real one gives.

with ApiServer() as server:
    server.fail("POST", "/jobs", 429, headers={"Retry-After": "0"})
    server.pods[...] = ...          # what controllers would do, tests do
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

__all__ = ["ApiServer", "Failure", "pod"]

Object = dict[str, Any]
_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/(?P<version>[^/]+))/namespaces/(?P<namespace>[^/]+)/(?P<plural>[^/]+)"
    r"(?:/(?P<name>[^/]+)(?:/(?P<part>log))?)?"
)
OPERATORS = {"ray.io": "rayjobs", "kubernetes.dask.org": "daskjobs"}


class Failure:
    """Fault of a request, instead of an answer."""

    def __init__(
        self,
        method: str,
        path: str,
        status: int,
        reason: str,
        message: str,
        headers: Mapping[str, str],
        times: int,
        *,
        after: bool,
    ) -> None:
        self.method, self.path, self.status = method, path, status
        self.reason, self.message, self.headers, self.times, self.after = (
            reason,
            message,
            headers,
            times,
            after,
        )


def pod(name: str, labels: Mapping[str, str], phase: str = "Pending", **status: Any) -> Object:
    """A pod as a kubelet reports it."""
    return {
        "metadata": {"name": name, "labels": dict(labels), "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"phase": phase, **status},
    }


class ApiServer:
    """A server on a port of this machine."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.pods: dict[str, Object] = {}
        self.events: list[Object] = []
        #: By pod: lines as the API gives them, with times.
        self.logs: dict[str, list[str]] = {}
        #: Whether more lines may come: a follower waits.
        self.open_logs: set[str] = set()
        self.groups = {"batch", "networking.k8s.io", "policy", *OPERATORS}
        self.namespaces = {"mmflow"}
        self.requests: list[tuple[str, str]] = []
        self.failures: list[Failure] = []
        self.version = 100
        #: Watch events that wait to be sent: lists of events, one for each watch; None: the connection breaks.
        self.watches: list[list[Object | None]] = []
        #: Log answers that break off after so many lines.
        self.cut_logs: list[int] = []
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(
        self, method: str, path: str, status: int, reason: str = "", message: str = "", *,
        headers: Mapping[str, str] | None = None, times: int = 1, after: bool = False,
    ) -> None:  # fmt: skip
        """Answer the next requests so; status 0: the connection breaks; `after`: what is asked for is done first."""
        self.failures.append(
            Failure(method, path, status, reason, message, headers or {}, times, after=after)
        )

    def kubeconfig(self, path: Path) -> Path:
        """A kubeconfig for this server."""
        made = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        }  # fmt: skip
        path.write_text(json.dumps(made))
        return path

    def find(self, kind: str) -> Object:
        """The only object of a kind."""
        (found,) = (o for (plural, _), o in self.objects.items() if plural == kind)
        return found

    def count(self, method: str, part: str) -> int:
        """Return the number of requests."""
        return sum(m == method and part in p for m, p in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: ApiServer

    def log_message(self, format: str, *args: Any) -> None:
        """Tests want silence."""

    def do_GET(self) -> None:
        self._do("GET")

    def do_POST(self) -> None:
        self._do("POST")

    def do_PATCH(self) -> None:
        self._do("PATCH")

    def do_DELETE(self) -> None:
        self._do("DELETE")

    def _do(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        with self.api.lock:
            self.api.requests.append((method, self.path))
            failure = next(
                (f for f in self.api.failures if f.method == method and re.search(f.path, self.path)), None
            )
            if failure is not None:
                failure.times -= 1
                if not failure.times:
                    self.api.failures.remove(failure)
        if failure is not None and not failure.after:
            self._failed(failure)
            return
        match = _PATH.fullmatch(url.path)
        if match is None:
            self._send(404, b"404 page not found\n", "text/plain")
            return
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        if failure is not None:
            self._answer(method, match, query, body)
            self._failed(failure)
            return
        if match["part"] == "log":
            self._log(match["name"], query)
        elif match["plural"] == "pods" and method == "GET":
            self._pods(query)
        else:
            self._send(*self._answer(method, match, query, body))

    def _failed(self, failure: Failure) -> None:
        if not failure.status:
            self.close_connection = True
            self.connection.close()
            return
        self._send(
            failure.status, _status(failure.status, failure.reason, failure.message), headers=failure.headers
        )

    def _answer(
        self, method: str, match: re.Match[str], query: dict[str, str], body: bytes
    ) -> tuple[int, bytes]:
        api, plural, name = self.api, match["plural"], match["name"]
        if match["group"] and match["group"] not in api.groups:
            return 404, b"404 page not found\n"
        if match["namespace"] not in api.namespaces:
            where = match["namespace"]
            details = {"name": where, "kind": "namespaces"}
            return 404, _status(404, "NotFound", f'namespaces "{where}" not found', details)
        if plural == "events":
            return 200, json.dumps({"items": api.events}).encode()
        with api.lock:
            if method == "POST":
                made = json.loads(body)
                name = made["metadata"]["name"]
                if (plural, name) in api.objects:
                    return 409, _status(409, "AlreadyExists", f'{plural} "{name}" already exists')
                made["metadata"]["uid"] = f"uid-{len(api.requests)}"
                api.objects[plural, name] = made
                return 201, json.dumps(made).encode()
            found = api.objects.get((plural, name))
            if found is None:
                return 404, _status(
                    404, "NotFound", f'{plural} "{name}" not found', {"name": name, "kind": plural}
                )
            if method == "PATCH":
                found["metadata"] |= json.loads(body)["metadata"]
            elif method == "DELETE":
                found["deleted_with"] = json.loads(body or "{}")
                del api.objects[plural, name]
            return 200, json.dumps(found).encode()

    def _pods(self, query: dict[str, str]) -> None:
        wanted = [part.partition("=") for part in query.get("labelSelector", "").split(",") if part]

        def fits(found: Object) -> bool:
            labels = found["metadata"]["labels"]
            return all(
                key in labels and (not equals or labels[key] == value) for key, equals, value in wanted
            )

        if query.get("watch") not in ("true", "True"):
            with self.api.lock:
                items = [p for p in self.api.pods.values() if fits(p)]
                made = {"metadata": {"resourceVersion": str(self.api.version)}, "items": items}
            self._send(200, json.dumps(made).encode())
            return
        events = self.api.watches.pop(0) if self.api.watches else []
        self._begin("application/json")
        for event in events:
            if event is None:
                self.close_connection = True
                self.connection.close()
                return
            self._piece(json.dumps(event).encode() + b"\n")
        self._piece(b"")

    def _log(self, name: str, query: dict[str, str]) -> None:
        if name not in self.api.pods:
            self._send(
                404, _status(404, "NotFound", f'pods "{name}" not found', {"name": name, "kind": "pods"})
            )
            return
        cut = self.api.cut_logs.pop(0) if self.api.cut_logs else None
        self._begin("text/plain")
        sent = 0
        while True:
            lines = self.api.logs.get(name, [])
            for line in lines[sent:]:
                if cut is not None and sent >= cut:
                    self.close_connection = True
                    self.connection.close()
                    return
                self._piece(line.encode() + b"\n")
                sent += 1
            if query.get("follow") not in ("true", "True") or name not in self.api.open_logs:
                break
            time.sleep(0.02)
        self._piece(b"")

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _piece(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send(
        self,
        status: int,
        data: bytes,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _status(code: int, reason: str, message: str, details: Object | None = None) -> bytes:
    made = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return json.dumps({**made, "details": details or {}}).encode()

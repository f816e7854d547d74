"""An HTTP server of files in a folder: with ranges and ETags, or without; it counts requests, and can fail on demand."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Web:
    """Server with its faults and its log of requests.

    `ranges`, `tags`, `times`, `sizes`: does it send parts, ETags, times, sizes? `trouble`: is asked before each GET of
    how many bytes the body shall have, whether it shall be sent as status 500 (500), or with headers ((503, {...})), cut
    short ("cut"), cut by a reset of the connection ("reset"), or late (seconds).
    """

    folder: Path
    url: str = ""
    ranges: bool = True
    tags: bool = True
    times: bool = True
    sizes: bool = True
    status: int = 0
    #: Rewrites the headers of an answer: method, path, what they would be.
    lie: Callable[[str, str, dict[str, str]], dict[str, str]] = lambda _method, _path, headers: headers
    trouble: Callable[[str, int], Any] = lambda _path, _number: None
    gets: list[tuple[str, int, int]] = field(default_factory=list)
    heads: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def sent(self) -> int:
        """Bytes of all bodies."""
        return sum(end - begin for _, begin, end in self.gets)

    def forget(self) -> None:
        self.gets.clear()
        self.heads = 0


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def _file(self) -> Path | None:
            path = web.folder / unquote(urlsplit(self.path).path).lstrip("/")
            if web.status:
                self._plain(web.status)
                return None
            if not path.is_file():
                self._plain(404)
                return None
            self._stat = path.stat()
            return path

        def _plain(self, status: int, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _headers(self, status: int, length: int, part: str = "") -> None:
            headers = {}
            if web.sizes:
                headers["Content-Length"] = str(length)
            if web.ranges:
                headers["Accept-Ranges"] = "bytes"
            if web.tags:
                headers["ETag"] = f'"{self._stat.st_mtime_ns:x}-{self._stat.st_size:x}"'
            if web.times:
                headers["Last-Modified"] = formatdate(self._stat.st_mtime, usegmt=True)
            if part:
                headers["Content-Range"] = part
            if not web.sizes:
                headers["Connection"] = "close"
                self.close_connection = True
            headers = web.lie(self.command, self.path, headers)
            self.send_response(int(headers.pop("status", status)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def do_HEAD(self) -> None:
            if self._file() is not None:
                with web.lock:
                    web.heads += 1
                self._headers(200, self._stat.st_size)

        def do_GET(self) -> None:
            path = self._file()
            if path is None:
                return
            size = self._stat.st_size
            begin, end, status = 0, size, 200
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if asked and web.ranges:
                begin, end, status = int(asked[1]), min(int(asked[2]) + 1, size), 206
                if begin >= size:
                    self._plain(416)
                    return
            with path.open("rb") as file:
                file.seek(begin)
                data = file.read(end - begin)
            with web.lock:
                number = len(web.gets)
                web.gets.append((self.path, begin, end))
            what = web.trouble(self.path, number)
            if isinstance(what, float):
                time.sleep(what)
            if what == 500:
                self._plain(500)
                return
            if isinstance(what, tuple):
                self._plain(*what)
                return
            self._headers(status, end - begin, f"bytes {begin}-{end - 1}/{size}" if status == 206 else "")
            if what == "reset":  # what is still to be sent is dropped, too
                self.wfile.write(data[: (end - begin) // 2])
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            if what == "cut":
                self.wfile.write(data[: (end - begin) // 2])
                self.wfile.flush()
                self.close_connection = True
                return
            self.wfile.write(data)

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *args: Any) -> None:
        """A client that goes away is none of ours."""


@contextmanager
def serving(folder: Path) -> Iterator[Web]:
    """A server of a folder, on this host."""
    web = Web(folder)
    server = _Server(("127.0.0.1", 0), _handler(web))
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A TCP proxy that stops forwarding on demand, and neither closes connections nor refuses them: a black hole."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["BlackHole", "Way", "black_hole"]

_BYTES = 64 << 10
Way = Literal["there", "back"]


@dataclass
class _Rule:
    begins: re.Pattern[bytes]
    seen: Way
    way: Way
    after: int
    connections: int


@dataclass
class _Connection:
    """Both ends of a connection, the bytes that still pass on a way (None: all do), and whether it has lost any."""

    client: socket.socket
    server: socket.socket
    there: int | None = None
    back: int | None = None
    lost: bool = False

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class BlackHole:
    """A proxy of one server.

    Attributes:
        address: Host and port where clients reach it.
        swallowed: Bytes that were swallowed so far.
        rate: Bytes a second of each connection and way; 0: all that come.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[_Connection] = []
        self._threads: list[threading.Thread] = []
        self._rule: _Rule | None = None
        self._lock = threading.Lock()
        self.swallowed = 0
        self.rate = 0
        self.address: tuple[str, int] = self._listener.getsockname()
        self._start(self._accept)

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=function, args=arguments, daemon=True))
        self._threads[-1].start()

    def swallow(
        self, message: str, way: Way, after: int = 0, connections: int = 1 << 30, seen: Way = "there"
    ) -> None:
        """Swallow what connections carry from a message on.

        Args:
            message: Regular expression that the message matches.
            way: Way on which bytes are swallowed: to the server ("there"), or from it ("back").
            after: Bytes that pass before, those of the message included if it goes the same way, and counted anew from
                each such message on.
            connections: Number of connections that lose anything, the first ones.
            seen: Way of the message.
        """
        self._rule = _Rule(re.compile(message.encode()), seen, way, after, connections)

    def forward(self) -> None:
        """Forward again. What was swallowed is lost, so connections that were open end."""
        with self._lock:
            self._rule = None
            for connection in self._connections:
                connection.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which ends an accept
        self._listener.close()
        self.forward()
        for thread in self._threads:
            thread.join(10)
        for connection in self._connections:
            connection.client.close()
            connection.server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                client, _ = self._listener.accept()
                made = _Connection(client, socket.create_connection(self._server))
                self._connections.append(made)
                for way in ("there", "back"):
                    self._start(self._pump, made, way)

    def _pump(self, on: _Connection, way: Way) -> None:
        source, sink = (on.client, on.server) if way == "there" else (on.server, on.client)
        with contextlib.suppress(OSError):
            while data := source.recv(min(_BYTES, self.rate or _BYTES)):
                self._begin(on, way, data)
                if passed := self._passed(on, way, data):
                    sink.sendall(passed)
                if self.rate:
                    time.sleep(len(data) / self.rate)
        if getattr(on, way) is None:  # else the end is swallowed, too
            on.close()

    def _begin(self, on: _Connection, way: Way, data: bytes) -> None:
        with self._lock:
            rule = self._rule
            if rule is not None and way == rule.seen and not on.lost and rule.begins.search(data):
                setattr(on, rule.way, rule.after)

    def _passed(self, on: _Connection, way: Way, data: bytes) -> bytes:
        with self._lock:
            room: int | None = getattr(on, way)
            if room is None:
                return data
            if not on.lost and len(data) > room:
                if self._rule is None or not self._rule.connections:
                    return data
                self._rule.connections -= 1
                on.lost = True
            passed = data[:room]
            setattr(on, way, room - len(passed))
            self.swallowed += len(data) - len(passed)
            return passed


@contextlib.contextmanager
def black_hole(server: tuple[str, int]) -> Iterator[BlackHole]:
    """A proxy of a server."""
    made = BlackHole(server)
    try:
        yield made
    finally:
        made.close()

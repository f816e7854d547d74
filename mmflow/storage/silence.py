"""Requests to object stores that are not answered for long: they are named, in whichever thread they wait.

    store    a request begins          entered here; a thread looks every five seconds, as long as there is any
    thread   45 s without an answer,   a SilentServerWarning: once for each request
             and without bytes

Requests have limits of their own (`remote.http`, botocore's), of minutes in all. Tasks that wait for them are stalled
for the watchdog, too, but the driver waits as well: as it plans and as it commits.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import warnings
from collections.abc import Iterator

from mmflow.errors import SilentServerWarning
from mmflow.storage import clock
from mmflow.storage.sockets import carried_bytes
from mmflow.storage.url import redact_url

__all__ = ["request"]

_LOOK_SECONDS = 5.0
_SILENT_SECONDS = 45.0
#: Bytes of a connection, from one look to the next, that are no sign of life of something else.
_LEAST_BYTES = 64 << 10


class _Requests:
    """Requests under way, and the thread that looks at them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._since: dict[int, tuple[str, str, float]] = {}
        self._carried: dict[str, int] = {}
        self._moved = 0.0
        self._watch: clock.Repeated | None = None

    @contextlib.contextmanager
    def __call__(self, operation: str, url: str) -> Iterator[None]:
        number = next(self._numbers)
        self._since[number] = operation, url, clock.monotonic()
        if self._watch is None or not self._watch.running:
            with self._lock:
                if self._watch is None or not self._watch.running:
                    self._watch = clock.Repeated(self._look, _LOOK_SECONDS, "mmflow-requests")
        try:
            yield
        finally:
            self._since.pop(number, None)

    def _look(self) -> bool:
        """Warn of requests without an answer; return whether any is under way."""
        now, under_way = clock.monotonic(), dict(self._since)
        known, self._carried = self._carried, carried_bytes()
        if any(n - known.get(c, 0) > _LEAST_BYTES for c, n in self._carried.items()):
            self._moved = now
        for number, (operation, url, since) in under_way.items():
            silence = now - max(since, self._moved)
            if silence >= _SILENT_SECONDS:
                self._since.pop(number, None)
                warnings.warn(
                    f"{redact_url(url) or 'an object store'}: a request ({operation}) has not been answered for "
                    f"{silence:.0f} s: the network or the server may be gone; it is repeated, and fails in the end",
                    SilentServerWarning,
                    stacklevel=1,
                )
        return bool(under_way)


#: Enters a request for the block, by its operation and its URL.
request = _Requests()

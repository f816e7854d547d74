"""Columns of queries for completion: planned by a thread of their own, and kept for a while."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["ColumnCache", "Columns"]

#: Names and types.
Columns = tuple[tuple[str, str], ...]

_MOST_QUERIES = 64


class _Entry:
    def __init__(self) -> None:
        self.ready = threading.Event()
        self.columns: Columns = ()


class ColumnCache:
    """Columns by queries. Whoever asks waits a moment, and finds what takes longer the next time."""

    def __init__(self, plan: Callable[[str], Columns]) -> None:
        self._plan = plan
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._asked: queue.SimpleQueue[tuple[str, _Entry] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def get(self, query: str, seconds: float) -> Columns:
        """Return the columns of a query; none if it is wrong, or not planned within these seconds."""
        with self._lock:
            entry = self._entries.get(query)
            if entry is None:
                entry = self._entries[query] = _Entry()
                self._asked.put((query, entry))
                if len(self._entries) > _MOST_QUERIES:
                    self._entries.popitem(last=False)
            self._entries.move_to_end(query)
            if self._thread is None:
                # A daemon: a file system that hangs must not keep the shell from ending.
                self._thread = threading.Thread(target=self._run, name="mmflow-columns", daemon=True)
                self._thread.start()
        entry.ready.wait(seconds)
        return entry.columns

    def clear(self) -> None:
        """Forget all columns: files change, and names may stand for others."""
        with self._lock:
            self._entries.clear()

    def close(self) -> None:
        """End the thread, once it has planned what it plans."""
        self._asked.put(None)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            query, entry = asked
            with contextlib.suppress(Exception):  # a query that is being typed is often wrong
                entry.columns = self._plan(query)
            entry.ready.set()

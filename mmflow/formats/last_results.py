"""Results for the keys that were asked for last, found once for each."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["LastResults"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class LastResults(Generic[_K, _V]):
    """Results for the last keys. For all threads, of which several may find the same result at once.

    Args:
        most: Number of results that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[_K, _V] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of results that are kept."""
        return len(self._kept)

    def get(self, key: _K, find: Callable[[], _V]) -> _V:
        """Return the result for a key, which `find` finds where it is not kept. Raises what `find` raises."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = find()
        self.put(key, found)
        return found

    def known(self, key: _K) -> _V | None:
        """Return the result for a key, if it is kept."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key]

    def put(self, key: _K, found: _V) -> None:
        """Keep the result for a key as the last one."""
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

"""Listings of a moment ago, which the run that follows uses instead of listing the same files once more.

Invariant: a listing is used once, and not long after it was made. What changed since is found out when it is read, as
whatever changes in a run is: identities are those of the listing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mmflow.remote.filesystem import FileInfo

__all__ = ["remember_listing", "take_listed"]

#: Fewer files are listed by one request: the run asks again, and knows what changed in between.
_FEWEST = 1_000
_SECONDS = 60.0
_MOST_LISTINGS = 8


class _Listing(NamedTuple):
    storage: str
    ended: float
    files: dict[str, FileInfo]


_lock = threading.Lock()
_recent: list[_Listing] = []


def remember_listing(files: Sequence[FileInfo], storage: str) -> None:
    """Keep the files of a listing for the run that follows, if they are many.

    Args:
        files: Files that were listed just now.
        storage: Options of their file system.
    """
    if len(files) < _FEWEST:
        return
    listing = _Listing(storage, time.monotonic(), {file.url: file for file in files})
    with _lock:
        _recent[:] = [*_recent[1 - _MOST_LISTINGS :], listing]


def take_listed(urls: Sequence[str], storage: str) -> dict[str, FileInfo]:
    """Return those of the files, by URL, that were listed a moment ago; their listings are then forgotten."""
    taken: dict[str, FileInfo] = {}
    with _lock:
        now = time.monotonic()
        for listing in list(_recent):
            fresh = now - listing.ended <= _SECONDS
            files = listing.files if fresh and listing.storage == storage else {}
            found = {url: files[url] for url in urls if url in files}
            if found or not fresh:
                _recent.remove(listing)
            taken |= found
    return taken

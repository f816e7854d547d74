"""Pages of a file that other writers have changed and not flushed yet.

Each writer's undo log lists the pages that it has changed. Two writers of one page can't both be right: the log of the
one that dies would restore the page, and with it undo what the other has flushed. So before a writer changes a page, it
reads the other logs, under the lock on that page, and refuses.
"""

from __future__ import annotations

import contextlib
import os

import numpy as np

from mmflow.arrays.undo import UndoLog, is_live, list_logs, read_records, roll_back_dead_writers
from mmflow.errors import SinkError
from mmflow.lazy import array_types as npt
from mmflow.mapping.system import system

__all__ = ["OtherWriters"]


class OtherWriters:
    """Undo logs of the other writers of a file, each read up to its end so far.

    Args:
        path: File.
        page: Size of a page, in bytes.
    """

    def __init__(self, path: str, page: int) -> None:
        self._path = path
        self._page = page
        # By name of a log: position of its next record, and the byte ranges [begin, end) in it, shape (n, 2).
        self._seen: dict[str, tuple[int, npt.NDArray[np.int64]]] = {}

    def check(self, begin: int, end: int, own: UndoLog | None) -> None:
        """Check that no other writer is changing a page of `[begin, end)`, after undoing the changes of dead ones.

        Args:
            begin: First byte.
            end: Byte after the last one.
            own: Log of this writer.

        Raises:
            SinkError: Another writer has changed one of the pages, and not flushed it.
        """
        begin, end = begin - begin % self._page, -(-end // self._page) * self._page
        names = [name for name in list_logs(self._path) if own is None or name != own.name]
        self._seen = {name: self._seen[name] for name in names if name in self._seen}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if self._overlaps(name, begin, end):
                    raise SinkError(
                        f"can't change bytes {begin:,} to {end:,} of {self._path}: another writer has changed a page "
                        f"of them (of {self._page:,} bytes) and not flushed it; let it flush first, or cut the work at "
                        "multiples of a page",
                        path=self._path,
                    )

    def _overlaps(self, name: str, begin: int, end: int) -> bool:
        log = os.open(name, os.O_RDWR | system.open_flags)
        try:
            live = is_live(log)
            position, ranges = self._seen.get(name, (0, np.empty((0, 2), np.int64)))
            found = list(read_records(log, position)) if live else []
        finally:
            os.close(log)
        if not live:
            roll_back_dead_writers(self._path)
            return False
        if found:
            added = np.array([(r.offset, r.offset + r.length) for r in found], np.int64)
            ranges = np.concatenate([ranges, added])
            self._seen[name] = found[-1].end, ranges
        return bool(((ranges[:, 0] < end) & (ranges[:, 1] > begin)).any())

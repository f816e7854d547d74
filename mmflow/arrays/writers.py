"""Which pages of a file other writers have changed and not flushed yet.

Each writer's undo log lists the pages that it has changed. Two writers of one page can't both be right: the log of the
one that dies would put back the page, and with it undo what the other has flushed. So a writer looks at the
other logs before it changes a page, under the lock on that page that it writes with, and refuses.
"""

from __future__ import annotations

import contextlib
import os

import numpy as np
import numpy.typing as npt

from mmflow.arrays.undo import UndoLog, is_live, log_names, records, roll_back_dead
from mmflow.errors import SinkError
from mmflow.mapping.system import system

__all__ = ["OtherWriters"]


class OtherWriters:
    """The undo logs of the other writers of a file, read as far as they have come.

    Args:
        path: The file.
        page: Bytes of a page.
    """

    def __init__(self, path: str, page: int) -> None:
        self._path = path
        self._page = page
        # By name of a log: where its next record begins, and the ranges [begin, end) of bytes in it, shape (n, 2).
        self._seen: dict[str, tuple[int, npt.NDArray[np.int64]]] = {}

    def check(self, begin: int, end: int, own: UndoLog | None) -> None:
        """Refuse to change the pages of `[begin, end)` where another writer's change of one is under way.

        Changes of writers that died are undone first.

        Args:
            begin: First byte.
            end: Byte after the last one.
            own: This writer's log.

        Raises:
            SinkError: Another writer has changed one of the pages, and not flushed it.
        """
        begin, end = begin - begin % self._page, -(-end // self._page) * self._page
        names = [name for name in log_names(self._path) if own is None or name != own.name]
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
        log = os.open(name, os.O_RDWR | system.OPEN_FLAGS)
        try:
            live = is_live(log)
            position, ranges = self._seen.get(name, (0, np.empty((0, 2), np.int64)))
            found = list(records(log, position)) if live else []
        finally:
            os.close(log)
        if not live:
            roll_back_dead(self._path)
            return False
        if found:
            added = np.array([(r.offset, r.offset + r.length) for r in found], np.int64)
            ranges = np.concatenate([ranges, added])
            self._seen[name] = found[-1].end, ranges
        return bool(((ranges[:, 0] < end) & (ranges[:, 1] > begin)).any())

"""A stream as a file that is read through windows, by scans that don't know the difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmflow.mapping.access_policy import Advice, Decision
from mmflow.mapping.file import UNKNOWN_SIZE, MappedFile
from mmflow.mapping.window import Window

if TYPE_CHECKING:
    from mmflow.streams.stream import Stream

__all__ = ["StreamFile"]


class StreamFile(MappedFile):
    """File over a stream. Windows wait until their bytes have come, and share its memory."""

    once = True

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream.path, -1, stream.identity, Decision("pread", Advice.NONE, stream.reason))
        self._fd = None  # the thread that reads has it
        self._stream = stream

    @property
    def size(self) -> int:
        size = self._stream.size
        return UNKNOWN_SIZE if size is None else size

    def window(self, offset: int, length: int, *, populate: bool = True) -> Window:
        buffer = self._stream.window(offset, length)
        return Window(buffer, offset, len(buffer), "pread", self.decision.reason)

    def beyond(self, window_bytes: int) -> int:
        """Return 0: a block ends behind a line, and a slow stream would be waited for."""
        return 0

    def resident(self, begin: int, end: int) -> int:
        return 0

    def prefetch(self, offset: int, length: int) -> None:
        """Do nothing: the stream reads on by itself."""

    def load(self, begin: int, end: int) -> None:
        """Do nothing: windows wait by themselves."""

    def evict_behind(self, offset: int, length: int) -> None:
        """Do nothing: blocks are released once the boundary check has passed them."""

    def check_unchanged(self) -> None:
        """Do nothing: what has come does not change."""

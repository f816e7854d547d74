"""Shards of a stream, as its reader cuts them.

    Stream.take() -> a shard of one block -> task -> boundary check -> Stream.release()

Invariant: shards tile the stream. A stream that broke off gives one more, whose task fails with the reason, so that the
error is in order behind all that came before.
"""

from __future__ import annotations

from mmflow.mapping.file import UNKNOWN_SIZE
from mmflow.shards import Shard
from mmflow.streams import Stream, StreamLimits

__all__ = ["StreamFeed"]


class StreamFeed:
    """Feed of the blocks of a stream; one empty group where there are none (see `ShardFeed`).

    Args:
        stream: The stream.
        limits: Bytes that it may keep.
        whole: Whether the stream is one shard, since its format has no records to cut between.
    """

    def __init__(self, stream: Stream, limits: StreamLimits, *, whole: bool) -> None:
        self._stream = stream
        self._limits = limits
        self._whole = whole
        self._given = 0
        self._ended = False

    def begin(self, *, count_lines: bool) -> None:
        """Let the stream be read.

        Raises:
            SourceError: It was read before.
        """
        self._stream.begin(self._limits, count_lines=count_lines, release_behind=self._whole)

    def take(self) -> tuple[Shard, ...] | None:
        if self._ended:
            return None
        if self._whole:
            self._ended = True
            return (Shard(0, 0, UNKNOWN_SIZE, fresh=True),)
        block = self._stream.take()
        if block is not None:
            self._given = block.end
            return (Shard(0, block.begin, block.end, fresh=True, lines_before=block.lines_before),)
        if not self._stream.exhausted:
            return None
        self._ended = True
        if self._stream.error is not None:
            return (Shard(0, self._given, self._given + 1, fresh=True),)
        return None if self._given else ()

    @property
    def exhausted(self) -> bool:
        return self._ended

    @property
    def waits(self) -> bool:
        return not self._ended and not self._whole

    @property
    def end(self) -> int:
        """Bytes of the stream that have come."""
        return self._stream.end

    def wait(self, seconds: float) -> None:
        """Wait until there is a group to take."""
        self._stream.wait(seconds)

    def release(self, end: int) -> None:
        """Release the bytes before `end`, which are verified."""
        if not self._whole:
            self._stream.release(end)

    def close(self) -> None:
        """End the stream: its rows are needed no more."""
        self._stream.close()

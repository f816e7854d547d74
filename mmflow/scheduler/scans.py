"""Shards of a scan stage: made into tasks lazily, and verified in order of the file.

    groups (lazy) -> task -> reports -> ScanChecker.verify, in order -> Verified | Rerun | an error

Until the boundary check of a file has reached a shard, nothing that was read of it counts: neither its rows nor its
errors, since where its first record begins may have been guessed wrong.

Invariant: O(shards in flight) memory; groups are verified in the order in which they became tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from typing import Protocol

from mmflow.formats import Format, ScanReport
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.tasks import ShardTask
from mmflow.scheduler.stream_feed import StreamFeed
from mmflow.shards import BoundaryCheck, FileEntry, Shard, StartMismatch

__all__ = [
    "Feed",
    "LineCountFeed",
    "Rerun",
    "ScanChecker",
    "ScanSource",
    "ShardFeed",
    "ShardGroup",
    "Verified",
    "shard_task",
]

#: Shards of one task.
ShardGroup = tuple[Shard, ...]


@dataclass(frozen=True, slots=True)
class ScanSource:
    """Files of a scan with their identities, and its shards as tasks take them (`shards.group_shards`).

    `layout`: by which they are cut, so that equal files and layouts give equal shards.
    `pruned`: further files, which by their paths hold no wanted row; `skipped`: such that can't be read.
    `stream`: the feed of a stream, which has no groups before it is read.
    """

    files: Sequence[FileEntry]
    groups: Iterable[ShardGroup]
    layout: int = 0
    pruned: int = 0
    skipped: int = 0
    stream: StreamFeed | None = None


def shard_task(group: ShardGroup, files: Sequence[FileEntry]) -> ShardTask:
    """Return a group as a task carries it: with the entries of its own files only."""
    numbers = {file: number for number, file in enumerate(dict.fromkeys(s.file for s in group))}
    # 256 small files at a time, of 100,000: `replace` takes four times as long.
    shards = tuple(
        Shard(numbers[s.file], s.begin, s.end, s.fresh, s.known_start, s.lines_before) for s in group
    )
    return ShardTask(tuple(files[n] for n in numbers), shards)


class Feed(Protocol):
    """Source of a scan stage's groups."""

    def take(self) -> ShardGroup | None:
        """Return the next group; None: not yet, or `exhausted`."""
        ...

    @property
    def exhausted(self) -> bool:
        """End of the feed: no more groups will come; true at the latest after a `take` that returned None."""
        ...


class ShardFeed:
    """Feed of the groups of a plan of shards; one empty group where there are none.

    A task over nothing still gives what its fragment gives for no rows: `count(*)` is 0, not absent.
    """

    def __init__(self, groups: Iterable[ShardGroup]) -> None:
        self._groups: Iterator[ShardGroup] = iter(groups)
        self._first = True
        self.exhausted = False

    def take(self) -> ShardGroup | None:
        shards = next(self._groups, None)
        if shards is None:
            self.exhausted = True
            if not self._first:
                return None
            shards = ()
        self._first = False
        return shards


@dataclass(slots=True)
class LineCountFeed:
    """Feed of groups whose starts and lines a line-count pre-pass has found (see `scheduler`)."""

    ready: deque[ShardGroup] = field(default_factory=deque)
    ended: bool = False

    def take(self) -> ShardGroup | None:
        return self.ready.popleft() if self.ready else None

    @property
    def exhausted(self) -> bool:
        return self.ended and not self.ready


@dataclass(frozen=True, slots=True)
class Rerun:
    """Group that must run again, with its right start."""

    group: ShardGroup


@dataclass(frozen=True, slots=True)
class Verified:
    """Group that was read right.

    Attributes:
        known: ShardGroup with its true starts and lines.
        before: Records and lines of its file before each shard.
        stopped: Whether it ended early, since its rows reached the stage's limit.
    """

    known: ShardGroup
    before: tuple[tuple[int, int], ...]
    stopped: bool


class ScanChecker:
    """Boundary check over all files of a scan.

    `covered`: bytes of input that are done with, holes included. `met`: the group in which a bad record was
    met, with the starts and lines known up to it.

    Args:
        files: Files of the scan.
        format: Their format.
        stream: The feed of a stream, of which what is verified is released.
        needs_lines: Whether a shard counts only if it was read with the right number of lines before it.
    """

    def __init__(
        self,
        files: Sequence[FileEntry],
        format: Format,
        stream: StreamFeed | None = None,
        *,
        needs_lines: bool = False,
    ) -> None:
        self._files = files
        self._format = format
        self._stream = stream
        self._needs_lines = needs_lines
        self._file = -1
        self._check: BoundaryCheck | None = None
        self._file_covered = 0
        self.covered = 0
        self.met: ShardGroup | None = None

    def known(self, group: ShardGroup) -> ShardGroup:
        """Return the group with the start of its shard, if everything before it has been verified."""
        if len(group) != 1:
            return group  # whole files: nothing to guess
        (shard,) = group
        if not self._format.record_oriented or shard.file != self._file or self._check is None:
            return group
        return (self._check.known(shard),)

    def verify_start(self, group: ShardGroup) -> Rerun | None:
        """Return how to rerun the group, next in order; None if it began where it had to.

        The result of a task that failed, or stopped before its end, counts only if it began right.
        """
        if len(group) == 1 and self._format.record_oriented:
            self._enter(group[0])
            known = self.known(group)
            if known[0].known_start != group[0].known_start:
                return Rerun(known)
        return None

    def count_before(self, group: ShardGroup) -> int:
        """Return the records of its file before the next group; 0 of a group of whole files."""
        if len(group) != 1:
            return 0
        self._enter(group[0])
        assert self._check is not None  # just entered
        return self._check.records_before

    def verify(self, group: ShardGroup, reports: Sequence[ScanReport]) -> Verified | Rerun:
        """Verify the next group in order.

        Raises:
            BadRecordError: The first bad record of the file, with policy `error`.
            SourceError: Records are missing or overlap between shards.
        """
        known: list[Shard] = []
        before: list[tuple[int, int]] = []
        for number, shard in enumerate(group):
            if number >= len(reports):
                return self.verify_start(group) or Verified(group, tuple(before), stopped=True)
            self._enter(shard)
            assert self._check is not None  # just entered
            known.append(self._check.known(shard))
            report = reports[number]
            # Before what is verified counts. A block within one record has no lines of its own.
            if self._has_other_lines(shard, known[-1]) and (report.records or report.error is not None):
                return Rerun((known[0],))
            result = self._check.verify(shard, report)
            if isinstance(result, StartMismatch):
                assert len(group) == 1, "only shards of a file that has several are guessed"
                return Rerun((known[0],))
            if report.error is not None:
                self.met = (*known, *group[number + 1 :])
                raise report.error.located(
                    records_before=result.records_before, lines_before=result.lines_before
                )
            before.append((result.records_before, result.lines_before))
            self._reach(shard.end)
        return Verified(tuple(known), tuple(before), stopped=False)

    def _has_other_lines(self, shard: Shard, known: Shard) -> bool:
        return self._needs_lines and shard.lines_before != known.lines_before

    def _reach(self, end: int) -> None:
        if self._stream is not None:
            self._stream.release(end)
            end = min(end, self._stream.end)
        self.covered += end - self._file_covered
        self._file_covered = end

    def _enter(self, shard: Shard) -> None:
        """Move on to the file of `shard`."""
        if shard.file == self._file:
            return
        self.finish()
        self._file = shard.file
        self._file_covered = 0
        self._check = BoundaryCheck(self._files[shard.file].path, grouped=not self._format.record_oriented)

    def finish(self) -> None:
        """Check that the records of the current file end with it, after its last shard.

        Raises:
            SourceError: They don't.
        """
        if self._check is None:
            return
        size = self._files[self._file].identity.size if self._stream is None else self._stream.end
        self._check.finish(size)
        self._check = None
        self._reach(size)

"""The shards of a scan stage: handed out lazily, and checked in order of the file.

    groups (lazy) -> task -> reports -> ScanChecker.check, in order -> Checked | Again | an error

Until the chain of a file has reached a shard, nothing that was read of it counts: neither its rows nor its
errors, since where its first record begins may have been guessed wrong.

Invariant: O(shards in flight) memory; groups are checked in the order they were handed out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mmflow.exec.task import ShardTask
from mmflow.formats import Format, ScanReport
from mmflow.shards import FileChain, FileEntry, Shard, WrongStart

__all__ = ["Again", "CensusFeed", "Checked", "Feed", "Group", "ScanChecker", "ScanSource", "ShardFeed"]


@dataclass(frozen=True, slots=True)
class ScanSource:
    """The files of a scan, identities taken, and its shards as tasks take them (`shards.group_shards`).

    `layout`: by which they are cut, so that equal files and layouts give equal shards.
    `pruned`: further files, which by their paths hold no wanted row.
    """

    files: Sequence[FileEntry]
    groups: Iterable[tuple[Shard, ...]]
    layout: int = 0
    pruned: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Shards of one task; `starts` and `lines` as in `exec.task.ShardTask`."""

    shards: tuple[Shard, ...]
    starts: tuple[int | None, ...]
    lines: tuple[int, ...]

    @classmethod
    def of(cls, shards: tuple[Shard, ...]) -> Group:
        return cls(shards, (None,) * len(shards), (0,) * len(shards))

    def task(self, files: Sequence[FileEntry]) -> ShardTask:
        """The group as a task carries it: with the entries of its own files only."""
        numbers = list(dict.fromkeys(s.file for s in self.shards))
        return ShardTask(
            tuple(files[n] for n in numbers),
            tuple(replace(s, file=numbers.index(s.file)) for s in self.shards),
            self.starts,
            self.lines,
        )


class Feed(Protocol):
    """Where a scan stage's groups come from."""

    def take(self) -> Group | None:
        """The next group; None: not yet, or `exhausted`."""
        ...

    @property
    def exhausted(self) -> bool:
        """No more will come; true at the latest after a `take` that gave None."""
        ...


class ShardFeed:
    """Groups straight from the plan of shards; one empty group where there are none.

    A task over nothing still gives what its fragment gives for no rows: `count(*)` is 0, not absent.
    """

    def __init__(self, groups: Iterable[tuple[Shard, ...]]) -> None:
        self._groups: Iterator[tuple[Shard, ...]] = iter(groups)
        self._first = True
        self.exhausted = False

    def take(self) -> Group | None:
        shards = next(self._groups, None)
        if shards is None:
            self.exhausted = True
            if not self._first:
                return None
            shards = ()
        self._first = False
        return Group.of(shards)


@dataclass(slots=True)
class CensusFeed:
    """Groups whose starts and lines an earlier pass found out (see `driver`: `_line`)."""

    ready: deque[Group] = field(default_factory=deque)
    ended: bool = False

    def take(self) -> Group | None:
        return self.ready.popleft() if self.ready else None

    @property
    def exhausted(self) -> bool:
        return self.ended and not self.ready


@dataclass(frozen=True, slots=True)
class Again:
    """The group must be run again, like this."""

    group: Group


@dataclass(frozen=True, slots=True)
class Checked:
    """The group was read right.

    Attributes:
        known: The group with its true starts and lines.
        before: For each shard, records and lines of its file before it.
        stopped: It ended early, since its rows reached the stage's limit.
    """

    known: Group
    before: tuple[tuple[int, int], ...]
    stopped: bool


class ScanChecker:
    """The chain check over all files of a scan.

    `covered`: bytes of input that are done with, holes included. `met`: the group in which a bad record was
    met, with the starts and lines known up to it.
    """

    def __init__(self, files: Sequence[FileEntry], format: Format) -> None:  # noqa: A002  (the domain's word)
        self._files = files
        self._format = format
        self._file = -1
        self._chain: FileChain | None = None
        self._file_covered = 0
        self.covered = 0
        self.met: Group | None = None

    def known(self, group: Group) -> Group:
        """The group with the start of its shard, where everything before it has been checked."""
        if len(group.shards) != 1:
            return group  # whole files: nothing to guess
        (shard,) = group.shards
        if not self._format.record_oriented or shard.file != self._file or self._chain is None:
            return group
        return Group(group.shards, (self._start(shard),), (self._chain.lines_before,))

    def _start(self, shard: Shard) -> int | None:
        """Where the records of the next shard of the current file begin; None: right at its fresh begin."""
        assert self._chain is not None  # set with the file
        due = self._chain.due(shard)
        return None if shard.fresh and due == shard.begin else due

    def certain(self, group: Group) -> Again | None:
        """None if the group, next in order, began where it had to; else how to run it again.

        What a task says that failed, or stopped before its end, counts only if it began right.
        """
        if len(group.shards) == 1 and self._format.record_oriented:
            self._enter(group.shards[0])
            known = self.known(group)
            if known.starts != group.starts:
                return Again(known)
        return None

    def check(self, group: Group, reports: Sequence[ScanReport]) -> Checked | Again:
        """Check the next group in order.

        Raises:
            BadRecordError: The first bad record of the file, with policy `error`.
            SourceError: The chain can't be closed.
        """
        starts: list[int | None] = []
        before: list[tuple[int, int]] = []
        for number, shard in enumerate(group.shards):
            if number >= len(reports):
                again = self.certain(group)
                return again or Checked(group, tuple(before), stopped=True)
            self._enter(shard)
            assert self._chain is not None  # just entered
            starts.append(self._start(shard))
            report = reports[number]
            verdict = self._chain.judge(shard, report, group.starts[number])
            if isinstance(verdict, WrongStart):
                assert len(group.shards) == 1, "only shards of a file that has several are guessed"
                return Again(Group(group.shards, (verdict.start,), (verdict.lines_before,)))
            if report.error is not None:
                rest = len(group.shards) - number - 1
                lines = [*(n for _, n in before), verdict.lines_before]
                self.met = Group(group.shards, (*starts, *[None] * rest), (*lines, *[0] * rest))
                raise report.error.located(
                    records_before=verdict.records_before, lines_before=verdict.lines_before
                )
            before.append((verdict.records_before, verdict.lines_before))
            self._reach(shard.end)
        known = Group(group.shards, tuple(starts), tuple(lines for _, lines in before))
        return Checked(known, tuple(before), stopped=False)

    def _reach(self, end: int) -> None:
        self.covered += end - self._file_covered
        self._file_covered = end

    def _enter(self, shard: Shard) -> None:
        """Go on to the file of `shard`."""
        if shard.file == self._file:
            return
        self.finish()
        self._file = shard.file
        self._file_covered = 0
        self._chain = FileChain(self._files[shard.file].path, grouped=not self._format.record_oriented)

    def finish(self) -> None:
        """Check the end of the current file's chain, after its last shard.

        Raises:
            SourceError: Its records don't reach to its end.
        """
        if self._chain is None:
            return
        size = self._files[self._file].identity.size
        if self._format.splittable:
            # Else one shard was all of it, and compressed bytes have no offsets of records.
            self._chain.finish(size)
        self._chain = None
        self._reach(size)

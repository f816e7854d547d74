"""The chain check: proof that no record is lost or read twice.

    shard      [0        64)[64       128)[128      192)
    report      first=0      first=70      first=131         first: where its first record begins
                next=70      next=131      next=192          next: of the record after its last one

Every shard's `first` must be its predecessor's `next`. A shard that had to guess where a record
begins (a newline may lie inside quotes) may have guessed wrong: it is run again from the right
offset, which the chain knows then. Shards before it were judged right, so one re-run is enough.

Two things bend the rule:

- A hole lies between the shards: it is blank, so the record after it begins where the data does
  (`Shard.fresh`), at a `next` that the predecessor couldn't know.
- A record is longer than a shard: `next` lies past the shard's end, and the shard owns nothing.

Invariant: pure; shards of one file are judged in order. `records_before` and `lines_before` count
shards that were judged right only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mmflow.errors import SourceError
from mmflow.shards.model import Shard

__all__ = ["Chained", "FileChain", "Right", "Span", "Verdict", "WrongStart"]


class Span(Protocol):
    """What the chain reads of a `formats.ScanReport`.

    `next` is at or past the shard's end, unless a bad record ended the shard (the run fails then).
    `lines` count from where the shard was started: from `first`, or, where the start was known (byte 0,
    behind a hole, or given), from there. So a header's lines count, and so do blank lines.
    """

    @property
    def first(self) -> int: ...
    @property
    def next(self) -> int: ...
    @property
    def records(self) -> int: ...
    @property
    def lines(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Chained:
    """How far the shards of a file were judged right.

    Attributes:
        next: Where the first record begins that none of them owns (group formats: its number).
        covered: Where the last of them ends.
        records: That they own.
        lines: Physical lines before `next`.
    """

    next: int = 0
    covered: int = 0
    records: int = 0
    lines: int = 0


@dataclass(frozen=True, slots=True)
class Right:
    """The shard was read right; records and lines of its file before its first record."""

    records_before: int
    lines_before: int


@dataclass(frozen=True, slots=True)
class WrongStart:
    """The shard must be run again from byte `start`, with `lines_before` as for `Right`."""

    start: int
    records_before: int
    lines_before: int


Verdict = Right | WrongStart


class FileChain:
    """The chain of one file's shards.

    Args:
        path: For messages.
        grouped: The format counts groups (Parquet, IPC), not bytes: `first` and `next` are group
            numbers, nothing is ever guessed, and there is no known end.
        chained: Goes on from here.

    >>> from types import SimpleNamespace as Report
    >>> chain = FileChain("a.csv")
    >>> chain.judge(Shard(0, 0, 64, True), Report(first=0, next=70, records=3, lines=3))
    Right(records_before=0, lines_before=0)
    >>> chain.judge(Shard(0, 64, 128), Report(first=66, next=128, records=4, lines=4))
    WrongStart(start=70, records_before=3, lines_before=3)
    >>> chain.judge(Shard(0, 64, 128), Report(first=70, next=131, records=2, lines=2), start=70)
    Right(records_before=3, lines_before=3)
    """

    def __init__(self, path: str, *, grouped: bool = False, chained: Chained = Chained()) -> None:
        self.path = path
        self.records_before = chained.records
        self.lines_before = chained.lines
        self._grouped = grouped
        self._next = chained.next
        self._covered = chained.covered

    @property
    def chained(self) -> Chained:
        """How far it has come."""
        return Chained(self._next, self._covered, self.records_before, self.lines_before)

    @property
    def next(self) -> int:
        """Where the first record begins that no judged shard owns (group formats: its number)."""
        return self._next

    def due(self, shard: Shard) -> int:
        """Where the records of `shard`, the next one to be judged, begin.

        At or past its end where it owns none. A task that starts from here is right.
        """
        return max(self._next, shard.begin)

    def judge(self, shard: Shard, report: Span, start: int | None = None) -> Verdict:
        """Judge the next shard of the file.

        Args:
            shard: The one after that judged right last.
            report: What reading it found; complete, or up to a bad record.
            start: Where the run that gave `report` was told to begin (`ScanRequest.start`); None: not told.

        Raises:
            SourceError: A report that no re-run can put right: the decoder lost its place.
        """
        assert shard.begin >= self._covered, "shards of a file are judged in order"
        assert shard.fresh or shard.begin == self._covered, "only a hole may lie between shards"
        if self._grouped:
            return self._judge_groups(shard, report)
        self._require_covered()
        due = self.due(shard)
        began = start if start is not None else shard.begin if shard.fresh else None
        if due >= shard.end:
            if report.records != 0:
                if began == due:
                    raise self._lost(shard, f"found {report.records:,} records where none begins")
                return WrongStart(due, self.records_before, self.lines_before)
            return self._accept(shard, self._next, 0, 0)
        if began != due and report.first != due:
            return WrongStart(due, self.records_before, self.lines_before)
        return self._accept(shard, report.next, report.records, report.lines)

    def _judge_groups(self, shard: Shard, report: Span) -> Verdict:
        if report.first == report.next and report.records == 0:  # owns no group
            return self._accept(shard, self._next, 0, 0)
        if report.first != self._next or report.next < report.first:
            raise self._lost(
                shard, f"read groups {report.first:,} to {report.next:,}, not from {self._next:,} on"
            )
        return self._accept(shard, report.next, report.records, report.lines)

    def _accept(self, shard: Shard, following: int, records: int, lines: int) -> Right:
        verdict = Right(self.records_before, self.lines_before)
        self.records_before += records
        self.lines_before += lines
        self._next = following
        self._covered = shard.end
        return verdict

    def finish(self, size: int) -> None:
        """Check the end of the chain, after the last shard.

        Args:
            size: Of the file, in bytes.

        Raises:
            SourceError: Records don't reach to the end of the last shard, or reach past the file's.
        """
        if self._grouped or size == 0:
            return
        self._require_covered()
        # Before `size` it may end: a file that ends in a hole has no shard there.
        if self._next > size:
            raise self._broken(f"its records chain up to byte {self._next:,}, past its end at {size:,}")

    def _require_covered(self) -> None:
        if self._next < self._covered:
            raise self._broken(
                f"the shard that ends at byte {self._covered:,} was read up to byte {self._next:,} only"
            )

    def _lost(self, shard: Shard, what: str) -> SourceError:
        return self._broken(f"the shard [{shard.begin:,}, {shard.end:,}) {what}")

    def _broken(self, what: str) -> SourceError:
        return SourceError(
            f"{self.path}: {what}; the file was written to while it was read (run again), "
            "or its decoder lost its place (report it)",
            path=self.path,
        )

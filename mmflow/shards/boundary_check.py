"""The boundary check: proof that no record is lost or read twice.

    shard      [0        64)[64       128)[128      192)
    report      first=0      first=70      first=131         first: where its first record begins
                next=70      next=131      next=192          next: where the record after its last one begins

The `first` of each shard must be the `next` of its predecessor. A shard that had to guess where a record begins (a
newline may lie inside quotes) may have guessed wrong. It is rerun from the right offset, which is known by then. The
shards before it were verified, so one rerun is enough.

Two cases need care:

- A hole lies between the shards. A hole is blank, so the record after it begins where the data does
  (`Shard.fresh`), at a `next` that the predecessor could not know.
- A record is longer than a shard: `next` lies past the shard's end, and the shard owns nothing.

Invariant: pure; the shards of one file are verified in order. `records_before` and `lines_before` count
verified shards only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from mmflow.errors import SourceError
from mmflow.lazy.dataclasses import dataclass
from mmflow.shards.model import Shard

__all__ = ["BoundaryCheck", "BoundaryReport", "StartMismatch", "Valid", "VerifiedPrefix"]


class BoundaryReport(Protocol):
    """The part of a `formats.ScanReport` that the boundary check reads.

    `next` is at or past the shard's end, unless a bad record ended the shard (the run fails then).
    `lines` are counted from the known start (byte 0, behind a hole, or `Shard.known_start`) if there is one, else from
    `first`. So the lines of a header count, and so do blank lines.
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
class VerifiedPrefix:
    """The part of a file whose shards are verified.

    Attributes:
        next: Offset of the first record that none of them owns, in bytes (row-group formats: its group number).
        covered: End of the last of them, in bytes.
        records: Records that they own.
        lines: Physical lines before `next`.
    """

    next: int = 0
    covered: int = 0
    records: int = 0
    lines: int = 0


@dataclass(frozen=True, slots=True)
class Valid:
    """A shard that was read right, with the number of records and lines of its file before its first record."""

    records_before: int
    lines_before: int


@dataclass(frozen=True, slots=True)
class StartMismatch:
    """A shard that must be rerun from byte `start`; the counts are those of `Valid`."""

    start: int
    records_before: int
    lines_before: int


class BoundaryCheck:
    """The boundary check of one file's shards.

    Args:
        path: File, for error messages.
        grouped: The format counts row groups (Parquet, IPC), not bytes: `first` and `next` are group
            numbers, no start is guessed, and the end is unknown.
        verified: Prefix of the file that was verified before.

    >>> from types import SimpleNamespace as Report
    >>> check = BoundaryCheck("a.csv")
    >>> check.verify(Shard(0, 0, 64, True), Report(first=0, next=70, records=3, lines=3))
    Valid(records_before=0, lines_before=0)
    >>> check.verify(Shard(0, 64, 128), Report(first=66, next=128, records=4, lines=4))
    StartMismatch(start=70, records_before=3, lines_before=3)
    >>> check.verify(check.known(Shard(0, 64, 128)), Report(first=70, next=131, records=2, lines=2))
    Valid(records_before=3, lines_before=3)
    """

    def __init__(self, path: str, *, grouped: bool = False, verified: VerifiedPrefix | None = None) -> None:
        verified = verified or VerifiedPrefix()
        self.path = path
        self.records_before = verified.records
        self.lines_before = verified.lines
        self._grouped = grouped
        self._next = verified.next
        self._covered = verified.covered

    @property
    def verified(self) -> VerifiedPrefix:
        """The part of the file that is verified so far."""
        return VerifiedPrefix(self._next, self._covered, self.records_before, self.lines_before)

    @property
    def next(self) -> int:
        """Offset of the first record that no verified shard owns (row-group formats: its group number)."""
        return self._next

    def expected_start(self, shard: Shard) -> int:
        """Return where the records of `shard`, the next one to verify, begin.

        The offset is at or past the end of a shard that owns no record. A scan that starts from it is valid.
        """
        return max(self._next, shard.begin)

    def known(self, shard: Shard) -> Shard:
        """Return the next shard with its start, unless that is right at its fresh begin, and the lines before it."""
        expected = self.expected_start(shard)
        start = None if shard.fresh and expected == shard.begin else expected
        if start == shard.known_start and self.lines_before == shard.lines_before:
            return shard
        return replace(shard, known_start=start, lines_before=self.lines_before)

    def verify(self, shard: Shard, report: BoundaryReport) -> Valid | StartMismatch:
        """Verify the next shard of the file.

        Args:
            shard: Shard that follows the last verified one.
            report: Report of its scan: complete, or up to a bad record.

        Raises:
            SourceError: The decoder lost its place, so no rerun can help.
        """
        assert shard.begin >= self._covered, "shards of a file are verified in order"
        assert shard.fresh or shard.begin == self._covered, "only a hole may lie between shards"
        if self._grouped:
            return self._verify_groups(shard, report)
        self._require_covered()
        expected = self.expected_start(shard)
        began = shard.begin if shard.known_start is None and shard.fresh else shard.known_start
        if expected >= shard.end:
            if report.records != 0:
                if began == expected:
                    raise self._lost(shard, f"found {report.records:,} records where none begins")
                return StartMismatch(expected, self.records_before, self.lines_before)
            return self._accept(shard, self._next, 0, 0)
        if began != expected and report.first != expected:
            return StartMismatch(expected, self.records_before, self.lines_before)
        return self._accept(shard, report.next, report.records, report.lines)

    def _verify_groups(self, shard: Shard, report: BoundaryReport) -> Valid:
        if report.first == report.next and report.records == 0:  # owns no group
            return self._accept(shard, self._next, 0, 0)
        if report.first != self._next or report.next < report.first:
            raise self._lost(
                shard, f"read groups {report.first:,} to {report.next:,}, not from {self._next:,} on"
            )
        return self._accept(shard, report.next, report.records, report.lines)

    def _accept(self, shard: Shard, following: int, records: int, lines: int) -> Valid:
        valid = Valid(self.records_before, self.lines_before)
        self.records_before += records
        self.lines_before += lines
        self._next = following
        self._covered = shard.end
        return valid

    def finish(self, size: int) -> None:
        """Check that the records end with the file, after its last shard.

        Args:
            size: Size of the file, in bytes.

        Raises:
            SourceError: The records end before the last shard does, or past the end of the file.
        """
        if self._grouped:
            return
        self._require_covered()
        # Ending before `size` is right: a file that ends in a hole has no shard there.
        if self._next > size:
            raise self._broken(f"its records reach up to byte {self._next:,}, past its end at {size:,}")

    def _require_covered(self) -> None:
        if self._next < self._covered:
            raise self._broken(
                f"the shard that ends at byte {self._covered:,} was read up to byte {self._next:,} only"
            )

    def _lost(self, shard: Shard, reason: str) -> SourceError:
        return self._broken(f"the shard [{shard.begin:,}, {shard.end:,}) {reason}")

    def _broken(self, reason: str) -> SourceError:
        return SourceError(
            f"{self.path}: {reason}; the file was written to while it was read (run again), "
            "or its decoder lost its place (report it)",
            path=self.path,
        )

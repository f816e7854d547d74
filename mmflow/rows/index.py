"""Record index of a file: where some records begin, and how many rows precede them.

    file       |header|row 0 ... row 411|row 412 ... row 900|......hole......|row 901 ...
    starts            ^                 ^                   ^                ^
    rows              0                 412                 901              901
    lines             1                 413                 902              902

The index is sparse: intervals are at least `SPACING` bytes long, so 24 bytes for each are less than 0.1% of the file.
It is extended from the file's start as far as needed.

Invariant: intervals begin where a row's record does (or blanks, or a bad record that is no row), and tile the file from
the first record up to `end`; the boundary check has verified it.
"""

from __future__ import annotations

from dataclasses import field, replace

import numpy as np

from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass
from mmflow.shards import VerifiedPrefix

__all__ = ["SPACING", "RecordIndex", "ShardIntervals"]

I64 = npt.NDArray[np.int64]

#: Bytes between two entries, at least.
SPACING = 32 << 10


@dataclass(frozen=True, slots=True)
class ShardIntervals:
    """Intervals of one shard: their starts, with the rows and lines between the shard's first record and each."""

    starts: list[int]
    rows: list[int]
    lines: list[int]
    total: int


@dataclass(frozen=True, slots=True)
class RecordIndex:
    """Intervals of a file, in order.

    Attributes:
        starts: Offset in bytes at which each begins, shape (n,).
        rows: Rows of the file before each, shape (n,).
        lines: Physical lines before each, shape (n,).
        total: Rows before `end`.
        verified: Prefix of the file that is verified; `end` is its `next`.
        complete: Nothing lies behind `end`.
    """

    starts: I64
    rows: I64
    lines: I64
    total: int = 0
    verified: VerifiedPrefix = field(default_factory=VerifiedPrefix)
    complete: bool = False

    @classmethod
    def empty(cls) -> RecordIndex:
        """Return an index that covers nothing."""
        none = np.empty(0, np.int64)
        return cls(none, none, none)

    @property
    def end(self) -> int:
        """Offset behind the last interval."""
        return self.verified.next

    @property
    def nbytes(self) -> int:
        return int(self.starts.nbytes + self.rows.nbytes + self.lines.nbytes)

    def ends(self) -> I64:
        """Return the offset behind each interval, shape (n,)."""
        return np.append(self.starts[1:], self.end)

    def rows_after(self) -> I64:
        """Return the rows of the file up to the end of each interval, shape (n,)."""
        return np.append(self.rows[1:], self.total)

    def interval(self, numbers: I64) -> I64:
        """Return the interval of each row number, all of which must be below `total`."""
        return np.searchsorted(self.rows, numbers, side="right") - 1

    def is_plausible(self, size: int) -> bool:
        """Return whether this can be the index of a file of `size` bytes."""
        if not len(self.starts):
            return self.total == 0
        rising = (self.starts[1:] > self.starts[:-1]).all() and (self.rows[1:] >= self.rows[:-1]).all()
        inside = self.starts[0] >= 0 and self.starts[-1] <= self.end <= size
        return bool(rising and inside and self.rows[0] == 0 and self.rows[-1] <= self.total)

    def extended_by(
        self, found: list[tuple[ShardIntervals, VerifiedPrefix]], verified: VerifiedPrefix, *, complete: bool
    ) -> RecordIndex:
        """Return the index with the intervals of further shards, each with the prefix that was verified before it."""
        starts: list[int] = []
        rows: list[int] = []
        lines: list[int] = []
        total = self.total
        last = int(self.starts[-1]) if len(self.starts) else -SPACING
        for intervals, before in found:
            behind_hole = total > 0 and len(intervals.starts) > 0 and intervals.starts[0] > before.next
            if behind_hole and before.next > last:
                # An interval without rows, so that the hole is never read.
                starts.append(before.next)
                rows.append(total)
                lines.append(before.lines)
            for start, row, line in zip(intervals.starts, intervals.rows, intervals.lines, strict=True):
                if start - last >= SPACING or (behind_hole and row == 0):
                    starts.append(start)
                    rows.append(total + row)
                    lines.append(before.lines + line)
                    last = start
            total += intervals.total
        return replace(
            self,
            starts=np.concatenate([self.starts, np.array(starts, np.int64)]),
            rows=np.concatenate([self.rows, np.array(rows, np.int64)]),
            lines=np.concatenate([self.lines, np.array(lines, np.int64)]),
            total=total,
            verified=verified,
            complete=complete,
        )

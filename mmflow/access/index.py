"""The record index of a file: where some records begin, and how many rows lie before them.

    file       |header|row 0 ... row 411|row 412 ... row 900|......hole......|row 901 ...
    starts            ^                 ^                   ^                ^
    rows              0                 412                 901              901
    lines             1                 413                 902              902

Sparse: intervals are `SPACING` bytes long or more, so 24 bytes for each are less than 0.1% of the file. It grows from
the file's start as far as somebody needs it.

Invariant: intervals begin where a row's record does (or blanks, or a bad record that is no row), and tile the file from
the first record up to `end`: the chain check proved it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mmflow.shards import Chained

__all__ = ["SPACING", "Marks", "RecordIndex"]

I64 = npt.NDArray[np.int64]

#: Bytes between two entries, at least.
SPACING = 32 << 10


@dataclass(frozen=True, slots=True)
class Marks:
    """What a scan found of a shard: starts of intervals, and rows and lines between its first record and these."""

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
        chained: Up to where; `end` is its `next`.
        complete: Nothing lies behind `end`.
    """

    starts: I64
    rows: I64
    lines: I64
    total: int = 0
    chained: Chained = field(default_factory=Chained)
    complete: bool = False

    @classmethod
    def empty(cls) -> RecordIndex:
        """Of nothing yet."""
        none = np.empty(0, np.int64)
        return cls(none, none, none)

    @property
    def end(self) -> int:
        """Offset behind the last interval."""
        return self.chained.next

    @property
    def nbytes(self) -> int:
        return int(self.starts.nbytes + self.rows.nbytes + self.lines.nbytes)

    def ends(self) -> I64:
        """Offset behind each interval, shape (n,)."""
        return np.append(self.starts[1:], self.end)

    def rows_after(self) -> I64:
        """Rows of the file up to the end of each interval, shape (n,)."""
        return np.append(self.rows[1:], self.total)

    def interval(self, numbers: I64) -> I64:
        """The interval of each row, which must be below `total`."""
        return np.searchsorted(self.rows, numbers, side="right") - 1

    def plausible(self, size: int) -> bool:
        """May this be the index of a file of `size` bytes?"""
        if not len(self.starts):
            return self.total == 0
        rising = (self.starts[1:] > self.starts[:-1]).all() and (self.rows[1:] >= self.rows[:-1]).all()
        inside = self.starts[0] >= 0 and self.starts[-1] <= self.end <= size
        return bool(rising and inside and self.rows[0] == 0 and self.rows[-1] <= self.total)

    def grown(self, found: list[tuple[Marks, Chained]], chained: Chained, *, complete: bool) -> RecordIndex:
        """The index with the marks of further shards, each with the chain as it was before it."""
        starts: list[int] = []
        rows: list[int] = []
        lines: list[int] = []
        total = self.total
        last = int(self.starts[-1]) if len(self.starts) else -SPACING
        for marks, before in found:
            behind_hole = total > 0 and len(marks.starts) > 0 and marks.starts[0] > before.next
            if behind_hole and before.next > last:
                # An interval without rows, so that nobody reads the hole.
                starts.append(before.next)
                rows.append(total)
                lines.append(before.lines)
            for start, row, line in zip(marks.starts, marks.rows, marks.lines, strict=True):
                if start - last >= SPACING or (behind_hole and row == 0):
                    starts.append(start)
                    rows.append(total + row)
                    lines.append(before.lines + line)
                    last = start
            total += marks.total
        return replace(
            self,
            starts=np.concatenate([self.starts, np.array(starts, np.int64)]),
            rows=np.concatenate([self.rows, np.array(rows, np.int64)]),
            lines=np.concatenate([self.lines, np.array(lines, np.int64)]),
            total=total,
            chained=chained,
            complete=complete,
        )

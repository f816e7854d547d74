"""Ranges of blocks: pure arithmetic.

A block is what the cache knows as there or not; a range `(first, last)` of them excludes `last`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mmflow.lazy import array_types as npt

__all__ = ["BLOCK", "Range", "absent_ranges", "blocks_of", "join_ranges", "split_ranges"]

#: Bytes of a block: small enough for a single record to be cheap, and a multiple of any page size.
BLOCK = 64 << 10
#: Blocks between two ranges up to so many are fetched along: less than what another request costs.
_GAP = 4

Range = tuple[int, int]


def blocks_of(offset: int, length: int) -> Range:
    """Return the blocks that hold bytes `[offset, offset + length)`."""
    return offset // BLOCK, -(-(offset + length) // BLOCK)


def join_ranges(ranges: Iterable[Range], gap: int = _GAP) -> list[Range]:
    """Return the ranges in order, with those that lie close together joined.

    >>> join_ranges([(9, 12), (0, 2), (3, 4), (20, 20)], gap=2)
    [(0, 4), (9, 12)]
    """
    made: list[Range] = []
    for first, last in sorted(r for r in ranges if r[0] < r[1]):
        if made and first - made[-1][1] <= gap:
            made[-1] = made[-1][0], max(made[-1][1], last)
        else:
            made.append((first, last))
    return made


def absent_ranges(present: npt.NDArray[np.uint8], ranges: Sequence[Range]) -> list[Range]:
    """Return the parts of the ranges that are absent.

    >>> absent_ranges(np.array([1, 0, 0, 1, 0], np.uint8), [(0, 2), (2, 5)])
    [(1, 2), (2, 3), (4, 5)]
    """
    found: list[Range] = []
    for first, last in ranges:
        missing = np.flatnonzero(present[first:last] == 0) + first
        if len(missing):
            cuts = np.flatnonzero(np.diff(missing) != 1) + 1
            found += [(int(run[0]), int(run[-1]) + 1) for run in np.split(missing, cuts)]
    return found


def split_ranges(ranges: Iterable[Range], most: int) -> Iterator[Range]:
    """Return the ranges in pieces of at most `most` blocks."""
    for first, last in ranges:
        for begin in range(first, last, most):
            yield begin, min(begin + most, last)

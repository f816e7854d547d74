"""Cutting of lines at positions, which are counted in characters, as pandas does.

Lines of ASCII are cut by their bytes; pieces with other characters by pyarrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.formats.decoding.views import views_over
from mmflow.formats.fwf.options import END
from mmflow.formats.text.splitting import Split
from mmflow.lazy import array_types as npt
from mmflow.lazy import compute as pc
from mmflow.lazy.dataclasses import dataclass

__all__ = ["FixedSplitter", "infer_spans"]

_SPACE = 32


@dataclass(frozen=True, slots=True)
class FixedSplitter:
    """Cuts lines into columns, without the blanks around their texts.

    Attributes:
        names: Names of the columns.
        spans: Positions of each: the first character, and the one behind the last.
        short: A line that ends before its last column begins has nulls there; else it is bad.
        gaps: Text between the columns makes a bad record.
    """

    names: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    short: bool = False
    gaps: bool = False
    verbatim: bool = True

    def split(self, lines: pa.Array, wanted: tuple[str, ...]) -> Split:
        offsets = _offsets(lines)
        buffer = lines.buffers()[2] or pa.py_buffer(b"")
        text = np.frombuffer(buffer, np.uint8)[offsets[0] : offsets[-1]]
        ascii_only = not len(text) or int(text.max()) < 128
        sizes = np.diff(offsets) if ascii_only else numpy_values(pc.utf8_length(lines)).astype(np.int64)
        blank = numpy_values(pc.equal(pc.binary_length(pc.utf8_trim(lines, " \t")), pa.scalar(0, pa.int32())))
        texts = {}
        for name, (begin, end) in zip(self.names, self.spans, strict=True):
            if name not in wanted:
                continue
            found = (
                _cut(buffer, offsets, begin, end)
                if ascii_only
                else pc.utf8_slice_codeunits(lines, begin, end)
            )
            texts[name] = pc.utf8_trim(found, " \t")
        bad: dict[int, str] = {}
        last = max(begin for begin, _ in self.spans)
        if not self.short:
            for row in np.flatnonzero((sizes <= last) & ~blank).tolist():
                bad[row] = (
                    f"the line has {int(sizes[row]):,} characters, and its last column begins behind {last:,}; "
                    "ragged=null gives nulls there"
                )
        for begin, end in _gaps(self.spans) if self.gaps else ():
            found = (
                _cut(buffer, offsets, begin, end)
                if ascii_only
                else pc.utf8_slice_codeunits(lines, begin, end)
            )
            used = numpy_values(pc.not_equal(pc.utf8_trim(found, " "), pa.scalar("", pa.string())))
            for row in np.flatnonzero(used & ~blank).tolist():
                bad.setdefault(
                    row,
                    f"text stands between the columns that were inferred, behind character {begin:,}; give colspecs=",
                )
        return Split(texts, bad, blank if blank.any() else None)


def _offsets(lines: pa.Array) -> npt.NDArray[np.int64]:
    found = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return found.astype(np.int64)


def _cut(buffer: pa.Buffer, offsets: npt.NDArray[np.int64], begin: int, end: int) -> pa.Array:
    """Return the bytes between two positions of each line."""
    starts = np.minimum(offsets[:-1] + begin, offsets[1:])
    lengths = np.minimum(offsets[:-1] + end, offsets[1:]) - starts
    return views_over(buffer, np.where(lengths > 0, starts, 0), lengths, pa.string_view()).cast(pa.string())


def _gaps(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the positions that no column has."""
    found, at = [], 0
    for begin, end in sorted(spans):
        if begin > at:
            found.append((at, begin))
        at = max(at, end)
    return [*found, (at, END)] if at < END else found


def infer_spans(lines: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the positions of columns: those between the characters that are blank in every line.

    >>> infer_spans(["id  name", " 1  Ada", "20  Bo"])
    ((0, 2), (4, 8))
    """
    width = max(map(len, lines), default=0)
    used = np.zeros(width, np.bool_)
    for line in lines:
        used[: len(line)] |= np.frombuffer(line.encode("utf-32-le"), np.uint32) != _SPACE
    edges = np.flatnonzero(np.diff(np.concatenate([[False], used, [False]]).astype(np.int8)))
    return tuple((int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))

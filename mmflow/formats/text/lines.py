"""Lines of text: the reference decoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mmflow.formats.base import BadRecordPolicy, Comparison
from mmflow.formats.decoding.decoder import BadValue, Decoded, RecordDecoder
from mmflow.formats.decoding.views import set_nulls, views_over
from mmflow.formats.encodings.invalid import invalid_reason
from mmflow.formats.text.kernel import text_decoder

__all__ = ["TextDecoder", "line_decoder"]

_NEWLINE, _RETURN = 10, 13


class TextDecoder:
    """`RecordDecoder` for lines. Every line is a row, empty ones too; NULs before a line are not part of it."""

    skips_nuls = True

    def __init__(self, columns: tuple[str, ...], policy: BadRecordPolicy) -> None:
        self.columns = columns
        self._policy = policy

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        raw = np.frombuffer(data, np.uint8)
        newlines = np.flatnonzero(raw == _NEWLINE)
        starts = np.concatenate([[0], newlines + 1]).astype(np.int64)
        ends = newlines
        if final and starts[-1] < len(raw):
            ends = np.append(newlines, len(raw))
        starts = starts[: len(ends)]
        nexts = np.minimum(ends + 1, len(raw))
        kept = int(np.searchsorted(starts, stop))
        starts, ends, nexts = starts[:kept], ends[:kept].astype(np.int64), nexts[:kept]
        consumed = int(nexts[-1]) if kept else 0
        if not kept and len(raw) and not raw[:stop].any():
            consumed = min(stop, len(raw))  # a hole
        ends = ends - ((ends > starts) & (raw[np.maximum(ends - 1, 0)] == _RETURN))
        starts, ends = _without_nuls(raw, starts, ends)
        lines = int(np.searchsorted(newlines, consumed))
        bad = self._invalid(data, starts, ends, newlines)
        keep = np.ones(len(starts), np.bool_)
        if bad and self._policy == "error":
            bad = bad[:1]
            keep[bad[0].record :] = False
        elif bad and self._policy != "null":
            keep[[b.record for b in bad]] = False
        records = len(starts)
        starts, ends = starts[keep], ends[keep]
        if self.columns:
            array = views_over(data, starts, ends - starts, pa.string_view())
            if bad and self._policy == "null":
                wrong = np.zeros(records, np.bool_)
                wrong[[b.record for b in bad]] = True
                array = set_nulls(array, wrong)
            batch = pa.RecordBatch.from_arrays([array], names=["line"])
        else:
            batch = pa.RecordBatch.from_arrays([pa.nulls(len(starts))], names=["rows"]).select([])
        decoded = Decoded(batch, consumed, records, lines, bad=bad)
        if located:
            decoded.offsets = starts
            decoded.located_lines = np.searchsorted(newlines, starts)
        return decoded

    def _invalid(
        self, data: pa.Buffer, starts: np.ndarray, ends: np.ndarray, newlines: np.ndarray
    ) -> list[BadValue]:
        """Return lines that are not UTF-8. A newline never lies inside a character, so the whole is checked first."""
        try:
            str(memoryview(data), "utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return []
        found: list[BadValue] = []
        for index, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            text = data.slice(start, end - start).to_pybytes()
            try:
                text.decode()
            except UnicodeDecodeError as error:
                line = int(np.searchsorted(newlines, start))
                reason = invalid_reason(text, "utf-8", error.start, advise=not found)
                dropped = self._policy != "null"
                found.append(
                    BadValue(start, end - start, index, line, "line", None, reason, dropped, not_text=True)
                )
                if self._policy == "error":
                    break
        return found


def _without_nuls(raw: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lines without the NULs before them. Lines of nothing else are holes, and dropped."""
    if not len(starts):
        return starts, ends
    padded = np.flatnonzero((ends > starts) & (raw[np.minimum(starts, len(raw) - 1)] == 0))
    if not len(padded):
        return starts, ends
    starts, keep = starts.copy(), np.ones(len(starts), np.bool_)
    for index in padded:
        used = np.flatnonzero(raw[starts[index] : ends[index]])
        if len(used):
            starts[index] += used[0]
        else:
            keep[index] = False
    return starts[keep], ends[keep]


def line_decoder(prune: Sequence[Comparison]) -> RecordDecoder:
    """Return a decoder of the column `line` that gives null for lines that are not UTF-8.

    Args:
        prune: Lines that don't meet these conditions may be left out.
    """
    return text_decoder(TextDecoder(("line",), "null"), prune)

"""Decoder of text in other encodings: the bytes are translated to UTF-8, and another decoder decodes that.

    raw bytes --translate--> UTF-8 --inner decoder--> rows, offsets in UTF-8 --raw_offsets--> offsets in raw bytes

So whatever a decoder knows (filters, nulls, quotes, escapes) is written once, in UTF-8, while records, rejects and the
boundary check stay in bytes of the file.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from mmflow.formats.base import BadRecordPolicy
from mmflow.formats.decoding.decoder import I64, BadValue, Decoded, RecordDecoder
from mmflow.formats.encodings.encoding import Encoding
from mmflow.formats.encodings.invalid import invalid_reason
from mmflow.formats.encodings.tables import MARK
from mmflow.formats.encodings.translation import Translated, translator_of

__all__ = ["TranslatingDecoder"]

_EXCERPT = 120


class TranslatingDecoder:
    """`RecordDecoder` for text in an encoding.

    Args:
        inner: Decoder of UTF-8.
        encoding: Encoding of the file; of wide ones, with its order of bytes.
        policy: Policy for bad records, as of `inner`.
    """

    def __init__(self, inner: RecordDecoder, encoding: Encoding, policy: BadRecordPolicy) -> None:
        self.columns = inner.columns
        self.skips_nuls = inner.skips_nuls
        self._inner = inner
        self._encoding = encoding
        self._policy = policy
        self._translator = translator_of(encoding)

    def begin_behind(self, head: bytes) -> None:
        """Begin behind the first bytes of a file, for encodings with a state."""
        if head and self._encoding.stateful:
            self._translator.translate(pa.py_buffer(head), final=False)
            self._translator.advance(len(head))

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        found = self._translator.translate(data, final=final)
        text = found.text
        end = text.size + 1 if stop >= data.size else self._text_offset(data, stop)
        parts: list[tuple[Decoded, int]] = []
        done = 0
        # Where the inner decoder stops early (its fallback does), it goes on in the same translation.
        while not parts or done < min(end, text.size):
            decoded = self._inner.decode(text.slice(done), end - done, final=final, located=located)
            if parts and not decoded.consumed and not decoded.bad:
                break
            parts.append((decoded, done))
            done += decoded.consumed
            if not decoded.consumed or (decoded.bad and self._policy == "error"):
                break
        joined = _join(parts)
        joined.bad = self._located_bad(data, found, joined.bad)
        joined.repairs = self._located_bad(data, found, list(joined.repairs))
        joined.consumed = found.raw_offset(done)
        if joined.offsets is not None and text is not data:
            joined.offsets = found.raw_offsets(joined.offsets)
        self._translator.advance(joined.consumed)
        return joined

    def _text_offset(self, data: pa.Buffer, stop: int) -> int:
        """Return the offset in the text before which the characters begin that begin before `stop`."""
        before = self._translator.translate(data.slice(0, stop), final=False)
        return int(before.text.size) + (before.consumed < stop)

    def _located_bad(self, data: pa.Buffer, found: Translated, bad: list[BadValue]) -> list[BadValue]:
        if not bad:
            return []
        text = found.text
        edges = np.array([[b.offset, b.offset + b.length] for b in bad], np.int64)
        places = np.unique(edges)
        raw = dict(zip(places.tolist(), found.raw_offsets(places).tolist(), strict=True))
        if text.size in raw:
            raw[text.size] = found.consumed
        made: list[BadValue] = []
        for one, (begin, end) in zip(bad, edges.tolist(), strict=True):
            record = text.slice(begin, end - begin).to_pybytes()
            advise = not made
            reason = (
                self._reason(data, found, begin, record, raw, advise=advise) if one.not_text else one.reason
            )
            moved = replace(one, offset=raw[begin], length=raw[end] - raw[begin], reason=reason)
            made.append(replace(moved, excerpt=record[:_EXCERPT]) if self._encoding.unit > 1 else moved)
        return made

    def _reason(
        self,
        data: pa.Buffer,
        found: Translated,
        begin: int,
        record: bytes,
        raw: dict[int, int],
        *,
        advise: bool,
    ) -> str:
        """Return the reason for a record with bytes that are no character."""
        start, end = raw[begin], raw[begin + len(record)]
        wrong = record.find(MARK)
        at = found.raw_offset(begin + max(wrong, 0)) - start
        sample = data.slice(start, end - start).to_pybytes()
        return invalid_reason(sample, self._encoding.name, at, " of the record", advise=advise)


def _behind(joined: Decoded, bad: BadValue, begin: int) -> BadValue:
    """Return a bad value of a part that begins at a byte, behind what has been joined."""
    line = None if bad.line is None else bad.line + joined.lines
    return replace(bad, offset=bad.offset + begin, record=bad.record + joined.records, line=line)


def _join(parts: list[tuple[Decoded, int]]) -> Decoded:
    """Join what consecutive calls of a decoder gave; each with the offset at which it began."""
    if len(parts) == 1:
        return parts[0][0]
    first = parts[0][0]
    names = first.batch.schema.names
    rows = sum(p.batch.num_rows for p, _ in parts)
    if names:
        arrays = [pa.concat_arrays([p.batch.column(i) for p, _ in parts]) for i in range(len(names))]
        batch = pa.RecordBatch.from_arrays(arrays, names=names)
    else:
        batch = pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["rows"]).select([])
    joined = Decoded(batch, 0, 0, 0)
    offsets: list[I64] = []
    lines: list[I64] = []
    repairs: list[BadValue] = []
    for part, begin in parts:
        joined.bad += [_behind(joined, b, begin) for b in part.bad]
        joined.repaired += part.repaired
        repairs += [_behind(joined, b, begin) for b in part.repairs]
        if part.offsets is not None:
            found = part.line_numbers
            assert found is not None
            offsets.append(part.offsets + begin)
            lines.append(found + joined.lines)
        joined.records += part.records
        joined.lines += part.lines
    joined.repairs = repairs
    if offsets:
        joined.offsets, joined.located_lines = np.concatenate(offsets), np.concatenate(lines)
    return joined

"""Decoder of odd CSV: the kernel `normalise` makes the records canonical, and the decoder of plain CSV reads those.

    raw window --normalise--> canonical text --CsvDecoder or kernel--> rows
               --pieces, broken records, repairs--> offsets, lines and reasons in the raw window

Invariant: offsets and lines that leave this module are those of the raw bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from mmflow.formats.base import BadRecordPolicy
from mmflow.formats.csv.normal import REPAIRS
from mmflow.formats.csv.structure import BLANKS, BROKEN, Dialect, structure_advice
from mmflow.formats.csv.values import convert_text
from mmflow.formats.decoding.decoder import I64, BadValue, Decoded, RecordDecoder
from mmflow.formats.decoding.lines import line_breaks
from mmflow.kernels import kernels
from mmflow.lazy import array_types as npt
from mmflow.lazy.dataclasses import dataclass

__all__ = ["NULL_TEXT", "NormalisingDecoder", "canonical_dialect", "kernel_arguments"]

#: Unquoted text that means null in canonical text.
NULL_TEXT = "\x1d"
_UNIT, _RECORD = b"\x1f", b"\x1e"  # delimiter and quote of canonical text that can't have the file's own
_WRONG_COUNT = 4
_COMMENT = ord("#")
_ROOM = 1 << 16
_DESCRIBED = 100  # repairs of a window, which is as many as a report keeps


def canonical_dialect(dialect: Dialect) -> Dialect:
    """Return the dialect of canonical text: the file's own delimiter and quote, where they are single bytes."""
    delimiter = dialect.delimiter if len(dialect.delimiter) == 1 else _UNIT
    return Dialect(delimiter, dialect.quote or _RECORD)


def kernel_arguments(
    dialect: Dialect, fields: int, *, extra: bool, policy: BadRecordPolicy
) -> tuple[object, ...]:
    """Return the arguments of the kernel's `CsvNormaliser`.

    Args:
        dialect: Dialect of the file.
        fields: Number of its columns, without the extra one.
        extra: Surplus fields are a column.
        policy: Policy for bad records.
    """
    made = canonical_dialect(dialect)
    assert made.quote is not None
    fills = dialect.ragged != "error" or dialect.lenient
    cuts = dialect.ragged in ("truncate", "extra") or dialect.lenient
    flags = [
        dialect.trim, dialect.lenient, dialect.returns, dialect.trailing, fills, cuts, extra, policy == "null",
        policy == "error",
    ]  # fmt: skip
    return (
        fields, b"" if dialect.delimiter == BLANKS else dialect.delimiter, dialect.quote[0] if dialect.quote else -1,
        dialect.escape[0] if dialect.escape else -1, dialect.comment, flags, made.delimiter[0], made.quote[0],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Tables:
    """Outcome of the raw records of one window: columns as in `kernels/csv/normal.h`."""

    pieces: I64
    broken: I64
    repairs: I64

    def raw(self, offsets: I64) -> I64:
        """Return raw offsets of canonical records."""
        piece = self.pieces[np.searchsorted(self.pieces[:, 0], offsets, side="right") - 1]
        return piece[:, 1] + (offsets - piece[:, 0]) * piece[:, 3]

    def end(self, offset: int, length: int) -> int:
        """Return the raw end of a canonical record."""
        piece = self.pieces[int(np.searchsorted(self.pieces[:, 0], offset, side="right")) - 1]
        return int(piece[1] + offset - piece[0] + length) if piece[3] else int(piece[2])


class NormalisingDecoder:
    """`RecordDecoder` of odd CSV.

    Args:
        inner: Decoder of canonical text, of the wanted columns.
        dialect: Dialect of the file.
        names: Columns of the file, without the extra one.
        extra: Column of surplus fields and its type; None: it is not read.
        policy: Policy for bad records.
    """

    skips_nuls = True

    def __init__(
        self,
        inner: RecordDecoder,
        dialect: Dialect,
        names: tuple[str, ...],
        extra: tuple[str, pa.DataType] | None,
        policy: BadRecordPolicy,
    ) -> None:
        self.columns = inner.columns
        self.returns = dialect.returns
        self._inner, self._dialect, self._names, self._extra, self._policy = (
            inner,
            dialect,
            names,
            extra,
            policy,
        )
        arguments = kernel_arguments(dialect, len(names), extra=extra is not None, policy=policy)
        self._kernel = kernels().CsvNormaliser(*arguments)

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        capacity = data.size + data.size // 8 + _ROOM
        while True:
            out = pa.allocate_buffer(capacity)
            consumed, size, records, lines, needed, *tables = self._kernel.normalise(
                data.address, data.size, stop, final, out.address, capacity
            )
            if not needed:
                break
            capacity = needed + _ROOM
        pieces, broken, repairs = (
            np.frombuffer(table, np.int64).reshape(-1, width)
            for table, width in zip(tables, (4, 5, 6), strict=True)
        )
        found = _Tables(pieces, broken, repairs)
        decoded = self._decode_all(out.slice(0, size), located)
        raw = np.frombuffer(data, np.uint8)[:consumed]
        breaks: list[I64] = []

        def lines_before(offsets: I64) -> I64:
            if not breaks:
                breaks.append(line_breaks(raw, returns=self.returns))
            return np.searchsorted(breaks[0], offsets)

        bad = self._bad(found, decoded.bad, raw, lines_before)
        if decoded.offsets is not None:
            decoded.offsets = found.raw(decoded.offsets)
            decoded.located_lines = _later(lines_before, decoded.offsets)
        decoded.consumed, decoded.records, decoded.lines, decoded.bad = consumed, records, lines, bad
        if bad and self._policy == "error":
            repairs = repairs[repairs[:, 0] < bad[0].offset]
        decoded.repaired = len(repairs)
        decoded.repairs = (self._repair(row, lines_before) for row in repairs[:_DESCRIBED].tolist())
        if self._extra is not None and self._extra[0] in self.columns:
            decoded.batch = _with_extra(decoded.batch, *self._extra)
        return decoded

    def _decode_all(self, text: pa.Buffer, located: bool) -> Decoded:
        """Decode canonical text, all of it unless a bad record ends the scan."""
        parts: list[Decoded] = []
        done = 0
        while done < text.size or not parts:
            part = self._inner.decode(text.slice(done), text.size - done, final=True, located=located)
            if part.offsets is not None:
                part.offsets = part.offsets + done
            records = sum(p.records for p in parts)
            part.bad = [replace(b, offset=b.offset + done, record=b.record + records) for b in part.bad]
            parts.append(part)
            done += part.consumed
            if part.bad and self._policy == "error":
                break
            assert part.consumed or not text.size, "canonical text consists of whole records"
        if len(parts) == 1:
            return parts[0]
        joined = Decoded(pa.concat_batches([p.batch for p in parts]), done, 0, 0)
        joined.bad = [b for p in parts for b in p.bad]
        if located:
            joined.offsets = np.concatenate([p.offsets for p in parts if p.offsets is not None])
        return joined

    def _bad(
        self, found: _Tables, inner: list[BadValue], raw: npt.NDArray[np.uint8], lines: Callable[[I64], I64]
    ) -> list[BadValue]:
        """Return the broken records and those with bad values, in order, with their raw places."""
        made = [self._broken(row, raw, lines) for row in found.broken.tolist()]
        dropped = found.broken[:, 4] if self._policy != "null" else found.broken[:0, 4]
        for bad in inner:
            begin = int(found.raw(np.array([bad.offset]))[0])
            # Broken records that were dropped are not among the canonical ones.
            record = bad.record
            for number in dropped.tolist():
                if number > record:
                    break
                record += 1
            line = int(lines(np.array([begin]))[0])
            length = found.end(bad.offset, bad.length) - begin
            made.append(replace(bad, offset=begin, length=length, record=record, line=line))
        made.sort(key=lambda b: b.record)
        return made[:1] if self._policy == "error" else made

    def _broken(self, row: list[int], raw: npt.NDArray[np.uint8], lines: Callable[[I64], I64]) -> BadValue:
        begin, end, code, fields, record = row
        broken = 0 if code == _WRONG_COUNT else code
        counts = (len(self._names), fields)
        reason = BROKEN[broken] if broken else "expected {:,} fields, found {:,}".format(*counts)
        if self._policy == "error":
            reason += structure_advice(broken, *counts, commented=raw[begin] == _COMMENT)
        line = int(lines(np.array([begin]))[0])
        return BadValue(begin, end - begin, record, line, None, None, reason, self._policy != "null")

    def _repair(self, row: list[int], lines: Callable[[I64], I64]) -> BadValue:
        begin, end, record, field, kind, fields = row
        column = self._names[field] if field < len(self._names) else None
        reason = REPAIRS[kind]
        if kind in (6, 7, 8):
            reason += f": expected {len(self._names):,} fields, found {fields:,}"
        return BadValue(
            begin, end - begin, record, int(lines(np.array([begin]))[0]), column, None, reason, False
        )


def _later(lines: Callable[[I64], I64], offsets: I64) -> Callable[[], I64]:
    return lambda: lines(offsets)


def _with_extra(batch: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.RecordBatch:
    """Return a batch with its column of JSON texts as one of lists."""
    index = batch.schema.names.index(name)
    return batch.set_column(index, pa.field(name, kind), convert_text(batch.column(index), kind))

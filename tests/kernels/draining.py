"""What a decoder gives in as many calls as it takes, in a form that is equal only if all of it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from mmflow.formats.decoder import BadValue, RecordDecoder

__all__ = ["drained", "plain"]


def drained(decoder: RecordDecoder, data: pa.Buffer, stop: int, *, final: bool) -> tuple[Any, ...]:
    """All rows, counts and bad records up to `stop`, however many calls it takes."""
    at = records = lines = 0
    rows: list[tuple[object, ...]] = []
    bad: list[BadValue] = []
    while at < min(stop, data.size):
        decoded = decoder.decode(data.slice(at), stop - at, final=final, located=True)
        decoded.batch.validate(full=True)
        assert decoded.offsets is not None
        assert decoded.line_numbers is not None
        columns = [plain(column) for column in decoded.batch.columns]
        columns += [(decoded.offsets + at).tolist(), (decoded.line_numbers + lines).tolist()]
        assert {len(c) for c in columns} == {decoded.batch.num_rows}
        rows += zip(*columns, strict=True)
        bad += [
            replace(b, offset=b.offset + at, record=b.record + records, line=b.line + lines)
            for b in decoded.bad
        ]
        if _stops(decoder) and decoded.bad:
            return rows, bad  # how far it had looked beyond says nothing
        if not decoded.consumed:
            break
        at += decoded.consumed
        records += decoded.records
        lines += decoded.lines
    return rows, at, records, lines, bad


def _stops(decoder: Any) -> bool:
    return bool(getattr(getattr(decoder, "_odd", None), "_reference", decoder)._policy == "error")


def plain(column: pa.Array) -> list[object]:
    """Values that are equal only if every bit is; times as numbers, since Python's have no year 0."""
    if pa.types.is_temporal(column.type):
        column = column.view(pa.int32() if column.type.bit_width == 32 else pa.int64())
    return [v.hex() if isinstance(v, float) else v for v in column.to_pylist()]

"""Results of a decoder over as many calls as it needs, in a form that is equal only if all values are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa

from mmflow import _kernels
from mmflow.formats.decoding.decoder import BadValue, Decoded, RecordDecoder
from mmflow.formats.decoding.kernel_types import KernelDecoder

__all__ = ["agree", "drained", "plain"]


class Remembered:
    """Reference decoder that decodes the same bytes once for all instruction sets."""

    skips_nuls = True

    def __init__(self, reference: Any) -> None:
        self._reference = reference
        self.columns = reference.columns
        self._policy = reference._policy
        self._decoded: dict[tuple[bytes, int, bool, bool], Decoded] = {}

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        """Return the reference's result."""
        key = (data.to_pybytes(), stop, final, located)
        if key not in self._decoded:
            self._decoded[key] = self._reference.decode(data, stop, final=final, located=located)
        return self._decoded[key]


def agree(
    reference: RecordDecoder, native: Callable[[], object], data: pa.Buffer, stop: int, *, final: bool
) -> None:
    """Assert that the kernel equals the reference, on every instruction set.

    The kernel leaves unusual records to its own reference. Decoded again for each instruction set, they would take
    most of the tests' time: a bad value of CSV costs 2 ms.
    """
    wanted = drained(reference, data, stop, final=final)
    fallback: Remembered | None = None
    for isa in _kernels.simd_available():
        _kernels.simd_use(isa)
        decoder = native()
        assert isinstance(decoder, KernelDecoder)
        fallback = fallback or Remembered(decoder._fallback._reference)
        decoder._fallback._reference = fallback
        assert drained(decoder, data, stop, final=final) == wanted, isa


def drained(decoder: RecordDecoder, data: pa.Buffer, stop: int, *, final: bool) -> tuple[Any, ...]:
    """Decode all rows, counts and bad records up to `stop`, in as many calls as it takes."""
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
        for b in decoded.bad:
            assert b.line is not None
            bad.append(replace(b, offset=b.offset + at, record=b.record + records, line=b.line + lines))
        if _stops(decoder) and decoded.bad:
            return rows, bad  # how far it had looked beyond says nothing
        if not decoded.consumed:
            break
        at += decoded.consumed
        records += decoded.records
        lines += decoded.lines
    return rows, at, records, lines, bad


def _stops(decoder: Any) -> bool:
    return bool(getattr(getattr(decoder, "_fallback", None), "_reference", decoder)._policy == "error")


def plain(column: pa.Array) -> list[object]:
    """Convert values so that they are equal only if every bit is; times become numbers, since Python has no year 0."""
    if pa.types.is_temporal(column.type):
        column = column.view(pa.int32() if column.type.bit_width == 32 else pa.int64())
    return [v.hex() if isinstance(v, float) else v for v in column.to_pylist()]

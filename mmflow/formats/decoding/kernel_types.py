"""Arrow and the kernels: types as the kernels number them, conditions as they test them, arrays that they give."""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.formats.base import Comparison, NativeEnd
from mmflow.formats.decoding.decoder import I64, Decoded, RecordDecoder
from mmflow.formats.schemas.json_type import is_json
from mmflow.kernels import kernels

__all__ = [
    "EXTRA_TYPE",
    "Aggregated",
    "KernelDecoder",
    "KernelFilter",
    "KernelType",
    "import_batch",
    "kernel_filters",
    "kernel_type",
    "nested_kernel_type",
]

# kind, digits, scale, zoned, children (name, type), exact, closed: Type in column.h
KernelType = tuple[int, int, int, bool, tuple[Any, ...], bool, bool]
KernelFilter = tuple[
    str, KernelType, int, Any, Any, tuple[bytes, ...]
]  # column, type, test, low, high, texts

# Kind in column.h.
_KINDS = {
    pa.bool_(): 0,
    pa.int8(): 1,
    pa.int16(): 2,
    pa.int32(): 3,
    pa.int64(): 4,
    pa.uint8(): 5,
    pa.uint16(): 6,
    pa.uint32(): 7,
    pa.uint64(): 8,
    pa.float32(): 9,
    pa.float64(): 10,
    pa.date32(): 12,
    pa.string_view(): 16,
}
_DECIMAL, _TIME32, _TIME64, _TIMESTAMP, _STRING, _STRUCT, _LIST = 11, 13, 14, 15, 16, 17, 18
_JSON, _EXTRA = 1, 2  # `digits` of text
#: Type of an object of all fields that a record has beside the known ones.
EXTRA_TYPE: KernelType = (_STRING, _EXTRA, 0, False, (), False, False)
_MOST_FIELDS = 64  # of a struct: kFieldsOfStruct in ndjson.inl.h
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_NOT_NULL, _INT, _REAL, _TEXT = 0, 1, 2, 3
_NEWLINE = 10
_LEAST, _MOST = 1 << 12, 1 << 22  # bytes that a reference decoder gets
_EPOCH = dt.date(1970, 1, 1)
_I64 = (-(1 << 63), (1 << 63) - 1)


def kernel_type(kind: pa.DataType, *, exact: bool = False) -> KernelType | None:
    """Return a type of single values as the kernels know it; None where they don't.

    With `exact`, they leave text that the value could not be written as again to the fallback.
    """
    if kind in _KINDS:
        return (_KINDS[kind], 0, 0, False, (), exact, False)
    if is_json(kind):
        return (_STRING, _JSON, 0, False, (), exact, False)
    if pa.types.is_decimal128(kind):
        return (_DECIMAL, kind.precision, kind.scale, False, (), exact, False)
    if pa.types.is_time32(kind):
        return (_TIME32, _DIGITS[kind.unit], 0, False, (), exact, False)
    if pa.types.is_time64(kind):
        return (_TIME64, _DIGITS[kind.unit], 0, False, (), exact, False)
    if pa.types.is_timestamp(kind):
        return (_TIMESTAMP, _DIGITS[kind.unit], 0, kind.tz is not None, (), exact, False)
    return None


def nested_kernel_type(kind: pa.DataType, *, exact: bool = False, closed: bool = False) -> KernelType | None:
    """Return a type as the kernels know it, lists and structs included; None where they don't.

    With `closed`, structs are of objects without other fields.
    """
    if pa.types.is_list(kind):
        item = nested_kernel_type(kind.value_type, exact=exact, closed=closed)
        return None if item is None else (_LIST, 0, 0, False, ((b"", item),), exact, False)
    if not pa.types.is_struct(kind):
        return kernel_type(kind, exact=exact)
    children = tuple((f.name.encode(), nested_kernel_type(f.type, exact=exact, closed=closed)) for f in kind)
    if len(children) > _MOST_FIELDS or any(child is None for _, child in children):
        return None
    return (_STRUCT, 0, 0, False, children, exact, closed)


def kernel_filters(
    prune: Sequence[Comparison], schema: pa.Schema, *, exact: bool = False
) -> list[KernelFilter]:
    """Return conditions that rows may be left out by, one for each column; those on text first, since they cost least.

    A condition may let rows through that the query's own filter then drops (strict bounds of floats are taken as
    inclusive, since engines differ on -0.0), never the other way round.
    """
    made: dict[str, KernelFilter] = {}
    for comparison in prune:
        if comparison.column not in schema.names:
            continue
        one = _filter(comparison, schema.field(comparison.column).type, exact=exact)
        if one is None:
            continue
        before = made.get(comparison.column)
        made[comparison.column] = one if before is None else _join_conditions(before, one)
    return sorted(made.values(), key=lambda f: -f[2] if f[2] != _REAL else 0)


def _filter(comparison: Comparison, arrow: pa.DataType, *, exact: bool) -> KernelFilter | None:
    kind = None if is_json(arrow) else kernel_type(arrow, exact=exact)
    name, op, value = comparison.column, comparison.op, comparison.value
    if kind is None or op in ("ne", "is_null"):
        return None
    if op == "is_not_null":
        return (name, kind, _NOT_NULL, 0, 0, ())
    if kind[0] == _STRING:
        texts = value if op == "in" else (value,)
        if op not in ("eq", "in") or not all(isinstance(t, str) for t in texts):
            return None
        return (name, kind, _TEXT, 0, 0, tuple(t.encode() for t in texts))
    if op == "in":
        bounds = [_bounds("eq", v, arrow) for v in value]
        known = [b for b in bounds if b is not None]
        if len(known) < len(bounds):
            return None
        low, high = min(b[0] for b in known), max(b[1] for b in known)
    else:
        one = _bounds(op, value, arrow)
        if one is None:
            return None
        low, high = one
    return (name, kind, _REAL if isinstance(low, float) else _INT, low, high, ())


def _bounds(op: str, value: Any, arrow: pa.DataType) -> tuple[Any, Any] | None:
    """Return the closed range of values for which `op value` may hold."""
    if pa.types.is_float64(arrow):
        if not isinstance(value, float) or math.isnan(value):
            return None
        low, high = value, value
        bottom, top = -math.inf, math.inf
        return {
            "eq": (low, high),
            "lt": (bottom, high),
            "le": (bottom, high),
            "gt": (low, top),
            "ge": (low, top),
        }[op]
    if pa.types.is_integer(arrow) and type(value) is int:
        down = up = value
    elif pa.types.is_date32(arrow) and type(value) is dt.date:
        down = up = (value - _EPOCH).days
    elif pa.types.is_decimal128(arrow) and isinstance(value, Decimal):
        # As a fraction: arithmetic of Decimal rounds to 28 digits.
        from fractions import Fraction  # noqa: PLC0415  (slow)

        scaled = Fraction(value) * Fraction(10) ** arrow.scale
        down, up = math.floor(scaled), math.ceil(scaled)
    else:
        return None
    exact = down == up
    low, high = {
        "eq": (down, up),
        "lt": (_I64[0], up - exact),
        "le": (_I64[0], up),
        "gt": (down + exact, _I64[1]),
        "ge": (down, _I64[1]),
    }[op]
    return min(max(low, _I64[0]), _I64[1]), min(max(high, _I64[0]), _I64[1])


def _join_conditions(a: KernelFilter, b: KernelFilter) -> KernelFilter:
    """Join two conditions on one column; where that is not possible, return the more selective one."""
    if a[2] != b[2]:
        return a if a[2] > b[2] else b
    if a[2] == _TEXT:
        return (*a[:5], tuple(t for t in a[5] if t in b[5]))
    return (*a[:3], max(a[3], b[3]), min(a[4], b[4]), ())


#: Bytes consumed, records and lines.
Aggregated = tuple[int, int, int]


class _Fallback:
    """Part that the reference decoder takes over where a kernel stops: one record, and more where that repeats."""

    def __init__(self, reference: RecordDecoder) -> None:
        self._reference = reference
        self._bytes = _LEAST

    def note_progress(self, nbytes: int) -> None:
        """Record the number of bytes that the kernel read by itself."""
        if nbytes > _MOST // 4:
            self._bytes = _LEAST

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        """Decode at least the first record, as far as it is complete."""
        size = self._bytes
        self._bytes = min(2 * size, _MOST)
        while True:
            whole = size >= data.size
            piece = data if whole else data.slice(0, size)
            decoded = self._reference.decode(piece, min(stop, size), final=final and whole, located=located)
            if whole or decoded.consumed or decoded.bad:
                return decoded
            size *= 2


class _Exported:
    """Struct array of the kernels, as pyarrow imports it."""

    def __init__(self, schema: pa.Schema, capsule: Any) -> None:
        self._schema, self._capsule = schema, capsule

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[Any, Any]:
        return self._schema.__arrow_c_schema__(), self._capsule


def import_batch(schema: pa.Schema, capsule: Any, rows: int) -> pa.RecordBatch:
    """Import a kernel's columns as a batch."""
    if not len(schema):
        return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["rows"]).select([])
    return pa.record_batch(_Exported(schema, capsule))


class KernelDecoder:
    """`RecordDecoder` by a kernel, with the reference decoder as its fallback.

    Args:
        reference: Takes over where the kernel stops.
        schema: Columns that the kernel converts: those of `reference`, and others only to check their values.
        reader: Makes the kernel's reader; `located` says whether it gives where rows begin.

    Attributes:
        most_bytes: Bytes of columns after which a call ends early (kernels/common/rows.h); 0: it reads all.
    """

    skips_nuls = True
    most_bytes = 0

    def __init__(self, reference: RecordDecoder, schema: pa.Schema, reader: Callable[[bool], Any]) -> None:
        self.columns = reference.columns
        self._schema = schema
        self._selected = None if self.columns == tuple(schema.names) else list(self.columns)
        self._reader = functools.cache(reader)  # of 20,000 columns, each takes a while to make
        self._fallback = _Fallback(reference)

    @functools.cached_property
    def _empty(self) -> pa.RecordBatch:
        empty = pa.RecordBatch.from_arrays([pa.nulls(0, t) for t in self._schema.types], schema=self._schema)
        return empty if self._selected is None else empty.select(self._selected)

    def decode(self, data: pa.Buffer, stop: int, *, final: bool, located: bool) -> Decoded:
        status, consumed, records, rows, lines, capsule, offsets = self._reader(located).decode(
            data.address, data.size, stop, final, data, self.most_bytes
        )
        if not consumed and status:
            return self._fallback.decode(data, stop, final=final, located=located)
        if not consumed and not located:  # the first record goes on behind the data
            return Decoded(self._empty, 0, 0, 0)
        self._fallback.note_progress(consumed)
        batch = import_batch(self._schema, capsule, rows)
        if self._selected is not None:
            batch = batch.select(self._selected)
        decoded = Decoded(batch, consumed, records, lines)
        if located:
            _locate(decoded, data, offsets)
        return decoded

    def feeds(self, end: NativeEnd) -> bool:
        """Return whether native steps can take the columns that it decodes."""
        return self._selected is None and self._schema.equals(end.schema)

    def aggregate(self, end: NativeEnd, data: pa.Buffer, stop: int, *, final: bool) -> Aggregated:
        """Decode records as `decode` does, and have native steps take them, up to one that needs a fallback."""
        consumed, records, lines, rows, known = kernels().aggregate_records(
            self._reader(False), end.program, end.aggregator, data.address, data.size, stop, final,
            end.batch_bytes, end.group_bytes,
        )  # fmt: skip
        end.rows += rows
        end.known += known
        self._fallback.note_progress(consumed)
        return consumed, records, lines


def _locate(decoded: Decoded, data: pa.Buffer, offsets: bytes) -> None:
    """Fill in where rows begin: offsets as the kernels give them, and lines counted from them once they are wanted."""
    begins, consumed = np.frombuffer(offsets, np.int64), decoded.consumed

    def lines() -> I64:
        newlines = np.flatnonzero(np.frombuffer(data, np.uint8)[:consumed] == _NEWLINE)
        return np.searchsorted(newlines, begins)

    decoded.offsets, decoded.located_lines = begins, lines

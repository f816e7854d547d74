"""Encoding of one column of one shard, in an Arrow IPC file that is read where it is mapped.

    numbers, dates, times, decimals    value - lowest value, in 1, 2, 4 or 8 bytes
    floats with few decimals           value * 10^n, as a number; only where that gives every value back, bit by bit
    other floats, booleans             as they are
    text that repeats                  number of the value among the column's values, in 1 or 2 bytes
    other text, nested values          not encoded

Each zone of `ZONE_ROWS` rows has its bounds, so that a scan can leave it out.

Invariant: `decode(encode(values))` gives equal values, nulls included; floats keep their bits.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import field
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.formats.base import Comparison
from mmflow.formats.decoding.fixed_width import null_places, numpy_values
from mmflow.formats.parquet.statistics import NS, Bounds, Instant
from mmflow.lazy import array_types as npt
from mmflow.lazy import compute as pc
from mmflow.lazy.dataclasses import dataclass
from mmflow.storage.facts import optional, parse_object

__all__ = ["ZONE_ROWS", "CodeRange", "ColumnEncoder", "EncodedColumn", "can_encode", "decode"]

#: Rows of a zone, and of a batch that is decoded at once.
ZONE_ROWS = 1 << 16
#: Most values of a text column that repeats, and their most bytes.
_MOST_VALUES, _MOST_VALUE_BYTES = 1 << 16, 4 << 20
_DECIMALS = range(5)
_MOST_EXACT = 1 << 53
_META = b"mmflow"
_EPOCH = dt.date(1970, 1, 1)
_SHAPE = {
    "kind": str,
    "type": str,
    "rows": int,
    "base": int,
    "decimals": int,
    "zones": [[optional(lambda value: isinstance(value, int | float | str))]],
}


def can_encode(data_type: pa.DataType) -> bool:
    """Return whether columns of a type can be encoded; of text, whether one can depends on its values."""
    return _integers(data_type) is not None or _is_plain(data_type) or _is_text(data_type)


def _is_text(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string_view(data_type) or types.is_string(data_type) or types.is_large_string(data_type)
    )


def _is_plain(data_type: pa.DataType) -> bool:
    return bool(data_type in (pa.bool_(), pa.float32(), pa.float64()))


def _integers(data_type: pa.DataType) -> np.dtype[Any] | None:
    """Return the type of the integers that values of a type are; None: they are none."""
    types = pa.types
    if types.is_decimal128(data_type):
        return np.dtype(np.int64) if data_type.precision <= 18 else None
    if types.is_integer(data_type) or types.is_temporal(data_type):
        if types.is_interval(data_type):
            return None
        sign = "u" if types.is_unsigned_integer(data_type) else "i"
        return np.dtype(f"{sign}{data_type.bit_width // 8}")
    return None


class ColumnEncoder:
    """Encoder of a column whose arrays come one by one. It keeps them without text.

    Args:
        data_type: Type of the column, for which `can_encode` holds.
    """

    def __init__(self, data_type: pa.DataType) -> None:
        self._type = data_type
        self._arrays: list[pa.Array] = []
        self._values: dict[str, int] = {}
        self._value_bytes = 0
        self.nbytes = 0

    def add(self, array: pa.Array) -> bool:
        """Add the next values. Returns False, for good, where their text repeats too little."""
        if _is_text(self._type):
            found = self._numbered(array)
            if found is None:
                return False
            array = found
        elif array.offset or array.get_total_buffer_size() > 2 * array.nbytes + 64:
            array = pa.concat_arrays([array])
        self._arrays.append(array)
        self.nbytes += array.nbytes
        return True

    def _numbered(self, array: pa.Array) -> pa.Array | None:
        """Return the numbers of the values of text; None: there are too many values."""
        encoded = array.cast(pa.large_string()).dictionary_encode()
        known, numbers = self._values, []
        for value in encoded.dictionary.to_pylist():
            number = known.setdefault(value, len(known))
            if number == len(known) - 1:
                self._value_bytes += len(value)
                if len(known) > _MOST_VALUES or self._value_bytes > _MOST_VALUE_BYTES:
                    return None
            numbers.append(number)
        if len(encoded) >= ZONE_ROWS and len(known) > len(encoded) // 2:
            return None
        return pa.array(numbers, pa.uint16()).take(encoded.indices)

    def finish(self) -> pa.Buffer:
        """Return the encoded column."""
        text = _is_text(self._type)
        kind = pa.uint16() if text else self._type
        whole = pa.concat_arrays(self._arrays) if self._arrays else pa.array([], kind)
        if text:
            return self._finish_text(whole)
        if _integers(self._type) is not None:
            return self._finish_numbers("integers", whole, _to_integers(whole))
        if self._type == pa.float64():
            decimals = _find_decimals(whole)
            if decimals is not None:
                with np.errstate(all="ignore"):  # nulls may be anything
                    scaled = np.rint(_values(whole, np.dtype(np.float64)) * 10.0**decimals).astype(np.int64)
                return self._finish_numbers("decimals", whole, scaled, decimals)
        bounds = [_bounds_of_plain(zone) for zone in _zones(whole)]
        return self._written("plain", whole, bounds)

    def _finish_text(self, whole: pa.Array) -> pa.Buffer:
        values = list(self._values)
        order = np.array([v.encode() for v in values], object).argsort(kind="stable")
        ranks = np.empty(len(values), np.uint16)
        ranks[order] = np.arange(len(values), dtype=np.uint16)
        width = np.uint8 if len(values) <= 1 << 8 else np.uint16
        numbers = _values(whole, np.dtype(np.uint16))
        if values:
            numbers = ranks[numbers]
        codes = _with_nulls_of(whole, numbers.astype(width))
        ordered = [values[i] for i in order]
        zones = [
            (nulls, None if low is None else ordered[low], None if high is None else ordered[high])
            for nulls, low, high in _bounds_of_integers(whole, numbers)
        ]
        indices = pa.DictionaryArray.from_arrays(codes, pa.array(ordered, pa.string()))
        return self._written("text", indices, zones)

    def _finish_numbers(
        self, kind: str, whole: pa.Array, numbers: npt.NDArray[Any], decimals: int = 0
    ) -> pa.Buffer:
        zones = _bounds_of_integers(whole, numbers)
        lows = [zone[1] for zone in zones if zone[1] is not None]
        highs = [zone[2] for zone in zones if zone[2] is not None]
        base, spread = (min(lows), max(highs) - min(lows)) if lows else (0, 0)
        width = next(w for w in (1, 2, 4, 8) if spread < 1 << 8 * w)
        # Modulo 2^64 the difference is right whatever the sign.
        offsets = numbers.astype(np.int64).view(np.uint64) - np.uint64(base % (1 << 64))
        codes = _with_nulls_of(whole, offsets.astype(f"u{width}"))
        return self._written(kind, codes, zones, base, decimals)

    def _written(
        self, kind: str, codes: pa.Array, zones: Sequence[Any], base: int = 0, decimals: int = 0
    ) -> pa.Buffer:
        facts = {
            "kind": kind,
            "type": str(self._type),
            "rows": len(codes),
            "base": base,
            "decimals": decimals,
            "zones": zones,
        }
        schema = pa.schema([pa.field("", codes.type)], {_META: json.dumps(facts).encode()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays([codes], schema=schema))
        return sink.getvalue()


@dataclass(slots=True)
class CodeRange:
    """Codes of a column, and the range of those whose values satisfy a comparison: `low` to `high`, of 0 to `most`."""

    codes: npt.NDArray[Any]
    low: int
    high: int
    most: int

    def mask(self, number: int) -> npt.NDArray[np.bool_] | None:
        """Return which rows of a zone may satisfy it, nulls among them or not; None: all may."""
        codes = self.codes[number * ZONE_ROWS : (number + 1) * ZONE_ROWS]
        if self.low > self.high:
            return np.zeros(len(codes), bool)
        mask = None if self.low == 0 else codes >= self.low
        if self.high < self.most:
            below = codes <= self.high
            mask = below if mask is None else mask & below
        return mask


@dataclass(slots=True)
class EncodedColumn:
    """Column of a shard, encoded.

    Attributes:
        type: Type of its values.
        rows: Number of its rows.
        zones: Bounds of each zone.
    """

    type: pa.DataType
    rows: int
    zones: list[Bounds]
    _kind: str
    _codes: pa.Array
    _base: int
    _decimals: int
    _values: pa.Array | None = field(default=None)

    @property
    def nbytes(self) -> int:
        """Bytes of the column as it is encoded."""
        return int(self._codes.nbytes)

    def zone(self, number: int) -> pa.Array:
        """Return the values of a zone."""
        return self._decoded(self._codes.slice(number * ZONE_ROWS, ZONE_ROWS))

    def take(self, rows: npt.NDArray[np.int64]) -> pa.Array:
        """Return the values of some rows, by their numbers."""
        return self._decoded(self._codes.take(pa.array(rows)))

    def code_range(self, comparison: Comparison) -> CodeRange | None:
        """Return the codes of the values that satisfy a comparison; None: that can't be said by codes."""
        codes = self._codes.indices if self._kind == "text" else self._codes
        if self._kind == "plain":
            return None
        most: int = 2**codes.type.bit_width - 1
        if self._kind == "text":
            found = _text_range(comparison, self._codes.dictionary)
        elif self._kind == "decimals":
            found = _decimal_range(comparison, self._decimals, self._base, self._base + most)
        else:
            found = _integer_range(comparison, self.type)
        if found is None:
            return None
        low, high = (n if n is None else n - self._base for n in found)
        low, high = 0 if low is None else max(low, 0), most if high is None else min(high, most)
        values = _values(codes, np.dtype(codes.type.to_pandas_dtype()))
        return CodeRange(values, low, high, most)

    def _decoded(self, codes: pa.Array) -> pa.Array:
        if self._kind == "plain":
            return codes
        if self._kind == "text":
            return self._text(codes)
        raw = _values(codes, np.dtype(codes.type.to_pandas_dtype()))
        if self._kind == "decimals":
            numbers = raw.astype(np.int64)
            numbers += self._base
            floats = numbers.astype(np.float64)
            if self._decimals:
                floats /= 10.0**self._decimals
            return _array(self.type, codes, floats)
        kind = _integers(self.type)
        assert kind is not None  # or it would not have been encoded so
        values = raw.astype(kind)
        # Both wrap around alike, where the spread of values exceeds the largest one.
        values += np.array(self._base % (1 << 64), np.uint64).astype(kind)
        if not pa.types.is_decimal128(self.type):
            return _array(self.type, codes, values)
        words = np.empty((len(values), 2), np.int64)
        words[:, 0] = values
        words[:, 1] = values >> 63
        return _array(self.type, codes, words)

    def _text(self, codes: pa.Array) -> pa.Array:
        assert isinstance(codes, pa.DictionaryArray)
        if not pa.types.is_string_view(self.type):
            return codes.dictionary_decode().cast(self.type)
        if self._values is None:
            self._values = codes.dictionary.cast(pa.string_view())
        numbers = _values(codes.indices, np.dtype(codes.indices.type.to_pandas_dtype()))
        _, views, *data = self._values.buffers()
        # A view has the 16 bytes of this type, which is copied bit by bit.
        known = np.frombuffer(views, np.complex128, len(self._values))
        taken = known[numbers] if len(known) else np.zeros(len(numbers), np.complex128)
        valid = _validity(codes.indices)
        return pa.Array.from_buffers(
            self.type, len(codes), [valid, pa.py_buffer(taken), *data], codes.indices.null_count
        )


def decode(source: pa.Buffer, data_type: pa.DataType) -> EncodedColumn:
    """Return the column that a buffer holds, whose bytes are used where they are.

    Raises:
        ValueError: It is no such column.
    """
    reader = pa.ipc.open_file(source)
    facts = parse_object((reader.schema.metadata or {}).get(_META, b""), _SHAPE)
    if facts["type"] != str(data_type) or reader.num_record_batches != 1:
        raise ValueError("it is a column of another type")
    codes = reader.get_batch(0).column(0)
    rows, zones = facts["rows"], facts["zones"]
    if len(codes) != rows or len(zones) != -(-rows // ZONE_ROWS):
        raise ValueError("it has other rows")
    codes.validate(full=pa.types.is_dictionary(codes.type))  # other codes have no wrong values
    bounds = []
    for number, (nulls, low, high) in enumerate(zones):
        count = min(ZONE_ROWS, rows - number * ZONE_ROWS)
        found = (None, None) if low is None else _plain_bounds(facts, data_type, low, high)
        bounds.append(Bounds(count, nulls, *found) if None not in found else Bounds(count, nulls))
    return EncodedColumn(data_type, rows, bounds, facts["kind"], codes, facts["base"], facts["decimals"])


def _plain_bounds(facts: dict[str, Any], data_type: pa.DataType, low: Any, high: Any) -> tuple[Any, Any]:
    """Return bounds as conditions are compared with them; None: not known."""
    match facts["kind"]:
        case "text":
            return low.encode(), high.encode()
        case "decimals":
            return low / 10.0 ** facts["decimals"], high / 10.0 ** facts["decimals"]
        case "integers":
            return _value_of(low, data_type), _value_of(high, data_type)
    return low, high


def _value_of(number: int, data_type: pa.DataType) -> Any:
    types = pa.types
    if types.is_decimal128(data_type):
        return Decimal(f"{number}E{-data_type.scale}")
    if types.is_integer(data_type):
        return number
    if types.is_timestamp(data_type):
        return Instant(number * NS[data_type.unit])
    if not types.is_date32(data_type):
        return None
    try:
        return _EPOCH + dt.timedelta(days=number)
    except OverflowError:
        return None  # beyond the dates of Python


#: Lowest and highest number that satisfies a comparison; None: no limit.
_Range = tuple[int | None, int | None]


def _integer_range(comparison: Comparison, data_type: pa.DataType) -> _Range | None:
    """Return the numbers of a type whose values satisfy a comparison; None: not known."""
    value, types = comparison.value, pa.types
    if types.is_integer(data_type) and type(value) is int:
        exact = Fraction(value)
    elif types.is_decimal128(data_type) and type(value) in (int, Decimal):
        if isinstance(value, Decimal) and not value.is_finite():
            return None
        exact = Fraction(value) * 10**data_type.scale
    elif types.is_date32(data_type) and type(value) is dt.date:
        exact = Fraction((value - _EPOCH).days)
    else:
        return None
    match comparison.op:
        case "eq":
            return math.ceil(exact), math.floor(exact)
        case "lt":
            return None, math.ceil(exact) - 1
        case "le":
            return None, math.floor(exact)
        case "gt":
            return math.floor(exact) + 1, None
        case "ge":
            return math.ceil(exact), None
    return None


def _decimal_range(comparison: Comparison, decimals: int, low: int, high: int) -> _Range | None:
    """Return the numbers between two whose floats satisfy a comparison; None: not known."""
    value = comparison.value
    # Zeros are two for DataFusion, which numbers are not.
    if type(value) not in (int, float) or math.isnan(value) or value == 0 or abs(value) >= _MOST_EXACT:
        return None
    scale = 10.0**decimals
    numbers = range(max(low, -_MOST_EXACT), min(high, _MOST_EXACT) + 1)

    def first(at: Callable[..., int]) -> int:
        return numbers.start + at(numbers, value, key=lambda number: number / scale)

    match comparison.op:
        case "eq":
            return first(bisect_left), first(bisect_right) - 1
        case "lt":
            return None, first(bisect_left) - 1
        case "le":
            return None, first(bisect_right) - 1
        case "gt":
            return first(bisect_right), None
        case "ge":
            return first(bisect_left), None
    return None


def _text_range(comparison: Comparison, values: pa.Array) -> _Range | None:
    """Return the number of the one text that equals another; None: it is another comparison."""
    if comparison.op != "eq" or not isinstance(comparison.value, str):
        return None
    number = pc.index(values, pa.scalar(comparison.value, values.type)).as_py()
    return (1, 0) if number < 0 else (number, number)


def _zones(array: pa.Array) -> list[pa.Array]:
    return [array.slice(begin, ZONE_ROWS) for begin in range(0, len(array), ZONE_ROWS)]


def _bounds_of_plain(zone: pa.Array) -> tuple[Any, ...]:
    """Return the nulls and bounds of floats and booleans, which leave NaN out."""
    if pa.types.is_boolean(zone.type):
        return zone.null_count, None, None
    kept = zone.filter(pc.invert(pc.is_nan(zone))).drop_null()
    found = pc.min_max(kept)
    low, high = found["min"].as_py(), found["max"].as_py()
    finite = low is not None and abs(low) < float("inf") and abs(high) < float("inf")
    return (zone.null_count, low, high) if finite else (zone.null_count, None, None)


def _bounds_of_integers(
    whole: pa.Array, numbers: npt.NDArray[Any]
) -> list[tuple[int, int | None, int | None]]:
    """Return the nulls, and the bounds where there are any, of the zones of integers."""
    valid = None if not whole.null_count else ~null_places(whole)
    zones: list[tuple[int, int | None, int | None]] = []
    for begin in range(0, len(numbers), ZONE_ROWS):
        part = numbers[begin : begin + ZONE_ROWS]
        count = len(part)
        if valid is not None:
            part = part[valid[begin : begin + ZONE_ROWS]]
        nulls = count - len(part)
        zones.append((nulls, int(part.min()), int(part.max())) if len(part) else (nulls, None, None))
    return zones


def _find_decimals(array: pa.Array) -> int | None:
    """Return the decimals that all floats have; None: they have more, or are no numbers."""
    values = numpy_values(array.drop_null())
    bits = values.view(np.int64)
    for decimals in _DECIMALS:
        # Most decimals fail for the first values.
        if all(_has_decimals(values[:end], bits[:end], decimals) for end in (1000, len(values))):
            return decimals
    return None


def _has_decimals(values: npt.NDArray[Any], bits: npt.NDArray[Any], decimals: int) -> bool:
    with np.errstate(all="ignore"):
        scaled = np.rint(values * 10.0**decimals)
        if not bool((np.abs(scaled) < _MOST_EXACT).all()):  # NaN is not, either
            return False
        numbers = scaled.astype(np.int64)  # which has no -0.0
        return bool(((numbers / 10.0**decimals).view(np.int64) == bits).all())


def _to_integers(array: pa.Array) -> npt.NDArray[Any]:
    kind = _integers(array.type)
    assert kind is not None  # or it would not be encoded so
    if not pa.types.is_decimal128(array.type):
        return _values(array, kind)
    words = np.frombuffer(array.buffers()[1] or b"", np.int64).reshape(-1, 2)
    return words[array.offset : array.offset + len(array), 0]


def _values(array: pa.Array, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the values of an array of fixed width; those of nulls are any."""
    data = array.buffers()[1]
    if data is None:
        return np.zeros(len(array), kind)
    return np.frombuffer(data, kind, len(array), array.offset * kind.itemsize)


def _validity(array: pa.Array) -> pa.Buffer | None:
    """Return the validity bits of an array whose offset is a multiple of eight; None: all values are valid."""
    valid = array.buffers()[0]
    if valid is None or not array.null_count:
        return None
    return valid.slice(array.offset // 8)


def _array(data_type: pa.DataType, like: pa.Array, values: npt.NDArray[Any]) -> pa.Array:
    """Return an array with the nulls of another one."""
    return pa.Array.from_buffers(
        data_type, len(like), [_validity(like), pa.py_buffer(values)], like.null_count
    )


def _with_nulls_of(array: pa.Array, codes: npt.NDArray[Any]) -> pa.Array:
    """Return codes with the nulls of another array, whose own are zero."""
    if not array.null_count:
        return pa.array(codes)
    nulls = null_places(array)
    return pa.array(np.where(nulls, codes.dtype.type(0), codes), mask=nulls)

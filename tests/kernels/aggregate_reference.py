"""Aggregation in plain Python: what the native aggregator must give, with sums of floats as fractions."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa

from mmflow.plan.native_aggregate import AggregateStep, Measure

__all__ = ["bits", "nearest_float", "plain_rows", "reference_rows", "scaled"]

NAN: float = struct.unpack("<d", struct.pack("<Q", 0x7FF8 << 48))[0]


def nearest_float(value: Fraction) -> float:
    """Return the float nearest to a fraction, of two the even one; an infinity beyond all of them."""
    try:
        return float(value) + 0.0 if value else 0.0
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def bits(value: object) -> object:
    """Return a value that equals another one only where all of their bits do."""
    return struct.pack("<d", value) if isinstance(value, float) else value


def scaled(value: Decimal | int, places: int) -> Decimal:
    """Return value * 10^places, with all of its digits."""
    return Decimal(value).scaleb(places, Context(prec=100))


def _plain(array: pa.Array) -> list[Any]:
    """Return values as Python has them, times and durations as integers."""
    kind = array.type
    if pa.types.is_temporal(kind):
        array = array.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    return list(array.to_pylist())


def _key(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return NAN if math.isnan(value) else value + 0.0


def _order(value: Any) -> Any:
    return (math.isnan(value), value) if isinstance(value, float) else value


def _float_sum(values: Sequence[float], count: int) -> float:
    special = {v for v in values if math.isinf(v)}
    if any(map(math.isnan, values)) or len(special) > 1:
        return NAN
    if special:
        return float(special.pop())
    return nearest_float(sum(map(Fraction, values), Fraction(0)) / count)


def _variance(values: Sequence[float], function: str) -> float | None:
    sample = function in ("var", "stddev")
    count = len(values)
    if count < 1 + sample:
        return None
    if not all(map(math.isfinite, values)):
        return NAN
    total = sum(map(Fraction, values), Fraction(0))
    squares = sum((Fraction(v) ** 2 for v in values), Fraction(0))
    variance = nearest_float((count * squares - total**2) / (count * (count - sample)))
    return math.sqrt(variance) if function.startswith("stddev") else variance


def _towards_zero(total: int, by: int) -> int:
    return abs(total) // by * (1 if total >= 0 else -1)


def _sum(values: list[Any], kind: pa.DataType, mean: bool) -> Any:
    count = len(values) if mean else 1
    if pa.types.is_floating(kind):
        return _float_sum(values, count)
    if pa.types.is_decimal(kind):
        scale = min(38, kind.scale + 4) if mean else kind.scale
        total = sum(int(scaled(v, kind.scale)) for v in values) * 10 ** (scale - kind.scale)
        return scaled(_towards_zero(total, count), -scale)
    total = sum(values)
    if mean and pa.types.is_integer(kind):
        return nearest_float(Fraction(total, count))
    return _towards_zero(total, count)


_FOLDED: dict[str, Callable[[Any, Any], Any]] = {
    "bit_and": lambda a, b: a & b,
    "bit_or": lambda a, b: a | b,
    "bit_xor": lambda a, b: a ^ b,
}


def _value(measure: Measure, values: list[Any], kind: pa.DataType) -> Any:
    if measure.function == "count":
        return len(values)
    if not values:
        return None
    match measure.function:
        case "sum" | "avg":
            return _sum(values, kind, measure.function == "avg")
        case "min":
            return _key(min(values, key=_order))
        case "max":
            return _key(max(values, key=_order))
        case "bool_and":
            return all(values)
        case "bool_or":
            return any(values)
        case "var" | "var_pop" | "stddev" | "stddev_pop":
            return _variance(values, measure.function)
    made = values[0]
    for value in values[1:]:
        made = _FOLDED[measure.function](made, value)
    return made


def reference_rows(step: AggregateStep, rows: pa.Table) -> list[tuple[Any, ...]]:
    """Return keys and results of each group, floats as bytes, in any order."""
    columns = [_plain(rows.column(i).combine_chunks()) for i in range(rows.num_columns)]
    groups: dict[tuple[object, ...], list[int]] = {} if step.keys else {(): []}
    for row in range(rows.num_rows):
        key = tuple(bits(_key(columns[k][row])) for k in step.keys)
        groups.setdefault(key, []).append(row)
    made = []
    for key, members in groups.items():
        results: list[Any] = []
        for measure in step.measures:
            chosen = [r for r in members if measure.filter is None or columns[measure.filter][r]]
            if measure.column is None:
                results.append(len(chosen))
                continue
            kind = rows.schema.field(measure.column).type
            values = [columns[measure.column][r] for r in chosen]
            results.append(_value(measure, [v for v in values if v is not None], kind))
        made.append((*key, *map(bits, results)))
    return made


def plain_rows(results: pa.Table) -> list[tuple[Any, ...]]:
    """Return the rows of the aggregator in the form of `reference_rows`."""
    columns = [_plain(results.column(i).combine_chunks()) for i in range(results.num_columns)]
    return [tuple(map(bits, row)) for row in zip(*columns, strict=True)]

"""Tables of every type for SQL tests, and how their rows are compared."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

WORDS = (
    "", "a", "B", "abc", "Abc Def", "x y", "  pad ", "ünïcödé", "日本語", "a,b;c", "%_", "z" * 21, "1", "-2.5", "2020-01-05",
)  # fmt: skip


def every_type(rows: int, seed: int) -> pa.Table:
    """Return a table with a column of each type that plans carry. An eighth of its values is null."""
    rng = random.Random(seed)
    day, second = dt.timedelta(days=1), dt.timedelta(seconds=1)
    start = dt.datetime(2020, 1, 1)

    def column(make: Callable[[], Any], kind: pa.DataType) -> pa.Array:
        return pa.array([None if rng.random() < 0.125 else make() for _ in range(rows)], kind)

    def time_of_day() -> dt.time:
        return (start + second * rng.randrange(86_400)).time()

    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "k": column(lambda: rng.randrange(4), pa.int64()),
            "i8": column(lambda: rng.randrange(-9, 9), pa.int8()),
            "i16": column(lambda: rng.randrange(-99, 99), pa.int16()),
            "i32": column(lambda: rng.randrange(-999, 999), pa.int32()),
            "i64": column(lambda: rng.randrange(-(10**6), 10**6), pa.int64()),
            "u8": column(lambda: rng.randrange(9), pa.uint8()),
            "u16": column(lambda: rng.randrange(99), pa.uint16()),
            "u32": column(lambda: rng.choice([1, 7, 3 * 10**9]), pa.uint32()),
            "u64": column(lambda: rng.choice([1, 7, 3 * 10**9, 2**40]), pa.uint64()),
            # Quarters add up exactly in any order.
            "f32": column(lambda: rng.randrange(-40, 40) / 4, pa.float32()),
            "f64": column(lambda: rng.randrange(-400, 400) / 4, pa.float64()),
            "dec": column(lambda: Decimal(rng.randrange(-9999, 9999)).scaleb(-2), pa.decimal128(10, 2)),
            "s": column(lambda: rng.choice(WORDS), pa.string()),
            "s2": column(lambda: rng.choice(WORDS), pa.string()),
            "b": column(lambda: rng.random() < 0.5, pa.bool_()),
            "d": column(lambda: start.date() + day * rng.randrange(-9000, 900), pa.date32()),
            "ts": column(
                lambda: start + second * rng.randrange(-(10**8), 10**7) + dt.timedelta(microseconds=rng.randrange(10**6)),
                pa.timestamp("us"),
            ),
            "tz": column(lambda: start + second * rng.randrange(-(10**8), 10**7), pa.timestamp("us", "Asia/Tokyo")),
            "tm": column(time_of_day, pa.time64("us")),
            "bin": column(lambda: bytes(rng.randrange(256) for _ in range(rng.randrange(4))), pa.binary()),
            "li": column(lambda: [rng.choice([1, 2, 3, None]) for _ in range(rng.randrange(4))], pa.list_(pa.int64())),
            "ls": column(lambda: [rng.choice(WORDS) for _ in range(rng.randrange(4))], pa.list_(pa.string())),
            "lf": column(lambda: [rng.randrange(1, 9) / 2 for _ in range(3)], pa.list_(pa.float64())),
            "st": column(
                lambda: {"x": rng.randrange(5), "y": rng.choice(WORDS)},
                pa.struct([("x", pa.int64()), ("y", pa.string())]),
            ),
            "m": column(
                lambda: [(word, n) for n, word in enumerate(rng.sample(WORDS, 2))], pa.map_(pa.string(), pa.int64())
            ),
        }
    )  # fmt: skip


def write_tables(folder: Path) -> dict[str, Path]:
    """Write t and u as Parquet files of several row groups, so that every scan has several tasks."""
    made = {"t": every_type(60, 0), "u": every_type(30, 1)}
    for name, table in made.items():
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=table.num_rows // 3)
    return {name: folder / f"{name}.parquet" for name in made}


def rows_of(table: pa.Table) -> list[tuple[str, ...]]:
    """Rows as text: floats to nine places, so that the order in which they are added up makes no difference."""
    columns = [[_text(value) for value in _plain_values(column).to_pylist()] for column in table.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows


def _plain_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Moments and durations as numbers: Python has not all of them, nor every zone."""
    if pa.types.is_date32(column.type):
        return column.cast(pa.int32())
    moment = (
        pa.types.is_timestamp(column.type)
        or pa.types.is_duration(column.type)
        or pa.types.is_date64(column.type)
    )
    return column.cast(pa.int64()) if moment else column


def _text(value: Any) -> str:
    match value:
        case float():
            return "nan" if value != value else repr(float(f"{value:.9g}") + 0.0)
        case dict():
            return str({name: _text(part) for name, part in value.items()})
        case list() | tuple():
            return str([_text(part) for part in value])
        case _:
            return str(value)


def plain_types(schema: pa.Schema) -> list[str]:
    """Types of the columns, whatever the layout of text, bytes and lists."""
    return [str(_plain(field.type)) for field in schema]


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _plain(f.type)) for f in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    return kind

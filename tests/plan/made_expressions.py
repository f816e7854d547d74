"""Expressions and tables that Hypothesis makes, of the types and operations that native programs know."""

from __future__ import annotations

import datetime as dt
import math
import random
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

_LONG = "a text that is longer than twelve bytes"
#: Types, and values at their edges.
COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "b": (pa.bool_(), [True, False]),
    "b2": (pa.bool_(), [True, False]),
    "i8": (pa.int8(), [-128, 127, 0, 1, -1, 5]),
    "i16": (pa.int16(), [-(2**15), 2**15 - 1, 0, 3]),
    "i32": (pa.int32(), [-(2**31), 2**31 - 1, 0, 1, 7, -3]),
    "i64": (pa.int64(), [-(2**63), 2**63 - 1, 0, 1, 100, -5, 2**53 + 1]),
    "k": (pa.int64(), [*range(-3, 9)]),
    "u8": (pa.uint8(), [0, 255, 3]),
    "u32": (pa.uint32(), [0, 2**32 - 1, 3]),
    "u64": (pa.uint64(), [0, 2**64 - 1, 3]),
    "f32": (pa.float32(), [0.0, -0.0, 1.5, -2.5, math.inf, -math.inf, math.nan, 3e38, 1e-40]),
    "f64": (pa.float64(), [0.0, -0.0, 1.5, -2.5, 0.1, 1e300, math.inf, -math.inf, math.nan, -math.nan, 127.9]),
    "dec": (pa.decimal128(15, 2), [Decimal("0.00"), Decimal("1.25"), Decimal("-3.75"), Decimal("9999999999999.99")]),
    "dec2": (pa.decimal128(10, 4), [Decimal("0.0000"), Decimal("1.2500"), Decimal("-3.7549"), Decimal("2.5000")]),
    "wide": (pa.decimal128(38, 3), [Decimal("1.000"), Decimal("-99999999999999999999999999999999999.999")]),
    "s": (pa.string_view(), ["", "a", "ab", _LONG, _LONG + "x", "é", "aé_%", "x%y", "abcdefghijkl", "abcdefghijklm"]),
    "s2": (pa.string_view(), ["", "a", "b", _LONG, "日本語の文字", "a\\b", "A"]),
    "d": (pa.date32(), [dt.date(1970, 1, 1), dt.date(2020, 5, 5), dt.date(1960, 2, 29)]),
    "ts": (pa.timestamp("us"), [dt.datetime(1970, 1, 1), dt.datetime(2020, 5, 5, 3, 4, 5, 6), dt.datetime(1960, 2, 29)]),
    "tz": (pa.timestamp("ms", "UTC"), [dt.datetime(1970, 1, 1), dt.datetime(2020, 5, 5, 3, 4, 5)]),
    "tm": (pa.time64("us"), [dt.time(0), dt.time(23, 59, 59)]),
    "li": (pa.list_(pa.int64()), [[], [1, None]]),
}  # fmt: skip
_INTEGERS = ["i8", "i16", "i32", "i64", "k", "u8", "u32", "u64"]
_REAL = ["f32", "f64"]
_DECIMALS = ["dec", "dec2", "wide"]
_CASTS = ["tinyint", "smallint", "int", "bigint", "int unsigned", "bigint unsigned", "float", "double", "decimal(10,2)", "decimal(38,6)"]  # fmt: skip


def table_of(rng: random.Random, rows: int, nulls: float) -> pa.Table:
    """Return a table of all columns, `nulls` of its values null; a slice, so that arrays have offsets."""
    skipped = rng.randrange(20)

    def column(values: list[Any]) -> list[Any]:
        return [None if rng.random() < nulls else rng.choice(values) for _ in range(rows + skipped)]

    return pa.table({n: pa.array(column(v), k) for n, (k, v) in COLUMNS.items()}).slice(skipped)


TABLES = st.builds(
    table_of,
    st.integers(0, 2**64).map(random.Random),
    st.integers(0, 40),
    st.sampled_from([0.0, 0.2, 1.0]),
)


class Expressions:
    """Text of expressions, by the choices of `rng`."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def of(self, *some: str) -> str:
        return self.rng.choice(some)

    def number(self, depth: int) -> str:
        """Return an expression of a number."""
        kind = self.of("integer", "integer", "real", "decimal")
        columns = {"integer": _INTEGERS, "real": _REAL, "decimal": _DECIMALS}[kind]
        if depth == 0:
            return self.of(*columns, *(["3", "-1", "0"] if kind == "integer" else ["1.5"]))
        one, two = self.number(depth - 1), self.number(depth - 1)
        same = self.of(*columns)
        return self.of(
            f"({one} {self.of('+', '-', '*')} {two})",
            f"({one} {self.of('+', '-', '*', '/', '%')} {self.of('2', '0.5', two)})",
            f"(- {one})",
            f"cast({one} as {self.of(*_CASTS)})",
            f"try_cast({one} as {self.of(*_CASTS)})",
            *self.choices(same, self.of(*columns), depth),
            f"nanvl({self.of('f32', 'f64')}, {self.of('0.5', 'f32', 'f64')})",
        )

    def text(self, depth: int) -> str:
        """Return an expression of text."""
        if depth == 0:
            return self.of("s", "s2", "s", "s2", "'a'", f"'{_LONG}'")
        return self.of(*self.choices(self.text(depth - 1), self.text(depth - 1), depth))

    def choices(self, one: str, two: str, depth: int) -> list[str]:
        test = self.condition(depth - 1)
        return [
            f"coalesce({one}, {two})",
            f"nullif({one}, {two})",
            f"case when {test} then {one} else {two} end",
            f"case when {test} then {one} when {self.condition(depth - 1)} then {two} end",
            f"case k when 1 then {one} when 2 then {two} end",
        ]

    def condition(self, depth: int) -> str:
        """Return an expression of truth."""
        if depth > 0 and self.rng.random() < 0.5:
            one, two = self.condition(depth - 1), self.condition(depth - 1)
            return self.of(
                f"({one} and {two})",
                f"({one} or {two})",
                f"(not {one})",
                f"({one} is {self.of('', 'not ')}{self.of('true', 'false', 'unknown')})",
                f"({one} = {two})",
            )
        number, text = self.number(max(0, depth)), self.text(max(0, depth))
        signs = self.of("=", "<>", "<", "<=", ">", ">=", "is distinct from", "is not distinct from")
        return self.of(
            "b",
            "b2",
            f"({number} {signs} {self.number(0)})",
            f"({number} {signs} {self.number(0)})",
            f"({text} {signs} {self.text(0)})",
            f"(d {signs} {self.of('date 1970-01-01', 'ts', 'd')})".replace(
                "date 1970-01-01", "date '1970-01-01'"
            ),
            f"(ts {signs} timestamp '2020-05-05T03:04:05.000006')",
            f"(tm {signs} tm)",
            f"(tz {signs} tz)",
            f"({number} between {self.of('-1', '0', '1.25')} and {self.of('3', '100')})",
            f"({self.of(*_INTEGERS, *_REAL, *_DECIMALS)} {self.of('in', 'not in')} (0, 1, {self.of('3', 'null')}))",
            f"({text} {self.of('in', 'not in')} ('a', 'é', '{_LONG}', {self.of(repr('ab'), 'null')}))",
            f"({text} {self.of('like', 'not like')} {self.pattern()})",
            f"{self.of('starts_with', 'ends_with', 'contains')}({text}, {self.of(repr('a'), repr('語'), repr('longer'))})",
            f"({self.of(number, text, 'd', 'ts', 'li', 'tz', 'tm')} is {self.of('', 'not ')}null)",
        )

    def pattern(self) -> str:
        """Return a pattern of LIKE."""
        parts = [
            self.of("%", "_", "a", "longer", "é", "語", "\\%", "\\_", "b")
            for _ in range(self.rng.randint(0, 4))
        ]
        return "'" + "".join(parts) + "'"

    def query(self) -> str:
        """Return a row-wise query over table t."""
        outputs = [
            self.rng.choice([self.number, self.text, self.condition])(2)
            for _ in range(self.rng.randint(1, 3))
        ]
        outputs += self.rng.sample(list(COLUMNS), self.rng.randint(0, 3))
        columns = ", ".join(f"{e} as c{n}" for n, e in enumerate(outputs))
        conditions = [self.condition(2) for _ in range(self.rng.randint(0, 3))]
        where = f" where {' and '.join(conditions)}" if conditions else ""
        return f"select {columns} from t{where}"

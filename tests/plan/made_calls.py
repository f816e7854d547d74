"""Calls of every function, and uses of every operator, that DataFusion accepts over the tables of `sql_tables`."""

from __future__ import annotations

import random
from collections.abc import Iterator

from datafusion import SessionContext

COLUMNS = [
    "i8",
    "i32",
    "i64",
    "k",
    "u8",
    "u32",
    "u64",
    "f32",
    "f64",
    "dec",
    "s",
    "s2",
    "b",
    "d",
    "ts",
    "tm",
    "bin",
    "li",
    "ls",
    "lf",
    "st",
    "m",
]
LITERALS = [
    "'a'", "''", "2", "1", "-1", "2.5", "-0.0", "null", "true", "'hour'", "'%Y-%m'", "interval '1 day'", "array[1,2]",
    "arrow_cast(2,'Int32')", "'abc'", "'sha256'", "'hex'", "'Int32'", "date '2020-01-05'", "timestamp '2020-01-05T10:00:00'",
    "interval '1 month 2 days'", "'a%'", "'[a-c]+'", "cast(3 as bigint unsigned)", "time '10:00:00'", "array['a']",
    "array[1,null]", "cast(null as int)", "18446744073709551615", "9223372036854775807",
]  # fmt: skip
OPERATORS = [
    "+", "-", "*", "/", "%", "=", "<>", "<", "<=", ">", ">=", "and", "or", "||", "&", "|", "^", "<<", ">>", "~", "~*", "!~",
    "!~*", "like", "ilike", "not like", "not ilike", "@>", "<@", "->", "div", "is distinct from", "is not distinct from",
]  # fmt: skip
TYPES = [
    "tinyint", "smallint", "int", "bigint", "float", "double", "decimal(12,3)", "decimal(38,10)", "varchar", "boolean",
    "date", "timestamp", "timestamp(0)", "timestamp(3)", "time", "bytea", "varchar(3)",
]  # fmt: skip
ARROW_TYPES = [
    "Int8", "UInt64", "Float16", "Float32", "Decimal128(20,4)", "Decimal256(50,5)", "Utf8", "LargeUtf8", "Utf8View",
    "Binary", "LargeBinary", "BinaryView", "FixedSizeBinary(2)", "Date32", "Date64", "Time32(s)", "Time64(ns)",
    "Timestamp(s)", "Timestamp(ms)", "Timestamp(us)", "Timestamp(ns)", "Duration(s)", "Interval(MonthDayNano)",
    "List(Int32)", "LargeList(Int64)",
]  # fmt: skip
FORMS = [
    "{} is null", "{} is not true", "{} is unknown", "not {}", "-{}", "{} in ({}, {}, null)", "{} not in ({}, {})",
    "{} between {} and {}", "{} not between {} and {}", "case {} when {} then {} end", "case when {} = {} then 1 else {} end",
    "{}[1]", "{}[-1]", "{}[1:2]", "{} like {} escape 'x'", "extract(year from {})", "extract(epoch from {})",
    "date_part('week', {})", "date_part('millisecond', {})", "date_part('isodow', {})", "date_trunc('year', {})",
    "date_trunc('week', {})", "date_bin(interval '7 days', {})", "to_char({}, '%Y-%m-%d %H')", "trim(both 'a' from {})",
    "substring({} from 2 for 2)", "position('b' in {})", "overlay({} placing 'q' from 1 for 1)", "struct({}, {})",
    "map(make_array(1, 2), make_array({}, {}))", "make_date(2020, {}, {})", "make_time({}, {}, {})", "encode({}, 'base64')",
    "decode(encode({}, 'hex'), 'hex')", "digest({}, 'md5')", "array_distance({}, {})", "map_extract({}, 'a')",
    "array_sort({}, 'DESC')", "array_slice({}, 1, 2)", "array_replace_n({}, 1, 2, 1)", "greatest({}, {}, {})",
]  # fmt: skip

#: Functions that these tests can't compare, and why.
LEFT_OUT = {
    "random": "chance", "rand": "chance", "uuid": "chance", "now": "the clock", "current_date": "the clock",
    "current_time": "the clock", "current_timestamp": "the clock", "today": "the clock",
    "input_file_name": "DataFusion's own scans only", "file_row_index": "DataFusion's own scans only",
    "union_extract": "no unions in plans", "union_tag": "no unions in plans",
    "grouping": "GROUPING SETS only: statements.sql",
}  # fmt: skip
# Their results are as large as their arguments.
_LARGE = {
    "repeat", "lpad", "rpad", "range", "generate_series", "array_resize", "list_resize", "array_repeat", "list_repeat", "date_bin",
}  # fmt: skip


def functions(context: SessionContext, kind: str) -> list[str]:
    """Names of all functions of a kind: SCALAR, AGGREGATE, WINDOW."""
    query = (
        f"SELECT DISTINCT routine_name AS n FROM information_schema.routines WHERE function_type = '{kind}'"
    )
    return sorted(set(context.sql(query).to_arrow_table()["n"].to_pylist()) - LEFT_OUT.keys())


def accepted(context: SessionContext, expression: str) -> bool:
    """Return whether DataFusion computes an expression."""
    try:
        context.sql(f"SELECT {expression} FROM t").collect()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return False  # panics are no Exceptions
    return True


def calls(context: SessionContext, seed: int, each: int) -> Iterator[str]:
    """Calls of every scalar function with arguments by chance, at most `each` of a function."""
    rng = random.Random(seed)
    for name in functions(context, "SCALAR"):
        large = name in _LARGE
        columns = ["k", "i8", "s", "s2", "li", "ls", "d", "ts"] if large else COLUMNS
        literals = ["'a'", "2", "1", "null", "interval '1000 day'"] if large else LITERALS
        tried = {
            f"{name}()",
            *(f"{name}({c})" for c in rng.sample(columns[: 2 if large else None], 2 if large else 8)),
        }
        for number in (2, 2, 3, 3, 4):
            for _ in range(40):
                some = [
                    rng.choice(columns),
                    *(rng.choice(rng.choice([columns, literals])) for _ in range(number - 1)),
                ]
                tried.add(f"{name}({', '.join(some)})")
        left = each
        for expression in sorted(tried, key=lambda e: (e.count(","), rng.random())):
            if left and accepted(context, expression):
                left -= 1
                yield expression


def uses(context: SessionContext, seed: int, share: float) -> Iterator[str]:
    """Uses of operators, casts and special forms with operands by chance."""
    rng = random.Random(seed)
    tried = [
        f"({a} {op} {b})" for op in OPERATORS for a in COLUMNS for b in rng.sample(COLUMNS + LITERALS, 8)
    ]
    tried += [f"{cast}({c} as {t})" for cast in ("cast", "try_cast") for c in COLUMNS for t in TYPES]
    tried += [
        f"{cast}({c}, '{t}')"
        for cast in ("arrow_cast", "arrow_try_cast")
        for c in COLUMNS
        for t in ARROW_TYPES
    ]
    for form in FORMS:
        for column in COLUMNS:
            others = (
                rng.choice([column, rng.choice(COLUMNS), rng.choice(LITERALS)])
                for _ in range(form.count("{}") - 1)
            )
            tried.append(form.format(column, *others))
    yield from (e for e in tried if rng.random() < share and accepted(context, e))

"""The CSV kernel equals the reference decoder, on every instruction set, and touches no byte beyond its input."""

from __future__ import annotations

import random
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow import _kernels
from mmflow.formats.base import Comparison
from mmflow.formats.csv.decoder import CsvDecoder, CsvTypes
from mmflow.formats.csv.kernel import csv_decoder
from mmflow.formats.csv.structure import Dialect
from mmflow.formats.decoding.kernel_types import import_batch, kernel_type

from .draining import agree, drained, plain
from .guarded import guarded

SIMD = _kernels.simd_available()

TYPES = {
    "b": pa.bool_(),
    "i1": pa.int8(),
    "i2": pa.int16(),
    "i4": pa.int32(),
    "i8": pa.int64(),
    "u1": pa.uint8(),
    "u2": pa.uint16(),
    "u4": pa.uint32(),
    "u8": pa.uint64(),
    "f4": pa.float32(),
    "f8": pa.float64(),
    "d": pa.decimal128(15, 2),
    "d38": pa.decimal128(38, 10),
    "d3": pa.decimal128(3, 0),
    "day": pa.date32(),
    "ts": pa.time32("s"),
    "tms": pa.time32("ms"),
    "tus": pa.time64("us"),
    "tns": pa.time64("ns"),
    "s": pa.timestamp("s"),
    "us": pa.timestamp("us"),
    "ns": pa.timestamp("ns"),
    "utc": pa.timestamp("us", "UTC"),
    "text": pa.string_view(),
}

# Texts at the edges of what each type takes.
VALUES = [
    "", "0", "1", "-1", "-0", "+1", "007", "00000000000000000000001", "127", "128", "-128", "-129", "255", "256",
    "32767", "32768", "-32769", "65535", "65536", "2147483647", "2147483648", "-2147483649", "4294967295",
    "4294967296", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551615",
    "18446744073709551616", "999999999999999999", "1000000000000000000", "12345678", "123456789", "1234567890123456",
    "0x1F", "1_000", "1e3", "1E3", "1e-3", "1.5", "-1.5", ".5", "5.", ".", "-", "-.5", "1.", "1..2", "1.2.3", "1e", "e1",
    "0.1", "0.10", "0.30000000000000004", "123456.789", "12345678.12345678", "123456789.123456789", "1234567.8",
    "12345678.5", "1234567.", "9007199254740993", "9007199254740992.5", "1e308", "1e309", "-1e400", "1e-400", "4.9e-324",
    "2.2250738585072011e-308", "1.7976931348623157e308", "8.41470984807896506e-1", "123456789012345678901234567890",
    "16777217", "3.4028236e38", "1e23", "nan", "NaN", "inf", "-inf", "Infinity", "true", "True", "TRUE", "tRUE", "false",
    "False", "FALSE", "yes", "1970-01-01", "1969-12-31", "2000-02-29", "1900-02-29", "2023-02-29", "0000-01-01",
    "9999-12-31", "2024-13-01", "2024-00-10", "2024-1-1", "2024-01-32", "20240101", "2024-01-01 ", "2024/01/01",
    "12:34", "12:34:56", "12:34:56.7", "12:34:56.789", "12:34:56.789012", "12:34:56.789012345", "12:34:56.", "24:00:00",
    "23:59:60", "1:2:3", "2024-05-06 07:08:09", "2024-05-06T07:08:09", "2024-05-06 07:08:09Z", "2024-05-06T07:08:09.5Z",
    "2024-05-06 07:08:09.123456", "2024-05-06 07:08:09.123456789", "2024-05-06 07:08:09+02:00", "2024-05-06T07:08:09.5-0130", "2024-05-06T07:08:09-23", "2024-05-06T07:08:09+24:00", "2024-05-06T07:08:09-00:60",
    "0000-01-01 00:00:00+01", "2024-05-06 07:08:09+", "2024-05-06 07:08:09Z+01", "1677-09-21 00:12:44-23:59", "2024-05-06T07",
    "2024-05-06 07:08", "2024-05-06", "1677-09-21 00:12:43.145224192", "2262-04-12 00:00:00", "9999-12-31 23:59:59",
    "0001-01-01 00:00:00", "NA", "null", "NULL", " 1", "1 ", "\t1", "99.99", "99.999", "9999999999999.99", "99999999999999",
    "-9999999999999.99", "0.001", "1e2", "999", "1000", "-999", "x", "text", "twelve bytes", "thirteen byte", "é", "日本語の文字列です",
    "\x00", "a\x00b", "\x7f",
]  # fmt: skip


def both(
    text: bytes,
    types: CsvTypes,
    columns: tuple[str, ...],
    *,
    dialect: Dialect = Dialect(),  # noqa: B008  (frozen)
    policy: Literal["error", "null", "skip"] = "null",
    stop: int | None = None,
    final: bool = True,
    side: Literal["front", "back"] = "back",
) -> None:
    """Assert that kernel and reference are equal, on every instruction set."""
    agree(
        CsvDecoder(columns, types, dialect, policy),
        lambda: csv_decoder(columns, types, dialect, policy),
        guarded(text, side),
        len(text) if stop is None else stop,
        final=final,
    )


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize(("nulls", "exact"), [(("",), False), (("", "NA", "-1"), True), ((), False)])
def test_values_at_the_edges_of_a_type(name: str, nulls: tuple[str, ...], exact: bool) -> None:
    kind = TYPES[name]
    types = CsvTypes(("v", "n"), {"v": kind, "n": pa.int64()}, nulls, exact)
    schema = pa.schema([("v", kind)])
    ends: list[tuple[str, Literal["front", "back"]]] = [("\n", "back"), ("", "back"), ("\r\n", "front")]
    forms = [form for value in VALUES for form in (value, f'"{value}"') if not form.startswith("\0")]
    text = "".join(f"{form},1\n" for form in forms).encode()
    judged = CsvDecoder(("v",), types, Dialect(), "null").decode(
        pa.py_buffer(text), len(text), final=True, located=False
    )
    bad = {b.record for b in judged.bad}
    wanted = plain(judged.batch.column(0))
    inputs = [
        (row, guarded(f"{form},1{end}".encode(), side))
        for row, form in enumerate(forms)
        for end, side in ends
    ]
    for isa in SIMD:
        _kernels.simd_use(isa)
        kernel = _kernels.CsvReader(
            2,
            ord(","),
            ord('"'),
            [(0, kernel_type(kind, exact=exact))],
            [],
            [n.encode() for n in nulls],
            False,
        )
        read = 0
        for row, data in inputs:
            status, _, records, rows, _, capsule, _ = kernel.decode(data.address, data.size, 1, True, data)
            if status:
                assert records == rows == 0
                continue
            read += 1
            assert row not in bad, (isa, forms[row])
            assert rows == records == 1
            got = import_batch(schema, capsule, rows)
            got.validate(full=True)
            assert plain(got.column(0)) == wanted[row : row + 1], (isa, forms[row])
        assert read >= 3 * 2  # what is plain is read, not left to the reference


@given(
    value=st.text("0123456789.-+eE:TZ ", max_size=24),
    name=st.sampled_from(sorted(TYPES)),
    exact=st.booleans(),
)
def test_any_text_as_any_type(value: str, name: str, exact: bool) -> None:
    types = CsvTypes(("n", "v"), {"v": TYPES[name], "n": pa.int64()}, ("",), exact)
    both(f"1,{value}\n2,{value}".encode(), types, ("v",))


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_correctly_rounded(value: float) -> None:
    types = CsvTypes(("v", "w"), {"v": pa.float64(), "w": pa.float32()}, ("",))
    for text in (repr(value), f"{value:.2f}", f"{value:.17e}"):
        both(f"{text},{text}\n".encode(), types, ("v", "w"))


# ---- structure -----------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [b",", b",", b"\n", b"\n", b"\r\n", b"\r", b'"', b'""', b'"a,b"', b'"x\ny"', b'"q""q"', b"\x00", b"\x00\x00\x00", b"1",
     b"22", b"-3.5", b"text", b"", b" ", "é".encode(), b"\xff", b"x" * 70, b"2024-01-02", b'"",""', b"\n\n"]
)  # fmt: skip


@given(
    pieces=st.lists(PIECES, max_size=60),
    fields=st.integers(1, 4),
    quote=st.sampled_from([b'"', None, b"'"]),
    policy=st.sampled_from(["error", "null", "skip"]),
    stop=st.integers(0, 400),
    final=st.booleans(),
    side=st.sampled_from(["front", "back"]),
)
def test_any_bytes(
    pieces: list[bytes],
    fields: int,
    quote: bytes | None,
    policy: Literal["error", "null", "skip"],
    stop: int,
    final: bool,
    side: Literal["front", "back"],
) -> None:
    names = tuple("abcd"[:fields])
    kinds = [pa.string_view(), pa.int64(), pa.float64(), pa.date32()]
    types = CsvTypes(names, dict(zip(names, kinds[:fields], strict=True)), ("",))
    text = b"".join(pieces)
    for columns in (names, names[-1:], ()):
        both(
            text,
            types,
            columns,
            dialect=Dialect(b",", quote),
            policy=policy,
            stop=stop,
            final=final,
            side=side,
        )


def table(rows: int, seed: int, *, quoted: bool, newline: bytes) -> bytes:
    """Build plain records, with quoted text, some of it with doubled quotes and newlines."""
    draw = random.Random(seed)
    texts = [
        "plain",
        '"in quotes"',
        '"with, comma"',
        '"say ""so"""',
        '"two\nlines"',
        "",
        '""',
        "a longer text that is no inline view",
    ]
    lines = []
    for i in range(rows):
        text = draw.choice(texts if quoted else ["plain", "", "a longer text that is no inline view"])
        lines.append(
            f"{i},{draw.uniform(-1e6, 1e6):.2f},{text},{2000 + i % 30}-0{1 + i % 9}-1{i % 10}".encode()
        )
    return newline.join([*lines, b""])


COLUMNS = CsvTypes(
    ("i", "f", "s", "d"),
    {"i": pa.int64(), "f": pa.float64(), "s": pa.string_view(), "d": pa.date32()},
    ("",),
)


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("rows", [1, 2, 63, 1000, 9000])
def test_plain_files_are_read_by_the_kernel_alone(quoted: bool, newline: bytes, rows: int) -> None:
    text = table(rows, rows, quoted=quoted, newline=newline)
    data = guarded(text, "back")
    for isa in SIMD:
        _kernels.simd_use(isa)
        kernel = _kernels.CsvReader(
            4, ord(","), ord('"'), [(2, (16, 0, 0, False, (), False, False))], [], [b""], False
        )
        status, consumed, records, found, lines, _, _ = kernel.decode(
            data.address, data.size, len(text), True, data
        )
        assert (status, consumed, records, found) == (0, len(text), rows, rows)
        assert lines == text.count(b"\n")
    both(text, COLUMNS, ("s", "d", "f", "i"))
    both(text, COLUMNS, ("d",), stop=len(text) // 2, side="front")
    both(text[:-1], COLUMNS, ("d", "s"), final=False)
    both(text[: -len(newline)], COLUMNS, ("d", "s"), final=True)


@pytest.mark.parametrize("where", [0, 500, 8999])
@pytest.mark.parametrize(
    "odd",
    [
        b"1,2\n",
        b"1,2,3,4,5\n",
        b'1,2,"x"y,2000-01-01\n',
        b'1,2,x"y,2000-01-01\n',
        b"z,2,x,2000-01-01\n",
        b"\x00\n",
        b"\n\n\r\n",
    ],
)
def test_record_that_needs_fallback_in_a_plain_file(where: int, odd: bytes) -> None:
    lines = table(9000, 7, quoted=False, newline=b"\n").splitlines(keepends=True)
    text = b"".join([*lines[:where], odd, *lines[where:]])
    for policy in ("error", "null", "skip"):
        both(text, COLUMNS, ("i", "s"), policy=policy)


@pytest.mark.parametrize("name", [n for n in TYPES if n != "text"])
@settings(max_examples=max(10, settings().max_examples // 5))  # each is forty records, judged twice
@given(seed=st.integers(0, 1 << 32), share=st.sampled_from([0.0, 0.02, 0.5]), exact=st.booleans())
def test_batches_of_short_and_long_values(name: str, seed: int, share: float, exact: bool) -> None:
    """Build values for the batch, with a `share` of others: long, null, quoted, or wrong."""
    draw = random.Random(seed)
    kind = TYPES[name]

    def short() -> str:
        if pa.types.is_date(kind):
            return f"{draw.randrange(0, 10_000):04}-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}"
        digits = "0" * (draw.random() < 0.05) + str(draw.randrange(10 ** draw.randrange(1, 7)))
        point = draw.randrange(1, len(digits)) if len(digits) > 1 and draw.random() < 0.5 else 0
        text = digits[:point] + "." + digits[point:] if point and not pa.types.is_integer(kind) else digits
        return "-" + text if draw.random() < 0.3 else text

    values = [draw.choice(VALUES[:-3]) if draw.random() < share else short() for _ in range(40)]
    texts = [f'"{v}"' if draw.random() < share else v for v in values]
    types = CsvTypes(("k", "v"), {"k": pa.int64(), "v": kind}, ("",), exact)
    text = "".join(f"{i},{v}\n" for i, v in enumerate(texts)).encode()
    both(text, types, ("v", "k"))
    both(text, types, ("v",), policy="skip")


@pytest.mark.parametrize("where", [70, 199])
@pytest.mark.parametrize("odd", ["", '"quoted, ""twice"""', "höher", "x" * 40])
def test_texts_of_any_length(where: int, odd: str) -> None:
    """Texts are read 64 at a time where all are plain; the last ones end with the file."""
    draw = random.Random(where)
    texts = ["abcdefghijklmnopq"[: draw.randrange(1, 18)] for _ in range(200)]
    texts[where] = odd
    types = CsvTypes(("t", "v"), {"t": pa.string_view(), "v": pa.string_view()}, ("",), False)
    for end in ("\n", "\r\n"):
        text = "".join(f"{t},{t[1:4]}{end}" for t in texts if not t.startswith('"'))
        both(text.encode(), types, ("t", "v"))
    both("".join(f"{n},{t}\n" for n, t in enumerate(texts)).encode(), types, ("v", "t"))


@given(st.data())
def test_any_fields_of_wide_records(data: st.DataObject) -> None:
    """Read any fields of records of up to 150, since they determine which starts are kept."""
    fields = data.draw(st.integers(1, 150))
    names = tuple(f"c{i}" for i in range(fields))
    wanted = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=8))
    draw = random.Random(data.draw(st.integers(0, 1 << 32)))
    values = ["", "x", "longer than twelve bytes", '"a, b"', '"say ""so"""']
    newline = draw.choice([b"\n", b"\r\n"])
    records = [
        b",".join(draw.choice(values).encode() for _ in range(fields)) for _ in range(draw.randrange(1, 60))
    ]
    if data.draw(st.booleans()):
        records.insert(
            draw.randrange(len(records)), data.draw(st.sampled_from([b"", b",", b"x" + b"," * fields]))
        )
    text = newline.join([*records, b""] if data.draw(st.booleans()) else records)
    types = CsvTypes(names, dict.fromkeys(names, pa.string_view()), ("",))
    both(text, types, tuple(wanted), policy="skip")


# ---- filters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prune", "keeps"),
    [  # text with doubled quotes is left to the query's own filter
        ([Comparison("i", "ge", 100), Comparison("i", "lt", 200)], lambda i, f, s, d: 100 <= i < 200),
        ([Comparison("i", "in", (5, 7))], lambda i, f, s, d: 5 <= i <= 7),
        ([Comparison("s", "eq", "plain")], lambda i, f, s, d: s in ("plain", 'say "so"')),
        ([Comparison("s", "in", ("plain", "in quotes"))], lambda i, f, s, d: s in ("plain", "in quotes", 'say "so"')),
        ([Comparison("f", "gt", 0.0), Comparison("s", "is_not_null", None)], lambda i, f, s, d: f >= 0 and s is not None),
        ([Comparison("s", "eq", "plain"), Comparison("f", "le", -5e5)], lambda i, f, s, d: s in ("plain", 'say "so"') and f <= -5e5),
    ],
)  # fmt: skip
def test_leaves_out_rows_that_certainly_fail_the_filter(
    simd: str, prune: list[Comparison], keeps: Any
) -> None:
    text = table(3000, 3, quoted=True, newline=b"\n")
    names = ("i", "f", "s", "d")
    reference = CsvDecoder(names, COLUMNS, Dialect(), "error")
    native = csv_decoder(names, COLUMNS, Dialect(), "error", prune=prune)
    data = guarded(text, "back")
    rows, at, records, lines, _ = drained(native, data, len(text), final=True)
    everything, *counts = drained(reference, data, len(text), final=True)
    assert [at, records, lines, []] == counts
    assert rows == [r for r in everything if keeps(r[0], float.fromhex(r[1]), r[2], r[3])]
    assert len(rows) < len(everything)

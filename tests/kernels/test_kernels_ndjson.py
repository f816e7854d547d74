"""The NDJSON kernel equals the reference decoder, on every instruction set, and touches no byte beyond its input."""

from __future__ import annotations

import json
import random
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow import _kernels
from mmflow.formats.base import Comparison
from mmflow.formats.decoding.kernel_types import import_batch, nested_kernel_type
from mmflow.formats.ndjson.decoder import NdjsonDecoder
from mmflow.formats.ndjson.kernel import ndjson_decoder

from .draining import agree, drained, plain
from .guarded import guarded

SIMD = _kernels.simd_available()

POINT = pa.struct([("x", pa.float64()), ("name", pa.string_view())])
TYPES = {
    "b": pa.bool_(),
    "i1": pa.int8(),
    "i4": pa.int32(),
    "i8": pa.int64(),
    "u1": pa.uint8(),
    "u8": pa.uint64(),
    "f4": pa.float32(),
    "f8": pa.float64(),
    "d": pa.decimal128(5, 1),
    "d38": pa.decimal128(38, 10),
    "day": pa.date32(),
    "ts": pa.time32("s"),
    "tus": pa.time64("us"),
    "us": pa.timestamp("us"),
    "ns": pa.timestamp("ns"),
    "utc": pa.timestamp("us", "UTC"),
    "zone": pa.timestamp("ms", "Europe/Zurich"),
    "text": pa.string_view(),
    "list": pa.list_(pa.int64()),
    "texts": pa.list_(pa.string_view()),
    "point": POINT,
    "points": pa.list_(POINT),
    "deep": pa.struct([("a", pa.list_(pa.list_(pa.bool_()))), ("b", pa.struct([("c", pa.list_(POINT))]))]),
}

# JSON, and what only looks like it, at the edges of what each type takes.
VALUES = [
    "null", "true", "false", "True", "tru", "nul", "truex", "NaN", "Infinity", "-Infinity", "0", "-0", "-0.0", "1", "-1", "+1",
    "01", "-01", "1.", ".1", "-", "-.1", "1e", "1e+", "1e5", "1E-5", "1e+05", "1.5", "-1.5", "1.50", "1.25", "127", "128", "-129",
    "255", "256", "2147483648", "123456789012345678", "9223372036854775807", "9223372036854775808", "18446744073709551615",
    "18446744073709551616", "1e400", "-1e400", "1e-400", "1e99999", "1e999999999999999999999", "9" * 400, "0.1",
    "16777217.0000001", "9007199254740993", "0.30000000000000004", "1x", "0x1", "1_0", "1 2", '""', '"a"', '"1"', '"1.5"', '"true"',
    '"twelve bytes"', '"thirteen byte"', '"é"', '"日本語の文字列です"', '"\\n"', '"\\""', '"\\\\"', '"a\\/b"', '"\\b\\f\\r\\t"',
    '"\\u0041"', '"\\u00e9\\u20ac and more of it"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\udc00"', '"\\ud800\\u0041"',
    '"\\ud83dx"', '"\\u12g4"', '"\\u12"', '"\\q"', '"\\', '"a', 'a"', '"a"b', '"a" "b"', '"a\tb"', '"\x00"', '"\x7f"',
    '"2024-05-06"', '"0000-01-01"', '"2024-13-01"', '"2024-05-06T07:08:09"', '"2024-05-06 07:08:09.5"',
    '"2024-05-06T07:08:09Z"', '"2024-05-06T07:08:09.123456789Z"', '"2024-05-06T07:08:09+02:00"', '"2024-05-06T07:08:09-0130"',
    '"2024-05-06T07:08:09+02"', '"2024-05-06T07:08:09+24:00"', '"12:34:56"', '"12:34:56.5"', '"12:34"', '"2024\\u002d05-06"', "[]", "[ ]",
    "[1]", "[1,2,null]", "[1,]", "[,1]", "[1 2]", "[1", "1]", "[true]", '["a",null,"b\\n"]', "[[1]]", "[[true],[],null]",
    "{}", "{ }", '{"x":1}', '{"x":1,"name":"n"}', '{"name":null,"x":2.5,"y":[{}]}', '{"x":1,"x":2}', '{"x":"1"}', '{"x"}',
    '{"x":}', '{"x":1,}', "{1:2}", '{"x" : 1 , "name" : "a" }', '{"\\u0078":1}', '[{"x":1},{},null,{"name":"z"}]',
    '{"a":[[true],[]],"b":{"c":[{"x":1}]}}', '{"a":[[1]]}', '{"b":{"c":null}}', "[" * 70 + "]" * 70, "{}}", "[]]", "",
]  # fmt: skip


def both(
    text: bytes,
    schema: pa.Schema,
    columns: tuple[str, ...],
    *,
    closed: bool = False,
    check_all: bool = False,
    exact: bool = False,
    policy: Literal["error", "null", "skip"] = "null",
    stop: int | None = None,
    final: bool = True,
    side: Literal["front", "back"] = "back",
) -> None:
    """Assert that kernel and reference are equal, on every instruction set."""
    agree(
        NdjsonDecoder(columns, schema, policy, closed=closed, check_all=check_all, exact=exact),
        lambda: ndjson_decoder(columns, schema, policy, closed=closed, check_all=check_all, exact=exact),
        guarded(text, side),
        len(text) if stop is None else stop,
        final=final,
    )


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("form", ['{{"v":{}}}', ' {{ "a":1, "v" :  {} \t}} \r', '{{"v":1,"v":{},"z":[]}}'])
@pytest.mark.parametrize("exact", [False, True])
def test_values_at_the_edges_of_a_type(name: str, form: str, exact: bool) -> None:
    kind = TYPES[name]
    schema = pa.schema([("v", kind)])
    reference = NdjsonDecoder(("v",), schema, "null", closed=False, exact=exact)
    sides: list[Literal["front", "back"]] = ["front", "back"]
    inputs = []
    for value in VALUES:
        text = (form.format(value) + "\n").encode()
        judged = reference.decode(pa.py_buffer(text), len(text), final=True, located=False)
        inputs += [(value, judged, guarded(text, side)) for side in sides]
    for isa in SIMD:
        _kernels.simd_use(isa)
        kernel = _kernels.JsonReader(
            [(b"v", 0)], False, 1, [(0, nested_kernel_type(kind, exact=exact))], [], False
        )
        read = 0
        for value, judged, data in inputs:
            status, consumed, records, rows, _, capsule, _ = kernel.decode(
                data.address, data.size, 1, True, data
            )
            if status:
                assert records == rows == consumed == 0
                continue
            read += 1
            assert not judged.bad, (isa, value)
            assert (rows, records, consumed) == (1, 1, data.size)
            got = import_batch(schema, capsule, rows)
            got.validate(full=True)
            assert plain(got.column(0)) == plain(judged.batch.column(0)), (isa, value)
        assert read >= 2 * 2  # what is plain is read, not left to the reference


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("where", ['{{"s":{},"v":7}}', '{{"v":7,"s":[1,{{"k":{}}}]}}'])
def test_values_that_are_skipped_are_checked(value: str, where: str) -> None:
    schema = pa.schema([("v", pa.int64())])
    reference = NdjsonDecoder(("v",), schema, "null", closed=False)
    text = (where.format(value) + "\n").encode()
    judged = reference.decode(pa.py_buffer(text), len(text), final=True, located=False)
    data = guarded(text, "back")
    for isa in SIMD:
        _kernels.simd_use(isa)
        kernel = _kernels.JsonReader([(b"v", 0)], False, 1, [(0, nested_kernel_type(pa.int64()))], [], False)
        status, _, _, rows, _, capsule, _ = kernel.decode(data.address, data.size, len(text), True, data)
        if not status:
            assert not judged.bad, isa
            assert import_batch(schema, capsule, rows).column(0).to_pylist() == [7]
        else:
            assert judged.bad or any(mark in value for mark in ("\\", "e9", "[" * 61, "9" * 300, "e-400")), (
                isa
            )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"x": st.floats(allow_nan=False, allow_infinity=False)},
            optional={
                "t": st.text(),
                "l": st.lists(st.none() | st.text(max_size=20)),
                "other": JSON,
                "é": JSON,
            },
        ),
        max_size=30,
    ),
    ascii_only=st.booleans(),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\r:  ")]),
)
def test_any_json_is_read_by_the_kernel(
    rows: list[dict[str, Any]], ascii_only: bool, separators: Any
) -> None:
    schema = pa.schema([("x", pa.float64()), ("t", pa.string_view()), ("l", pa.list_(pa.string_view()))])
    lines = [json.dumps(r, ensure_ascii=ascii_only, separators=separators) for r in rows]
    text = "".join(line + "\n" for line in lines).encode(errors="replace")
    for columns in (("x", "t", "l"), ("l",), ()):
        both(text, schema, columns)


# ---- structure -----------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [b"\n", b"\n", b"\r\n", b'{"a":1}\n', b'{"a":2,"b":"x"}\n', b'{"b":"\\"","a":null}\n', b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\",
     b'"a"', b'"b"', b'"a":', b'"b":', b"1", b"-2.5", b"true", b"null", b" ", b"\t", b"\r", b"\x00", b"\x00\x00\n", b"\xff", "é".encode(),
     b'"c":[1,{"d":2}]', b"x" * 70, b'"' + b"y" * 80 + b'"', b"\\\\", b'\\"', b"\x1a", b"\x0c", b'{"unknown":0}\n']
)  # fmt: skip


@given(
    pieces=st.lists(PIECES, max_size=60),
    policy=st.sampled_from(["error", "null", "skip"]),
    closed=st.booleans(),
    check_all=st.booleans(),
    stop=st.integers(0, 500),
    final=st.booleans(),
    side=st.sampled_from(["front", "back"]),
)
def test_any_bytes(
    pieces: list[bytes],
    policy: Literal["error", "null", "skip"],
    closed: bool,
    check_all: bool,
    stop: int,
    final: bool,
    side: Literal["front", "back"],
) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string_view())])
    text = b"".join(pieces)
    for columns in (("a", "b"), ("b",), ()):
        both(
            text,
            schema,
            columns,
            closed=closed,
            check_all=check_all,
            policy=policy,
            stop=stop,
            final=final,
            side=side,
        )


SHAPED = (
    b'{"text":"a","a key of more than sixteen bytes, and then some more of them":1.5,"i8":7, "list": [1, 2],'
    b'"point":{"x":-2,"name":null},"another key, too long for one comparison of words":true}\n'
)


@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(SHAPED) - 1), st.sampled_from(b'"\\{}[]:, \t\n\x00x7-.e\xc3')),
        min_size=1,
        max_size=2,
    ),
    before=st.integers(1, 3),
    after=st.integers(0, 2),
)
def test_a_byte_that_differs_from_records_of_the_same_shape(
    changes: list[tuple[int, int]], before: int, after: int
) -> None:
    record = bytearray(SHAPED)
    for place, byte in changes:
        record[place] = byte
    columns = ("text", "i8", "list", "point")
    schema = pa.schema([(name, TYPES[name]) for name in columns])
    both(SHAPED * before + bytes(record) + SHAPED * after, schema, columns)


ALIKE = b'{"text":"ab","f8": 1.5,"flag":true, "in":{"i8":12},"texts":["c"] , "last":null}\n'
DIFFERENT = [
    b'"',
    b"\\",
    b'\\"',
    b"{",
    b"}",
    b"[1]",
    b":",
    b",",
    b" ",
    b"\t",
    b"\n",
    b"\x00",
    b"0",
    b"-",
    b".",
    b"e1",
    b"\xc3",
    b"",
]
# More than the first chunk, from which the layout is learned.
LEARNED = ALIKE * (1100 // len(ALIKE))


@pytest.mark.parametrize("different", DIFFERENT)
def test_bytes_that_differ_from_the_layout_of_a_file(different: bytes) -> None:
    """Any byte of a record, replaced, and the record behind it as a witness that its end was found."""
    columns = ("text", "f8", "flag", "last")
    schema = pa.schema(
        [*((n, TYPES[n]) for n in ("text", "f8")), ("flag", pa.bool_()), ("last", pa.string_view())]
    )
    for place in range(len(ALIKE)):
        record = ALIKE[:place] + different + ALIKE[place + 1 :]
        both(LEARNED + record + ALIKE, schema, columns, policy="error")


VARYING: dict[str, list[Any]] = {
    "text": [
        "",
        "a",
        "twelve bytes",
        "thirteen bytes",
        "x" * 90,
        'a "quoted" word',
        "back\\slash",
        "é",
        "\ud800",
    ],
    "i8": [0, 7, -7, 12345678, -12345678, 123456789, 10**17, None],
    "f8": [0, 0.5, -0.25, 1.0, 1234.567, -123.4567, 0.1 + 0.2, 1e300, None],
    "flag": [True, False, None],
}


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(60, 200),
    odd=st.dictionaries(
        st.integers(0, 300),
        st.sampled_from([b"\n", b'{"f8":1}\n', b'{"text":"\x1f"}\n', b"[]\n"]),
        max_size=2,
    ),
    separators=st.sampled_from([(",", ":"), (", ", ": ")]),
    stop=st.none() | st.integers(0, 30_000),
    filtered=st.booleans(),
)
def test_records_of_one_layout(
    seed: int, rows: int, odd: dict[int, bytes], separators: Any, stop: int | None, filtered: bool
) -> None:
    draw = random.Random(seed)
    # A filter leaves out rows before their text is looked at.
    varying = VARYING | {"text": VARYING["text"][:-1]} if filtered else VARYING
    # One row in ten has values of odd lengths and spellings.
    lines = []
    for _ in range(rows):
        row = {n: draw.choice(of if draw.random() < 0.1 else of[:4]) for n, of in varying.items()}
        row["flag"] = {"in": row["flag"]}
        lines.append(json.dumps(row, separators=separators).encode() + b"\n")
    for place, line in odd.items():
        lines.insert(place, line)
    text = b"".join(lines)
    schema = pa.schema([(n, TYPES[n]) for n in ("text", "i8", "f8")])
    if not filtered:
        both(text, schema, ("f8", "text", "i8"), stop=stop)
        return
    data = guarded(text, "back")
    stop = len(text) if stop is None else stop
    reference = NdjsonDecoder(("text", "i8"), schema, "error", closed=False)
    wanted = drained(reference, data, stop, final=True)
    kept = [row for row in wanted[0] if row[1] is not None and row[1] >= 7]
    for isa in SIMD:
        _kernels.simd_use(isa)
        native = ndjson_decoder(
            ("text", "i8"), schema, "error", closed=False, prune=[Comparison("i8", "ge", 7)]
        )
        got = drained(native, data, stop, final=True)
        assert [row for row in got[0] if row[1] is not None and row[1] >= 7] == kept
        assert got[1:] == wanted[1:]


@given(slashes=st.lists(st.integers(0, 140), min_size=1, max_size=6), pad=st.integers(0, 130))
def test_runs_of_backslashes_across_blocks(slashes: list[int], pad: int) -> None:
    rows = [{"p": "x" * pad, "t": "\\" * n + '"' * (n % 3)} for n in slashes]
    text = "".join(json.dumps(r) + "\n" for r in rows).encode()
    schema = pa.schema([("t", pa.string_view())])
    for isa in SIMD:
        _kernels.simd_use(isa)
        kernel = _kernels.JsonReader(
            [(b"t", 0)], False, 1, [(0, nested_kernel_type(pa.string_view()))], [], False
        )
        data = guarded(text, "back")
        status, _, _, found, _, capsule, _ = kernel.decode(data.address, data.size, len(text), True, data)
        assert status == 0
        assert import_batch(schema, capsule, found).column(0).to_pylist() == [r["t"] for r in rows]


def table(rows: int, seed: int) -> bytes:
    """Build plain records of several shapes."""
    draw = random.Random(seed)
    lines = []
    for i in range(rows):
        record: dict[str, Any] = {
            "i": i,
            "f": draw.uniform(-1e6, 1e6),
            "s": draw.choice(["", "a", "a longer text", None]),
        }
        if draw.random() < 0.3:
            record = dict(reversed(record.items()))
        if draw.random() < 0.3:
            record["more"] = {"deep": [1, {"er": "\\n"}]}
        lines.append(json.dumps(record))
    return "".join(line + "\n" for line in lines).encode()


SCHEMA = pa.schema([("i", pa.int64()), ("f", pa.float64()), ("s", pa.string_view())])


@pytest.mark.parametrize("rows", [1, 2, 1000, 9000])
def test_plain_files_are_read_by_the_kernel_alone(rows: int) -> None:
    text = table(rows, rows)
    keys = [(b"s", 0)]
    data = guarded(text, "back")
    for isa in SIMD:
        _kernels.simd_use(isa)
        kernel = _kernels.JsonReader(keys, False, 1, [(0, nested_kernel_type(pa.string_view()))], [], False)
        status, consumed, records, found, lines, _, _ = kernel.decode(
            data.address, data.size, len(text), True, data
        )
        assert (status, consumed, records, found, lines) == (0, len(text), rows, rows, rows)
    both(text, SCHEMA, ("s", "f", "i"))
    both(text, SCHEMA, ("f",), stop=len(text) // 2, side="front")
    both(text[:-1], SCHEMA, ("i", "s"), final=False)
    both(text[:-1], SCHEMA, ("i", "s"), final=True)


@pytest.mark.parametrize("where", [0, 500, 2499])
@pytest.mark.parametrize(
    "odd",
    [
        b"{}\n",
        b"\n \n",
        b"{]\n",
        b'{"i":1.5}\n',
        b'{"i":1',
        b'"\n',
        b"\x00\n",
        b'{"s":"\xff"}\n',
        b'{"\\u0069":4}\n',
        b"[]\n",
    ],
)
def test_record_that_needs_fallback_in_a_plain_file(where: int, odd: bytes) -> None:
    lines = table(2500, 7).splitlines(keepends=True)
    text = b"".join([*lines[:where], odd, *lines[where:]])
    for policy in ("error", "null", "skip"):
        both(text, SCHEMA, ("i", "s"), policy=policy)


# ---- filters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prune", "keeps"),
    [
        ([Comparison("i", "ge", 100), Comparison("i", "lt", 200)], lambda i, f, s: 100 <= i < 200),
        ([Comparison("s", "eq", "a longer text")], lambda i, f, s: s == "a longer text"),
        ([Comparison("s", "is_not_null", None)], lambda i, f, s: s is not None),
        (
            [Comparison("f", "gt", 0.0), Comparison("s", "in", ("", "a"))],
            lambda i, f, s: f >= 0 and s in ("", "a"),
        ),
    ],
)
def test_filters_leave_out_just_the_rows_that_fail(simd: str, prune: list[Comparison], keeps: Any) -> None:
    text = table(9000, 3)
    data = guarded(text, "back")
    reference = NdjsonDecoder(("i", "f", "s"), SCHEMA, "error", closed=False)
    rows, *counts = drained(reference, data, len(text), final=True)
    for columns in (("i", "f", "s"), ("i",)):
        native = ndjson_decoder(columns, SCHEMA, "error", closed=False, prune=prune)
        got, *same = drained(native, data, len(text), final=True)
        assert same == counts
        kept = [r for r in rows if keeps(r[0], float.fromhex(str(r[1])), r[2])]
        positions = [("i", "f", "s").index(c) for c in columns] + [3, 4]
        assert got == [tuple(r[p] for p in positions) for r in kept]


@pytest.mark.parametrize("wanted", ["", "a", "eight by", "nine byte", "nine bytes and more"])
def test_a_filter_on_text_finds_texts_of_any_length_and_what_is_no_text(simd: str, wanted: str) -> None:
    near = [wanted, wanted + "x", wanted[:-1], wanted[:8], "x" + wanted[1:], "a\\", None]
    lines = [json.dumps({"i": i, "s": near[i % len(near)]}) + "\n" for i in range(200)]
    native = ndjson_decoder(("i", "s"), SCHEMA, "error", closed=False, prune=[Comparison("s", "eq", wanted)])
    text = "".join(lines).encode()
    rows, *_ = drained(native, guarded(text, "back"), len(text), final=True)
    # What has escapes is left to the query's own filter.
    assert [r[0] for r in rows if near[r[0] % 7] != "a\\"] == [i for i in range(200) if near[i % 7] == wanted]
    for line in (b'{"i":0,"s":5}\n', b'{"i":0,"s":[]}\n'):
        broken = text + line + text
        assert [b.column for b in drained(native, guarded(broken, "back"), len(broken), final=True)[-1]] == [
            "s"
        ]


@pytest.mark.parametrize("policy", ["null", "skip", "quarantine"])
def test_no_filter_where_bad_records_are_counted(policy: Any) -> None:
    text = b'{"i":1,"s":5}\n{"i":2,"s":"x"}\n'
    native = ndjson_decoder(("s",), SCHEMA, policy, closed=False, prune=[Comparison("i", "eq", 2)])
    _, _, records, _, bad = drained(native, guarded(text, "back"), len(text), final=True)
    assert records == 2
    assert [b.column for b in bad] == ["s"]

"""Record formats: the same rows for every shard size, window size and way of reading; bad records in their place."""

from __future__ import annotations

import csv
import gzip
import io as iolib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmflow.errors import BadRecordError, ConfigError, SourceError
from mmflow.formats import ScanReport, check_one_format, detect, open_format
from mmflow.formats.csv.structure import Dialect, parse_record, scan_structure

from .record_files import Io, read, ways

Way = tuple[int, int, Io]
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Long fields make files of several pages, so that every shard size cuts somewhere else.
texts = st.text(st.sampled_from('ab,"\n\r;é \t'), max_size=12) | st.integers(0, 3000).map(lambda n: "x" * n)


def write(tmp_path: Path, name: str, data: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


# ---- CSV ----------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(texts, st.none() | st.integers(-(2**63), 2**63 - 1), texts), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    st.booleans(),
    st.booleans(),
    ways,
)
@few
def test_csv_equals_pythons(
    tmp_path: Path, rows: list[Any], newline: str, quoting: Any, bom: bool, last: bool, way: Way
) -> None:
    out = iolib.StringIO()
    writer = csv.writer(out, lineterminator=newline, quoting=quoting)
    writer.writerow(["a", "n", "b"])
    # A lone carriage return is data here, and quoted by nobody else: leave it out.
    clean = [(a.replace("\r", "r"), n, b.replace("\r", "r")) for a, n, b in rows]
    for a, n, b in clean:
        writer.writerow([a, "" if n is None and quoting == csv.QUOTE_MINIMAL else 7 if n is None else n, b])
    text = out.getvalue()
    if last and text.endswith(newline):
        text = text[: -len(newline)]
    path = write(tmp_path, "f.csv", (b"\xef\xbb\xbf" if bom else b"") + text.encode())
    schema = {"a": "string", "n": "int64", "b": "string"}
    form = open_format("csv", [str(path)], schema=schema)
    whole, _ = read(path, form, ("a", "n", "b", "_line", "_offset"))
    wanted = list(csv.reader(iolib.StringIO(text, newline="")))[1:]
    assert [(r["a"] or "", "" if r["n"] is None else str(r["n"]), r["b"] or "") for r in whole] == [
        tuple(r) for r in wanted
    ]
    size, window, io = way
    assert (
        read(path, form, ("a", "n", "b", "_line", "_offset"), shard_size=size, window=window, io=io)[0]
        == whole
    )
    counted, _ = read(path, form, (), shard_size=size, window=window, io=io)
    assert len(counted) == len(whole)
    data = path.read_bytes()
    for row in whole:
        assert row["_line"] == data[: row["_offset"]].count(b"\n") + 1


_pieces = st.lists(
    st.sampled_from([b"a", b",", b'"', b"\n", b"\r", b"\0", b"\\", b'""', b'","', b'"\n"', b"b,c\n"]),
    max_size=30,
).map(b"".join)
_dialects = st.sampled_from(
    [Dialect(), Dialect(quote=None), Dialect(escape=b"\\"), Dialect(quote=None, escape=b"\\")]
)


@given(
    _pieces,
    st.integers(0, 60),
    _dialects,
    st.booleans(),
    st.sampled_from([(1, 8), (3, 8), (8, 64), (4096, 1 << 22)]),
)
@settings(max_examples=1000, deadline=None)
def test_structure_equals_the_byte_by_byte_definition(
    data: bytes, stop: int, dialect: Dialect, final: bool, chunks: tuple[int, int]
) -> None:
    from mmflow.formats.csv import structure

    wanted, position = [], 0
    while position < min(stop, len(data)):
        if data[position] == 0:
            position += 1
            continue
        record = parse_record(data, position, dialect, final=final)
        if record is None:
            break
        end, fields, broken = record
        following = min(end + 1, len(data))
        if end > position and data[end - 1] == 13:
            end -= 1
        if end > position:
            wanted.append((position, end, following, fields, broken))
        position = following
    before = structure._SMALL, structure._LARGE
    structure._SMALL, structure._LARGE = chunks
    try:
        found = scan_structure(np.frombuffer(data, np.uint8), stop, dialect, final=final)
    finally:
        structure._SMALL, structure._LARGE = before
    columns = (found.starts, found.ends, found.nexts, found.fields, found.broken)
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == wanted


@given(_pieces.map(lambda d: b"h,i\n" + d * 40), ways, st.sampled_from(["null", "skip", "quarantine"]))
@few
def test_any_bytes_are_read_alike_however_they_are_cut(
    tmp_path: Path, data: bytes, way: Way, policy: str
) -> None:
    """Broken quotes, NULs, ragged rows: rows and bad records are the same for every cut."""
    path = write(tmp_path, "f.csv", data + b"x" * 5000 + b",y\n" + data[4:])
    form = open_format("csv", [str(path)], schema="h:string,i:string", on_bad_record=policy)
    columns = ("h", "i", "_offset")
    rows, reports = read(path, form, columns)
    size, window, io = way
    cut_rows, cut_reports = read(path, form, columns, shard_size=size, window=window, io=io)
    assert cut_rows == rows
    assert sum(r.bad for r in cut_reports) == sum(r.bad for r in reports)
    assert sum(r.records for r in cut_reports) == sum(r.records for r in reports)
    _, uncounted = read(path, form, (), shard_size=size, window=window, io=io)
    assert sum(r.bad for r in uncounted) == sum(r.bad for r in reports)  # whatever columns are read


@pytest.mark.parametrize("end", [b"", b"\r", b"\n", b"\r\n"])
def test_an_empty_last_field_is_null_behind_a_quoted_one(tmp_path: Path, end: bytes) -> None:
    """Also where a broken record before it leaves the piece to the reference decoder (pyarrow says '' there)."""
    for before in (b"", b'"x"y,1\n', b'7,"8\n9"\n'):
        path = write(tmp_path, "f.csv", b"h,i\n" + before + b'"q",' + end)
        form = open_format("csv", [str(path)], schema="h:string,i:string", on_bad_record="null")
        rows, _ = read(path, form, ("h", "i"))
        assert rows[-1] == {"h": "q", "i": None}


@pytest.mark.parametrize("shard_size", [4096, 1 << 20])
@pytest.mark.parametrize(
    ("bad", "column", "value", "reason"),
    [
        (b"7,x1,t", "v", "x1", "int64"),
        (b"7", None, None, "expected 3 fields, found 1"),
        (b"7,1,t,u", None, None, "expected 3 fields, found 4"),
        (b'7,1,"t"u', None, None, "text after a closing quote"),
        (b"7,9223372036854775808,t", "v", "9223372036854775808", "int64"),
        (b"7,1.5,t", "v", "1.5", "int64"),
        (b"7,1,\xff", "s", "\ufffd", "UTF-8"),
    ],
)
def test_csv_errors_name_their_place(
    tmp_path: Path, bad: bytes, column: str | None, value: str | None, reason: str, shard_size: int
) -> None:
    good = [f'{i},{i},"two\nlines {i}"'.encode() for i in range(900)]
    lines = [b"k,v,s", *good[:700], bad, *good[700:]]
    path = write(tmp_path, "f.csv", b"\n".join(lines) + b"\n")
    schema = {"k": "int64", "v": "int64", "s": "string"}
    form = open_format("csv", [str(path)], schema=schema)
    with pytest.raises(BadRecordError) as caught:
        read(path, form, ("k", "v", "s"), shard_size=shard_size)
    context = caught.value.context
    offset = path.read_bytes().index(b"\n" + bad + b"\n") + 1
    assert (context["path"], context["byte_offset"], context["record"]) == (str(path), offset, 700)
    assert context["line"] == 2 + 1400
    assert (context["column"], context["value"]) == (column, value)
    assert reason in context["reason"]
    assert context["excerpt"] == bad
    for policy, kept in (("skip", 900), ("quarantine", 900), ("null", 901)):
        form = open_format("csv", [str(path)], schema=schema, on_bad_record=policy)
        rows, reports = read(path, form, ("k", "v", "s"), shard_size=shard_size)
        assert len(rows) == kept
        (reject,) = [r for report in reports for r in report.rejects]
        assert reject.byte_offset == offset
        assert reject.raw == (bad if policy == "quarantine" else b"")


def test_an_unclosed_quote_is_found_at_its_record(tmp_path: Path) -> None:
    path = write(tmp_path, "f.csv", b'a,b\n1,2\n3,"open\n' + b"4,5\n" * 3000)
    form = open_format("csv", [str(path)], schema="a:int64,b:string")
    for size in (4096, 1 << 20):
        with pytest.raises(BadRecordError, match="quote is not closed") as caught:
            read(path, form, ("a",), shard_size=size)
        assert caught.value.context["byte_offset"] == 8


def test_csv_types_and_nulls(tmp_path: Path) -> None:
    path = write(
        tmp_path, "f.csv",
        b"b,f,d,t,s,x\ntrue,1e3,2026-01-02,2026-01-02 03:04:05,\"\",NA\nfalse,-0.5,,,,v\n",
    )  # fmt: skip
    assert open_format("csv", [str(path)]).schema.types == [
        pa.bool_(), pa.float64(), pa.date32(), pa.timestamp("us"), pa.string_view(), pa.string_view()
    ]  # fmt: skip
    rows, _ = read(path, open_format("csv", [str(path)], null=["", "NA"]), ("b", "s", "x"))
    assert rows == [{"b": True, "s": "", "x": None}, {"b": False, "s": None, "x": "v"}]
    dec = open_format("csv", [str(path)], schema="f:decimal128(10,2)", header=True, on_bad_record="skip")
    assert [str(r["f"]) for r in read(path, dec, ("f",))[0]] == ["1000.00", "-0.50"]


# ---- NDJSON -------------------------------------------------------------------------------------

_values = st.fixed_dictionaries(
    {
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "f": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "s": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.just("y" * 2500),
        "n": st.none()
        | st.fixed_dictionaries({"l": st.lists(st.integers(-9, 9), max_size=3), "b": st.booleans()}),
    }
)
_NESTED = {"i": "int64", "f": "float64", "s": "string", "n": "struct<l:list<int64>,b:bool>"}


@given(st.lists(_values, max_size=12), st.booleans(), ways)
@few
def test_ndjson_equals_pythons(
    tmp_path: Path, records: list[dict[str, Any]], ascii_only: bool, way: Way
) -> None:
    lines = [
        json.dumps(r, ensure_ascii=ascii_only) + ("\n\n" if i % 3 == 0 else "\r\n")
        for i, r in enumerate(records)
    ]
    path = write(tmp_path, "f.ndjson", "".join(lines).encode())
    form = open_format("ndjson", [str(path)], schema=_NESTED)
    size, window, io = way
    rows, _ = read(path, form, ("i", "f", "s", "n"), shard_size=size, window=window, io=io)
    assert rows == records
    picked, _ = read(path, form, ("s", "_line"), shard_size=size, window=window, io=io)
    assert [r["s"] for r in picked] == [r["s"] for r in records]


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        (b'{"a":1.5}', "a", "expected int64"),
        (b'{"a":"1"}', "a", "expected int64"),
        (b'{"a":true}', "a", "boolean"),
        (b'{"a":9223372036854775808}', "a", "range"),
        (b'{"a":1', None, "not a JSON object"),
        (b'{"a":1} x', None, "not a JSON object"),
        (b'{"a":1}{"a":2}', None, "not a JSON object"),
        (b"[1]", None, "not a JSON object"),
        (b'{"a":NaN}', None, "not a JSON object"),
        (b'{"a":01}', None, "not a JSON object"),
        (b'{"s":"\x01"}', None, "not a JSON object"),
        (b'{"s":"\\ud800"}', "s", "surrogate"),
        (b'{"z":1}', "z", "on_new_field"),
        (b'{"s":"\xff"}', None, "not valid UTF-8 at byte 6"),
    ],
)
def test_ndjson_errors_name_their_place(tmp_path: Path, line: bytes, column: str | None, reason: str) -> None:
    good = b'{"a":1,"s":"t"}\n'
    path = write(tmp_path, "f.ndjson", good * 600 + line + b"\n" + good * 600)
    form = open_format("ndjson", [str(path)], schema="a:int64,s:string", on_new_field="error")
    with pytest.raises(BadRecordError) as caught:
        read(path, form, ("a", "s"), shard_size=4096)
    context = caught.value.context
    assert (context["byte_offset"], context["record"], context["line"]) == (600 * len(good), 600, 601)
    assert context["column"] == column
    assert reason in context["reason"]


def test_ndjson_last_duplicate_wins_and_missing_is_null(tmp_path: Path) -> None:
    path = write(tmp_path, "f.ndjson", b'{"a":1,"a":2}\n{}\n{"a":null,"s":"\\uDBFF\\uDFFF"}\n')
    form = open_format("ndjson", [str(path)], schema="a:int64,s:string")
    assert read(path, form, ("a", "s"))[0] == [
        {"a": 2, "s": None}, {"a": None, "s": None}, {"a": None, "s": "\U0010ffff"}
    ]  # fmt: skip


def test_a_late_field_is_never_dropped_in_silence(tmp_path: Path) -> None:
    path = write(
        tmp_path, "f.ndjson", b'{"a":1}\n' * 200_000 + b'{"a":1,"late":2}\n' + b'{"a":1}\n' * 200_000
    )
    form = open_format("ndjson", [str(path)])
    if "late" not in form.schema.names:
        with pytest.raises(BadRecordError, match="late"):
            read(path, form, ("a",))


# ---- text and binary records ------------------------------------------------------------------------


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=20)
        | st.just("z" * 3000),
        max_size=15,
    ),
    st.booleans(),
    ways,
)
@few
def test_text_lines(tmp_path: Path, lines: list[str], last: bool, way: Way) -> None:
    data = "\n".join(lines).encode() + (b"\n" if last and lines else b"")
    path = write(tmp_path, "f.log", data)
    wanted = data.decode().split("\n")
    if wanted and wanted[-1] == "":
        wanted.pop()
    size, window, io = way
    rows, _ = read(
        path, open_format("text", [str(path)]), ("line", "_line"), shard_size=size, window=window, io=io
    )
    assert [r["line"] for r in rows] == wanted
    assert [r["_line"] for r in rows] == list(range(1, len(wanted) + 1))


def test_text_views_alias_the_mapping(tmp_path: Path) -> None:
    path = write(tmp_path, "f.log", b"".join(b"line %06d of the log\n" % i for i in range(20_000)))
    form = open_format("text", [str(path)])
    (entry_size,) = [path.stat().st_size]
    from mmflow.formats import ScanRequest
    from mmflow.mapping import MappedFile
    from mmflow.shards import Shard

    with MappedFile.open(str(path), io="mmap") as file:
        batches = list(form.scan(file, Shard(0, 0, entry_size, fresh=True), ScanRequest(("line",))))
    data = [b.column(0).buffers()[2] for b in batches]
    assert sum(b.size for b in data) == entry_size  # the data buffers are the file itself
    assert batches[0].column(0)[19].as_py() == "line 000019 of the log"


@given(st.integers(0, 700), st.integers(0, 40), st.integers(0, 9), ways)
@few
def test_binary_records(tmp_path: Path, count: int, header: int, pad: int, way: Way) -> None:
    size = 8 + 4 + 5 + 1 + pad
    rows = [(i * 3 - 5, i / 4, f"t{i % 50}", i % 2 == 0) for i in range(count)]
    body = b"".join(
        struct.pack("<q", a) + struct.pack(">f", b) + c.encode().ljust(5) + bytes([d]) + b"p" * pad
        for a, b, c, d in rows
    )
    path = write(tmp_path, "f.bin", b"h" * header + body)
    layout = [
        {"name": "a", "type": "int64", "offset": 0},
        {"name": "b", "type": "float32", "offset": 8, "order": "big"},
        {"name": "c", "type": "char[5]", "offset": 12},
        {"name": "d", "type": "bool", "offset": 17},
    ]
    form = open_format("records", [str(path)], layout=layout, record_size=size, header_bytes=header)
    shard, window, io = way
    found, _ = read(path, form, ("a", "b", "c", "d", "_offset"), shard_size=shard, window=window, io=io)
    assert [(r["a"], r["b"], r["c"], r["d"]) for r in found] == rows
    assert [r["_offset"] for r in found] == [header + i * size for i in range(count)]
    assert [r["a"] for r in read(path, form, ("a",), shard_size=shard)[0]] == [r[0] for r in rows]


@pytest.mark.parametrize("name", ["csv", "ndjson", "text", "records"])
@given(
    lines=st.lists(st.integers(0, 3000), max_size=40),
    blanks=st.integers(0, 3),
    stop_after=st.integers(1, 3),
    way=ways,
)
@few
def test_a_scan_that_ends_at_a_batch_and_one_of_the_rest_are_one(
    tmp_path: Path, name: str, lines: list[int], blanks: int, stop_after: int, way: Way
) -> None:
    """Rows, their places, and what was counted."""
    made = {
        "csv": ['"' + "x" * n + '\n"' for n in lines],
        "ndjson": [json.dumps({"a": "x" * n}) for n in lines],
        "text": ["x" * n for n in lines],
        "records": [f"{n:07d}" for n in lines],
    }[name]
    gap = b"\n" * (1 if name in ("text", "records") else 1 + blanks)
    path = write(tmp_path, "f", (b"a\n" if name == "csv" else b"") + b"".join(m.encode() + gap for m in made))
    layout = [{"name": "a", "type": "char[7]", "offset": 0}]
    by_name: dict[str, dict[str, Any]] = {
        "csv": {"schema": {"a": "string"}},
        "ndjson": {"schema": {"a": "string"}},
        "text": {},
        "records": {"layout": layout, "record_size": 8},
    }
    form = open_format(name, [str(path)], **by_name[name])
    columns = ("line" if name == "text" else "a", "_offset", *(("_line",) if name != "records" else ()))
    whole, (report,) = read(path, form, columns) if lines else ([], [ScanReport()])
    size, window, io = way
    rows, reports = read(path, form, columns, shard_size=size, window=window, io=io, stop_after=stop_after)
    assert rows == whole
    if lines:
        assert sum(r.records for r in reports) == report.records
        assert sum(r.bytes_read for r in reports) == report.bytes_read


def test_a_partial_record_at_the_end_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "f.bin", struct.pack("<3q", 1, 2, 3)[:-3])
    layout = [{"name": "a", "type": "int64", "offset": 0}]
    with pytest.raises(BadRecordError, match="the file ends after 5"):
        read(path, open_format("records", [str(path)], layout=layout), ("a",))
    rows, reports = read(
        path, open_format("records", [str(path)], layout=layout, on_bad_record="skip"), ("a",)
    )
    assert [r["a"] for r in rows] == [1, 2]
    assert reports[0].bad == 1


# ---- compression, detection, options -------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2"])
def test_compressed_text_equals_plain(tmp_path: Path, suffix: str) -> None:
    data = b"k,s\n" + b"".join(b'%d,"quoted\n%d"\n' % (i, i) for i in range(50_000))
    plain = write(tmp_path, "f.csv", data)
    path = tmp_path / f"g.csv{suffix}"
    codec = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}[suffix]
    with pa.CompressedOutputStream(str(path), codec) as out:
        out.write(data)
    form = open_format("csv", [str(path)])
    columns = ("k", "s", "_line", "_offset")
    assert read(path, form, columns)[0] == read(plain, open_format("csv", [str(plain)]), columns)[0]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match="decompress"):
        read(path, form, columns)


def test_detection(tmp_path: Path) -> None:
    cases = {
        "a.csv": (b"a;b\n1;2\n", "csv", {"delimiter": ";"}),
        "b.tsv": (b"a\tb\n", "csv", {"delimiter": "\t"}),
        "c.csv": (b"a,b;c\n", "csv", {}),
        "d.jsonl": (b"{}\n", "ndjson", {}),
        "e": (b'{"a": 1}\n', "ndjson", {}),
        "f.log": (b"x\n", "text", {}),
        "g.unknown": (b"plain\n", "text", {}),
        "h.bin": (b"PAR1....", "parquet", {}),
        "i.x": (b"ARROW1\0\0", "arrow_ipc", {}),
        "j.x": (b"\x93NUMPY", "npy", {}),
        "k.csv.gz": (gzip.compress(b"a|b\n1|2\n"), "csv", {"delimiter": "|"}),
    }
    for name, (data, form, options) in cases.items():
        assert detect(str(write(tmp_path, name, data))) == (form, options), name
    with pytest.raises(SourceError, match="begins with"):
        detect(str(write(tmp_path, "x.parquet", b"nope")))
    with pytest.raises(SourceError, match="say which"):
        detect(str(write(tmp_path, "x.dat", b"\1\0\2")))
    mixed = [str(tmp_path / name) for name in ("a.csv", "e", "d.jsonl", "g.unknown", "k.csv.gz")]
    with pytest.raises(
        SourceError, match=r"these 5 files .* csv \(a\.csv\), ndjson \(d\.jsonl\); name those"
    ):
        check_one_format(mixed)
    check_one_format([mixed[i] for i in (0, 1, 3, 4)])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cvs", {}, "did you mean 'csv'"),
        ("csv", {"delimitr": ";"}, "did you mean 'delimiter'"),
        ("csv", {"delimiter": ";\n"}, "without line breaks"),
        ("csv", {"header": "maybe"}, "true or false"),
        ("csv", {"on_bad_record": "ignore"}, "error, null, skip, quarantine"),
        ("csv", {"schema": "a:int46"}, "did you mean"),
        ("csv", {"schema": "a:fixed_size_list<int64>[2]"}, "CSV can't be read as"),
        ("text", {"schema": "a:string"}, "leave schema= out"),
        ("records", {}, "layout"),
        (
            "records",
            {"layout": [{"name": "a", "type": "int64", "offset": 4}], "record_size": 8},
            "ends at byte 12",
        ),
        ("records", {"layout": [{"name": "a", "type": "string", "offset": 4}]}, "no fixed width"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, name: str, options: dict[str, Any], words: str) -> None:
    path = write(tmp_path, "f", b"a,b\n1,2\n")
    with pytest.raises(ConfigError, match=words):
        open_format(name, [str(path)], **options)


def test_a_schema_that_the_header_lacks(tmp_path: Path) -> None:
    path = write(tmp_path, "f.csv", b"name;age\nx;1\n")
    with pytest.raises(SourceError, match="it looks delimited by ';'"):
        read(path, open_format("csv", [str(path)], schema="name:string,age:int64"), ("age",))
    form = open_format("csv", [str(path)], schema="age:int64", delimiter=";")
    assert read(path, form, ("age",))[0] == [{"age": 1}]

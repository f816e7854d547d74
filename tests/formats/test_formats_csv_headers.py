"""Headers of CSV files: every column has a name that can be used, or the file is refused with place and advice."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import BadRecordError, SourceError
from mmflow.formats import open_format
from mmflow.formats.csv.decoder import CsvDecoder, CsvTypes
from mmflow.formats.csv.header import first_record, holds_records, read_header, unique_names
from mmflow.formats.csv.structure import Dialect, parse_record


def written(folder: Path, data: bytes, name: str = "t.csv") -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"caf\xe9,b\n1,2\n", ["column 1 is not UTF-8", "encoding='windows-1252'", "line 1, byte offset 3"]),
        (b"\n\nb,caf\xe9\n1,2\n", ["column 2 is not UTF-8", "line 3, byte offset 7"]),
        ("日本語,名前\n1,2\n".encode("shift_jis"), ["not UTF-8", "encoding='shift_jis'"]),
        ("中文名称,姓名\n1,2\n".encode("gb18030"), ["not UTF-8", "encoding='gb18030'"]),
        ("a,b\n1,2\n".encode("utf-16"), ["UTF-16LE", "byte offset 0", "encoding='utf-16'"]),
        ("a,b\n1,2\n".encode("utf-16-le"), ["UTF-16LE"]),
        ("a,b\n1,2\n".encode("utf-16-be"), ["UTF-16BE"]),
        (b"\xfe\xff" + "a,b\n1,2\n".encode("utf-16-be"), ["UTF-16BE"]),
        ("a,b\n1,2\n".encode("utf-32"), ["UTF-32LE"]),
        (b"\0\0\xfe\xff" + "a,b\n1,2\n".encode("utf-32-be"), ["UTF-32BE"]),
        (gzip.compress(gzip.compress(b"a,b\n1,2\n", mtime=0), mtime=0), ["gzip", "compressed twice"]),
        (gzip.compress(bz2.compress(b"a,b\n1,2\n"), mtime=0), ["bzip2", "compressed twice"]),
        (b"PK\x03\x04\x14\0\0\0", ["its first bytes say zip", "damaged"]),
        (b"a\0b,c\n1,2\n", ["control character '\\x00'", "byte offset 1"]),
        (b"\x7fELF\x02\x01\x01\n", ["control character '\\x7f'", "byte offset 0"]),
        (b"a\x01b\n1\x012\n", ["control character '\\x01'", "set delimiter='\\x01'"]),
        (b'"a"x\n1\n', ["text after a closing quote", "line 1, byte offset 0", "quote="]),
        (b'"a,b\n1,2\n', ["a quote is not closed"]),
        (b"a,b\r1,2\n", ["carriage return", "line_end="]),
    ],
)
def test_a_header_that_is_no_text_is_refused_with_place_and_advice(
    tmp_path: Path, data: bytes, words: list[str]
) -> None:
    path = written(tmp_path, data)
    for schema in (None, "a:int64"):
        with pytest.raises(SourceError) as caught:
            mf.read_csv(path, schema=schema).to_arrow()
        assert path in str(caught.value)
        for word in words:
            assert word in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-be"])
def test_other_unicode_encodings_are_refused_without_a_header_and_in_ndjson(
    tmp_path: Path, encoding: str
) -> None:
    path = written(tmp_path, '{"a":1}\n{"a":2}\n'.encode(encoding))
    with pytest.raises(SourceError, match=r"UTF-(16|32)"):
        mf.read_csv(path, header=False)
    with pytest.raises(SourceError, match=r"UTF-(16|32)"):
        mf.read_ndjson(path)


def test_equal_and_empty_names_are_numbered(tmp_path: Path) -> None:
    path = written(tmp_path, b"a,a,,b,a_2,,a\n1,2,3,4,5,6,7\n")
    names = ["a", "a_3", "column_3", "b", "a_2", "column_6", "a_4"]
    assert mf.read_csv(path).columns == names
    assert mf.read_csv(path).to_arrow().to_pylist() == [dict(zip(names, range(1, 8), strict=True))]
    declared = mf.read_csv(path, schema={"column_3": "string", "a_4": "int8"})
    assert declared.to_arrow().to_pylist() == [{"column_3": "3", "a_4": 7}]
    assert mf.sql(f"SELECT column_6, a_3 FROM '{path}'").to_arrow().to_pylist() == [{"column_6": 6, "a_3": 2}]
    with pytest.raises(BadRecordError, match="column 'a_3': not a value of type bool"):
        mf.read_csv(path, schema="a_3:bool").to_arrow()


@given(st.lists(st.sampled_from(["a", "a_2", "a_3", "", "column_2", "column_3_2", "b"]), max_size=9))
def test_unique_names_are_unique_and_keep_what_was_unique(names: list[str]) -> None:
    made = unique_names(names)
    assert len(set(made)) == len(names)
    assert "" not in made
    for place, (name, new) in enumerate(zip(names, made, strict=True)):
        if name and name not in names[:place]:
            assert new == name


_headers = st.lists(st.text(st.sampled_from('ab,"\n\r;é '), max_size=6), min_size=1, max_size=6)


@given(_headers, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_names_are_those_that_pythons_csv_wrote(names: list[str], end: str, mark: bool) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerow(names)
    data = b"\xef\xbb\xbf" * mark + text.getvalue().encode()
    found = read_header("t.csv", data + b"1", Dialect())
    assert found.names == unique_names(names)
    assert found.begins == len(data)


@given(st.lists(st.sampled_from([b"a", b",", b'"', b"\r", b"\n", b"b"]), max_size=14).map(b"".join))
def test_first_records_end_where_the_definition_says(data: bytes) -> None:
    found = first_record(data, Dialect())
    position = 0
    while position < len(data):
        expected = parse_record(data, position, Dialect(), final=True)
        assert expected is not None
        end, fields, broken = min(expected[0], len(data)), *expected[1:]
        if data[position:end].strip(b"\r\0"):
            assert found is not None
            assert (found.begin, found.following) == (position, min(end + 1, len(data)))
            assert bool(found.broken) == bool(broken)
            assert broken == 2 or len(found.fields) == fields
            complete = parse_record(data, position, Dialect(), final=False) is not None
            assert not complete or holds_records(data, Dialect(), 1)
            return
        position = end + 1
    assert found is None


_escaped = st.lists(st.sampled_from([b"a", b",", b'"', b"\\", b"\n", b" "]), min_size=1, max_size=12).map(
    b"".join
)


@given(_escaped, st.sampled_from([b'"', None]))
def test_first_records_with_escapes_are_split_as_decoders_split_them(
    data: bytes, quote: bytes | None
) -> None:
    dialect = Dialect(quote=quote, escape=b"\\")
    found = first_record(data + b"\n", dialect)
    if found is None or found.following > len(data) + 1:
        return
    _, count, broken = parse_record(data + b"\n", found.begin, dialect, final=True) or (0, 0, 0)
    assert (len(found.fields), found.broken) == (count, broken)
    record = (data + b"\n")[found.begin : found.following]
    if broken or not record.endswith(b"\n") or record.endswith(b"\\\n"):
        return
    names = tuple(map(str, range(count)))
    decoder = CsvDecoder(names, CsvTypes(names, dict.fromkeys(names, pa.binary()), ()), dialect, "error")
    batch = decoder.decode(pa.py_buffer(record), len(record), final=True, located=False).batch
    assert [column[0].as_py() for column in batch.columns] == list(found.fields)


def test_headers_with_escapes_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, b'a\\,b,"c\\"d"\n1,2\n')
    assert mf.read_csv(path, escape="\\").to_arrow().to_pylist() == [{"a,b": 1, 'c"d': 2}]


def test_a_header_or_first_record_longer_than_the_sample_is_read(tmp_path: Path) -> None:
    long = "x" * 400_000
    path = written(tmp_path, f"a,{long},c\n1,2,3\n".encode())
    assert mf.read_csv(path).columns == ["a", long, "c"]
    path = written(tmp_path, f'a,b\n1,"{long}\n,{long}"\n2,y\n'.encode())
    made = mf.read_csv(path).to_arrow()
    assert made.schema.types == [pa.int64(), pa.string()]
    assert made["b"].to_pylist() == [f"{long}\n,{long}", "y"]
    path = written(tmp_path, gzip.compress(f'{long},b\n1,"{long}"\n'.encode()), "t.csv.gz")
    assert mf.read_csv(path).to_arrow().to_pylist() == [{long: 1, "b": long}]


def test_types_of_a_wide_file(tmp_path: Path) -> None:
    count = 3000
    header, record = ",".join(f"c{i}" for i in range(count)), ",".join(["1", "x"] * (count // 2))
    form = open_format("csv", [written(tmp_path, f"{header}\n{record}\n".encode())])
    assert form.schema.types == [pa.int64(), pa.string_view()] * (count // 2)


def test_only_a_header_gives_no_rows(tmp_path: Path) -> None:
    for data in (b"a,b\n", b"a,b", b"\xef\xbb\xbfa,b\r\n"):
        made = mf.read_csv(written(tmp_path, data)).to_arrow()
        assert made.schema.names == ["a", "b"]
        assert made.num_rows == 0


def test_files_of_one_task_whose_headers_differ_do_not_share_a_decoder(tmp_path: Path) -> None:
    """Files of equal headers do; here the next file of a task has other columns, in another order, or line ends."""
    headers = ("a,b,c", "c,b,a", "a,b", "b,a,d", "a,b,c,")
    rows = {"a": "1", "b": "2.5", "c": "x", "d": "9", "": ""}
    expected = []
    for number in range(60):
        header = headers[number % 5]
        names = header.split(",")
        lines = [header.rstrip(",") if number % 5 == 4 else header, ",".join(rows[n] for n in names)]
        end = "\r" if number % 7 == 6 and number % 5 != 4 else "\n"
        written(tmp_path, end.join([*lines, ""]).encode(), f"{number:02}.csv")
        expected.append({"a": 1 if "a" in names else None, "b": 2.5, "c": "x" if "c" in names else None})
    schema = "a:int64,b:float64,c:string"
    given = {"schema": schema, "missing_columns": "null", "extra_columns": "ignore"}
    with mf.Session(workers=1) as session:
        assert session.read_csv(f"{tmp_path}/*.csv", **given).to_dicts() == expected  # type: ignore[arg-type]
        # A filter leaves rows out in the kernel: the one of files that have the column must not be that of others.
        found = session.read_csv(f"{tmp_path}/*.csv", **given).filter(mf.col("c") == "x").to_dicts()  # type: ignore[arg-type]
    assert found == [row for row in expected if row["c"] == "x"]

"""Records longer than `max_record` are refused, and others are read, at any shard size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mmflow as mf
from mmflow.formats.csv.decoder import CsvTypes
from mmflow.formats.csv.kernel import csv_decoder
from mmflow.formats.csv.structure import Dialect
from mmflow.mapping.system.limits import process_memory

_LONG = 200_000
_CASES: dict[str, tuple[bytes, bytes, bytes, dict[str, Any]]] = {
    "csv": (b"a,b\n1,x\n", b'2,"', b'"\n3,y\n', {"schema": "a:int64,b:string"}),
    "ndjson": (b'{"a":1,"b":"x"}\n', b'{"a":2,"b":"', b'"}\n{"a":3,"b":"y"}\n', {"schema": "a:int64,b:string"}),
    "text": (b"1 x\n", b"2 ", b"\n3 y\n", {"pattern": "^(?P<a>[0-9]) (?P<b>.*)$", "schema": "a:int64,b:string"}),
    "fwf": (b"1 x\n", b"2 ", b"\n3 y\n", {"colspecs": [[0, 1], [2, None]], "names": "a,b", "schema": "a:int64,b:string"}),
}  # fmt: skip


@pytest.mark.parametrize("name", _CASES)
@pytest.mark.parametrize("shard_size", [4096, 1 << 20])
def test_a_long_record(tmp_path: Path, name: str, shard_size: int) -> None:
    before, begin, end, options = _CASES[name]
    path = tmp_path / "x"
    path.write_bytes(before + begin + b"z" * _LONG + end)
    session = mf.Session(shard_size=shard_size, workers=2)
    read = session.read(path, name, max_record="1 MiB", **options)
    assert read.to_arrow().to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": "z" * _LONG}, {"a": 3, "b": "y"}]
    with pytest.raises(mf.BadRecordError, match=r"a record longer than 65,536 bytes \(max_record\)"):
        session.read(path, name, max_record=65536, on_bad_record="skip", **options).to_arrow()


@pytest.mark.parametrize("size", ["2 GiB", 0, "x", -1])
def test_sizes_that_are_none(tmp_path: Path, size: Any) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    with pytest.raises(mf.ConfigError, match=r"max_record = .* must be a size"):
        mf.read_csv(tmp_path / "x.csv", max_record=size)


def test_an_open_record_takes_no_memory_by_its_length() -> None:
    """The index of a record's fields would be eight times as large as one that is a single field."""
    size = 64 << 20
    types = CsvTypes(("a", "b"), {"b": pa.string_view()}, ("",))
    decoder = csv_decoder(("b",), types, Dialect(), "error")
    for end, records in ((b"", 0), (b'"\n', 1)):
        data = pa.py_buffer(b'1,"' + b"z" * size + end)
        before = process_memory().anonymous
        decoded = decoder.decode(data, data.size, final=False, located=False)
        assert decoded.records == records
        assert process_memory().anonymous - before < size // 2


@pytest.mark.nightly
def test_fields_of_a_gibibyte(tmp_path: Path) -> None:
    path = tmp_path / "giant.csv"
    with path.open("wb") as file:
        file.write(b"a,b,c\n1,x,2\n")
        for number in (10, 11):
            file.write(b'%d,"' % number)
            for _ in range(1024):
                file.write(b"z" * (1 << 20))
            file.write(b'",7\n')
        file.write(b"3,y,4\n")
    code = f"""
import threading, time
import mmflow as mf
from mmflow.mapping.system.limits import process_memory
most, ended = [0], threading.Event()
def watch():
    while not ended.wait(0.01):
        most[0] = max(most[0], process_memory().anonymous)
watcher = threading.Thread(target=watch)
watcher.start()
with mf.Session(workers=2, io="mmap") as session:
    t = session.read_csv({str(path)!r}, max_record="1100 MiB", schema="a:int64,b:string,c:int64")
    rows = session.sql("SELECT a, length(b) AS n, c FROM t", t=t).to_dicts()
    assert rows == [dict(a=1, n=1, c=2), dict(a=10, n=1 << 30, c=7), dict(a=11, n=1 << 30, c=7), dict(a=3, n=1, c=4)], rows
    try:
        session.read_csv({str(path)!r}, schema="a:int64,b:string,c:int64").count()
    except mf.BadRecordError as error:
        assert "longer than 67,108,864 bytes (max_record)" in str(error)
    else:
        raise AssertionError("the record is longer than max_record")
ended.set()
watcher.join()
assert most[0] < 512 << 20, most
"""
    subprocess.run([sys.executable, "-c", code], check=True)

"""Records longer than `max_record` are refused, and others are read, at any shard size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mmflow as mf

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

"""Layouts of binary records against numpy's structured types and Python's struct."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.formats.records.dtypes import dtype_layout
from mmflow.formats.records.gathering import FieldReader, gather
from mmflow.formats.records.layout import field_spec, record_field, record_fields

_PLAIN = st.sampled_from(["<i2", ">i4", "<u8", ">u2", "<f4", ">f8", "?", "S3"])


@st.composite
def _dtypes(draw: st.DrawFn, depth: int = 2) -> Any:
    if depth and draw(st.booleans()):
        count = draw(st.integers(1, 3))
        return np.dtype([(f"m{i}", draw(_dtypes(depth - 1))) for i in range(count)])
    kind = draw(_PLAIN)
    shape = draw(st.lists(st.integers(1, 3), max_size=2))
    return np.dtype((kind, tuple(shape))) if shape else np.dtype(kind)


def _value(value: Any) -> Any:
    if isinstance(value, np.void):
        return {name: _value(value[name]) for name in value.dtype.names or ()}
    if isinstance(value, np.ndarray):
        return [_value(v) for v in value]
    return value.decode().rstrip(" ") if isinstance(value, bytes) else value.item()


def _random(dtype: np.dtype[Any], rows: int, seed: int) -> np.ndarray:
    raw = np.random.default_rng(seed).integers(65, 90, (rows, dtype.itemsize), np.uint8)
    return np.frombuffer(raw.tobytes(), dtype)


@given(st.lists(_dtypes(), min_size=1, max_size=4), st.integers(0, 5), st.integers(0, 3))
def test_types_of_numpy(kinds: list[np.dtype[Any]], rows: int, seed: int) -> None:
    dtype = np.dtype([(f"f{i}", kind) for i, kind in enumerate(kinds)])
    values = _random(dtype, rows, seed)
    fields = record_fields(dtype_layout(dtype))
    assert record_fields([field_spec(f) for f in fields]) == fields
    assert json.loads(json.dumps([field_spec(f) for f in fields])) == [field_spec(f) for f in fields]
    data = pa.py_buffer(values.tobytes())
    found = FieldReader(fields, dtype.itemsize).read(data, rows)
    assert found is not None
    assert found.to_pylist() == [_value(v) for v in values]


@given(
    st.sampled_from(["int8", "uint16", "int32", "uint64"]),
    st.sampled_from(["little", "big"]),
    st.data(),
    st.binary(min_size=24),
)
def test_bits(kind: str, order: str, data: st.DataObject, raw: bytes) -> None:
    width = np.dtype(kind).itemsize
    low = data.draw(st.integers(0, 8 * width - 1))
    count = data.draw(st.integers(1, 8 * width - low))
    field = record_field({"name": "b", "type": kind, "order": order, "bits": [low, count]})
    rows = len(raw) // width
    array, wrong = gather(pa.py_buffer(raw), field, width, rows)
    assert not wrong
    for row in range(rows):
        number = int.from_bytes(raw[row * width : row * width + width], order) >> low & (1 << count) - 1  # type: ignore[arg-type]
        if kind.startswith("i") and number >> (count - 1):
            number -= 1 << count
        assert array[row].as_py() == number


@given(
    st.lists(st.tuples(st.integers(0, 2**16 - 1), st.text(max_size=5), st.binary(max_size=5)), max_size=6),
    st.booleans(),
)
def test_records_of_different_lengths(rows: list[tuple[int, str, bytes]], big: bool) -> None:
    order, sign = ("big", ">") if big else ("little", "<")
    data = b"HEAD"
    for number, text, rest in rows:
        encoded = text.encode()
        body = struct.pack(f"{sign}HB", number, len(encoded)) + encoded + rest
        data += struct.pack(f"{sign}H", len(body)) + body
    path = Path("variable.bin")
    path.write_bytes(data + b"FOOT")
    layout = [
        {"name": "n", "type": "uint16", "order": order},
        {"name": "s", "type": "char[]", "length": "uint8"},
        {"name": "rest", "type": "binary[]"},
    ]
    read = mf.read_records(
        path, layout=layout, record_length={"type": "uint16", "order": order}, header_bytes=4, footer_bytes=4
    )
    assert [tuple(r.values()) for r in read.to_arrow().to_pylist()] == rows


@pytest.fixture(autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("records"))


def test_a_footer_at_each_shard_size(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(7) + np.arange(5000, dtype="<i4").tobytes() + bytes(5003))
    for size in (4096, 8192, 1 << 20):
        session = mf.Session(shard_size=size, workers=2)
        read = session.read_records(path, dtype="<i4", header_bytes=7, footer_bytes=5003)
        assert read.to_arrow().column("value").to_pylist() == list(range(5000))
        assert len(read) == 5000
        assert read.take([4999]).to_pylist() == [{"value": 4999}]


@pytest.mark.parametrize(("options", "message"), [
    ({"dtype": "x"}, "is no data type of numpy"),
    ({"dtype": "U3"}, "which records can't be read as"),
    ({"dtype": "<i4", "layout": [{"name": "a", "type": "int8"}]}, "leave one of them out"),
    ({"layout": [{"name": "a", "type": "int8"}, {"name": "a", "type": "int8"}]}, "two fields of the layout are called 'a'"),
    ({"layout": [{"name": "a", "type": "char[]"}]}, "field 'a' has no width"),
    ({"layout": [{"name": "a", "type": "char[]"}, {"name": "b", "type": "int8"}]}, "follows one that takes the rest"),
    ({"layout": [{"name": "a", "type": "int8", "bits": [4, 5]}]}, "must be [lowest, how many]"),
    ({"layout": [{"name": "a", "type": "float32", "bits": [0, 1]}]}, "of a whole number"),
    ({"layout": [{"name": "a", "type": "int8", "count": 0}]}, "count is a whole number"),
    ({"layout": [{"name": "a", "type": "char[4]", "length": "int8"}]}, "length is uint8"),
    ({"layout": [{"name": "a", "type": "int8", "length": "uint8"}]}, "only char[n] and binary[n]"),
    ({"layout": [{"name": "a", "fields": []}]}, "a structure has fields"),
    ({"layout": [{"name": "a"}]}, "name and type (or fields)"),
    ({"dtype": "<i4", "record_length": "int8"}, "record_length = 'int8'"),
    ({"dtype": "<i4", "record_length": "uint8", "delimiter": ";"}, "leave one of them out"),
    ({"dtype": "<i4", "record_length": "uint8", "record_size": 4}, "record_size is for records of one size"),
    ({"dtype": "<i4", "delimiter": ""}, "must be some bytes"),
])  # fmt: skip
def test_layouts_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    Path("x.bin").write_bytes(bytes(8))
    with pytest.raises(mf.ConfigError) as caught:
        mf.read_records("x.bin", **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("way", [{"layout": [{"name": "t", "type": "char[2]"}]}, {"dtype": "<f8"}])
def test_records_have_numbers_and_no_lines(way: dict[str, Any], tmp_path: Path) -> None:
    """Neither in errors nor in quarantine, where the lines of texts stand."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"ab" * 12 + b"x")
    with mf.Session(workers=1) as session:
        with pytest.raises(mf.BadRecordError, match=r"a\.bin, record \d+, byte offset 24: ") as wrong:
            session.read_records(path, **way).count()
        assert wrong.value.context["line"] is None
        with pytest.warns(mf.BadRecordsWarning):
            session.read_records(path, **way, on_bad_record="quarantine").count()
        assert session.last_run is not None
        kept = pa.ipc.open_file(session.last_run.quarantine).read_all()
    assert kept["line"].to_pylist() == [None]
    assert kept["record"].to_pylist() == [24 // (2 if "layout" in way else 8)]

"""Sizes that don't fit: what is cut short, or holds more than it says, is an error, never fewer rows."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import BadRecordError, ConfigError, SourceError
from mmflow.formats import open_format

from .record_files import read

FIELD = [{"name": "v", "type": "int16", "offset": 0}]


@pytest.mark.parametrize("size", [0, 2, 3])
def test_a_file_shorter_than_its_header_is_an_error(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(SourceError, match=rf"it has {size} bytes, and header_bytes is 4"):
        mf.read_records(str(path), layout=FIELD, header_bytes=4)
    (tmp_path / "b.bin").write_bytes(bytes(6))
    with pytest.raises(SourceError, match=r"a\.bin: it has"):
        mf.read_records([str(tmp_path / "b.bin"), str(path)], layout=FIELD, header_bytes=4)


def test_a_file_of_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(4))
    assert mf.read_records(str(path), layout=FIELD, header_bytes=4).count() == 0


def test_a_file_that_is_cut_short_after_planning_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(8))
    form = open_format("records", [str(path)], layout=FIELD, header_bytes=4)
    path.write_bytes(bytes(2))
    with pytest.raises(SourceError, match="it has 2 bytes"):
        read(path, form, ("v",))


@given(st.integers(0, 9), st.integers(0, 40), st.integers(1, 7))
def test_rows_and_what_is_left_over_are_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory, header: int, size: int, width: int
) -> None:
    path = tmp_path_factory.mktemp("sizes") / "a.bin"
    path.write_bytes(bytes(size))
    layout = [{"name": "v", "type": f"binary[{width}]", "offset": 0}]
    try:
        form = open_format("records", [str(path)], layout=layout, header_bytes=header)
        rows, _ = read(path, form, ("v",))
    except SourceError:
        assert size < header
    except BadRecordError:
        assert (size - header) % width
    else:
        assert header + len(rows) * width == size


def test_the_last_row_is_not_known_behind_a_record_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(np.arange(3, dtype="<i2").tobytes() + b"x")
    ds = mf.read_records(str(path), layout=FIELD)
    assert ds.take([0, 2])["v"].to_pylist() == [0, 2]
    for look in (lambda: ds[-1], lambda: ds[:9], ds.to_arrow):
        with pytest.raises(BadRecordError, match="record 3, byte offset 6: expected 2 bytes"):
            look()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"record_size": 1}, "'v' ends at byte 2, a record has 1"),
        ({"record_size": 0}, "'v' ends at byte 2, a record has 0"),
        ({"record_size": 4.5}, "record_size = 4.5: must be a whole number of bytes"),
        ({"record_size": True}, "must be a whole number"),
        ({"header_bytes": -1}, "must be a whole number"),
        ({"header_bytes": "four"}, "must be a whole number"),
        ({"layout": FIELD * 2}, "two fields of the layout are called 'v'"),
    ],
)
def test_sizes_that_do_not_fit_the_layout(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(8))
    with pytest.raises(ConfigError, match=message):
        mf.read_records(str(path), **({"layout": FIELD} | options))


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin.gz"
    path.write_bytes(bytes(8))
    with pytest.raises(SourceError, match="not decompressed"):
        mf.read_records(str(path), layout=FIELD)


def _npy(*arrays: np.ndarray) -> bytes:
    made = io.BytesIO()
    for array in arrays:
        np.save(made, array)
    return made.getvalue()


def _stream(*tables: pa.Table) -> bytes:
    made = io.BytesIO()
    for table in tables:
        with pa.ipc.new_stream(made, table.schema) as stream:
            stream.write_table(table)
    return made.getvalue()


_ARRAY = np.arange(5)
_TABLE = pa.table({"a": [1, 2], "b": ["x", "y"]})


@pytest.mark.parametrize(
    ("name", "data", "reader", "message"),
    [
        ("a.npy", _npy(_ARRAY)[:-1], mf.read_npy, "promises 5 rows"),
        ("a.npy", _npy(_ARRAY) + b"\0x", mf.read_npy, "2 bytes follow its 5 rows"),
        ("a.npy", _npy(_ARRAY, _ARRAY), mf.read_npy, "several arrays"),
        ("a.arrows", _stream(_TABLE)[:-20], mf.read_arrow, "damaged"),
        ("a.arrows", _stream(_TABLE, _TABLE), mf.read_arrow, "several streams"),
        ("a.arrows", _stream(_TABLE) + b"\0", mf.read_arrow, "1 bytes follow"),
    ],
)
def test_what_follows_the_promised_rows_is_not_left_out(
    tmp_path: Path, name: str, data: bytes, reader: Callable[[str], mf.Dataset], message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(SourceError, match=message):
        reader(str(path)).count()
    if name.endswith("s"):
        with pytest.raises(SourceError, match=message):
            reader(str(path)).select("a").to_arrow()

"""Headers of npy files: `read_npy` and `open_array` take what numpy takes, and refuse what it refuses."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.errors import SourceError
from mmflow.formats.npy.header import NpyError, parse_header


def _file(header: str, version: tuple[int, int] = (1, 0), data: bytes = bytes(64)) -> bytes:
    raw = header.encode("utf-8" if version[0] == 3 else "latin-1")
    size = len(raw).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + bytes(version) + size + raw + data


def _by_numpy(content: bytes) -> tuple[Any, ...] | None:
    """Type, shape and order of an array, by numpy; None: it refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = np.load(io.BytesIO(content), allow_pickle=False, max_header_size=1 << 30)
    except Exception:  # numpy raises errors of all kinds
        return None
    return array.dtype, array.shape


def _by_us(content: bytes) -> tuple[Any, ...] | None:
    try:
        found = parse_header(lambda offset, length: content[offset : offset + length], len(content))
    except NpyError:
        return None
    return found.dtype, found.shape


_GOOD = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }"


@given(
    st.sampled_from(
        [
            _GOOD,
            "{'descr': [('a', '<i4'), ('b', '|S3')], 'fortran_order': True, 'shape': (2L,), }",
            "{'descr': '|b1', 'fortran_order': False, 'shape': ()}",
        ]
    ),
    st.integers(0, 80),
    st.integers(0, 3),
    st.text("0123456789(){}[],:' <>|bSifcOMLTrue-_x\n", max_size=3),
    st.sampled_from([(1, 0), (2, 0), (3, 0), (1, 1), (9, 0), (0, 0)]),
)
def test_headers_are_taken_and_refused_as_numpy_does(
    header: str, at: int, cut: int, put: str, version: tuple[int, int]
) -> None:
    content = _file(header[:at] + put + header[at + cut :], version, bytes(1 << 12))
    known, found = _by_numpy(content), _by_us(content)
    if known is not None:
        assert found == known
    elif found is not None:
        # numpy looks at the data, too: of objects, or more than there is.
        dtype, shape = found
        assert (
            dtype.hasobject
            or dtype.itemsize * int(np.prod(shape, dtype=object)) > 1 << 12
            or 0 in (dtype.itemsize, *shape)
        )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (_file("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), 'extra': 1}"), "no dict of descr"),
        (_file(_GOOD, (9, 0)), "npy version 9.0"),
        (_file(_GOOD, (1, 7)), "npy version 1.7"),
    ],
)
def test_both_readers_refuse_what_numpy_refuses(tmp_path: Path, content: bytes, why: str) -> None:
    assert _by_numpy(content) is None
    (tmp_path / "a.npy").write_bytes(content)
    for read in (mf.read_npy, mf.open_array):
        with pytest.raises(SourceError, match=why):
            read(tmp_path / "a.npy")


def test_a_single_value_is_a_table_of_one_row(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(7.5))
    assert mf.read_npy(tmp_path / "a.npy").to_arrow().to_pylist() == [{"value": 7.5}]


@pytest.mark.parametrize("width", [1024, 5000])
def test_wide_arrays_are_tables(tmp_path: Path, width: int) -> None:
    array = np.arange(2 * width, dtype="<f4").reshape(2, width)
    np.save(tmp_path / "a.npy", array)
    np.save(tmp_path / "f.npy", np.asfortranarray(array))
    rows = mf.read_npy(tmp_path / "a.npy").to_arrow()
    assert rows["value"].combine_chunks().flatten().to_pylist() == array.reshape(-1).tolist()
    assert rows.schema.field("value").type == pa.list_(pa.float32(), width)
    with pytest.raises(SourceError, match=rf"{width:,} columns in Fortran order; write it in C order"):
        mf.read_npy(tmp_path / "f.npy").to_arrow()


def test_numbers_that_are_no_characters_are_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([65, 0x110000], "<u4").view("<U1"))
    ds = mf.read_npy(tmp_path / "a.npy")
    with pytest.raises(SourceError, match="column 'value': a text is not Unicode"):
        ds.to_arrow()
    with pytest.raises(SourceError, match="column 'value': a text is not Unicode"):
        ds.take([1])

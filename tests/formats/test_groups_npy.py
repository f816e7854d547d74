"""npy: every layout as numpy reads it, for every tiling; never unpickled."""

from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # noqa: F401  (pyarrow shows nanoseconds by it alone, and mmflow keeps pyarrow from importing it)
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmflow.errors import ConfigError, SourceError
from mmflow.formats import ScanRequest, from_spec, open_format
from mmflow.mapping import Io, MappedFile
from mmflow.shards import Shard
from tests.formats.group_rows import read

ROWS = 3001
N = np.arange(ROWS)


def _structured(align: bool, order: str) -> np.ndarray[Any, Any]:
    dtype = np.dtype(
        [("a", f"{order}i2"), ("f", f"{order}f8"), ("s", "S5"), ("u", f"{order}U3"), ("b", "?"),
         ("t", f"{order}M8[ms]"), ("v", f"{order}f4", (3,))], align=align)  # fmt: skip
    made = np.zeros(ROWS, dtype)
    made["a"], made["f"], made["b"] = N % 1000, N / 7, N % 2 == 0
    made["s"] = np.char.mod("%d", N).astype("S5")
    made["u"] = np.char.add("é", np.char.mod("%d", N % 100))
    made["t"] = N.astype("M8[s]")
    made["t"][5] = "NaT"
    made["v"] = N[:, None] * [1, 2, 3]
    return made


ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "int64": N,
    "big-endian": N.astype(">i4"),
    "uint64": N.astype(np.uint64) + np.uint64(2**63),
    "float": np.where(N % 5 == 0, np.nan, N / 3),
    "half": (N % 100).astype(">f2"),
    "bool": N % 3 == 0,
    "days": np.where(N % 9 == 0, np.datetime64("NaT"), N.astype("M8[D]")),
    "hours": N.astype(">M8[h]"),
    "ns": N.astype("M8[ns]"),
    "span": np.where(N % 9 == 0, np.timedelta64("NaT"), N.astype("m8[us]")),
    "minutes": N.astype("m8[m]"),
    "bytes": np.char.mod("long enough not to be inline %d", N).astype("S"),
    "text": np.char.add("häß ", np.char.mod("%d", N)),
    "big text": np.char.mod("%d", N).astype(">U6"),
    "C": np.arange(ROWS * 4, dtype=np.int32).reshape(ROWS, 4),
    "Fortran": np.asfortranarray(np.arange(ROWS * 4, dtype=">f4").reshape(ROWS, 4)),
    "wide": np.arange(20 * 1500, dtype=np.int16).reshape(20, 1500),
    "structured": _structured(align=False, order="<"),
    "structured big": _structured(align=True, order=">"),
    "one row": np.array([7], np.int8),
    "no rows": np.zeros(0),
    "no rows 2": np.zeros((0, 3)),
}


def _value(value: Any) -> Any:
    """A numpy value as the Arrow view of it has it."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value


def expected(array: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    def temporal(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if a.dtype.kind in "Mm" and np.datetime_data(a.dtype)[0] in ("h", "m"):
            return a.astype(f"{a.dtype.kind}8[s]")
        return a

    if array.dtype.names is not None:
        columns = {name: array[name] for name in array.dtype.names}
    elif array.ndim == 1 or array.shape[1] > 1000:
        columns = {"value": array}
    else:
        columns = {f"c{i}": array[:, i] for i in range(array.shape[1])}
    lists = {}
    for name, column in columns.items():
        values = temporal(column)
        if values.dtype.kind in "Mm":
            arrow = pa.array(values.astype(values.dtype.newbyteorder("=")))
            lists[name] = arrow.to_pylist()
        else:
            lists[name] = [_value(v) for v in values.tolist()]
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: _value(v) for k, v in row.items()} for row in rows]


@pytest.mark.parametrize("name", list(ARRAYS))
@given(
    cuts=st.lists(st.integers(1, 40), max_size=8),
    window=st.sampled_from([1, 4096, 12289, 1 << 20]),
    io=st.sampled_from(["mmap", "pread"]),
)
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_as_numpy_has_them(tmp_path: Path, name: str, cuts: list[int], window: int, io: Io) -> None:
    array = ARRAYS[name]
    path = tmp_path / "a.npy"
    np.save(path, array, allow_pickle=False)
    form = open_format("npy", [str(path)])
    if window == 1 and len(array) > 100:
        window = 997  # odd, but not a mapping for each row
    rows, reports = read(form, path, cuts=cuts, io=io, window=window, batch_rows=700)
    assert plain(rows) == expected(array)
    assert reports[-1].next == len(array)
    assert sum(r.records for r in reports) == len(array)
    assert from_spec(form.spec()) == form


@pytest.mark.parametrize("name", ["C", "Fortran", "structured"])
def test_only_wanted_columns(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.npy"
    np.save(path, ARRAYS[name], allow_pickle=False)
    form = open_format("npy", [str(path)])
    names = form.schema.names
    rows, _ = read(form, path, columns=[names[2], names[0]], cuts=[1, 5])
    whole = expected(ARRAYS[name])
    assert rows == [{k: row[k] for k in (names[2], names[0])} for row in whole]
    rows, reports = read(form, path, columns=[], cuts=[1, 5])
    assert len(rows) == ROWS
    assert reports[0].bytes_read == 0


@pytest.mark.parametrize("name", ["int64", "Fortran native", "ns", "bytes"])
def test_what_lies_as_arrow_has_it_is_not_copied(tmp_path: Path, name: str) -> None:
    array = (
        np.asfortranarray(np.arange(ROWS * 3.0).reshape(ROWS, 3))
        if name == "Fortran native"
        else ARRAYS[name]
    )
    path = tmp_path / "a.npy"
    np.save(path, array, allow_pickle=False)
    form = open_format("npy", [str(path)])
    before = pa.total_allocated_bytes()
    with MappedFile.open(str(path), io="mmap") as file:
        begin = file.window(0, file.size).buffer
        (batch,) = form.scan(file, Shard(0, 0, file.size, fresh=True), ScanRequest(tuple(form.schema.names)))
    gc.collect()
    assert pa.total_allocated_bytes() - before < 1024
    assert plain(batch.to_pylist()) == expected(array)
    assert begin.size == path.stat().st_size


def test_versions_of_the_format(tmp_path: Path) -> None:
    for version, names in (((1, 0), ["a"]), ((2, 0), ["b" * 70_000]), ((3, 0), ["é☃"])):
        path = tmp_path / "v.npy"
        array = np.array([(1,), (2,)], [(names[0], "i4")])
        with path.open("wb") as file:
            np.lib.format.write_array(file, array, version=version, allow_pickle=False)
        assert path.read_bytes()[6] == version[0]
        assert read(open_format("npy", [str(path)]), path)[0] == [{names[0]: 1}, {names[0]: 2}]


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    witness = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> Any:
            return witness.touch, ()

    path = tmp_path / "o.npy"
    np.save(path, np.array([Evil()], object), allow_pickle=True)
    with pytest.raises(SourceError, match=r"o\.npy.*Python objects.*unpickling"):
        open_format("npy", [str(path)])
    assert not witness.exists()


def _file(header: str, data: bytes = b"", magic: bytes = b"\x93NUMPY\1\0") -> bytes:
    return magic + len(header).to_bytes(2, "little") + header.encode() + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\3\4" + bytes(50), "npz archive"),
        (b"hello, this is text", "not an npy file"),
        (b"\x93NUMPY\1\0", "ends inside its header"),
        (b"\x93NUMPY\7\0" + bytes(50), "npy version 7"),
        (b"\x93NUMPY\2\0\xff\xff\xff\x7f", "header would be 2,147,483,647 bytes"),
        (_file("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", bytes(23)), "promises 3 rows"),
        (_file("{'descr': '<f8', 'fortran_order': False, 'shape': (-3,), }"), "its shape is"),
        (_file("{'descr': '<f8', 'fortran_order': 1, 'shape': (3,), }"), "makes no sense"),
        (_file("{'descr': 'nonsense', 'fortran_order': False, 'shape': (3,), }"), "makes no sense"),
        (_file("__import__('os').system('true')" + " " * 20), "makes no sense"),
        (_file("(" * 9000), "makes no sense"),
        (_file("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 1), }", bytes(8)), "3 dimensions"),
        (_file("{'descr': '<f8', 'fortran_order': False, 'shape': (5, 0), }"), "rows have no bytes"),
        (
            _file("{'descr': '<c16', 'fortran_order': False, 'shape': (1,), }", bytes(16)),
            "complex128 have no Arrow",
        ),
        (_file("{'descr': '|V3', 'fortran_order': False, 'shape': (1,), }", bytes(3)), "have no Arrow type"),
        (_file("{'descr': '<M8', 'fortran_order': False, 'shape': (1,), }", bytes(8)), "have no Arrow type"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"x\.npy.*{message}"):
        open_format("npy", [str(path)])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([b"\xff\xfe"]), "not UTF-8"),
        (np.array([2**40], "M8[Y]"), "out of the range"),
        (np.array([2**40], "M8[D]"), "out of the range"),
        (np.array([1, 2], "m8[ps]"), "out of the range"),
    ],
)
def test_values_that_arrow_can_not_hold(tmp_path: Path, array: np.ndarray[Any, Any], message: str) -> None:
    path = tmp_path / "x.npy"
    np.save(path, array)
    with pytest.raises(SourceError, match=rf"x\.npy, column 'value'.*{message}"):
        read(open_format("npy", [str(path)]), path)


def test_surrogates_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array(["a"]))
    data = path.read_bytes()
    path.write_bytes(data[:-4] + (0xD800).to_bytes(4, "little"))
    with pytest.raises(SourceError, match="not Unicode"):
        read(open_format("npy", [str(path)]), path)


def test_other_files_of_a_source(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1.5]))
    np.save(tmp_path / "b.npy", np.array([2], np.int32))
    np.save(tmp_path / "c.npy", np.array([[2.0]]))
    np.save(tmp_path / "d.npy", np.array([2**60]))
    paths = [str(tmp_path / f"{n}.npy") for n in "abcd"]
    form = open_format("npy", paths)
    assert read(form, paths[1])[0] == [{"value": 2.0}]
    advice = "set schema='union' to read the columns of all files, extra_columns='ignore' to leave this one out, or"
    with pytest.raises(SourceError, match=rf"c\.npy has a column 'c0', which .*a\.npy lacks; {advice} read"):
        read(form, paths[2])
    with pytest.raises(
        SourceError, match=r"d\.npy: column 'value' is int64, and a value does not fit float64"
    ):
        read(form, paths[3])
    with pytest.raises(ConfigError, match="schema"):
        open_format("npy", paths, schema="a:int64")


def test_padding_behind_the_array_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(3000))
    path.write_bytes(path.read_bytes() + bytes(9000))
    rows, reports = read(open_format("npy", [str(path)]), path, cuts=range(20))
    assert [r["value"] for r in rows] == list(range(3000))
    assert reports[-1].next == 3000

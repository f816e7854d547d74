"""Arrays of npz archives, mapped or inflated, and structured types with everything in them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmflow as mf


def _rows(read: mf.Dataset) -> list[Any]:
    rows: list[Any] = read.to_arrow().to_pylist()
    return rows


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_archives(tmp_path: Path, save: Any, order: Any) -> None:
    path = tmp_path / "x.npz"
    table = np.asarray(np.arange(9000, dtype=">i4").reshape(3000, 3), order=order)
    save(path, flat=np.arange(5), table=table)
    for shard_size in (4096, 1 << 20):
        for how in ("mmap", "pread"):
            session = mf.Session(shard_size=shard_size, io=how, workers=2)
            assert _rows(session.read(path, array="flat")) == [{"value": n} for n in range(5)]
            read = session.read_npy(path, array="table")
            assert [list(row.values()) for row in _rows(read)] == table.tolist()
            assert read.take([2999, 7]).to_pylist() == [
                dict(zip(("c0", "c1", "c2"), table[n].tolist(), strict=True)) for n in (2999, 7)
            ]
            assert len(read) == 3000
    with pytest.raises(mf.SourceError, match="it has 2 arrays, 'flat', 'table'; name one: array="):
        mf.read(path)
    with pytest.raises(mf.SourceError, match="it has no array 'x'; it has 'flat', 'table'"):
        mf.read_npy(path, array="x")


def test_the_one_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    np.savez(tmp_path / "b.npz", x=np.arange(3, 5))
    assert [r["value"] for r in _rows(mf.read(str(tmp_path / "*.npz")))] == [0, 1, 2, 3, 4]
    found = mf.sql(f"SELECT sum(value) AS s FROM read_npy('{tmp_path}/a.npz', array => 'x')")
    assert _rows(found) == [{"s": 3}]


def test_archives_that_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.arange(1000))
    whole = path.read_bytes()
    for cut in (4, 30, 500, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(mf.SourceError, match="the npz archive is damaged"):
            _rows(mf.read_npy(path))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("x.npy", b"no array")
    path.write_bytes(made.getvalue())
    with pytest.raises(mf.SourceError, match="it is not an npy file"):
        _rows(mf.read_npy(path))
    np.save(tmp_path / "y.npy", np.arange(3))
    with pytest.raises(mf.SourceError, match="names an array of an npz archive"):
        mf.read_npy(tmp_path / "y.npy", array="y")


def test_structured_types(tmp_path: Path) -> None:
    inner = np.dtype([("p", "<f8"), ("q", "S3", (2,))])
    dtype = np.dtype([("m", ">i2", (2, 2)), ("s", inner), ("t", inner, (2,)), ("u", "<U2", (2,))])
    values = np.zeros(3, dtype)
    values["m"] = np.arange(12).reshape(3, 2, 2)
    values["s"]["p"] = 0.5
    values["s"]["q"] = b"abc"
    values["t"]["q"][:, 1] = [b"x", b"yz"]
    values["u"] = ["é", "b"]
    np.save(tmp_path / "x.npy", values)
    t = [{"p": 0.0, "q": ["", ""]}, {"p": 0.0, "q": ["x", "yz"]}]
    expected = [
        {
            "m": [[4 * n, 4 * n + 1], [4 * n + 2, 4 * n + 3]],
            "s": {"p": 0.5, "q": ["abc", "abc"]},
            "t": t,
            "u": ["é", "b"],
        }
        for n in range(3)
    ]
    read = mf.read_npy(tmp_path / "x.npy")
    assert _rows(read) == expected
    assert read.take([1]).to_pylist() == expected[1:2]

"""Members of zip archives are files: their rows, their names, shards of stored ones, and what can't be read."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import pytest

import mmflow as mf
from mmflow.cli.main import main
from mmflow.errors import SourceChangedError, SourceError
from mmflow.mapping import FileIdentity, Io
from mmflow.remote.opening import open_file

_ROWS = 3_000
_ONE = "k,v\n" + "".join(f"{i},x{i}\n" for i in range(_ROWS))
_MEMBERS = {
    "y=2/two.csv": "k,v\n7,q\n",
    "y=1/one.csv": _ONE,
    "y=1/": "",
    "__MACOSX/y=1/._one.csv": "junk",
    ".DS_Store": "junk",
}
_METHODS = {"stored": zipfile.ZIP_STORED, "deflate": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2}


def _write(path: Path, members: dict[str, str], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("method", _METHODS)
def test_each_member_is_a_file(tmp_path: Path, method: str) -> None:
    path = _write(tmp_path / "many.zip", _MEMBERS, _METHODS[method])
    with mf.Session(shard_size=1 << 13, workers=2) as session:
        rows = (
            session.read(path)
            .group_by("_file", "y")
            .agg(n=mf.col("k").count(), s=mf.col("k").sum())
            .sort("y")
        )
        assert rows.to_dicts() == [
            {"_file": f"{path}/y=1/one.csv", "y": 1, "n": _ROWS, "s": _ROWS * (_ROWS - 1) // 2},
            {"_file": f"{path}/y=2/two.csv", "y": 2, "n": 1, "s": 7},
        ]
        one = session.read_csv(f"{path}/y=1/one.csv").select("k", "_line", "_offset").to_arrow()
        assert one["k"].to_pylist() == list(range(_ROWS))
        assert one["_line"].to_pylist() == list(range(2, _ROWS + 2))
        assert one["_offset"][5].as_py() == _ONE.index("5,x5")
        for pattern in (
            f"{path}/y=2/*.csv",
            f"{path}/y=2",
            f"{path}/**/tw?.csv",
            f"{path}/{{y=2/two,z}}.csv",
        ):
            assert session.read(pattern).to_dicts() == [{"k": 7, "v": "q", "y": 2}]


def test_a_stored_member_is_cut_into_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = {}
    for name, method in _METHODS.items():
        path = _write(tmp_path / f"{name}.zip", {"a.csv": _ONE, "b.csv": _ONE}, method)
        assert main(["inspect", str(path), "--json", "--shard-size", "8KiB"]) == 0
        found = json.loads(capsys.readouterr().out)
        shards[name] = found["compression"], found["shards"]
    assert shards == {
        "stored": (None, 2 * -(-len(_ONE) // (8 << 10))),
        "deflate": ("deflate", 2),
        "bzip2": ("bz2", 2),
    }


@pytest.mark.parametrize("io_kind", ["mmap", "pread"])
def test_windows_hold_the_bytes_of_the_member(tmp_path: Path, io_kind: Io) -> None:
    path = _write(tmp_path / "a.zip", {"a.csv": _ONE, "b.csv": "x"}, zipfile.ZIP_STORED)
    with open_file(f"{path}/a.csv", io=io_kind) as file:
        assert file.size == len(_ONE)
        window = file.window(100, 5_000)
        assert (window.offset, window.buffer.to_pybytes()) == (100, _ONE.encode()[100:5_100])
        assert file.window(len(_ONE) - 3, 99).buffer.to_pybytes() == _ONE.encode()[-3:]
        file.evict_behind(0, len(_ONE))
        file.check_unchanged()


def test_an_archive_that_changes_is_noticed(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zip", {"a.csv": _ONE, "b.csv": _ONE})
    planned = FileIdentity.of(f"{path}/a.csv")
    planned.check(f"{path}/a.csv")
    _write(path, {"a.csv": _ONE.replace("x1", "y1"), "b.csv": _ONE})
    with pytest.raises(SourceChangedError):
        planned.check(f"{path}/a.csv")
    with pytest.raises(SourceChangedError):
        open_file(f"{path}/a.csv", expected=planned)
    os.unlink(path)
    with pytest.raises(SourceChangedError, match="gone"):
        planned.check(f"{path}/a.csv")


def _encrypted(data: bytes) -> bytes:
    """Return an archive whose members say that they are encrypted."""
    made = bytearray(data)
    for mark, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        at = made.find(mark)
        while at >= 0:
            made[at + flags] |= 1
            at = made.find(mark, at + 4)
    return bytes(made)


def _archive(members: dict[str, str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return made.getvalue()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    two = {"a.csv": _ONE, "b.csv": _ONE}
    damaged = bytearray(_archive(two))
    damaged[200] ^= 0xFF
    twice = _archive({"a.csv": _ONE, "b.csv": _ONE}).replace(b"b.csv", b"a.csv")
    found = {
        r"member 'a.csv' is encrypted; unpack it with its password": _encrypted(_archive(two)),
        r"member 'a.csv' is encrypted": _encrypted(_archive({"a.csv": _ONE})),
        r"member 'a.csv' is compressed by method 14 \(LZMA\), which is not read": _archive(
            two, zipfile.ZIP_LZMA
        ),
        r"can't decompress .*a.csv: .*its archive says deflate, and it is damaged": bytes(damaged),
        r"two members 'a.csv'": twice,
    }
    for message, data in found.items():
        path = tmp_path / "odd.zip"
        path.write_bytes(data)
        with pytest.raises(SourceError, match=message):
            mf.read_csv(path, schema="k:int64,v:string").to_arrow()
    path.write_bytes(_archive(two))
    with pytest.raises(SourceError, match=r"no member of .*odd.zip is 'c.csv'; it has a.csv, b.csv"):
        mf.read(f"{path}/c.csv")
    with pytest.raises(SourceError, match="is in an archive, and parquet is not read from one"):
        mf.read_parquet(path)
    with pytest.raises(mf.PlanError, match="is in an archive"):
        mf.read(path).take([1])
    assert mf.read(path).count() == 2 * _ROWS


def test_one_member_of_lzma_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(_archive({"a.csv": _ONE}, zipfile.ZIP_LZMA))
    assert mf.read_csv(path).count() == _ROWS


def test_concatenated_gzip_is_one_file(tmp_path: Path) -> None:
    half = len(_ONE) // 2
    path = tmp_path / "a.csv.gz"
    path.write_bytes(
        gzip.compress(_ONE[:half].encode()) + gzip.compress(b"") + gzip.compress(_ONE[half:].encode())
    )
    assert mf.read(path).to_arrow()["k"].to_pylist() == list(range(_ROWS))

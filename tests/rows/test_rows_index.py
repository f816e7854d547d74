"""Record indexes: never trusted where they might be wrong, grown as far as need be, small, and where they are kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.config import IoName
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.mapping import ranges
from mmflow.rows import index_file, indexed
from mmflow.rows.index import RecordIndex
from mmflow.rows.index_file import fingerprint, sidecar_paths
from mmflow.shards import FileEntry, identify_files

from .tiny import forget_all, tiny

_ROWS = 5000


def _key_of(row: int) -> str:
    return "k" + "\n" * (row % 3) + str(row)


def _write(path: Path, rows: int = _ROWS, value: int = 0, age: float = 10) -> Path:
    """Records of one to three lines, written some time ago."""
    path.write_text("k,v\n" + "".join(f'"{_key_of(i)}",{i + value}\n' for i in range(rows)))
    now = time.time() - age
    os.utime(path, (now, now))
    return path


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return _write(tmp_path / "a.csv")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget_all()
    yield
    forget_all()


def _key(ds: mf.Dataset) -> tuple[FileEntry, bytes]:
    """Return the key of a dataset's index."""
    assert ds._selection is not None
    form = ds._selection.source.format
    assert isinstance(form, ScannedFormat)
    (entry,) = identify_files(ds._selection.source.files)
    return entry, fingerprint((form.boundaries(), form.on_bad_record))


def _index(ds: mf.Dataset) -> RecordIndex:
    return index_file.load_index(*_key(ds))


def _wanted(rows: Any) -> list[dict[str, Any]]:
    return [{"k": _key_of(i), "v": i} for i in rows]


_ASKED = [4999, 0, 2500, 2501, 17]


def test_a_sidecar_spares_the_pass(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> RecordIndex:
        raise AssertionError("indexed again")

    with tiny(500):
        assert mf.read_csv(str(csv)).take(_ASKED).to_pylist() == _wanted(_ASKED)
        assert (csv.parent / ".a.csv.mmflow-index").exists()
        forget_all()
        monkeypatch.setattr(indexed, "extend_index", never)
        assert mf.read_csv(str(csv)).take(_ASKED).to_pylist() == _wanted(_ASKED)
        ds = mf.read_csv(str(csv), schema="k:string,v:int32")  # types don't move records
        assert ds[-3:]["v"].to_pylist() == [4997, 4998, 4999]


def test_other_options_have_another_index(csv: Path) -> None:
    with tiny(500):
        assert len(mf.read_csv(str(csv))[:]) == _ROWS
        others: tuple[dict[str, Any], ...] = (
            {"quote": ""}, {"header": False}, {"on_bad_record": "null"}, {"escape": "\\"},
        )  # fmt: skip
        for changed in others:
            options: dict[str, Any] = {"schema": "k:string,v:string", "on_bad_record": "null", **changed}
            forget_all()
            ds = mf.read_csv(str(csv), **options)
            with pytest.warns() if options.get("quote") == "" else _nothing():
                wanted = ds.to_arrow()
            assert ds[:].equals(wanted), options
            assert mf.read_csv(str(csv)).take(_ASKED).to_pylist() == _wanted(_ASKED)


class _nothing:  # noqa: N801  (a context manager, named as a function)
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_sidecar_is_no_sidecar(csv: Path, data: st.DataObject) -> None:
    path = csv.parent / ".a.csv.mmflow-index"
    with tiny(2000):
        ds = mf.read_csv(str(csv))
        assert ds[-1] == _wanted([4999])[0]
        sound = path.read_bytes()
        damaged = bytearray(sound)
        if data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(sound) - 1))
            damaged[place] ^= data.draw(st.integers(1, 255))
        else:
            damaged = damaged[: data.draw(st.integers(0, len(sound) - 1))]
        path.write_bytes(damaged)
        forget_all()
        assert not len(_index(ds).starts)
        assert ds.take(_ASKED).to_pylist() == _wanted(_ASKED)
        assert path.read_bytes() == sound


def test_a_sidecar_of_another_file_or_owner_is_no_sidecar(csv: Path) -> None:
    with tiny(2000):
        ds = mf.read_csv(str(csv))
        assert ds[4999] == _wanted([4999])[0]
        forget_all()
        assert len(_index(ds).starts)
        forget_all()
        other = _write(csv.parent / "b.csv")
        (csv.parent / ".a.csv.mmflow-index").rename(csv.parent / ".b.csv.mmflow-index")
        assert not len(_index(mf.read_csv(str(other))).starts)
        (csv.parent / ".b.csv.mmflow-index").rename(csv.parent / ".a.csv.mmflow-index")
        if os.geteuid() == 0:
            os.chown(csv.parent / ".a.csv.mmflow-index", 12345, 12345)
            assert not len(_index(ds).starts)
            os.chown(csv, 12345, 12345)  # changes no time of modification
            assert len(_index(ds).starts)


@pytest.mark.parametrize("shift", ["starts", "rows"])
def test_an_index_that_passes_for_right_and_is_wrong_gives_no_wrong_row(csv: Path, shift: str) -> None:
    with tiny(2000):
        ds = mf.read_csv(str(csv))
        assert ds[4999] == _wanted([4999])[0]
        right = _index(ds)
        moved = getattr(right, shift) + (np.arange(len(right.starts)) > 0)
        index_file._cache_index((str(csv), *_identity(ds)), replace(right, **{shift: moved}))
        assert ds.take(_ASKED).to_pylist() == _wanted(_ASKED)
        assert np.array_equal(_index(ds).starts, right.starts)
        assert np.array_equal(_index(ds).rows, right.rows)


def _identity(ds: mf.Dataset) -> tuple[Any, bytes]:
    entry, by = _key(ds)
    return entry.identity, by


def test_a_file_that_changed_is_indexed_anew(csv: Path) -> None:
    with tiny(500):
        ds = mf.read_csv(str(csv))
        assert ds[4999]["v"] == 4999
        _write(csv, value=100_000)  # other rows, of other lengths
        assert ds[4999]["v"] == 104_999
        with csv.open("a") as file:
            file.write("new,1\n")
        assert ds[5000] == {"k": "new", "v": 1}
        assert ds[-1] == {"k": "new", "v": 1}
        _write(csv, rows=10, age=20)
        with pytest.raises(mf.OutOfRangeError, match="has 10 rows"):
            ds.take([5000])


@pytest.mark.parametrize("io", ["mmap", "pread"])
@pytest.mark.parametrize("what", ["shrinks", "is replaced", "is written to"])
def test_a_file_that_changes_meanwhile_is_an_error(
    tmp_path: Path, io: IoName, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = _write(tmp_path / "a.csv")
    records = tmp_path / "a.bin"
    records.write_bytes(bytes(80_000))
    read, place = ranges.read_ranges, ranges._request_pages

    def change(path: Path) -> None:
        if what == "shrinks":
            os.truncate(path, 100)
        elif what == "is replaced":
            (tmp_path / "new").write_bytes(path.read_bytes())
            (tmp_path / "new").rename(path)
        else:
            path.write_bytes(path.read_bytes()[::-1])

    def read_late(*args: Any) -> Any:
        change(csv)
        return read(*args)

    def place_late(*args: Any) -> Any:
        change(records)
        return place(*args)

    session = mf.Session(io=io)
    with tiny(500):
        ds = session.read_csv(str(csv))
        assert ds[4999]["v"] == 4999
        monkeypatch.setattr(indexed, "read_ranges", read_late)
        with pytest.raises(mf.SourceChangedError, match=r"a\.csv changed"):
            ds.take(_ASKED)
    monkeypatch.setattr(ranges, "_request_pages", place_late)
    fixed = session.read_records(str(records), layout=[{"name": "a", "type": "int64", "offset": 0}])
    with pytest.raises(mf.SourceChangedError, match=r"a\.bin changed"):
        fixed.take([0, 9_999])


def test_low_numbers_index_no_more_than_they_need(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"0123456789abcde\n" * (1 << 20))  # 16 MiB
    os.utime(path, (1, 1))
    with mf.Session(workers=2) as session:
        ds = session.read_text(str(path))
        assert ds[5] == {"line": "0123456789abcde"}
        assert _index(ds).verified.covered <= 128 << 10
        assert len(ds[100_000:100_010]) == 10
        assert 100_010 <= _index(ds).total < 1 << 18
        assert len(ds[-10:]) == 10
        assert _index(ds).total < 1 << 18  # the end was found from the end
        assert len(ds.take([-1, 0])) == 2
        assert _index(ds).complete
        side = tmp_path / ".a.log.mmflow-index"
        assert side.stat().st_size <= path.stat().st_size / 1000
        assert side.stat().st_mode & 0o777 == path.stat().st_mode & 0o666


def test_small_files_have_no_sidecars_and_large_ones_have_small_ones(tmp_path: Path) -> None:
    for name, rows, there in (("small", 50_000, False), ("large", 90_000, True)):
        path = tmp_path / f"{name}.csv"
        path.write_text("v\n" + "".join(f"{i:015}\n" for i in range(rows)))
        os.utime(path, (1, 1))
        assert mf.read_csv(str(path), schema="v:int64")[-1] == {"v": rows - 1}
        side = tmp_path / f".{name}.csv.mmflow-index"
        assert side.exists() is there
        assert not there or side.stat().st_size <= path.stat().st_size / 1000


def test_holes_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("wb") as file:
        file.write(b"".join(b"head %d\n" % i for i in range(3000)))
        file.seek(1 << 40)
        file.write(b"".join(b"tail %d\n" % i for i in range(3000)))
        file.truncate(1 << 41)
    with mf.Session(workers=2, shard_size=1 << 40) as session:
        ds = session.read_text(str(path))
        rows = [5999, 0, 2999, 3000, 3001]
        assert ds.take(rows)["line"].to_pylist() == ["tail 2999", "head 0", "head 2999", "tail 0", "tail 1"]
        assert ds.take(rows[:1])["line"].to_pylist() == ["tail 2999"]
        with pytest.raises(mf.OutOfRangeError, match="has 6,000 rows"):
            ds.take([6000])
        assert _index(ds).nbytes < 10_000


def test_blanks_of_one_interval_do_not_swallow_lines_of_another(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes((b"a\n" + b"\0" * 100 + b"d\n" + b"\n" * 60) * 8)
    with tiny(40, kept=False):
        ds = mf.read_text(str(path))
        wanted = ds.to_arrow()["line"].to_pylist()
        assert ds[:]["line"].to_pylist() == wanted
        for first in range(0, len(wanted), 5):
            rows = [first, *range(first + 1, len(wanted), 37)]
            assert ds.take(rows)["line"].to_pylist() == [wanted[i] for i in rows]


def test_a_folder_that_cant_be_written_to_leaves_the_cache(csv: Path) -> None:
    blocked, cached = sidecar_paths(str(csv))
    Path(f"{blocked}.part").mkdir()  # root may write anywhere, but not over a folder
    with tiny(500):
        assert mf.read_csv(str(csv))[4999] == _wanted([4999])[0]
        assert not Path(blocked).exists()
        assert Path(cached).exists()
        assert str(csv.parent / "cache") in cached
        forget_all()
        assert _index(mf.read_csv(str(csv))).complete
        Path(cached).unlink()
        Path(f"{cached}.part").mkdir()
        forget_all()
        assert mf.read_csv(str(csv))[4999] == _wanted([4999])[0]  # without any sidecar


def test_a_file_written_to_a_moment_ago_is_not_remembered(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", age=-1)
    ds = mf.read_csv(str(path))
    assert ds[4999] == _wanted([4999])[0]
    assert not len(_index(ds).starts)


_BUILDER = """
import sys, mmflow as mf
from mmflow.rows import index_builder as building, index, index_file as sidecar
index.SPACING = building.SPACING = 500
sidecar._MIN_FILE_BYTES = 0
sidecar._MIN_GROWTH_BYTES = 1
sys.stdin.readline()
for _ in range(10):
    sidecar._indexes.clear()
    ds = mf.read_csv(sys.argv[1])
    assert ds.take([4999, 0])["v"].to_pylist() == [4999, 0]
    sidecar.drop_index(*next((sidecar.FileEntry(p, i), by) for p, i, by in sidecar._indexes))
"""


def test_builders_of_one_index_do_no_harm(csv: Path) -> None:
    """Also where one of them is killed while it writes."""
    part = csv.parent / ".a.csv.mmflow-index.part"
    part.write_bytes(b"half of a side")
    made = [
        subprocess.Popen([sys.executable, "-c", _BUILDER, str(csv)], stdin=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in made:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.close()
    assert [process.wait(60) for process in made] == [0, 0]
    with tiny(500):
        ds = mf.read_csv(str(csv))
        assert ds.take(_ASKED).to_pylist() == _wanted(_ASKED)
        forget_all()
        assert _index(ds).complete
    assert not part.exists()


def test_many_files(tmp_path: Path) -> None:
    """More than may be open at once."""
    for number in range(400):
        (tmp_path / f"{number:04}.ndjson").write_text("".join(f'{{"a": {2 * number + i}}}\n' for i in (0, 1)))
    code = (
        "import resource, sys, json, mmflow as mf\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))\n"
        "ds = mf.read_ndjson(sys.argv[1], schema='a:int64')\n"
        "print(json.dumps([ds.take([799, 0, 401])['a'].to_pylist(), ds[-1], ds[600:603]['a'].to_pylist()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert json.loads(done.stdout) == [[799, 0, 401], {"a": 799}, [600, 601, 602]], done.stderr

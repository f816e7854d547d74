"""Functions over arrays by many workers, against numpy, and when they fail, repeat, or come too late."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import mmflow as mf
from mmflow.arrays.change import Change
from mmflow.arrays.regions import REGION, RegionWriter
from tests.arrays.bmp_files import bmp

Array = Any


def _sessions() -> mf.Session:
    return mf.Session(shard_size="4KiB", workers=3)


def _numbered(rows: Array, first: int) -> Array:
    return rows + np.arange(first, first + len(rows)).reshape(-1, *[1] * (rows.ndim - 1)).astype(rows.dtype)


def _sums(rows: Array) -> Array:
    return rows.reshape(len(rows), -1).sum(axis=1, dtype="f8") if len(rows) else np.zeros(0)


FUNCTIONS: list[Any] = [lambda rows: rows * 3, _numbered, _sums]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 3000), inner=st.lists(st.integers(1, 9), max_size=2), paged=st.booleans(),
    dtype=st.sampled_from(["u1", "<i4", ">i2", "f8"]), function=st.sampled_from(FUNCTIONS),
    where=st.sampled_from(["in place", "out", "over itself"]),
)  # fmt: skip
def test_maps_like_numpy(
    tmp_path_factory: pytest.TempPathFactory, rows: int, inner: list[int], paged: bool, dtype: str, function: Any,
    where: str,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("map")
    path = folder / "a.npy"
    array = np.random.default_rng(rows).integers(0, 50, (rows, *inner)).astype(dtype)
    wanted = function(array, 0) if function is _numbered else function(array)
    if paged:
        with mf.create_array(path, dtype, array.shape) as made:
            made[...] = array
    else:
        np.save(path, array)
    dataset = _sessions()
    out = {"out": folder / "b.npy", "over itself": path}.get(where)
    if where == "in place":
        if wanted.dtype != array.dtype or wanted.shape != array.shape:
            if rows:
                with pytest.raises(mf.UserFunctionError, match="expected"):
                    dataset.map_array(path, function, in_place=True)
            assert np.load(path).tobytes() == array.tobytes()
            return
        result = dataset.map_array(path, function, in_place=True)
    else:
        result = dataset.map_array(path, function, out=out)
        if where == "out":
            assert np.load(path).tobytes() == array.tobytes()
    assert result.rows == rows
    found = np.load(result.path)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert found.tobytes() == wanted.tobytes()
    assert {p.name for p in folder.iterdir()} == {"a.npy", *(["b.npy"] if where == "out" else [])}


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(1, 60), height=st.integers(1, 200), depth=st.sampled_from([3, 4]), top_down=st.booleans(),
    where=st.sampled_from(["in place", "image", "npy"]),
)  # fmt: skip
def test_images(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, depth: int, top_down: bool, where: str
) -> None:
    folder = tmp_path_factory.mktemp("map")
    path = folder / "a.bmp"
    pixels = np.random.default_rng(width).integers(0, 200, (height, width, depth), np.uint8)
    path.write_bytes(bmp(pixels, top_down=top_down, profile=b"profile"))
    out = {"image": folder / "b.bmp", "npy": folder / "b.npy"}.get(where)
    image = mf.open_image(path)
    _sessions().map_array(image, _numbered, out=out, in_place=where == "in place")
    wanted = _numbered(pixels, 0)
    if out is None or where == "image":
        assert (out or path).read_bytes() == bmp(wanted, top_down=top_down, profile=b"profile")
    else:
        assert np.array_equal(np.load(out), wanted)


def test_reports_invalid_calls(tmp_path: Path) -> None:
    path, image = tmp_path / "a.npy", tmp_path / "a.bmp"
    np.save(path, np.arange(3000))
    image.write_bytes(bmp(np.zeros((5, 5, 3), np.uint8)))
    csv = tmp_path / "a.csv"
    csv.write_text("a\n1\n")
    cases: list[tuple[Any, str]] = [
        (lambda: mf.map_array(path, abs), "in_place=True"),
        (lambda: mf.map_array(path, abs, out=csv, in_place=True), "leave out one"),
        (lambda: mf.map_array(path, abs, out=csv), "exists"),
        (lambda: mf.map_array(tmp_path / "none.npy", abs, in_place=True), "no such file"),
        (lambda: mf.map_array(image, lambda p: p * 1.5, out=tmp_path / "b.bmp"), "can't hold float64"),
        (lambda: mf.map_array(path, lambda r: r[0] * 2, out=tmp_path / "b.npy"), "called with no rows"),
        (lambda: mf.map_array(path, lambda r: 5, out=tmp_path / "b.npy"), "a row for each"),
        (lambda: mf.map_array(path, lambda r: r[1:], in_place=True), "expected int64 of shape"),
        (lambda: mf.map_array(path, lambda r: r.__setitem__(0, 1), in_place=True), "read-only"),
        (lambda: mf.map_array(path, abs, out=tmp_path / "no" / "b.npy"), "No such file"),
        (lambda: mf.map_array(path, abs, out=tmp_path / "b.npy", dtype="O", row_shape=()), "plain dtype"),
        (lambda: mf.read_csv(csv).map_array(abs, in_place=True), "one npy file"),
        (lambda: mf.read_npy(path).limit(3).map_array(abs, in_place=True), "right after read_npy"),
    ]
    for call, message in cases:
        with pytest.raises(mf.MmflowError, match=message):
            call()
    with mf.open_array(path, "r+") as array:
        array[0] = 5
        with pytest.raises(mf.SinkError, match="not flushed"):
            mf.map_array(path, abs, in_place=True)
        array.roll_back()
    assert np.array_equal(np.load(path), np.arange(3000))
    assert {p.name for p in tmp_path.iterdir()} == {"a.npy", "a.bmp", "a.csv"}


# ---- attempts -----------------------------------------------------------------------------------------


def _writer(change: Change, path: Path, function: Any) -> RegionWriter:
    layout = mf.open_array(path).layout
    return RegionWriter(
        function, False, str(path), layout, 0, 0, change.target, layout, str(change.folder), True, False, 4096
    )


def _region(rows: int) -> Any:
    import pyarrow as pa

    return pa.RecordBatch.from_pylist([{"begin": 0, "stop": rows}], REGION)


def test_concurrent_attempts_write_the_same_and_late_ones_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    rows = 4096
    with mf.create_array(path, "i4", rows) as array:
        array[...] = np.arange(rows)
    half, go_on = threading.Event(), threading.Event()
    said: list[BaseException] = []

    def slowly(values: Array) -> Array:
        if values[0] == 2048:  # half of the region is changed
            half.set()
            assert go_on.wait(30)
        return values * 2

    def first_attempt(writer: RegionWriter) -> None:
        try:
            writer(_region(rows))
        except BaseException as error:
            said.append(error)

    wanted = np.arange(rows, dtype="i4") * 2
    for late in (False, True):
        half.clear()
        go_on.clear()
        with Change(str(path), in_place=True) as change:
            change.begin(os.stat(path).st_size)
            with mf.open_array(path) as array:
                before = array.snapshot()
            attempt = threading.Thread(target=first_attempt, args=(_writer(change, path, slowly),))
            if not late:
                attempt.start()
                assert half.wait(30)
            else:

                def paused(values: Array) -> Array:
                    half.set()
                    assert go_on.wait(30)
                    return values + 1

                attempt = threading.Thread(target=first_attempt, args=(_writer(change, path, paused),))
                attempt.start()
                assert half.wait(30)
            _writer(change, path, lambda values: values * 2)(_region(rows))
            assert np.array_equal(np.load(path), before * 2)  # the first one's half was not doubled twice
            if not late:
                go_on.set()
                attempt.join()
                assert not said
            change.commit()
        if late:
            with mf.open_array(path, "r+") as array:
                array[:10] = -1
            wanted = np.load(path)
            go_on.set()
            attempt.join()
            assert "ended by another process" in str(said[0])
        assert np.array_equal(np.load(path), wanted)
        assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_retries_worker_that_dies_in_its_region(tmp_path: Path) -> None:
    path, died = tmp_path / "a.npy", tmp_path / "died"
    values = np.arange(3 << 20, dtype="i8")  # regions of three calls
    np.save(path, values)

    def deadly(rows: Array) -> Array:
        if rows[0] > 1 << 20 and not died.exists():
            died.touch()
            os.kill(os.getpid(), 9)
        return rows + 1

    with mf.Session(shard_size="24MiB", workers=2) as session:
        result = session.map_array(path, deadly, in_place=True, processes=True)
    assert died.exists()
    assert result.run.retries == 1
    assert np.array_equal(np.load(path), values + 1)
    assert {p.name for p in tmp_path.iterdir()} == {"a.npy", "died"}


def test_an_error_undoes_all(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    values = np.arange(100_000)
    np.save(path, values)

    def broken(rows: Array, first: int) -> Array:
        if first > 90_000:
            raise ValueError("no more")
        return rows + 1

    for where in ({"in_place": True}, {"out": tmp_path / "b.npy"}, {"out": path}):
        with pytest.raises(mf.UserFunctionError, match=r"rows 9.*no more"):
            mf.Session(shard_size="16KiB", workers=1).map_array(path, broken, **where)
        assert np.array_equal(np.load(path), values)
        assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


# ---- holes and full disks ------------------------------------------------------------------------------


def test_holes_are_skipped_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    rows = 1 << 26  # half a GiB
    with mf.create_array(path, "f8", rows, sparse=True) as array:
        for place in (0, rows // 2, rows - 1):
            array[place] = 1
    room = path.stat().st_blocks
    called = []

    def doubled(values: Array) -> Array:
        called.append(len(values))
        return values * 2

    with mf.Session(shard_size="4MiB", workers=2) as session:
        session.map_array(path, doubled, in_place=True, skip_holes=True)
        assert sum(called) < rows // 8
        session.map_array(path, doubled, out=tmp_path / "b.npy", skip_holes=True)
    for name, value in (("a.npy", 2), ("b.npy", 4)):
        assert (tmp_path / name).stat().st_blocks <= room
        with mf.open_array(tmp_path / name) as array:
            found = list(array.rows_with_data())
            assert sum(stop - begin for begin, stop in found) < 10_000
            assert {n: array[n] for n in (0, 1, rows // 2, rows - 1)} == {
                0: value,
                1: 0,
                rows // 2: value,
                rows - 1: value,
            }
            assert all(any(b <= n < s for b, s in found) for n in (0, rows // 2, rows - 1))


def test_undo_restores_holes(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    rows = 1 << 20
    with mf.create_array(path, "f8", rows, sparse=True) as array:
        array[1000:2000] = 3
    room, before = path.stat().st_blocks, path.read_bytes()

    def broken(values: Array, first: int) -> Array:
        if first > rows - 200_000:
            raise ValueError
        return values + 1

    with pytest.raises(mf.UserFunctionError):
        mf.Session(shard_size="1MiB", workers=1).map_array(path, broken, in_place=True)
    assert path.read_bytes() == before
    assert path.stat().st_blocks <= room + 16  # ext4 writes down its extents
    with mf.open_array(path, "r+") as array:
        array[5000:] = 1
        array.roll_back()
    assert path.read_bytes() == before
    assert path.stat().st_blocks <= room + 16
    mf.Session(shard_size="1MiB").map_array(path, lambda values: values * 1, in_place=True)
    assert path.stat().st_blocks <= room + 16  # zeros into holes take no room


@pytest.mark.root
def test_a_full_disk_is_an_error_and_undone(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        path = disk / "a.npy"
        values = np.arange(500_000)  # 4 MB: no room for its old content, nor for another of it
        np.save(path, values)
        session = mf.Session(shard_size="256KiB", workers=2)
        for where in ({"in_place": True}, {"out": disk / "b.npy"}, {"out": path}):
            with pytest.raises(mf.SinkError, match="no space left"):
                session.map_array(path, lambda rows: rows + 1, **where)
            assert np.array_equal(np.load(path), values)
            assert [p.name for p in disk.iterdir()] == ["a.npy"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ---- several processes ----------------------------------------------------------------------------------


def test_concurrent_reader_sees_no_torn_page(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    pages = 2048
    with mf.create_array(path, "u1", (pages, 4096)) as array:
        array[...] = 1
    code = """
import sys, mmflow as mf
with mf.Session(shard_size="1MiB", workers=2) as session:
    for _ in range(12):
        session.map_array(sys.argv[1], lambda rows: rows + 1, in_place=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    seen: set[int] = set()
    with mf.open_array(path) as reader:
        while writer.poll() is None:
            for begin in range(0, pages, 256):
                rows = reader.snapshot(slice(begin, begin + 256))
                assert (rows == rows[:, :1]).all()
                seen |= set(rows[:, 0].tolist())
    assert writer.returncode == 0
    assert len(seen) > 3
    assert (np.load(path) == 13).all()


@pytest.mark.parametrize("how", ["in place", "out", "over itself", "copy"])
def test_killed_at_every_step(tmp_path: Path, how: str) -> None:
    script = Path(__file__).parent / "crash_map.py"
    done = subprocess.run([sys.executable, str(script), str(tmp_path), how], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) > (20 if how == "in place" else 5 if how == "copy" else 10)
    assert not found[-1]["died"]
    states = [f["state"] for f in found]
    assert set(states) == {"missing" if how == "out" else "old", "new"}
    # Tasks end in any order, but what decides comes behind all of them.
    assert states.index("new") > len(states) - 8
    files = ["a.npy", "b.npy"] if how == "out" else ["a.npy"]
    assert all(f["again"] == files for f in found)
    if how == "in place":
        # A lock that nobody holds is no lock; all else is cleared away by whoever opens the file next.
        assert all(set(f["left"]) <= {"a.npy", ".a.npy.mmflow-lock"} for f in found)
        assert max(f["deaths"] for f in found) >= 3

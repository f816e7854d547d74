"""Mapped arrays and what can go wrong with their files: crashes, full disks, limits, other writers."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import mmflow as mf
from tests.fork_server import ForkServer


@pytest.fixture(scope="module")
def changes() -> Iterator[ForkServer]:
    """Processes that run `crash_array.py`."""
    with ForkServer("tests.arrays.crash_array") as server:
        yield server


def _crash(changes: ForkServer, path: Path, mode: str, die_at: int) -> bool:
    done = changes.run(str(path), mode, str(die_at))
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_a_crash_leaves_old_or_new(tmp_path: Path, changes: ForkServer, mode: str) -> None:
    path = tmp_path / "a.npy"
    old = np.ones(50_000, "<i4")
    new = old.copy()
    new[100:5000] = 2
    new[20_000::7] = 2
    seen = []
    for die_at in range(1, 40):
        np.save(path, old)
        died = _crash(changes, path, mode, die_at)
        if die_at % 3 == 0 and died:  # the roll-back dies, too, at its first and second step
            _crash(changes, path, "r", 1)
            _crash(changes, path, "r", 2)
        found = mf.open_array(path)[...]
        assert any((found == whole).all() for whole in (old, new))
        seen.append(bool((found == new).all()))
        assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]
        if not died:
            break
    assert not died
    assert seen == sorted(seen)  # old up to a step, new from there on
    assert not seen[0]


@pytest.mark.parametrize("in_place", [True, False])
def test_commits_one_after_the_other(tmp_path: Path, in_place: bool) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(5000))
    with mf.open_array(path, "c") as array, mf.open_array(path, "c") as other:
        view = array[...]
        for number in range(1, 4):
            array[number * 1000] = number
            assert array.commit(in_place=in_place or number == 2) == 1
        assert np.array_equal(np.load(path), array[...])
        assert view[1000] == 1
        other[0] = 9
        if in_place:
            assert other.commit() == 1
        else:
            with pytest.raises(mf.SinkError, match="another file has taken its place"):
                other.commit()
    assert np.load(path)[[0, 1000, 2000, 3000]].tolist() == [9 if in_place else 0, 1, 2, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_logs_are_found_by_any_name(tmp_path: Path) -> None:
    path, link = tmp_path / "data" / "a.npy", tmp_path / "link.npy"
    path.parent.mkdir()
    link.symlink_to(path)
    np.save(path, np.ones(5000))
    code = """
import os, sys, mmflow as mf
array = mf.open_array(sys.argv[1], "r+")
array[:] = 2
os.kill(os.getpid(), 9)
"""
    for opened, looked_at in ((link, path), (path, link)):
        subprocess.run([sys.executable, "-c", code, str(opened)])
        assert np.load(path)[7] == 2
        # Who writes a file of that name, or tries to, does not throw the old pages away.
        with pytest.raises(mf.SinkError, match="exists"):
            mf.from_arrow({"a": [1]}).write_npy(str(path))
        assert (mf.open_array(looked_at)[...] == 1).all()
        assert [p.name for p in path.parent.iterdir()] == ["a.npy"]
    with mf.open_array(link, "c") as array:
        array[0] = 5
        array.commit(in_place=False)
    assert link.is_symlink()
    assert np.load(path)[0] == 5


def test_an_error_in_a_block_rolls_back(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with mf.create_array(path, "f8", 10_000) as array:
        array[:] = 1
    with contextlib.suppress(ZeroDivisionError), mf.open_array(path, "r+") as array:
        array[5:] = 2
        raise ZeroDivisionError
    assert (np.load(path) == 1).all()


@pytest.mark.root
def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        with pytest.raises(mf.SinkError, match="no space left"):
            mf.create_array(disk / "a.npy", "u1", 4 << 20)
        assert list(disk.iterdir()) == []
        with mf.create_array(disk / "a.npy", "u1", 8 << 20, sparse=True, undo=False) as array:
            array[7 << 20] = 9
            with pytest.raises(mf.SinkError, match="no space left"):
                array[: 4 << 20] = 1
            assert array[7 << 20] == 9
            assert not array[: 4 << 20].any()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_sparse_arrays_take_only_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with mf.create_array(path, "u1", 8 << 40, sparse=True) as array:
        for place in (0, 5 << 40, (8 << 40) - 1):
            array[place] = 7
        assert array[(5 << 40) - 2 : (5 << 40) + 2].tolist() == [0, 0, 7, 0]
    assert path.stat().st_blocks * 512 <= 64 << 10
    with mf.open_array(path) as array:
        assert array[-1] == 7


def test_descriptors_and_mappings_stay_flat(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(10_000))

    def held() -> tuple[int, int]:
        with open("/proc/self/maps") as maps:
            return len(os.listdir("/proc/self/fd")), sum(1 for _ in maps)

    def once() -> None:
        for mode in ("r", "r+", "c"):
            with mf.open_array(path, mode) as array:
                assert array[17] == 17

    once()
    gc.collect()  # what other tests left
    before = held()
    for _ in range(400):
        once()
    after = held()
    # Other tests' threads may open a few; 1,200 opens would leave hundreds.
    assert after[0] <= before[0] + 5
    assert after[1] <= before[1] + 20


def test_little_address_space_is_an_error_only_for_private_mappings(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    mf.create_array(path, "u1", 1 << 40, sparse=True).close()
    code = f"""
import resource, mmflow as mf
mf.open_array({str(path)!r}).close()
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.RLIM_INFINITY))
with mf.open_array({str(path)!r}, "r+") as array:
    array[1 << 39] = 3
    assert array[1 << 39] == 3
try:
    mf.open_array({str(path)!r}, "c")
except mf.SinkError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "RLIMIT_AS" in said
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def test_writers_of_different_pages_and_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    rows, page = 64, 4096
    mf.create_array(path, "u1", (rows, page)).close()
    code = """
import select, sys, mmflow as mf
array = mf.open_array(sys.argv[1], "r+")
value = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    value = value % 98 + 1
    for row in range(int(sys.argv[2]), 64, 2):
        array[row] = value
    if value % 10 == 0:
        array.flush()
for row in range(int(sys.argv[2]), 64, 2):
    array[row] = 99
array.close()
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(n)], stdin=subprocess.PIPE)
        for n in range(2)
    ]
    with mf.open_array(path) as reader:
        seen: set[int] = set()
        while len(seen) < 50 and all(w.poll() is None for w in writers):
            pages = reader.snapshot()
            assert (pages == pages[:, :1]).all()  # none is torn
            seen |= set(pages[:, 0].tolist())
        for writer in writers:
            writer.communicate()  # they write until their input ends
        assert all(w.returncode == 0 for w in writers)
        assert len(seen) >= 50
        assert (reader[:] == 99).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_arrow_views(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(12, dtype="<f8").reshape(3, 2, 2))
    array = mf.open_array(path)
    made = array.to_arrow()
    assert made.type == pa.list_(pa.list_(pa.float64(), 2), 2)
    assert made.to_pylist() == np.load(path).tolist()
    assert "3, 2, 2" in repr(array)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: mf.open_array(p / "none.npy"), "no such file"),
        (lambda p: mf.open_array(p / "text.npy"), "no npy file"),
        (lambda p: mf.open_array(p / "objects.npy"), "Python objects"),
        (lambda p: mf.open_array(p / "short.npy"), "cut short"),
        (lambda p: mf.open_array(p / "fortran.npy", "r+"), "Fortran"),
        (lambda p: mf.open_array(p / "ok.npy", "w"), "mode 'w'"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda p: mf.create_array(p / "ok.npy", "i4", 3), "exists"),
        (lambda p: mf.create_array(p / "new.npy", "O", 3), "plain dtype"),
        (lambda p: mf.create_array(p / "new.npy", "i4", -3), "none below 0"),
        (lambda p: mf.create_array(p / "nowhere" / "new.npy", "i4", 3), "No such file"),
        (lambda p: mf.open_array(p / "ok.npy").__setitem__(0, 1), "open for reading"),
        (lambda p: mf.open_array(p / "ok.npy").commit(), "mode c"),
    ],
)  # fmt: skip
def test_reports_invalid_arguments(tmp_path: Path, make: object, message: str) -> None:
    (tmp_path / "text.npy").write_text("hello")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "ok.npy", np.arange(3))
    (tmp_path / "short.npy").write_bytes((tmp_path / "ok.npy").read_bytes()[:-1])
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.ones((3, 2))))
    with pytest.raises(mf.MmflowError, match=message):
        make(tmp_path)  # type: ignore[operator]  # a call by type `object`

"""Mapped arrays on other systems, against numpy: with Python's mmap, and with other page sizes."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.mapping.system import System
from mmflow.mapping.system.waiting import wait_until_free
from tests.arrays.bmp_files import bmp
from tests.mapping.systems import LINUX, MACOS, SYSTEMS, WINDOWS, on, with_facts
from tests.waiting import wait_until

KIB = 1 << 10
SIZE = 300 * KIB + 123
HERE = Path(__file__).parent

STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, SIZE), st.integers(0, 150 * KIB), st.integers(0, 255)),
    st.tuples(st.sampled_from(["keep", "keep in a copy", "undo", "snapshot", "leave with an error"])),
    st.tuples(st.just("open"), st.sampled_from(["r", "r+", "c"])),
)


@pytest.fixture(params=list(SYSTEMS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Run:
    """Model of an array: `now` is its expected content, `safe` that of the file."""

    def __init__(self, path: Path, system: System, *, sparse: bool) -> None:
        self.path, self.system = path, system
        self.array = mf.create_array(path, "u1", SIZE, sparse=sparse)
        assert self.array.layout.begin == 4096  # the same file everywhere
        self.now: Any = np.zeros(SIZE, "u1")
        self.safe = self.now.copy()

    def step(self, what: str, *rest: Any) -> None:
        mode = self.array.mode
        if what == "write":
            begin, length, value = rest
            if mode == "r":
                with pytest.raises(mf.SinkError, match="open for reading"):
                    self.array[begin] = value
            else:
                self.now[begin : begin + length] = value
                self.array[begin : begin + length] = value
        elif what in ("keep", "keep in a copy"):
            self.keep(in_place=what == "keep")
        elif what == "undo":
            self.array.roll_back()
            self.now = self.safe.copy()
        elif what == "snapshot":
            if self.system is SYSTEMS["Windows"]:
                with pytest.raises(mf.SinkError, match="no locks on ranges"):
                    self.array.snapshot(slice(5, 100_000))
            else:
                assert (self.array.snapshot(slice(5, 100_000)) == self.now[5:100_000]).all()
        elif what == "leave with an error":
            with pytest.raises(ZeroDivisionError), self.array:
                raise ZeroDivisionError
            self.open(mode)
        else:
            if mode == "r+":
                self.safe = self.now.copy()
            self.array.close()
            self.open(rest[0])

    def open(self, mode: Any) -> None:
        self.now = self.safe.copy()
        self.array = mf.open_array(self.path, mode)

    def keep(self, *, in_place: bool) -> None:
        if self.array.mode == "c":
            page = self.system.granularity
            pages = np.unique((np.flatnonzero(self.now != self.safe) + self.array.layout.begin) // page)
            assert self.array.changed_pages().tolist() == pages.tolist()
            if not in_place and not self.system.deletes_open:
                with pytest.raises(mf.SinkError, match="commit in place"):
                    self.array.commit(in_place=False)
            assert self.array.commit(in_place=in_place or not self.system.deletes_open) == len(pages)
            assert self.array.changed_pages().tolist() == []
        elif self.array.mode == "r+":
            self.array.flush()
        self.safe = self.now.copy()

    def end(self) -> None:
        left = self.now if self.array.mode == "r+" else self.safe
        self.array.close()
        assert (np.load(self.path) == left).all()
        assert [p.name for p in self.path.parent.iterdir()] == [self.path.name]


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(SYSTEMS)), sparse=st.booleans(), steps=st.lists(STEPS, max_size=12))
def test_any_sequence_equals_numpy(name: str, sparse: bool, steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, on(SYSTEMS[name]):
        run = Run(Path(folder, "a.npy"), SYSTEMS[name], sparse=sparse)
        for step in steps:
            run.step(*step)
            assert (run.array[...] == run.now).all()
            assert not run.array.fallback
        run.end()


def test_sequence_with_every_operation(tmp_path: Path, name: str) -> None:
    with on(SYSTEMS[name]):
        run = Run(tmp_path / "a.npy", SYSTEMS[name], sparse=True)
        change: list[tuple[Any, ...]] = [("write", 70_000, 3, 1), ("write", 100, 140 * KIB, 2), ("snapshot",)]
        for mode in ("r+", "c", "r"):
            for end in ("undo", "keep", "keep in a copy", "leave with an error"):
                for step in [("open", mode), *change, (end,), ("write", 9, 1, 9), ("undo",)]:
                    run.step(*step)
                    assert (run.array[...] == run.now).all(), (mode, end, step)
        run.end()


def test_views_stay_right_when_copies_are_dropped(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(SIZE))
    with on(SYSTEMS[name]), mf.open_array(path, "c") as array:
        view = array[1000:90_000]
        view[:] = 7
        array.roll_back()
        assert view.tolist() == list(range(1000, 90_000))
        view[0] = 8
        assert array[1000] == 8
        array.commit()
        view[1] = 9
        assert array.commit() == 1
    assert np.load(path)[999:1003].tolist() == [999, 8, 9, 1002]


@pytest.mark.parametrize(
    ("name", "die_at"),
    [
        *((name, "changed") for name in SYSTEMS),
        *((name, step) for name in ("macOS, Intel", "Windows") for step in ("saved", "unlinked")),
    ],
)
def test_a_crash_in_the_middle_of_a_change(tmp_path: Path, name: str, die_at: str) -> None:
    path = tmp_path / "a.npy"
    with on(SYSTEMS[name]):
        mf.create_array(path, "i4", 100_000).close()
    command = [sys.executable, "-m", "tests.arrays.crash_system", str(path), name, die_at]
    died = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    expected = np.zeros(100_000, "i4")
    expected[:10] = 1
    if die_at == "unlinked":  # from there on, the change counts
        expected[5:7000] = expected[30_000::7] = 2
    else:
        assert len(list(tmp_path.iterdir())) == 2
        assert (np.load(path)[5:7000] == 2).any() == (die_at == "changed")
    with on(SYSTEMS[name]):
        assert (mf.open_array(path)[...] == expected).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize("top_down", [False, True])
def test_an_image(tmp_path: Path, name: str, top_down: bool) -> None:
    path = tmp_path / "a.bmp"
    pixels = np.random.default_rng(1).integers(0, 256, (211, 333, 3), np.uint8)
    path.write_bytes(bmp(pixels, top_down=top_down, profile=b"profile"))
    with on(SYSTEMS[name]):
        with mf.open_image(path, "r+") as image:
            assert (image[...] == pixels).all()
            pixels[:100, ::2] = image[:100, ::2] = 7
        with mf.open_image(path, "c") as image:
            pixels[50:60] = image[50:60] = 255 - pixels[50:60]
            assert image.commit() > 0
            image[...] = 0
    assert path.read_bytes() == bmp(pixels, top_down=top_down, profile=b"profile")


@pytest.mark.parametrize("other", [LINUX, MACOS, WINDOWS])
def test_preallocates_space_and_keeps_content(tmp_path: Path, other: System) -> None:
    path = tmp_path / "data"
    with open(path, "w+b", buffering=0) as file:
        file.truncate(3 << 20)
        file.seek((1 << 20) + 5)
        file.write(b"x" * 70_000)
        held = path.read_bytes()
        other.preallocate(file.fileno(), 1000, (2 << 20) - 1000)
        assert path.read_bytes() == held
        if other is not WINDOWS:  # where nothing is a hole
            assert 2 << 20 <= path.stat().st_blocks * 512 < 3 << 20
        other.preallocate(file.fileno(), 0, (3 << 20) + 77)
        assert path.read_bytes() == held + bytes(77)
        if other is not WINDOWS:
            assert path.stat().st_blocks * 512 >= 3 << 20


def test_keeps_holes_where_the_system_knows_them(tmp_path: Path, name: str) -> None:
    with on(SYSTEMS[name]):
        array = mf.create_array(tmp_path / "a.npy", "u1", 1 << 20, sparse=True)
        array[500_000] = 1
        array.flush()
        found = list(array.rows_with_data())
        array.close()
    if name == "Windows":
        assert found == [(0, 1 << 20)]
    else:
        assert len(found) == 1
        assert found[0][0] <= 500_000 < found[0][1] <= 504_096


def test_a_snapshot_waits_where_locks_are_on_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    def counted(attempt: Callable[[], None], *, wait: bool) -> None:
        def counting() -> None:
            attempts.append(1)
            attempt()

        wait_until_free(counting, wait=wait)

    path = tmp_path / "a.npy"
    np.save(path, np.arange(100_000))
    with on(MACOS), mf.open_array(path) as array, open(path, "r+b", buffering=0) as writer:
        LINUX.lock(writer.fileno(), shared=False, wait=True)
        monkeypatch.setattr("mmflow.mapping.system.macos.wait_until_free", counted)
        with ThreadPoolExecutor(1) as others:
            seen = others.submit(array.snapshot, 5)
            wait_until(lambda: seen.done() or len(attempts) > 1, "the snapshot to wait for its lock")
            assert not seen.done()
            writer.seek(array.layout.begin + 5 * 8)
            writer.write((7).to_bytes(8, sys.byteorder))
            LINUX.lock(writer.fileno(), shared=True, wait=True)
            assert seen.result() == 7


def test_a_snapshot_of_a_file_that_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(100_000))
    with on(MACOS), mf.open_array(path) as array:
        (tmp_path / "b.npy").write_bytes(path.read_bytes())
        (tmp_path / "b.npy").replace(path)
        with pytest.raises(mf.SinkError, match="another file has taken its place"):
            array.snapshot(5)


def test_writes_change_that_can_not_be_mapped(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.npy"

    def refuse(fd: int, offset: int, length: int, *, private: bool) -> Any:
        raise OSError(errno.ENODEV, "no")

    with on(with_facts(SYSTEMS[name], map_writable=refuse)), mf.create_array(path, "u1", SIZE) as array:
        array[10:200_000] = 3
        assert "can't be mapped" in array.fallback
    assert int(np.load(path).sum()) == 3 * 199_990


def test_imports_without_linux(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "as_windows.py"), str(tmp_path / "a.npy")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "a.npy")[[0, 4, 5, 6]].tolist() == [0, 1, 7, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]

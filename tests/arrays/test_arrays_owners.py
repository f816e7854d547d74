"""Changes of an array's file: by one writer a page, the process that opened it, and only that very file, whole."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow.arrays.array import Mode

PAGE = 4096
ROWS = 4 * PAGE // 8  # float64 over four pages


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.npy"
    with mf.create_array(path, "f8", ROWS) as array:
        array[:] = 1
    return path


def _in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child that ends as an interpreter does; return its exit status."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# ---- cut short ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_view_of_a_file_that_is_cut_short_is_an_error_at_the_next_access_and_at_close(
    path: Path, mode: Mode
) -> None:
    array = mf.open_array(path, mode)
    view = array[:]
    os.truncate(path, PAGE + 8)
    if mode != "c":
        view.sum()  # raw numpy: zeros, and the process lives
    with pytest.raises(mf.SourceChangedError, match="cut short"):
        array[0]
    with pytest.raises(mf.SourceChangedError, match="cut short"):
        array.close()
    array.close()


def test_a_file_that_was_cut_short_and_grew_back_is_an_error_at_close(path: Path) -> None:
    size = path.stat().st_size
    array = mf.open_array(path)
    view = array[:]
    os.truncate(path, PAGE + 8)
    view.sum()
    os.truncate(path, size)
    with pytest.raises(mf.SourceChangedError, match="cut short"):
        array.close()


def test_a_row_beyond_the_end_of_a_file_that_was_cut_short_is_not_written(path: Path) -> None:
    array = mf.open_array(path, "r+")
    os.truncate(path, PAGE + 8)
    for work in ("array[ROWS - 1] = 5", "array.flush()", "array.close()"):
        with pytest.raises(mf.SourceChangedError, match="cut short"):
            exec(work, {"array": array, "ROWS": ROWS})
    assert path.stat().st_size == PAGE + 8


def test_a_block_that_a_cut_short_file_ends_raises_that_and_keeps_the_old_pages(path: Path) -> None:
    def change() -> None:
        with mf.open_array(path, "r+") as array:
            array[0] = 9
            os.truncate(path, PAGE + 8)
            array[1] = 9

    with pytest.raises(mf.SourceChangedError, match="cut short"):
        change()
    with pytest.raises(mf.SinkError, match="restore the file"):
        mf.open_array(path)


# ---- another file in its place ----------------------------------------------------------------------------------


def _replaced(path: Path) -> None:
    mf.create_array(path, "f8", ROWS, overwrite=True).close()


def _renamed_over(path: Path) -> None:
    np.save(path.with_name("b.npy"), np.zeros(ROWS))
    os.replace(path.with_name("b.npy"), path)


@pytest.mark.parametrize("replace", [_replaced, _renamed_over, os.unlink])
@pytest.mark.parametrize("undo", [True, False])
def test_changes_of_a_file_that_was_replaced_are_not_flushed_into_nothing(
    path: Path, replace: Callable[[Path], None], undo: bool
) -> None:
    os.link(path, path.with_name("old.npy"))
    array = mf.open_array(path, "r+", undo=undo)
    array[5] = 7
    replace(path)
    with pytest.raises(mf.SinkError, match=r"another file has taken its place|it was deleted"):
        array.flush()
    with pytest.raises(mf.SinkError, match=r"another file has taken its place|it was deleted"):
        array.close()
    array.close()
    if path.exists():
        assert not mf.open_array(path)[:].any()
    assert np.load(path.with_name("old.npy"))[5] == (1 if undo else 7)
    assert sorted(p.name for p in path.parent.iterdir() if p.name.startswith(".")) == []


# ---- two writers ---------------------------------------------------------------------------------------------------

_WRITER = """
    import os, sys, mmflow as mf
    array = mf.open_array(sys.argv[1], "r+")
    array[{row}] = 5
    print("changed", flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def _other_writer(path: Path, row: int) -> Iterator[None]:
    """Start a process that has changed a row and not flushed it; kill it at the end."""
    code = textwrap.dedent(_WRITER).format(row=row)
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"changed\n"
        yield
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()


@pytest.mark.parametrize("undo", [True, False])
def test_a_page_that_another_writer_has_changed_is_refused_and_nothing_flushed_is_lost(
    path: Path, undo: bool
) -> None:
    with mf.open_array(path, "r+", undo=undo) as array:
        with _other_writer(path, row=0):
            with pytest.raises(mf.SinkError, match="another writer has changed a page"):
                array[1] = 7
            array[ROWS - 1] = 8
            array.flush()
        array[1] = 7  # the other one is dead: its change is undone, and then the page is free
    found = np.load(path)
    assert found[[0, 1, ROWS - 1]].tolist() == [1, 7, 8]


def test_a_commit_of_private_pages_is_refused_where_another_writer_has_changed_them(path: Path) -> None:
    with mf.open_array(path, "c") as private, mf.open_array(path, "r+") as array:
        array[0] = 5
        private[1] = 7
        with pytest.raises(mf.SinkError, match="another writer"):
            private.commit()
        array.flush()
        assert private.commit() == 1
    assert np.load(path)[1] == 7


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 1), st.sampled_from(["write", "flush", "roll_back"]), st.integers(0, ROWS - 1)
        ),
        max_size=12,
    )
)
def test_two_writers_leave_what_they_flushed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, int]]
) -> None:
    path = tmp_path_factory.mktemp("two") / "a.npy"
    with mf.create_array(path, "i8", ROWS) as array:
        array[:] = 0
    flushed = np.zeros(ROWS, "i8")
    pending: tuple[dict[int, int], dict[int, int]] = ({}, {})
    writers = [mf.open_array(path, "r+") for _ in range(2)]
    begin = writers[0].layout.begin
    for number, (who, what, row) in enumerate(steps, 1):
        mine, theirs = pending[who], pending[1 - who]
        if what == "write":
            taken = (begin + 8 * row) // PAGE in {(begin + 8 * r) // PAGE for r in theirs}
            with pytest.raises(mf.SinkError, match="another writer") if taken else contextlib.nullcontext():
                writers[who][row] = number
            if not taken:
                mine[row] = number
        elif what == "flush":
            writers[who].flush()
            for changed, value in mine.items():
                flushed[changed] = value
            mine.clear()
        else:
            writers[who].roll_back()
            mine.clear()
    for writer in writers:
        writer.roll_back()
        writer.close()
    assert np.array_equal(np.load(path), flushed)


# ---- forks ------------------------------------------------------------------------------------------------------


def test_a_forked_child_flushes_nothing_and_leaves_the_log_to_its_parent(path: Path) -> None:
    code = """
        import os, signal, sys, mmflow as mf
        array = mf.open_array(sys.argv[1], "r+")
        array[0] = 5
        if os.fork() == 0:
            del array  # a child that ends as an interpreter does
            sys.exit()
        os.wait()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], capture_output=True)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, b"")
    assert mf.open_array(path)[0] == 1


def test_a_forked_child_that_lives_on_does_not_keep_its_parents_change_alive(path: Path) -> None:
    code = """
        import os, signal, sys, mmflow as mf
        array = mf.open_array(sys.argv[1], "r+")
        array[0] = 5
        child = os.fork()
        if child == 0:
            os.close(1)
            signal.pause()
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    try:
        assert mf.open_array(path)[0] == 1
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


def test_a_forked_child_reads_and_is_told_to_open_the_array_to_change_it(path: Path) -> None:
    array = mf.open_array(path, "r+")
    array[0] = 5

    def work() -> None:
        assert array[0] == 5
        for change in ("array[1] = 6", "array.flush()", "array.roll_back()"):
            with pytest.raises(mf.SinkError, match="forked this one"):
                exec(change, {"array": array})
        array.close()

    assert _in_child(work) == 0
    array[1] = 6
    array.close()
    assert np.load(path)[:2].tolist() == [5, 6]


# ---- what can't be opened or made ------------------------------------------------------------------------------


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(mf.SourceError, match="it is a pipe"):
        mf.open_array(pipe)
    with pytest.raises(mf.SourceError, match="it is a pipe"):
        mf.open_image(pipe, shape=(2, 2))


@pytest.mark.parametrize("shape", [(2**62,), (2**40, 2**40), 2**70])
def test_an_array_larger_than_any_file_is_refused_by_its_size(
    tmp_path: Path, shape: int | tuple[int, ...]
) -> None:
    with pytest.raises(mf.ConfigError, match="a file holds at most"):
        mf.create_array(tmp_path / "a.npy", "int64", shape)
    assert list(tmp_path.iterdir()) == []


# ---- an array that is being made ---------------------------------------------------------------------------------

_MAKER = """
    import sys, mmflow as mf, mmflow.arrays.opening as opening
    rename = opening.rename_new
    def named(source, target):
        print("made", flush=True)
        sys.stdin.readline()
        rename(source, target)
    opening.rename_new = named
    try:
        mf.create_array(sys.argv[1], "f8", 1000)
    except mf.SinkError as error:
        print(error)
"""


@contextlib.contextmanager
def _maker(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that has made an array, and not named it yet."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_MAKER), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"made\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def test_what_a_process_left_that_died_as_it_made_an_array_is_removed_by_the_next_that_makes_it(
    tmp_path: Path,
) -> None:
    path, others = tmp_path / "new.npy", [".a.npy.mmflow-new-0", "new.npy.part"]
    for name in others:
        (tmp_path / name).touch()
    with _maker(path):
        pass
    (left,) = tmp_path.glob(".new.npy.*")
    assert left.stat().st_size > 8000
    mf.create_array(path, "f8", 10).close()
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, *others]), "nothing of other arrays"


def test_what_a_living_process_makes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "new.npy"
    with _maker(path) as child:
        mf.create_array(path, "f8", 10).close()
        assert len(os.listdir(tmp_path)) == 2
        said, _ = child.communicate(b"\n", timeout=60)
        assert b"exists" in said, said
    assert os.listdir(tmp_path) == [path.name]
    assert mf.open_array(path).shape == (10,)

"""Tables that processes share: equal wherever they are attached, not copied, there for as long as somebody uses them."""

from __future__ import annotations

import fcntl
import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

import mmflow as mf
from mmflow.blocks import found, shared_memory_folder, sweep
from mmflow.mapping.system.limits import process_memory
from mmflow.shm import tables as sharing
from mmflow.shm.tables import SharedTable, attach, share, unshare
from tests.forked import become_nobody, in_fork

from .share_tables import tables

SHM = Path(shared_memory_folder() or "")
BIG = pa.table({"n": np.arange(1 << 20), "x": np.ones(1 << 20)})


def shared_by(*pids: int) -> list[str]:
    """Files of tables that these processes shared: others may be at it too."""
    return [
        n for n in os.listdir(SHM) for pid in pids if n.startswith(f"mmflow-{pid}-") and n.endswith(".table")
    ]


def usage() -> tuple[int, int]:
    """Descriptors and mappings of this process."""
    return len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count("\n")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    gc.collect()
    assert shared_by(os.getpid()) == []
    opened = [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{fd}")
    ]
    assert [path for path in opened if ".table" in path] == []
    assert ".table" not in Path("/proc/self/maps").read_text()


@pytest.fixture(scope="module")
def helper() -> Iterator[Callable[..., Any]]:
    """Another process, as a function: `helper(name, *arguments)` calls one of this module there."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,))
    process.start()
    theirs.close()

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        ours.send((function, arguments))
        kind, answer = ours.recv()
        if kind == "error":
            raise answer
        return answer

    yield call
    ours.close()
    process.join(10)
    assert process.exitcode == 0


def serve(link: Any) -> None:
    while True:
        try:
            function, arguments = link.recv()
        except EOFError:
            return
        try:
            link.send(("answer", function(*arguments)))
        except mf.MmflowError as error:
            link.send(("error", error))


# ---- in the other process ---------------------------------------------------------------------------

HELD: list[Any] = []


def read(token: str) -> bytes:
    sink = pa.BufferOutputStream()
    table = attach(token)
    table.validate(full=True)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def hold(handle: SharedTable) -> int:
    HELD.append(attach(handle).column(0).chunk(0).slice(1, 2))  # just a view of it
    return int(HELD[-1][0].as_py())


def let_go() -> None:
    HELD.clear()
    gc.collect()


def make(rows: int) -> SharedTable:
    handle = share({"n": list(range(rows))})
    HELD.append(handle)
    return handle


def anonymous_while_summing(token: str) -> tuple[int, int]:
    attach(token)
    before = process_memory()
    table = attach(token)
    total = sum(int(np.asarray(c.chunk(0)).sum()) for c in table.columns)
    after = process_memory()
    assert after.shared - before.shared > table.nbytes // 2, "the pages are those of the file"
    return after.anonymous - before.anonymous, total


# ---- what is attached -------------------------------------------------------------------------------


@given(tables())
def test_any_table_here_and_there(helper: Callable[..., Any], table: pa.Table) -> None:
    with share(table) as handle:
        got = attach(handle)
        got.validate(full=True)
        assert got.schema.equals(table.schema, check_metadata=True)
        assert got.num_rows == table.num_rows == handle.rows
        assert got.equals(table)
        there = pa.ipc.open_stream(helper(read, str(handle))).read_all()
        assert there.num_rows == table.num_rows
        assert there.equals(table)


def test_rows_without_columns(helper: Callable[..., Any]) -> None:
    with share(pa.table({"a": [1, 2, 3]}).select([])) as handle:
        assert attach(handle).num_rows == 3
    with share(pa.table({})) as handle:
        assert attach(handle).num_columns == 0


def test_nothing_is_copied(helper: Callable[..., Any]) -> None:
    with share(BIG) as handle:
        allocated = pa.total_allocated_bytes()
        table = attach(handle)
        assert pa.total_allocated_bytes() - allocated < 10_000
        (line,) = [
            m for m in Path("/proc/self/maps").read_text().splitlines() if str(handle).rpartition("/")[2] in m
        ]
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        assert line.split()[1].startswith("r-"), "can't be written to"
        for column in table.columns:
            for buffer in filter(None, column.chunk(0).buffers()):
                assert begin <= buffer.address < buffer.address + buffer.size <= end
        more, total = helper(anonymous_while_summing, str(handle))
        assert total == int(np.arange(1 << 20).sum()) + (1 << 20)
        assert more < BIG.nbytes // 4


def test_one_mapping_for_all_attached_in_a_process() -> None:
    with share(BIG) as handle:
        first = attach(handle)
        before = usage()
        several = [attach(str(handle)) for _ in range(100)]
        assert usage() == before
        assert all(
            t.column(0).chunk(0).buffers()[1].address == first.column(0).chunk(0).buffers()[1].address
            for t in several
        )


def test_what_can_be_shared(tmp_path: Path) -> None:
    import pandas as pd
    import polars as pl

    columns = {"a": [1, 2, 3], "b": ["x", None, "z"]}
    expected = pa.table(columns)
    (batch,) = expected.to_batches()
    with mf.Session() as session:
        for data in (
            columns, expected, batch, expected.to_reader(), session.from_arrow(columns),
            pl.DataFrame(columns), pd.DataFrame(columns),
        ):  # fmt: skip
            with share(data) as handle:
                got = attach(handle)
                assert got.to_pydict() == columns, type(data)
    with share({"x": np.arange(5.0)}) as handle:
        assert attach(handle).column("x").to_pylist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    for wrong in (7, "text", [1, 2], np.arange(3), {"a": [1], "b": [1, 2]}):
        with pytest.raises(mf.ConfigError, match=r"share"):
            share(wrong)


def test_dataset_is_streamed_and_its_errors_keep_their_class(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n" + "".join(f"{i}\n" for i in range(1000)) + "oops\n")
    with mf.Session() as session:
        ds = session.read_csv(str(tmp_path / "a.csv"), schema={"n": "int64"})
        with pytest.raises(mf.BadRecordError, match="oops"):
            share(ds)
        with share(ds.limit(10)) as handle:
            assert attach(handle).column("n").to_pylist() == list(range(10))
            assert session.from_arrow(attach(handle)).count() == 10


def test_small_view_of_a_big_column_takes_little() -> None:
    views = pa.table({"v": pa.array(["y" * 40] * 100_000).cast(pa.string_view())})
    with share(views.slice(10, 5)) as handle:
        assert handle.nbytes < 10_000
        assert attach(handle).equals(views.slice(10, 5))


# ---- how long it is there ---------------------------------------------------------------------------


def test_gone_with_the_last_who_uses_it(helper: Callable[..., Any]) -> None:
    handle = share(BIG)
    assert helper(hold, handle) == 1
    text = str(handle)
    handle.close()
    handle.close()
    assert attach(text).num_rows == 1 << 20, "the other process has it"
    gc.collect()
    helper(let_go)
    with pytest.raises(mf.SourceError, match=r"dropped.*keep the handle"):
        attach(text)


def test_handle_that_ends_lets_go() -> None:
    text = str(share(BIG))
    gc.collect()
    with pytest.raises(mf.SourceError, match="dropped"):
        attach(text)


def test_views_hold_the_table() -> None:
    with share(BIG) as handle:
        view = attach(handle).column("n").chunk(0).slice(7, 3)
    gc.collect()
    assert attach(handle).num_rows == 1 << 20
    array = view.to_numpy()
    del view
    gc.collect()
    assert array.tolist() == [7, 8, 9]
    assert attach(handle).num_rows == 1 << 20
    del array
    gc.collect()
    with pytest.raises(mf.SourceError, match="dropped"):
        attach(handle)


def test_handle_from_another_process_and_its_death() -> None:
    program = (
        "import mmflow as mf, sys, time\nh = mf.share({'n': [1, 2, 3]})\nprint(h, flush=True)\ntime.sleep(60)"
    )
    for mine in (False, True):
        other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        token = other.stdout.readline().strip()
        assert attach(token).num_rows == 3
        table = attach(token) if mine else None
        gc.collect()
        other.kill()
        other.wait()
        other.stdout.close()
        if table is not None:
            assert attach(token).equals(table)
            table = None
        else:
            assert [f for f in found(SHM) if f.path == token.rpartition(":")[2] and f.owned] == []
        gc.collect()
        sweep(SHM)  # as whoever shares next does
        with pytest.raises(mf.SourceError, match="dropped"):
            attach(token)


def test_stale_tables_are_swept_by_the_next_who_shares(tmp_path: Path) -> None:
    stale = SHM / f"mmflow-{os.getpid()}-stale.table"
    stale.write_bytes(b"half a table")
    other = SHM / f"mmflow-{os.getpid()}-other.file"
    other.write_bytes(b"not ours to sweep")
    try:
        subprocess.run([sys.executable, "-c", "import mmflow as mf; mf.share({'a': [1]})"], check=True)
        assert not stale.exists()
        assert other.exists()
    finally:
        other.unlink()


def test_process_that_ends_leaves_nothing(tmp_path: Path) -> None:
    """A process releases its handles when it ends, though neither they nor tables that hold them were closed."""
    program = (
        "import mmflow as mf, os, sys\n"
        "h = mf.share({'n': [1]}); t = mf.attach(h); print(h)\n"
        "if 'fork' in sys.argv and os.fork() == 0: mf.attach(h); sys.exit(0)\n"
    )
    for arguments in ([], ["fork"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
        )
        token = done.stdout.split()[0]
        assert not os.path.exists(token.rpartition(":")[2]), "both have ended: they had the pipe open"
        with pytest.raises(mf.SourceError, match="dropped"):
            attach(token)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_children_share_the_lock_and_dont_take_it_along() -> None:
    handle = share(BIG)
    table = attach(handle)

    def closes() -> bool:
        nonlocal table
        handle.close()
        table = None
        gc.collect()
        return os.path.exists(str(handle).rpartition(":")[2])

    assert in_fork(closes), "what a child lets go of, its parent still has"
    assert in_fork(lambda: attach(handle).equals(BIG))
    table = None
    go, gone = os.pipe()
    child = os.fork()
    if child == 0:  # it outlives its parent's part, and still has its own
        os.read(go, 1)
        os._exit(0 if attach(str(handle)).equals(BIG) else 1)
    handle.close()
    gc.collect()
    os.write(gone, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(go)
    os.close(gone)
    sweep(SHM)
    with pytest.raises(mf.SourceError, match="dropped"):
        attach(handle)


def test_session_ends_what_it_shared(helper: Callable[..., Any]) -> None:
    with mf.Session() as session:
        handle = session.share(BIG)
        kept = attach(handle)
        helper(hold, handle)
    with pytest.raises(mf.SourceError, match="dropped"):
        attach(handle)
    with pytest.raises(mf.SourceError, match="dropped"):
        helper(attach, handle)
    assert kept.equals(BIG)
    helper(let_go)
    unshare(handle)


def test_pickled_and_as_text(helper: Callable[..., Any]) -> None:
    handle = helper(make, 5)
    assert attach(handle).num_rows == 5
    again = pickle.loads(pickle.dumps(handle))
    assert (str(again), again.rows, again.nbytes) == (str(handle), 5, handle.nbytes)
    assert len(pickle.dumps(handle)) < 400
    assert repr(handle).startswith("SharedTable('mmflow-shm:")
    again.close()  # holds nothing
    program = "import os, mmflow as mf; print(mf.attach(os.environ['TABLE']).num_rows)"
    run = [sys.executable, "-c", program]
    assert (
        subprocess.run(run, env=os.environ | {"TABLE": str(handle)}, capture_output=True, check=True).stdout
        == b"5\n"
    )
    helper(let_go)


# ---- errors -----------------------------------------------------------------------------------------


def test_wrong_handles() -> None:
    with share({"a": [1]}) as handle:
        scheme, boot, device, path = str(handle).split(":")
        for wrong in ("", "x", path, f"{scheme}:{boot}:{path}", f"{scheme}:{boot}:{device}:relative.table",
                      f"{scheme}:{boot}:{device}:/etc/passwd", f"shm:{boot}:{device}:{path}"):  # fmt: skip
            with pytest.raises(mf.SourceError, match="no handle"):
                attach(wrong)
        with pytest.raises(mf.SourceError, match="another host"):
            attach(f"{scheme}:{boot[:-1]}x:{device}:{path}")
        with pytest.raises(mf.SourceError, match="another container"):
            attach(f"{scheme}:{boot}:{device}7:{path}x.table")
        with pytest.raises(mf.SourceError, match="dropped"):
            attach(f"{scheme}:{boot}:{device}:{path}x.table")


def test_links_and_folders_are_no_tables(tmp_path: Path) -> None:
    with share({"a": [1]}) as handle:
        head, _, path = str(handle).rpartition(":")
        (tmp_path / "link.table").symlink_to(path)
        with pytest.raises(mf.EngineError, match="can't open"):
            attach(f"{head}:{tmp_path}/link.table")
        (tmp_path / "folder.table").mkdir()
        with pytest.raises(mf.SourceError, match="no regular file"):
            attach(f"{head}:{tmp_path}/folder.table")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_other_users_may_not() -> None:
    with share({"a": [1]}) as handle:
        path = str(handle).rpartition(":")[2]
        assert os.stat(path).st_mode & 0o777 == 0o600

        def as_nobody() -> bool:
            handle.close()
            become_nobody()
            try:
                attach(handle)
            except mf.SourceError as error:
                return "shared by user 0" in str(error) and "user 65534" in str(error)
            return False

        assert in_fork(as_nobody)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_table_of_another_user_is_refused_though_it_could_be_read(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.table"
    with share({"a": [1]}) as handle:
        head, _, path = str(handle).rpartition(":")
        shutil.copyfile(path, theirs)
        os.chown(theirs, 12345, 12345)
        with pytest.raises(mf.SourceError, match=r"it was shared by user 12345, .*this is user 0"):
            attach(f"{head}:{theirs}")


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_cut_short(keep: int) -> None:
    with share(BIG) as handle:
        os.truncate(str(handle).rpartition(":")[2], keep)
        with pytest.raises(mf.SourceError, match="damaged"):
            attach(handle)


def test_damage(tmp_path: Path) -> None:
    table = pa.table({"s": ["abc", "defg"] * 1000})

    def flip(handle: SharedTable, where: int) -> None:
        with open(str(handle).rpartition(":")[2], "r+b") as file:
            file.seek(where)
            byte = file.read(1)
            file.seek(where)
            file.write(bytes([byte[0] ^ 0xFF]))

    with share(table) as handle:
        flip(handle, handle.nbytes - 24)  # the trailer
        with pytest.raises(mf.SourceError, match="damaged"):
            attach(handle)
    with share(table) as handle:
        flip(handle, 2003)  # offsets or text
        with pytest.raises(mf.SourceError, match="damaged"):
            attach(handle, validate=True)
    with share(table) as handle:
        assert attach(handle, validate=True).equals(table)


@pytest.mark.root
def test_no_room_in_memory_goes_to_disk_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True
    ).returncode:
        pytest.skip("can't mount a tmpfs here")
    try:
        monkeypatch.setattr(sharing, "shared_memory_folder", lambda: str(small))
        disk = tmp_path / "disk"
        disk.mkdir()
        with share({"a": [1]}, spill_dir=disk) as handle:
            assert handle.on_disk == ""
        with share(BIG, spill_dir=disk) as handle:
            assert handle.on_disk == f"{small} is full"
            assert f"on disk: {small} is full" in repr(handle)
            assert attach(handle).equals(BIG)
            assert list(small.iterdir()) == []
            with open(str(handle).rpartition(":")[2], "r+b") as file:
                file.seek(5000)
                file.write(b"rot")
            with pytest.raises(mf.SourceError, match=r"damaged.*checksum"):
                attach(handle)
        assert list(disk.iterdir()) == []
        with pytest.raises(mf.EngineError, match=r"no room left in .*small.*MMFLOW_SPILL_DIR"):
            share(BIG, spill_dir=small)
        assert list(small.iterdir()) == []
        with pytest.raises(mf.EngineError, match=r"no folder .*missing.*MMFLOW_SPILL_DIR"):
            share(BIG, spill_dir=tmp_path / "missing")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_memory_that_is_short_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "available_memory", lambda: 1 << 20)
    with share(BIG, spill_dir=tmp_path) as handle:
        assert "memory is short" in handle.on_disk
        assert attach(handle).equals(BIG)


def test_failing_input_leaves_nothing() -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from pa.table({"a": list(range(100_000))}).to_batches()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        share(pa.RecordBatchReader.from_batches(pa.schema({"a": "int64"}), broken()))


# ---- many -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_descriptors_and_mappings_stay_flat_over_10_000_opens(helper: Callable[..., Any]) -> None:
    with share(BIG) as kept:
        attach(kept)
    before = usage()
    elsewhere = helper(make, 3)
    for i in range(5000):
        with share({"a": [i]}) as handle:
            table = attach(handle)
            if i % 100 == 0:
                assert table.column(0)[0].as_py() == i
            del table
        attach(elsewhere)  # opened, mapped, unmapped and closed each time
    after = usage()
    assert after[0] == before[0]
    assert after[1] < before[1] + 20
    helper(let_go)


def test_threads_attach_and_let_go_at_once() -> None:
    failures: list[BaseException] = []
    handle = share({"n": list(range(1000))})

    def work() -> None:
        try:
            for _ in range(200):
                assert attach(handle).column(0)[999].as_py() == 999
                with share({"a": [5]}) as own:
                    assert attach(own).column(0)[0].as_py() == 5
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handle.close()
    assert failures == []


WRITER = """
import os, sys, time
import numpy as np, mmflow as mf
name, kept = int(sys.argv[1]), []
for n in range(10**9):
    stamp = name * 10**9 + n
    kept.append(mf.share({"page": np.full(512 * 40, stamp, np.int64)}))
    print(kept[-1], stamp, flush=True)
    del kept[:-20]
"""


def test_two_write_a_third_reads_no_torn_pages() -> None:
    """Tables that two processes share as fast as they can: whatever page a third sees is of one table, and whole."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(n)], stdout=subprocess.PIPE, text=True)
        for n in (1, 2)
    ]
    seen = 0
    try:
        for _ in range(300):
            for writer in writers:
                assert writer.stdout is not None
                token, stamp = writer.stdout.readline().split()
                try:
                    pages = attach(token).column("page").to_numpy()
                except mf.SourceError as error:
                    assert "dropped" in str(error)
                    continue
                seen += 1
                assert (pages == int(stamp)).all()
                assert len(pages) == 512 * 40
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
        pages = np.empty(0)
        gc.collect()
        sweep(SHM)
    assert seen > 100
    assert shared_by(*(writer.pid for writer in writers)) == []


def test_killed_at_any_moment_leaves_nothing_behind_a_sweep() -> None:
    """Sharers and readers killed at random: afterwards all their tables go, and those of the living stay."""
    mine = share(BIG)
    reader = "import sys, mmflow as mf\nfor line in sys.stdin:\n    mf.attach(sys.argv[1]); t = mf.share({'a': [1] * 5000}); mf.attach(t); print(flush=True)"
    for rounds in (1, 5, 20):
        group = [
            subprocess.Popen(
                [sys.executable, "-c", reader, str(mine)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in group:
            assert process.stdin is not None
            process.stdin.write("go\n" * 5000)
            process.stdin.flush()
        for process in group:
            assert process.stdout is not None
            for _ in range(rounds):
                assert process.stdout.readline() == "\n"
        for process in group:
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.stdout.close()
        sweep(SHM)
        assert shared_by(*(process.pid for process in group)) == []
        assert attach(mine).equals(BIG)
        gc.collect()
    mine.close()


def test_locks_are_only_ever_shared_by_users() -> None:
    with share(BIG) as handle:
        fd = os.open(str(handle).rpartition(":")[2], os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(fd)

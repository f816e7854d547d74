"""Folders of runs: one owner each, and gone once it is dead, however it died. Disks that are full."""

from __future__ import annotations

import fcntl
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from mmflow.blocks import (
    Found,
    LocalStore,
    RunFolder,
    SharedStore,
    found,
    read_span,
    run_folders,
    sweep,
    sweep_seldom,
)
from mmflow.blocks.run_folder import segment_name
from mmflow.errors import EngineError
from mmflow.mapping.system.owner_lock import OwnerLock
from mmflow.startup import ENDING_SIGNALS
from mmflow.storage import disk
from tests.forked import become_nobody, in_fork, mount_privately

FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
OWNER = """
import sys, time
import pyarrow as pa
from mmflow.blocks import SharedStore
store = SharedStore("dead", 1 << 20, sys.argv[1], sys.argv[2])
store.put([pa.py_buffer(b"block")])
print("ready", flush=True)
time.sleep(60)
"""


def test_run_folders_never_meet(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path, "a/b run"), RunFolder(tmp_path, "a/b run")
    assert list(tmp_path.iterdir()) == [], "they are made once they are needed"
    assert [first.path.name, second.path.name] == [
        f"mmflow-a_b_run-{os.getpid()}",
        f"mmflow-a_b_run-{os.getpid()}-1",
    ]
    assert first.path == first.path
    assert first.path.parent == tmp_path
    assert first.path.stat().st_mode & 0o777 == 0o700
    first.close()
    assert second.path.exists()
    second.close()
    second.close()
    with pytest.raises(EngineError, match=r"^the folder of the run is closed: the run has ended$"):
        _ = second.path
    assert list(tmp_path.iterdir()) == []
    for number in ("", "-1", "-2"):
        (tmp_path / f"mmflow-many-{os.getpid()}{number}").mkdir()
    many = RunFolder(tmp_path, "many")
    assert many.path.name == f"mmflow-many-{os.getpid()}-3"
    many.close()


def test_a_folder_that_a_sweeper_takes_as_it_is_made_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, made = disk.mkdir, []

    def taken(path: Path, mode: int) -> None:
        mkdir(path, mode)
        made.append(path)
        if len(made) == 1:
            path.rmdir()
        elif len(made) == 2:
            sweepers.append(OwnerLock(path / ".owner"))

    sweepers: list[OwnerLock] = []
    monkeypatch.setattr(disk, "mkdir", taken)
    folder = RunFolder(tmp_path, "run")
    assert [folder.path] == made[2:]
    assert made[1].exists()
    sweepers[0].release()
    folder.close()


def test_folders_are_swept_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]  # seconds after the machine was started
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    dead = tmp_path / "mmflow-old-1"

    def is_swept() -> bool:
        dead.mkdir(exist_ok=True)
        os.utime(dead, (time.time() - 3600,) * 2)
        sweep_seldom(tmp_path)
        return not dead.exists()

    assert is_swept()
    now[0] += 59
    assert not is_swept()
    now[0] += 1
    assert is_swept()


def test_living_runs_are_not_swept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    (folder.path / "x.block").write_bytes(b"x")
    assert sweep(tmp_path) == []
    assert (folder.path / "x.block").exists()
    folder.close()


def test_killed_owner_is_swept(tmp_path: Path) -> None:
    disk, memory = tmp_path / "disk", tmp_path / "memory"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(disk), str(memory)], stdout=subprocess.PIPE)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        assert sweep(memory) == []
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert owner.stdout is not None
        owner.stdout.close()
    assert list(memory.rglob("*.block"))
    # The next store on this host sweeps, before it makes folders of its own.
    SharedStore("next", 1 << 20, disk, str(memory)).close()
    assert list(disk.iterdir()) == []
    assert list(memory.iterdir()) == []


def test_sweep_leaves_others_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mmflow-file").write_text("a file")
    young = tmp_path / "mmflow-young-1"
    young.mkdir()
    old = tmp_path / "mmflow-old-1"
    old.mkdir()
    users = tmp_path / "mmflow-results"
    users.mkdir()
    (users / "of-a-week.csv").write_text("a\n1\n")
    for folder in (old, users):
        os.utime(folder, (time.time() - 3600,) * 2)
    assert sweep(tmp_path) == [str(old)]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "mine",
        "mmflow-file",
        "mmflow-results",
        "mmflow-young-1",
    ]
    assert (users / "of-a-week.csv").exists()
    assert sweep(tmp_path / "missing") == []


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"in .*file/below: Not a directory; set spill_dir"):
        RunFolder(tmp_path / "file" / "below", "run")
    folder = RunFolder(tmp_path / "removed", "run")
    (tmp_path / "removed").rmdir()
    for _ in range(2):
        with pytest.raises(EngineError) as caught:
            folder.make()
        assert str(caught.value) == (
            f"can't make a folder for temporary blocks in {tmp_path}/removed: No such file or directory; "
            "set spill_dir (MMFLOW_SPILL_DIR) to a folder that can be written to"
        )
        assert caught.value.context == {"path": f"{tmp_path}/removed"}
    folder.close()


@FORKS
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_folder_may_be_made_only_where_its_user_may_write() -> None:
    def message() -> str:
        become_nobody()
        with pytest.raises(EngineError) as caught:
            RunFolder("/", "run")
        return str(caught.value)

    assert in_fork(message).startswith(
        "can't make a folder for temporary blocks in /: Permission denied; set spill_dir "
    )


def test_a_folder_goes_with_the_last_reference_to_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")
    (folder.path / "x.block").write_bytes(b"x")
    del folder
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@FORKS
def test_a_forked_child_leaves_the_folder_to_its_parent(tmp_path: Path) -> None:
    made, unmade = RunFolder(tmp_path, "made"), RunFolder(tmp_path, "unmade")
    path = made.path

    def ends() -> str:
        name = unmade.path.name
        made.close()
        unmade.close()
        return name

    with unmade._making:  # another thread makes it as the child is forked
        assert in_fork(ends).startswith("mmflow-unmade-")
    assert path.exists()
    made.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING_SIGNALS])
def test_a_signal_waits_until_the_folder_is_known(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[tuple[int, list[str]]] = []
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, *ENDING_SIGNALS)}
    folder = RunFolder(tmp_path, "run")
    mkdir = disk.mkdir

    def interrupted(path: Path, mode: int) -> None:
        mkdir(path, mode)
        os.kill(os.getpid(), number)
        assert came == []

    monkeypatch.setattr(disk, "mkdir", interrupted)

    def handler(n: int, frame: object) -> None:
        came.append((n, os.listdir(folder._made[0] if folder._made else next(tmp_path.iterdir()))))

    try:
        for n in handlers:
            signal.signal(n, handler)
        path = folder.path
        assert [signal.getsignal(n) for n in handlers] == [handler] * len(handlers)
    finally:
        for n, before in handlers.items():
            signal.signal(n, before)
    assert came == [(number, [".owner"])]
    assert path.exists()
    folder.close()


def test_signals_that_end_a_command_and_have_no_handler_keep_none(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        RunFolder(tmp_path, "run").close()
        folder = RunFolder(tmp_path, "run")
        folder.make()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        folder.close()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_thread_makes_a_folder(tmp_path: Path) -> None:
    made: list[Path] = []
    thread = threading.Thread(target=lambda: made.append(folder.path))
    folder = RunFolder(tmp_path, "run")
    thread.start()
    thread.join()
    assert made == list(tmp_path.iterdir())
    folder.close()


# ---- what lies in the parent ----------------------------------------------------------------------------


def test_names_of_tables_are_unique() -> None:
    names = {segment_name() for _ in range(100)}
    assert len(names) == 100
    assert all(re.fullmatch(rf"mmflow-{os.getpid()}-[0-9a-f]{{16}}\.table", name) for name in names)


def test_folders_of_a_run_are_those_of_all_its_processes(tmp_path: Path) -> None:
    mine = [RunFolder(tmp_path, "a/b run") for _ in range(2)]
    other = RunFolder(tmp_path, "a/b ru")
    paths = {str(folder.path) for folder in mine}
    other.make()
    (tmp_path / "mmflow-a_b_run-1").mkdir()
    (tmp_path / "a_b_run-1").mkdir()
    assert set(run_folders(tmp_path, "a/b run")) == paths | {str(tmp_path / "mmflow-a_b_run-1")}
    assert run_folders(tmp_path / "missing", "a/b run") == []
    for folder in (*mine, other):
        folder.close()


def test_what_is_found_and_what_of_it_is_swept(tmp_path: Path) -> None:
    living, dead = RunFolder(tmp_path, "living"), RunFolder(tmp_path, "dead")
    for folder, size in ((living, 1000), (dead, 10)):
        (folder.path / "0.block").write_bytes(bytes(size))
        (folder.path / "1.block").symlink_to("/nowhere")
    assert dead._made is not None
    dead._made[1].release()  # as the kernel does when its owner dies
    young, old = tmp_path / "mmflow-young-1", tmp_path / "mmflow-old-1"
    young.mkdir()
    old.mkdir()
    os.utime(old, (time.time() - 3600,) * 2)
    used, unused = (str(tmp_path / segment_name()) for _ in range(2))
    for table in (used, unused):
        Path(table).write_bytes(bytes(100))
    user = os.open(used, os.O_RDWR)
    fcntl.flock(user, fcntl.LOCK_SH)
    aside = tmp_path / "aside"
    aside.mkdir()
    for name in ("file", ".owner"):  # as in a folder of a dead run
        (aside / name).write_bytes(b"file")
    (tmp_path / "mmflow-link-1").symlink_to(aside)
    (tmp_path / "mmflow-link-2.table").symlink_to(aside / "file")
    (tmp_path / "mmflow-file").write_text("a file")
    link = len("/nowhere")
    assert sorted(found(tmp_path), key=lambda f: f.path) == sorted(
        (
            Found(str(living.path), 1000 + link, owned=True),
            Found(str(dead.path), 10 + link, owned=False),
            Found(str(young), 0, owned=True),
            Found(str(old), 0, owned=False),
            Found(used, 100, owned=True),
            Found(unused, 100, owned=False),
        ),
        key=lambda f: f.path,
    )
    assert found(tmp_path / "missing") == []
    assert sorted(sweep(tmp_path)) == sorted([str(dead.path), str(old), unused])
    assert {f.path for f in found(tmp_path)} == {str(living.path), str(young), used}
    assert {p.name for p in tmp_path.iterdir()} >= {
        "aside",
        "mmflow-link-1",
        "mmflow-link-2.table",
        "mmflow-file",
    }
    os.close(user)
    assert sorted(os.listdir(aside)) == [".owner", "file"]
    living.close()
    dead.close()


def test_a_folder_without_an_owner_is_its_makers_for_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mmflow-run-1"
    folder.mkdir()
    os.utime(folder, (1_000_000, 1_000_000))
    for now, owned in ((1_000_059, True), (1_000_060, False)):
        monkeypatch.setattr(time, "time", lambda now=now: float(now))
        assert found(tmp_path) == [Found(str(folder), 0, owned)]


@FORKS
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_what_other_users_have_is_left_alone() -> None:
    shm = Path("/dev/shm")

    def look() -> tuple[list[str], list[str], list[str]]:
        mount_privately(shm, "mode=1777")
        for number in range(20):
            for name, user in (("theirs", 12345), ("mine", 0), ("nobodys", 65534)):
                folder = shm / f"mmflow-{name}-{number}"
                folder.mkdir(0o700)
                (folder / ".owner").write_text("")
                for path in (folder / ".owner", folder):
                    os.chown(path, user, user)
        table = shm / segment_name()
        table.write_text("")
        os.chown(table, 12345, 12345)
        swept = sweep(shm)
        assert len(os.listdir(shm)) == 41
        become_nobody()
        return swept, [f.path for f in found(shm)], sweep(shm)

    swept, known, by_nobody = in_fork(look)
    assert sorted(swept) == sorted(f"{shm}/mmflow-mine-{number}" for number in range(20))
    theirs = sorted(f"{shm}/mmflow-nobodys-{number}" for number in range(20))
    assert sorted(known) == sorted(by_nobody) == theirs


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("can't mount a tmpfs here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def big() -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"a": list(range(100_000))})


@pytest.mark.root
def test_full_disk_says_where_how_much_and_what_to_do(small_disk: Path) -> None:
    store = LocalStore(0, RunFolder(small_disk, "run"))
    kept = store.put([big().slice(0, 10)], big().schema)
    with pytest.raises(EngineError) as caught:
        store.put([big(), big()], big().schema)
    message = str(caught.value)
    assert str(small_disk) in message
    assert re.search(r"[\d,]{7,} bytes of it were written, [\d,]{7,} more", message)
    assert "MMFLOW_SPILL_DIR" in message
    assert len(list(small_disk.rglob("*.block"))) == 1, "the unfinished file is gone"
    assert store.get(kept)[0].num_rows == 10
    store.close()


@pytest.mark.root
def test_full_memory_folder_moves_on_to_disk(small_disk: Path, tmp_path: Path) -> None:
    store = SharedStore("run", 1 << 30, tmp_path / "disk", str(small_disk))
    blocks = [pa.py_buffer(os.urandom(n)) for n in (500_000, 800_000)]
    path, spans = store.put(blocks)
    assert path.startswith(str(tmp_path / "disk"))
    assert [read_span(path, span) for span in spans] == blocks
    assert not list(small_disk.rglob("*.block"))
    store.close()

"""Folders of runs: one owner each, and gone once it is dead, however it died. Disks that are full."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from mmflow.blocks import LocalStore, RunFolder, SharedStore, read_span, sweep, sweep_seldom
from mmflow.errors import EngineError

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
    with pytest.raises(EngineError, match="has ended"):
        _ = second.path
    assert list(tmp_path.iterdir()) == []


def test_folders_are_swept_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
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
    now[0] += 2
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

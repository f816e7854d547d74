"""Real limits of the system: each is a specific error, or a fallback with its reason."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmflow as mf

CHANGE = """
import mmap, os, resource, sys
import mmflow as mf
from mmflow.mapping.system import system

path = sys.argv[1]
with mf.open_array(path, "r+") as array:
    array[0] = 1  # what is needed once, is there
    {limit}
    array[5:] = 7
    print(array.fallback or "mapped", flush=True)
    {after}
"""
ADDRESS_SPACE = """
    used = int(open("/proc/self/statm").read().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + ({room} << 20), resource.RLIM_INFINITY))
"""
PRIVATE = """
    try:
        mf.open_array(path, "c")
    except mf.SinkError as error:
        print(error)
"""
MAPPINGS = """
    # The heap can't grow then either, so it has room before; its top is in use, or it would be given back.
    room = [bytearray(100_000) for _ in range(100)]
    top = room.pop()
    room.clear()
    fd, held = os.open(path, os.O_RDWR), []
    try:
        while True:  # the same page again and again: no two are one mapping
            held.append(system.map_file(fd, 0, mmap.PAGESIZE))
    except OSError as error:
        pass
"""


def _run(path: Path, limit: str, after: str = "") -> list[str]:
    code = CHANGE.format(limit=limit.strip(), after=after.strip())
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_little_address_space(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    size = 64 << 20
    mf.create_array(path, "u1", size, sparse=True).close()
    wide, close = ADDRESS_SPACE.format(room=size * 2 >> 20), ADDRESS_SPACE.format(room=size // 2 >> 20)
    assert _run(path, wide) == ["mapped"]
    # Neither a mapping nor a copy of all of it fits in; nor does a private mapping.
    said = _run(
        path,
        close.replace("array", "array")
        + """
    try:
        array[5:] = 8
    except mf.SinkError as error:
        print(error)
    array[5:10] = 9
    for begin in range(10, len(array), 1 << 20):
        array[begin : begin + (1 << 20)] = 6
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
""",
    )
    assert "RLIMIT_AS" in said[0]
    assert "change fewer rows at once" in said[0]
    (said_of_private, *_) = _run(path, "", close + PRIVATE)[1:]
    assert "RLIMIT_AS" in said_of_private


@pytest.mark.skipif(
    int(Path("/proc/sys/vm/max_map_count").read_text()) > 300_000, reason="too many mappings to use up"
)
def test_no_mappings_left(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(5000, "u1"))
    (said,) = _run(path, MAPPINGS)
    assert said == "mapping failed: not enough address space or mappings left (RLIMIT_AS, vm.max_map_count)"
    assert np.load(path)[[0, 4, 5, -1]].tolist() == [1, 0, 7, 7]


@pytest.fixture
def public() -> Iterator[Path]:
    """Create a folder that other users can enter; pytest's own are private."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_a_file_that_may_not_be_written(public: Path) -> None:
    path = public / "a.npy"
    np.save(path, np.arange(5000))
    path.chmod(0o444)
    code = """
import os, sys
import mmflow as mf
import mmflow.api.map_array
array_maps, session = mmflow.api.map_array, mf.Session()  # another user may not see what is imported
mf.open_array(sys.argv[1])[...]
if os.getuid() == 0:
    os.setgroups([]), os.setgid(int(sys.argv[3])), os.setuid(int(sys.argv[2]))
print(mf.open_array(sys.argv[1])[-1])
for do in (
    lambda: mf.open_array(sys.argv[1], "r+"),
    lambda: session.map_array(sys.argv[1], abs, in_place=True),
    lambda: session.map_array(sys.argv[1], abs, out=sys.argv[1] + ".npy"),
):
    try:
        do()
    except mf.SinkError as error:
        print(error)
"""
    nobody = pwd.getpwnam("nobody")
    folder_of_runs = {**os.environ, "MMFLOW_RUNS_DIR": "/tmp/none", "HOME": "/tmp"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(nobody.pw_uid), str(nobody.pw_gid)],
        capture_output=True, text=True, env=folder_of_runs,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "4999"
    assert done.stdout.count("permission denied") == 3


def test_a_limit_of_file_size(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    code = """
import resource, signal, sys
import mmflow as mf
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
try:
    mf.create_array(sys.argv[1], "u1", 4 << 20)
except mf.SinkError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "RLIMIT_FSIZE" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_refuses_concurrent_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(5000))
    with mf.open_array(path, "c") as private:
        private[-1] = 7

        def meanwhile(rows: Any) -> Any:
            said = []
            for do in (
                lambda: mf.open_array(path, "r+"),
                private.commit,
                lambda: private.commit(in_place=False),
                lambda: mf.map_array(path, abs, in_place=True),
            ):
                try:
                    do()
                except mf.SinkError as error:
                    said.append(str(error))
            assert len(said) == 4
            assert all("is being" in text for text in said), said
            assert mf.open_array(path).snapshot(5) in (5, 10)
            return rows * 2

        mf.map_array(path, meanwhile, in_place=True)
        assert private[1] == 2  # a page of its own has the last one only
        assert private.commit() == 1
    assert np.load(path)[[0, 1, 2, -1]].tolist() == [0, 2, 4, 7]
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize(
    ("name", "fallback", "private"),
    [
        ("ENODEV", "its file system can't be mapped for writing", "copy it to a disk"),
        ("EINVAL", "doesn't allow this kind of mapping", "doesn't allow this kind of mapping"),
        ("EACCES", "mapping it for writing is not permitted", "permission denied"),
        ("ENOMEM", "vm.max_map_count", "raise RLIMIT_AS or vm.max_map_count"),
    ],
)
def test_writes_changes_where_files_can_not_be_mapped(
    tmp_path: Path, name: str, fallback: str, private: str
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(5000, "u1"))
    script = Path(__file__).parent / "refused_maps.py"
    done = subprocess.run([sys.executable, str(script), str(path), name], capture_output=True, text=True)
    if "prctl" in done.stderr:
        pytest.skip("no seccomp here")
    assert done.returncode == 0, done.stderr
    said_of_changes, said_of_private = done.stdout.splitlines()
    assert said_of_changes.startswith("mapping failed: ")
    assert fallback in said_of_changes
    assert private in said_of_private
    assert np.load(path)[[0, 4, 5, -1]].tolist() == [2, 1, 8, 8]

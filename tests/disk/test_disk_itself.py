"""The disk forgets what was not synced, and fails as it is told: else tests over it would find nothing."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmflow.mapping.system import system
from tests.disk.disk import ROOT, Disk
from tests.disk.over_skips import SKIPPED
from tests.waiting import wait_until


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def _said(number: int, call: object, *given: object) -> None:
    with pytest.raises(OSError) as caught:
        call(*given)  # type: ignore[operator]
    assert caught.value.errno == number


def test_what_was_not_synced_is_lost(disk: Disk) -> None:
    for name in ("kept", "empty", "unnamed"):
        (disk.path / name).write_text(name)
    _sync(disk.path / "kept")
    _sync(disk.path / "unnamed")
    (disk.path / "unnamed").rename(disk.path / "later")
    _sync(disk.path)
    (disk.path / "later").rename(disk.path / "renamed")
    (disk.path / "kept").write_text("changed")
    (disk.path / "new").write_text("new")
    _sync(disk.path / "new")
    disk.crash()
    assert {p.name: p.read_text() for p in disk.path.iterdir()} == {
        "kept": "kept",
        "empty": "",
        "later": "unnamed",
    }


def test_a_folder_comes_with_its_parent(disk: Disk) -> None:
    folder = disk.path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "file").touch()
    _sync(folder)
    _sync(disk.path)
    disk.crash()
    assert os.listdir(disk.path / "a") == []
    folder.mkdir()
    _sync(folder.parent)
    disk.crash()
    assert os.listdir(folder) == []


def test_some_of_it_may_be_there(disk: Disk) -> None:
    (disk.path / "file").write_bytes(b"1" * 10_000)
    _sync(disk.path / "file")
    _sync(disk.path)
    seen = set()
    for seed in range(30):
        (disk.path / "file").write_bytes(b"2" * 20_000)
        (disk.path / "other").touch()
        disk.crash(seed)
        data = (disk.path / "file").read_bytes()
        assert set(data) <= {0, *b"12"}
        seen.add((data == b"1" * 10_000, data == b"2" * 20_000, len(data), (disk.path / "other").exists()))
        (disk.path / "file").write_bytes(b"1" * 10_000)
        _sync(disk.path / "file")
        (disk.path / "other").unlink(missing_ok=True)
        _sync(disk.path)
    assert len(seen) > 5


def test_power_is_cut_at_a_change(disk: Disk) -> None:
    _sync(disk.path)
    disk.cut_power(after=2)
    (disk.path / "a").touch()
    _sync(disk.path)
    _said(errno.EIO, (disk.path / "a").rename, disk.path / "b")
    _said(errno.EIO, os.listdir, disk.path)
    disk.power_on()
    assert os.listdir(disk.path) == ["a"]


def test_reads_and_writes_fail_at_a_byte(disk: Disk) -> None:
    path = disk.path / "file"
    path.write_bytes(bytes(100_000))
    rule = disk.fail("read", "*/file", at=70_000)
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no readahead
        assert os.pread(file.fileno(), 4096, 60_000)
        assert len(os.pread(file.fileno(), 4096, 69_000)) == 632  # up to the page of this byte
        _said(errno.EIO, os.pread, file.fileno(), 4096, 69_632)
    assert disk.hits(rule) > 0
    disk.release(rule)
    assert path.read_bytes() == bytes(100_000)
    disk.fail("write", at=50_000, error=errno.EDQUOT)
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), bytes(500), 49_500)
        _said(errno.EDQUOT, os.pwrite, file.fileno(), bytes(501), 49_500)


def test_reads_and_writes_are_short(disk: Disk) -> None:
    disk.direct()
    disk.shorten("write", 7)
    with (disk.path / "file").open("w+b", buffering=0) as file:
        assert file.write(b"a short write") == 7
        assert file.write(b"a short write"[7:]) == 6
        disk.shorten("read", 3)
        assert os.pread(file.fileno(), 100, 0) == b"a s"


def test_space_runs_out(disk: Disk) -> None:
    disk.capacity(5 * 4096)
    with (disk.path / "file").open("wb", buffering=0) as file:
        assert file.write(bytes(40_000)) == 5 * 4096
        _said(errno.ENOSPC, file.write, b"1")
        file.truncate(0)
        os.posix_fallocate(file.fileno(), 0, 4 * 4096)
        _said(errno.ENOSPC, os.posix_fallocate, file.fileno(), 0, 6 * 4096)
        os.ftruncate(file.fileno(), 1 << 24)  # a hole takes no space
    assert disk.used() == 4 * 4096
    (disk.path / "file").unlink()
    wait_until(lambda: disk.used() == 0, "the space of a file that is gone")


def test_a_call_waits_until_it_is_released(disk: Disk) -> None:
    (disk.path / "file").write_text("text")
    read: list[str] = []
    thread = threading.Thread(target=lambda: read.append((disk.path / "file").read_text()))
    with disk.stalled("read") as rule:
        thread.start()
        wait_until(lambda: disk.hits(rule), "the call")
        status = Path(f"/proc/self/task/{thread.native_id}/stat")
        wait_until(
            lambda: status.read_text().rpartition(")")[2].split()[0] == "D", "the state of a disk's caller"
        )
        assert not read
    thread.join()
    assert read == ["text"]


def test_listings_are_slow(disk: Disk) -> None:
    for name in "abcdefgh":
        (disk.path / name).touch()
    disk.slow("readdir", 0.01)
    began = time.monotonic()
    assert sorted(os.listdir(disk.path)) == list("abcdefgh")
    assert time.monotonic() - began > 0.08


def test_mappings_are_of_the_file(disk: Disk) -> None:
    path = disk.path / "file"
    path.write_bytes(bytes(3 * 4096))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[5000:5003] = b"abc"
        assert path.read_bytes()[5000:5003] == b"abc"
        mapping.flush()
        os.fsync(file.fileno())
        _sync(disk.path)
        mapping[6000:6003] = b"abc"
    disk.crash()
    data = path.read_bytes()
    assert data[5000:5003] == b"abc"
    assert data[6000:6003] == bytes(3)


def test_mappings_are_whole_where_reads_and_writes_are_short(disk: Disk) -> None:
    path, data = disk.path / "file", bytes(range(256)) * 64
    disk.direct()
    path.write_bytes(data)
    disk.shorten("read", 1000)
    disk.shorten("write", 1000)
    with path.open("r+b", buffering=0) as file, mmap.mmap(file.fileno(), 0) as mapping:
        assert len(os.pread(file.fileno(), 5000, 0)) == 1000
        assert mapping[:] == data
        assert os.pwrite(file.fileno(), b"1" * 5000, 0) == 1000
        mapping[9000:14000] = b"2" * 5000
        mapping.flush()
    with path.open("rb") as file_:
        assert file_.read() == b"1" * 1000 + data[1000:9000] + b"2" * 5000 + data[14000:]


def test_a_file_grows_and_is_cut_short(disk: Disk) -> None:
    path = disk.path / "file"
    path.write_bytes(b"1" * 10_000)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        assert mapping[9000] == ord("1")
        disk.resize(path, 20_000)
        assert path.stat().st_size == 20_000
        disk.resize(path, 100)
        assert path.stat().st_size == 100
        assert os.pread(file.fileno(), 1000, 0) == b"1" * 100


@pytest.mark.parametrize("fault", ["short", "fails"])
def test_a_mapped_page_that_is_not_there_is_a_signal(disk: Disk, fault: str) -> None:
    path = disk.path / "file"
    path.write_bytes(bytes(3 * 4096))
    code = "import mmap, sys; f = open(sys.argv[1]); m = mmap.mmap(f.fileno(), 0, prot=1); print(1, flush=True); input(); m[9000]"
    process = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    if fault == "short":
        disk.resize(path, 100)
    else:
        disk.fail("read")
    process.communicate(b"\n")
    assert process.returncode == -signal.SIGBUS


def test_a_large_file_takes_its_pages_only(disk: Disk) -> None:
    path, end = disk.path / "a", 1 << 40
    began = disk.used()
    with path.open("wb", buffering=0) as file:
        file.truncate(end)
        for place in (5000, end // 2, end - 3):
            file.seek(place)
            file.write(b"abc")
            os.fsync(file.fileno())
        _sync(disk.path)
        file.seek(0)
        file.write(b"not synced")
    disk.crash()
    assert path.stat().st_size == end
    assert disk.used() - began == path.stat().st_blocks * 512 == 3 * 4096
    with path.open("rb") as file:
        data = [(4096, 8192), (end // 2, end // 2 + 4096), (end - 4096, end)]
        found, place = [], 0
        while place < end:
            begin = os.lseek(file.fileno(), place, os.SEEK_DATA)
            place = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            found.append((begin, place))
        assert found == data
        for place in (5000, end // 2, end - 3):
            assert os.pread(file.fileno(), 5, place - 1)[1:4] == b"abc"
        assert os.pread(file.fileno(), 10, 0) == bytes(10)


def test_names_and_files_behave(disk: Disk) -> None:
    a, b = disk.path / "a", disk.path / "b"
    a.write_text("a")
    b.mkdir()
    system.rename(str(a), str(b), "exchange")
    assert a.is_dir()
    assert b.read_text() == "a"
    _said(errno.EEXIST, lambda: system.rename(str(b), str(a), "no_replace"))
    (disk.path / "link").symlink_to("b")
    os.link(b, a / "second")
    assert (disk.path / "link").read_text() == "a"
    assert b.stat().st_nlink == 2
    with b.open("r+") as file:
        b.unlink()
        (a / "second").unlink()
        assert file.read() == "a"
        assert os.fstat(file.fileno()).st_nlink == 0
        file.write("more")
    (a / "x").touch()
    _said(errno.ENOTEMPTY, a.rmdir)
    (a / ("n" * 255)).touch()
    _said(errno.ENAMETOOLONG, (a / ("n" * 256)).touch)
    _said(errno.ENAMETOOLONG, (a / "x").rename, a / ("n" * 256))
    (a / "far").symlink_to("t" * 300)
    with (disk.path / "holes").open("wb", buffering=0) as file_:
        os.ftruncate(file_.fileno(), 100 * 4096)
        os.pwrite(file_.fileno(), b"1", 50 * 4096)
        assert os.lseek(file_.fileno(), 0, os.SEEK_DATA) == 50 * 4096
        assert os.lseek(file_.fileno(), 50 * 4096, os.SEEK_HOLE) == 51 * 4096
    assert (disk.path / "holes").stat().st_blocks == 8


@pytest.mark.parametrize("name", SKIPPED)
def test_a_test_that_is_skipped_over_it_is_there(name: str) -> None:
    file, _, function = name.partition("::")
    assert f"def {function}(" in (ROOT / file).read_text()


def test_it_ends_with_its_process(tmp_path: Path) -> None:
    """Whatever kills a test: nothing is mounted afterwards, and a call that was stalled fails."""
    code = (
        "import os, sys, threading, time\nfrom pathlib import Path\nfrom tests.disk.disk import forgetful_disk\n"
        "with forgetful_disk(Path(sys.argv[1])) as disk:\n"
        "    rule = disk.stall('lookup')\n"
        "    threading.Thread(target=os.path.exists, args=(disk.path / 'x',), daemon=True).start()\n"
        "    while not disk.hits(rule): time.sleep(0.01)\n"
        "    print(1, flush=True); time.sleep(60)"
    )
    path = tmp_path / "disk"
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: str(path) not in Path("/proc/self/mounts").read_text(), "the end of the mount")

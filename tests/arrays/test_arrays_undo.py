"""The undo log: what it holds, which pages are logged, and who restores them."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmflow as mf
from mmflow.arrays import undo
from mmflow.arrays.holes import write_at
from mmflow.arrays.undo import (
    Record,
    UndoLog,
    has_live_writers,
    list_logs,
    log_range,
    read_records,
    restore_content,
    roll_back_dead_writers,
    start_log,
)
from mmflow.storage import disk
from tests.mapping.systems import LINUX, WINDOWS, on, with_facts

PAGE = 4096
HEAD = 24
RECORD = 20


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A file of eight pages and a half, of one letter each; the third and the fourth page are a hole."""
    path = tmp_path / "a.npy"
    path.write_bytes(b"".join(bytes([letter]) * PAGE for letter in b"abcdefghi")[: -PAGE // 2])
    with open(path, "r+b") as file:
        LINUX.punch_hole(file.fileno(), 2 * PAGE, 2 * PAGE)
    return str(path)


@pytest.fixture
def fd(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def open_files() -> list[str]:
    return sorted(
        os.readlink(f"/proc/self/fd/{n}")
        for n in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{n}")
    )


def records(path: str) -> list[Record]:
    (name,) = list_logs(path)
    with open(name, "rb") as log:
        return list(read_records(log.fileno()))


def die(log: UndoLog) -> None:
    """Leave a log as a writer does that dies."""
    os.close(log._log)
    log._log = -1


def change(fd: int, log: UndoLog, page: int, text: bytes = b"x") -> None:
    log.save(page * PAGE, (page + 1) * PAGE)
    write_at(fd, text * PAGE, page * PAGE)


# ---- the format -------------------------------------------------------------------------------------------------


def test_a_log_is_what_its_picture_says(path: str, fd: int, tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)
    start_log(log, fd)
    log_range(log, fd, PAGE, 5 * PAGE + 7)
    os.close(log)
    hole = (2 * PAGE, 2 * PAGE | 1 << 63)
    data = b"e" * PAGE + b"f" * 7
    assert (tmp_path / "log").read_bytes() == b"".join(
        [
            struct.pack("<8sQQ", b"mmfundo2", os.path.getsize(path), os.stat(path).st_ino),
            struct.pack("<QQI", PAGE, PAGE, zlib.crc32(b"b" * PAGE)) + b"b" * PAGE,
            struct.pack("<QQI", *hole, zlib.crc32(struct.pack("<QQ", *hole))),
            struct.pack("<QQI", 4 * PAGE, PAGE + 7, zlib.crc32(data)) + data,
        ]
    )


def test_records_are_read_up_to_one_that_is_cut_short_or_damaged(path: str, fd: int, tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)
    start_log(log, fd)
    log_range(log, fd, PAGE, 5 * PAGE)
    first = Record(PAGE, PAGE, HEAD + RECORD, zlib.crc32(b"b" * PAGE), HEAD + RECORD + PAGE)
    found = list(read_records(log))
    assert found[0] == first
    assert found[1].crc == zlib.crc32(struct.pack("<QQ", 2 * PAGE, 2 * PAGE | 1 << 63))
    assert [r[:3] for r in found[1:]] == [
        (2 * PAGE, 2 * PAGE, None),
        (4 * PAGE, PAGE, HEAD + 3 * RECORD + PAGE),
    ]
    assert [r.end for r in found] == [
        HEAD + RECORD + PAGE,
        HEAD + 2 * RECORD + PAGE,
        HEAD + 3 * RECORD + 2 * PAGE,
    ]
    assert list(read_records(log, first.end)) == found[1:]
    whole = (tmp_path / "log").read_bytes()
    os.pwrite(log, b"\x01", first.end)  # of the hole's offset
    assert list(read_records(log)) == found[:1]
    os.pwrite(log, whole[first.end : first.end + 1], first.end)
    # Half a record: its head, and bytes that are missing.
    for end in (found[2].end - 1, found[1].end + RECORD - 1, found[1].end):
        os.truncate(log, end)
        assert list(read_records(log)) == found[:2]
    os.truncate(log, first.end)
    os.pwrite(log, struct.pack("<QQI", 0, (8 << 20) + 1, 0), first.end)
    os.truncate(log, 10 << 20)  # longer than a record may be
    assert list(read_records(log)) == found[:1]
    os.close(log)


def test_long_ranges_are_logged_in_records_of_the_longest(
    path: str, fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "_AT_ONCE", 1000)
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)
    start_log(log, fd)
    log_range(log, fd, PAGE, PAGE + 2500)
    assert [r[:2] for r in read_records(log)] == [(PAGE, 1000), (PAGE + 1000, 1000), (PAGE + 2000, 500)]
    os.close(log)


# ---- restoring -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_path", [False, True])
def test_the_old_content_comes_back_with_its_holes_and_is_synced(
    path: str, fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_path: bool
) -> None:
    before = Path(path).read_bytes(), os.stat(path).st_blocks
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)
    start_log(log, fd)
    log_range(log, fd, 0, len(before[0]))
    os.pwrite(fd, b"x" * len(before[0]), 0)
    steps: list[str] = []

    def sync(synced: int, **how: Any) -> None:
        steps.append(f"{os.path.samestat(os.fstat(synced), os.stat(path))} {how}")
        LINUX.sync(synced, **how)

    monkeypatch.setattr(undo, "failpoint", steps.append)
    files = open_files()
    with on(with_facts(LINUX, sync=sync)):
        restore_content(log, path, None if by_path else fd)
    assert open_files() == files
    assert (Path(path).read_bytes(), os.stat(path).st_blocks) == before
    assert steps == ["restored"] * 3 + ["True {}"]
    os.close(log)


def test_nothing_behind_a_damaged_record_is_restored(path: str, fd: int, tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)
    start_log(log, fd)
    for page in (0, 5, 7):
        log_range(log, fd, page * PAGE, (page + 1) * PAGE)
    os.pwrite(fd, b"x" * 8 * PAGE, 0)
    os.pwrite(log, b"!", HEAD + 2 * RECORD + PAGE + 9)
    synced: list[int] = []
    with on(with_facts(LINUX, sync=synced.append)):
        restore_content(log, path, fd)
    assert synced == [fd]
    assert Path(path).read_bytes()[: 8 * PAGE] == b"a" * PAGE + b"x" * 7 * PAGE
    os.close(log)


@pytest.mark.parametrize("head", [b"", b"mmfundo2" + bytes(15), bytes(HEAD)])
def test_a_log_without_its_head_says_nothing(path: str, fd: int, tmp_path: Path, head: bytes) -> None:
    before = Path(path).read_bytes()
    (tmp_path / "log").write_bytes(head)
    with open(tmp_path / "log", "rb") as log:
        restore_content(log.fileno(), path, fd)
    assert Path(path).read_bytes() == before


def test_a_log_of_another_file_or_version_is_refused(path: str, fd: int, tmp_path: Path) -> None:
    status = os.stat(path)
    cut = rf"^{re.escape(path)} was cut short or replaced while it was being changed; its old pages are in the hidden files "
    cut += r"\.a\.npy\.mmflow~… beside it: restore the file from a copy, unless it is whole as it is, then delete them$"
    version = rf"^{re.escape(str(tmp_path))}/\.a\.npy\.mmflow~… is the log of an unfinished change of an array of version 1"
    for head, message in {
        (b"mmfundo2", status.st_size + 1, status.st_ino): cut,
        (b"mmfundo2", status.st_size, status.st_ino + 1): cut,
        (b"nmfundo2", status.st_size, status.st_ino): cut,
        (b"mmfundo1", status.st_size, status.st_ino): version,
    }.items():
        (tmp_path / "log").write_bytes(struct.pack("<8sQQ", *head))
        with open(tmp_path / "log", "rb") as log:
            for descriptor in (fd, None):
                with pytest.raises(mf.SinkError, match=message) as raised:
                    restore_content(log.fileno(), path, descriptor)
                assert raised.value.context["path"] == (
                    path if message == cut else f"{tmp_path}/.a.npy.mmflow~…"
                )
    # A longer file is the same one: what was added is not of the change.
    (tmp_path / "log").write_bytes(struct.pack("<8sQQ", b"mmfundo2", status.st_size - 1, status.st_ino))
    with open(tmp_path / "log", "rb") as log:
        restore_content(log.fileno(), path, fd)


# ---- one writer ----------------------------------------------------------------------------------------------------


def test_each_page_is_logged_once(path: str, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "_CHUNK", 3)
    size = os.path.getsize(path)
    generator = np.random.default_rng(1)
    for _ in range(15):
        log = UndoLog(path, fd, PAGE)
        expected: set[int] = set()
        for begin, end in np.sort(generator.integers(0, size + 1, (5, 2))).tolist():
            log.save(begin, end)
            expected |= set(range(begin // PAGE, -(-end // PAGE)))
            there = [(r.offset, r.length) for r in records(path)] if expected else []
            pages = [
                page
                for offset, length in there
                for page in range(offset // PAGE, -(-(offset + length) // PAGE))
            ]
            assert sorted(pages) == sorted(expected)
            assert all(
                offset % PAGE == 0 and (length % PAGE == 0 or offset + length == size)
                for offset, length in there
            )
        log.clear()


def test_what_is_logged_is_durable_before_save_returns(
    path: str, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def sync(synced: int, **how: Any) -> None:
        steps.append(f"synced {os.fstat(synced).st_size:,} {how}")
        LINUX.sync(synced, **how)

    monkeypatch.setattr(undo, "failpoint", steps.append)
    monkeypatch.setattr(undo, "_CHUNK", 1)
    with on(with_facts(LINUX, sync=sync)):
        monkeypatch.setattr(undo, "fsync_folder", lambda folder: steps.append(f"folder {folder}"))
        log = UndoLog(path, fd, PAGE)
        assert log.name == ""
        log.save(0, 1)
        log.save(0, PAGE)
        log.save(PAGE, PAGE + 1)
        log.save(PAGE, 2 * PAGE)
        assert {bits.nbytes for bits in log._saved.values()} == {1}, "a byte a page"
        log.clear()
    folder = f"folder {Path(path).parent}"
    content = "{'content_only': True}"
    assert steps == [
        *(folder, "opened", "logged", f"synced 4,140 {content}", "saved"),
        *("logged", f"synced 8,256 {content}", "saved"),
        *("unlinked", folder),
    ]


def test_a_log_has_a_name_of_its_own_and_is_for_its_owner_alone(
    path: str, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = [b"first!", b"first!", b"second"]
    monkeypatch.setattr(os, "urandom", lambda count: drawn.pop(0)[:count])
    monkeypatch.chdir(Path(path).parent)
    first, second = UndoLog("a.npy", fd, PAGE), UndoLog("a.npy", fd, PAGE)
    first.save(0, 1)
    second.save(PAGE, PAGE + 1)
    stem = f"{Path(path).parent}/.a.npy.mmflow~undo-{os.getpid()}-"
    assert (first.name, second.name) == (f"{stem}{b'first!'.hex()}", f"{stem}{b'second'.hex()}")
    assert list_logs("a.npy") == [first.name, second.name]
    assert os.stat(first.name).st_mode & 0o777 == 0o600
    assert not os.get_inheritable(first._log)
    for log in (first, second):
        log.clear()
        log.clear()
    assert list_logs(path) == []


def test_a_log_that_is_taken_for_a_dead_writers_before_it_is_locked_is_made_again(path: str, fd: int) -> None:
    removed: list[str] = []

    def lock(log: int, **how: bool) -> None:
        assert how == {"shared": False, "wait": True}
        if not removed:
            removed.append(os.readlink(f"/proc/self/fd/{log}"))
            os.unlink(removed[0])
        LINUX.lock(log, **how)

    files = open_files()
    log = UndoLog(path, fd, PAGE)
    with on(with_facts(LINUX, lock=lock)):
        log.save(0, 1)
    assert list_logs(path) == [log.name] != removed
    assert len(open_files()) == len(files) + 1
    assert [r.offset for r in records(path)] == [0]
    log.clear()
    assert open_files() == files


def test_a_change_is_rolled_back_once(path: str, fd: int) -> None:
    before = Path(path).read_bytes()
    log = UndoLog(path, fd, PAGE)
    log.roll_back()
    for text in (b"x", b"y"):
        change(fd, log, 1, text)
        change(fd, log, 8, text)
        os.truncate(path, len(before))
        log.roll_back()
        assert (Path(path).read_bytes(), list_logs(path)) == (before, [])
        log.roll_back()
    change(fd, log, 1)
    log.clear()
    log.roll_back()
    assert Path(path).read_bytes()[PAGE : 2 * PAGE] == b"x" * PAGE


def test_the_file_that_was_changed_is_restored_whatever_is_at_its_path(
    path: str, fd: int, tmp_path: Path
) -> None:
    before = Path(path).read_bytes()
    log = UndoLog(path, fd, PAGE)
    change(fd, log, 1)
    os.rename(path, tmp_path / "old.npy")
    Path(path).write_bytes(b"new")
    log.roll_back()
    assert ((tmp_path / "old.npy").read_bytes(), Path(path).read_bytes()) == (before, b"new")


def test_a_file_that_was_cut_short_is_named_and_its_log_stays(path: str, fd: int) -> None:
    log = UndoLog(path, fd, PAGE)
    change(fd, log, 1)
    os.truncate(path, PAGE)
    with pytest.raises(mf.SinkError, match=f"^{re.escape(path)} was cut short"):
        log.roll_back()
    assert list_logs(path) == [log.name]
    log.abandon()


@pytest.fixture
def no_input(fd: int) -> Iterator[None]:
    """The process has no standard input, so the next file that it opens has the descriptor 0."""
    kept = os.dup(0)
    os.close(0)
    yield
    os.dup2(kept, 0)
    os.close(kept)


@pytest.mark.usefixtures("no_input")
@pytest.mark.parametrize("end", ["clear", "roll_back", "removed", "abandon"])
def test_a_log_may_have_the_first_descriptor(path: str, fd: int, end: str) -> None:
    before = Path(path).read_bytes()
    log = UndoLog(path, fd, PAGE)
    change(fd, log, 1)
    change(fd, log, 2)
    assert log._log == 0
    assert list_logs(path) == [log.name]
    if end == "removed":
        os.unlink(log.name)
    getattr(log, "clear" if end == "removed" else end)()
    assert (Path(path).read_bytes() == before) is (end == "roll_back")
    assert (list_logs(path) == []) is (end != "abandon")
    assert not os.path.exists("/proc/self/fd/0")


def test_a_log_that_was_removed_before_ctrl_c_counts_as_cleared(path: str, fd: int) -> None:
    for end in (UndoLog.clear, UndoLog.roll_back, lambda log: change(fd, log, 1, b"y")):
        files = open_files()
        log = UndoLog(path, fd, PAGE)
        change(fd, log, 1)
        os.unlink(log.name)
        end(log)
        assert Path(path).read_bytes()[PAGE : PAGE + 1] in (b"x", b"y")
        log.clear()
        assert open_files() == files


def test_errors_name_the_file_and_what_was_done(path: str, fd: int, tmp_path: Path) -> None:
    long = tmp_path / ("a" * 240)
    os.link(path, long)
    with pytest.raises(mf.SinkError, match=rf"^can't log the old content of {long}: its name is too long"):
        UndoLog(str(long), fd, PAGE).save(0, 1)
    log = UndoLog(path, fd, PAGE)
    change(fd, log, 1)
    os.rename(log.name, tmp_path / "elsewhere")
    with pytest.raises(mf.SinkError, match=rf"^can't finish the change of {path}: No such file"):
        log.clear()
    os.rename(tmp_path / "elsewhere", log.name)
    log._fd = os.open(path, os.O_RDONLY)
    with pytest.raises(mf.SinkError, match=rf"^can't restore the old content of {path}: Bad file descriptor"):
        log.roll_back()
    os.close(log._fd)
    die(log)
    os.rename(path, tmp_path / "b.npy")
    with pytest.raises(mf.SinkError, match=rf"^can't restore the old content of {path}: No such file"):
        roll_back_dead_writers(path)


# ---- others ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", [LINUX, with_facts(WINDOWS, lock=LINUX.lock)], ids=["Linux", "Windows"])
def test_the_changes_of_dead_writers_are_undone_and_those_of_live_ones_stay(
    path: str, fd: int, system: Any
) -> None:
    before = Path(path).read_bytes()
    with on(system):
        logs = [UndoLog(path, fd, PAGE) for _ in range(4)]
        for page, log in enumerate(logs):
            change(fd, log, page + 4)
        assert has_live_writers(path)
        die(logs[0])
        logs[1].abandon()
        assert logs[1]._log < 0
        logs[1].abandon()
        die(logs[2])
        os.symlink("nowhere", f"{os.path.dirname(path)}/.a.npy.mmflow~undo-0-gone")
        files = open_files()
        assert roll_back_dead_writers(path) == 3
        assert roll_back_dead_writers(path) == 0
        assert has_live_writers(path)
        assert open_files() == files
        os.unlink(f"{os.path.dirname(path)}/.a.npy.mmflow~undo-0-gone")
        assert list_logs(path) == [logs[3].name]
        assert Path(path).read_bytes() == before[: 7 * PAGE] + b"x" * PAGE + before[8 * PAGE :]
        die(logs[3])
        assert not has_live_writers(path)
        assert roll_back_dead_writers(path) == 1
        assert Path(path).read_bytes() == before
        # A log that its owner leaves, and goes on.
        change(fd, logs[1], 5, b"y")
        logs[1].clear()
    assert list_logs(path) == []


def test_a_log_that_is_only_emptied_is_durably_empty(
    path: str, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def sync(synced: int, **how: Any) -> None:
        steps.append(f"synced {os.fstat(synced).st_size} {how}")

    monkeypatch.setattr(undo, "failpoint", steps.append)
    with on(with_facts(WINDOWS, lock=LINUX.lock, sync=sync)):
        log = UndoLog(path, fd, PAGE)
        log.save(0, 1)
        del steps[:]
        # As long as another process looks whether its writer lives, it stays, empty: nothing is restored by it.
        other = disk.open(log.name, os.O_RDWR)
        log.clear()
        assert steps == ["synced 0 {}", "unlinked"]
        assert os.path.getsize(list_logs(path)[0]) == 0
        os.close(other)
        undo._unlink_closed(f"{path}-gone")  # by that process, a moment before
        dead = UndoLog(path, fd, PAGE)
        change(fd, dead, 1)
        die(dead)
        assert roll_back_dead_writers(path) == 2


def test_other_files_and_folders_that_can_not_be_listed_have_no_logs(path: str) -> None:
    for name in (".a.npy.mmflow~undo", ".b.npy.mmflow~undo-1-b", "a.npy.mmflow~undo-1-a"):
        Path(path).with_name(name).touch()
    assert list_logs(path) == []
    assert list_logs("/nowhere/a.npy") == []
    assert not has_live_writers(path)

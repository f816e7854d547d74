"""MappedFile: opening, prefetching, evicting behind the cursor; and Arrow readers over windows."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from mmflow.errors import SourceChangedError, SourceError
from mmflow.mapping import Advice, FileIdentity, Io, MappedFile, as_arrow_file, page_cache, resident_bytes
from mmflow.mapping.readahead import Loader
from mmflow.mapping.system import system
from mmflow.mapping.system.limits import process_memory
from mmflow.mapping.window import Window

MIB = 1 << 20


def test_open_errors_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "sock"))
        for name, message in {
            "absent": "no such file",
            ".": "this is a directory; name its files",
            "loop": "too many symbolic links",
            "pipe": "it is a pipe.*save it to a file first",
            "sock": "nothing behind it",
        }.items():
            with pytest.raises(SourceError, match=message) as caught:
                MappedFile.open(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value) or name == "."
            assert caught.value.context["path"]
    with pytest.raises(SourceError, match="it is a device"):
        MappedFile.open("/dev/null")


def test_small_files_are_read_once_and_changes_are_still_found(tmp_path: Path) -> None:
    target = tmp_path / "a"
    data = bytes(range(256)) * 16
    target.write_bytes(data)
    with MappedFile.open(target) as file:
        windows = [file.window(begin, 100) for begin in (0, 1, 4000)]
        assert all(w.mapping is None and w.kind == "pread" for w in windows)
        assert [w.buffer.to_pybytes() for w in windows] == [data[:100], data[1:101], data[4000:4100]]
        assert [w.buffer.address % 64 for w in windows] == [0, 1, 4000 % 64]
        file.check_unchanged()
        target.write_bytes(data[::-1])
        assert file.window(10, 5).buffer.to_pybytes() == data[10:15]  # all windows are of one moment
        with pytest.raises(SourceChangedError):
            file.check_unchanged()
    assert windows[0].buffer.to_pybytes() == data[:100]
    with MappedFile.open(target) as file:
        os.truncate(target, 10)
        with pytest.raises(SourceChangedError, match="it now ends at 10"):
            file.window(0, 5)


def test_open_checks_the_expected_identity(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"123")
    planned = FileIdentity.of(str(target))
    before = len(os.listdir("/proc/self/fd"))
    with MappedFile.open(target, expected=planned) as file:
        assert file.identity == planned
    target.write_bytes(b"1234")
    with pytest.raises(SourceChangedError, match="grew"):
        MappedFile.open(target, expected=planned)
    target.unlink()
    with pytest.raises(SourceChangedError, match="gone"):
        MappedFile.open(target, expected=planned)
    assert len(os.listdir("/proc/self/fd")) == before


def test_empty_file(tmp_path: Path) -> None:
    target = tmp_path / "empty"
    target.touch()
    with MappedFile.open(target) as file:
        assert file.window(0, 100).buffer.size == 0
        assert as_arrow_file(file).read() == b""
        file.check_unchanged()


def _evict(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    target = tmp_path / "cold"
    target.write_bytes(np.random.default_rng(1).bytes(80 * MIB))
    _evict(target)
    with open(target, "rb") as f:
        if resident_bytes(f.fileno(), 0, 80 * MIB) > 8 * MIB:
            pytest.skip("this file system doesn't give page cache back")
    return target


@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_prefetches_ahead_and_evicts_behind(cold: Path, io: Io) -> None:
    with MappedFile.open(cold, budget=MIB, io=io) as file:
        assert Advice.EVICT_BEHIND in file.decision.advice
        file.prefetch(0, 40 * MIB)
        deadline = time.monotonic() + 20
        while resident_bytes(file.fd, 0, 40 * MIB) < 40 * MIB:
            assert time.monotonic() < deadline, "prefetch did not load the range"
            time.sleep(0.01)
        for offset in range(0, 80 * MIB, 8 * MIB):
            window = file.window(offset, 8 * MIB)
            assert window.buffer.size == 8 * MIB
            file.evict_behind(offset, 8 * MIB)
        del window
        assert resident_bytes(file.fd, 0, 32 * MIB) < 8 * MIB
        fd = os.dup(file.fd)
    assert resident_bytes(fd, 0, 72 * MIB) < 8 * MIB
    os.close(fd)
    for thread in threading.enumerate():  # prefetching left nothing behind
        assert thread.name != "mmflow-prefetch"


@pytest.mark.parametrize("share", [1.0, 0.9])
def test_a_range_that_was_cached_as_a_task_began_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """The page cache of the machine is not the test's, so what the kernel says of it is given here."""
    target = tmp_path / "large"
    loaded: list[tuple[int, int]] = []
    data = np.random.default_rng(2).bytes(12 * MIB)
    target.write_bytes(data)
    monkeypatch.setattr("mmflow.mapping.file.resident_bytes", lambda fd, begin, length: int(share * length))
    monkeypatch.setattr(Loader, "load", lambda loader, begin, end: loaded.append((begin, end)))
    with MappedFile.open(target, io="mmap") as file:
        file.resident(4 * MIB, 8 * MIB)
        ranges = [(4 * MIB, 2 * MIB), (6 * MIB, 3 * MIB), (3 * MIB, 2 * MIB), (6 * MIB, 3 * MIB + 1)]
        for offset, length in ranges:
            assert file.window(offset, length).buffer.to_pybytes() == data[offset : offset + length]
        wanted = ranges[2:] if share == 1.0 else ranges
        assert loaded == [(offset, offset + length) for offset, length in wanted]


def test_keeps_pages_of_file_within_budget(cold: Path) -> None:
    with MappedFile.open(cold, budget=1 << 40) as file:
        assert file.window(0, 80 * MIB).length == 80 * MIB
        file.evict_behind(0, 80 * MIB)
        assert resident_bytes(file.fd, 0, 80 * MIB) == 80 * MIB


def test_mapped_pages_are_file_backed_not_anonymous(cold: Path) -> None:
    with MappedFile.open(cold) as file:
        before = process_memory()
        window = file.window(0, 64 * MIB)
        after = process_memory()
    assert window.kind == "mmap"
    assert after.file_backed - before.file_backed > 60 * MIB
    assert after.anonymous - before.anonymous < 4 * MIB


def test_residency_by_mincore_equals_cachestat(cold: Path) -> None:
    fd = os.open(cold, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        page = system.page_size
        for n in (3, 4, 100, 9000):
            os.pread(fd, 1, n * page)
        for offset, length in (
            (0, 80 * MIB),
            (3 * page, page),
            (3 * page, 2 * page),
            (50 * MIB, MIB),
            (0, 0),
        ):
            assert page_cache._by_mincore(fd, offset, length) == resident_bytes(fd, offset, length)
        assert resident_bytes(fd, 3 * page, 2 * page) == 2 * page
        assert resident_bytes(fd, 3 * page + 5, 7) == 7
    finally:
        os.close(fd)


# ---- Arrow readers ----------------------------------------------------------------------


@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_ipc_batches_are_views_of_windows(tmp_path: Path, io: Io, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "t.arrow"
    table = pa.table({"n": np.arange(200_000), "s": [f"row {n}" for n in range(200_000)]})
    with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=50_000)
    spans: list[tuple[int, int]] = []
    with MappedFile.open(target, io=io) as file:
        plain = MappedFile.window

        def watched(self: MappedFile, offset: int, length: int, *, populate: bool = True) -> Window:
            window = plain(self, offset, length, populate=populate)
            spans.append((window.buffer.address, window.buffer.address + window.length))
            return window

        monkeypatch.setattr(MappedFile, "window", watched)
        reader = pa.ipc.open_file(as_arrow_file(file))
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        file.check_unchanged()
    del reader, file
    assert pa.Table.from_batches(batches).equals(table)
    for batch in batches:
        for column in batch.columns:
            for buffer in column.buffers():
                if buffer is not None:
                    assert any(begin <= buffer.address < end for begin, end in spans), "a buffer was copied"


@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_parquet_reads_through_windows(tmp_path: Path, io: Io) -> None:
    target = tmp_path / "t.parquet"
    table = pa.table({"n": np.arange(100_000), "s": [f"row {n % 977}" for n in range(100_000)]})
    pq.write_table(table, target, row_group_size=30_000)
    with MappedFile.open(target, io=io, access="random") as file:
        parquet = pq.ParquetFile(as_arrow_file(file))
        assert parquet.read().equals(table)
        assert parquet.read_row_group(2, columns=["s"]).equals(table.select(["s"]).slice(60_000, 30_000))


def test_arrow_file_seeks_and_reads_like_a_file(tmp_path: Path) -> None:
    target = tmp_path / "data"
    data = np.random.default_rng(3).bytes(700_000)
    target.write_bytes(data)
    numbers = np.random.default_rng(4)
    with MappedFile.open(target) as file, open(target, "rb") as plain:
        arrow = as_arrow_file(file)
        assert arrow.size() == 700_000
        for _ in range(300):
            offset, length = int(numbers.integers(0, 710_000)), int(numbers.integers(0, 400_000))
            arrow.seek(offset)
            plain.seek(offset)
            assert arrow.read(length) == plain.read(length)
            assert arrow.read_at(1000, min(offset, 700_000)) == data[offset : offset + 1000]
        arrow.seek(-5, 2)
        assert arrow.read() == data[-5:]

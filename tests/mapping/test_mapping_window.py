"""Windows: the same bytes by mmap and by pread, owned by the last view, never a signal."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow.errors import SourceChangedError, SourceError
from mmflow.mapping import Access, Advice, Decision, FileIdentity, Io, MappedFile, sigbus_guard
from mmflow.mapping.window import open_window
from tests.mapping.systems import LINUX, on, with_facts

SIZE = 300_001
DATA = np.random.default_rng(7).bytes(SIZE)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("window") / "data.bin"
    target.write_bytes(DATA)
    return str(target)


def mappings_of(path: str) -> int:
    return Path("/proc/self/maps").read_text().count(path)


@settings(max_examples=150, deadline=None)
@given(
    offset=st.integers(0, SIZE + 10_000),
    length=st.integers(0, SIZE + 10_000),
    access=st.sampled_from(["sequential", "random"]),
)
def test_any_range_reads_the_same_by_mmap_and_pread(
    path: str, offset: int, length: int, access: Access
) -> None:
    expected = DATA[offset : offset + length]
    kinds: tuple[Io, ...] = ("mmap", "pread")
    for io in kinds:
        with MappedFile.open(path, io=io, access=access) as file:
            window = file.window(offset, length)
            assert window.kind == io
            assert window.buffer.to_pybytes() == expected
            assert (window.length, window.buffer.size) == (len(expected), len(expected))
            assert not window.buffer.is_mutable
            if window.length:
                assert window.offset == offset
                assert window.buffer.address % 64 == offset % 64
            if window.mapping is not None:
                assert (
                    window.offset - (window.buffer.address - window.mapping.address)
                ) % LINUX.granularity == 0


@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_views_outlive_window_and_file(path: str, io: Io) -> None:
    with MappedFile.open(path, io=io) as file:
        window = file.window(1000, 5000)
        view = window.buffer.slice(10, 100)
        array = pa.Array.from_buffers(pa.uint8(), 4000, [None, window.buffer])
    del file, window
    gc.collect()
    assert view.to_pybytes() == DATA[1010:1110]
    numbers = array.to_numpy()
    del array
    gc.collect()
    assert numbers.tobytes() == DATA[1000:5000]
    assert mappings_of(path) == (1 if io == "mmap" else 0)
    del view
    assert numbers.tobytes() == DATA[1000:5000]
    del numbers
    gc.collect()
    assert mappings_of(path) == 0


def test_no_mapping_nor_descriptor_leaks(path: str) -> None:
    def lines() -> int:
        return Path("/proc/self/maps").read_text().count("\n")

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with MappedFile.open(path) as file:
        file.window(0, 10)
    gc.collect()
    before, open_before = lines(), descriptors()
    for _ in range(300):
        with MappedFile.open(path) as file:
            views = [file.window(n * 4096, 9000).buffer.slice(1, 2) for n in range(10)]
            assert mappings_of(path) > 0
    del views
    gc.collect()
    assert mappings_of(path) == 0
    assert lines() <= before + 8  # the allocator may have taken an arena
    assert descriptors() == open_before


def test_windows_hold_no_descriptor(path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with MappedFile.open(path) as file:
        window = file.window(0, SIZE)
    assert len(os.listdir("/proc/self/fd")) == before
    assert window.buffer.to_pybytes() == DATA
    with pytest.raises(ValueError, match="closed"):
        file.window(0, 1)
    file.close()


def test_windows_from_many_threads(path: str) -> None:
    wrong: list[int] = []
    with MappedFile.open(path) as file:

        def work(seed: int) -> None:
            for n in range(200):
                offset = (seed * 7919 + n * 104729) % SIZE
                if file.window(offset, 5000).buffer.to_pybytes() != DATA[offset : offset + 5000]:
                    wrong.append(offset)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        file.check_unchanged()
    assert not wrong


def test_falls_back_to_pread_with_the_reason(path: str) -> None:
    fd = os.open(path, os.O_WRONLY)  # mmap of a descriptor without read permission: EACCES
    try:
        with pytest.raises(SourceError):  # and pread can't read it either: the error that matters
            open_window(fd, path, 0, 10, Decision("mmap", Advice.NONE, "test"))
    finally:
        os.close(fd)
    fd = os.open(path, os.O_RDONLY)
    try:
        with on(with_facts(LINUX, granularity=1)):  # finer than the kernel's: EINVAL
            window = open_window(fd, path, 100, 50, Decision("mmap", Advice.NONE, "test"))
    finally:
        os.close(fd)
    assert window.kind == "pread"
    assert "EINVAL" in window.reason
    assert window.buffer.to_pybytes() == DATA[100:150]


def test_no_mappings_left_falls_back_to_pread(path: str) -> None:
    script = f"""
import resource
import pyarrow as pa
from mmflow.mapping import MappedFile
with MappedFile.open({path!r}) as file:
    file.window(0, 10)
    keep = pa.allocate_buffer(1 << 20)
    del keep
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    none = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 150_000, none[1]))
    window = file.window(1, {SIZE - 1})
    resource.setrlimit(resource.RLIMIT_AS, none)
    print(window.kind, "ENOMEM" in window.reason, bytes(window.buffer) == open({path!r}, "rb").read()[1:])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["pread", "True", "True"], done.stderr


def test_out_of_memory_is_an_engine_error(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as f:
        f.truncate(1 << 30)
    # Its pages are read before it is mapped.
    script = f"""
import resource
from mmflow.errors import EngineError
from mmflow.mapping import MappedFile
with open("/proc/self/statm") as file:
    here = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (here + (512 << 20), resource.getrlimit(resource.RLIMIT_AS)[1]))
with MappedFile.open({str(sparse)!r}) as file:
    try:
        file.window(0, 1 << 30)
    except EngineError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("no memory for a window of 1,073,741,824 bytes"), done.stderr
    assert "lower --shard-size" in done.stdout


@pytest.mark.parametrize("io", ["mmap", "pread"])
@pytest.mark.parametrize("access", ["sequential", "random"])
def test_window_past_a_truncated_end_is_an_error_not_a_signal(tmp_path: Path, io: Io, access: Access) -> None:
    target = tmp_path / "shrinks"
    target.write_bytes(DATA)
    with MappedFile.open(target, io=io, access=access) as file:
        os.truncate(target, 100_000)
        with pytest.raises(SourceChangedError, match="100,000"):
            file.window(0, SIZE)
        assert file.window(0, 100_000).buffer.to_pybytes() == DATA[:100_000]
        with pytest.raises(SourceChangedError, match=r"shrank from 300,001 to 100,000"):
            file.check_unchanged()


def test_populating_past_the_end_reports_efault(tmp_path: Path) -> None:
    """Check the fact that windows rely on: populate fails where a touch would be a SIGBUS."""
    target = tmp_path / "short"
    target.write_bytes(b"x")
    with open(target, "rb") as f:
        address = LINUX.map_file(f.fileno(), 0, 4 * LINUX.page_size)
    try:
        with pytest.raises(OSError, match="Bad address"):
            LINUX.advise(address, 4 * LINUX.page_size, "load")
    finally:
        LINUX.unmap(address, 4 * LINUX.page_size)


def test_truncation_under_a_live_window_is_noticed_and_survived(tmp_path: Path) -> None:
    if not sigbus_guard.available():
        pytest.skip("needs the SIGBUS guard of mmflow._kernels, which is not built")
    target = tmp_path / "cut"
    target.write_bytes(DATA)
    script = f"""
import gc, os
from mmflow.errors import SourceChangedError
from mmflow.mapping import MappedFile
path = {str(target)!r}
for keep in (True, False):
    data = open(path, "rb").read()
    status = os.stat(path)
    with MappedFile.open(path, access="random") as file:
        window = file.window(0, len(data))
        os.truncate(path, 4096)
        tail = bytes(window.buffer)[8192:]
        assert not any(tail), "lost pages read as zeros"
        # Grown back, with the old bytes and times: only the guard knows.
        open(path, "r+b").write(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        if not keep:
            del window
            gc.collect()
        try:
            file.check_unchanged()
        except SourceChangedError as error:
            print("noticed", "cut short" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["noticed", "True"] * 2, done.stderr


def test_guard_stays_above_later_handlers(tmp_path: Path) -> None:
    """Enable faulthandler, as `ray.init` does: it catches SIGBUS, prints, and passes it to the handler before it."""
    if not sigbus_guard.available():
        pytest.skip("needs the SIGBUS guard of mmflow._kernels, which is not built")
    target = tmp_path / "cut"
    target.write_bytes(DATA)
    script = f"""
import faulthandler, mmap, os, signal
from mmflow.mapping import MappedFile
path = {str(target)!r}
size = os.path.getsize(path)
with MappedFile.open(path, access="random") as file:
    early = file.window(0, size)
    faulthandler.enable()
    late = file.window(0, size)
    os.truncate(path, 4096)
    assert not any(bytes(late.buffer)[8192:])
    print("survived", flush=True)
    with open(path, "r+b") as plain:  # a mapping that is not mmflow's
        os.truncate(path, size)
        bare = mmap.mmap(plain.fileno(), size)
        os.truncate(path, 4096)
        bare[8192]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["survived"], done.stderr
    assert done.returncode == -signal.SIGBUS
    assert done.stderr.startswith("Fatal Python error: Bus error")


def test_negative_window_is_a_programming_error(path: str) -> None:
    with MappedFile.open(path) as file, pytest.raises(ValueError, match="negative"):
        file.window(-1, 10)


def test_identity_says_what_changed(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"12345")
    identity = FileIdentity.of(str(target))
    identity.check(str(target))
    os.utime(target, ns=(0, identity.mtime_ns + 2_000_000))
    with pytest.raises(SourceChangedError, match=r"written to \(modified \+0.002000 s later"):
        identity.check(str(target))
    target.write_bytes(b"123456")
    with pytest.raises(SourceChangedError, match="grew from 5 to 6 bytes"):
        identity.check(str(target))
    other = tmp_path / "b"
    other.write_bytes(b"12345")
    os.replace(other, target)
    with pytest.raises(SourceChangedError, match="another file stands in its place"):
        identity.check(str(target))
    target.unlink()
    with pytest.raises(SourceChangedError, match="it is gone"):
        identity.check(str(target))
    with pytest.raises(SourceError, match="no such file"):
        FileIdentity.of(str(target))

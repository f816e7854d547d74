"""Windows of files on other systems: with Python's mmap, and with other page sizes."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow.errors import SourceChangedError
from mmflow.mapping import MappedFile, resident_bytes
from mmflow.mapping.system import System
from mmflow.mapping.system.limits import read_limits
from tests.mapping.systems import LINUX, MACOS, SYSTEMS, WINDOWS, on

KIB = 1 << 10
SIZE = 300 * KIB + 123
DATA = np.random.default_rng(3).bytes(SIZE)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("systems") / "data.bin"
    target.write_bytes(DATA)
    return str(target)


@pytest.fixture(params=list(SYSTEMS))
def system(request: pytest.FixtureRequest) -> System:
    return SYSTEMS[request.param]


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(SYSTEMS)),
    offset=st.integers(0, SIZE + 10_000),
    length=st.integers(0, SIZE + 10_000),
    random=st.booleans(),
)
def test_any_range_reads_the_same(path: str, name: str, offset: int, length: int, random: bool) -> None:
    with on(SYSTEMS[name]), MappedFile.open(path, access="random" if random else "sequential") as file:
        window = file.window(offset, length)
        assert window.kind == "mmap"
        assert window.buffer.to_pybytes() == DATA[offset : offset + length]
        if window.mapping is not None:
            assert window.mapping.offset % SYSTEMS[name].granularity == 0
        file.prefetch(0, SIZE)
        file.evict_behind(offset, length)
        file.check_unchanged()
        assert window.buffer.to_pybytes() == DATA[offset : offset + length]


def test_views_outlive_file_and_then_release_everything(path: str, system: System) -> None:
    def held() -> tuple[int, int]:
        gc.collect()
        return Path("/proc/self/maps").read_text().count(path), len(os.listdir("/proc/self/fd"))

    before = held()
    with on(system):
        with MappedFile.open(path) as file:
            views = [file.window(offset, 5000).buffer for offset in range(0, SIZE, 9000)]
        del file
        assert held()[0] > before[0]
        assert all(
            v.to_pybytes() == DATA[o : o + 5000] for v, o in zip(views, range(0, SIZE, 9000), strict=True)
        )
    del views  # outside of the block: a window is unmapped by the system that mapped it
    maps, descriptors = held()
    assert maps == before[0]
    assert descriptors <= before[1]  # those of tests before may be closed meanwhile


def test_reading_from_many_threads(path: str, system: System) -> None:
    wrong: list[int] = []

    def work(file: MappedFile, seed: int) -> None:
        offsets = np.random.default_rng(seed).integers(0, SIZE, 50).tolist()
        wrong.extend(o for o in offsets if file.window(o, 4321).buffer.to_pybytes() != DATA[o : o + 4321])

    with on(system), MappedFile.open(path, io="pread") as file:
        threads = [threading.Thread(target=work, args=(file, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_refuses_file_that_was_cut_short(tmp_path: Path, system: System) -> None:
    target = tmp_path / "cut.bin"
    target.write_bytes(DATA)
    with on(system), MappedFile.open(target) as file:
        os.truncate(target, 1000)
        with pytest.raises(SourceChangedError, match="now ends at 1,000"):
            file.window(0, SIZE)


def test_facts_that_system_does_not_know_are_no_error(path: str) -> None:
    for other in (MACOS, WINDOWS):
        with on(other), MappedFile.open(path) as file:
            assert file.resident(0, SIZE) == 0
            assert "(unknown)" in file.decision.reason
            with pytest.raises(OSError, match="not implemented"):
                resident_bytes(file.fd, 0, SIZE)
            assert read_limits().address_space is None or other is MACOS


def test_chooses_this_system() -> None:
    from mmflow.mapping.system import system as here

    assert type(here) is type({"linux": LINUX, "darwin": MACOS, "win32": WINDOWS}[sys.platform])

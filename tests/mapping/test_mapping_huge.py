"""Huge pages: where the kernel has them, mappings use them, and bytes are the same in any case."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import mmflow as mf
from mmflow.errors import ConfigError
from mmflow.mapping.system import system
from mmflow.mapping.system.huge import HUGE, advise_huge, map_whole_file

SIZE = 3 * HUGE + 12_345
DATA = np.random.default_rng(5).bytes(SIZE)
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.fixture(params=["disk", "/dev/shm"])
def fd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    folder = tmp_path if request.param == "disk" else Path("/dev/shm")
    path = folder / f"test-huge-{os.getpid()}"  # not of those that other tests look for
    path.write_bytes(DATA)
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)
    path.unlink()


def kib(address: int, field: str) -> int:
    """Return a field of the mapping at an address, from smaps."""
    for part in re.split(r"\n(?=[0-9a-f]+-)", Path("/proc/self/smaps").read_text()):
        if part.startswith(f"{address:x}-"):
            found = re.search(rf"^{field}: +(\d+) kB$", part, re.MULTILINE)
            assert found is not None
            return int(found[1])
    raise AssertionError("it is not mapped")


@pytest.mark.parametrize("wanted", ["auto", "on", "off"])
def test_a_whole_file_is_the_same_in_any_pages(fd: int, wanted: str) -> None:
    whole, _ = map_whole_file(fd, wanted, collapse=True)  # type: ignore[arg-type]  # of str
    assert whole.address % HUGE == 0
    assert whole.to_pybytes() == DATA
    view = whole.slice(HUGE, 10)
    address = whole.address
    del whole
    assert view.to_pybytes() == DATA[HUGE : HUGE + 10]
    del view
    with pytest.raises(AssertionError, match="not mapped"):
        kib(address, "Rss")


@pytest.mark.skipif(not THP.exists(), reason="no transparent huge pages in this kernel")
def test_collapses_shared_memory_into_huge_pages() -> None:
    table = pa.table({"x": np.arange(1 << 20)})  # 8 MiB
    with mf.share(table, huge_pages="on") as handle:
        attached = mf.attach(handle)
        assert attached.equals(table)
        whole = attached["x"].chunk(0).buffers()[1]
        base = whole.address // HUGE * HUGE
        if handle.small:
            assert "refuses huge pages" in handle.small
        else:
            assert kib(base, "ShmemPmdMapped") >= 6 << 10
    with mf.share(table, huge_pages="off") as handle:
        attached = mf.attach(handle)
        assert attached.equals(table)
        base = attached["x"].chunk(0).buffers()[1].address // HUGE * HUGE
        assert kib(base, "ShmemPmdMapped") == 0
        assert (
            "nh"
            in Path("/proc/self/smaps").read_text().partition(f"{base:x}-")[2].partition("VmFlags:")[2][:60]
        )


def test_reports_refused_advice() -> None:
    assert "collapse" not in advise_huge(system.granularity, HUGE, "off")
    assert "refuses huge pages (huge): " in advise_huge(
        system.granularity, HUGE, "on"
    )  # nothing is mapped there
    assert advise_huge(system.granularity, 4096, "on") == ""


@pytest.mark.parametrize("access", ["sequential", "random", "any"])
@pytest.mark.parametrize("huge", ["auto", "on", "off"])
def test_arrays_are_the_same_with_any_advice(tmp_path: Path, access: str, huge: str) -> None:
    path = tmp_path / "a.npy"
    wanted = np.frombuffer(DATA[: 2 * HUGE], np.int64).reshape(-1, 4)
    with mf.create_array(path, "int64", wanted.shape, access=access, huge_pages=huge) as a:  # type: ignore[arg-type]  # of str
        a[:] = wanted
        assert np.array_equal(a[5:70_000], wanted[5:70_000])
    for mode in ("r", "r+", "c"):
        with mf.open_array(path, mode, access=access, huge_pages=huge) as a:  # type: ignore[arg-type]  # of str
            assert np.array_equal(a[...], wanted)


def test_a_whole_file_that_is_cut_short_is_never_zeros(tmp_path: Path) -> None:
    """Check that truncation ends the process: blocks and shared tables are files that nobody else writes to."""
    path = tmp_path / "whole"
    path.write_bytes(DATA)
    script = f"""
import os
from mmflow.mapping import MappedFile
from mmflow.mapping.system.huge import map_whole_file
with MappedFile.open({str(path)!r}) as file:
    file.window(0, 10)  # the guard is there
    whole, _ = map_whole_file(file.fd)
os.truncate({str(path)!r}, 4096)
print(bytes(whole)[-1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, "")


def test_refuses_other_choices(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ConfigError, match="huge_pages 'yes' must be auto, on or off"):
        mf.open_array(tmp_path / "a.npy", huge_pages="yes")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ConfigError, match="access 'backwards' must be sequential, random or any"):
        mf.open_array(tmp_path / "a.npy", access="backwards")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ConfigError, match="huge_pages"):
        mf.create_array(tmp_path / "b.npy", "i4", 3, huge_pages="2M")  # type: ignore[arg-type]  # wrong on purpose
    assert not (tmp_path / "b.npy").exists()
    with pytest.raises(ConfigError, match="huge_pages"):
        mf.share({"x": [1]}, huge_pages=True)  # type: ignore[arg-type]  # wrong on purpose

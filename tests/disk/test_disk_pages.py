"""Pages of remote files, in a cache on a disk that fails: the bytes of the server, or an error that says what and where."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmflow.errors import MmflowError
from mmflow.remote.opening import open_file
from mmflow.remote.options import RemoteOptions
from tests.disk.disk import Disk
from tests.remote.web import Web, serving

_DATA = np.random.default_rng(0).integers(0, 256, 3 << 20, np.uint8).tobytes()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "a.bin").write_bytes(_DATA)
    with serving(tmp_path) as server:
        yield server


def _read(web: Web, folder: Path) -> bytes:
    with open_file(f"{web.url}/a.bin", remote_options=RemoteOptions(str(folder))) as file:
        parts = [file.window(b, 1 << 20).buffer.to_pybytes() for b in range(0, file.size, 1 << 20)]
        file.check_unchanged()
    return b"".join(parts)


_OPS = ["write", "fallocate", *(pytest.param(op, marks=pytest.mark.nightly) for op in (
    "create", "mkdir", "setattr", "open", "read", "readdir", "unlink", "rename", "flush",
))]  # fmt: skip


@pytest.mark.parametrize("op", _OPS)
def test_the_bytes_are_those_of_the_server(disk: Disk, web: Web, op: str) -> None:
    """Whatever fails, nothing that failed is in the cache."""
    folder, other = disk.path / "cache", disk.path / "other"
    assert _read(web, other) == _DATA
    for skip, error in ((0, errno.EIO), (1, errno.ENOSPC), (4, errno.EIO)):
        for known in (other, folder / f"{skip}"):
            rule = disk.fail(op, error=error, skip=skip, times=2)
            try:
                assert _read(web, known) == _DATA
            except MmflowError as problem:
                assert str(disk.path) in str(problem) or web.url in str(problem), problem
            disk.release(rule)
            assert _read(web, known) == _DATA, "something that failed is in the cache"


def test_short_reads_and_writes(disk: Disk, web: Web) -> None:
    disk.direct()
    disk.shorten("read", 5000)
    disk.shorten("write", 7000)
    for _ in range(2):
        assert _read(web, disk.path / "cache") == _DATA


def test_a_full_disk(disk: Disk, web: Web) -> None:
    for size in (0, 1 << 20, 3 << 20):
        disk.capacity(size)
        try:
            assert _read(web, disk.path / "cache") == _DATA
        except MmflowError as problem:
            assert str(disk.path) in str(problem), problem
    disk.capacity(1 << 30)
    assert _read(web, disk.path / "cache") == _DATA

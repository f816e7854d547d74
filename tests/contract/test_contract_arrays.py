"""Functions over arrays and images: the same file on every engine, whoever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmflow as mf
from mmflow.api.jobs import load_job
from tests.arrays.bmp_files import bmp

ROOT = Path(__file__).parents[2]
PIXELS = np.random.default_rng(11).integers(0, 256, (2500, 4001, 3), np.uint8)  # 30 MB, rows padded


@pytest.fixture
def large(session: mf.Session) -> mf.Session:
    """The same engine, with shards as they are for files of this size."""
    return mf.Session(engine=session.settings.engine, shard_size="4MiB", workers=2, memory="512MiB")


def _dying_once(mark: str) -> Callable[[Any, int], Any]:
    """A function that kills its process in the middle of a region, once."""

    def doubled(rows: Any, first: int) -> Any:
        if first > 1_200_000 and not os.path.exists(mark):
            with open(mark, "w"):
                os.kill(os.getpid(), signal.SIGKILL)
        return rows * 2

    return doubled


def test_brighten(large: mf.Session, tmp_path: Path) -> None:
    job = load_job(str(ROOT / "jobs" / "brighten.py"))
    path, out = tmp_path / "a.bmp", tmp_path / "b.bmp"
    path.write_bytes(bmp(PIXELS))
    brighter = bmp(np.minimum(np.rint(PIXELS * 1.3), 255).astype(np.uint8))
    result = job(large, **job.bound({"source": str(path), "factor": 1.3, "out": str(out)}))
    assert (result.rows, result.path) == (2500, str(out))
    assert path.read_bytes() == bmp(PIXELS)
    assert out.read_bytes() == brighter
    job(large, **job.bound({"source": str(path), "factor": 1.3}))
    assert path.read_bytes() == brighter
    assert {p.name for p in tmp_path.iterdir()} == {"a.bmp", "b.bmp"}


@pytest.mark.parametrize("in_place", [True, False])
def test_a_worker_dies_in_its_region(large: mf.Session, tmp_path: Path, in_place: bool) -> None:
    path, mark = tmp_path / "a.npy", tmp_path / "died"
    values = np.arange(3 << 20, dtype="i8")
    np.save(path, values)
    with mf.Session(engine=large.settings.engine, shard_size="24MiB", workers=2, memory="512MiB") as session:
        result = session.map_array(
            path,
            _dying_once(str(mark)),
            in_place=in_place,
            out=None if in_place else path,
            processes=session.settings.engine == "local",
        )
    assert mark.exists()
    assert result.run.retries >= 1
    assert np.array_equal(np.load(path), values * 2)
    assert {p.name for p in tmp_path.iterdir()} == {"a.npy", "died"}


def test_an_error_undoes_all(session: mf.Session, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    values = np.arange(80_000)
    np.save(path, values)

    def broken(rows: Any, first: int) -> Any:
        if first > 60_000:
            raise ValueError("no more")
        return rows + 1

    with pytest.raises(mf.UserFunctionError, match="no more"):
        session.map_array(path, broken, in_place=True)
    assert np.array_equal(np.load(path), values)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]

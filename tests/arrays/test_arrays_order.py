"""Arrays in Fortran order, and single values: as numpy reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import mmflow as mf


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(60.0).reshape(5, 12)),
        np.asfortranarray(np.arange(24, dtype=">i2").reshape(2, 3, 4)),
        np.array(7.5),
        np.array(True),
        np.array((1, 2.5), [("a", "i4"), ("b", "f8")]),
    ],
)
def test_arrays_without_rows_of_their_own(tmp_path: Path, array: npt.NDArray[Any]) -> None:
    path = tmp_path / "a.npy"
    np.save(path, array)
    opened = mf.open_array(path)
    assert (opened.shape, opened.dtype, opened.nbytes) == (array.shape, array.dtype, array.nbytes)
    assert opened[...].flags.f_contiguous == array.flags.f_contiguous
    np.testing.assert_array_equal(opened[...], np.load(path))
    np.testing.assert_array_equal(np.asarray(opened), array)
    np.testing.assert_array_equal(opened.snapshot(), array)
    if array.ndim > 1 and len(array):
        np.testing.assert_array_equal(opened[1:, -1], array[1:, -1])
        assert opened.to_arrow().to_pylist() == array.tolist()
    if not array.ndim:
        with pytest.raises(TypeError, match="no length"):
            len(opened)
    with pytest.raises(mf.SinkError, match="Fortran order or a single value"):
        mf.open_array(path, "r+")
    with pytest.raises(mf.ConfigError, match="Fortran order or a single value"):
        mf.map_array(path, lambda rows: rows, out=tmp_path / "b.npy")


def test_commits_private_changes_of_arrays_without_rows(tmp_path: Path) -> None:
    for array in (np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.array(7.5)):
        path = tmp_path / "a.npy"
        np.save(path, array)
        with mf.open_array(path, "c") as changed:
            changed[...] = 2 * array
            np.testing.assert_array_equal(np.load(path), array)
            changed.commit()
        np.testing.assert_array_equal(np.load(path), 2 * array)

"""Ctrl-C inside of the steps that end a change: the next call completes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mmflow as mf
from mmflow.arrays import undo
from mmflow.arrays.undo import list_logs


def interrupt_flush(array: mf.MappedArray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush, and press Ctrl-C once the undo log is removed."""

    def interrupt(step: str) -> None:
        if step == "unlinked":
            raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(undo, "failpoint", interrupt)
        with pytest.raises(KeyboardInterrupt):
            array.flush()


@pytest.mark.parametrize("finish", [mf.MappedArray.flush, mf.MappedArray.roll_back, mf.MappedArray.close])
def test_a_flush_interrupted_after_its_log_is_removed_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finish: Callable[[mf.MappedArray], None]
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(10_000))

    with mf.open_array(path, "r+") as array:
        array[:5] = 1
        interrupt_flush(array, monkeypatch)
        finish(array)
    assert np.load(path)[:6].tolist() == [1, 1, 1, 1, 1, 0]


def test_changes_after_an_interrupted_flush_are_logged_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(10_000))

    with mf.open_array(path, "r+") as array:
        array[:5] = 1
        interrupt_flush(array, monkeypatch)
        array[:5] = 2
        assert len(list_logs(str(path))) == 1
        array.roll_back()
    assert np.load(path)[:6].tolist() == [1, 1, 1, 1, 1, 0]

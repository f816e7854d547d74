"""Mapped arrays against numpy's own: any sequence of reads, changes, flushes, roll-backs and re-opens."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.extra import numpy as hnp
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import mmflow as mf

DTYPES = st.sampled_from(["u1", "<i4", ">i4", "f8", "S3", "?", "<M8[us]", [("a", "<i2"), ("b", "f4")]])
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=40)


class Arrays(RuleBasedStateMachine):
    """Model of an array: `now` is its expected content, `safe` that of the file after a roll-back."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "a.npy")

    @initialize(dtype=DTYPES, shape=SHAPES, sparse=st.booleans())
    def make(self, dtype: Any, shape: tuple[int, ...], sparse: bool) -> None:
        self.array = mf.create_array(self.path, dtype, shape, sparse=sparse)
        self.now: Any = np.zeros(shape, dtype)
        self.safe = self.now.copy()

    @rule(data=st.data())
    def change(self, data: st.DataObject) -> None:
        if self.array.mode == "r":
            with pytest.raises(mf.SinkError):
                self.array[...] = np.zeros((), self.now.dtype)
            return
        key = self._key(data)
        value = np.frombuffer(
            data.draw(st.binary(min_size=self.now.itemsize, max_size=self.now.itemsize)), self.now.dtype
        )[0]
        if self.now.dtype == bool:
            value = np.bool_(value)
        self.now[key] = value
        self.array[key] = value

    def _key(self, data: st.DataObject) -> Any:
        if self.now.size and data.draw(st.booleans()):
            return data.draw(hnp.basic_indices(self.now.shape, allow_newaxis=False))
        if self.now.shape[0] and data.draw(st.booleans()):
            rows = st.integers(-self.now.shape[0], self.now.shape[0] - 1)
            return np.array(data.draw(st.lists(rows, max_size=5)), np.int64)
        return np.array(
            data.draw(st.lists(st.booleans(), min_size=len(self.now), max_size=len(self.now))), bool
        )

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        key = self._key(data)
        assert np.asarray(self.array[key]).tobytes() == np.asarray(self.now[key]).tobytes()
        assert self.array.snapshot(key).tobytes() == np.asarray(self.now[key]).tobytes()

    @rule(in_place=st.booleans())
    def keep(self, in_place: bool) -> None:
        if self.array.mode == "r+":
            self.array.flush()
            self.safe = self.now.copy()
        elif self.array.mode == "c":
            differ = len(self.array.changed_pages())
            assert (differ > 0) == (self.now.tobytes() != self.safe.tobytes())
            assert self.array.commit(in_place=in_place) == differ
            assert not len(self.array.changed_pages())
            self.safe = self.now.copy()

    @rule()
    def undo(self) -> None:
        self.array.roll_back()
        self.now = self.safe.copy()

    @rule(mode=st.sampled_from(["r", "r+", "c"]))
    def reopen(self, mode: Any) -> None:
        was = self.array.mode
        self.array.close()
        if was == "r+":
            self.safe = self.now.copy()
        self.now = self.safe.copy()
        self.array = mf.open_array(self.path, mode)

    @invariant()
    def equal(self) -> None:
        if hasattr(self, "array"):
            assert self.array.shape == self.now.shape
            assert np.asarray(self.array[...]).tobytes() == self.now.tobytes()

    def teardown(self) -> None:
        with self.folder:
            if hasattr(self, "array"):
                self.array.close()
                left = self.now if self.array.mode == "r+" else self.safe
                assert np.load(self.path).tobytes() == left.tobytes()
                assert [p.name for p in self.path.parent.iterdir()] == ["a.npy"]


TestArrays = Arrays.TestCase
TestArrays.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)

"""The kernel that follows the lengths of records finds what a loop finds."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmflow.kernels import kernels
from tests.kernels.guarded import guarded


def _reference(data: bytes, code: str) -> list[int]:
    width, at = struct.calcsize(code), 0
    ends: list[int] = []
    while at + width <= len(data):
        behind = at + width + struct.unpack_from(code, data, at)[0]
        if behind > len(data):
            break
        ends.append(behind)
        at = behind
    return ends


@pytest.mark.parametrize("code", ["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"])
@given(
    lengths=st.lists(st.integers(0, 20), max_size=12),
    tail=st.binary(max_size=12),
    capacity=st.integers(1, 20),
)
def test_ends_of_records(code: str, lengths: list[int], tail: bytes, capacity: int) -> None:
    data = b"".join(struct.pack(code, n) + bytes(n) for n in lengths) + tail
    expected = _reference(data, code)
    ends = np.zeros(capacity, np.int64)
    raw = guarded(data, "back")
    count = kernels().follow_lengths(
        raw.address, len(data), struct.calcsize(code), code[0] == ">", ends.ctypes.data, capacity
    )
    assert ends[:count].tolist() == expected[:capacity]

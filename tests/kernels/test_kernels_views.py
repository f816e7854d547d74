"""Text by offsets as views: the kernel equals pyarrow's full validation and cast, and stays within its buffers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmflow import _kernels
from mmflow.formats.decoding.views_kernel import text_views

from .guarded import guarded

TEXTS = [
    b"",
    b"a",
    b"twelve bytes",
    b"thirteen here",
    "é".encode(),
    "日本語 text".encode(),
    "a😀b".encode(),
    b"long " * 30,
]
BROKEN = [b"\xff", "é".encode()[:1], b"\x80\x80", "😀".encode()[:3], b"\xed\xa0\x80", b"\xc0\xaf" * 10]

each_simd = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@dataclass(frozen=True)
class Raw:
    """Column from a file, valid or damaged, whose buffers touch protected pages."""

    wide: bool
    count: int
    bits: pa.Buffer | None
    offsets: pa.Buffer
    data: pa.Buffer
    nulls: int

    def array(self) -> pa.Array | None:
        """Convert by pyarrow; None where the column is damaged."""
        kind = pa.large_string() if self.wide else pa.string()
        try:
            array = pa.Array.from_buffers(kind, self.count, [self.bits, self.offsets, self.data], self.nulls)
            array.validate(full=True)
        except pa.ArrowInvalid:
            return None
        return array

    def views(self, piece: int) -> bytes | None:
        """Convert by the kernel."""
        into = guarded(bytes(16 * self.count), "back")
        bits = self.bits.address if self.bits else 0
        rest = (self.data.address, self.data.size, bits, self.count, piece, into.address)
        status = _kernels.text_views(self.offsets.address, 8 if self.wide else 4, *rest)
        return None if status else bytes(into.to_pybytes())


@st.composite
def columns(draw: st.DrawFn) -> Raw:
    side: Literal["front", "back"] = draw(st.sampled_from(["front", "back"]))
    pool = draw(st.sampled_from([TEXTS[:4], TEXTS, TEXTS + BROKEN]))
    values = draw(st.lists(st.sampled_from(pool), max_size=12)) * draw(st.sampled_from([1, 1, 3, 60, 120]))
    count = len(values)
    offsets = np.cumsum([draw(st.sampled_from([0, 0, 3])), *map(len, values)])
    data = b"xyz"[: offsets[0]] + b"".join(values)
    for place in draw(st.lists(st.integers(0, count), max_size=2)):
        offsets[place] += draw(st.sampled_from([-1, 1, 1, -200, 200, 1 << 30]))
    valid = np.ones(count, bool)
    for place in draw(st.lists(st.integers(0, max(count - 1, 0)), max_size=3)):
        valid[place : place + 1] = False
    # Null slots may hold anything: what breaks the text is made null now and then.
    if draw(st.booleans()):
        valid &= np.array([v not in BROKEN for v in values], bool)
    wide = draw(st.booleans())
    bits = None if valid.all() else guarded(np.packbits(valid, bitorder="little").tobytes(), side)
    places = guarded(offsets.astype("<i8" if wide else "<i4").tobytes(), side)
    return Raw(wide, count, bits, places, guarded(data, side), int(count - valid.sum()))


@given(raw=columns(), piece=st.sampled_from([30, 8, 4]))
@each_simd
def test_valid_text_becomes_views(simd: str, raw: Raw, piece: int) -> None:
    array, views = raw.array(), raw.views(piece)
    if array is None:
        assert views is None or raw.count == 0  # no text: what offsets there are is of no matter
        return
    made = text_views(array, piece)
    if views is None or raw.count == 0:
        assert piece < 30 or raw.count == 0  # for one of its values
        assert made is None
        return
    assert made is not None
    made.validate(full=True)
    assert made.type == pa.string_view()
    assert made.to_pylist() == array.to_pylist()
    assert made.null_count == array.null_count
    assert made.buffers()[1].to_pybytes() == views
    # Nothing but the column's own bytes stands behind the views.
    begin, end = raw.data.address, raw.data.address + raw.data.size
    assert all(begin <= b.address <= b.address + b.size <= end for b in made.buffers()[2:])


def test_leaves_wrong_number_of_nulls_to_pyarrow(simd: str) -> None:
    raw = pa.array(["a", None, "b"]).buffers()
    for nulls in (1, 2):
        views = text_views(pa.Array.from_buffers(pa.string(), 3, raw, nulls))
        assert (views is None) == (nulls != 1)


FIRST = [0x41, 0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]  # fmt: skip
SECOND = [0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC2, 0xFF]
REST = [b"", *(bytes(r) for n in (1, 2) for r in itertools.product([0x41, 0x80, 0xBF], repeat=n))]


@pytest.mark.parametrize("before", [0, 61, 62, 63, 127])
def test_validates_every_kind_of_character_like_python(simd: str, before: int) -> None:
    views = np.zeros(16, np.uint8)
    for first, second, rest in itertools.product(FIRST, SECOND, REST):
        data = b"a" * before + bytes([first, second]) + rest
        offsets = np.array([0, len(data)], np.int32)
        given_up = _kernels.text_views(
            offsets.ctypes.data, 4, pa.py_buffer(data).address, len(data), 0, 1, 30, views.ctypes.data
        )
        try:
            data.decode()
        except UnicodeDecodeError:
            assert given_up, data
        else:
            assert not given_up, data


def test_leaves_other_types_alone(simd: str) -> None:
    for array in (
        pa.array([1]),
        pa.array([b"x"]),
        pa.array(["x"], pa.string_view()),
        pa.array(["a", "b"])[1:],
    ):
        assert text_views(array) is None
    for array in (pa.nulls(3, pa.string()), pa.array([""] * 3, pa.large_string())):
        views = text_views(array)
        assert views is not None
        assert views.to_pylist() == array.to_pylist()

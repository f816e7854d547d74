"""The growing dictionary of text equals a Python dict over any batches, and gives up where that would be too large."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mmflow import _kernels

from .guarded import guarded

# Lengths around the 12 bytes that a view holds, and texts that differ in one place only.
TEXTS = [
    "",
    "a",
    "b",
    "a\0",
    "x" * 11,
    "x" * 12,
    "x" * 13,
    "x" * 12 + "y",
    "y" + "x" * 12,
    "é" * 30,
    "é" * 29 + "ê",
]
TEXTS += ["prefix " * 3 + c + " suffix" * n for c in "ab" for n in (0, 1, 2)]


def values_of(dictionary: _kernels.TextDictionary) -> list[str]:
    offsets, text = dictionary.values()
    return [
        text[a:b].decode()
        for a, b in zip(*(np.frombuffer(offsets, np.int32)[i:] for i in (0, 1)), strict=False)
    ]


@given(
    batches=st.lists(
        st.lists(st.sampled_from([None, *TEXTS]) | st.text(max_size=20), max_size=40), max_size=4
    ),
    most_values=st.sampled_from([0, 1, 5, 1000]),
    most_bytes=st.sampled_from([0, 12, 60, 1 << 16]),
    skipped=st.integers(0, 9),
    side=st.sampled_from(["front", "back"]),
)
def test_codes_are_those_of_a_dict(
    batches: list[list[str | None]],
    most_values: int,
    most_bytes: int,
    skipped: int,
    side: Literal["front", "back"],
) -> None:
    dictionary = _kernels.TextDictionary(most_values, most_bytes)
    known: dict[str, int] = {}
    for texts in batches:
        array = pa.array(texts, pa.string_view())[skipped:]
        bits, views, *buffers = (
            None if b is None else guarded(b.to_pybytes(), side) for b in array.buffers()
        )
        codes = guarded(b"\xff" * 4 * len(array), side)
        assert views is not None
        done = dictionary.encode(
            views.address + 16 * array.offset,
            [b.address for b in buffers if b is not None],
            0 if bits is None else bits.address,
            array.offset,
            len(array),
            codes.address,
        )
        wanted = []
        for text in array.to_pylist():
            if text is not None and text not in known:
                if len(known) == most_values or sum(len(t.encode()) for t in [*known, text]) > most_bytes:
                    break
                known[text] = len(known)
            wanted.append(0 if text is None else known[text])
        assert done == len(wanted)
        assert np.frombuffer(codes, np.int32)[:done].tolist() == wanted
        assert values_of(dictionary) == list(known)
        if done < len(array):
            break


def test_many_values() -> None:
    texts = [f"{'long text number ' * (i % 2)}{i}" for i in range(4096)]
    dictionary = _kernels.TextDictionary(4096, 1 << 20)
    for order in (texts, texts[::-1]):
        views = pa.array(order, pa.string_view())
        codes = np.empty(len(order), np.int32)
        buffers = views.buffers()
        rest = ([b.address for b in buffers[2:]], 0, 0, len(order), codes.ctypes.data)
        assert dictionary.encode(buffers[1].address, *rest) == 4096
        assert [texts[c] for c in codes.tolist()] == order
    more = pa.array(["one more"], pa.string_view()).buffers()
    assert dictionary.encode(more[1].address, [], 0, 0, 1, codes.ctypes.data) == 0

"""The walk over JSON documents by the kernel equals the reference, on every instruction set, however it is cut."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmflow import _kernels
from mmflow.formats.json.path import Step, path_text
from mmflow.formats.json.walk import START, KernelWalker, ReferenceWalker, Walker

from .guarded import guarded

PATHS: list[tuple[Step, ...]] = [(), (None,), ("data", None), ("a", None, "b"), (None, None)]
#: Parts of documents, whole and broken.
PARTS = [
    b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"\n    ", b"\r\n", b"\t", b'"data"', b'"a"', b'"b"', b'"\\u0061"',
    b'"data": [', b'"x"', b'"\\""', b'"\\\\"', b'"[{"', b'"a\nb"', b'"' + b"long " * 30 + b'"', b"1", b"-2.5e3", b"true", b"null",
    b"nul", b'{"a": 1}', b'{"a": [1, {"b": 2}]}', b"{}", b"[]", b'{"data": [{"a": 1}, {"a": 2}], "z": [[]]}', b'"', b"\\", b"\0",
    b"{\n  " + b'"k": [' * 20 + b"]" * 20 + b"\n}", b'[{"b": {"x": 1}}, {"b": 2}]', b'"\\ud800"', b"\xff", b'\xc3\xa9',
]  # fmt: skip


def walked(walker: Walker, text: bytes, stops: list[int], piece: int) -> list[Any]:
    """Return all that a walk over a text finds, from stop to stop, with no more than `piece` bytes at first."""
    found: list[Any] = []
    at, cursor, size = 0, START, piece
    for stop in [*stops, len(text) + 1]:
        while True:
            end = min(len(text), at + size)
            part = walker.walk(
                guarded(text[at:end], "back"), max(0, stop - at), cursor, final=end == len(text)
            )
            lines = part.lines.to_pybytes()
            rows = zip(part.begins.tolist(), part.ends.tolist(), part.places.tolist(), strict=True)
            found += [(b + at, e + at, lines[p:].partition(b"\n")[0]) for b, e, p in rows]
            cursor, at = part.cursor, at + part.consumed
            if part.problem:
                return [*found, part.problem, at - part.consumed + part.problem_at]
            if part.at_record:
                found.append(("stop", at))
                break
            if end == len(text):
                return [*found, "end", at]
            size = piece if part.consumed else 2 * size
    return found


def same(text: bytes, steps: tuple[Step, ...], stops: list[int], piece: int) -> None:
    wanted = walked(ReferenceWalker(steps), text, stops, len(text) + 1)
    for isa in _kernels.simd_available():
        _kernels.simd_use(isa)
        assert walked(KernelWalker(steps), text, stops, len(text) + 1) == wanted, (isa, path_text(steps))
        assert walked(KernelWalker(steps), text, stops, piece) == wanted, (isa, path_text(steps), piece)


@given(
    st.lists(st.sampled_from(PARTS), max_size=14).map(b"".join),
    st.sampled_from(PATHS),
    st.lists(st.integers(0, 200), max_size=2).map(sorted),
    st.integers(1, 90),
)
def test_any_bytes(text: bytes, steps: tuple[Step, ...], stops: list[int], piece: int) -> None:
    same(text, steps, stops, piece)


@pytest.mark.parametrize("steps", PATHS)
def test_documents_with_a_byte_changed(steps: tuple[Step, ...]) -> None:
    randoms = random.Random(3)
    item = b'{\n      "a": "\\\\\\"[",\n      "b": {"c": [1, 2, {}]}\n    }'
    inner = b"[\n    " + b",\n    ".join([item] * 3) + b"\n  ]"
    documents = {
        (): (item + b"\n") * 3,
        (None,): inner,
        ("data", None): b'{"meta": {"data": [1]}, "data": ' + inner + b', "rest": [[{"data": []}]]}\n',
        ("a", None, "b"): b'{"a": ' + inner + b"}" + b'{"a": null} {"a": []}',
        (None, None): b"[" + inner + b", [], " + inner + b"]",
    }
    text = documents[steps]
    same(text, steps, [60, 150], 16)
    for _ in range(60):
        at = randoms.randrange(len(text))
        same(text[:at] + randoms.choice(PARTS) + text[at + 1 :], steps, [at], randoms.randrange(1, 99))
        same(text[:at], steps, [], 64)

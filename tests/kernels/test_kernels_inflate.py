"""The inflater gives what zlib gives, whatever the pieces of input and output, and finds the damage that zlib finds."""

from __future__ import annotations

import gzip
import itertools
import random
import zlib
from typing import Literal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow import _kernels
from tests.kernels.guarded import guarded

HISTORY, SLACK = _kernels.INFLATE_HISTORY, _kernels.INFLATE_SLACK
STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED)


def deflated(data: bytes, level: int = 6, strategy: int = 0, memory: int = 8) -> bytes:
    """A gzip file of one member."""
    made = zlib.compressobj(level, zlib.DEFLATED, 31, memory, strategy)
    return made.compress(data) + made.flush()


def inflated(
    packed: bytes,
    piece: int = 1 << 20,
    room: int = 1 << 16,
    side: Literal["front", "back"] = "back",
    simd: str | None = None,
) -> tuple[bytes, str | None]:
    """Inflate a file that comes in pieces by the kernel, and return its text and what is wrong."""
    inflater = _kernels.Inflater(simd or _kernels.simd_used())
    at, size, text = 0, piece, b""
    while True:
        window = guarded(packed[at : at + size], side)
        final = at + size >= len(packed)
        out = guarded(bytes(HISTORY + room + SLACK), "back")
        problem, ended, consumed, produced = inflater.inflate(
            window.address, window.size, final, out.address + HISTORY, room
        )
        assert consumed <= window.size
        assert produced < room + SLACK
        text += out.slice(HISTORY, produced).to_pybytes()
        at += consumed
        if problem is not None or ended:
            assert problem is not None or at == len(packed)
            return text, problem
        # What is left is a part of a symbol, or of a header: more has to come with it.
        size = piece if produced >= room else max(piece, len(packed[at : at + size]) + piece)


def by_zlib(packed: bytes) -> tuple[bytes, bool]:
    """Inflate a file by zlib, byte after byte, since a call that fails gives nothing, and return whether it is whole, too."""
    text = b""
    while True:
        reader = zlib.decompressobj(31)
        at = 0
        try:
            while at < len(packed) and not reader.eof:
                text += reader.decompress(packed[at : at + 1], 1)
                at += 1
                while not reader.eof and (more := reader.decompress(reader.unconsumed_tail, 1)):
                    text += more
        except zlib.error:
            return text, False
        if not reader.eof:
            return text, not packed
        packed = packed[at:]


TEXTS = st.one_of(
    st.binary(max_size=3000),
    st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=40), st.integers(1, 4000)),
    st.builds(
        lambda seed, kinds, size: bytes(random.Random(seed).choices(range(kinds), k=size)),
        st.integers(0, 99),
        st.integers(1, 256),
        st.integers(0, 40_000),
    ),
    st.builds(
        lambda seed, rows: b"".join(
            b"%d,%s,%.2f\n" % (i, random.Random(seed + i).choice([b"AIR", b"TRUCK", b"SHIP"]), i / 7)
            for i in range(rows)
        ),
        st.integers(0, 99),
        st.integers(0, 3000),
    ),
)
MEMBERS = st.lists(
    st.builds(deflated, TEXTS, st.integers(0, 9), st.sampled_from(STRATEGIES), st.integers(1, 9)),
    min_size=1,
    max_size=3,
)


@given(MEMBERS, st.sampled_from([1, 7, 100, 5000, 1 << 20]), st.sampled_from([1, 300, 5000, 1 << 18]))
@settings(deadline=None)
def test_whole_files(members: list[bytes], piece: int, room: int) -> None:
    packed = b"".join(members)
    if len(packed) // piece > 500:
        piece = len(packed) // 500
    expected = gzip.decompress(packed)
    if len(expected) // room > 500:
        room = len(expected) // 500
    for name in _kernels.simd_available():
        assert inflated(packed, piece, room, simd=name) == (expected, None)


@given(MEMBERS, st.data())
@settings(deadline=None)
def test_damage_is_found_where_zlib_finds_it(members: list[bytes], data: st.DataObject) -> None:
    packed = bytearray(b"".join(members))
    kind = data.draw(st.sampled_from(["cut", "flip", "zero", "insert", "swap"]))
    at = data.draw(st.integers(0, len(packed) - 1))
    if kind == "cut":
        del packed[at:]
    elif kind == "flip":
        packed[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "zero":
        packed[at : at + 9] = bytes(len(packed[at : at + 9]))
    elif kind == "insert":
        packed[at:at] = data.draw(st.binary(min_size=1, max_size=9))
    else:
        packed[at:] = packed[at:][::-1]
    expected, whole = by_zlib(bytes(packed))
    text, problem = inflated(bytes(packed), data.draw(st.sampled_from([50, 1 << 20])))
    assert (problem is None) == whole
    # A call that finds damage loses the byte that it has made.
    assert text[: len(expected)] == expected
    assert len(text) - len(expected) <= (0 if whole else 1)


@pytest.mark.parametrize("side", ["front", "back"])
def test_nothing_outside_of_the_input_is_read(side: Literal["front", "back"], simd: str) -> None:
    data = bytes(random.Random(1).choices(b"abcdefgh\n", k=3000))
    packed = deflated(data)
    for cut in range(len(packed)):
        text, problem = inflated(packed[:cut], side=side, simd=simd)
        assert data.startswith(text)
        assert problem == (None if cut == 0 else "truncated compressed stream")
        assert inflated(packed, max(1, cut), side=side, simd=simd) == (data, None)


def test_header_fields() -> None:
    body = deflated(b"text")[10:]
    extra, name, comment = b"\x05\0hello", b"name\0", b"a comment\0"
    for flags in range(32):
        header = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
        header += (
            (extra if flags & 4 else b"") + (name if flags & 8 else b"") + (comment if flags & 16 else b"")
        )
        check = (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little") if flags & 2 else b""
        for piece in (1, 3, 1000):
            assert inflated(header + check + body, piece) == (b"text", None)
        if flags & 2:
            wrong = bytes(b ^ 1 for b in check)
            assert inflated(header + wrong + body) == (b"", "header crc mismatch")


@pytest.mark.parametrize(
    ("packed", "problem"),
    [
        (b"\x1f\x8b\x07" + bytes(20), "unknown compression method"),
        (b"\x1f\x8b\x08\xe0" + bytes(20), "unknown header flags set"),
        (b"\x1f\x8c", "incorrect header check"),
        (deflated(b"a") + b"garbage", "incorrect header check"),
        (deflated(b"a") + bytes(8), "unknown compression method"),
        (deflated(b"a") + b"\0", "truncated compressed stream"),
        (deflated(b"a")[:10] + b"\x07", "invalid block type"),
        (deflated(b"a")[:10] + bytes(9), "invalid stored block lengths"),
        (deflated(b"a")[:-8] + bytes(8), "incorrect data check"),
        (deflated(b"a")[:-4] + bytes(4), "incorrect length check"),
        (deflated(b"a")[:10] + b"\xfd\xff" + bytes(9), "too many length or distance symbols"),
        # A match of the fixed code 4 bytes back, behind no text at all: 1, 01, 0000001 (3 bytes), 00011.
        (deflated(b"a")[:10] + bytes([0b0000_0011, 0b0001_1010, 0b0000_0011]) + bytes(9), "invalid distance too far back"),
    ],
)  # fmt: skip
def test_each_damage_has_its_name(packed: bytes, problem: str, simd: str) -> None:
    assert inflated(packed, simd=simd)[1] == problem


def test_matches_of_every_length_and_distance(simd: str) -> None:
    rng = random.Random(5)
    noise = rng.randbytes(40_000)
    data = bytearray(noise)
    for distance in (*range(1, 80), 255, 256, 1000, 8191, 32_700, 32_768):
        for length in (3, 4, 15, 16, 17, 31, 32, 33, 64, 257, 258):
            start = len(data) - distance
            for i in range(length):
                data.append(data[start + i])
            data += rng.randbytes(3)
    packed = deflated(bytes(data), 9, memory=9)
    for room in (1, 1000, 1 << 20):
        assert inflated(packed, room=max(room, len(data) // 1000), simd=simd) == (bytes(data), None)


@pytest.mark.nightly
def test_a_text_longer_than_4_gib_has_its_length_modulo() -> None:
    """ISIZE counts modulo 2**32: a member that says 0 bytes may hold 4 GiB."""
    zeros = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = bytes(1 << 24)
    body = 256 * (zeros.compress(piece) + zeros.flush(zlib.Z_FULL_FLUSH)) + b"\x03\0"
    crc = 0
    for _ in range(256):
        crc = zlib.crc32(piece, crc)
    packed = pa.py_buffer(b"\x1f\x8b\x08" + bytes(7) + body + crc.to_bytes(4, "little") + bytes(4))
    inflater = _kernels.Inflater(_kernels.simd_used())
    out, at, total, ended = pa.allocate_buffer(HISTORY + (1 << 22) + SLACK), 0, 0, False
    while not ended:
        problem, ended, consumed, produced = inflater.inflate(
            packed.address + at, packed.size - at, True, out.address + HISTORY, 1 << 22
        )
        assert problem is None
        at += consumed
        total += produced
    assert (at, total) == (packed.size, 1 << 32)


@settings(max_examples=12)
@given(
    parts=st.lists(st.binary(max_size=60_000) | st.just(b"abc" * 30_000), min_size=1, max_size=4),
    level=st.integers(0, 9),
    strategy=st.sampled_from(STRATEGIES),
    spacing=st.integers(1000, 60_000),
    piece=st.integers(100, 1 << 18),
)
def test_a_checkpoint_is_where_another_inflater_can_begin(
    parts: list[bytes], level: int, strategy: int, spacing: int, piece: int
) -> None:
    text = b"".join(parts)
    packed = b"".join(deflated(part, level, strategy, 1) for part in parts)
    room = 1 << 16
    inflater, at, found, size = _kernels.Inflater(_kernels.simd_used()), 0, b"", piece
    states = []
    inflater.stop_after(spacing)
    ended = False
    while not ended:
        data = pa.py_buffer(packed[at : at + size])
        out = pa.allocate_buffer(HISTORY + room + SLACK)
        problem, ended, consumed, produced = inflater.inflate(
            data.address, data.size, at + size >= len(packed), out.address + HISTORY, room
        )
        assert problem is None
        at, found = at + consumed, found + out.slice(HISTORY, produced).to_pybytes()
        state = inflater.checkpoint()
        if state is not None:
            states.append((at, len(found), state))
            inflater.stop_after(spacing)
        elif produced < room:
            size = max(piece, len(packed[at : at + size]) + piece)
    assert found == text
    assert [b - a for (_, a, _), (_, b, _) in itertools.pairwise(states) if b - a < spacing] == []
    for offset, length, state in states[:: max(1, len(states) // 6)]:
        other = _kernels.Inflater(_kernels.simd_used())
        other.resume(*state)
        data = pa.py_buffer(packed[offset:])
        out = pa.allocate_buffer(HISTORY + len(text) - length + 1 + SLACK)
        problem, ended, consumed, produced = other.inflate(
            data.address, data.size, True, out.address + HISTORY, len(text) - length + 1
        )
        assert (problem, ended, consumed) == (None, True, data.size)  # with the checksum of the member
        assert out.slice(HISTORY, produced).to_pybytes() == text[length:]


def test_what_is_no_checkpoint_is_refused() -> None:
    inflater = _kernels.Inflater(_kernels.simd_used())
    assert inflater.checkpoint() is None
    with pytest.raises(ValueError, match="no checkpoint"):
        inflater.resume(8, 0, 0, 1, b"")
    with pytest.raises(ValueError, match="no checkpoint"):
        inflater.resume(0, 0, 0, 1, bytes(HISTORY + 1))

"""The kernel that translates text to UTF-8 gives what Python's codecs give, damage and offsets included."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from mmflow.formats.encodings.encoding import find_encoding
from mmflow.formats.encodings.tables import MARK
from mmflow.formats.encodings.translation import CodecTranslator, KernelTranslator, Translated
from mmflow.kernels import kernels
from tests.kernels.guarded import guarded

_LETTERS = 'abc,;\n"0123 éüñßäöЖдыα日本語名前漢字カナひらがなｱｲ한국어中文简体繁體€—😀𠀀か゚Ê̄㐀'
_NAMES = ["latin-1", "windows-1252", "koi8-r", "cp437", "cp037", "shift_jis", "cp932", "gb18030", "gbk",
          "big5", "big5hkscs", "euc_jp", "euc_kr", "johab", "euc_jis_2004", "shift_jis_2004", "utf-16-le",
          "utf-16-be", "utf-32-le", "utf-32-be"]  # fmt: skip


def _texts(name: str, seed: int) -> list[bytes]:
    codec, chance = find_encoding(name).codec, random.Random(seed)
    letters = [c for c in _LETTERS if c.encode(codec, "ignore")]
    made = []
    for length in (0, 1, 5, 70, 300, 4700):
        rare = chance.random()
        text = "".join(
            chance.choice(letters) if chance.random() < rare else chance.choice("abc,\n1")
            for _ in range(length)
        )
        made.append(text.encode(codec))
    return made


def _both(name: str, raw: bytes, *, final: bool) -> tuple[Translated, Translated]:
    encoding, data = find_encoding(name), pa.py_buffer(raw)
    return (
        KernelTranslator(encoding).translate(data, final=final),
        CodecTranslator(encoding).translate(data, final=final),
    )


def _check(name: str, raw: bytes, *, final: bool) -> None:
    kernel, codec = _both(name, raw, final=final)
    text = codec.text.to_pybytes()
    assert kernel.text.to_pybytes() == text
    assert kernel.consumed == codec.consumed
    # Damaged characters in a row are told apart by the kernel alone; records begin behind line breaks.
    damaged = MARK in text
    starts = [
        o for o in range(len(text)) if o == 0 or (text[o - 1] == 10 if damaged else text[o] & 0xC0 != 0x80)
    ]
    offsets = np.array(sorted(random.Random(1).sample(starts, min(40, len(starts)))), np.int64)
    assert kernel.raw_offsets(offsets).tolist() == codec.raw_offsets(offsets).tolist()
    assert [kernel.raw_offset(int(o)) for o in offsets] == kernel.raw_offsets(offsets).tolist()


@pytest.mark.parametrize("simd", kernels().simd_available())
@pytest.mark.parametrize("name", _NAMES)
def test_text_is_translated_as_by_the_codec(name: str, simd: str) -> None:
    used = kernels().simd_used()
    kernels().simd_use(simd)
    try:
        for raw in _texts(name, 3):
            _check(name, raw, final=True)
            _check(name, raw[:-1], final=False)
            assert KernelTranslator(find_encoding(name)).translate(
                pa.py_buffer(raw), final=True
            ).text.to_pybytes().decode() == raw.decode(find_encoding(name).codec)
    finally:
        kernels().simd_use(used)


@pytest.mark.parametrize("name", _NAMES)
def test_damage_is_marked_as_by_the_codec(name: str) -> None:
    chance = random.Random(5)
    for raw in [*_texts(name, 7), chance.randbytes(3000)]:
        damaged = bytearray(raw)
        for _ in range(min(3, len(damaged))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        _check(name, bytes(damaged), final=False)


@pytest.mark.parametrize("name", _NAMES)
def test_a_line_break_is_never_part_of_damage(name: str) -> None:
    encoding, chance = find_encoding(name), random.Random(11)
    for _ in range(20):
        raw = b"".join(
            chance.randbytes(encoding.unit * chance.randrange(5)) + encoding.newline for _ in range(30)
        )
        translated = KernelTranslator(encoding).translate(pa.py_buffer(raw), final=True)
        breaks = np.flatnonzero(np.frombuffer(translated.text, np.uint8) == 10)
        assert (
            translated.raw_offsets(breaks).tolist()
            == encoding.line_ends(np.frombuffer(raw, np.uint8)).tolist()
        )


def test_ascii_is_not_copied() -> None:
    data = pa.py_buffer(b"a,b\n" * 100)
    for name in ("latin-1", "shift_jis", "gb18030"):
        assert KernelTranslator(find_encoding(name)).translate(data, final=True).text is data


@pytest.mark.parametrize("name", _NAMES)
def test_nothing_is_read_beyond_the_end(name: str) -> None:
    for raw in _texts(name, 13)[:5]:
        for cut in range(min(4, len(raw))):
            data = guarded(raw[: len(raw) - cut], "back")
            KernelTranslator(find_encoding(name)).translate(data, final=True)


@pytest.mark.parametrize("name", ["iso2022_jp", "iso2022_kr", "hz", "utf-7"])
def test_the_state_of_an_encoding_is_carried(name: str) -> None:
    text = "a,b\n" + {"iso2022_kr": "1,서울\n", "utf-7": "1,Łódź\n"}.get(name, "1,北京\n") * 20
    raw = text.encode(name)
    translator, made, at = CodecTranslator(find_encoding(name)), "", 0
    while at < len(raw):
        found = translator.translate(pa.py_buffer(raw[at : at + 37]), final=at + 37 >= len(raw))
        piece = found.text.to_pybytes().decode()
        kept = piece[: piece.rfind("\n") + 1]
        consumed = found.raw_offset(len(kept.encode()))
        translator.advance(consumed)
        made, at = made + kept, at + consumed
    assert made == text

"""The kernel of text lines equals the reference decoder; lines without a needle, and only they, are left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmflow as mf
from mmflow import _kernels
from mmflow.formats.base import Comparison
from mmflow.formats.decoding.kernel_types import kernel_type
from mmflow.formats.text.kernel import text_decoder
from mmflow.formats.text.lines import TextDecoder

from .draining import drained
from .guarded import guarded

SIMD = _kernels.simd_available()
PIECES = st.sampled_from(
    [b"\n", b"\n", b"\r\n", b"\r", b"\x00", b"\x00\x00\n", b"a", b"needle", b"need", b"nee", b"x" * 61, b"y" * 130,
     "é€😀".encode(), b"\xff", b"\xed\xa0\x80", b" ", b"twelve bytes"]
)  # fmt: skip


@given(
    pieces=st.lists(PIECES, max_size=60),
    policy=st.sampled_from(["error", "null", "skip"]),
    stop=st.integers(0, 600),
    final=st.booleans(),
    side=st.sampled_from(["front", "back"]),
    columns=st.sampled_from([("line",), ()]),
)
def test_any_bytes(
    pieces: list[bytes],
    policy: Literal["error", "null", "skip"],
    stop: int,
    final: bool,
    side: Literal["front", "back"],
    columns: tuple[str, ...],
) -> None:
    text = b"".join(pieces)
    data = guarded(text, side)
    reference = TextDecoder(columns, policy)
    wanted = drained(reference, data, stop, final=final)
    for isa in SIMD:
        _kernels.simd_use(isa)
        assert drained(text_decoder(reference, ()), data, stop, final=final) == wanted


@given(
    lines=st.lists(
        st.lists(st.sampled_from(["needle", "nee", "dle", "n", " ", "x" * 50, "é", "\r"])), max_size=40
    )
)
@pytest.mark.parametrize("needle", [b"needle", b"n", b" needle", b"needlenee", "é".encode(), b"x" * 80])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_lines_without_the_needle_are_left_out(lines: list[list[str]], needle: bytes, end: bytes) -> None:
    text = b"\n".join("".join(parts).encode() for parts in lines) + end
    reference = TextDecoder(("line",), "error")
    held = (Comparison("line", "contains", needle.decode()),)
    for isa in SIMD:
        _kernels.simd_use(isa)
        for side in ("front", "back"):
            data = guarded(text, side)
            rows, *counts = drained(text_decoder(reference, held), data, len(text), final=True)
            everything, *true = drained(reference, data, len(text), final=True)
            assert counts == true
            assert rows == [r for r in everything if needle in str(r[0]).encode()]


@pytest.mark.parametrize("count", [1, 63, 64, 5000])
def test_plain_lines_are_read_by_the_kernel_alone(simd: str, count: int) -> None:
    text = b"".join(
        b"line %d of a log, some longer than others %s\n" % (i, b"." * (i % 97)) for i in range(count)
    )
    data = guarded(text, "back")
    for needle, rows in ((b"", count), (b"of a log", count), (b"line 0 of", 1), (b"absent", 0)):
        reader = _kernels.LinesReader([(0, kernel_type(pa.string_view()))], False, needle)
        status, consumed, records, found, newlines, _, _ = reader.decode(
            data.address, data.size, len(text), True, data
        )
        assert (status, consumed, records, found, newlines) == (0, len(text), count, rows, count)


def lines_where(folder: Path, lines: list[str], condition: str) -> pa.Table:
    """Count which of the lines, each written fifty times, meet a condition."""
    path = folder / "log.txt"
    path.write_text("\n".join(lines * 50) + "\n")
    with mf.Session(workers=2, shard_size="4KiB") as session:
        query = f"SELECT line, count(*) AS n FROM t WHERE {condition} GROUP BY line ORDER BY line"
        return session.sql(query, t=session.read_text(str(path))).to_arrow()


PATTERNS = [
    "%needle%",
    "needle%",
    "%needle",
    "n_edle%",
    "%a\\%b%",
    "%\\_%",
    "%",
    "",
    "_%",
    "%ne%dle%",
    "needle",
    "%é%",
    "%NEEDLE%",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("negated", ["", "NOT "])
def test_like_returns_the_right_rows(tmp_path: Path, pattern: str, negated: str) -> None:
    lines = [
        "needle",
        "a needle",
        "needle b",
        "nxedle",
        "a%b",
        "a\\%b",
        "axb",
        "_",
        "\\_",
        "",
        "ne and dle",
        "café",
        "NEEDLE",
    ]
    tokens = re.findall(r"\\.|.", pattern)
    expression = "".join(
        ".*" if t == "%" else "." if t == "_" else re.escape(t[1] if len(t) == 2 else t) for t in tokens
    )
    matches = [line for line in lines if (re.fullmatch(expression, line) is not None) != bool(negated)]
    table = lines_where(tmp_path, lines, f"line {negated}LIKE '{pattern}'")
    assert table.to_pylist() == [{"line": line, "n": 50} for line in sorted(matches, key=str.encode)]
    assert isinstance(table, pa.Table)


REGEXES = [
    "needle", "^needle$", "ne+dle", "ne*dle", "n.e?dle", "(need|x)le", "need|b$", "a[%x]b", r"a\\?%b", r"\\_", "(?i)NEEDLE", "needle{0}",
    "e{2}dle", "needle??", "caf[^x]", "nee(d(l)e)", r"\bneedle\b", r"\x6eeedle", "[]e]dle", "", ".", "(nothing)?needle b", "ne and+ dle",
]  # fmt: skip


@pytest.mark.parametrize("pattern", REGEXES)
def test_regular_expressions_return_the_right_rows(tmp_path: Path, pattern: str) -> None:
    lines = [
        "needle",
        "a needle",
        "needle b",
        "nedle",
        "ndle",
        "a%b",
        "a\\%b",
        "axb",
        "_",
        "\\_",
        "",
        "ne and dle",
        "café",
        "NEEDLE",
    ]
    lines += ["needl", "xle", "needle0"]
    table = lines_where(tmp_path, lines, "line ~ '" + pattern.replace("'", "''") + "'")
    matches = [
        line
        for line in lines
        if re.search(pattern.replace("(?i)", ""), line, re.IGNORECASE if "(?i)" in pattern else 0)
    ]
    assert table.to_pylist() == [{"line": line, "n": 50} for line in sorted(matches, key=str.encode)]

"""Sparse files: writes and copies read as if holes were zeros, and holes stay where they can."""

from __future__ import annotations

import itertools
import os
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from mmflow.arrays.holes import clone_file, find_data_extents, has_holes, punch_hole, write_sparsely

PAGE = 4096
SIZE = 12 * PAGE + 100
RUNS = st.lists(st.tuples(st.integers(0, 3 * PAGE), st.sampled_from([b"\0", b"\0", b"x"])), max_size=12)


@settings(max_examples=80, deadline=None)
@given(
    there=st.lists(st.integers(0, SIZE - 1), max_size=3), runs=RUNS, offset=st.integers(0, SIZE - 1),
    hole=st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(sorted), allocated=st.booleans(),
)  # fmt: skip
def test_holes_read_like_zeros(
    tmp_path_factory: pytest.TempPathFactory,
    there: list[int],
    runs: Any,
    offset: int,
    hole: Any,
    allocated: bool,
) -> None:
    path = tmp_path_factory.mktemp("holes") / "file"
    wanted = bytearray(SIZE)
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        os.ftruncate(fd, SIZE)
        if allocated:
            os.posix_fallocate(fd, 0, SIZE)
        for place in there:
            os.pwrite(fd, b"o", place)
            wanted[place] = ord("o")
        data = b"".join(byte * count for count, byte in runs)[: SIZE - offset]
        write_sparsely(fd, data, offset, PAGE)
        wanted[offset : offset + len(data)] = data
        assert path.read_bytes() == wanted
        if not allocated:
            pages = {p // PAGE for p in there} | {(offset + n) // PAGE for n, byte in enumerate(data) if byte}
            assert path.stat().st_blocks * 512 <= (len(pages) + 1) * PAGE
        copy = path.with_name("copy")
        target = os.open(copy, os.O_CREAT | os.O_RDWR)
        assert clone_file(fd, target) in ("reflink", "copy")
        os.close(target)
        assert copy.read_bytes() == wanted
        assert copy.stat().st_blocks <= path.stat().st_blocks
        begin, end = hole
        if begin < end:
            punch_hole(fd, begin, end)
            wanted[begin:end] = bytes(end - begin)
        assert path.read_bytes() == wanted
        found = list(find_data_extents(fd, begin, end))
        assert all(begin <= b < e <= end for b, e in found)
        assert all(a[1] < b[0] for a, b in itertools.pairwise(found))
        assert has_holes(fd, begin, end) == (begin < end and found != [(begin, end)])
        assert not any(wanted[n] for n in range(begin, end) if not any(b <= n < e for b, e in found))
    finally:
        os.close(fd)

"""Planning: shards tile files but for holes, lazily, in O(shards), without reading."""

from __future__ import annotations

import itertools
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow.errors import SourceChangedError, SourceError
from mmflow.mapping import FileIdentity
from mmflow.shards import FileEntry, Shard, cut_remainder, group_shards, identify_files, plan_shards

PAGE = 4096
TIB = 1 << 40


def entry(size: int, path: str = "x") -> FileEntry:
    return FileEntry(path, FileIdentity(0, 1, size, 0))


def plan(file: FileEntry, shard_size: int, *, skips_holes: bool = False, page: int = PAGE) -> list[Shard]:
    return list(
        plan_shards(file, 0, shard_size=shard_size, splittable=True, skips_holes=skips_holes, page_size=page)
    )


@given(
    size=st.integers(0, 1 << 22),
    shard_size=st.integers(1, 1 << 20),
    page=st.sampled_from([4096, 16 << 10, 64 << 10]),
)
def test_shards_tile_the_file_at_pages(size: int, shard_size: int, page: int) -> None:
    shards = plan(entry(size), shard_size, page=page)
    assert [s.begin for s in shards[1:]] == [s.end for s in shards[:-1]]
    if size == 0:
        assert shards == []
    else:
        assert (shards[0].begin, shards[-1].end) == (0, size)
    for number, shard in enumerate(shards):
        assert shard.begin % page == 0
        assert shard.begin < shard.end
        assert shard.end - shard.begin < shard_size + page
        assert shard.fresh == (number == 0)


@given(
    begin=st.integers(0, 1 << 22),
    size=st.integers(1, 1 << 22),
    parts=st.integers(1, 40),
    least=st.sampled_from([1, 7, PAGE, 1 << 20]),
)
def test_parts_tile_the_remainder_of_a_shard(begin: int, size: int, parts: int, least: int) -> None:
    end = begin + size
    cut = cut_remainder(Shard(2, begin - begin % PAGE, end, fresh=True), begin, parts, least=least)
    assert len(cut) <= parts
    assert (cut[0].begin, cut[-1].end) == (begin, end)
    assert [s.begin for s in cut[1:]] == [s.end for s in cut[:-1]]
    assert {(s.file, s.fresh) for s in cut} == {(2, False)}
    if len(cut) > 1:
        assert all(s.end - s.begin >= least for s in cut)
        assert all(s.begin % min(least, PAGE) == 0 for s in cut[1:])


def test_unsplittable_file_is_one_shard() -> None:
    one = plan_shards(entry(10**9), 3, shard_size=PAGE, splittable=False, skips_holes=True)
    assert list(one) == [Shard(3, 0, 10**9, fresh=True)]


def write_at(path: Path, size: int, blocks: dict[int, bytes]) -> FileEntry:
    with open(path, "wb") as f:
        f.truncate(size)
        for offset, data in blocks.items():
            f.seek(offset)
            f.write(data)
    return identify_files([str(path)])[0]


@settings(max_examples=60, deadline=None)
@given(
    blocks=st.dictionaries(st.integers(0, 400), st.integers(1, 20_000), max_size=6),
    tail=st.integers(0, 500_000),
    shard_size=st.integers(1, 300_000),
    page=st.sampled_from([4096, 64 << 10]),
)
def test_holes_are_skipped_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, blocks: dict[int, int], tail: int, shard_size: int, page: int
) -> None:
    path = tmp_path_factory.mktemp("holes") / "f"
    size = max((4096 * n + length for n, length in blocks.items()), default=0) + tail
    file = write_at(path, size, {4096 * n: b"x" * length for n, length in blocks.items()})
    shards = plan(file, shard_size, skips_holes=True, page=page)
    data = path.read_bytes()
    at = 0
    for shard in shards:
        assert shard.begin >= at
        assert shard.begin % page == 0
        assert shard.begin < shard.end <= size
        assert not data[at : shard.begin].strip(b"\0"), "data was left out"
        assert shard.fresh == (shard.begin > at or shard.begin == 0)
        at = shard.end
    assert not data[at:].strip(b"\0")


@pytest.mark.alone
def test_a_terabyte_with_a_hole_plans_in_milliseconds(tmp_path: Path) -> None:
    file = write_at(tmp_path / "sparse.csv", TIB, {0: b"a,b\n" * 3000, TIB // 2: b"1,2\n" * 3000})
    if os.stat(file.path).st_blocks > 1000:
        pytest.skip("this file system has no holes")
    tracemalloc.start()
    began = time.perf_counter()
    shards = plan(file, 64 << 20, skips_holes=True)
    seconds = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(s.begin, s.fresh) for s in shards] == [(0, True), (TIB // 2, True)]
    assert seconds < 0.1
    assert peak < 64 << 10


@pytest.mark.alone
def test_a_terabyte_of_data_plans_lazily() -> None:
    began = time.perf_counter()
    count = sum(
        1 for _ in plan_shards(entry(TIB), 0, shard_size=64 << 20, splittable=True, skips_holes=False)
    )
    assert count == 16384
    assert time.perf_counter() - began < 0.5


def test_shards_and_groups_of_a_petabyte_take_no_memory() -> None:
    files = (entry(1 << 50),)
    shards = plan_shards(files[0], 0, shard_size=128 << 20, splittable=True, skips_holes=False)
    groups = group_shards(shards, files, target_bytes=64 << 20, max_shards=16)
    tracemalloc.start()
    for group in itertools.islice(groups, 50_000):  # of 8 million: what grows with shards would show
        assert len(group) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 10


def test_short_holes_are_read_over(tmp_path: Path) -> None:
    file = write_at(tmp_path / "f", 10 << 20, {0: b"x", 512 << 10: b"x", 8 << 20: b"x"})
    assert [(s.begin, s.end) for s in plan(file, 64 << 20, skips_holes=True)] == [
        (0, (512 << 10) + PAGE),
        (8 << 20, (8 << 20) + PAGE),
    ]


def test_a_file_of_nothing_but_a_hole_has_no_shards(tmp_path: Path) -> None:
    file = write_at(tmp_path / "f", 1 << 30, {})
    assert plan(file, 64 << 20, skips_holes=True) == []
    assert len(plan(file, 64 << 20)) == 16


def test_planning_notices_a_changed_file(tmp_path: Path) -> None:
    file = write_at(tmp_path / "f", 100, {0: b"x" * 100})
    (tmp_path / "f").write_bytes(b"y" * 101)
    with pytest.raises(SourceChangedError, match="grew from 100 to 101"):
        plan(file, PAGE, skips_holes=True)
    (tmp_path / "f").unlink()
    with pytest.raises(SourceChangedError, match="gone"):
        plan(file, PAGE, skips_holes=True)


def test_refuses_files_that_hide_their_size(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert identify_files([str(tmp_path / "empty")])[0].identity.size == 0
    with pytest.raises(SourceError, match="files of proc don't have a size; copy it"):
        identify_files(["/proc/self/status"])
    with pytest.raises(SourceError, match="no such file"):
        identify_files([str(tmp_path / "absent")])


@given(
    sizes=st.lists(st.integers(0, 60_000), max_size=30),
    target=st.integers(1, 100_000),
    most=st.integers(1, 8),
)
def test_groups_keep_order_and_bounds(sizes: list[int], target: int, most: int) -> None:
    files = tuple(entry(size) for size in sizes)
    shards = [
        shard
        for number, file in enumerate(files)
        for shard in plan_shards(file, number, shard_size=16_384, splittable=True, skips_holes=False)
    ]
    groups = list(group_shards(iter(shards), files, target_bytes=target, max_shards=most))
    assert [shard for group in groups for shard in group] == shards
    several = {s.file for s in shards if sum(t.file == s.file for t in shards) > 1}
    for group in groups:
        assert 1 <= len(group) <= most
        if len(group) > 1:
            assert not several & {s.file for s in group}
            assert sum(s.end - s.begin for s in group) <= target
    for left, right in itertools.pairwise(groups):  # no two groups that could have been one
        whole = not several & {s.file for s in left + right}
        if whole and len(left) < most:
            assert sum(s.end - s.begin for s in left) + right[0].end - right[0].begin > target

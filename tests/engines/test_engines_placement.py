"""Placement of shards on nodes, given the files that the nodes see."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mmflow.engines.placement import Choice, Placement, Seen, probe, seen_here
from mmflow.errors import SourceError
from mmflow.mapping import FileIdentity
from mmflow.mapping.system.host import read_boot_id
from mmflow.plan.tasks import ShardTask
from mmflow.shards import FileEntry, Shard

A, B = FileEntry("/a", FileIdentity(1, 1, 100, 7)), FileEntry("/b", FileIdentity(1, 2, 100, 8))
COLD_A, COLD_B = Seen(100, 7, (0, 0)), Seen(100, 8, (0, 0))


Probes = dict[str, dict[str, Seen | None]]


def task(*files: FileEntry, begin: int = 0, end: int = 100) -> ShardTask:
    shards = tuple(Shard(number, begin, end) for number in range(len(files)))
    return ShardTask(files, shards)


def test_without_a_difference_any_node_will_do() -> None:
    probes: Probes = {"x": {"/a": COLD_A}, "y": {"/a": COLD_A}}
    assert Placement(probes).choose(task(A)) == Choice(None, None)
    warm: Probes = {"x": {"/a": Seen(100, 7, (50, 50))}, "y": {"/a": Seen(100, 7, (50, 50))}}
    assert Placement(warm).choose(task(A)) == Choice(None, None)


def test_a_page_cache_is_preferred_for_the_shards_that_it_holds() -> None:
    probes: Probes = {
        "x": {"/a": Seen(100, 7, (50, 0))},
        "y": {"/a": Seen(100, 7, (0, 50))},
        "z": {"/a": COLD_A},
    }
    placement = Placement(probes)
    assert placement.choose(task(A, end=50)) == Choice(None, "x")
    assert placement.choose(task(A, begin=50)) == Choice(None, "y")
    assert placement.choose(task(A)) == Choice(None, None)


def test_a_little_of_a_file_is_no_reason() -> None:
    probes: Probes = {"x": {"/a": Seen(100, 7, (20, 0))}, "y": {"/a": COLD_A}}
    assert Placement(probes).choose(task(A)) == Choice(None, None)
    assert Placement(probes).choose(task(A, end=50)) == Choice(None, "x")


def test_only_nodes_that_see_the_file_read_it() -> None:
    other = Seen(100, 9, (50, 50))  # written to at another time
    probes: Probes = {"x": {"/a": COLD_A}, "y": {"/a": None}, "z": {"/a": other}, "w": {"/a": COLD_A}}
    assert Placement(probes).choose(task(A)) == Choice(("w", "x"), None)


def test_of_several_files_all_have_to_be_seen() -> None:
    probes: Probes = {"x": {"/a": COLD_A, "/b": None}, "y": {"/a": COLD_A, "/b": COLD_B}}
    assert Placement(probes).choose(task(A, B)) == Choice(("y",), None)
    split: Probes = {"x": {"/a": COLD_A, "/b": None}, "y": {"/a": None, "/b": COLD_B}}
    with pytest.raises(SourceError, match="no node sees all of /a, /b"):
        Placement(split).choose(task(A, B))


def test_a_file_that_no_node_sees_is_named_with_the_nodes() -> None:
    names = {"x": "10.0.0.1", "y": "10.0.0.2"}
    nowhere: Probes = {"x": {"/a": None}, "y": {"/a": None}}
    with pytest.raises(
        SourceError, match=r"^/a: none of the nodes .*\(10\.0\.0\.1, 10\.0\.0\.2\) sees it; put it"
    ):
        Placement(nowhere, names).choose(task(A))
    other: Probes = {"x": {"/a": None}, "y": {"/a": Seen(99, 7, (0,))}}
    with pytest.raises(
        SourceError, match=r"as it is here: size or time of modification differ on 10\.0\.0\.2;"
    ):
        Placement(other, names).choose(task(A))


def test_a_file_that_was_not_asked_about_may_be_read_anywhere() -> None:
    assert Placement({"x": {}, "y": {}}).choose(task(A)) == Choice(None, None)


def test_probes_tell_what_is_seen_and_what_is_in_the_page_cache(tmp_path: Path) -> None:
    path, empty = tmp_path / "data", tmp_path / "empty"
    path.write_bytes(b"x" * (40 << 20))
    empty.touch()
    seen, nothing, none = probe([str(path), str(tmp_path / "missing"), str(empty)])
    assert nothing is None
    assert none is not None
    assert none.size == 0
    assert seen is not None
    assert seen.same(FileIdentity.of(str(path)))
    assert len(seen.resident) == 3
    assert seen.resident_in(0, 40 << 20) == 40 << 20  # it was written just now
    assert seen.resident_in(1 << 20, 3 << 20) == pytest.approx(2 << 20)


def test_another_hosts_numbers_of_a_file_are_no_change(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("x")
    here = FileIdentity.of(str(path))

    def identity(planned: FileIdentity, host: str) -> FileIdentity:
        return seen_here(task(FileEntry(str(path), planned)), host).files[0].identity

    elsewhere = replace(here, device=here.device + 1, inode=here.inode + 1)
    assert identity(elsewhere, "another host") == here
    assert identity(elsewhere, read_boot_id()) == here  # another file system of this host
    assert identity(replace(here, inode=here.inode + 1), "another host") == here
    # On the same file system another inode is another file; and so is one of another size or time anywhere.
    replaced = replace(here, inode=here.inode + 1)
    assert identity(replaced, read_boot_id()) == replaced
    grown = replace(elsewhere, size=here.size + 1)
    assert identity(grown, "another host") == grown
    os.utime(path, ns=(1, 1))
    assert identity(elsewhere, "another host") == elsewhere

"""Pages of remote files that a process and its forked children have mapped: each keeps its own, and no other's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmflow.remote.cache.blocks import BLOCK
from mmflow.remote.cache.entry import GROUP, Entry, evict


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    entry = Entry(str(tmp_path), "e", 2 * GROUP * BLOCK)
    entry.publish([(0, 2 * GROUP)])
    return entry


def _status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_childs_end_does_not_give_back_its_parents_pages(entry: Entry, tmp_path: Path) -> None:
    lease = entry.lease([(0, 1)])
    child = os.fork()
    if not child:
        del lease
        os._exit(0)
    assert _status(child) == 0
    evict(str(tmp_path / "e"), [0, 1])
    assert entry.present[0] == 1
    assert not entry.present[1:].any()


def test_a_parent_that_gives_pages_back_does_not_take_them_from_its_child(
    entry: Entry, tmp_path: Path
) -> None:
    lease = entry.lease([(0, 1)])
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.write(ready[1], b".")
        os.read(done[0], 1)
        os._exit(int(entry.present[0]) + 10)
    os.read(ready[0], 1)
    del lease
    evict(str(tmp_path / "e"), [0, 1])
    os.write(done[1], b".")
    assert _status(child) == 11
    evict(str(tmp_path / "e"), [0])
    assert entry.present[0] == 0
    for end in (*ready, *done):
        os.close(end)

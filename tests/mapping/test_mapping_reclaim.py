"""Page cache in a container with a limit: real control groups."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmflow.mapping import MappedFile, reclaim, resident_bytes
from mmflow.mapping.system.cgroup import CgroupMemory
from tests.memory_groups import MemoryGroup

MIB = 1 << 20
FILES, SIZE, LIMIT = 6, 64 * MIB, 288 * MIB

#: Reads every file through windows, as decoders do, and says how many bytes of them are in the page cache at the end.
_SCAN = """
import sys
from mmflow.mapping import MappedFile
from mmflow.mapping.system.limits import total_memory
assert total_memory() == int(sys.argv[1])
for path in sys.argv[2:]:
    with MappedFile.open(path, io="mmap") as file:
        assert "exceed" not in file.decision.reason
        for offset in range(0, file.size, 4 << 20):
            window = file.window(offset, 4 << 20)
            assert window.buffer.size == 4 << 20
            del window
            file.evict_behind(offset, 4 << 20)
"""


@pytest.mark.root
def test_a_scan_of_files_that_fit_one_by_one_never_hits_the_limit_of_its_container(tmp_path: Path) -> None:
    group = MemoryGroup.make("scan", LIMIT)
    if group is None:
        pytest.skip("no memory control group can be made here (not root, or cgroups are read-only)")
    paths = [tmp_path / f"{i}.bin" for i in range(FILES)]
    for path in paths:  # made outside of the group, and charged to it only when it reads them anew
        path.write_bytes(np.random.default_rng(1).bytes(SIZE))
    subprocess.run(["sync", *map(str, paths)], check=True)
    for path in paths:
        with MappedFile.open(path, budget=0) as file:
            file.evict_behind(0, SIZE)
    try:
        command = ["sh", "-c", f'{group.joins} && exec "$@"', "sh", sys.executable, "-c", _SCAN, str(LIMIT)]
        subprocess.run([*command, *map(str, paths)], check=True, timeout=120)
        assert group.hits() == 0
        left = 0
        for path in paths:
            with open(path, "rb") as f:
                left += resident_bytes(f.fileno(), 0, SIZE)
        assert LIMIT // 3 < left < LIMIT  # what fits stays, for the next run
    finally:
        group.remove()


@pytest.mark.parametrize(
    ("limit", "usage", "near"),
    [
        (None, 1 << 40, False),
        (8 << 30, (7 << 30) - 1, False),
        (8 << 30, 7 << 30, True),
        (1024 * MIB, 768 * MIB - 1, False),
        (1024 * MIB, 768 * MIB, True),
        (100 * MIB, 50 * MIB - 1, False),
        (100 * MIB, 120 * MIB, True),
    ],
)
def test_limit_is_near_when_little_room_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None, usage: int, near: bool
) -> None:
    (tmp_path / "memory.current").write_text(f"{usage}\n")
    group = CgroupMemory(2, str(tmp_path), str(tmp_path), limit, None, 0, 0)
    monkeypatch.setattr(reclaim, "cgroup_memory", lambda: group)
    monkeypatch.setattr(reclaim, "_group", reclaim._Group())
    assert reclaim.is_near_limit() is near
